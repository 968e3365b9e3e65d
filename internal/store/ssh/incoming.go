package ssh

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
	"github.com/buttersink/buttersink/internal/stream"
)

// A stream that begins at its start is read by a stream.Reader here: each command
// is parsed, its checksum compared, and the identity in the first one has to be
// what was announced, before the store sees any of it. Of the rest of a stream that
// is carried on, nobody here has seen the beginning, with its version: the heads
// and checksums of its commands are looked at, and that END is the last. The store
// knows where it stands, and takes the commands apart itself.

// errUncommitted says that a client has ended a stream without asking for it to
// be committed.
var errUncommitted = errors.New("the client has given the transfer up")

// create takes a stream in.
func (s *server) create(ctx context.Context, call *wire.Call, q *request) (_ answer, err error) {
	sink, err := able[store.Sink](s, q)
	if err != nil {
		return answer{}, err
	}
	want, err := q.announced()
	if err != nil {
		return answer{}, err
	}
	if err := s.permitParent(ctx, want.Edge); err != nil {
		return answer{}, err
	}
	out, err := sink.Create(ctx, want)
	if err != nil {
		return answer{}, err
	}
	committed := false
	defer func() {
		if closed := out.Close(); closed != nil && !committed {
			err = errors.Join(err, fmt.Errorf("abandoning %s: %w", want.Path, closed))
		}
	}()
	var first answer
	if r, ok := out.(store.Resumer); ok && r.Resumed() != (store.Mark{}) {
		first.Mark = markOf(r.Resumed())
	}
	if err := tell(ctx, call, first); err != nil {
		return answer{}, err
	}
	in := &incoming{ctx: ctx, call: call}
	runs, err := in.begin(want, first.Mark != nil)
	if err != nil {
		return answer{}, fmt.Errorf("receiving %s: %w", want.Path, err)
	}
	for {
		commands, err := runs.NextRun()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = s.permitClones(ctx, commands, want.Edge.To)
		}
		if err != nil {
			return answer{}, fmt.Errorf("receiving %s: %w", want.Path, err)
		}
		if _, err := out.Write(commands); err != nil {
			return answer{}, err
		}
	}
	if err := out.Commit(ctx); err != nil {
		return answer{}, err
	}
	committed = true
	s.note(want)
	s.log.Info("received", "snapshot", want.Path, "uuid", want.Edge.To)
	return answer{}, nil
}

// note remembers what this client has made.
func (s *server) note(want store.Want) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[want.Path] = want.Edge.To
	s.fresh[want.Edge.To] = true
}

// runner hands out whole commands that have been checked, and io.EOF after the
// last one.
type runner interface{ NextRun() ([]byte, error) }

// incoming is the data of a call. It ends, with io.EOF, where the client says
// that all has been sent.
type incoming struct {
	ctx  context.Context
	call *wire.Call
	over error
}

// begin waits for the client to have heard where the stream begins, and returns
// what checks it.
func (in *incoming) begin(want store.Want, resumed bool) (runner, error) {
	told, err := hear(in.ctx, in.call)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errUncommitted
	case err != nil:
		return nil, err
	case told.Commit:
		return nil, errors.New("the client has asked for a commit before it has sent anything")
	case resumed:
		return &rest{in: bufio.NewReaderSize(in, longestCommand)}, nil
	}
	r := stream.NewReader(in)
	id, err := r.Identity()
	if err != nil {
		return nil, err
	}
	return r, checkIdentity(id, want)
}

func (in *incoming) Read(p []byte) (int, error) {
	for in.over == nil {
		n, err := in.call.Read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			in.over = err
			break
		}
		switch told, err := hear(in.ctx, in.call); {
		case errors.Is(err, io.EOF):
			in.over = errUncommitted
		case err != nil:
			in.over = err
		case told.Commit:
			in.over = io.EOF
		default:
			in.over = errors.New("the client has sent an instruction in the middle of a stream")
		}
	}
	return 0, in.over
}

