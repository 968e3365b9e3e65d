package stream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Writer writes a stream, command by command. It refuses what a Reader would
// refuse. Every error is sticky.
type Writer struct {
	w       *bufio.Writer
	version uint32
	number  int64
	ended   bool
	err     error
	frame   []byte
	check   Command
}

// NewWriter returns a Writer of a stream of the given version to w. The header
// goes out with the first command.
func NewWriter(w io.Writer, version uint32) *Writer {
	out := &Writer{w: bufio.NewWriterSize(w, 64<<10), version: version}
	if version == 0 || version > lastVersion {
		out.err = fmt.Errorf("writing a stream: %w %d", ErrVersion, version)
	}
	return out
}

// Write encodes the fields that the command's kind carries in the stream's
// version, in the kernel's order, and sums them. Number, Offset and Frame are
// not looked at. An attribute that the kind may lack is written if the command
// has it, or if its field is not zero.
func (w *Writer) Write(c *Command) error {
	if w.err == nil {
		w.err = w.write(c)
	}
	return w.err
}

func (w *Writer) write(c *Command) error {
	refuse := func(err error) error {
		return fmt.Errorf("writing stream command %d (%s): %w", w.number+1, c.Kind, err)
	}
	if err := w.encode(c); err != nil {
		return refuse(err)
	}
	if err := w.check.parse(w.frame, w.version); err != nil {
		return refuse(err)
	}
	switch first := c.Kind == Subvol || c.Kind == Snapshot; {
	case w.ended:
		return refuse(fmt.Errorf("%w: it follows END", ErrTrailing))
	case first != (w.number == 0):
		return refuse(fmt.Errorf("%w: subvol or snapshot is the first command, and no other", ErrMalformed))
	}
	if w.number == 0 {
		header := binary.LittleEndian.AppendUint32([]byte(magic), w.version)
		if _, err := w.w.Write(header); err != nil {
			return fmt.Errorf("writing a stream: %w", err)
		}
	}
	w.number++
	w.ended = c.Kind == End
	if _, err := w.w.Write(w.frame); err != nil {
		return fmt.Errorf("writing a stream: %w", err)
	}
	return nil
}

// Close writes out what is buffered. It adds no END, and does not close the
// writer beneath.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.w.Flush(); err != nil {
		w.err = fmt.Errorf("writing a stream: %w", err)
		return w.err
	}
	w.err = errClosed
	return nil
}

var errClosed = errors.New("writing a stream: it is closed")

// encode makes the command's frame.
func (w *Writer) encode(c *Command) error {
	if c.Kind == 0 || c.Kind > kindLast {
		return fmt.Errorf("%w: there is no such kind", ErrMalformed)
	}
	le := binary.LittleEndian
	f := append(w.frame[:0], make([]byte, headSize)...)
	for _, a := range kinds[c.Kind].attrs {
		if a.since() > w.version && c.Kind.since() <= w.version {
			continue
		}
		if optional(c.Kind, a) && !c.Has(a) && c.Encryption == 0 {
			continue
		}
		begin := len(f)
		f = le.AppendUint16(f, uint16(a))
		if bare := a == AttrData && w.version >= 2; !bare {
			f = le.AppendUint16(f, 0)
		}
		value := len(f)
		switch v := c.field(a).(type) {
		case *[]byte:
			f = append(f, *v...)
		case *uint64:
			f = le.AppendUint64(f, *v)
		case *uint32:
			f = le.AppendUint32(f, *v)
		case *uint8:
			f = append(f, *v)
		case *Time:
			f = le.AppendUint64(f, uint64(v.Sec))
			f = le.AppendUint32(f, v.Nsec)
		case *UUID:
			f = append(f, v[:]...)
		}
		if n := len(f) - value; value-begin == 4 {
			if n > 1<<16-1 {
				return fmt.Errorf("its %s is %w: %d bytes", a, ErrTooLong, n)
			}
			le.PutUint16(f[begin+2:], uint16(n))
		}
	}
	w.frame = f
	if len(f) > maxCommand {
		return fmt.Errorf("the command is %w: %d bytes", ErrTooLong, len(f))
	}
	le.PutUint32(f, uint32(len(f)-headSize))
	le.PutUint16(f[4:], uint16(c.Kind))
	putChecksum(f)
	return nil
}

// putChecksum writes the checksum of the command in frame: the CRC-32C with
// initial value zero and without the final inversion, over all of the command
// with its checksum taken as zero.
func putChecksum(frame []byte) {
	sum := frame[6:headSize]
	clear(sum)
	binary.LittleEndian.PutUint32(sum, ^crc32.Update(^uint32(0), castagnoli, frame))
}
