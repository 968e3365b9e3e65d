package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"syscall"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// SyncOptions say what Sync does. The functions may be nil.
type SyncOptions struct {
	Selection
	// Delete removes from the destination what the source's directory does not
	// hold, after everything else has succeeded.
	Delete bool
	// DryRun plans, and does nothing.
	DryRun bool
	// Estimate keeps the run from measuring; sizes are about right then. A run
	// that is not dry measures only for an archive, where sending costs more than
	// that; a dry run always does.
	Estimate bool
	// MaxChain is how many streams a chain at the destination may have, if it is
	// an archive; 0 is no limit.
	MaxChain int
	// MaxRestore is how many bytes such a chain may have; 0 is no limit.
	MaxRestore int64
	// Full has every snapshot sent in full, the newest first.
	Full bool
	// Wanted, if it is set, narrows the selection further. Nothing else is sent
	// then, not even for others to start from.
	Wanted func(snapshot.Snapshot) bool
	// Linear is that of plan.Wish.
	Linear bool
	// Streams is where streams are opened in place of the source, if it is set
	// (transfer.Options.Streams).
	Streams store.Source
	// Unaided has no stream refer to clone sources, so that it is the same for
	// every destination that wants the edge.
	Unaided bool
	// MaxFull is how long a full stream may be, in bytes; 0 is no limit. One that
	// is longer, or of unknown length, ends the run with *FullError before
	// anything is sent.
	MaxFull int64
	// Thaw is how streams are asked for that are cold at the source, all at once and
	// before anything else is done; Ask is set by a run that is not dry.
	Thaw store.ThawOptions
	// Wait has the run wait for them. Without it, what is not readable yet ends it
	// with *PendingError.
	Wait bool
	// MaxCost is what having them back may cost, in the currency of the prices; 0 is
	// no limit. More ends the run with *CostError before anything is asked for.
	MaxCost float64
	// Parallel is how many streams may be on their way at a time; 0 leaves it to
	// the engine.
	Parallel int
	// Who is how people know the run, for the lock and the ledger.
	Who string

	// Measuring is told which step is about to be measured.
	Measuring func(s plan.Step)
	// Planned is told what is going to be done, before any of it is; again if
	// something failed and the rest is planned anew.
	Planned func(p *Outlook)
	// Event is told what happens to the steps.
	Event func(transfer.Event)
	// Waiting is told which streams cannot be read yet, once all have been asked for,
	// and again whenever a run that waits finds that any has become readable.
	Waiting func(all []Waiting)
	// Removed is told what was removed from the destination, or why not.
	Removed func(snapshot.Snapshot, error)

	// direct has only what lies in the directory of the destination itself count as
	// there.
	direct bool
	// cleared are paths at the destination that a dry run takes for free, since the
	// run would make them so.
	cleared []string
	// results is told what became of the steps of each plan.
	results func([]transfer.Result)
	// noting is held while sizes are noted beside the snapshots of the source, if
	// several runs do so at the same time.
	noting *sync.Mutex
}

// Outlook is a plan with what it was made from.
type Outlook struct {
	*plan.Plan
	Source, Destination         string // names of the stores
	SourceHolds, DestinationHas *snapshot.Inventory
	// Excluded counts the snapshots that an exclusion has dropped.
	Excluded int
	// Forecast is what it is going to cost, about: of a dry run, and wherever
	// something comes out of cold storage; nil otherwise.
	Forecast *Forecast
	// Thawings is how things stood with the streams of the steps that send, in their
	// order, before any was asked for; nil where nothing at the source can be cold.
	Thawings []store.Thawing

	sizes *sizes
}

// SyncReport is what became of a sync.
type SyncReport struct {
	// Outlook is the last plan, and Transfer what became of its steps, nil after
	// a dry run. There are several plans if something failed on the way.
	Outlook  *Outlook
	Transfer *transfer.Report
	// Kept is what was there before the run. Transferred and Bytes count the
	// steps of all plans, and their streams.
	Kept        int
	Transferred int
	Bytes       int64
	// Skipped is how many bytes, as the destination stores them, were there already
	// from interrupted transfers.
	Skipped int64
	Removed []snapshot.Snapshot
}

