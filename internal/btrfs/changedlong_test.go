package btrfs

import (
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestChangedSinceLongWrite asserts that a write is seen that began long before the
// snapshot and ended after it: the kernel sets the times of a file once, before the
// first byte of a write, and disks that are busy or full make it wait in the middle.
func TestChangedSinceLongWrite(t *testing.T) {
	bench := btrfstest.New(t)
	origin := living(t, bench)
	bench.Sync()
	file := writable(t, origin+"/new data")
	content, goOn := stuckPage(t)
	written := make(chan error, 1)
	go func() {
		_, err := file.WriteAt(content, 1<<20)
		written <- err
	}()
	time.Sleep(2500 * time.Millisecond)
	snap := bench.Snapshot(origin, "snap", true)
	select {
	case err := <-written:
		t.Fatalf("the write is over before the snapshot is made: %v", err)
	default:
	}
	goOn()
	must(t, <-written)
	then, now := make([]byte, 1), make([]byte, 1)
	at := int64(1<<20 + len(content) - 1)
	_, err := opened(t, snap+"/new data").ReadAt(then, at)
	must(t, err)
	_, err = file.ReadAt(now, at)
	must(t, err)
	if then[0] == now[0] {
		t.Fatal("the snapshot has the end of the write: this tests nothing")
	}
	if !hasChanged(t, origin, snap, Unwatched{}) {
		t.Error("it has gone unseen")
	}
	bench.Sync()
	if !hasChanged(t, origin, snap, Unwatched{}) {
		t.Error("it has gone unseen once it is on the disk")
	}
}

// stuckPage returns two pages of memory of which the second cannot be read before
// goOn is called (userfaultfd(2)).
func stuckPage(t *testing.T) (pages []byte, goOn func()) {
	t.Helper()
	const (
		uffdAPI, uffdRegister, uffdCopy = 0xc018aa3f, 0xc020aa00, 0xc028aa03
		registerMissing                 = 1
	)
	size := os.Getpagesize()
	pages, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	pages[0] = 'S'
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		t.Fatalf("userfaultfd: %v", errno)
	}
	t.Cleanup(func() { // which lets everybody go on
		unix.Close(int(fd))
		unix.Munmap(pages)
	})
	call := func(request uintptr, args unsafe.Pointer) {
		t.Helper()
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(args)); errno != 0 {
			t.Fatalf("userfaultfd, %#x: %v", request, errno)
		}
	}
	second := uint64(uintptr(unsafe.Pointer(&pages[size])))
	call(uffdAPI, unsafe.Pointer(&[3]uint64{0xaa, 0, 0}))
	call(uffdRegister, unsafe.Pointer(&[4]uint64{second, uint64(size), registerMissing, 0}))
	return pages, func() {
		fill := make([]byte, size)
		for i := range fill {
			fill[i] = 'E'
		}
		call(uffdCopy, unsafe.Pointer(&[5]uint64{second, uint64(uintptr(unsafe.Pointer(&fill[0]))), uint64(size), 0, 0}))
	}
}
