package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// Found says which subvolume it was that somebody has found at a path, and from where
// on the path may lead through what belongs to others, who may change it while nobody
// looks.
type Found struct {
	// Base is the directory from where on. What is below it, the subvolume and the
	// directory of its snapshots, is opened as OpenBeneath does. Empty is nowhere: all
	// links are followed.
	Base string
	// UUID and Number are those of the subvolume. Zero stands for whichever is there.
	UUID   btrfs.UUID
	Number uint64
}

// errReplaced says that a path leads to another subvolume than it did.
var errReplaced = errors.New("it is not the subvolume that was found there: another one has come to its place since")

// same fails if f is not what was found.
func (o Found) same(f *os.File) error {
	if o.Number == 0 {
		return nil
	}
	info, err := btrfs.Info(f)
	if err == nil && (info.ID != o.Number || info.UUID != o.UUID) {
		err = errReplaced
	}
	return err
}

// leadsTo returns the path from the base to what is below it.
func (o Found) leadsTo(name string) (rel string, below bool) {
	if o.Base == "" {
		return "", false
	}
	rel, err := filepath.Rel(o.Base, name)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// ErrLink says that there is a symbolic link on the way to something that others than
// root and the caller can have put there.
var ErrLink = errors.New("a symbolic link that others can change, which is not followed")

// OpenBeneath opens a directory by its path from another one, which is named as usual.
// A symbolic link on the way is followed only where nobody but root and the caller can
// have put it: it and the directory in which it is are theirs, and so are those that
// it leads through. Elsewhere the error matches ErrLink.
func OpenBeneath(base, rel string) (*os.File, error) { return openBeneath(base, rel, false) }

// openBeneath makes directories that are missing if asked for, on btrfs only.
func openBeneath(base, rel string, create bool) (*os.File, error) {
	dir, err := os.OpenFile(base, way, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	at, links := base, 0
	if rel = path.Clean(rel); rel == "." {
		rel = ""
	}
	for name := range strings.SplitSeq(rel, "/") {
		if name == "" {
			continue
		}
		at = path.Join(at, name)
		next, err := step(dir, name, &links)
		if create && errors.Is(err, fs.ErrNotExist) {
			if err = makeIn(dir, name); err == nil {
				next, err = step(dir, name, &links)
			}
		}
		if err != nil {
			return nil, &fs.PathError{Op: "opening", Path: at, Err: err}
		}
		_ = dir.Close()
		dir = next
	}
	fd, err := open(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "opening", Path: at, Err: err}
	}
	return os.NewFile(uintptr(fd), at), nil
}

// way opens a directory on the way to another one.
const way = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC

// mostLinks is how many links lead on before they are taken for a loop, as in
// path_resolution(7).
const mostLinks = 40

// step goes from a directory into one that is in it. Links are those that were followed.
func step(dir *os.File, name string, links *int) (*os.File, error) {
	fd, err := open(dir, name, way|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		var link, in unix.Stat_t
		switch looking := errors.Join(unix.Fstatat(int(dir.Fd()), name, &link, unix.AT_SYMLINK_NOFOLLOW), unix.Fstat(int(dir.Fd()), &in)); {
		case looking != nil:
			return nil, looking
		case link.Mode&unix.S_IFMT != unix.S_IFLNK:
			return nil, err
		case !ours(link) || !ours(in) || in.Mode&0o022 != 0 && in.Mode&unix.S_ISVTX == 0:
			return nil, ErrLink
		}
		if *links++; *links > mostLinks {
			return nil, unix.ELOOP
		}
		return follow(dir, name, links)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// follow goes where a link leads. The kernel would follow all that are on the way there.
func follow(dir *os.File, name string, links *int) (*os.File, error) {
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), name, text)
	if err != nil {
		return nil, err
	}
	target, from := string(text[:n]), "."
	if path.IsAbs(target) {
		from = "/"
	}
	at, err := plain(dir, from)
	if err != nil {
		return nil, err
	}
	for word := range strings.SplitSeq(target, "/") {
		var next *os.File
		switch word {
		case "", ".":
			continue
		case "..":
			next, err = plain(at, word)
		default:
			next, err = step(at, word, links)
		}
		_ = at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// plain opens a directory by what is no link: "/", "." or "..".
func plain(dir *os.File, name string) (*os.File, error) {
	fd, err := open(dir, name, way, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ours reports whether something belongs to root or to the caller.
func ours(st unix.Stat_t) bool {
	return slices.Contains([]int{0, os.Geteuid()}, int(st.Uid))
}

// open is openat2(2).
func open(dir *os.File, name string, flags, resolve uint64) (int, error) {
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{Flags: flags, Resolve: resolve})
		if err != unix.EINTR && err != unix.EAGAIN { // a rename elsewhere
			return fd, err
		}
	}
}

// makeIn makes a directory, on btrfs.
func makeIn(dir *os.File, name string) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return err
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return fmt.Errorf("making it: that is %w", btrfs.ErrNotBtrfs)
	}
	if err := unix.Mkdirat(int(dir.Fd()), name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making it: %w", err)
	}
	return nil
}
