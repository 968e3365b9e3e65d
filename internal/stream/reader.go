package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
)

// The buffer is small for streams that fit into it. Else it has room for the
// longest command, with the header before it and the beginning of another
// header behind it.
const (
	smallBuffer = 32 << 10
	largeBuffer = maxCommand + 4<<10
)

// crawl is the number of bytes up to which it is cheaper to move the rest of
// the buffer to its front than to read less at once.
const crawl = 4 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errNoProgress = errors.New("the reader returns neither bytes nor an error")

// Reader takes a stream apart. Use either Next or NextRun on it. It is not
// safe for concurrent use.
type Reader struct {
	src    io.Reader
	srcErr error // to be reported when the buffer is used up
	buf    []byte
	start  int   // of what has not been returned yet
	end    int   // of what has been read
	ahead  int   // bytes at start that are checked: the header, the first part of a run
	offset int64 // of buf[start] in the stream

	version  uint32
	ended    bool
	err      error
	cmd      Command
	stats    Stats
	path     []byte
	identity Identity
	birth    []byte    // header and first command, as far as they are the same after a restart
	sum      hash.Hash // see Mark; all but heads
	heads    []byte    // what is to be added to sum
	zeroed   [10]byte  // a command's head as its checksum sees it
}

// NewReader returns a Reader of the stream r. It reads nothing yet.
func NewReader(r io.Reader) *Reader { return &Reader{src: r} }

// Next returns the next command, END included. The Command and what it points
// to are valid until the next call. After END, and if nothing follows it, the
// error is io.EOF.
func (r *Reader) Next() (*Command, error) {
	if err := r.ready(); err != nil {
		return nil, err
	}
	n, err := r.frame(true)
	if err != nil {
		return nil, r.fail(err)
	}
	r.accept(n)
	r.release()
	return &r.cmd, nil
}

// NextRun returns the next whole commands, one or more, as they stand in the
// stream; the first run begins with the stream's header. It waits for no more
// than one command. The slice is valid until the next call. After the run that
// ends with END, and if nothing follows it, the error is io.EOF.
func (r *Reader) NextRun() ([]byte, error) { return r.NextRunTo(math.MaxInt64) }

// Identity returns what the stream's first command says. It reads as far as it
// has to and consumes nothing.
func (r *Reader) Identity() (Identity, error) {
	if r.stats.Commands > 0 {
		return r.identity, nil
	}
	if err := r.ready(); err != nil {
		return Identity{}, err
	}
	if _, err := r.frame(true); err != nil {
		return Identity{}, r.fail(err)
	}
	return identityOf(&r.cmd), nil
}

// Version returns the version of the stream, zero before the first successful
// call of another method.
func (r *Reader) Version() uint32 { return r.version }

// Stats returns what has been counted so far.
func (r *Reader) Stats() Stats { return r.stats }

// Path returns the path that the last command returned concerns, for people to
// look at; of a rename, the new one.
func (r *Reader) Path() string { return string(r.path) }

// ready prepares for the next command: it reads the header or, after END,
// what must not be there.
func (r *Reader) ready() error {
	if r.err != nil {
		return r.err
	}
	if r.ended {
		return r.fail(r.finish())
	}
	if r.version != 0 {
		return nil
	}
	if r.buf == nil {
		r.buf = make([]byte, smallBuffer)
	}
	if err := r.header(); err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Reader) header() error {
	err := r.fill(headerSize)
	got := r.buf[r.start:r.end]
	if n := min(len(got), len(magic)); string(got[:n]) != magic[:n] {
		return ErrNotStream
	}
	switch {
	case err == io.EOF && len(got) == 0:
		return fmt.Errorf("%w: it is empty", ErrTruncated)
	case err == io.EOF:
		return fmt.Errorf("%w: in its header", ErrTruncated)
	case err != nil:
		return err
	}
	v := binary.LittleEndian.Uint32(got[len(magic):])
	if v == 0 || v > lastVersion {
		return fmt.Errorf("%w %d", ErrVersion, v)
	}
	r.version, r.ahead = v, headerSize
	r.birth = append(r.birth, got[:headerSize]...)
	r.startHash(got[:headerSize])
	return nil
}

