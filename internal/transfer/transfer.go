// Package transfer carries out the steps of a plan: it takes each stream from
// the source, looks at every byte of it on the way, and gives it to the
// destination.
//
// It knows what a whole and sound stream is (package stream), and nothing of
// what lies beneath a store. It decides nothing about what to send, and draws
// nothing: what happens goes out as [Event] values.
//
// # Invariants
//
//   - Only whole commands whose checksums are right reach a sink, and only after
//     the stream's first command has shown the identities of the edge.
//   - A stream is committed only after its END command and a clean end. Every
//     other way out of a step abandons what was written.
//   - A step is Committed in the report exactly when the destination's Commit
//     or Copy returned success.
//   - Steps run one after another. A step whose parent was not transferred is
//     not tried; all others are.
//   - Run leaves no goroutine behind, and starts none.
//
// The memory in use is the stream reader's buffer and what the sink takes for
// itself, whatever the size of the stream.
//
//	report := transfer.Run(ctx, p.Steps, transfer.Options{Source: src, Destination: dst, Ledger: l, Events: show})
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

const (
	// tries is how often a step is begun before it has failed.
	tries = 3
	// progressEvery is the least time between two Progress events.
	progressEvery = 200 * time.Millisecond
)

// Ledger is where receipts are kept; *ledger.Ledger is one.
type Ledger interface {
	Begin(r ledger.Receipt) (int64, error)
	End(id int64, o ledger.Outcome) error
}

// Options are the parties of a run.
type Options struct {
	// Source has to be a store.Source if there is anything to send, and
	// Destination a store.Sink; for steps that copy, a store.Copier.
	Source, Destination store.Store
	// Ledger gets a receipt for each step that is begun. One that fails gives a
	// Warning, is not asked again, and stops nothing. It may be nil.
	Ledger Ledger
	// Parallel is how many streams may be on their way at a time; 0 and 1 are
	// one.
	Parallel int
	// Events is called for every event, from the goroutine that called Run,
	// which waits for it. It may be nil.
	Events func(Event)
}

// Run carries out steps in their order, and reports on each. When ctx ends, the
// step that is going on is abandoned at once and no further one is begun.
//
// A step that fails with an error that may go away (store.Temporary), or
// because the source's stream came damaged, which happens to a live source when
// the machine sleeps in the middle of it, is begun again from its start: three
// tries in all, with growing pauses between them.
func Run(ctx context.Context, steps []plan.Step, o Options) *Report {
	r := &run{Options: o, steps: steps, undone: map[snapshot.ID]string{}}
	report := &Report{Results: make([]Result, len(steps))}
	for i, step := range steps {
		res := &report.Results[i]
		res.Step = step
		at := &position{run: r, number: i + 1, step: step, result: res}
		parent, missing := r.undone[step.Edge.From]
		switch {
		case ctx.Err() != nil:
			res.Outcome, res.Err = Skipped, context.Cause(ctx)
		case missing && !step.Edge.IsFull():
			res.Outcome, res.Err = Skipped, &DependencyError{Path: parent}
			at.emit(Event{Kind: Skipped, Error: res.Err.Error()})
		default:
			at.carryOut(ctx)
		}
		// What could not be copied in is on the destination's file system all
		// the same, and can be a parent.
		if res.Outcome != Committed && step.Action != plan.Copy {
			r.undone[step.Edge.To] = step.Path
		}
	}
	if o.Events != nil {
		o.Events(Event{Kind: Done, Time: time.Now(), Steps: len(steps), Bytes: report.Bytes()})
	}
	return report
}

// run is what the steps of one Run share.
type run struct {
	Options
	steps []plan.Step
	// undone holds the path of each snapshot whose step was not committed.
	undone map[snapshot.ID]string
	shown  time.Time // when the last Progress went out
}

// position is one step on its way.
type position struct {
	*run
	number int
	step   plan.Step
	result *Result
}

// emit sends an event about this step.
func (p *position) emit(e Event) {
	if p.Events == nil {
		return
	}
	e.Time, e.Step, e.Steps = time.Now(), p.number, len(p.steps)
	e.Action, e.To, e.From, e.Path = p.step.Action, p.step.Edge.To, p.step.Edge.From, p.step.Path
	e.Bytes, e.Try = p.result.Bytes, p.result.Tries
	if p.step.Size.Known {
		e.Expected, e.Exact = p.step.Size.Bytes, p.step.Size.Exact
	}
	p.Events(e)
}

