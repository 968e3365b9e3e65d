package transfer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// run is what the steps of one Run share. Only the goroutine that called Run
// touches it; the others have it do what concerns all by calls.
type run struct {
	Options
	ctx    context.Context
	steps  []plan.Step
	report *Report
	begun  time.Time
	needs  [][]int     // for each step, the earlier ones that make what it starts from
	stages []stage     // of each step
	first  int         // all steps before it have ended
	free   int         // slots
	active []*position // on their way, in the order in which they began
	ahead  *ahead      // the stream that is opened ahead, if any
	total  total
	mute   bool // no events any more

	calls chan func()
	alarm *time.Timer
	alive sync.WaitGroup // the goroutines of the streams
}

// stage is how far a step has come.
type stage uint8

const (
	waiting stage = iota
	running
	ended
)

func newRun(ctx context.Context, steps []plan.Step, o Options) *run {
	o.Parallel = max(o.Parallel, 1)
	if o.StallAfter <= 0 {
		o.StallAfter = stallAfter
	}
	r := &run{
		Options: o, ctx: ctx, steps: steps, report: &Report{Results: make([]Result, len(steps))}, begun: time.Now(),
		needs: needs(steps), stages: make([]stage, len(steps)), free: o.Parallel, calls: make(chan func()), alarm: time.NewTimer(o.StallAfter),
	}
	for i, s := range steps {
		r.report.Results[i].Step = s
		r.total.add(sizeOf(s))
	}
	return r
}

// needs finds, for each step, the earlier steps that make its parent and its
// clone sources.
func needs(steps []plan.Step) [][]int {
	made := map[snapshot.ID]int{}
	all := make([][]int, len(steps))
	for i, s := range steps {
		if j, ok := made[s.Edge.From]; ok && !s.Edge.IsFull() {
			all[i] = append(all[i], j)
		}
		for _, c := range s.Clones {
			if j, ok := made[c.ID]; ok {
				all[i] = append(all[i], j)
			}
		}
		made[s.Edge.To] = i
	}
	return all
}

// slots is how many of the run's slots a step takes.
func (r *run) slots(i int) int {
	if size := sizeOf(r.steps[i]); size.Known && size.Bytes <= small {
		return 1
	}
	return r.Parallel
}

// missing reports whether a step has ended without what others start from. What
// could not be copied in is on the destination's file system all the same, and
// can be a parent.
func (r *run) missing(i int) bool {
	return r.stages[i] == ended && r.report.Results[i].Outcome != Committed && r.steps[i].Action != plan.Copy
}

// parentMissing returns the path of a step's parent if that was to be made by an
// earlier step, and was not.
func (r *run) parentMissing(i int) (string, bool) {
	for _, j := range r.needs[i] {
		if r.missing(j) && r.steps[j].Edge.To == r.steps[i].Edge.From {
			return r.steps[j].Path, true
		}
	}
	return "", false
}

// waits reports whether a step has to wait for another one to end, apart from
// the one with the number except.
func (r *run) waits(i, except int) bool {
	return slices.ContainsFunc(r.needs[i], func(j int) bool { return j != except && r.stages[j] != ended })
}

// advance begins all steps that can begin, in their order, and settles those
// that never will.
func (r *run) advance() {
	over := r.ctx.Err() != nil
	for i := r.first; i < len(r.steps); i++ {
		switch {
		case r.stages[i] == ended && i == r.first:
			r.first++
		case r.stages[i] != waiting:
		case over:
			r.skip(i, context.Cause(r.ctx))
		case r.waits(i, -1):
		default:
			if path, missing := r.parentMissing(i); missing {
				err := &DependencyError{Path: path}
				p := r.skip(i, err)
				p.tell(Event{Kind: Skipped, Error: err.Error()})
				continue
			}
			if r.slots(i) > r.free {
				return // those behind it do not get in before it
			}
			r.begin(i)
		}
	}
}

// skip settles a step that is not tried.
func (r *run) skip(i int, err error) *position {
	p := r.position(i)
	p.result.Outcome, p.result.Err = Skipped, err
	r.settle(p)
	return p
}

// streams is where streams are opened, if the source has any.
func (r *run) streams() (store.Source, bool) {
	if fan, ok := r.Streams.(*FanRun); ok {
		return fan.source(), true
	}
	if r.Streams != nil {
		return r.Streams, true
	}
	from, ok := r.Source.(store.Source)
	return from, ok
}

// position prepares a step, which may have been prepared before.
func (r *run) position(i int) *position {
	if r.ahead != nil && r.ahead.index == i {
		return r.ahead.position
	}
	return &position{run: r, index: i, step: r.steps[i], result: &r.report.Results[i]}
}

// request is what a step asks of the source: its edge, with those of the clone
// sources that are there.
func (r *run) request(i int) store.Request {
	q := store.Request{Edge: r.steps[i].Edge}
	for _, c := range r.steps[i].Clones {
		if !slices.ContainsFunc(r.needs[i], func(j int) bool { return r.steps[j].Edge.To == c.ID && r.missing(j) }) {
			q.Clones = append(q.Clones, c.ID)
		}
	}
	return q
}

// begin sets a step going.
func (r *run) begin(i int) {
	p := r.position(i)
	if p.step.Action == plan.Send {
		p.result.Request = r.request(i)
	}
	p.result.Begun = time.Now()
	p.begin()
	p.tell(Event{Kind: StepBegun, Reason: p.step.Reason})
	if r.ahead != nil && r.ahead.index == i {
		p.ahead, r.ahead = r.ahead, nil
	}
	p.slots = r.slots(i)
	r.free -= p.slots
	r.stages[i] = running
	r.active = append(r.active, p)
	r.alive.Go(func() { p.carryOut(r.ctx) })
}

// settle writes down that a step is over, as its result says.
func (r *run) settle(p *position) {
	r.stages[p.index] = ended
	r.total.remove(sizeOf(p.step))
	if p.result.Outcome == Committed {
		r.total.add(snapshot.ExactSize(p.result.Bytes))
		r.total.done += p.result.Bytes
	}
	if i := slices.Index(r.active, p); i >= 0 {
		r.active = slices.Delete(r.active, i, i+1)
		r.free += p.slots
	}
	if r.ahead != nil && r.ahead.index == p.index {
		r.ahead.drop()
		r.ahead = nil
	}
}

// call has the goroutine that called Run do something, and returns when it is
// done.
func (r *run) call(do func()) {
	done := make(chan struct{})
	r.calls <- func() {
		defer close(done)
		do()
	}
	<-done
}

// serve does one thing for the streams on their way, or looks for those that
// have stalled.
func (r *run) serve() {
	if r.Events != nil {
		r.alarm.Reset(r.stalls())
	}
	select {
	case do := <-r.calls:
		do()
	case <-r.alarm.C:
	}
}

// finish waits until all that Run has begun is over.
func (r *run) finish() {
	r.alarm.Stop()
	for len(r.active) > 0 {
		(<-r.calls)()
	}
	if r.ahead != nil {
		r.ahead.drop()
		r.ahead = nil
	}
	r.alive.Wait()
}

// tell sends an event.
func (r *run) tell(e Event) {
	if r.Events == nil || r.mute {
		return
	}
	e.Time, e.Steps = time.Now(), len(r.steps)
	e.TotalBytes, e.TotalExpected, e.TotalKnown, e.TotalExact = r.total.with(r.active)
	r.Events(e)
}
