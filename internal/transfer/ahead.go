package transfer

import (
	"context"
	"slices"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/store"
)

// ahead is the stream of a step that has not begun. Opening it needs nothing of
// the destination, so it can be done while the destination commits the step
// before.
type ahead struct {
	*position
	request store.Request
	stream  chan *opened
	ctx     context.Context
	drop    context.CancelFunc // closes the stream, taken or not
}

// lookAhead opens the stream of the step that can begin when p, which is about
// to commit, has been committed.
func (r *run) lookAhead(p *position) {
	from, ok := r.streams()
	if !ok || r.ahead != nil || r.ctx.Err() != nil {
		return
	}
	for i := r.first; i < len(r.steps); i++ {
		if r.stages[i] != waiting || r.waits(i, p.index) {
			continue
		}
		if _, missing := r.parentMissing(i); missing {
			continue
		}
		if r.steps[i].Action == plan.Send {
			r.open(i, from)
		}
		return
	}
}

// open opens the stream of a step.
func (r *run) open(i int, from store.Source) {
	a := &ahead{position: r.position(i), request: r.request(i), stream: make(chan *opened)}
	a.ctx, a.drop = context.WithCancel(r.ctx)
	r.ahead = a
	r.alive.Go(func() {
		s := a.open(a.ctx, from, a.request)
		select {
		case a.stream <- s:
		case <-a.ctx.Done():
			s.close()
		}
	})
}

// take returns the stream that was opened ahead for a request; nil if there is
// none. It is good until the second result is called.
func (p *position) take(request store.Request) (*opened, func()) {
	a := p.ahead
	if p.ahead = nil; a == nil {
		return nil, func() {}
	}
	if !slices.Equal(a.request.Clones, request.Clones) {
		a.drop()
		return nil, func() {}
	}
	select {
	case s := <-a.stream:
		return s, a.drop
	case <-a.ctx.Done():
		return nil, a.drop
	}
}
