package stream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
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
		if _, err := w.w.Write(AppendHeader(nil, w.version)); err != nil {
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
	f, err := Append(w.frame[:0], w.version, c)
	if err != nil {
		return err
	}
	w.frame = f
	return nil
}

// AppendHeader appends what a stream of the given version begins with.
func AppendHeader(dst []byte, version uint32) []byte {
	return binary.LittleEndian.AppendUint32(append(dst, magic...), version)
}

// Append appends the frame of a command, as [Writer.Write] would write it in a
// stream of the given version. It looks at the lengths, which have to fit in,
// and leaves it to the caller that the values make sense. On an error dst comes
// back as it was.
func Append(dst []byte, version uint32, c *Command) ([]byte, error) {
	f, err := AppendUnsealed(dst, version, c, 0)
	if err == nil {
		Seal(f[len(dst):])
	}
	return f, err
}

// AppendUnsealed is Append for a command whose data are yet to come: it leaves
// room for them behind Data, size bytes at the end of the frame, and the frame
// is good only after [Seal]. The room holds whatever was there in dst.
func AppendUnsealed(dst []byte, version uint32, c *Command, size int) ([]byte, error) {
	if c.Kind == 0 || c.Kind > kindLast {
		return dst, fmt.Errorf("%w: there is no such kind", ErrMalformed)
	}
	le := binary.LittleEndian
	var head [headSize]byte
	f := append(dst, head[:]...)
	for _, a := range kinds[c.Kind].attrs {
		if a.since() > version && c.Kind.since() <= version {
			continue
		}
		if optional(c.Kind, a) && !c.Has(a) && c.Encryption == 0 {
			continue
		}
		begin := len(f)
		f = le.AppendUint16(f, uint16(a))
		if bare := a == AttrData && version >= 2; !bare {
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
		if a == AttrData && size > 0 {
			f = slices.Grow(f, size)[:len(f)+size]
		}
		if n := len(f) - value; value-begin == 4 {
			if n > 1<<16-1 {
				return dst, fmt.Errorf("its %s is %w: %d bytes", a, ErrTooLong, n)
			}
			le.PutUint16(f[begin+2:], uint16(n))
		}
	}
	if n := len(f) - len(dst); n > maxCommand {
		return dst, fmt.Errorf("the command is %w: %d bytes", ErrTooLong, n)
	}
	le.PutUint16(f[len(dst)+4:], uint16(c.Kind))
	return f, nil
}

// Seal gives a frame its length and its checksum.
func Seal(frame []byte) {
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-headSize))
	putChecksum(frame)
}

// putChecksum writes the checksum of the command in frame: the CRC-32C with
// initial value zero and without the final inversion, over all of the command
// with its checksum taken as zero.
func putChecksum(frame []byte) {
	sum := frame[6:headSize]
	clear(sum)
	binary.LittleEndian.PutUint32(sum, ^crc32.Update(^uint32(0), castagnoli, frame))
}
