package btrfs

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Untouched reports whether the received subvolume f still has the content
// that it was received with: whether nothing was changed in it after
// [SetReceived]. It is false for what was never received.
//
// It is meaningful for a subvolume that is read-only now; a writable one can
// change in the next moment. Content is what a stream carries. Changes by other
// means than system calls (a repair of the unmounted file system, a clock that
// was set back into the very time of the receive) go unseen.
//
// In the usual case it costs one ioctl. Else it reads the changed parts of the
// subvolume's metadata, or all of it after a balance.
func Untouched(f *os.File) (bool, error) {
	info, err := Info(f)
	if err != nil {
		return false, err
	}
	if info.ReceivedUUID.IsZero() || info.Rtransid == 0 {
		return false, nil
	}
	if info.Ctransid <= info.Rtransid {
		return true, nil
	}
	// A later transid does not prove a change. What a receiver wrote without
	// synchronising reaches the disk after it set the received UUID, and that
	// changes the inode's items: but not its ctime, which every system call
	// that modifies an inode sets to the present.
	op := fmt.Sprintf("for changes in %s", f.Name())
	if err := settle(f, info.Ctransid); err != nil {
		return false, fmt.Errorf("searching %s: %w", op, err)
	}
	for it, err := range search(f, wholeSubvolume(info.Rtransid+1)) {
		if err != nil {
			return false, searching(op, err)
		}
		if it.kind != inodeItemType {
			continue
		}
		inode, err := inodeItem(it.data)
		if err != nil {
			return false, searching(op, err)
		}
		if inode.transid > info.Rtransid && !receivedAt(inode.ctime, info) {
			return false, nil
		}
	}
	return true, nil
}

// receivedAt reports whether t is in the time in which the receiver was at
// work. The lower bound is for clocks that were set back after it. It does not
// hold for a snapshot of the received one, which is younger than its content.
func receivedAt(t time.Time, info Subvolume) bool {
	if info.Otime.Before(info.Rtime) && t.Before(info.Otime) {
		return false
	}
	return !t.After(info.Rtime)
}

// settle makes sure that what was changed in transaction transid can be found
// by a search: inodes come to the tree when their transaction ends.
func settle(f *os.File, transid uint64) error {
	info, err := fsInfo(f)
	if err != nil {
		return err
	}
	if info.flags&fsInfoGeneration != 0 && info.generation > transid {
		return nil
	}
	var started uint64
	if err := request(f, iocStartSync, unsafe.Pointer(&started)); err != nil {
		if errors.Is(err, unix.EROFS) {
			return nil // nothing is under way on a read-only file system
		}
		return fmt.Errorf("ending the transaction: %w", err)
	}
	if err := request(f, iocWaitSync, unsafe.Pointer(&started)); err != nil {
		return fmt.Errorf("ending the transaction: %w", err)
	}
	return nil
}
