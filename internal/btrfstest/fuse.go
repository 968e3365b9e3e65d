package btrfstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The requests of FUSE that a file system of one file gets, and the layout of
// their messages, all in the byte order of the machine: linux/fuse.h, version
// 7.31. Every other request is answered with ENOSYS, which the kernel takes as
// "not implemented" and does without.
const (
	fuseForget      = 2
	fuseGetattr     = 3
	fuseSetattr     = 4
	fuseOpen        = 14
	fuseRead        = 15
	fuseWrite       = 16
	fuseStatfs      = 17
	fuseRelease     = 18
	fuseFsync       = 20
	fuseFlush       = 25
	fuseInit        = 26
	fuseInterrupt   = 36
	fuseDestroy     = 38
	fuseBatchForget = 42
	fuseFallocate   = 43

	fuseMajor, fuseMinor = 7, 31

	fuseInHeader  = 40
	fuseOutHeader = 16

	fuseAsyncRead = 1 << 0  // INIT: several reads at once
	fuseBigWrites = 1 << 5  // INIT: writes of more than a page
	fuseMaxPages  = 1 << 22 // INIT: the reply names the pages of a request
	fuseDirectIO  = 1 << 0  // OPEN: nothing of the file is cached

	fuseMaxIO    = 1 << 20 // bytes of a read or a write
	fusePageSize = 4096
)

// A fuseFile is what can be done to the one file.
type fuseFile interface {
	size() int64
	readAt(b []byte, off int64) (int, unix.Errno)
	writeAt(b []byte, off int64) unix.Errno
	flush() unix.Errno
	allocate(mode uint32, off, length int64) unix.Errno
}

// mountFUSE mounts a file system whose root is a regular file over the file at
// path, and returns the connection for serveFUSE. Until that runs, or when the
// connection is closed, everything that touches the file waits or fails.
func mountFUSE(path string) (*os.File, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0", fd, unix.S_IFREG|0o600)
	if err := unix.Mount("btrfstest", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mounting a fault disk on %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// serveFUSE answers requests until the file system is gone. Several may serve
// one connection at the same time.
func serveFUSE(fd int, file fuseFile) error {
	in := make([]byte, fuseMaxIO+fusePageSize)
	out := make([]byte, fuseOutHeader+fuseMaxIO)
	for {
		n, err := unix.Read(fd, in)
		switch {
		case errors.Is(err, unix.ENODEV):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue // ENOENT: the request was withdrawn
		case err != nil:
			return fmt.Errorf("reading a request: %w", err)
		case n < fuseInHeader:
			return fmt.Errorf("a request of %d bytes", n)
		}
		length, errno := answer(file, binary.NativeEndian.Uint32(in[4:]), in[fuseInHeader:n], out[fuseOutHeader:])
		if length < 0 {
			continue
		}
		if errno != 0 {
			length = 0
		}
		reply := out[:fuseOutHeader+length]
		binary.NativeEndian.PutUint32(reply, uint32(len(reply)))
		binary.NativeEndian.PutUint32(reply[4:], uint32(-int32(errno)))
		copy(reply[8:16], in[8:16])                                                                                      // the number of the request
		if _, err := unix.Write(fd, reply); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) { // who asked is gone
			return fmt.Errorf("answering request %d: %w", binary.NativeEndian.Uint32(in[4:]), err)
		}
	}
}

// answer carries out one request. It returns the length of the reply in out, -1
// where there is none to be.
func answer(file fuseFile, op uint32, in, out []byte) (int, unix.Errno) {
	order := binary.NativeEndian
	switch op {
	case fuseForget, fuseBatchForget, fuseInterrupt:
		return -1, 0
	case fuseInit:
		return initReply(in, out), 0
	case fuseGetattr, fuseSetattr:
		return attrReply(file.size(), out), 0
	case fuseOpen:
		clear(out[:16])
		order.PutUint32(out[8:], fuseDirectIO)
		return 16, 0
	case fuseRead:
		off, size := int64(order.Uint64(in[8:])), order.Uint32(in[16:])
		return file.readAt(out[:min(size, fuseMaxIO)], off)
	case fuseWrite:
		off, size := int64(order.Uint64(in[8:])), order.Uint32(in[16:])
		errno := file.writeAt(in[40:40+size], off)
		clear(out[:8])
		order.PutUint32(out, size)
		return 8, errno
	case fuseFsync:
		return 0, file.flush()
	case fuseFallocate:
		off, length, mode := int64(order.Uint64(in[8:])), int64(order.Uint64(in[16:])), order.Uint32(in[24:])
		return 0, file.allocate(mode, off, length)
	case fuseStatfs:
		clear(out[:80])
		return 80, 0
	case fuseRelease, fuseFlush, fuseDestroy:
		return 0, 0
	default:
		return 0, unix.ENOSYS
	}
}

func initReply(in, out []byte) int {
	order := binary.NativeEndian
	out = out[:64]
	clear(out)
	order.PutUint32(out[0:], fuseMajor)
	order.PutUint32(out[4:], fuseMinor)
	order.PutUint32(out[8:], order.Uint32(in[8:])) // readahead, as the kernel wants it
	order.PutUint32(out[12:], fuseAsyncRead|fuseBigWrites|fuseMaxPages)
	order.PutUint16(out[16:], 64) // requests in the background
	order.PutUint16(out[18:], 48) // from how many on the kernel holds back
	order.PutUint32(out[20:], fuseMaxIO)
	order.PutUint32(out[24:], 1) // nanoseconds
	order.PutUint16(out[28:], fuseMaxIO/fusePageSize)
	return len(out)
}

func attrReply(size int64, out []byte) int {
	order := binary.NativeEndian
	out = out[:104]
	clear(out)
	order.PutUint64(out[0:], 3600)              // seconds for which this holds
	order.PutUint64(out[16:], 1)                // the root's inode
	order.PutUint64(out[24:], uint64(size))     //
	order.PutUint64(out[32:], uint64(size)/512) // blocks
	order.PutUint32(out[76:], unix.S_IFREG|0o600)
	order.PutUint32(out[80:], 1) // links
	order.PutUint32(out[96:], fusePageSize)
	return len(out)
}
