package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// openFile is the regular file that the stream is busy with. The kernel sends
// all that concerns one inode together, so one is enough.
type openFile struct {
	path []byte
	fd   int // -1: none
	// fresh: made by this receive, and nothing that a change of owner would
	// undo has been done to it.
	fresh bool
}

func (f *openFile) is(path []byte) bool { return f.fd >= 0 && bytes.Equal(f.path, path) }

func (f *openFile) set(path []byte, fd int, fresh bool) {
	f.close()
	f.path = append(f.path[:0], path...)
	f.fd, f.fresh = fd, fresh
}

func (f *openFile) close() {
	if f.fd >= 0 {
		// What could go wrong later is reported by syncfs.
		unix.Close(f.fd)
	}
	f.fd, f.path = -1, f.path[:0]
}

func (f *openFile) ownedBy(uid, gid uint64) bool {
	var st unix.Stat_t
	return unix.Fstat(f.fd, &st) == nil && uint64(st.Uid) == uid && uint64(st.Gid) == gid
}

// at makes the file at path the one at hand, and returns its descriptor.
func (r *Receiver) at(path []byte) (int, error) {
	if r.file.is(path) {
		return r.file.fd, nil
	}
	d, base, err := r.tree.at(path)
	if err != nil {
		return -1, err
	}
	fd, err := r.tree.openFile(d, base, unix.O_RDWR)
	if err != nil {
		return -1, err
	}
	r.file.set(path, fd, false)
	return fd, nil
}

// inRange checks that n bytes at off are a range of a file.
func inRange(off, n uint64) error {
	if off > math.MaxInt64 || n > math.MaxInt64-off {
		return fmt.Errorf("%d bytes at offset %d are beyond the end of any file", n, off)
	}
	return nil
}

func (r *Receiver) write(path []byte, off uint64, data []byte) error {
	if err := inRange(off, uint64(len(data))); err != nil {
		return err
	}
	fd, err := r.at(path)
	if err != nil {
		return err
	}
	return writeAt(fd, data, int64(off))
}

func writeAt(fd int, data []byte, off int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing %d bytes at offset %d: %w", len(data), off, err)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// encodedWrite gives the file system a compressed extent as it is. Where that
// cannot be done (another sector size, a file without checksums, an old
// kernel), it is decompressed here.
func (r *Receiver) encodedWrite(c *stream.Command) error {
	if err := inRange(c.FileOffset, c.UnencodedFileLen); err != nil {
		return err
	}
	if c.Encryption != 0 {
		return fmt.Errorf("writing an encoded extent: encryption %d is not known", c.Encryption)
	}
	if c.UnencodedLen > maxUnencoded || c.UnencodedOffset > c.UnencodedLen || c.UnencodedFileLen > c.UnencodedLen-c.UnencodedOffset {
		return fmt.Errorf("writing an encoded extent: %d bytes at offset %d of %d make no sense",
			c.UnencodedFileLen, c.UnencodedOffset, c.UnencodedLen)
	}
	fd, err := r.at(c.Path)
	if err != nil {
		return err
	}
	if !r.o.ForceDecompress && c.Compression != compressNone {
		err := btrfs.EncodedWrite(fd, c.Data, btrfs.EncodedExtent{
			Offset:          int64(c.FileOffset),
			FileLen:         c.UnencodedFileLen,
			UnencodedLen:    c.UnencodedLen,
			UnencodedOffset: c.UnencodedOffset,
			Compression:     c.Compression,
		})
		switch {
		case err == nil:
			return clearTail(fd, c.FileOffset+c.UnencodedFileLen)
		case !isAny(err, unix.EINVAL, unix.ENOTTY, unix.EOPNOTSUPP, unix.ENOSPC):
			return fmt.Errorf("writing an encoded extent: %w", err)
		}
		r.log.Debug("writing a compressed extent as plain data", "path", string(c.Path), "because", err)
	}
	plain, err := r.decoder.decode(c.Compression, c.Data, int(c.UnencodedLen))
	if err != nil {
		return fmt.Errorf("decompressing: %w", err)
	}
	if err := writeAt(fd, plain[c.UnencodedOffset:c.UnencodedOffset+c.UnencodedFileLen], int64(c.FileOffset)); err != nil {
		return err
	}
	return clearTail(fd, c.FileOffset+c.UnencodedFileLen)
}

// smallestSector is the least size of a sector that a btrfs can have.
const smallestSector = 4096

// clearTail writes zeros behind an encoded extent that ends at end, up to the
// end of the sector or of the file.
//
// Only an inline extent, or the last extent of a file, ends within a sector,
// and what follows in the sector reads as zeros. The stream leaves it out (seen
// on Linux 6.18), though the file may have something older there, and may go on
// behind it. Without compressed data the kernel sends the whole sector.
func clearTail(fd int, end uint64) error {
	rest := end % smallestSector
	if rest == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("reading the size: %w", err)
	}
	stop := min(end+smallestSector-rest, uint64(st.Size))
	if stop <= end {
		return nil
	}
	var zeros [smallestSector]byte
	return writeAt(fd, zeros[:stop-end], int64(end))
}

