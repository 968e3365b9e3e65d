package seal

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

// compressor is the stage that compresses.
type compressor struct {
	*lanes
	dst   io.Writer
	crc   uint32
	table []byte // the entries so far
}

func newCompressor(ctx context.Context, dst io.Writer, o Options) (*compressor, error) {
	first, err := newEncoder(o)
	if err != nil {
		return nil, fmt.Errorf("setting up compression: %w", err)
	}
	// Short streams need one encoder, so the others come when they are wanted.
	idle := make(chan *zstd.Encoder, o.workers())
	idle <- first
	c := &compressor{lanes: newLanes(ctx, o.workers(), FrameSize), dst: dst}
	c.work = func(_ uint64, _ bool, in, out []byte) []byte {
		var enc *zstd.Encoder
		select {
		case enc = <-idle:
		default:
			enc, _ = newEncoder(o) // as the first one
		}
		defer func() { idle <- enc }()
		if cap(out) == 0 {
			out = make([]byte, 0, frameBound(len(in)))
		}
		return enc.EncodeAll(in, out)
	}
	c.put = c.frame
	return c, nil
}

func newEncoder(o Options) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(o.level())),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(true),
		zstd.WithSingleSegment(true),
		// A frame never refers to another one.
		zstd.WithWindowSize(FrameSize),
		zstd.WithLowerEncoderMem(true))
}

// frame puts out a frame that holds n bytes. Its checksum is the one the table
// wants, and stands at its end.
func (c *compressor) frame(n int, b []byte) error {
	c.crc = crc32.Update(c.crc, castagnoli, b)
	c.table = appendEntry(c.table, len(b), n, binary.LittleEndian.Uint32(b[len(b)-4:]))
	_, err := c.dst.Write(b)
	return err
}

// Close puts out what is left, the checksum and the table.
func (c *compressor) Close() error {
	if err := c.finish(false); err != nil {
		return err
	}
	c.table = appendEntry(c.table, sumFrame, 0, emptySum)
	n := len(c.table) / entrySize
	b := appendTableHeader(appendSum(nil, c.crc), n)
	if _, err := c.dst.Write(b); err != nil {
		return err
	}
	_, err := c.dst.Write(appendFooter(c.table, n))
	return err
}
