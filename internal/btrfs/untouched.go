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
// Data that wait in the page cache to be written to f are written out first. In
// the usual case there are none, and it costs a few system calls. Else it reads the changed parts of the
// subvolume's metadata, or all of it after a balance.
func Untouched(f *os.File) (bool, error) {
	info, err := Info(f)
	if err != nil {
		return false, err
	}
	if info.ReceivedUUID.IsZero() || info.Rtransid == 0 {
		return false, nil
	}
	// Data in the page cache have left no trace in the tree yet, not even in
	// the transid.
	if err := writeOut(f, info); err != nil {
		return false, err
	}
	if info, err = Info(f); err != nil {
		return false, err
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

// writeOut writes the data of a read-only subvolume to the disk that are still
// in the page cache.
//
// No request of the kernel's is for that, but to send begins with it, for the
// subvolume alone. So send goes to where nobody reads, and fails with the first
// byte. The other way would be to write out everything on the file system.
func writeOut(f *os.File, info Subvolume) error {
	if !info.ReadOnly {
		return nil // it can change in the next moment anyway
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	unix.Close(ends[0])
	sent := make(chan error)
	go func() {
		sent <- undisturbed(func() error { return sendInto(f, ends[1], SendOptions{MetadataOnly: true}) })
	}()
	err := <-sent
	unix.Close(ends[1])
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return Sync(f) // it is being deduplicated, or we may not send
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
