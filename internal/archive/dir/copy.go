package dir

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Copy makes an object with the content of another one. Nothing is copied where
// the file system can share: by a reflink, or, since objects are never written to,
// by a second name for the same file. The time of modification is that of the copy,
// with a second name for both.
func (b *Bucket) Copy(ctx context.Context, from, to string) error {
	if err := b.legible(ctx, from); err != nil {
		return b.fail("copying", from, err)
	}
	if err := b.check(ctx, to); err != nil {
		return b.fail("copying to", to, err)
	}
	src, _, err := b.openObject(from)
	if err != nil {
		return b.fail("copying", from, b.absence(err))
	}
	defer src.Close()
	return b.fail("copying to", to, b.copyTo(ctx, src, from, to))
}

func (b *Bucket) copyTo(ctx context.Context, src *os.File, from, to string) error {
	f, err := b.temporary()
	if err != nil {
		return err
	}
	defer b.discard(f)
	if b.shares {
		if err := unix.IoctlFileClone(int(f.Fd()), int(src.Fd())); err == nil {
			return b.settle(f, to, false)
		}
		if done, err := b.link(src, from, to); done || err != nil {
			return err
		}
	}
	if err := copyAll(ctx, f, src); err != nil {
		return err
	}
	return b.settle(f, to, false)
}

// link gives the open file a second name. It reports whether that could be done.
func (b *Bucket) link(src *os.File, from, to string) (bool, error) {
	at := Folder + "/" + tempPrefix + random()
	folder, name, err := b.parent(at, true)
	if err != nil {
		return false, err
	}
	defer folder.Close()
	dir, old, err := b.parent(from, false)
	if err != nil {
		return false, nil // it is gone, but open
	}
	defer dir.Close()
	if unix.Linkat(int(dir.Fd()), old, int(folder.Fd()), name, 0) != nil {
		return false, nil
	}
	defer func() { _ = unix.Unlinkat(int(folder.Fd()), name, 0) }()
	if !sameFile(src, folder, name) {
		return false, nil
	}
	now := unix.NsecToTimespec(time.Now().UnixNano())
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, now}
	if err := unix.UtimesNanoAt(int(folder.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, nil // somebody else's file: a copy of its own has its own time
	}
	return true, b.publish(at, to, false)
}

// sameFile reports whether an open file is the one with a name.
func sameFile(f, dir *os.File, name string) bool {
	var a unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &a); err != nil {
		return false
	}
	z, err := statIn(dir, name)
	return err == nil && a.Dev == z.Dev && a.Ino == z.Ino
}

// copyStep is how much is copied between two looks at the context.
const copyStep = 64 << 20

// copyAll copies the rest of a file, in the kernel where it can.
func copyAll(ctx context.Context, dst, src *os.File) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := io.CopyN(dst, src, copyStep)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
