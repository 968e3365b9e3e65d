package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/outstanding"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// end is one destination of a backup. It belongs to the goroutine that serves
// it, and afterwards to the one that called Backup.
type end struct {
	Destination
	DestinationReport
	run     *backup
	log     *slog.Logger
	streams *transfer.FanRun // nil if it reads the source alone

	store store.Store // nil until it is open
	place string      // store.Located
	// has is what it holds, as far as is known; nil if it could not be listed.
	has *snapshot.Inventory
	// seen is what the source held when has was listed; nil if has is.
	seen *snapshot.Inventory
	// brought is what was committed there since it was listed.
	brought map[snapshot.ID]plan.Step

	steps   []plan.Step // of the plan that is carried out
	cleared []string    // paths that a dry run would have made free
	// starts has, for each snapshot that is locked since something starts from it,
	// by name, what that is.
	starts map[string]map[string]bool
}

// bring does all transfers to a destination, and returns why it is not complete.
func (d *end) bring(ctx context.Context) error {
	b := d.run
	if d.streams != nil {
		defer d.streams.Close()
	}
	if b.o.NoTransfer && d.Rules.None() {
		return nil
	}
	var err error
	if d.store, err = d.Open(ctx); err != nil {
		d.store = nil
		return err
	}
	if err := differ(b.src, d.store); err != nil {
		return err
	}
	if at, ok := d.store.(store.Located); ok {
		d.place = at.Location()
		if err := b.settleIn(d.place, d.Destination.Name); err != nil {
			return err
		}
	}
	if !b.o.DryRun && !b.o.NoTransfer {
		release, err := d.engine().take(ctx, d.store, b.o.Who, b.o.Wait)
		if err != nil {
			return err
		}
		defer release()
	}
	holds, err := b.src.List(ctx)
	if err != nil {
		return fmt.Errorf("listing the source: %w", err)
	}
	has, err := d.store.List(ctx)
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	if err := d.recognise(holds, has); err != nil {
		return err
	}
	d.seen, d.has = holds, has
	if b.o.NoTransfer {
		return nil
	}
	if err := d.settle(ctx, holds, has); err != nil {
		return err
	}
	d.foresee(ctx, holds, has)
	if d.Sync, err = d.send(ctx, holds, has); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// engine is the engine with a log in which the destination is named.
func (d *end) engine() *Engine {
	e := *d.run.engine
	e.Log = d.log
	return &e
}

// recognise fails with *PlaceError where the destination is not where it was, and
// shares nothing with the source.
func (d *end) recognise(holds, has *snapshot.Inventory) error {
	if d.run.known == nil {
		return nil
	}
	last := d.run.known.placeOf(d.ID)
	if d.place == "" || last == d.place {
		return nil
	}
	common, shared := d.run.newestCommon(holds, has)
	own := shared && isOwn(common.ID, holds, has)
	if last == "" {
		if own {
			d.log.Warn("It is on the file system of the source: a disk that breaks takes both. Is what belongs there mounted?")
		}
		return nil
	}
	if shared && !own {
		d.log.Info(fmt.Sprintf("It is another directory than the last time (%s, not %s), and has some of these snapshots", d.place, last))
		return nil
	}
	if d.run.o.Force {
		d.log.Warn(fmt.Sprintf("It is another directory than the last time: %s, not %s", d.place, last))
		return nil
	}
	return &PlaceError{Destination: d.Destination.Name, Place: d.place, Last: last}
}

// isOwn reports whether what a destination has of a snapshot is not in its
// directory, and the source's own: they are on one file system, as a mount point is
// with the source when the disk is not there.
func isOwn(id snapshot.ID, holds, has *snapshot.Inventory) bool {
	here, _ := holds.Find(id)
	there, _ := has.Find(id)
	if !there.Outside {
		return false
	}
	for _, t := range append(slices.Clone(there.Copies), there) {
		if !t.UUID.IsZero() && slices.ContainsFunc(append(slices.Clone(here.Copies), here), func(h snapshot.Snapshot) bool { return h.UUID == t.UUID }) {
			return true
		}
	}
	return false
}

// send carries out what is due at the destination.
func (d *end) send(ctx context.Context, holds, has *snapshot.Inventory) (*SyncReport, error) {
	b := d.run
	due := b.due(ctx, holds, d)
	if len(due) == 0 {
		r := &SyncReport{Outlook: &Outlook{
			Plan: &plan.Plan{}, Source: b.src.String(), Destination: d.store.String(), SourceHolds: holds, DestinationHas: has,
		}}
		d.planned(r.Outlook)
		return r, nil
	}
	e := d.engine()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	o := SyncOptions{
		Wanted: func(s snapshot.Snapshot) bool { return due[s.ID] && b.inSeries(s.Path) },
		Full:   b.o.Full, Linear: has.Archive, Unaided: len(b.ends) > 1,
		DryRun: b.o.DryRun, Estimate: b.o.Estimate, Who: b.o.Who,
		MaxChain: d.MaxChain, MaxRestore: d.MaxRestore, MaxFull: d.MaxFull, Parallel: d.Parallel,
		Planned: d.planned,
		direct:  true, cleared: d.cleared,
		results: func(all []transfer.Result) { d.ended(ctx, all) }, noting: &b.noting,
	}
	if d.streams != nil {
		o.Streams = d.streams
	}
	if b.o.Measuring != nil {
		o.Measuring = func(s plan.Step) { b.tell(func() { b.o.Measuring(d.Destination.Name, s) }) }
	}
	o.Event = func(event transfer.Event) {
		if err := d.note(ctx, event); err != nil {
			stop(err)
		}
		if b.o.Event != nil {
			b.tell(func() { b.o.Event(d.Destination.Name, event) })
		}
	}
	if b.o.DryRun {
		return e.Sync(ctx, b.src, d.store, o)
	}
	end := e.begin(d.store, b.o.Who)
	r, err := e.sync(ctx, b.src, d.store, o)
	end(ctx, err)
	return r, err
}

// planned takes a plan before it is carried out.
func (d *end) planned(o *Outlook) {
	d.steps = o.Steps
	if d.streams != nil {
		var all []store.Request
		for _, s := range o.Steps {
			if s.Action == plan.Send {
				all = append(all, request(s))
			}
		}
		d.streams.Expect(all)
	}
	if d.run.o.Planned != nil {
		d.run.tell(func() { d.run.o.Planned(d.Destination.Name, o) })
	}
}

// settle puts in order what earlier runs, of this program or of btrfs-backup,
// have begun at the destination and not finished. What is locked and is there
// whole is unlocked, and so is what has left nothing. What btrfs-backup has left
// of a receive is removed first. Where something else is in the way, the lock
// stays.
func (d *end) settle(ctx context.Context, holds, has *snapshot.Inventory) error {
	b := d.run
	here, there := topmost(holds), topmost(has)
	var settled []string
	conflict := false
	for _, name := range b.owed.names(d.ID, outstanding.Sent) {
		if !b.inSeries(name) {
			continue
		}
		snap, made := there[name]
		mine, ok := here[name]
		what := has.Occupied[name]
		switch {
		case made && ok && snap.ID == mine.ID:
			d.log.Info(fmt.Sprintf("%s is there whole, though a run was cut before it could say so", name))
		case made && !ok: // nothing can be unfinished of what is there no more
		case made:
			conflict = true
			d.log.Warn(fmt.Sprintf("%s stays locked: at the destination another snapshot has that name", name))
			continue
		case what != "":
			if err := d.removeLeftover(ctx, name, what); err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				conflict = conflict || ok
				d.log.Warn(fmt.Sprintf("%s stays locked: what an earlier transfer seems to have left there is in the way", name), "error", err)
				continue
			}
		}
		settled = append(settled, name)
	}
	err := b.owed.change(ctx, func(t *outstanding.Transfers) bool {
		any := false
		for _, name := range settled {
			any = t.Drop(name, outstanding.Sent, d.ID) || any
		}
		for _, name := range t.Names() {
			if !conflict && b.inSeries(name) {
				any = t.Drop(name, outstanding.Parent, d.ID) || any
			}
		}
		return any
	})
	if err != nil {
		return fmt.Errorf("settling earlier transfers: %w", err)
	}
	for _, name := range b.owed.names(d.ID, outstanding.Parent) {
		d.started(name, "") // it is not this run's to unlock
	}
	return nil
}

