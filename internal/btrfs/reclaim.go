package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// subvolWait is struct btrfs_ioctl_subvol_wait.
type subvolWait struct {
	id    uint64
	mode  uint32
	count uint32
}

const waitForOne = 0 // BTRFS_SUBVOL_SYNC_WAIT_FOR_ONE

// The pauses between two looks at what is being cleaned up.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = time.Second
)

// AwaitCleaned returns when the space of deleted subvolumes, of which these are
// the numbers, is free. How long that takes depends on what was in them, and it
// does not end while somebody has a file of one open; so ctx can end it.
//
// Who may not search trees needs Linux 6.13 for it.
func (f *Filesystem) AwaitCleaned(ctx context.Context, ids []uint64) error {
	const op = "waiting for the space of deleted subvolumes"
	if len(ids) == 0 {
		return ctx.Err()
	}
	// The commit wakes the cleaner.
	if err := request(f.dir, iocSync, nil); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	err := f.watch(ctx, ids)
	if errors.Is(err, unix.EPERM) {
		err = nil
		for _, id := range ids {
			if err = awaitOne(ctx, f.dir, id); err != nil {
				break
			}
		}
	}
	if err == nil {
		// What the cleaner has let go is free after the next commit.
		err = request(f.dir, iocSync, nil)
	}
	if err != nil {
		return refused(op, capSysAdmin, err)
	}
	return nil
}

// watch looks at deleted subvolumes until their root items are gone, which is
// the last that the cleaner takes.
func (f *Filesystem) watch(ctx context.Context, ids []uint64) error {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		var left []uint64
		for _, id := range ids {
			here, err := f.beingCleaned(id)
			if err != nil {
				return err
			}
			if here {
				left = append(left, id)
			}
		}
		if len(left) == 0 {
			return nil
		}
		var st unix.Statfs_t
		err := control(f.dir, func(fd int) error { return unix.Fstatfs(fd, &st) })
		if err == nil && st.Flags&unix.ST_RDONLY != 0 {
			err = errors.New("the file system is mounted read-only, so nothing becomes free")
		}
		if err != nil {
			return err
		}
		ids = left
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d are left: %w", len(left), context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// beingCleaned reports whether a subvolume is deleted and still there.
func (f *Filesystem) beingCleaned(id uint64) (bool, error) {
	for it, err := range search(f.dir, ofKind(rootTree, id, rootItemType)) {
		if err != nil {
			return false, err
		}
		var s Subvolume
		if err := rootItem(it.data, &s); err != nil {
			return false, err
		}
		return s.Deleted, nil
	}
	return false, nil
}

// awaitOne has the kernel wait (BTRFS_IOC_SUBVOL_SYNC_WAIT, Linux 6.13), which
// it allows everybody. It does not know of ctx: where that ends first, the call
// goes on by itself, with a handle of its own, until the subvolume is gone.
func awaitOne(ctx context.Context, dir *os.File, id uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	own := -1
	err := control(dir, func(fd int) (err error) {
		own, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		defer unix.Close(own)
		for {
			args := subvolWait{id: id, mode: waitForOne}
			_, err := ioctl(own, iocSubvolSyncWait, unsafe.Pointer(&args))
			if errors.Is(err, unix.EINTR) && ctx.Err() == nil {
				continue
			}
			ended <- err
			return
		}
	}()
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
			// The kernel knows of the subvolume until the transaction is committed in
			// which the cleaner has come to its end.
			if err := request(dir, iocSync, nil); err != nil {
				return err
			}
		case err := <-ended:
			switch {
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST): // gone before, or not deleted at all
				return nil
			case errors.Is(err, unix.ENOTTY):
				return unix.EPERM // there is only the search
			}
			return err
		}
	}
}
