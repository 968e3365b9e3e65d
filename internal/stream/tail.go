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
// in front of its END. More is asked for them when all before END has been read;
// its error becomes that of the stream. What is handed on is not checked, and a
// stream that does not end in END stays as it is.
func BeforeEnd(r io.Reader, version uint32, more func() ([]*Command, error)) io.Reader {
	return &beforeEnd{r: r, version: version, more: more, buf: make([]byte, tailBuffer)}
}

type beforeEnd struct {
	r       io.Reader
	version uint32
	more    func() ([]*Command, error)

	// buf[start:end] was read and not handed out yet. As long as err is nil, its
	// last bytes may turn out to be END, and are kept back.
	buf        []byte
	start, end int
	err        error
}

func (b *beforeEnd) Read(p []byte) (int, error) {
	for {
		ready := b.end - b.start
		if b.err == nil {
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
		b.end = copy(b.buf, b.buf[b.start:b.end])
		b.start = 0
		n, err := b.r.Read(b.buf[b.end:])
		b.end += n
		if err == io.EOF {
			err = b.extend()
		}
		b.err = err
	}
}

// extend adds the commands to what is left, and returns the end of the stream.
func (b *beforeEnd) extend() error {
	end := endFrame()
	rest := b.buf[b.start:b.end]
	if !bytes.HasSuffix(rest, end) {
		return io.EOF
	}
	added, err := b.frames()
	if err != nil {
		b.end -= len(end)
		return err
	}
	rest = append(append(rest[:len(rest)-len(end):len(rest)-len(end)], added...), end...)
	b.buf, b.start, b.end = rest, 0, len(rest)
	return io.EOF
}

// frames encodes the commands that are added.
func (b *beforeEnd) frames() ([]byte, error) {
	commands, err := b.more()
	if err != nil || len(commands) == 0 {
		return nil, err
	}
	// A Writer begins with a first command, which the stream has already.
	var out bytes.Buffer
	w := NewWriter(&out, b.version)
	if err := w.Write(&Command{Kind: Subvol, Path: []byte("x"), UUID: UUID{1}, Transid: 1}); err != nil {
		return nil, err
	}
	if err := w.w.Flush(); err != nil {
		return nil, err
	}
	head := out.Len()
	for _, c := range commands {
		if err := w.Write(c); err != nil {
			return nil, fmt.Errorf("adding to a stream: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes()[head:], nil
}

// endFrame is an END command as it stands in a stream.
func endFrame() []byte {
	frame := binary.LittleEndian.AppendUint16(make([]byte, 4, headSize), uint16(End))
	frame = append(frame, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(frame[6:], ^crc32.Update(^uint32(0), castagnoli, frame))
	return frame
}