// carryOut does the step, with as many tries as it takes, between the opening
// and the closing of its receipt.
func (p *position) carryOut(ctx context.Context) {
	res := p.result
	res.Begun = time.Now()
	receipt := p.begin()
	p.emit(Event{Kind: StepBegun, Reason: p.step.Reason})

	pauses := &backoff.ExponentialBackOff{
		InitialInterval: time.Second, Multiplier: 4, MaxInterval: time.Minute, RandomizationFactor: 0.5,
	}
	pauses.Reset()
	for {
		res.Tries++
		res.Bytes, res.Stats = 0, stream.Stats{}
		again, err := p.try(ctx)
		res.Err = err
		if err == nil || !again || res.Tries == tries || ctx.Err() != nil {
			break
		}
		wait := pauses.NextBackOff()
		p.emit(Event{Kind: Retry, Error: err.Error(), Wait: wait})
		if !sleep(ctx, wait) {
			break
		}
	}
	res.Ended = time.Now()

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
	p.end(receipt)
	p.emit(last)
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
	if p.step.Action == plan.Copy {
		err = p.copy(ctx)
		return store.Temporary(err), err
	}
	if p.step.Action != plan.Send {
		return false, fmt.Errorf("a step to %q: no such action", p.step.Action)
	}
	damaged, err := p.send(ctx)
	return damaged || store.Temporary(err), err
}

func (p *position) want() store.Want {
	return store.Want{
		Edge: p.step.Edge, Path: p.step.Path, Size: p.step.Size,
		Transid: p.step.Snapshot.Transid, FromTransid: p.step.Parent.Transid,
	}
}

func (p *position) copy(ctx context.Context) error {
	to, ok := p.Destination.(store.Copier)
	if !ok {
		return fmt.Errorf("%s cannot copy a snapshot in", p.Destination)
	}
	if err := to.Copy(ctx, p.want()); err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	return nil
}

// send carries one stream. Damaged is set where it was the source's stream that
// was bad, in a way that another stream of the same edge may not be.
func (p *position) send(ctx context.Context) (damaged bool, err error) {
	from, ok := p.Source.(store.Source)
	if !ok {
		return false, fmt.Errorf("%s cannot give streams", p.Source)
	}
	to, ok := p.Destination.(store.Sink)
	if !ok {
		return false, fmt.Errorf("%s cannot take streams", p.Destination)
	}

	in, err := from.Open(ctx, store.Request{Edge: p.step.Edge})
	if err != nil {
		return false, fmt.Errorf("opening the stream: %w", err)
	}
	// Its error is no verdict: a stream that came to its END is whole.
	defer in.Close()
	tap := stream.NewReader(in)
	id, err := tap.Identity()
	if err != nil {
		return isDamage(err), err // it says itself where it happened
	}
	if err := p.check(id); err != nil {
		return false, err
	}

	out, err := to.Create(ctx, p.want())
	if err != nil {
		return false, err // it says itself what was to be created
	}
	committed := false
	defer func() {
		if closed := out.Close(); closed != nil && !committed {
			err = errors.Join(err, fmt.Errorf("abandoning: %w", closed))
		}
	}()
	for {
		commands, err := tap.NextRun()
		p.result.Stats = tap.Stats()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return isDamage(err), err
		}
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("writing: %w", err)
		}
		n, err := out.Write(commands)
		p.result.Bytes += int64(n)
		if err == nil && n < len(commands) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return false, fmt.Errorf("writing: %w", err)
		}
		p.progress(tap)
	}
	if err := out.Commit(ctx); err != nil {
		return false, fmt.Errorf("committing: %w", err)
	}
	committed = true
	return false, nil
}

func (p *position) progress(tap *stream.Reader) {
	if now := time.Now(); now.Sub(p.shown) >= progressEvery {
		p.shown = now
		p.emit(Event{Kind: Progress, File: tap.Path()})
	}
}

// check compares what a stream says of itself with the step.
func (p *position) check(id stream.Identity) error {
	found := snapshot.Edge{To: id.UUID}
	if id.HasParent {
		found.From = id.Parent
	}
	want := p.want()
	switch {
	case found != want.Edge || id.HasParent == want.Edge.IsFull():
		return &IdentityError{Want: edgeText(want.Edge), Found: edgeText(found)}
	case want.Transid != 0 && id.Transid != want.Transid:
		return &IdentityError{Want: stateText(want.Edge.To, want.Transid), Found: stateText(want.Edge.To, id.Transid)}
	case id.HasParent && want.FromTransid != 0 && id.ParentTransid != want.FromTransid:
		return &IdentityError{Want: stateText(want.Edge.From, want.FromTransid), Found: stateText(want.Edge.From, id.ParentTransid)}
	}
	return nil
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

// begin opens the step's receipt.
func (p *position) begin() int64 {
	if p.Ledger == nil {
		return 0
	}
	id, err := p.Ledger.Begin(ledger.Receipt{
		Source: p.Source.String(), Destination: p.Destination.String(),
		Edge: p.step.Edge, Path: p.step.Path, Begun: p.result.Begun,
	})
	if err != nil {
		p.distrust(err)
		return 0
	}
	return id
}

// end closes it.
func (p *position) end(receipt int64) {
	if receipt == 0 {
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
	if err := p.Ledger.End(receipt, o); err != nil {
		p.distrust(err)
	}
}

// distrust gives the ledger up for the rest of the run: it may take seconds to
// fail, and it says the same every time.
func (p *position) distrust(err error) {
	p.Ledger = nil
	p.emit(Event{Kind: Warning, Error: err.Error()})
}
