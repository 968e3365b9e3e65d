package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// Waiting is a stream in cold storage that cannot be read yet.
type Waiting struct {
	store.Thawing
	// Due is when it can be read at the latest, as a rule, once it has been asked
	// for; zero where that cannot be told.
	Due time.Time
}

// PendingError says that nothing has failed, and that streams that are wanted have
// been asked of cold storage and cannot be read yet. What could be done without
// them is done. The same call, later, goes on, from another machine too.
type PendingError struct {
	Source string
	// Wanted counts the snapshots that are to be at the destination, and Done those
	// that are; both are zero where nothing was to be transferred.
	Wanted, Done int
	// Waiting are the streams, in the order in which they are needed.
	Waiting []Waiting
}

func (e *PendingError) Error() string {
	text := fmt.Sprintf("%d streams that are needed are in cold storage at %s, and cannot be read yet", len(e.Waiting), e.Source)
	if len(e.Waiting) == 1 {
		text = fmt.Sprintf("a stream that is needed is in cold storage at %s, and cannot be read yet", e.Source)
	}
	if due := e.Due(); !due.IsZero() {
		text += ", but should be by " + due.Format("2006-01-02 15:04 MST")
	}
	return text
}

// Due is when all of them can be read at the latest, as a rule; zero where that
// cannot be told of each, or some have not been asked for.
func (e *PendingError) Due() time.Time {
	var last time.Time
	for _, w := range e.Waiting {
		if w.Due.IsZero() || w.State == store.Cold {
			return time.Time{}
		}
		if w.Due.After(last) {
			last = w.Due
		}
	}
	return last
}

// Is makes it store.ErrCold.
func (e *PendingError) Is(target error) bool { return target == store.ErrCold }

// CostError says that having streams back costs more than is allowed. Nothing has
// been asked for.
type CostError struct {
	Source string
	Limit  float64
	Tier   store.Tier
	// Cost is what it costs, about. Currency is empty where there are no prices, so
	// that the cost cannot be told.
	Cost     float64
	Currency string
}

func (e *CostError) Error() string {
	if e.Currency == "" {
		return fmt.Sprintf("what reading from %s costs cannot be told, since there are no prices for it, and the limit is %.2f", e.Source, e.Limit)
	}
	return fmt.Sprintf("reading from %s (%s) costs an estimated %.2f %s, and the limit is %.2f", e.Source, e.Tier, e.Cost, e.Currency, e.Limit)
}

// tierOf is the tier that is meant.
func tierOf(o store.ThawOptions) store.Tier { return cmp.Or(o.Tier, store.Bulk) }

// daysOf is how many days are meant.
func daysOf(o store.ThawOptions) int { return cmp.Or(o.Days, 7) }

// thawings tells how things stand at the source with the streams of the steps that
// send, in their order, and asks for those that are cold if o says so. It returns
// nil for a source where nothing can be cold.
func thawings(ctx context.Context, src store.Store, steps []plan.Step, o store.ThawOptions) ([]store.Thawing, error) {
	thawer, ok := src.(store.Thawer)
	if !ok {
		return nil, nil
	}
	var edges []snapshot.Edge
	for _, s := range steps {
		if s.Action == plan.Send {
			edges = append(edges, s.Edge)
		}
	}
	if len(edges) == 0 {
		return nil, nil
	}
	all, err := thawer.Thaw(ctx, edges, o)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(all) != len(edges) { // not even an answer
		return nil, fmt.Errorf("asking %s what can be read: %w", src, cmp.Or(err, errors.New("it does not tell of all that was asked for")))
	}
	return all, err
}

// stand finds out how things stand with the streams of a plan, and changes
// nothing. What cannot be told of a stream comes out when it is asked for.
func (e *Engine) stand(ctx context.Context, src store.Store, steps []plan.Step, o store.ThawOptions) ([]store.Thawing, error) {
	o.Ask = false
	all, err := thawings(ctx, src, steps, o)
	if err != nil && all != nil {
		e.log().Warn("not of every stream can be told whether it can be read", "store", src.String(), "error", err)
		err = nil
	}
	return all, err
}