// removeLeftover removes from the destination what an interrupted receive has
// left under the name of a snapshot.
func (d *end) removeLeftover(ctx context.Context, name, what string) error {
	store, ok := d.store.(store.Leftovers)
	switch {
	case !ok:
		return fmt.Errorf("%s: %s, which %s cannot remove", name, what, d.store)
	case d.run.o.DryRun:
		d.log.Info(fmt.Sprintf("What an earlier transfer of %s has left there would be removed", name))
		d.cleared = append(d.cleared, name)
		return nil
	}
	if err := store.RemoveLeftover(ctx, name); err != nil {
		return err
	}
	d.log.Info(fmt.Sprintf("What an earlier transfer of %s had left there is removed", name))
	return nil
}

// noteWithin is how long a note about something that is done may take when the run
// has been told to end.
const noteWithin = 20 * time.Second

// note keeps the record of unfinished transfers: a snapshot is in it from before
// the destination is asked for anything, until it is there. An error means that
// the transfer must not go on.
func (d *end) note(ctx context.Context, event transfer.Event) error {
	if event.Step < 1 || event.Step > len(d.steps) {
		return nil
	}
	step := d.steps[event.Step-1]
	switch event.Kind {
	case transfer.StepBegun:
		return d.lock(ctx, step)
	case transfer.Committed:
		d.unlock(ctx, step)
	}
	return nil
}

