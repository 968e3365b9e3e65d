package dir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// publish gives a file its name as an object, and makes that durable. The file is
// synchronised already. With once set, nothing is replaced: ErrTaken.
func (b *Bucket) publish(from, key string, once bool) error {
	for range 100 {
		err := b.name(from, key, once)
		if !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = b.syncUp(path.Dir(key))
			}
			return err
		}
		// Somebody removes an object beside it, and the directory with it.
		if _, err := b.stat(from); err != nil {
			return err
		}
	}
	return errBusy
}

func (b *Bucket) name(from, key string, once bool) error {
	src, old, err := b.parent(from, false)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, name, err := b.parent(key, true)
	if err != nil {
		return err
	}
	defer dst.Close()
	if once {
		return b.nameOnce(src, old, dst, name)
	}
	if err := inTheWay(dst, name); err != nil && !errors.Is(err, archive.ErrTaken) {
		return err
	}
	if err := retried(func() error { return unix.Renameat(int(src.Fd()), old, int(dst.Fd()), name) }); err != nil {
		return err
	}
	// rename(2) does nothing if both are one file already, as copies may be.
	err = unix.Unlinkat(int(src.Fd()), old, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// nameOnce renames without replacing, in the first way that the file system has.
func (b *Bucket) nameOnce(src *os.File, old string, dst *os.File, name string) error {
	for _, way := range b.ways {
		err := retried(func() error { return way(src, old, dst, name) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EEXIST):
			if err := inTheWay(dst, name); err != nil {
				return err
			}
			return archive.ErrTaken // it was there a moment ago
		case !unsupported(err):
			return err
		}
	}
	return fmt.Errorf("the file system has no way to rename without replacing: %w", unix.EOPNOTSUPP)
}

// unsupported reports whether an error number may say that a file system does not
// have a way of renaming, as rename(2) and link(2) tell. Where it says something
// else, the next way says so too.
func unsupported(err error) bool {
	for _, e := range []error{unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM, unix.EMLINK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// way renames a file, and fails with EEXIST if there is something.
type way func(src *os.File, old string, dst *os.File, name string) error

// allWays are tried one after the other: the kernel's own, for local file systems;
// link(2) for NFS; looking first, which is safe among those that do the same under
// the lock of the root.
func (b *Bucket) allWays() []way { return []way{renameNoReplace, linkAndUnlink, b.lookAndRename} }

func renameNoReplace(src *os.File, old string, dst *os.File, name string) error {
	return unix.Renameat2(int(src.Fd()), old, int(dst.Fd()), name, unix.RENAME_NOREPLACE)
}

func linkAndUnlink(src *os.File, old string, dst *os.File, name string) error {
	err := unix.Linkat(int(src.Fd()), old, int(dst.Fd()), name, 0)
	if errors.Is(err, unix.EEXIST) {
		// An answer of NFS that got lost: it was done, and done again.
		a, errA := statIn(src, old)
		z, errZ := statIn(dst, name)
		if errA == nil && errZ == nil && a.Ino == z.Ino && a.Dev == z.Dev {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return unix.Unlinkat(int(src.Fd()), old, 0)
}

func (b *Bucket) lookAndRename(src *os.File, old string, dst *os.File, name string) error {
	root, err := b.openDir(".") // a handle of its own is a lock of its own
	if err != nil {
		return err
	}
	defer root.Close()
	if err := lock(root, unix.LOCK_EX); err != nil {
		return err
	}
	switch _, err := statIn(dst, name); {
	case err == nil:
		return unix.EEXIST
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return unix.Renameat(int(src.Fd()), old, int(dst.Fd()), name)
}

// inTheWay says what is at a name: nil if nothing, ErrTaken if an object, and else
// an error in words.
func inTheWay(dir *os.File, name string) error {
	at, err := statIn(dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case at.Mode&unix.S_IFMT == unix.S_IFREG:
		return archive.ErrTaken
	case at.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("in the way is a directory of that name, for the objects below it: %w", unix.EISDIR)
	default:
		return fmt.Errorf("in the way is something of that name that is not a regular file: %w", unix.EEXIST)
	}
}

// temporary makes a file in our folder that has no other name yet.
func (b *Bucket) temporary() (*os.File, error) {
	b.sweep.Do(b.tidy)
	for range 100 {
		at := Folder + "/" + tempPrefix + random()
		f, err := b.open(at, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		// The last one to leave removes the folder.
		if err := b.makeAll(Folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, errBusy
}

// tempPrefix is what the names of files that have no other name yet begin with.
const tempPrefix = "new-"

// discard removes a file of ours that has not become an object, and closes it.
func (b *Bucket) discard(f *os.File) {
	_ = f.Close()
	if dir, name, err := b.parent(f.Name(), false); err == nil {
		_ = unix.Unlinkat(int(dir.Fd()), name, 0)
		_ = dir.Close()
	}
}

// random is a name that nobody else has.
func random() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}
