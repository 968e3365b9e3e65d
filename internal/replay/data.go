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

// setFile makes an open file the one at hand.
func (r *Receiver) setFile(path []byte, fd int, fresh bool) {
	r.closeFile()
	r.file.path = append(r.file.path[:0], path...)
	r.file.fd, r.file.fresh = fd, fresh
}

// closeFile closes the file at hand, after all that is to be done to it.
func (r *Receiver) closeFile() {
	if r.file.fd >= 0 {
		_ = r.lane.add(op{fd: r.file.fd}) // closing is done in any case
	}
	r.file.fd, r.file.path = -1, r.file.path[:0]
}

// later has something done to the file at path, which becomes the one at hand.
func (r *Receiver) later(path []byte, o op) error {
	fd, err := r.at(path)
	if err != nil {
		return err
	}
	return r.laterAtHand(o, fd)
}

func (r *Receiver) laterAtHand(o op, fd int) error {
	o.fd, o.fresh, o.place = fd, r.file.fresh, r.now
	return r.lane.add(o)
}

// change does what an operation says.
func (r *Receiver) change(o *op) error {
	h := handle{fd: o.fd}
	switch o.kind {
	case stream.Write:
		return writeAt(o.fd, o.data, int64(o.off))
	case stream.EncodedWrite:
		return r.writeEncoded(o.fd, o.whole, o.data)
	case stream.Truncate:
		if err := unix.Ftruncate(o.fd, int64(o.size)); err != nil {
			return fmt.Errorf("truncating to %d: %w", o.size, err)
		}
	case stream.Fallocate:
		err := retry(func() error { return unix.Fallocate(o.fd, o.mode, int64(o.off), int64(o.size)) })
		if err != nil {
			return fmt.Errorf("allocating (mode %#x) %d bytes at offset %d: %w", o.mode, o.size, o.off, err)
		}
	case stream.Chmod:
		return settingMode(h.chmod(o.mode))
	case stream.Chown:
		return settingOwner(h.chownAlone(int(o.off), int(o.size), o.fresh))
	case stream.Utimes:
		return settingTimes(h.setTimes(o.ts[:]))
	case stream.SetXattr:
		return settingXattr(o.name, h.setXattr(o.name, o.data))
	case stream.RemoveXattr:
		return removingXattr(o.name, h.removeXattr(o.name))
	}
	return nil
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
	r.setFile(path, fd, false)
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
	return r.later(path, op{kind: stream.Write, off: off, data: data})
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
	whole := *c
	return r.later(c.Path, op{kind: stream.EncodedWrite, data: c.Data, whole: &whole})
}

// writeEncoded writes data as c says. Of c the slices are not used.
func (r *Receiver) writeEncoded(fd int, c *stream.Command, data []byte) error {
	if !r.o.ForceDecompress && c.Compression != compressNone {
		err := btrfs.EncodedWrite(fd, data, btrfs.EncodedExtent{
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
		r.log.Debug("writing a compressed extent as plain data", "command", c.Number, "because", err)
	}
	plain, err := r.decoder.decode(c.Compression, data, int(c.UnencodedLen))
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
	return r.later(path, op{kind: stream.Truncate, size: size})
}

func (r *Receiver) fallocate(path []byte, mode uint32, off, size uint64) error {
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if mode&^known != 0 {
		return fmt.Errorf("allocating: mode %#x is not known", mode)
	}
	if err := inRange(off, size); err != nil {
		return err
	}
	return r.later(path, op{kind: stream.Fallocate, mode: mode, off: off, size: size})
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
	if err := r.lane.drain(); err != nil {
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