// ended looks at what became of the steps of a plan: what was not let in, since
// something else was there, has left nothing.
func (d *end) ended(ctx context.Context, all []transfer.Result) {
	for _, r := range all {
		if r.Outcome == transfer.Committed {
			if d.brought == nil {
				d.brought = map[snapshot.ID]plan.Step{}
			}
			d.brought[r.Step.Snapshot.ID] = r.Step
		}
		switch _, exists := errors.AsType[*store.ExistsError](r.Err); {
		case r.Outcome == transfer.Failed && exists:
			d.unlock(ctx, r.Step)
		case r.Outcome == transfer.Failed, r.Outcome == transfer.Interrupted:
			d.log.Info(fmt.Sprintf("Keeping %s locked to prevent it from getting removed.", r.Step.Path))
		}
	}
}

// lock notes that a step begins.
func (d *end) lock(ctx context.Context, step plan.Step) error {
	name, parent := nameOf(step.Snapshot), nameOf(step.Parent)
	if parent != "" {
		d.started(parent, name)
	}
	err := d.run.owed.change(ctx, func(t *outstanding.Transfers) bool {
		any := t.Add(name, outstanding.Sent, d.ID)
		return parent != "" && t.Add(parent, outstanding.Parent, d.ID) || any
	})
	if err != nil {
		return fmt.Errorf("%s is not begun: %w", step.Path, err)
	}
	return nil
}

// started notes what starts from a snapshot that is locked for it.
func (d *end) started(parent, name string) {
	if d.starts == nil {
		d.starts = map[string]map[string]bool{}
	}
	if d.starts[parent] == nil {
		d.starts[parent] = map[string]bool{}
	}
	d.starts[parent][name] = true
}

// unlock notes that there is nothing unfinished of a step.
func (d *end) unlock(ctx context.Context, step plan.Step) {
	name, parent := nameOf(step.Snapshot), nameOf(step.Parent)
	delete(d.starts[parent], name)
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer stop()
	err := d.run.owed.change(ctx, func(t *outstanding.Transfers) bool {
		any := t.Drop(name, outstanding.Sent, d.ID)
		return parent != "" && len(d.starts[parent]) == 0 && t.Drop(parent, outstanding.Parent, d.ID) || any
	})
	if err != nil {
		d.log.Warn(fmt.Sprintf("%s is there, and cannot be unlocked; the next run does", step.Path), "error", err)
	}
}