// tooDear returns *CostError if having streams back costs more than is allowed.
func tooDear(src store.Store, r *Restoring, o store.ThawOptions, limit float64) error {
	if limit <= 0 || r == nil {
		return nil
	}
	cost, ok := r.Tiers[tierOf(o)]
	if !ok {
		// Asking for what there is not fails, and costs nothing; the others are asked for.
		if cost, ok = r.Partly[tierOf(o)]; !ok {
			return nil
		}
	}
	switch {
	case cost.Currency != "" && cost.Once > limit:
	case cost.Currency == "" || cost.Unpriced:
		cost.Currency = ""
	default:
		return nil
	}
	return &CostError{Source: src.String(), Limit: limit, Tier: tierOf(o), Cost: cost.Once, Currency: cost.Currency}
}

// waiting are the streams of all that cannot be read, with when they are due. A
// stream that has not been asked for is due as if it had been asked for now.
func (e *Engine) waiting(src store.Store, all []store.Thawing, o store.ThawOptions) (cold []Waiting) {
	for _, t := range all {
		if t.State != store.Readable {
			cold = append(cold, Waiting{t, e.due(src, t, o)})
		}
	}
	return cold
}

// due is when a stream can be read at the latest, as a rule.
func (e *Engine) due(src store.Store, t store.Thawing, o store.ThawOptions) time.Time {
	whose := tariff(src)
	if whose == nil {
		return time.Time{}
	}
	tier := t.Tier
	switch {
	case tier != "":
	case t.State == store.Pending:
		tier = store.Bulk // who has asked, and how, is not known: nothing takes longer
	default:
		tier = tierOf(o)
	}
	wait, err := e.prices().Thawing(placeOf(whose), t.Class, string(tier))
	if err != nil || wait.Most <= 0 {
		return time.Time{}
	}
	from := t.Asked
	if from.IsZero() {
		from = e.now()
	}
	return from.Add(wait.Most)
}

// frozen is what keeps steps of a plan from being carried out.
type frozen struct {
	all   []store.Thawing // of the steps that send, in their order
	steps map[int]error   // by the step's number from 0: why it has to wait
	err   error           // why some streams could not be asked for
}

// thaw asks for what is cold of a plan's streams, all at once, and finds out which
// of its steps have to wait: those whose streams cannot be read, and those that
// start from what one of them makes.
func (e *Engine) thaw(ctx context.Context, src store.Store, outlook *Outlook, o SyncOptions) (*frozen, error) {
	f := &frozen{all: outlook.Thawings, steps: map[int]error{}}
	if slices.ContainsFunc(f.all, func(t store.Thawing) bool { return t.State == store.Cold }) {
		ask := o.Thaw
		ask.Ask = true
		all, err := thawings(ctx, src, outlook.Steps, ask)
		if all == nil {
			return nil, err
		}
		f.all, f.err = all, err
		if err != nil {
			f.err = fmt.Errorf("asking cold storage for streams: %w", err)
		}
	}
	states := map[snapshot.Edge]store.Thawing{}
	for _, t := range f.all {
		states[t.Edge] = t
	}
	late := map[snapshot.ID]string{} // what is not made for now, with its path
	for i, s := range outlook.Steps {
		t, known := states[s.Edge]
		switch path, parent := late[s.Edge.From]; {
		case s.Action != plan.Send:
			continue
		case known && t.State != store.Readable:
			f.steps[i] = &waitError{fmt.Sprintf("its stream is in cold storage (%s)", cmp.Or(t.Class, "archived"))}
		case parent && !s.Edge.IsFull():
			f.steps[i] = &waitError{fmt.Sprintf("it starts from %s, whose stream is in cold storage", path)}
		default:
			continue
		}
		late[s.Edge.To] = s.Path
	}
	return f, nil
}

