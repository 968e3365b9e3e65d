package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// Offered is a program that is offered a snapshot, and says itself what it wants of
// it (pipe.Offer).
type Offered interface {
	store.Store
	store.Sink
	// Wish waits until it says whether it wants the snapshot, and on top of which
	// other one, by its name; in full if that is empty.
	Wish(ctx context.Context) (wanted bool, parent string, err error)
	// Done waits for one that wants nothing to end.
	Done(ctx context.Context) error
}

// DatedOptions say what Dated does. The functions may be nil.
type DatedOptions struct {
	// Name is what the snapshot is called: a date, 2014-01-07.
	Name string
	// MaxAge is how old snapshots with such names get before they go; 0 keeps all.
	MaxAge time.Duration
	// Zone is where the dates are told; nil is the local one.
	Zone *time.Location
	// Offer runs a program that is offered the snapshot; nil if there is none. Taker
	// is what the program is called in store.RetentionNote.
	Offer func(ctx context.Context) (Offered, error)
	Taker string
	// StaleAfter, Force and Wait are those of PruneOptions.
	StaleAfter  time.Duration
	Force, Wait bool
	// DryRun makes no snapshot, runs no program and removes nothing.
	DryRun bool
	// Who is how people know the run.
	Who string

	// Taken is told of the snapshot, and whether this run has made it.
	Taken func(s snapshot.Snapshot, made bool)
	// Wanted is told what the program wants: wanted and parent are those of
	// Offered.Wish.
	Wanted func(wanted bool, parent string)
	// Event is told what happens to the stream that it gets, the length of which is
	// estimated for that.
	Event func(transfer.Event)
	// Judged and Removed are those of PruneOptions.
	Judged  func([]Verdict)
	Removed func(snapshot.Snapshot, error)
}

// DatedReport is what became of Dated.
type DatedReport struct {
	// Snapshot is the one of that name, nil after a dry run that would make it.
	Snapshot *snapshot.Snapshot
	Made     bool
	// Given is what became of the stream that the program wanted; nil if it wanted
	// none.
	Given *transfer.Result
	Prune *PruneReport
}

// Dated makes a snapshot that is called by its date, if there is none yet, offers
// it to a program, and removes what has got too old, but never what the program
// starts its next increment from. It fails with *store.LockedError before anything
// is done, and with *store.ExistsError if what has the name is none of the subvolume;
// whatever else fails keeps only what depends on it from being done.
//
// The store's lock is not held while the program is at work, which may be for
// days. The newest snapshot that it has taken stays (store.RetentionNote); where
// none is known, all stay until it has taken one, or has not been heard of for
// StaleAfter.
func (e *Engine) Dated(ctx context.Context, st store.Store, o DatedOptions) (*DatedReport, error) {
	report := &DatedReport{}
	if err := e.today(ctx, st, &o, report); err != nil {
		return report, err
	}
	var failed []error
	if o.Offer != nil && !o.DryRun {
		if o.MaxAge > 0 && ctx.Err() == nil {
			e.cullBefore(ctx, st, o, report)
		}
		if err := e.offer(ctx, st, &o, report); err != nil {
			failed = append(failed, err)
		}
	}
	if o.MaxAge > 0 && ctx.Err() == nil {
		var err error
		if report.Prune, err = e.cull(ctx, st, &o, report); err != nil {
			failed = append(failed, err)
		}
	}
	return report, errors.Join(failed...)
}

// today makes the snapshot.
func (e *Engine) today(ctx context.Context, st store.Store, o *DatedOptions, report *DatedReport) error {
	maker, ok := st.(store.Snapshotter)
	if !ok {
		return &UnableError{Store: st.String(), Verb: "make snapshots"}
	}
	if !o.DryRun {
		release, err := e.take(ctx, st, o.Who, o.Wait)
		if err != nil {
			return err
		}
		defer release()
		done, err := e.alsoTakeTurn(ctx, st, o.Who)
		if err != nil {
			return err
		}
		defer done()
	}
	inv, err := e.list(ctx, st)
	if err != nil {
		return err
	}
	origin, err := maker.Origin(ctx)
	if err != nil {
		return err
	}
	there, ok := snapshotAt(inv, o.Name)
	switch {
	case ok && (there.Parent != origin || there.Received):
		return &store.ExistsError{Path: o.Name, What: "a snapshot that was not made of this subvolume"}
	case ok:
	case inv.Occupied[o.Name] != "":
		return &store.ExistsError{Path: o.Name, What: inv.Occupied[o.Name]}
	case o.DryRun:
		return nil
	default:
		if there, err = maker.Snapshot(ctx, o.Name); err != nil {
			return fmt.Errorf("making the snapshot %s: %w", o.Name, err)
		}
		report.Made = true
	}
	report.Snapshot = &there
	if o.Taken != nil {
		o.Taken(there, report.Made)
	}
	return nil
}

