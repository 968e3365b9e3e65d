package job

import (
	"context"
	"fmt"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// ThawOptions say what Thaw asks for. The functions may be nil.
type ThawOptions struct {
	Selection
	// DryRun asks for nothing.
	DryRun bool
	// Thaw, Wait and MaxCost are those of SyncOptions.
	Thaw    store.ThawOptions
	Wait    bool
	MaxCost float64
	// Planned is told what is going to be asked for, before any of it is.
	Planned func(*ThawReport)
	// Waiting is that of SyncOptions.
	Waiting func(all []Waiting)
}

// ThawReport is how things stand with what it takes to restore snapshots.
type ThawReport struct {
	Source string
	// Steps are what restores the snapshots into an empty directory, each after what
	// it starts from, and Thawings how things stand with their streams, in that order.
	Steps    []plan.Step
	Thawings []store.Thawing
	// Problems are the snapshots that cannot be restored. Excluded counts those that
	// an exclusion has dropped.
	Problems []plan.Problem
	Excluded int
	// Restoring is what it costs, about; nil where nobody bills it.
	Restoring *Restoring
	// Asked counts the streams that this run has asked for.
	Asked int
}

// Thaw asks for all streams that restoring the selected snapshots takes, into an
// empty directory, and fetches none. It fails with *NoSnapshotsError, *UnableError
// or *CostError before anything is asked for; with *PendingError if all have been
// asked for and some cannot be read yet; and with *IncompleteError if some could not
// be asked for, or some snapshots cannot be restored at all. It takes no lock.
func (e *Engine) Thaw(ctx context.Context, src store.Store, o ThawOptions) (*ThawReport, error) {
	if _, ok := src.(store.Thawer); !ok {
		return nil, &UnableError{Store: src.String(), Verb: "have anything in cold storage"}
	}
	report, wanted, err := e.thawPlan(ctx, src, o)
	if err != nil {
		return nil, err
	}
	report.Restoring = e.restoring(ctx, src, report.Thawings, daysOf(o.Thaw))
	if o.Planned != nil {
		o.Planned(report)
	}
	if err := tooDear(src, report.Restoring, o.Thaw, o.MaxCost); err != nil {
		return report, err
	}
	missing := &IncompleteError{Wanted: wanted, Done: wanted - len(report.Problems), DryRun: o.DryRun, Thawing: true}
	for _, p := range report.Problems {
		missing.Failures = append(missing.Failures, &ProblemError{p})
	}
	if !o.DryRun {
		err = e.askAndAwait(ctx, src, report, o)
	}
	pending, later := err.(*PendingError)
	cut := ctx.Err() != nil
	switch {
	case (err == nil || later || cut) && len(missing.Failures) == 0:
		return report, err
	case cut:
		missing.Interrupted = context.Cause(ctx)
	case later:
		missing.Waiting = pending.Waiting
	case err != nil:
		missing.Failures = append(missing.Failures, err)
		missing.Waiting = e.waiting(src, report.Thawings, o.Thaw)
		missing.Done -= report.unasked()
	}
	return report, missing
}

// unasked counts the snapshots of which something has not been asked for.
func (r *ThawReport) unasked() (n int) {
	late := map[snapshot.ID]bool{}
	for i, s := range r.Steps { // all of them send
		late[s.Edge.To] = r.Thawings[i].State == store.Cold || late[s.Edge.From]
		if late[s.Edge.To] && !s.Intermediate {
			n++
		}
	}
	return n
}

// thawPlan finds out what it takes to restore what is selected, and how many
// snapshots that are.
func (e *Engine) thawPlan(ctx context.Context, src store.Store, o ThawOptions) (r *ThawReport, wanted int, err error) {
	holds, err := e.thawList(ctx, src, o)
	if err != nil {
		return nil, 0, err
	}
	picked, excluded, err := o.pick(src, holds, nil)
	if err != nil {
		return nil, 0, err
	}
	if len(picked)+excluded == 0 {
		return nil, 0, o.nothing(src, holds)
	}
	wish, wanting := plan.Wish{}, map[snapshot.ID]bool{}
	for _, s := range picked {
		wish.Want = append(wish.Want, s.ID)
		wanting[s.ID] = true
	}
	wish.Never = o.never(holds, wanting)
	sizes := map[snapshot.Edge]snapshot.Size{}
	for _, stored := range holds.Edges {
		sizes[stored.Edge] = stored.Size
	}
	w := &world{holds: holds, has: &snapshot.Inventory{}, wish: wish}
	planned := func(holds *snapshot.Inventory) *plan.Plan {
		return plan.Sync(holds, w.has, wish, func(edge snapshot.Edge) snapshot.Size { return sizes[edge] })
	}
	p, err := e.warmest(ctx, src, w, planned(holds), o.Thaw, planned)
	if err != nil {
		return nil, 0, err
	}
	return &ThawReport{Source: src.String(), Steps: p.Steps, Thawings: p.thawings, Problems: p.Problems, Excluded: excluded}, len(picked), nil
}

// thawList lists the source, waiting for that too, if it has to be and that is
// wanted.
func (e *Engine) thawList(ctx context.Context, src store.Store, o ThawOptions) (*snapshot.Inventory, error) {
	for begun := e.now(); ; {
		holds, err := e.list(ctx, src)
		if err == nil || !o.Wait || o.DryRun || !isListPending(err) {
			return holds, err
		}
		e.log().Info("Waiting: " + err.Error())
		if err := e.rest(ctx, begun); err != nil {
			return nil, err
		}
	}
}

// askAndAwait asks for what is cold, and waits for it, if that is wanted. What has
// been readable once is not asked for again in the same run: it may expire before
// the rest is there.
func (e *Engine) askAndAwait(ctx context.Context, src store.Store, report *ThawReport, o ThawOptions) error {
	ask := o.Thaw
	ask.Ask = true
	left := make([]int, len(report.Steps)) // the steps whose streams have not been readable yet
	for i := range left {
		left[i] = i
	}
	failed := 0
	for begun, first := e.now(), true; ; first = false {
		var steps []plan.Step
		for _, i := range left {
			steps = append(steps, report.Steps[i])
		}
		all, err := thawings(ctx, src, steps, ask)
		var still []int
		var cold []Waiting
		for n, t := range all {
			report.Thawings[left[n]] = t
			if t.Fresh {
				report.Asked++
			}
			if t.State != store.Readable {
				still = append(still, left[n])
				cold = append(cold, Waiting{t, e.due(src, t, o.Thaw)})
			}
		}
		if len(cold) > 0 && (first || len(cold) != len(left)) && o.Waiting != nil {
			o.Waiting(cold)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && (!o.Wait || failed == deaf || first):
			return fmt.Errorf("asking cold storage for streams: %w", err)
		case err != nil:
			failed++
			e.log().Warn("what can be read cannot be told; it is asked again later", "error", err)
		case len(cold) == 0:
			return nil
		case !o.Wait:
			return &PendingError{Source: report.Source, Waiting: cold}
		default:
			left, failed = still, 0
		}
		if err := e.rest(ctx, begun); err != nil {
			return err
		}
	}
}
