package btrfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FileData reads the data of regular files of a subvolume, one after the other.
// It is for one goroutine at a time.
//
// What was not in the page cache before does not stay there. That is looked at
// piece by piece: where a piece was there in part, that part goes too.
type FileData struct {
	of         *Contents
	fd         int // -1: none is open
	ino        uint64
	generation uint64

	// These are here so that they are made once.
	handle  fileHandle
	pieces  []unix.Iovec
	encoded encodedArgs
	span    unix.CachestatRange
	stat    unix.Cachestat_t
	aligned []byte // for reading past the page cache

	direct bool // the open file is read past the page cache
	exact  bool // and without reading ahead
}

// fileHandle is struct file_handle with what btrfs puts into it.
type fileHandle struct {
	bytes      uint32
	kind       int32
	ino        uint64
	subvol     uint64
	generation uint32
}

const openFlags = unix.O_RDONLY | unix.O_NOATIME | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_LARGEFILE

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
	for {
		fd, _, errno := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(d.of.fd), uintptr(unsafe.Pointer(&d.handle)), openFlags)
		switch errno {
		case 0:
			d.fd, d.ino, d.generation = int(fd), ino, generation
			d.direct, d.exact = false, false
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
//
// With direct they come past the page cache, unless they are in it. That is for
// data that begin at a sector and lie on disk as they read, uncompressed; of
// others it costs time.
func (d *FileData) ReadAt(pieces [][]byte, off int64, direct bool) error {
	total := 0
	for _, p := range pieces {
		total += len(p)
	}
	if total == 0 {
		return nil
	}
	cached := d.cachedPages(off, total)
	drop := cached < (uint64(total)+pageSize-1)/pageSize
	if direct && drop && off%int64(d.of.sector) == 0 && !d.of.noDirect.Load() {
		err := d.readDirect(pieces, off, total)
		if !errors.Is(err, errNoDirect) {
			if d.cachedPages(off, total) > cached {
				// The kernel falls back to the page cache for reasons of its own, and
				// then reads ahead as well.
				_ = unix.Fadvise(d.fd, off, 0, unix.FADV_DONTNEED)
			}
			return err
		}
		d.of.noDirect.Store(true)
	}
	if drop && !d.exact {
		// No more than is asked for: what is read ahead would look as if it had been
		// there before.
		_ = unix.Fadvise(d.fd, 0, 0, unix.FADV_RANDOM)
		d.exact = true
	}
	d.setPieces(pieces)
	if err := d.read(d.pieces, off, total); err != nil {
		return err
	}
	if drop {
		// The kernel decompresses whole extents into the cache.
		begin := off &^ (largestCompressed - 1)
		end := (off + int64(total) + largestCompressed - 1) &^ (largestCompressed - 1)
		_ = unix.Fadvise(d.fd, begin, end-begin, unix.FADV_DONTNEED)
	}
	return nil
}

// largestCompressed is what a compressed extent has at most when decoded
// (BTRFS_MAX_UNCOMPRESSED).
const largestCompressed = 128 << 10

// cachedPages returns how many pages of a range are in the page cache. Before
// Linux 6.5 (cachestat(2)) it says none: those who use the subvolume that a
// snapshot was made of have pages of their own.
func (d *FileData) cachedPages(off int64, length int) uint64 {
	d.span = unix.CachestatRange{Off: uint64(off), Len: uint64(length)}
	if unix.Cachestat(uint(d.fd), &d.span, &d.stat, 0) != nil {
		return 0
	}
	return d.stat.Cache
}

func (d *FileData) setPieces(pieces [][]byte) {
	d.pieces = d.pieces[:0]
	for _, p := range pieces {
		if len(p) > 0 {
			iov := unix.Iovec{Base: unsafe.SliceData(p)}
			iov.SetLen(len(p))
			d.pieces = append(d.pieces, iov)
		}
	}
}

// errNoDirect says that files cannot be read past the page cache.
var errNoDirect = errors.New("no reading past the page cache")

// directSize is how much is read past the page cache at a time.
const directSize = 512 << 10

// readDirect is ReadAt past the page cache, into a buffer of our own: the kernel
// wants whole sectors at such addresses.
func (d *FileData) readDirect(pieces [][]byte, off int64, total int) error {
	if d.aligned == nil {
		sector := uintptr(d.of.sector)
		room := make([]byte, directSize+sector)
		skip := -uintptr(unsafe.Pointer(unsafe.SliceData(room))) & (sector - 1)
		d.aligned = room[skip : skip+directSize]
		// Memory that was never touched can make the first read one through the cache.
		for at := 0; at < len(d.aligned); at += os.Getpagesize() {
			d.aligned[at] = 1
		}
	}
	if !d.direct {
		if _, err := unix.FcntlInt(uintptr(d.fd), unix.F_SETFL, openFlags|unix.O_DIRECT); err != nil {
			return errNoDirect
		}
		d.direct = true
	}
	for done := 0; done < total; {
		want := min(total-done, directSize)
		whole := (want + int(d.of.sector) - 1) &^ (int(d.of.sector) - 1)
		n, err := unix.Pread(d.fd, d.aligned[:whole], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("reading %d bytes at offset %d: %w", want, off+int64(done), err)
		case n == 0:
			return fmt.Errorf("reading %d bytes at offset %d: %w", want, off+int64(done), io.ErrUnexpectedEOF)
		}
		n = min(n, want)
		pieces = spread(pieces, d.aligned[:n])
		done += n
	}
	return nil
}

// spread copies data into the first pieces, and returns what is left of them.
func spread(pieces [][]byte, data []byte) [][]byte {
	for len(data) > 0 {
		n := copy(pieces[0], data)
		data = data[n:]
		if n == len(pieces[0]) {
			pieces = pieces[1:]
		} else {
			pieces[0] = pieces[0][n:]
		}
	}
	return pieces
}

// read fills the pieces, total bytes.
func (d *FileData) read(pieces []unix.Iovec, off int64, total int) error {
	for {
		r, _, errno := unix.Syscall6(unix.SYS_PREADV, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(pieces))),
			uintptr(len(pieces)), uintptr(off), 0, 0)
		n := int(r)
		switch {
		case errno == unix.EINTR:
			continue
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
