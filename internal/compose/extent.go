package compose

import (
	"errors"
	"fmt"
	"math"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// A run is data of the file at hand that the next extent may continue.
type run struct {
	offset, length uint64
	from           uint64 // inode to clone from; 0: the data are to be read
	fromOffset     uint64
	direct         bool // they lie on disk as they read
}

// maxClone bounds what one CLONE covers.
const maxClone = 128 << 20

// extent carries on with the file at hand.
func (c *composer) extent(it btrfs.Item) error {
	x, err := btrfs.ParseExtent(it.Data)
	if err != nil {
		return err
	}
	f := &c.file
	size := f.inode.Size
	if it.Offset < f.next {
		return fmt.Errorf("its extents at %d overlap", it.Offset)
	}
	if x.Kind == btrfs.ExtentInline {
		if it.Offset != 0 {
			return errors.New("it has an inline extent that is not at its beginning")
		}
		f.next = 1
		return c.inline(&x, size)
	}
	if x.Length > math.MaxInt64 || it.Offset > math.MaxInt64-x.Length || x.Offset > math.MaxInt64-x.Length {
		return fmt.Errorf("its extent at %d makes no sense", it.Offset)
	}
	f.next = it.Offset + x.Length
	if x.Kind != btrfs.ExtentRegular || x.Start == 0 || it.Offset >= size {
		return nil
	}
	return c.regular(&x, it.Offset, min(x.Length, size-it.Offset))
}

// inline puts in data that stand in the tree.
func (c *composer) inline(x *btrfs.Extent, size uint64) error {
	f := &c.file
	length := min(uint64(len(x.Inline)), size)
	if x.Compression != btrfs.Uncompressed {
		length = min(x.Decoded, size)
	}
	if length == 0 {
		return nil
	}
	f.end = length
	if x.Compression == btrfs.Uncompressed && length <= uint64(c.chunk) {
		c.command = stream.Command{Kind: stream.Write, Path: f.path, Data: x.Inline[:length]}
		return c.put(&c.command)
	}
	number, ok := x.Compression.Encoded(c.tree.sector)
	if !c.o.Compressed || !ok || uint64(len(x.Inline)) > length || !sane(x, length) {
		return c.data(x, 0, length)
	}
	c.command = stream.Command{
		Kind: stream.EncodedWrite, Path: f.path,
		UnencodedFileLen: length, UnencodedLen: x.Decoded, Compression: number, Data: x.Inline,
	}
	return c.put(&c.command)
}

// regular puts in data that stand on disk: length bytes for offset. What has
// been sent before is cloned.
//
// A clone consists of whole sectors. Its end may lie within one only if both
// files end there.
func (c *composer) regular(x *btrfs.Extent, offset, length uint64) error {
	f := &c.file
	sector := c.tree.sector
	if (x.Offset|offset)%sector != 0 {
		return c.data(x, offset, length)
	}
	e := c.shared.of(x)
	if e == nil {
		return c.data(x, offset, length)
	}
	for length > 0 {
		p, ok := e.find(x.Offset)
		n := length
		if !ok {
			n = min(length, p.begin-x.Offset)
			if err := c.data(x, offset, n); err != nil {
				return err
			}
			c.shared.keep(e, part{begin: x.Offset, end: x.Offset + n, ino: f.ino, offset: offset})
		} else {
			n = min(length, p.end-x.Offset)
			whole := n == length && n == p.end-x.Offset && offset+n == f.inode.Size
			if !whole {
				n -= n % sector
			}
			if n == 0 {
				// Less than a sector is known, at the end of a shorter file.
				n = min(length, sector)
				if err := c.data(x, offset, n); err != nil {
					return err
				}
			} else if err := c.clone(offset, n, p.ino, p.offset+x.Offset-p.begin); err != nil {
				return err
			}
		}
		x.Offset, offset, length = x.Offset+n, offset+n, length-n
	}
	return nil
}

// data puts in data of the file at hand, as they are stored if that is wanted
// and shorter. They are in the extent, at its Offset.
func (c *composer) data(x *btrfs.Extent, offset, length uint64) error {
	f := &c.file
	f.end = offset + length
	number, ok := x.Compression.Encoded(c.tree.sector)
	encoded := x.Kind == btrfs.ExtentRegular && x.Compression != btrfs.Uncompressed && ok && c.o.Compressed
	if encoded && x.Stored <= length && sane(x, length) {
		if err := c.flush(); err != nil {
			return err
		}
		return c.encoded(fill{
			offset: offset, length: length,
			stored: x.Stored, decoded: x.Decoded, decodedOffset: x.Offset, compression: number,
		})
	}
	direct := x.Kind == btrfs.ExtentRegular && x.Compression == btrfs.Uncompressed
	return c.extend(run{offset: offset, length: length, direct: direct})
}

// largestCompressed is what a compressed extent has at most, decoded or not
// (BTRFS_MAX_UNCOMPRESSED, BTRFS_MAX_COMPRESSED).
const largestCompressed = 128 << 10

// sane reports whether the numbers of a compressed extent are such as can be.
func sane(x *btrfs.Extent, length uint64) bool {
	return x.Decoded <= largestCompressed && x.Stored <= largestCompressed &&
		x.Offset <= x.Decoded && length <= x.Decoded-x.Offset
}

// clone puts in data that the receiver has already.
func (c *composer) clone(offset, length, from, fromOffset uint64) error {
	c.file.end = offset + length
	return c.extend(run{offset: offset, length: length, from: from, fromOffset: fromOffset})
}

// extend continues the run, or begins another.
func (c *composer) extend(r run) error {
	last := &c.file.run
	follows := last.length > 0 && last.offset+last.length == r.offset && last.from == r.from && last.direct == r.direct
	if r.from != 0 {
		follows = follows && last.fromOffset+last.length == r.fromOffset && last.length+r.length <= maxClone
	}
	if follows {
		last.length += r.length
	} else {
		if err := c.flush(); err != nil {
			return err
		}
		*last = r
	}
	// What makes whole batches need not wait for more.
	if whole := last.length - last.length%uint64(c.chunk); last.from == 0 && whole >= batchSize {
		if err := c.plain(last.offset, whole, last.direct); err != nil {
			return err
		}
		last.offset, last.length = last.offset+whole, last.length-whole
	}
	return nil
}

// flush puts in the run.
func (c *composer) flush() error {
	r := c.file.run
	c.file.run = run{}
	switch {
	case r.length == 0:
		return nil
	case r.from == 0:
		return c.plain(r.offset, r.length, r.direct)
	}
	path, err := c.pathOf(r.from)
	if err != nil {
		return fmt.Errorf("cloning from inode %d: %w", r.from, err)
	}
	c.command = stream.Command{
		Kind: stream.Clone, Path: c.file.path, FileOffset: r.offset, CloneLen: r.length,
		CloneUUID: c.uuid, CloneTransid: c.transid, ClonePath: path, CloneOffset: r.fromOffset,
	}
	return c.put(&c.command)
}

// pathOf returns the path as which a file has been made: its first.
func (c *composer) pathOf(ino uint64) ([]byte, error) {
	if ino == c.file.ino {
		return c.file.path, nil
	}
	if ino == c.cloneIno {
		return c.clonePath, nil
	}
	for it, err := range c.tree.single(ino, btrfs.InodeRef, btrfs.InodeExtref) {
		if err != nil {
			return nil, err
		}
		dir, name := it.Offset, []byte(nil)
		switch it.Kind {
		case btrfs.InodeRef:
			name, _, err = btrfs.CutRef(it.Data)
		case btrfs.InodeExtref:
			dir, name, _, err = btrfs.CutExtref(it.Data)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		c.cloneIno = 0
		if c.clonePath, err = c.inDirectory(c.clonePath[:0], dir, name); err != nil {
			return nil, err
		}
		c.cloneIno = ino
		return c.clonePath, nil
	}
	return nil, errors.New("it has no name any more")
}
