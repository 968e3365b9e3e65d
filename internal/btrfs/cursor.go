package btrfs

import "encoding/binary"

// cursor follows a stream as it goes by in arbitrary pieces, as far as to know
// at which file it is. It looks at headers only and judges nothing: where it
// cannot follow it stops to move. Its zero value stands before the stream.
type cursor struct {
	ino     uint64 // of the file that the stream is at
	started bool   // the stream's header is accounted for
	lost    bool
	skip    uint64 // bytes that are of no interest
	kept    []byte // the beginning of a frame that has not been seen whole
}

const (
	streamHeaderSize = 17
	frameHeaderSize  = 10
	cmdMakeFile      = 3
	attrIno          = 3
	// makeFileMax is more than the command for the longest path takes.
	makeFileMax = 8 << 10
)

// feed takes the next piece and returns the inode number of the file that the
// stream has come to. The kernel sends files in the order of their numbers (but
// not directories, which it makes when they are first needed), so that it is
// done with those that have lower numbers.
func (c *cursor) feed(p []byte) uint64 {
	if !c.started {
		c.started, c.skip = true, streamHeaderSize
	}
	for len(p) > 0 && !c.lost {
		if c.skip > 0 {
			n := min(c.skip, uint64(len(p)))
			c.skip -= n
			p = p[n:]
			continue
		}
		if len(c.kept) == 0 {
			used := c.frame(p)
			if used == 0 && !c.lost {
				c.kept, p = append(c.kept, p...), nil
			}
			p = p[used:]
			continue
		}
		// One byte more than what frame wants is never needed: the rest of the
		// frame is in skip.
		old := len(c.kept)
		n := min(c.want()-old, len(p))
		c.kept, p = append(c.kept, p[:n]...), p[n:]
		if used := c.frame(c.kept); used > 0 {
			c.kept = c.kept[:0]
		}
	}
	return c.ino
}

// want returns how many bytes of the frame in kept have to be there at least.
func (c *cursor) want() int {
	if len(c.kept) < frameHeaderSize {
		return frameHeaderSize
	}
	return frameHeaderSize + int(binary.LittleEndian.Uint32(c.kept))
}

// frame looks at the frame that p begins with, and returns how many bytes of p
// are done with; 0 if there are not enough to tell.
func (c *cursor) frame(p []byte) int {
	if len(p) < frameHeaderSize {
		return 0
	}
	length := uint64(binary.LittleEndian.Uint32(p))
	if binary.LittleEndian.Uint16(p[4:]) != cmdMakeFile {
		c.skip = length
		return frameHeaderSize
	}
	if length > makeFileMax {
		c.lost = true
		return 0
	}
	if uint64(len(p)) < frameHeaderSize+length {
		return 0
	}
	payload := p[frameHeaderSize : frameHeaderSize+length]
	for rest := payload; len(rest) >= 4; {
		kind, size := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		rest = rest[4:]
		if size > len(rest) {
			break
		}
		if kind == attrIno && size == 8 {
			c.ino = max(c.ino, binary.LittleEndian.Uint64(rest))
			break
		}
		rest = rest[size:]
	}
	return frameHeaderSize + int(length)
}