// IncompleteError says that not all that was wanted is at the destination, or,
// after a dry run, would be.
type IncompleteError struct {
	Wanted, Done int
	DryRun       bool
	// Thawing is set where nothing was to be transferred, only asked for.
	Thawing bool
	// Conflicts is set if nothing but things in the way kept the rest from
	// being done.
	Conflicts bool
	// Failures are the reasons, one for each snapshot that has one of its own.
	Failures []error
	// Waiting are the streams in cold storage that some of it waits for.
	Waiting []Waiting
	// Interrupted is why the run was cut short, if it was.
	Interrupted error
}

func (e *IncompleteError) Error() string {
	switch {
	case e.Thawing:
		return fmt.Sprintf("%d of %d snapshots cannot be had from cold storage", e.Wanted-e.Done, e.Wanted)
	case e.DryRun:
		return fmt.Sprintf("%d of %d snapshots cannot be transferred", e.Wanted-e.Done, e.Wanted)
	}
	return fmt.Sprintf("%d of %d snapshots are not at the destination", e.Wanted-e.Done, e.Wanted)
}

// Unwrap returns all reasons.
func (e *IncompleteError) Unwrap() []error {
	if e.Interrupted != nil {
		return append([]error{e.Interrupted}, e.Failures...)
	}
	return e.Failures
}

// RemovalError says that everything that was wanted is at the destination, but
// not everything that was to go has been removed.
type RemovalError struct{ Failures []error }

func (e *RemovalError) Error() string {
	return "not everything that was to go has been removed"
}

// Unwrap returns the reasons.
func (e *RemovalError) Unwrap() []error { return e.Failures }

// ProblemError says that there is no way to send a snapshot.
type ProblemError struct{ plan.Problem }

func (e *ProblemError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Why) }

// Sync brings the selected snapshots of src to dst. It fails with
// *NoSnapshotsError, *SamePlaceError, *FullError, *CostError or *store.LockedError
// before anything is done, with *IncompleteError or *RemovalError if some of it
// could not be done, and with *PendingError if cold storage is all that some of it
// waits for. While it waits (SyncOptions.Wait), it holds no lock.
func (e *Engine) Sync(ctx context.Context, src, dst store.Store, o SyncOptions) (*SyncReport, error) {
	if err := differ(src, dst); err != nil {
		return nil, err
	}
	if o.DryRun {
		outlook, err := e.outlook(ctx, src, dst, o, failures{})
		if err != nil {
			return nil, err
		}
		report := &SyncReport{Outlook: outlook, Kept: len(outlook.Keep)}
		if err := outlook.tooFull(o.MaxFull, 0); err != nil {
			return report, err
		}
		if err := e.affordable(ctx, src, outlook, o); err != nil {
			return report, err
		}
		return report, incomplete(ctx, outlook, nil, failures{}, nil)
	}
	return e.rounds(ctx, src, dst, o)
}

// round is a run as far as it comes without waiting for cold storage. Again is set
// if it goes on after waiting, and what has been paid for should not be given up
// because another run has the lock.
func (e *Engine) round(ctx context.Context, src, dst store.Store, o SyncOptions, again bool) (*SyncReport, error) {
	release, err := e.take(ctx, dst, o.Who, again)
	if err != nil {
		return nil, err
	}
	defer release()
	end := e.begin(dst, o.Who)
	report, err := e.sync(ctx, src, dst, o)
	end(ctx, err)
	return report, err
}

// differ fails with *SamePlaceError if two stores are the same place.
func differ(src, dst store.Store) error {
	a, okA := src.(store.Located)
	b, okB := dst.(store.Located)
	if okA && okB && a.Location() == b.Location() {
		return &SamePlaceError{Place: dst.String()}
	}
	return nil
}

