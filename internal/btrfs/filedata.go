package btrfs

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FileData reads the data of regular files of a subvolume, one after the other.
// It is for one goroutine at a time.
//
// What was not in the page cache before does not stay there.
type FileData struct {
	of         *Contents
	fd         int // -1: none is open
	ino        uint64
	generation uint64

	// These are here so that they are made once.
	handle  fileHandle
	pieces  []unix.Iovec
	encoded encodedArgs
}

// fileHandle is struct file_handle with what btrfs puts into it.
type fileHandle struct {
	bytes      uint32
	kind       int32
	ino        uint64
	subvol     uint64
	generation uint32
}

// Data returns a FileData without an open file.
func (c *Contents) Data() *FileData { return &FileData{of: c, fd: -1} }

// Open opens a file by the number and the generation of its inode, and closes
// the one that was open, unless it is the same.
func (d *FileData) Open(ino, generation uint64) error {
	if d.fd >= 0 && d.ino == ino && d.generation == generation {
		return nil
	}
	d.Close()
	d.handle = fileHandle{
		bytes: handleSize, kind: handleWithoutParent,
		ino: ino, subvol: d.of.info.ID, generation: uint32(generation),
	}
	const flags = unix.O_RDONLY | unix.O_NOATIME | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_LARGEFILE
	for {
		fd, _, errno := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(d.of.fd), uintptr(unsafe.Pointer(&d.handle)), flags)
		switch errno {
		case 0:
			d.fd, d.ino, d.generation = int(fd), ino, generation
			return nil
		case unix.EINTR:
			continue
		case unix.ESTALE:
			// The kernel says that for whatever keeps it from opening an inode
			// (fs/exportfs/expfs.c).
			if err := d.of.Unchanged(); err != nil {
				return err
			}
			return fmt.Errorf("opening: it exists, but cannot be read: %w", unix.EIO)
		}
		return refused("opening", capDACReadSearch, errno)
	}
}

// Close closes the file that is open, if there is one.
func (d *FileData) Close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	d.fd = -1
}

// ReadAt fills all pieces, one after the other, with the data at offset off of
// the open file. If they end before that, the error is io.ErrUnexpectedEOF.
func (d *FileData) ReadAt(pieces [][]byte, off int64) error {
	d.pieces = d.pieces[:0]
	total := 0
	for _, p := range pieces {
		if len(p) > 0 {
			iov := unix.Iovec{Base: unsafe.SliceData(p)}
			iov.SetLen(len(p))
			d.pieces = append(d.pieces, iov)
			total += len(p)
		}
	}
	if total == 0 {
		return nil
	}
	if !d.of.cached.Load() {
		err := d.read(d.pieces, off, total, readUncached)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
			return err
		}
		d.of.cached.Store(true)
	}
	var stat unix.Cachestat_t
	span := unix.CachestatRange{Off: uint64(off), Len: uint64(total)}
	drop := unix.Cachestat(uint(d.fd), &span, &stat, 0) == nil && stat.Cache == 0
	err := d.read(d.pieces, off, total, 0)
	if drop {
		// Only whole pages go: what the next read begins with stays.
		_ = unix.Fadvise(d.fd, off, int64(total), unix.FADV_DONTNEED)
	}
	return err
}

// readUncached is RWF_DONTCACHE (Linux 6.14, and later for btrfs): what was not
// in the page cache leaves it again.
const readUncached = 0x80

// read fills the pieces, total bytes. It is refused before anything is read or
// not at all.
func (d *FileData) read(pieces []unix.Iovec, off int64, total int, flags uintptr) error {
	for {
		r, _, errno := unix.Syscall6(unix.SYS_PREADV2, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(pieces))),
			uintptr(len(pieces)), uintptr(off), 0, flags)
		n := int(r)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EOPNOTSUPP || errno == unix.EINVAL:
			return errno
		case errno != 0:
			return fmt.Errorf("reading %d bytes at offset %d: %w", total, off, errno)
		case n == 0:
			return fmt.Errorf("reading %d bytes at offset %d: %w", total, off, io.ErrUnexpectedEOF)
		case n == total:
			return nil
		}
		off, total = off+int64(n), total-n
		for n >= int(pieces[0].Len) {
			n -= int(pieces[0].Len)
			pieces = pieces[1:]
		}
		if n > 0 {
			pieces[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(pieces[0].Base), n))
			pieces[0].SetLen(int(pieces[0].Len) - n)
		}
	}
}

// ErrNotEncoded says that an extent cannot be had as it is stored; it can be
// read as it reads.
var ErrNotEncoded = errors.New("the kernel does not give the extent as it is stored")

// ReadEncoded reads the extent of the open file that has the data at offset off
// just as it is stored (BTRFS_IOC_ENCODED_READ, Linux 5.18), and returns its
// length and how it is to be understood. What is not compressed is given as it
// reads, with Compression 0.
//
// The error matches [ErrNotEncoded] where the kernel does not do that, or into is
// too small.
func (d *FileData) ReadEncoded(into []byte, off int64) (int, EncodedExtent, error) {
	if len(into) == 0 {
		return 0, EncodedExtent{}, fmt.Errorf("%w: %w", ErrNotEncoded, unix.ENOBUFS)
	}
	iov := unix.Iovec{Base: unsafe.SliceData(into)}
	iov.SetLen(len(into))
	d.pieces = append(d.pieces[:0], iov)
	d.encoded = encodedArgs{iov: unsafe.SliceData(d.pieces), iovcnt: 1, offset: off}
	for {
		n, err := ioctl(d.fd, iocEncodedRead, unsafe.Pointer(&d.encoded))
		if err == unix.EINTR {
			continue
		}
		switch err {
		case nil:
		case unix.ENOTTY, unix.EPERM, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOBUFS:
			return 0, EncodedExtent{}, fmt.Errorf("%w: %w", ErrNotEncoded, err)
		default:
			return 0, EncodedExtent{}, fmt.Errorf("reading a compressed extent at offset %d: %w", off, err)
		}
		return n, EncodedExtent{
			Offset:          off,
			FileLen:         d.encoded.fileLen,
			UnencodedLen:    d.encoded.unencodedLen,
			UnencodedOffset: d.encoded.unencodedOffset,
			Compression:     d.encoded.compression,
			Encryption:      d.encoded.encryption,
		}, nil
	}
}