// waitError says why a step was left for another run.
type waitError struct{ why string }

func (e *waitError) Error() string { return e.why }

func (e *waitError) Is(target error) bool { return target == store.ErrCold }

// runnable are the steps that need not wait, and the number of each among all.
func (f *frozen) runnable(steps []plan.Step) (able []plan.Step, index []int) {
	if f == nil || len(f.steps) == 0 {
		return steps, nil
	}
	late := map[snapshot.ID]bool{}
	for i := range f.steps {
		late[steps[i].Edge.To] = true
	}
	for i, s := range steps {
		if f.steps[i] != nil {
			continue
		}
		s.Clones = slices.DeleteFunc(slices.Clone(s.Clones), func(c snapshot.Snapshot) bool { return late[c.ID] })
		able, index = append(able, s), append(index, i)
	}
	return able, index
}

// whole puts a report about the steps that need not wait into the order of all.
func (f *frozen) whole(steps []plan.Step, index []int, r *transfer.Report) *transfer.Report {
	if index == nil && len(r.Results) == len(steps) {
		return r
	}
	all := &transfer.Report{Results: make([]transfer.Result, len(steps))}
	for i, s := range steps {
		all.Results[i] = transfer.Result{Step: s, Outcome: transfer.Skipped, Err: f.steps[i]}
	}
	for i, x := range r.Results {
		x.Step = steps[index[i]]
		all.Results[index[i]] = x
	}
	return all
}

// waits reports whether a step was left for another run.
func waits(r transfer.Result) bool {
	_, ok := errors.AsType[*waitError](r.Err)
	return r.Outcome == transfer.Skipped && ok
}

// affordable returns *CostError if reading what the plan needs costs more than is
// allowed.
func (e *Engine) affordable(ctx context.Context, src store.Store, outlook *Outlook, o SyncOptions) error {
	if o.MaxCost <= 0 {
		return nil
	}
	return tooDear(src, e.restoring(ctx, src, outlook.Thawings, daysOf(o.Thaw)), o.Thaw, o.MaxCost)
}

// frozenMeanwhile reports whether streams turned out to be cold that could be read
// when they were looked at, which can happen once to each: readable copies expire.
func frozenMeanwhile(r *transfer.Report, before map[snapshot.Edge]bool) bool {
	again := false
	for _, x := range r.Results {
		if x.Outcome == transfer.Failed && errors.Is(x.Err, store.ErrCold) && !before[x.Step.Edge] {
			before[x.Step.Edge], again = true, true
		}
	}
	return again
}

// nothingDone is the report on steps that were not tried.
func nothingDone(steps []plan.Step, why error) *transfer.Report {
	r := &transfer.Report{Results: make([]transfer.Result, len(steps))}
	for i, s := range steps {
		r.Results[i] = transfer.Result{Step: s, Outcome: transfer.Skipped, Err: why}
	}
	return r
}

// pending gives the end of a run its right error where cold storage has kept it
// from doing all: err is what it is without that.
func (e *Engine) pending(src store.Store, report *SyncReport, cold *frozen, err error, o SyncOptions) error {
	if cold == nil || err == nil {
		return err
	}
	x, ok := errors.AsType[*IncompleteError](err)
	if !ok {
		return err
	}
	x.Waiting = e.waiting(src, cold.all, o.Thaw)
	if len(x.Waiting) > 0 && o.Waiting != nil {
		o.Waiting(x.Waiting)
	}
	if cold.err != nil {
		x.Failures = append(x.Failures, cold.err)
	}
	if len(x.Waiting) > 0 || cold.err != nil {
		x.Conflicts = false
	}
	if len(x.Waiting) == 0 || len(x.Failures) > 0 || x.Interrupted != nil {
		return err
	}
	return &PendingError{Source: report.Outlook.Source, Wanted: x.Wanted, Done: x.Done, Waiting: x.Waiting}
}