// checkIdentity compares what a stream says of itself with what was announced.
func checkIdentity(id stream.Identity, want store.Want) error {
	found := snapshot.Edge{To: id.UUID}
	if id.HasParent {
		found.From = id.Parent
	}
	switch {
	case found != want.Edge || id.HasParent == want.Edge.IsFull():
		return fmt.Errorf("the stream makes %s, and %s was announced", edgeText(found), edgeText(want.Edge))
	case want.Transid != 0 && id.Transid != want.Transid:
		return fmt.Errorf("the stream is of transaction %d of the snapshot, and %d was announced", id.Transid, want.Transid)
	case id.HasParent && want.FromTransid != 0 && id.ParentTransid != want.FromTransid:
		return fmt.Errorf("the stream starts from transaction %d of its parent, and %d was announced", id.ParentTransid, want.FromTransid)
	}
	return nil
}

// edgeText names an edge for people.
func edgeText(e snapshot.Edge) string {
	if e.IsFull() {
		return fmt.Sprintf("%s in full", e.To)
	}
	return fmt.Sprintf("%s from %s", e.To, e.From)
}

const (
	// longestCommand is how long a command may be, as package stream has it.
	longestCommand = 1 << 20
	// commandHead is the length of a command's head: its length without the head in
	// four bytes, its kind in two, its checksum in four (fs/btrfs/send.h, struct
	// btrfs_cmd_header).
	commandHead = 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// rest takes what follows some place in a stream apart into commands. Their
// checksums are compared, and END has to be the last one. That nothing follows at
// all may be right: then END was before the place.
type rest struct {
	in    *bufio.Reader
	run   int // bytes at the front of the buffer that were handed out
	bytes int64
	ended bool
	err   error
}

// NextRun returns the next whole commands, valid until it is called again.
func (r *rest) NextRun() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	_, _ = r.in.Discard(r.run)
	r.run = 0
	for {
		// Only the first command of a run is waited for.
		n, err := r.command(r.run, r.run == 0)
		if n == 0 && r.run > 0 {
			break // a bad command is met again by the next call
		}
		if err != nil {
			r.err = err
			if !errors.Is(err, io.EOF) {
				r.err = fmt.Errorf("at byte %d of what is carried on: %w", r.bytes, err)
			}
			return nil, r.err
		}
		r.run += n
		r.bytes += int64(n)
	}
	run, _ := r.in.Peek(r.run)
	return run, nil
}

// command looks at the command that begins at some byte of the buffer and returns
// its length. Without wait it returns zero if the command has not been read yet.
func (r *rest) command(at int, wait bool) (int, error) {
	if r.ended {
		if !wait {
			return 0, nil
		}
		if _, err := r.in.Peek(1); err != nil {
			return 0, err
		}
		return 0, stream.ErrTrailing
	}
	if !wait && r.in.Buffered() < at+commandHead {
		return 0, nil
	}
	head, err := r.in.Peek(at + commandHead)
	if errors.Is(err, io.EOF) && (len(head) > 0 || r.bytes > 0) {
		err = stream.ErrTruncated
	}
	if err != nil {
		return 0, err
	}
	head = head[at:]
	n := int64(commandHead) + int64(binary.LittleEndian.Uint32(head))
	if n > longestCommand {
		return 0, stream.ErrTooLong
	}
	if !wait && int64(r.in.Buffered()) < int64(at)+n {
		return 0, nil
	}
	whole, err := r.in.Peek(at + int(n))
	if errors.Is(err, io.EOF) {
		err = stream.ErrTruncated
	}
	if err != nil {
		return 0, err
	}
	whole = whole[at:]
	// The checksum is of the command with zeros in place of it, begun with zero and
	// not inverted.
	var plain [commandHead]byte
	copy(plain[:6], whole)
	sum := ^crc32.Update(crc32.Update(^uint32(0), castagnoli, plain[:]), castagnoli, whole[commandHead:])
	if sum != binary.LittleEndian.Uint32(whole[6:]) {
		return 0, stream.ErrChecksum
	}
	switch stream.Kind(binary.LittleEndian.Uint16(whole[4:])) {
	case stream.Subvol, stream.Snapshot:
		return 0, fmt.Errorf("%w: another snapshot begins", stream.ErrMalformed)
	case stream.End:
		r.ended = true
	}
	return int(n), nil
}
