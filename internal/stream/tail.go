package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// tailBuffer is how much BeforeEnd reads at a time.
const tailBuffer = 256 << 10

// BeforeEnd returns the stream r, of the given version, with further commands
// in front of its END. More is asked for some of them when all before END has
// been handed out, and again until it has none; its error becomes that of the
// stream. What is handed on is not checked, and a stream that does not end in END
// stays as it is.
func BeforeEnd(r io.Reader, version uint32, more func() ([]*Command, error)) io.Reader {
	return &beforeEnd{r: r, version: version, more: more, buf: make([]byte, tailBuffer)}
}

type beforeEnd struct {
	r       io.Reader
	version uint32
	more    func() ([]*Command, error)

	// buf[start:end] was read and not handed out yet. While r is being read, its
	// last bytes may turn out to be END, and are kept back.
	buf        []byte
	start, end int
	adding     bool // END has been read, and taken away
	err        error
}

func (b *beforeEnd) Read(p []byte) (int, error) {
	for {
		ready := b.end - b.start
		if b.err == nil && !b.adding {
			ready -= headSize
		}
		if ready > 0 {
			n := copy(p, b.buf[b.start:b.start+ready])
			b.start += n
			return n, nil
		}
		if b.err != nil || len(p) == 0 {
			return 0, b.err
		}
		if b.adding {
			b.err = b.add()
		} else {
			b.err = b.read()
		}
	}
}

// read reads on in the stream.
func (b *beforeEnd) read() error {
	b.end = copy(b.buf, b.buf[b.start:b.end])
	b.start = 0
	n, err := b.r.Read(b.buf[b.end:])
	b.end += n
	if end := endFrame(); err == io.EOF && bytes.HasSuffix(b.buf[:b.end], end) {
		b.end -= len(end)
		b.adding, err = true, nil
	}
	return err
}

// add puts the next commands into the empty buffer, or END.
func (b *beforeEnd) add() error {
	commands, err := b.more()
	if err != nil {
		return err
	}
	b.buf, b.start, b.end = b.buf[:0], 0, 0
	for _, c := range commands {
		if b.buf, err = Append(b.buf, b.version, c); err != nil {
			return fmt.Errorf("adding to a stream: %w", err)
		}
	}
	if len(commands) == 0 {
		b.buf, err = append(b.buf, endFrame()...), io.EOF
	}
	b.end = len(b.buf)
	return err
}

// endFrame is an END command as it stands in a stream.
func endFrame() []byte {
	frame := binary.LittleEndian.AppendUint16(make([]byte, 4, headSize), uint16(End))
	frame = append(frame, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(frame[6:], ^crc32.Update(^uint32(0), castagnoli, frame))
	return frame
}