// finish looks for the end behind END.
func (r *Reader) finish() error {
	r.cmd.Kind, r.cmd.Path = 0, nil
	err := r.fill(1)
	switch {
	case err == nil && r.beginsHeader():
		return fmt.Errorf("%w: another stream", ErrTrailing)
	case err == nil:
		return ErrTrailing
	}
	return err
}

// frame checks the command that stands behind what has been checked before,
// and returns its length. With wait it reads until the command is whole, and
// returns io.EOF for none of the stream's endings. Without, it reads nothing,
// so that the buffer stays where it is, and returns zero if the command is not
// whole.
func (r *Reader) frame(wait bool) (int, error) {
	r.cmd.Kind, r.cmd.Path = 0, nil
	if !wait && r.end-r.start-r.ahead < headSize {
		return 0, nil
	}
	if err := r.fill(headSize); err != nil {
		return 0, r.cutOff(err)
	}
	head := r.buf[r.start+r.ahead:]
	n := headSize + int(binary.LittleEndian.Uint32(head))
	r.cmd.Kind = Kind(binary.LittleEndian.Uint16(head[4:]))
	if n > maxCommand {
		if wait && (r.beginsHeader() || r.restarted(headSize)) {
			return 0, ErrRestarted
		}
		return 0, fmt.Errorf("the command is %w: %d bytes", ErrTooLong, n)
	}
	if !wait && r.end-r.start-r.ahead < n {
		return 0, nil
	}
	if err := r.fill(n); err != nil {
		return 0, r.cutOff(err)
	}
	at := r.start + r.ahead
	frame := r.buf[at : at+n : at+n]
	copy(r.zeroed[:6], frame)
	sum := ^crc32.Update(crc32.Update(^uint32(0), castagnoli, r.zeroed[:]), castagnoli, frame[headSize:])
	if sum != binary.LittleEndian.Uint32(frame[6:]) {
		if wait && r.restarted(n) {
			return 0, ErrRestarted
		}
		return 0, ErrChecksum
	}
	if err := r.cmd.parse(frame, r.version); err != nil {
		return 0, err
	}
	if first := r.cmd.Kind == Subvol || r.cmd.Kind == Snapshot; first != (r.stats.Commands == 0) {
		if first {
			return 0, fmt.Errorf("%w: another snapshot begins", ErrMalformed)
		}
		return 0, fmt.Errorf("%w: a stream begins with subvol or snapshot", ErrMalformed)
	}
	r.cmd.Number = r.stats.Commands + 1
	r.cmd.Offset = r.offset + int64(r.ahead)
	return n, nil
}

// cutOff turns the reason why a command is not whole into what is wrong.
func (r *Reader) cutOff(err error) error {
	switch {
	case err != io.EOF:
		return err
	case r.end == r.start+r.ahead:
		return fmt.Errorf("%w: it has no END", ErrTruncated)
	case r.restarted(r.end - r.start - r.ahead):
		return ErrRestarted
	}
	return fmt.Errorf("%w: inside a command", ErrTruncated)
}

// accept takes the checked command of n bytes at start+ahead.
func (r *Reader) accept(n int) {
	c := &r.cmd
	if r.stats.Commands == 0 {
		r.identity = identityOf(c)
		r.birth = appendBirth(r.birth, c)
	}
	r.addHead(c.Frame)
	r.stats.Commands++
	r.stats.DataBytes += int64(len(c.Data))
	switch c.Kind {
	case MkFile:
		r.stats.Files++
	case MkDir:
		r.stats.Dirs++
	case Clone:
		r.stats.Clones++
	case End:
		r.ended = true
	}
	switch c.Kind {
	case End:
	case Rename:
		r.path = append(r.path[:0], c.PathTo...)
	default:
		r.path = append(r.path[:0], c.Path...)
	}
	r.ahead += n
}

// release gives up the buffer's bytes that are being returned.
func (r *Reader) release() {
	r.start += r.ahead
	r.offset += int64(r.ahead)
	r.ahead = 0
	r.stats.Bytes = r.offset
}

