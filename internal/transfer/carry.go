package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// send carries the step's stream, and tells whether an error may go away.
func (p *position) send(ctx context.Context) (again bool, err error) {
	from, ok := p.run.streams()
	if !ok {
		return false, fmt.Errorf("%s cannot give streams", p.run.Source)
	}
	to, ok := p.run.Destination.(store.Sink)
	if !ok {
		return false, fmt.Errorf("%s cannot take streams", p.run.Destination)
	}
	for anew := false; ; anew = true {
		damaged, err := p.carry(ctx, from, to)
		// Once in a try, since nothing is carried on then: who says it again means
		// something else by it.
		if anew || p.run.once || !errors.Is(err, store.ErrAnother) || ctx.Err() != nil {
			return damaged || store.Temporary(err), err
		}
		p.fresh = true
		p.emit(Event{Kind: Retry, Error: store.ErrAnother.Error()})
		p.reset()
	}
}

// opened is a stream whose first command has been read, or why there is none.
type opened struct {
	in     io.ReadCloser
	tap    *stream.Reader
	length snapshot.Size // if the source knows it
	err    error
	// damaged is set where it was the source's stream that was bad, in a way
	// that another stream of the same edge may not be.
	damaged bool
}

// close ends the stream. Its error is no verdict: a stream that came to its END
// is whole.
func (s *opened) close() {
	if s.in != nil {
		_ = s.in.Close()
		s.in = nil
	}
}

// open asks the source for the stream, and looks whether it is the right one.
func (p *position) open(ctx context.Context, from store.Source, request store.Request) *opened {
	in, err := from.Open(ctx, request)
	if err != nil {
		return &opened{err: fmt.Errorf("opening the stream: %w", err)}
	}
	s := &opened{in: &watched{in, p}}
	if l, ok := in.(store.Lengthy); ok {
		s.length = l.Length()
	}
	s.tap = stream.NewReader(s.in)
	id, err := s.tap.Identity()
	if err != nil {
		s.err, s.damaged = err, isDamage(err) // it says itself where it happened
		return s
	}
	s.err = p.check(id)
	return s
}

// carry carries one stream. Damaged is that of opened.
func (p *position) carry(ctx context.Context, from store.Source, to store.Sink) (damaged bool, err error) {
	p.await(source)
	in, drop := p.take(p.result.Request)
	defer drop()
	if in == nil {
		in = p.open(ctx, from, p.result.Request)
	}
	defer in.close()
	if in.err != nil {
		return in.damaged, in.err
	}
	p.expect(in.length)

	p.await(destination)
	out, err := to.Create(ctx, p.want())
	if err != nil {
		return false, err // it says itself what was to be created
	}
	committed := false
	defer func() {
		if !committed {
			p.await(abandoning)
		}
		if closed := out.Close(); closed != nil && !committed {
			err = errors.Join(err, fmt.Errorf("abandoning: %w", closed))
		}
	}()
	if damaged, err := p.resume(ctx, from, in, out); err != nil {
		return damaged, err
	}
	damaged, err = p.write(ctx, in.tap, out)
	if err != nil {
		return damaged, err
	}
	in.close()
	p.await(commit)
	p.run.calls <- func() { p.run.lookAhead(p) }
	if err := out.Commit(ctx); err != nil {
		return false, fmt.Errorf("committing: %w", err)
	}
	committed = true
	p.save(out)
	return false, nil
}

// expect notes what the source says about the length of its stream, which may
// be better than what was planned with: an archive plans with what it stores.
func (p *position) expect(length snapshot.Size) {
	if !length.Known || length == p.step.Size {
		return
	}
	p.run.call(func() {
		p.run.total.remove(sizeOf(p.step))
		p.step.Size = length
		p.run.total.add(length)
	})
}

// save notes what the destination has not had to store again.
func (p *position) save(out store.Writer) {
	if s, ok := out.(store.Skipper); ok {
		p.spare.Store(s.Skipped())
	}
}

// resume leaves out what the destination has already of an interrupted
// transfer, once it is sure that it has it of this stream.
func (p *position) resume(ctx context.Context, from store.Source, in *opened, out store.Writer) (damaged bool, err error) {
	var mark store.Mark
	if r, ok := out.(store.Resumer); ok {
		mark = r.Resumed()
	}
	fresh := p.fresh
	p.fresh = false
	if mark == (store.Mark{}) {
		return false, nil
	}
	if fresh {
		return false, errors.New("the destination carries on with what it was asked to begin anew")
	}
	if c, ok := from.(store.Continuer); ok {
		err = p.leap(ctx, c, in, mark)
		damaged = isDamage(err)
	} else {
		damaged, err = p.compare(ctx, in.tap, mark)
	}
	if err != nil {
		return damaged, err
	}
	if store.Mark(in.tap.Mark()) != mark {
		return false, store.ErrAnother
	}
	p.result.Resumed = mark.Offset
	p.emit(Event{Kind: Resumed})
	return false, nil
}

