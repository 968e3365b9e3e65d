package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// retain remembers what each destination needs, and removes what is not due any
// more: at the source first, then at each destination that is complete.
func (b *backup) retain(ctx context.Context) {
	if b.known == nil {
		return
	}
	b.lookAgain(ctx)
	if ctx.Err() != nil {
		return
	}
	holds, err := b.src.List(ctx)
	if err != nil {
		b.failed = append(b.failed, fmt.Errorf("listing %s: %w", b.src, err))
		return
	}
	if err := b.claim(ctx, holds); err != nil {
		b.failed = append(b.failed, err)
		return
	}
	b.acquaint(ctx, holds)
	if !b.o.Rules.None() {
		if b.source, err = b.pruneSource(ctx, holds); err != nil {
			b.failed = append(b.failed, placed(b.src.String(), err))
		}
	}
	var all sync.WaitGroup
	for _, d := range b.ends {
		switch {
		case d.has == nil, d.Rules.None(), !d.removes():
		case d.Err == nil:
			all.Go(func() { d.Prune, d.Err = d.prune(ctx, false) })
		case d.reachable():
			all.Go(func() {
				if _, err := d.prune(ctx, true); err != nil {
					d.log.Debug("noting what would have been removed", "error", err)
				}
			})
		}
	}
	all.Wait()
}

// foresee notes what has been due at the source since before this run, should it
// not come to its end, and returns how much that is; -1 if it cannot tell.
func (b *backup) foresee(ctx context.Context) (due int) {
	if b.known == nil || b.o.Rules.None() || b.o.DryRun {
		return 0
	}
	holds, err := b.src.List(ctx)
	if err == nil {
		b.began = map[snapshot.ID]bool{}
		for _, p := range b.made(holds) {
			b.began[p.ID] = true
		}
		o := b.pruning(b.src.String(), PruneOptions{Rules: b.rules(b.o.Rules), Origin: b.origin, Locked: b.owed.reasons()})
		due, err = b.engine.foresee(ctx, b.src, holds, o)
	}
	if err == nil {
		return due
	}
	if ctx.Err() == nil {
		b.engine.log().Debug("noting what is due", "place", b.src.String(), "error", err)
	}
	return -1
}

// foresee notes what has been due at the destination since before this run.
func (d *end) foresee(ctx context.Context, holds, has *snapshot.Inventory) {
	if !d.removes() {
		return
	}
	b := d.run
	o := b.pruning(d.Destination.Name, d.counterpart(PruneOptions{
		Rules: b.rules(d.Rules), For: []Counterpart{{ID: b.src.String(), Has: holds}},
	}))
	if _, err := d.engine().foresee(ctx, d.store, has, o); err != nil && ctx.Err() == nil {
		d.log.Debug("noting what is due", "error", err)
	}
}

// lookAgain lists the destinations as they are now. What is claimed of the source,
// and what may go there, follows from the same listing. One that cannot be listed
// keeps all that it has, and so what it needed before the run is enough.
func (b *backup) lookAgain(ctx context.Context) {
	var all sync.WaitGroup
	for _, d := range b.ends {
		if d.has == nil {
			continue
		}
		all.Go(func() {
			has, err := d.store.List(ctx)
			switch {
			case err == nil:
				d.has, d.brought = has, nil
			case d.Err == nil:
				d.Err = fmt.Errorf("listing it after the transfers: %w", err)
			}
		})
	}
	all.Wait()
}

// acquaint notes at each destination which of the snapshots there belong together,
// as long as the source has one of each chain: when it has removed them, nothing
// else shows that they are ours, and rules may come later.
func (b *backup) acquaint(ctx context.Context, holds *snapshot.Inventory) {
	if b.o.DryRun {
		return
	}
	var all sync.WaitGroup
	for _, d := range b.ends {
		if d.has == nil {
			continue
		}
		all.Go(func() {
			o := b.pruning(d.Destination.Name, d.counterpart(PruneOptions{For: []Counterpart{{ID: b.src.String(), Has: holds}}}))
			if err := noteFamilies(ctx, d.store, &evidence{inv: d.has, options: &o}); err != nil && ctx.Err() == nil {
				d.log.Debug("noting what belongs together", "error", err)
			}
		})
	}
	all.Wait()
}

// noteFamilies notes what belongs together in a store, if the store itself does not
// show it.
func noteFamilies(ctx context.Context, st store.Store, ev *evidence) error {
	places := ev.places()
	_, err := updateRegister(ctx, st, func(r *register) {
		if k := kin(ev.inv, places, ev.options, r.families); k.aside != nil && k.worth {
			r.families = k.families(ev.inv, r.families)
		}
	})
	return err
}

// removes reports whether anything can be removed from it. What a command has been
// given is its own affair, and no reason for every night to fail.
func (d *end) removes() bool {
	_, ok := d.store.(store.Remover)
	return ok
}

