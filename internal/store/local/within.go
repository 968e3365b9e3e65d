package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// obstacle says what keeps a path from being used. It is a state of the file
// system, not a failure to find out.
type obstacle struct{ what string }

func (o *obstacle) Error() string { return "in the way is " + o.what }

// within opens a directory below the store's, or the store's own for ".". It
// goes down one element at a time, never through a symbolic link and never into
// anything that is mounted there, so that what is made there is what List finds.
// Missing directories are made if asked for, else the error matches
// fs.ErrNotExist. What is in the way is an *obstacle.
func (s *Store) within(rel string, create bool) (*os.File, error) {
	return s.descend(rel, create, false)
}

// beneath does so for what is to be made there. What is being received is in the way:
// it would be a part of that.
func (s *Store) beneath(rel string, create bool) (*os.File, error) {
	return s.descend(rel, create, true)
}

func (s *Store) descend(rel string, create, toMake bool) (*os.File, error) {
	dir, err := openIn(s.dir, ".")
	if err != nil || rel == "." {
		return dir, err
	}
	at := ""
	for name := range strings.SplitSeq(rel, "/") {
		at += "/" + name
		next, err := openIn(dir, name)
		if create && errors.Is(err, fs.ErrNotExist) {
			if err = unix.Mkdirat(int(dir.Fd()), name, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
				next, err = openIn(dir, name)
			}
		}
		_ = dir.Close()
		if err == nil && toMake && snapshot.IsPart(name) {
			var subvolume bool
			if subvolume, err = btrfs.IsSubvolume(next); err == nil && subvolume {
				err = &obstacle{fmt.Sprintf("%s%s, which is being received, or has not been finished", s.path, at)}
			}
			if err != nil {
				_ = next.Close()
			}
		}
		if o, ok := errors.AsType[*obstacle](err); ok {
			return nil, o
		}
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
			return nil, &obstacle{fmt.Sprintf("%s%s, which is not a directory", s.path, at)}
		case errors.Is(err, unix.EXDEV):
			return nil, &obstacle{fmt.Sprintf("something that is mounted at %s%s", s.path, at)}
		case errors.Is(err, unix.EROFS):
			return nil, errReadOnly
		default:
			return nil, fmt.Errorf("opening %s%s: %w", s.path, at, err)
		}
		dir = next
	}
	return dir, nil
}

var errReadOnly = &obstacle{"a read-only directory: part of a snapshot, or of a read-only mount"}

// openIn opens a directory in another, itself and nothing that it leads to.
func openIn(dir *os.File, name string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR, unix.EAGAIN: // a rename elsewhere: openat2(2)
		default:
			return nil, err
		}
	}
}

// longestName is what btrfs allows for a name.
const longestName = 255

// vacant returns an *obstacle if no snapshot can be made in dir under a name.
func vacant(dir *os.File, name string) error {
	part := name + snapshot.PartSuffix
	if len(part) > longestName {
		return &obstacle{fmt.Sprintf("the length of its name: there is no room for %s behind it", snapshot.PartSuffix)}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), part, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		switch sub, err := subvolumeAt(dir, part); {
		case err != nil:
			return &obstacle{part + ", which is not a subvolume"}
		case sub.ReadOnly && sub.ReceivedUUID.IsZero():
			return &obstacle{part + ", a snapshot that is called like an unfinished receive"}
		}
	}
	switch err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		return &obstacle{whatIs(dir, name, st)}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	err := unix.Faccessat(int(dir.Fd()), ".", unix.W_OK, 0)
	if errors.Is(err, unix.EROFS) {
		return errReadOnly
	}
	return err
}

// whatIs describes what is at a name.
func whatIs(dir *os.File, name string, st unix.Stat_t) string {
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "something that is neither a subvolume nor a directory"
	}
	sub, err := subvolumeAt(dir, name)
	if err != nil {
		return "a directory that is no subvolume"
	}
	return describe(&sub)
}

// subvolumeAt examines the subvolume that has the given name in a directory.
func subvolumeAt(dir *os.File, name string) (btrfs.Subvolume, error) {
	f, err := openIn(dir, name)
	if err != nil {
		return btrfs.Subvolume{}, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer f.Close()
	if ok, err := btrfs.IsSubvolume(f); err != nil || !ok {
		return btrfs.Subvolume{}, errors.Join(err, fmt.Errorf("%s is not a subvolume", name))
	}
	return btrfs.Info(f)
}
