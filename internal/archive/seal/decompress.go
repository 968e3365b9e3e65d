package seal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

var (
	errNotOurs = errors.New("it is not compressed the way it should be")
	errOrder   = errors.New("its parts are not in the right order")
	errSum     = errors.New("its checksum is wrong")
	errTable   = errors.New("its table is not that of its content")
)

// decompressor is the stage that undoes compressor. It reads frames ahead, has
// several decoded at a time, and gives them out in order.
type decompressor struct {
	ctx   context.Context
	src   *bufio.Reader
	dec   *zstd.Decoder
	depth int
	slots chan struct{}

	queue []*frame
	free  []*frame
	rest  []byte // of what is given out
	out   *frame // that rest is of
	err   error  // that follows what is in the queue

	size    int  // of all frames but the last; 0 before the first
	short   bool // the last frame has been there
	ended   bool // so has the table
	crc     uint32
	entries int
	table   hash.Hash // of the entries
}

// frame is one that is being decoded.
type frame struct {
	stored, plain []byte
	size          int // of plain
	err           error
	done          chan struct{}
}

func newDecompressor(ctx context.Context, src io.Reader) (*decompressor, error) {
	workers := defaultWorkers()
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(workers),
		zstd.WithDecoderMaxMemory(maxFrame),
		zstd.WithDecoderMaxWindow(maxFrame),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("setting up decompression: %w", err)
	}
	return &decompressor{
		ctx: ctx, src: bufio.NewReaderSize(src, 64<<10), dec: dec,
		depth: workers + 1, slots: make(chan struct{}, workers), table: sha256.New(),
	}, nil
}

func (d *decompressor) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.ctx.Err() != nil {
			return 0, context.Cause(d.ctx)
		}
		if d.out != nil {
			d.free = append(d.free, d.out)
			d.out = nil
		}
		for d.err == nil && len(d.queue) < d.depth {
			if d.err = d.next(); errors.Is(d.err, io.EOF) {
				d.err = io.ErrUnexpectedEOF
			} else if d.ended {
				d.err = io.EOF
			}
		}
		if len(d.queue) == 0 {
			return 0, d.err
		}
		f := d.queue[0]
		select {
		case <-f.done:
		case <-d.ctx.Done():
			return 0, context.Cause(d.ctx)
		}
		d.queue = append(d.queue[:0], d.queue[1:]...)
		if f.err != nil {
			d.err, d.queue = f.err, nil
			return 0, f.err
		}
		d.out, d.rest = f, f.plain
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// next reads a frame and has it decoded; after the last, it checks the end.
func (d *decompressor) next() error {
	var magic [4]byte
	if err := d.full(magic[:]); err != nil {
		return err
	}
	switch binary.LittleEndian.Uint32(magic[:]) {
	case magicFrame:
		return d.frame(magic[:])
	case magicSum:
		return d.end(magic[:])
	}
	return errNotOurs
}

// full reads exactly as many bytes as there is room for.
func (d *decompressor) full(p []byte) error {
	_, err := io.ReadFull(d.src, p)
	return err
}

// take returns room for a frame.
func (d *decompressor) take() *frame {
	if n := len(d.free); n > 0 {
		f := d.free[n-1]
		d.free = d.free[:n-1]
		f.stored, f.plain = f.stored[:0], f.plain[:0]
		return f
	}
	return &frame{done: make(chan struct{}, 1)}
}

// more reads n bytes to the end of a frame.
func (d *decompressor) more(f *frame, n int) ([]byte, error) {
	if len(f.stored)+n > frameBound(f.size) {
		return nil, errNotOurs
	}
	at := len(f.stored)
	f.stored = f.stored[:at+n]
	return f.stored[at:], d.full(f.stored[at:])
}

// frame reads one that holds data, block by block.
func (d *decompressor) frame(magic []byte) error {
	f := d.take()
	header, err := d.header(f, magic)
	if err != nil {
		return err
	}
	if cap(f.stored) < frameBound(f.size) {
		f.stored = make([]byte, 0, frameBound(f.size))
	}
	f.stored = append(f.stored, header...)
	for last := false; !last; {
		b, err := d.more(f, 3)
		if err != nil {
			return err
		}
		block := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = block&1 != 0
		size := int(block >> 3)
		if size > maxBlock {
			return errNotOurs
		}
		if block>>1&3 == 1 { // one byte, many times
			size = 1
		}
		if _, err := d.more(f, size); err != nil {
			return err
		}
	}
	sum, err := d.more(f, 4)
	if err != nil {
		return err
	}
	d.crc = crc32.Update(d.crc, castagnoli, f.stored)
	d.table.Write(appendEntry(nil, len(f.stored), f.size, binary.LittleEndian.Uint32(sum)))
	d.entries++
	d.start(f)
	return nil
}

// header reads the header of a frame: all in one piece, without a dictionary,
// with its length and a checksum. It sets the length.
func (d *decompressor) header(f *frame, magic []byte) ([]byte, error) {
	var room [4 + 1 + 8]byte
	b := append(room[:0], magic...)
	descriptor, err := d.src.ReadByte()
	if err != nil {
		return nil, err
	}
	if descriptor&0x3F != 0x24 {
		return nil, errNotOurs
	}
	b = append(b, descriptor)
	width := 1 << (descriptor >> 6)
	length := room[len(b) : len(b)+width]
	if err := d.full(length); err != nil {
		return nil, err
	}
	var n uint64
	for i, c := range length {
		n |= uint64(c) << (8 * i)
	}
	if width == 2 {
		n += 256
	}
	if n == 0 || n > maxFrame {
		return nil, errNotOurs
	}
	f.size = int(n)
	switch {
	case d.short || d.size != 0 && f.size > d.size:
		return nil, errOrder
	case d.size == 0:
		d.size = f.size
	case f.size < d.size:
		d.short = true
	}
	return append(b, length...), nil
}

// start has a frame decoded.
func (d *decompressor) start(f *frame) {
	d.queue = append(d.queue, f)
	go func() {
		d.slots <- struct{}{}
		if cap(f.plain) < f.size {
			f.plain = make([]byte, 0, f.size)
		}
		f.plain, f.err = d.dec.DecodeAll(f.stored, f.plain[:0:f.size])
		if f.err == nil && len(f.plain) != f.size {
			f.err = errNotOurs
		}
		<-d.slots
		f.done <- struct{}{}
	}()
}

// end checks what stands behind the frames.
func (d *decompressor) end(magic []byte) error {
	sum := make([]byte, sumFrame)
	copy(sum, magic)
	if err := d.full(sum[len(magic):]); err != nil {
		return err
	}
	if !bytes.Equal(sum, appendSum(nil, d.crc)) {
		return errSum
	}
	d.table.Write(appendEntry(nil, sumFrame, 0, emptySum))
	d.entries++
	header := make([]byte, skipHeader)
	if err := d.full(header); err != nil {
		return err
	}
	if !bytes.Equal(header, appendTableHeader(nil, d.entries)) {
		return errTable
	}
	stored := sha256.New()
	if _, err := io.CopyN(stored, d.src, int64(d.entries)*entrySize); err != nil {
		return err
	}
	footer := make([]byte, footerSize)
	if err := d.full(footer); err != nil {
		return err
	}
	if !bytes.Equal(stored.Sum(nil), d.table.Sum(nil)) || !bytes.Equal(footer, appendFooter(nil, d.entries)) {
		return errTable
	}
	if _, err := d.src.ReadByte(); err == nil {
		return errors.New("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	d.ended = true
	return nil
}