func isAny(err error, errnos ...unix.Errno) bool {
	for _, e := range errnos {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (r *Receiver) truncate(path []byte, size uint64) error {
	if err := inRange(size, 0); err != nil {
		return err
	}
	fd, err := r.at(path)
	if err != nil {
		return err
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fmt.Errorf("truncating to %d: %w", size, err)
	}
	return nil
}

func (r *Receiver) fallocate(path []byte, mode uint32, off, size uint64) error {
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if mode&^known != 0 {
		return fmt.Errorf("allocating: mode %#x is not known", mode)
	}
	if err := inRange(off, size); err != nil {
		return err
	}
	fd, err := r.at(path)
	if err != nil {
		return err
	}
	err = retry(func() error { return unix.Fallocate(fd, mode, int64(off), int64(size)) })
	if err != nil {
		return fmt.Errorf("allocating (mode %#x) %d bytes at offset %d: %w", mode, size, off, err)
	}
	return nil
}

// cloneFile is the file that was cloned from last, which is often the next one
// too.
type cloneFile struct {
	uuid btrfs.UUID
	path []byte
	own  bool // of the subvolume being made
	fd   int  // -1: none
}

func (f *cloneFile) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
	}
	f.fd, f.path = -1, f.path[:0]
}

// cloneSource opens the file that a CLONE command names. The subvolume being
// made comes first: an older copy of the same snapshot may be here too, but it
// has the paths that files have in the end, not those they have now.
func (r *Receiver) cloneSource(c *stream.Command) (int, error) {
	u := btrfs.UUID(c.CloneUUID)
	own := u == r.uuid
	if own && r.file.is(c.ClonePath) {
		return r.file.fd, nil
	}
	if r.from.fd >= 0 && r.from.uuid == u && bytes.Equal(r.from.path, c.ClonePath) {
		return r.from.fd, nil
	}
	t := r.tree
	if !own {
		s, err := r.source(u, c.CloneTransid)
		if err != nil {
			return -1, err
		}
		t = s.tree
	}
	d, base, err := t.at(c.ClonePath)
	if err != nil {
		return -1, fmt.Errorf("cloning from %q: %w", c.ClonePath, err)
	}
	fd, err := t.openFile(d, base, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return -1, fmt.Errorf("cloning from %q: %w", c.ClonePath, err)
	}
	r.from.close()
	r.from.uuid, r.from.own, r.from.fd = u, own, fd
	r.from.path = append(r.from.path[:0], c.ClonePath...)
	return fd, nil
}

func (r *Receiver) clone(ctx context.Context, c *stream.Command) error {
	if err := errors.Join(inRange(c.FileOffset, c.CloneLen), inRange(c.CloneOffset, c.CloneLen)); err != nil {
		return err
	}
	if c.CloneLen == 0 {
		// To the system call it means "up to the end".
		return errors.New("cloning: nothing to clone")
	}
	// In this order: the file at hand may be the source, and is closed if it is
	// not the destination as well.
	dst, err := r.at(c.Path)
	if err != nil {
		return err
	}
	src, err := r.cloneSource(c)
	if err != nil {
		return err
	}
	err = retry(func() error {
		return unix.IoctlFileCloneRange(dst, &unix.FileCloneRange{
			Src_fd: int64(src), Src_offset: c.CloneOffset, Src_length: c.CloneLen, Dest_offset: c.FileOffset,
		})
	})
	if err == unix.EXDEV || err == unix.EINVAL && noCow(src) != noCow(dst) {
		// Kernels before 5.19 do not clone between two mounts, and none does
		// between files with and without checksums. The content is the same.
		r.log.Debug("copying what cannot be cloned", "path", string(c.Path), "bytes", c.CloneLen, "because", err)
		err = r.copyRange(ctx, dst, src, int64(c.FileOffset), int64(c.CloneOffset), int64(c.CloneLen))
	}
	if err != nil {
		return fmt.Errorf("cloning %d bytes at offset %d of %q: %w", c.CloneLen, c.CloneOffset, c.ClonePath, err)
	}
	return nil
}

// noCow reports whether a file is without copy-on-write and checksums
// (FS_NOCOW_FL of uapi linux/fs.h).
func noCow(fd int) bool {
	const noCowFlag = 0x00800000
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	return err == nil && flags&noCowFlag != 0
}

const copyBuffer = 256 << 10

func (r *Receiver) copyRange(ctx context.Context, dst, src int, to, from, n int64) error {
	if r.copied == nil {
		r.copied = make([]byte, copyBuffer)
	}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := unix.Pread(src, r.copied[:min(n, copyBuffer)], from)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if got == 0 {
			return errors.New("the source ends before the range does")
		}
		if err := writeAt(dst, r.copied[:got], to); err != nil {
			return err
		}
		to, from, n = to+int64(got), from+int64(got), n-int64(got)
	}
	return nil
}