// begin notes the run in the ledger, and closes the receipts that a dead run
// has left: with the lock held, nobody is working on them any more.
func (e *Engine) begin(dst store.Store, who string) (end func(context.Context, error)) {
	if e.Ledger == nil {
		return func(context.Context, error) {}
	}
	owed, err := e.Ledger.Unfinished(dst.String())
	for _, r := range owed {
		e.log().Info(fmt.Sprintf("An earlier run was cut while it transferred %s; this one carries on with what is left of that, if it can", r.Path))
		err = errors.Join(err, e.Ledger.End(r.ID, ledger.Outcome{Result: ledger.Interrupted, Message: "the run ended without a word", Ended: e.now()}))
	}
	run, begun := e.Ledger.BeginRun(who, e.now())
	if err = errors.Join(err, begun); err != nil {
		e.log().Warn("the ledger does not take notes", "error", err)
	}
	return func(ctx context.Context, failed error) {
		if begun != nil {
			return
		}
		outcome := ledger.Outcome{Result: ledger.Done, Ended: e.now()}
		if failed != nil {
			outcome.Result, outcome.Message = ledger.Failed, failed.Error()
			if ctx.Err() != nil || errors.Is(failed, store.ErrCold) {
				outcome.Result = ledger.Interrupted
			}
		}
		if err := e.Ledger.EndRun(run, outcome); err != nil {
			e.log().Warn("the ledger does not take notes", "error", err)
		}
	}
}

// sync carries out what the outlook says. When a snapshot fails, those that
// were to start from it are planned anew without it, unless the destination
// itself has failed.
func (e *Engine) sync(ctx context.Context, src, dst store.Store, o SyncOptions) (*SyncReport, error) {
	report := &SyncReport{}
	without := failures{wanted: map[snapshot.ID]plan.Problem{}, causes: map[snapshot.ID]error{}, between: map[snapshot.ID]error{}}
	var planning error
	var cold *frozen
	surprises, expired := map[snapshot.Edge]bool{}, false // which were cold all the same
	for fruitless := 0; fruitless < hopeless; {
		outlook, err := e.outlook(ctx, src, dst, o, without)
		if err != nil && report.Outlook == nil {
			return nil, err
		}
		if err != nil {
			planning = fmt.Errorf("planning anew: %w", err)
			break
		}
		if report.Outlook == nil {
			report.Kept = len(outlook.Keep)
		}
		if report.Outlook != nil && len(outlook.Steps) > 0 && !expired {
			e.log().Warn("What was to start from a snapshot that failed is planned anew without it")
		}
		report.Outlook = outlook
		if err := outlook.tooFull(o.MaxFull, report.Transferred); err != nil {
			return report, err
		}
		if err := e.affordable(ctx, src, outlook, o); err != nil {
			return report, err
		}
		if cold, err = e.thaw(ctx, src, outlook, o); err != nil {
			planning = err
			report.Transfer = nothingDone(outlook.Steps, err)
			break
		}
		report.Transfer = e.transfer(ctx, src, dst, outlook, cold, o)
		committed := report.Transfer.Count(transfer.Committed)
		report.Transferred += committed
		report.Bytes += report.Transfer.Bytes()
		for _, r := range report.Transfer.Results {
			if r.Outcome == transfer.Committed {
				report.Skipped += r.Skipped
			}
		}
		// Intermediates are few, and what is wanted can do without them.
		if committed == 0 && slices.ContainsFunc(report.Transfer.Results, func(x transfer.Result) bool {
			return x.Outcome == transfer.Failed && !x.Step.Intermediate
		}) {
			fruitless++
		}
		if expired = ctx.Err() == nil && frozenMeanwhile(report.Transfer, surprises); expired {
			continue // to ask for them
		}
		if ctx.Err() != nil || !needed(report.Transfer) || !without.remember(report.Transfer) {
			break
		}
		if !outlook.SourceHolds.Archive && refused(report.Transfer) { // an archive may give another chain
			break
		}
	}
	if o.Event != nil {
		o.Event(transfer.Event{Kind: transfer.Done, Time: e.now(), Steps: report.Transferred, Bytes: report.Bytes})
	}
	err := incomplete(ctx, report.Outlook, report.Transfer, without, planning)
	if err == nil && len(without.between) > 0 && len(report.Outlook.Remove) > 0 {
		// What was wanted has come without them, but something is wrong.
		err = &RemovalError{Failures: slices.Collect(maps.Values(without.between))}
	}
	err = e.pending(src, report, cold, err, o)
	if err != nil {
		if _, later := errors.AsType[*PendingError](err); later && len(report.Outlook.Remove) > 0 {
			e.log().Info("Nothing is removed from the destination before everything is there")
		} else if len(report.Outlook.Remove) > 0 {
			e.log().Warn("Nothing is removed from the destination, since not everything has succeeded")
		}
		return report, err
	}
	if t, ok := dst.(store.Tidier); ok {
		t.Tidy(ctx)
	}
	return report, e.remove(ctx, src, dst, report, o)
}

