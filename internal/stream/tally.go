package stream

import (
	"encoding/binary"
	"fmt"
)

// Tally follows a stream that somebody else has checked: it is given whole
// commands, as [Reader.NextRun] hands them out, and looks only at what says which
// stream it is and whether all of it has come. Checksums are not computed again,
// and of a command's attributes only the lengths are read. It holds nothing of
// what it is given. Every error is sticky.
type Tally struct {
	version  uint32
	ended    bool
	err      error
	stats    Stats
	identity Identity
}

// Write takes the next commands, whole ones; the first of all with the stream's
// header before it. What cannot stand there is an [*Error].
func (t *Tally) Write(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	rest := p
	var kind Kind
	var err error
	if t.version == 0 && len(rest) > 0 {
		rest, err = t.header(rest)
	}
	for err == nil && len(rest) > 0 {
		var n int
		if kind, n, err = t.command(rest); err == nil {
			t.stats.Commands++
			t.stats.Bytes += int64(n)
			rest = rest[n:]
		}
	}
	if err != nil {
		e := &Error{Err: err}
		if t.version != 0 {
			e.Number, e.Offset = t.stats.Commands+1, t.stats.Bytes
		}
		if kind <= kindLast {
			e.Kind = kind
		}
		t.err = e
	}
	return len(p) - len(rest), t.err
}

// Identity returns what the stream's first command says, and whether it has
// come.
func (t *Tally) Identity() (Identity, bool) { return t.identity, t.stats.Commands > 0 }

// Version returns the version of the stream, zero before its header.
func (t *Tally) Version() uint32 { return t.version }

// Stats returns what has been counted so far.
func (t *Tally) Stats() Stats { return t.stats }

// Whole returns nil if all of a stream has come, up to its END, and what is
// wrong otherwise.
func (t *Tally) Whole() error {
	switch {
	case t.err != nil:
		return t.err
	case t.version == 0:
		return &Error{Err: fmt.Errorf("%w: it is empty", ErrTruncated)}
	case !t.ended:
		return &Error{Number: t.stats.Commands + 1, Offset: t.stats.Bytes, Err: fmt.Errorf("%w: it has no END", ErrTruncated)}
	}
	return nil
}

func (t *Tally) header(b []byte) ([]byte, error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return b, ErrNotStream
	}
	v := binary.LittleEndian.Uint32(b[len(magic):])
	if v == 0 || v > lastVersion {
		return b, fmt.Errorf("%w %d", ErrVersion, v)
	}
	t.version = v
	t.stats.Bytes = int64(headerSize)
	return b[headerSize:], nil
}

// command counts the command that b begins with, and returns its length.
func (t *Tally) command(b []byte) (Kind, int, error) {
	if t.ended {
		return 0, 0, ErrTrailing
	}
	if len(b) < headSize {
		return 0, 0, fmt.Errorf("%w: its head is cut off", ErrMalformed)
	}
	kind := Kind(binary.LittleEndian.Uint16(b[4:]))
	n := headSize + int(binary.LittleEndian.Uint32(b))
	switch {
	case n > maxCommand:
		return kind, 0, fmt.Errorf("the command is %w: %d bytes", ErrTooLong, n)
	case n > len(b):
		return kind, 0, fmt.Errorf("%w: it is cut off", ErrMalformed)
	}
	if first := kind == Subvol || kind == Snapshot; first != (t.stats.Commands == 0) {
		if first {
			return kind, 0, fmt.Errorf("%w: another snapshot begins", ErrMalformed)
		}
		return kind, 0, fmt.Errorf("%w: a stream begins with subvol or snapshot", ErrMalformed)
	}
	switch kind {
	case Subvol, Snapshot:
		var c Command
		if err := c.parse(b[:n:n], t.version); err != nil {
			return kind, 0, err
		}
		t.identity = identityOf(&c)
	case Write, EncodedWrite:
		data, err := dataLen(b[headSize:n], t.version)
		if err != nil {
			return kind, 0, err
		}
		t.stats.DataBytes += int64(data)
	case MkFile:
		t.stats.Files++
	case MkDir:
		t.stats.Dirs++
	case Clone:
		t.stats.Clones++
	case End:
		t.ended = true
	}
	return kind, n, nil
}

// dataLen returns how many bytes of file contents are among attributes.
func dataLen(attrs []byte, version uint32) (int, error) {
	for len(attrs) >= 2 {
		a := Attr(binary.LittleEndian.Uint16(attrs))
		if a == AttrData && version >= 2 {
			return len(attrs) - 2, nil
		}
		if len(attrs) < 4 {
			break
		}
		n := int(binary.LittleEndian.Uint16(attrs[2:]))
		if len(attrs)-4 < n {
			break
		}
		if a == AttrData {
			return n, nil
		}
		attrs = attrs[4+n:]
	}
	return 0, fmt.Errorf("%w: it lacks its %s", ErrMalformed, AttrData)
}