// fail makes err sticky and adds the place to it.
func (r *Reader) fail(err error) error {
	if _, isRead := err.(*ReadError); err != io.EOF && !isRead {
		e := &Error{Err: err}
		if r.version != 0 {
			e.Number, e.Offset = r.stats.Commands+1, r.offset+int64(r.ahead)
			e.Path = string(r.path)
			if len(r.cmd.Path) > 0 {
				e.Path = string(r.cmd.Path)
			}
			if r.cmd.Kind <= kindLast {
				e.Kind = r.cmd.Kind
			}
		}
		err = e
	}
	r.err = err
	return err
}

// fill reads until n bytes stand behind those that are checked. It returns
// io.EOF if the stream ends before that.
func (r *Reader) fill(n int) error {
	n += r.ahead
	if r.end-r.start >= n {
		return nil
	}
	if r.start+n > len(r.buf) || r.end-r.start < crawl {
		to := r.buf
		if full := r.end == len(to); len(to) < largeBuffer && (full || n > len(to)) {
			to = make([]byte, largeBuffer)
		}
		r.end = copy(to, r.buf[r.start:r.end])
		r.start, r.buf = 0, to
	}
	for idle := 0; r.end-r.start < n; idle++ {
		if r.srcErr == nil && idle == 100 {
			r.srcErr = errNoProgress
		}
		if r.srcErr == io.EOF {
			return io.EOF
		}
		if r.srcErr != nil {
			return &ReadError{Offset: r.offset + int64(r.end-r.start), Err: r.srcErr}
		}
		k, err := r.src.Read(r.buf[r.end:])
		if k > 0 {
			idle = 0
		}
		r.end += k
		r.srcErr = err
	}
	return nil
}

// beginsHeader reports whether a stream's header stands where a command should
// begin. What can be a header is waited for; one that is cut off counts.
func (r *Reader) beginsHeader() bool {
	n := 0
	for want := 1; want <= len(magic) && r.fill(want) == nil; want = n + 1 {
		got := r.buf[r.start+r.ahead : r.end]
		n = min(len(got), len(magic))
		if string(got[:n]) != magic[:n] {
			return false
		}
	}
	return n >= headSize
}

// restarted reports whether this stream begins again within the next n bytes,
// which are no good command. A sender that is stopped and continued, by a
// signal or by the system's sleep, begins again wherever it was: the command
// it was writing remains torn. File contents can hold a stream too, so the
// place has to look like the beginning of this one.
func (r *Reader) restarted(n int) bool {
	at := r.start + r.ahead
	for i := at; i < at+n; i++ {
		k := bytes.Index(r.buf[i:r.end], []byte(magic))
		if k < 0 || i+k >= at+n {
			break
		}
		i += k
		if r.isBirth(r.buf[i:r.end]) {
			return true
		}
	}
	// The beginning may itself be cut in two by the end of what is read.
	for k := min(len(magic)-1, n); k > 0; k-- {
		if at+n <= r.end && bytes.HasSuffix(r.buf[at:at+n], []byte(magic[:k])) && r.fill(n-k+len(magic)) == nil {
			at = r.start + r.ahead
			return r.isBirth(r.buf[at+n-k : r.end])
		}
	}
	return false
}

// isBirth reports whether b begins as this stream did. What is rewritten on
// the way, identities and checksum, is not compared.
func (r *Reader) isBirth(b []byte) bool {
	const crc = headerSize + 6
	n := min(len(b), len(r.birth))
	if n <= crc {
		return n >= len(magic) && bytes.Equal(b[:n], r.birth[:n])
	}
	if !bytes.Equal(b[:crc], r.birth[:crc]) {
		return false
	}
	return n <= crc+4 || bytes.Equal(b[crc+4:n], r.birth[crc+4:n])
}

// appendBirth adds to a stream's header the part of its first command that no
// rewriting changes, its head and path.
func appendBirth(header []byte, first *Command) []byte {
	n := headSize
	if rest := first.Frame[n:]; binary.LittleEndian.Uint16(rest) == uint16(AttrPath) {
		n += 4 + len(first.Path)
	}
	return append(header, first.Frame[:n]...)
}