// needed reports whether something rests on a step that was not carried out:
// another step, or, as intermediates are there for nothing else, what an archive
// holds.
func needed(r *transfer.Report) bool {
	return slices.ContainsFunc(r.Results, func(x transfer.Result) bool {
		return x.Outcome == transfer.Skipped && !waits(x) || x.Outcome == transfer.Failed && x.Step.Intermediate
	})
}

// refused reports whether nothing was done, and nothing but missing permissions
// is why: no other plan would get them.
func refused(r *transfer.Report) bool {
	any := false
	for _, x := range r.Results {
		switch {
		case x.Outcome == transfer.Committed, x.Outcome == transfer.Failed && !errors.Is(x.Err, fs.ErrPermission):
			return false
		case x.Outcome == transfer.Failed:
			any = true
		}
	}
	return any
}

// failures are the snapshots that have failed in a run: those that are wanted,
// and those that were sent only for others to start from.
type failures struct {
	wanted  map[snapshot.ID]plan.Problem
	causes  map[snapshot.ID]error // of those that are wanted
	between map[snapshot.ID]error
}

// remember notes what has failed, and reports whether the rest may fare better.
func (f failures) remember(r *transfer.Report) bool {
	hope := true
	for _, result := range r.Results {
		if result.Outcome != transfer.Failed {
			continue
		}
		_, conflict := errors.AsType[*store.ExistsError](result.Err)
		if id := result.Step.Edge.To; result.Step.Intermediate {
			f.between[id] = fmt.Errorf("%s: %w", result.Step.Path, result.Err)
		} else {
			f.causes[id] = result.Err
			f.wanted[id] = plan.Problem{Snapshot: result.Step.Snapshot, Path: result.Step.Path, Why: result.Err.Error(), Conflict: conflict}
		}
		for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
			hope = hope && !errors.Is(result.Err, full)
		}
	}
	return hope
}

// transfer carries out the steps of a plan, but for those that have to wait. Events
// number the steps as the plan does.
func (e *Engine) transfer(ctx context.Context, src, dst store.Store, outlook *Outlook, cold *frozen, o SyncOptions) *transfer.Report {
	steps, index := cold.runnable(outlook.Steps)
	t := transfer.Options{Source: src, Destination: dst, Streams: o.Streams, Parallel: cmp.Or(o.Parallel, parallel)}
	t.Events = func(event transfer.Event) {
		if event.Steps = len(outlook.Steps); event.Step > 0 && index != nil {
			event.Step = index[event.Step-1] + 1
		}
		if event.Kind == transfer.Committed {
			outlook.sizes.passOn(ctx, dst, outlook.Steps[event.Step-1])
		}
		if o.Event != nil && event.Kind != transfer.Done { // there may be more to come
			o.Event(event)
		}
	}
	if e.Ledger != nil {
		t.Ledger = e.Ledger
	}
	report := cold.whole(outlook.Steps, index, transfer.Run(ctx, steps, t))
	if o.results != nil {
		o.results(report.Results)
	}
	for _, r := range report.Results {
		if r.Outcome == transfer.Committed && r.Step.Action == plan.Send {
			outlook.sizes.carried(r)
		}
	}
	return report
}
