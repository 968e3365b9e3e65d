package transfer

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// position is one step on its way. It belongs to the goroutine of its stream,
// but for what run needs of it.
type position struct {
	run    *run
	index  int
	step   plan.Step
	result *Result
	ahead  *ahead // its stream, if that was opened ahead
	fresh  bool   // what an interrupted transfer has left is of no use
	shown  time.Time

	// Of the run.
	slots       int
	receipt     int64
	silentSince time.Duration // the movement after which it is silent
	due         time.Duration // the silence at which an event is due

	// Of both.
	place atomic.Int64 // in the stream
	spare atomic.Int64 // bytes that have not had to be stored again
	tried atomic.Int32 // tries
	party atomic.Int32
	moved atomic.Int64 // when, as time since the run began
}

// tell sends an event about this step. Only the goroutine that called Run may.
func (p *position) tell(e Event) {
	e.Step, e.Action, e.To, e.From, e.Path = p.index+1, p.step.Action, p.step.Edge.To, p.step.Edge.From, p.step.Path
	e.Bytes, e.Skipped, e.Try = p.place.Load(), p.spare.Load(), int(p.tried.Load())
	if size := p.step.Size; size.Known {
		e.Expected, e.Exact = size.Bytes, size.Exact
	}
	p.run.tell(e)
}

// emit has an event about this step sent.
func (p *position) emit(e Event) {
	if p.run.Events != nil {
		p.run.call(func() { p.tell(e) })
	}
}

// carryOut does the step, with as many tries as it takes, and closes its
// receipt.
func (p *position) carryOut(ctx context.Context) {
	res := p.result
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: time.Second, Multiplier: 4, MaxInterval: time.Minute, RandomizationFactor: 0.5,
	}
	pauses.Reset()
	for {
		res.Tries++
		p.tried.Store(int32(res.Tries))
		p.reset()
		again, err := p.try(ctx)
		res.Err = err
		p.await(nobody)
		if err == nil || !again || p.run.once || res.Tries == tries || ctx.Err() != nil {
			break
		}
		wait := pauses.NextBackOff()
		p.emit(Event{Kind: Retry, Error: err.Error(), Wait: wait})
		if !sleep(ctx, wait) {
			break
		}
	}
	res.Ended = time.Now()
	res.Bytes, res.Skipped = p.place.Load(), p.spare.Load()

	last := Event{}
	switch {
	case res.Err == nil:
		res.Outcome = Committed
	case ctx.Err() != nil:
		res.Outcome, res.Err = Interrupted, fmt.Errorf("%w, while %w", context.Cause(ctx), res.Err)
		last.Error = res.Err.Error()
	default:
		res.Outcome = Failed
		last.Error = res.Err.Error()
	}
	last.Kind = res.Outcome
	p.run.call(func() {
		p.end()
		p.run.settle(p)
		p.tell(last)
	})
}

// reset goes back to the start of the stream.
func (p *position) reset() {
	p.place.Store(0)
	p.spare.Store(0)
	p.result.Stats, p.result.Resumed = stream.Stats{}, 0
}

// sleep waits, and reports whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// try does the step once, and tells whether an error may go away.
func (p *position) try(ctx context.Context) (again bool, err error) {
	switch p.step.Action {
	case plan.Copy:
		err = p.copy(ctx)
		return store.Temporary(err), err
	case plan.Send:
		return p.send(ctx)
	}
	return false, fmt.Errorf("a step to %q: no such action", p.step.Action)
}

func (p *position) want() store.Want {
	return store.Want{
		Edge: p.step.Edge, Path: p.step.Path, Size: p.step.Size, Fresh: p.fresh,
		Transid: p.step.Snapshot.Transid, FromTransid: p.step.Parent.Transid,
	}
}

func (p *position) copy(ctx context.Context) error {
	to, ok := p.run.Destination.(store.Copier)
	if !ok {
		return fmt.Errorf("%s cannot copy a snapshot in", p.run.Destination)
	}
	p.await(copying)
	if err := to.Copy(ctx, p.want()); err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	return nil
}

// begin opens the step's receipt.
func (p *position) begin() {
	if p.run.Ledger == nil {
		return
	}
	id, err := p.run.Ledger.Begin(ledger.Receipt{
		Source: p.run.Source.String(), Destination: p.run.Destination.String(),
		Edge: p.step.Edge, Path: p.step.Path, Begun: p.result.Begun,
	})
	if err != nil {
		p.distrust(err)
		return
	}
	p.receipt = id
}

// end closes it.
func (p *position) end() {
	if p.receipt == 0 || p.run.Ledger == nil {
		return
	}
	res := p.result
	o := ledger.Outcome{
		Result: ledger.Done, Bytes: res.Bytes, Commands: res.Stats.Commands, Ended: res.Ended,
	}
	switch res.Outcome {
	case Failed:
		o.Result, o.Message = ledger.Failed, res.Err.Error()
	case Interrupted:
		o.Result, o.Message = ledger.Interrupted, res.Err.Error()
	}
	if err := p.run.Ledger.End(p.receipt, o); err != nil {
		p.distrust(err)
	}
}

// distrust gives the ledger up for the rest of the run: it may take seconds to
// fail, and it says the same every time.
func (p *position) distrust(err error) {
	p.run.Ledger = nil
	p.tell(Event{Kind: Warning, Error: err.Error()})
}
