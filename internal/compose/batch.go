package compose

import (
	"github.com/buttersink/buttersink/internal/stream"
)

// batchSize is how long a batch's piece of the stream becomes, plus one command.
const batchSize = 512 << 10

// A batch is a piece of the stream: commands that are ready, and orders for data
// that somebody has yet to read between them.
type batch struct {
	script []byte
	fills  []fill
	paths  []byte
	size   int  // of the piece, in bytes
	last   bool // of the stream

	out  []byte // the piece, once it is done
	err  error  // or why there is none
	done chan struct{}

	// The file whose path is the last of paths, and where that begins.
	ino  uint64
	path int
}

// A fill is an order for data.
type fill struct {
	at              int // place in script that the data come before
	path, pathEnd   int // of the file, in paths
	ino, generation uint64
	offset, length  uint64 // of the data in the file

	direct bool // they lie on disk as they read

	// For what is sent as it is stored; else stored is 0.
	stored                 uint64
	decoded, decodedOffset uint64
	compression            uint32
}

// reset makes the batch an empty one.
func (b *batch) reset() {
	b.script, b.fills, b.paths = b.script[:0], b.fills[:0], b.paths[:0]
	b.out, b.err = b.out[:0], nil
	b.size, b.last, b.ino, b.path = 0, false, 0, 0
}

// order adds an order for data of the given file.
func (b *batch) order(f *file, x fill) {
	if b.ino != f.ino {
		b.ino, b.path = f.ino, len(b.paths)
		b.paths = append(b.paths, f.path...)
	}
	x.at, x.path, x.pathEnd = len(b.script), b.path, len(b.paths)
	x.ino, x.generation = f.ino, f.inode.Generation
	b.fills = append(b.fills, x)
}

// put adds a command to the stream.
func (c *composer) put(cmd *stream.Command) error {
	before := len(c.batch.script)
	script, err := stream.Append(c.batch.script, c.o.Protocol, cmd)
	if err != nil {
		return err
	}
	c.batch.script = script
	c.batch.size += len(script) - before
	return c.full()
}

// full hands the batch on if it is long enough.
func (c *composer) full() (err error) {
	if c.batch.size >= batchSize {
		c.batch, err = c.deliver(c.batch)
	}
	return err
}

// overhead returns the length of a command of the kind without its data.
func (c *composer) overhead(kind stream.Kind, path []byte) (int, error) {
	c.command = stream.Command{Kind: kind, Path: path}
	frame, err := stream.AppendUnsealed(c.scratch[:0], c.o.Protocol, &c.command, 0)
	c.scratch = frame[:0]
	return len(frame), err
}

// plain orders data of the file at hand as they read.
func (c *composer) plain(offset, length uint64, direct bool) error {
	f := &c.file
	if f.writeHead == 0 {
		n, err := c.overhead(stream.Write, f.path)
		if err != nil {
			return err
		}
		f.writeHead = n
	}
	chunk := uint64(c.chunk)
	for length > 0 {
		chunks := max(1, uint64(max(0, batchSize-c.batch.size))/chunk)
		n := min(length, chunks*chunk)
		c.batch.order(f, fill{offset: offset, length: n, direct: direct})
		c.batch.size += int(n) + int((n+chunk-1)/chunk)*f.writeHead
		offset, length = offset+n, length-n
		if err := c.full(); err != nil {
			return err
		}
	}
	return nil
}

// encoded orders data of the file at hand as they are stored.
func (c *composer) encoded(x fill) error {
	f := &c.file
	if f.encodedHead == 0 {
		n, err := c.overhead(stream.EncodedWrite, f.path)
		if err != nil {
			return err
		}
		f.encodedHead = n
	}
	c.batch.order(f, x)
	c.batch.size += int(x.stored) + f.encodedHead
	return c.full()
}
