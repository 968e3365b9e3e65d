package dir

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath is how paths are looked up: nothing leads out of the root, and no
// symbolic link leads anywhere.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Modes of what is made, less the umask.
const (
	fileMode = 0o600
	dirMode  = 0o700
)

// open opens what is at a path below the root.
func (b *Bucket) open(at string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: beneath}
	if flags&unix.O_CREAT != 0 {
		how.Mode = fileMode
	}
	var fd int
	err := retried(func() (err error) {
		fd, err = unix.Openat2(b.fd(), at, &how)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), at), nil
}

// openDir opens a directory.
func (b *Bucket) openDir(at string) (*os.File, error) {
	return b.open(at, unix.O_RDONLY|unix.O_DIRECTORY)
}

// openObject opens an object for reading and tells of it. What is no regular file
// is not there.
func (b *Bucket) openObject(key string) (*os.File, unix.Stat_t, error) {
	// Looked at first, since opening a device may do something.
	at, err := b.stat(key)
	if err == nil && at.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.ENOENT
	}
	if err != nil {
		return nil, at, err
	}
	f, err := b.open(key, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, at, err
	}
	if err := retried(func() error { return unix.Fstat(int(f.Fd()), &at) }); err != nil {
		return nil, at, errors.Join(err, f.Close())
	}
	if at.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, at, errors.Join(unix.ENOENT, f.Close())
	}
	return f, at, nil
}

// stat tells of what is at a path, itself and nothing that it leads to.
func (b *Bucket) stat(at string) (unix.Stat_t, error) {
	dir, name, err := b.parent(at, false)
	if err != nil {
		return unix.Stat_t{}, err
	}
	defer dir.Close()
	return statIn(dir, name)
}

func statIn(dir *os.File, name string) (at unix.Stat_t, err error) {
	err = retried(func() error { return unix.Fstatat(int(dir.Fd()), name, &at, unix.AT_SYMLINK_NOFOLLOW) })
	return at, err
}

// parent opens the directory that a path is in. Where it is not there it is made
// if wanted.
func (b *Bucket) parent(at string, create bool) (*os.File, string, error) {
	dir, name := path.Split(at)
	dir = path.Clean(dir) // "." at the top
	f, err := b.openDir(dir)
	for tries := 0; create && errors.Is(err, fs.ErrNotExist) && tries < 100; tries++ {
		if err := b.makeAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
		f, err = b.openDir(dir)
	}
	return f, name, err
}

// makeAll makes a directory, and those above it. It fails with ENOENT if one is
// removed meanwhile.
func (b *Bucket) makeAll(at string) error {
	if at == "." {
		return b.missing(unix.ENOENT)
	}
	for i := 0; i >= 0; {
		part := at
		if n := strings.IndexByte(at[i:], '/'); n >= 0 {
			part, i = at[:i+n], i+n+1
		} else {
			i = -1
		}
		dir, name, err := b.parent(part, false)
		if err != nil {
			return err
		}
		err = retried(func() error { return unix.Mkdirat(int(dir.Fd()), name, dirMode) })
		_ = dir.Close()
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// prune removes the directory at a path and those above it as long as they are
// empty, never the root.
func (b *Bucket) prune(at string) {
	for at != "." {
		dir, name, err := b.parent(at, false)
		if err != nil {
			return
		}
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
		_ = dir.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return // not empty, as a rule
		}
		at = path.Dir(at)
	}
}

// syncUp makes the directory at a path durable, and those above it up to the root,
// since somebody else may have made them just now.
func (b *Bucket) syncUp(at string) error {
	for {
		f, err := b.openDir(at)
		if err != nil {
			return err
		}
		err = retried(f.Sync)
		_ = f.Close()
		// Some file systems have nothing to synchronise in a directory.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		if at == "." {
			return nil
		}
		at = path.Dir(at)
	}
}

// lock waits for a lock on an open file (flock), which other processes respect.
// Where the file system has no locks there is none.
func lock(f *os.File, how int) error {
	err := retried(func() error { return unix.Flock(int(f.Fd()), how) })
	if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
