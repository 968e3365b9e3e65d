package replay

import (
	"bytes"
	"container/list"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// These bound the directories that are held open: of the subvolume being made,
// and of each source of clones.
const (
	maxDirs       = 2048
	maxSourceDirs = 4
)

// dirsHeld is how many directories of the subvolume being made may be open: a
// small part of the open files that the process may have, since others may
// receive too.
func dirsHeld() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = 1024
	}
	return int(min(maxDirs, max(64, limit.Cur/32)))
}

// confined is how every path is resolved: strictly below a directory, never
// through a symbolic link, never into what is mounted there.
const confined = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// tree is one subvolume. It turns paths of a stream into a directory, held
// open, and a last element, which callers give to an *at call that does not
// follow symbolic links.
//
// Nested subvolumes are no mounts, so openat2 does not keep out of them; the
// device number does, which btrfs gives to each subvolume.
type tree struct {
	root *os.File
	top  *dir
	dev  uint64
	dirs map[string]*dir // all but top, by path
	max  int             // of dirs
	used list.List       // of dirs, the one used last in front
	last *dir            // of the last lookup; often asked for again
	err  error           // of a call that had been put off
}

// dir is a directory that is held open.
type dir struct {
	path    string
	fd      int
	inherit inheritance
	place   *list.Element // in tree.used; nil for top
	// times are those that it has when it is no longer held open; the kernel
	// sends them after each name that is made in it.
	times    [2]unix.Timespec
	hasTimes bool
}

// newTree takes over root, the top directory of a subvolume.
func newTree(root *os.File, dirs int) (*tree, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return nil, fmt.Errorf("reading the status of the subvolume: %w", err)
	}
	top := &dir{fd: int(root.Fd())}
	return &tree{root: root, top: top, dev: st.Dev, dirs: map[string]*dir{}, max: dirs, last: top}, nil
}

// at splits path into its directory and its last element. The directory stays
// open at least until the next but one call.
func (t *tree) at(path []byte) (*dir, string, error) {
	parent, base := []byte(nil), path
	if i := bytes.LastIndexByte(path, '/'); i >= 0 {
		parent, base = path[:i], path[i+1:]
		if i == 0 {
			return nil, "", fmt.Errorf("%q: %w", path, ErrOutside)
		}
	}
	if !isName(base) {
		return nil, "", fmt.Errorf("%q: %w", path, ErrOutside)
	}
	d, err := t.dir(parent)
	return d, string(base), err
}

// isName reports whether a path element names an entry of its directory.
func isName(s []byte) bool {
	return len(s) > 0 && string(s) != "." && string(s) != ".." && bytes.IndexByte(s, 0) < 0
}

// dir opens a directory, or finds it open.
func (t *tree) dir(path []byte) (*dir, error) {
	d := t.last
	if string(path) != d.path {
		if d = t.top; len(path) > 0 {
			d = t.dirs[string(path)]
		}
	}
	if d == nil {
		var err error
		if d, err = t.open(path); err != nil {
			return nil, err
		}
	}
	if d.place != nil {
		t.used.MoveToFront(d.place)
	}
	t.last = d
	return d, nil
}

func (t *tree) open(path []byte) (*dir, error) {
	// A path has to be spelled in one way only, or what is remembered under it
	// would not be forgotten when it goes.
	for name := range bytes.SplitSeq(path, []byte("/")) {
		if !isName(name) {
			return nil, fmt.Errorf("%q: %w", path, ErrOutside)
		}
	}
	fd, err := t.openBeneath(string(path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	if len(t.dirs) >= t.max {
		t.drop(t.used.Back().Value.(*dir))
	}
	d := &dir{path: string(path), fd: fd}
	t.dirs[d.path] = d
	d.place = t.used.PushFront(d)
	return d, nil
}

// openBeneath opens what is at path below the root, if it is in the same
// subvolume. Only for directories and files known to be regular.
func (t *tree) openBeneath(path string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: confined}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat2(int(t.root.Fd()), path, &how)
		return err
	})
	switch err {
	case nil:
	case unix.EXDEV, unix.ELOOP:
		return -1, fmt.Errorf("opening %q: %w (%w)", path, ErrOutside, err)
	default:
		return -1, fmt.Errorf("opening %q: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("reading the status of %q: %w", path, err)
	}
	if st.Dev != t.dev {
		unix.Close(fd)
		return -1, fmt.Errorf("opening %q: %w", path, ErrOutside)
	}
	return fd, nil
}

// stat reads the status of an entry, itself and not what it links to.
func (t *tree) stat(d *dir, base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, fmt.Errorf("reading the status: %w", err)
	}
	if st.Dev != t.dev {
		return st, ErrOutside
	}
	return st, nil
}

// openFile opens a regular file. It looks before it opens, because opening a
// device can have effects.
func (t *tree) openFile(d *dir, base string, flags int) (int, error) {
	st, err := t.stat(d, base)
	if err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, fmt.Errorf("opening: it is %s, not a regular file", typeName(st.Mode))
	}
	fd, err := unix.Openat(d.fd, base, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening: %w", err)
	}
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil || now.Dev != st.Dev || now.Ino != st.Ino {
		unix.Close(fd)
		return -1, fmt.Errorf("opening: it was replaced meanwhile (%w)", ErrOutside)
	}
	return fd, nil
}

// forget closes the directory at path and all below it, because they are gone
// or have other paths from now on.
func (t *tree) forget(path []byte) {
	for p, d := range t.dirs {
		if rest, ok := strings.CutPrefix(p, string(path)); ok && (rest == "" || rest[0] == '/') {
			t.drop(d)
		}
	}
}

func (t *tree) forgetAll() {
	for _, d := range t.dirs {
		t.drop(d)
	}
}

// settle sets the times of the directories that are held open.
func (t *tree) settle() error {
	for _, d := range t.dirs {
		t.settleDir(d)
	}
	return t.err
}

func (t *tree) settleDir(d *dir) {
	if !d.hasTimes {
		return
	}
	d.hasTimes = false
	if err := (handle{fd: d.fd}).setTimes(d.times[:]); err != nil && t.err == nil {
		t.err = fmt.Errorf("setting the times of %q: %w", d.path, err)
	}
}

// gone notes that what was at path is no more, so that nothing has to be set.
func (t *tree) gone(path []byte) {
	if d := t.dirs[string(path)]; d != nil {
		d.hasTimes = false
	}
}

func (t *tree) drop(d *dir) {
	t.settleDir(d)
	unix.Close(d.fd)
	delete(t.dirs, d.path)
	t.used.Remove(d.place)
	if t.last == d {
		t.last = t.top
	}
}

func (t *tree) close() error {
	t.forgetAll()
	return t.root.Close()
}

// retry makes a system call again that was interrupted, or that the kernel
// could not finish because of a rename elsewhere (openat2(2), EAGAIN).
func retry(call func() error) error {
	for i := 0; ; i++ {
		err := call()
		if err == unix.EINTR || err == unix.EAGAIN && i < 100 {
			continue
		}
		return err
	}
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a fifo"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device node"
	}
	return "something else"
}