// compare reads the stream up to a mark.
func (p *position) compare(ctx context.Context, tap *stream.Reader, mark store.Mark) (damaged bool, err error) {
	for tap.Stats().Bytes < mark.Offset {
		p.party.Store(int32(source))
		_, err := tap.NextRunTo(mark.Offset)
		p.arrive(tap)
		if err == io.EOF {
			return false, store.ErrAnother
		}
		if err != nil {
			return isDamage(err), err
		}
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("comparing with what has arrived: %w", err)
		}
		p.progress(tap, true)
	}
	return false, nil
}

// leap has the source leave out what is before a mark, in place of the stream
// from its start.
func (p *position) leap(ctx context.Context, from store.Continuer, in *opened, mark store.Mark) error {
	in.close()
	p.await(source)
	rest, state, err := from.OpenAfter(ctx, p.result.Request, mark)
	if err != nil {
		return fmt.Errorf("opening the rest of the stream: %w", err)
	}
	in.in = &watched{rest, p}
	if in.tap, err = stream.Continue(in.in, state); err != nil {
		return fmt.Errorf("opening the rest of the stream: %w", err)
	}
	p.arrive(in.tap)
	id, err := in.tap.Identity()
	if err != nil {
		return err
	}
	return p.check(id)
}

// write carries the stream from where it is to its end.
func (p *position) write(ctx context.Context, tap *stream.Reader, out store.Writer) (damaged bool, err error) {
	for {
		p.party.Store(int32(source))
		commands, err := tap.NextRun()
		p.result.Stats = tap.Stats()
		if err == io.EOF { // one that is wrapped is somebody's trouble, and no end
			return false, nil
		}
		if err != nil {
			return isDamage(err), err
		}
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("writing: %w", err)
		}
		p.party.Store(int32(destination))
		n, err := out.Write(commands)
		p.place.Add(int64(n))
		p.save(out)
		if err == nil && n < len(commands) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return false, fmt.Errorf("writing: %w", err)
		}
		p.progress(tap, false)
	}
}

// arrive notes how far a stream has been read that is not written.
func (p *position) arrive(tap *stream.Reader) {
	p.result.Stats = tap.Stats()
	p.place.Store(p.result.Stats.Bytes)
}

func (p *position) progress(tap *stream.Reader, comparing bool) {
	now := time.Now()
	p.moved.Store(int64(now.Sub(p.run.begun)))
	if now.Sub(p.shown) >= progressEvery {
		p.shown = now
		p.emit(Event{Kind: Progress, File: tap.Path(), Comparing: comparing})
	}
}

// check compares what a stream says of itself with the step.
func (p *position) check(id stream.Identity) error {
	found := snapshot.Edge{To: id.UUID}
	if id.HasParent {
		found.From = id.Parent
	}
	want, to, from := p.step.Edge, p.step.Snapshot.Transid, p.step.Parent.Transid
	switch {
	case found != want || id.HasParent == want.IsFull():
		return &IdentityError{Want: edgeText(want), Found: edgeText(found)}
	case to != 0 && id.Transid != to:
		return &IdentityError{Want: stateText(want.To, to), Found: stateText(want.To, id.Transid)}
	case id.HasParent && from != 0 && id.ParentTransid != from:
		return &IdentityError{Want: stateText(want.From, from), Found: stateText(want.From, id.ParentTransid)}
	case id.HasParent && from == 0 && p.elsewhere(id.ParentTransid):
		return &store.ParentError{ID: want.From, Path: p.step.Parent.Path, Why: "has been changed on the source since it was sent"}
	}
	return nil
}

// elsewhere reports whether the parent has been changed since the destination got
// it, of a source that learns of the transaction number only by the stream. One that
// was made there and never changed is the same everywhere, however its copies came
// about.
func (p *position) elsewhere(transid uint64) bool {
	parent, held := p.step.Parent, p.step.Held
	return !parent.Received && parent.Generation != 0 && transid != parent.Generation && held.Transid != 0 && transid != held.Transid
}

func edgeText(e snapshot.Edge) string {
	if e.IsFull() {
		return fmt.Sprintf("%s in full", e.To)
	}
	return fmt.Sprintf("%s from %s", e.To, e.From)
}

func stateText(id snapshot.ID, transid uint64) string {
	return fmt.Sprintf("%s at transaction %d", id, transid)
}

// isDamage reports whether a stream broke off or broke in the middle, as those
// of a live source do when the machine sleeps. Other faults would be there
// again.
func isDamage(err error) bool {
	return errors.Is(err, stream.ErrRestarted) || errors.Is(err, stream.ErrChecksum) || errors.Is(err, stream.ErrTruncated)
}