// offer asks the program what it wants, and gives it that.
func (e *Engine) offer(ctx context.Context, st store.Store, o *DatedOptions, report *DatedReport) (err error) {
	program, err := o.Offer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	wanted, parent, err := program.Wish(ctx)
	if err != nil {
		return err
	}
	if o.Wanted != nil {
		o.Wanted(wanted, parent)
	}
	if !wanted {
		if err := program.Done(ctx); err != nil {
			return err
		}
		return e.heard(ctx, st, o, nil, nil)
	}
	inv, err := e.list(ctx, st) // what Open gives has to be in the last listing
	if err != nil {
		return err
	}
	snap, ok := snapshotAt(inv, o.Name)
	if !ok || snap.ID != report.Snapshot.ID {
		return fmt.Errorf("%s: %s: %w any more", st, o.Name, store.ErrNotFound)
	}
	step := plan.Step{
		Action: plan.Send, Edge: snapshot.Edge{To: snap.ID}, Snapshot: snap, Path: o.Name,
		Reason: "the program wants it in full",
	}
	if parent != "" {
		if step.Parent, ok = snapshotAt(inv, parent); !ok || parent == o.Name {
			return fmt.Errorf("%s wants the increment from %s, and there is no such snapshot in %s: have it make a complete backup, as buttersink btrsend does with --complete", program, parent, st)
		}
		step.Edge.From = step.Parent.ID
		step.Reason = "the program wants the increment from " + parent
	}
	if o.Event != nil {
		step.Size = e.about(ctx, st, step.Edge)
	}
	t := transfer.Options{Source: st, Destination: program, Events: o.Event}
	if e.Ledger != nil {
		t.Ledger = e.Ledger
	}
	result := transfer.Run(ctx, []plan.Step{step}, t).Results[0]
	report.Given = &result
	if result.Outcome != transfer.Committed {
		if result.Err == nil {
			return context.Cause(ctx)
		}
		return result.Err
	}
	return e.heard(ctx, st, o, &snap, inv)
}

// heard notes that the program has been heard of, and what it has taken, if
// anything. Another run of it may have overtaken this one, and have taken what was
// made later; the generation tells, since clocks go back.
func (e *Engine) heard(ctx context.Context, st store.Store, o *DatedOptions, taken *snapshot.Snapshot, inv *snapshot.Inventory) error {
	if taken != nil {
		if now, err := st.List(ctx); err == nil {
			inv = now
		}
	}
	_, err := updateRegister(context.WithoutCancel(ctx), st, func(r *register) {
		c, _ := r.claimOf(o.Taker, "")
		c.destination, c.series, c.seen = o.Taker, "", e.now()
		if taken != nil {
			if last, there := inv.Find(c.id); !there || last.Transid <= taken.Transid {
				c.id, c.path = taken.ID, taken.Path
			}
		}
		r.setClaim(c)
	})
	if err != nil {
		return fmt.Errorf("noting what %s starts its next increment from: %w", o.Taker, err)
	}
	return nil
}

// cullBefore removes what has got too old whatever the program may say, which may
// never end. What goes wrong does so once more when it has ended, and is told then.
// It may be about to be heard of for the first time in a while, and so has twice as
// long for that.
func (e *Engine) cullBefore(ctx context.Context, st store.Store, o DatedOptions, report *DatedReport) {
	o.StaleAfter = 2 * cmp.Or(o.StaleAfter, defaultStale)
	if _, err := e.cull(ctx, st, &o, report); err != nil {
		e.log().Debug("removing what is too old before the program is called", "error", err)
	}
}

// cull removes what has got too old.
func (e *Engine) cull(ctx context.Context, st store.Store, o *DatedOptions, report *DatedReport) (*PruneReport, error) {
	zone := o.Zone
	if zone == nil {
		zone = time.Local
	}
	p := PruneOptions{
		Rules: schedule.Rules{MinAge: o.MaxAge, Zone: zone}, Zone: zone, only: new(string),
		StaleAfter: o.StaleAfter, Force: o.Force, DryRun: o.DryRun, Wait: o.Wait, Who: o.Who,
		Judged: o.Judged, Removed: o.Removed,
	}
	if o.Taker != "" {
		p.For = []Counterpart{{ID: o.Taker}}
	}
	if report.Made {
		p.made = report.Snapshot.ID
	}
	origin, err := st.(store.Snapshotter).Origin(ctx)
	if err != nil {
		return nil, err
	}
	p.Origin = origin
	return e.Prune(ctx, st, p)
}
