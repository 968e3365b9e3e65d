package archive

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// part is a piece of an object on its way to the bucket. One at a time has it:
// the cutter that fills it, the hasher, the goroutine that puts it.
type part struct {
	number int
	size   int64
	blocks [][]byte // all full, but for the last
	room   *reservation
	crc    uint32
	// prefix is the SHA-256 of the object from its start to the end of the part:
	// in a series of parts it proves each of them, and costs nothing besides that of
	// the whole object.
	prefix Hash
	// md5 is set where the part is going to be compared with a stored one that is
	// known by it alone.
	md5 string
}

func (p *part) release() {
	p.room.release(p.blocks)
	p.blocks = nil
}

// piece is a filled stretch of a part.
type piece struct {
	part *part
	data []byte
	last bool // of the part
}

// cutter cuts an object into parts as it is written, and hands them on in pieces.
type cutter struct {
	ctx    context.Context
	budget *budget
	size   int64 // of a part
	most   int64 // bytes that fit into the object
	// expect is how long the object is expected to be, negative if nothing is
	// known.
	expect int64
	pieces chan piece

	part   *part
	number int
	total  int64
}

// outgrownError says that a stream does not fit into the upload that was begun
// for it.
type outgrownError struct{ most int64 }

func (e *outgrownError) Error() string {
	return fmt.Sprintf("the stream grows beyond the %s that an upload with parts of this length can hold; a larger --part-size gives it room", amount(e.most))
}

func (c *cutter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if c.part == nil {
			if err := c.begin(); err != nil {
				return n, err
			}
		}
		p := c.part
		if c.total == c.most {
			return n, &outgrownError{c.most}
		}
		at := int(p.size % blockSize)
		if at == 0 {
			if err := c.block(); err != nil {
				return n, err
			}
		}
		block := p.blocks[len(p.blocks)-1]
		m := copy(block[at:min(int64(blockSize), int64(at)+c.size-p.size, int64(at)+c.most-c.total)], b[n:])
		n += m
		p.size += int64(m)
		c.total += int64(m)
		switch full := p.size == c.size; {
		case full:
			err = c.hand(block[:at+m], true)
		case at+m == blockSize:
			err = c.hand(block, false)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// begin waits for the room that the next part is likely to need.
func (c *cutter) begin() error {
	need := c.size
	if c.expect >= 0 {
		need = min(need, max(c.expect-c.total, 1))
	}
	room, err := c.budget.reserve(c.ctx, wholeBlocks(need))
	if err != nil {
		return err
	}
	c.number++
	c.part = &part{number: c.number, room: room}
	return nil
}

// block adds one to the part.
func (c *cutter) block() error {
	p := c.part
	if had := int64(len(p.blocks)) * blockSize; had == p.room.n {
		if err := p.room.more(c.ctx, blockSize); err != nil {
			return err
		}
	}
	p.blocks = append(p.blocks, c.budget.block())
	return nil
}

func wholeBlocks(n int64) int64 { return (n + blockSize - 1) / blockSize * blockSize }

// hand hands on what was filled last. With last the part is not the cutter's any
// more.
func (c *cutter) hand(block []byte, last bool) error {
	// What was handed on in full before is not handed on again.
	select {
	case c.pieces <- piece{c.part, block, last}:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	if last {
		c.part = nil
	}
	return nil
}

// end hands on the last part.
func (c *cutter) end() error {
	p := c.part
	if p == nil {
		return nil
	}
	var rest []byte
	if at := p.size % blockSize; at != 0 {
		rest = p.blocks[len(p.blocks)-1][:at]
	}
	return c.hand(rest, true)
}

// hasher takes pieces and makes of them parts that are ready to be stored.
type hasher struct {
	whole hash.Hash
	// compared reports whether a part is going to be compared by its MD5.
	compared func(number int) bool
	ready    func(*part)

	part *part
	md5  hash.Hash
}

func newHasher(compared func(int) bool, ready func(*part)) *hasher {
	return &hasher{whole: sha256.New(), compared: compared, ready: ready}
}

// run takes all pieces there are. When stop says so, parts are dropped.
func (h *hasher) run(pieces <-chan piece, stopped func() bool) {
	for p := range pieces {
		if stopped() {
			if p.last {
				p.part.release()
			}
			continue
		}
		h.add(p)
		if p.last {
			p.part.prefix = h.sum()
			if h.md5 != nil {
				p.part.md5 = hex.EncodeToString(h.md5.Sum(nil))
			}
			h.ready(p.part)
		}
	}
}

func (h *hasher) add(p piece) {
	if h.part != p.part {
		h.part, h.md5 = p.part, nil
		if h.compared(p.part.number) {
			h.md5 = md5.New()
		}
	}
	h.whole.Write(p.data) // hashes never fail
	p.part.crc = crc32.Update(p.part.crc, castagnoli, p.data)
	if h.md5 != nil {
		h.md5.Write(p.data)
	}
}

// sum is the SHA-256 of everything so far.
func (h *hasher) sum() (sum Hash) {
	h.whole.Sum(sum[:0])
	return sum
}

// errRetired is what reading the body of a part gives after it has been put.
var errRetired = errors.New("the part has been put already")

// body is the content of a part for as long as it is put.
type body struct {
	mu      sync.Mutex
	blocks  [][]byte
	size    int64
	at      int64
	retired bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.retired {
		return 0, errRetired
	}
	if b.at >= b.size {
		return 0, io.EOF
	}
	for n < len(p) && b.at < b.size {
		m := copy(p[n:], b.rest())
		n += m
		b.at += int64(m)
	}
	return n, nil
}

// rest is what is left of the block at which reading is.
func (b *body) rest() []byte {
	i, off := b.at/blockSize, b.at%blockSize
	return b.blocks[i][off:min(blockSize, off+b.size-b.at)]
}

// WriteTo implements io.WriterTo: it copies nothing.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.retired {
		return 0, errRetired
	}
	for b.at < b.size {
		m, err := w.Write(b.rest())
		b.at += int64(m)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Seek implements io.Seeker.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return b.at, errors.New("seeking in a part: it has nothing before its beginning")
	}
	b.at = offset
	return offset, nil
}

// retire waits for who is reading still, as HTTP clients may when the answer has
// come before the end, and lets nobody read any more: the blocks are going to be
// used again.
func (b *body) retire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retired, b.blocks = true, nil
}