// reachable reports whether it was but some snapshots that failed.
func (d *end) reachable() bool {
	e, ok := errors.AsType[*IncompleteError](d.Err)
	return ok && e.Interrupted == nil && (e.Conflicts || d.Sync != nil && d.Sync.Transferred > 0)
}

// claim notes at the source which snapshot the next increment to each
// destination starts from.
func (b *backup) claim(ctx context.Context, holds *snapshot.Inventory) error {
	if b.o.DryRun {
		return nil
	}
	now := b.engine.now()
	_, err := updateRegister(ctx, b.src, func(r *register) {
		for _, d := range b.ends {
			if d.has == nil {
				continue
			}
			if s, ok := b.newestCommon(holds, d.has); ok {
				r.moved(d.ID, b.o.Prefix, d.place)
				r.setClaim(claim{destination: d.ID, series: b.o.Prefix, id: s.ID, path: s.Path, seen: now, place: d.place})
			}
		}
	})
	if _, unable := errors.AsType[*UnableError](err); unable {
		b.engine.log().Warn("What the destinations need of the source can be remembered nowhere; it is found out anew in each run", "error", err)
		return nil
	}
	return err
}

// moved keeps the claim of a destination that is at another place than before:
// of disks that take turns, each needs its own snapshot.
func (r *register) moved(destination, series, place string) {
	at := func(place string) string { return destination + " at " + place }
	if old, ok := r.claimOf(destination, series); ok && old.place != "" && old.place != legible(place) {
		old.destination = at(old.place)
		r.setClaim(old)
	}
	r.claims = slices.DeleteFunc(r.claims, func(c claim) bool {
		return c.destination == legible(at(place)) && c.series == legible(series)
	})
}

// pruneSource removes from the source what its rules do not keep.
func (b *backup) pruneSource(ctx context.Context, holds *snapshot.Inventory) (*PruneReport, error) {
	var needs []Counterpart
	for _, d := range b.ends {
		needs = append(needs, Counterpart{ID: d.ID, Has: d.has})
	}
	return b.engine.prune(ctx, b.src, holds, b.pruning(b.src.String(), PruneOptions{
		Rules: b.rules(b.o.Rules), Origin: b.origin, For: needs, Locked: b.spared(holds),
	}))
}

// spared says of the source's snapshots, by name, why they stay whatever the rules say.
// What others have made since the run began has been offered to no destination.
func (b *backup) spared(holds *snapshot.Inventory) map[string]string {
	all := b.owed.reasons()
	if b.began == nil || b.o.NoTransfer || len(b.ends) == 0 {
		return all
	}
	for _, p := range b.made(holds) {
		if !b.began[p.ID] && all[p.Path] == "" && (b.taken == nil || b.taken.ID != p.ID) {
			all[p.Path] = "it was made while this run was at work: the next one sends it"
		}
	}
	return all
}

// prune removes from a destination what its rules do not keep, or notes what that
// is.
func (d *end) prune(ctx context.Context, postpone bool) (*PruneReport, error) {
	b, e := d.run, d.engine()
	if !b.o.DryRun {
		release, err := e.take(ctx, d.store, b.o.Who, b.o.Wait)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	holds, err := b.src.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", b.src, err)
	}
	has, err := d.store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	o := b.pruning(d.Destination.Name, d.counterpart(PruneOptions{
		Rules: b.rules(d.Rules), For: []Counterpart{{ID: b.src.String(), Has: holds, Look: b.src.List}}, Postpone: postpone,
	}))
	if postpone {
		o.Judged = nil
	}
	return e.prune(ctx, d.store, has, o)
}

// counterpart completes options for a destination with what is known of the source
// besides what it has now.
func (d *end) counterpart(o PruneOptions) PruneOptions {
	o.mine = d.run.began
	return o
}

// pruning completes options with what is the same at every place.
func (b *backup) pruning(place string, o PruneOptions) PruneOptions {
	o.Layout, o.Zone = b.o.Layout, b.zone
	if b.taken != nil {
		o.made = b.taken.ID
	}
	if b.taken != nil && o.Locked[b.taken.Path] == "" {
		o.Locked = maps.Clone(o.Locked)
		if o.Locked == nil {
			o.Locked = map[string]string{}
		}
		o.Locked[b.taken.Path] = "it was made in this run"
	}
	o.Prefix, o.StaleAfter, o.Force, o.DryRun, o.Reclaim, o.Who = &b.o.Prefix, b.o.StaleAfter, b.o.Force, b.o.DryRun, b.o.Reclaim, b.o.Who
	if b.o.Judged != nil {
		o.Judged = func(all []Verdict) { b.tell(func() { b.o.Judged(place, all) }) }
	}
	if b.o.Removed != nil {
		o.Removed = func(s snapshot.Snapshot, err error) { b.tell(func() { b.o.Removed(place, s, err) }) }
	}
	return o
}
