package job

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// ListOptions say what List does.
type ListOptions struct {
	Selection
	// Clean removes the remainders of unfinished transfers.
	Clean bool
	// DryRun keeps Clean from removing anything.
	DryRun bool
	// Estimate keeps List from looking for sizes that are not known.
	Estimate bool
	// Who is how people know the run, for the lock.
	Who string
	// Cleaned is told of each remainder: removed, would be, or why not. It may
	// be nil.
	Cleaned func(snapshot.Partial, error)
}

// Listing is what List answers.
type Listing struct {
	Inventory *snapshot.Inventory
	// Snapshots are the selected ones, each path for itself, with their sizes as
	// far as known.
	Snapshots []snapshot.Snapshot
}

// List answers what a store holds in its directory. It fails with
// *NoSnapshotsError if that is nothing and there was nothing to clean either.
func (e *Engine) List(ctx context.Context, st store.Store, o ListOptions) (*Listing, error) {
	if o.Clean && !o.DryRun {
		unlock, err := lock(ctx, st, o.Who)
		if err != nil {
			return nil, err
		}
		defer func() {
			if err := unlock(); err != nil {
				e.log().Warn("releasing the lock", "error", err)
			}
		}()
		done, err := e.alsoTakeTurn(ctx, st, o.Who)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	recalled := e.recall(referencedSize)
	inv, err := e.list(ctx, st)
	known, all := recalled()
	if err != nil {
		return nil, err
	}
	cleaned := 0
	var failed error
	if o.Clean {
		cleaned, failed = e.clean(ctx, st, inv, o)
	}
	listing := &Listing{Inventory: inv, Snapshots: make([]snapshot.Snapshot, 0, len(inv.Snapshots))}
	excluded := 0
	take := func(s *snapshot.Snapshot) {
		switch {
		case s.Outside:
		case o.Name != "" && s.Name() != o.Name:
		case o.excludes(s.Path):
			excluded++
		default:
			listing.Snapshots = append(listing.Snapshots, *s)
		}
	}
	for i := range inv.Snapshots {
		snap := &inv.Snapshots[i]
		if snap.Outside {
			continue
		}
		take(snap)
		for j := range snap.Copies {
			take(&snap.Copies[j])
		}
	}
	slices.SortFunc(listing.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	if len(listing.Snapshots)+excluded+cleaned == 0 {
		return listing, errors.Join(failed, o.nothing(st, inv))
	}
	if inv.Archive {
		return listing, failed // what its streams are long says more than what the snapshots hold
	}
	if !all {
		known = nil
	}
	if err := e.sizes(ctx, st, listing, known, o); err != nil {
		return listing, errors.Join(failed, err)
	}
	return listing, failed
}

// mostRecalled bounds how many sizes recall reads.
const mostRecalled = 50_000

// recall begins to read all sizes of a kind from the ledger, and returns a
// function that waits for them and tells whether they are all. It takes about as
// long as listing a store, so the two are done at the same time.
func (e *Engine) recall(kind string) func() (sizes map[snapshot.Edge]snapshot.Size, all bool) {
	if e.Ledger == nil {
		return func() (map[snapshot.Edge]snapshot.Size, bool) { return nil, false }
	}
	var sizes map[snapshot.Edge]snapshot.Size
	var all bool
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		sizes, all, err = e.Ledger.SizesOf(kind, mostRecalled)
	}()
	return func() (map[snapshot.Edge]snapshot.Size, bool) {
		<-done
		return sizes, all && err == nil
	}
}

// sizes fills in what the listing does not say; known is what the ledger says,
// or nil if it is to be asked. A size that cannot be told
// stays unknown. What has been found is remembered also if ctx ends.
func (e *Engine) sizes(ctx context.Context, st store.Store, l *Listing, known map[snapshot.Edge]snapshot.Size, o ListOptions) error {
	var unknown []*snapshot.Snapshot
	var edges []snapshot.Edge
	for i := range l.Snapshots {
		if snap := &l.Snapshots[i]; !snap.Size.Known {
			unknown = append(unknown, snap)
			edges = append(edges, snapshot.Edge{To: snap.ID})
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	if e.Ledger != nil && known == nil {
		var err error
		if known, err = e.Ledger.Sizes(referencedSize, edges); err != nil {
			e.log().Warn("looking up sizes", "error", err)
		}
	}
	measurer, able := st.(store.Measurer)
	found := map[snapshot.Edge]snapshot.Size{}
	for i, snap := range unknown {
		if size, ok := known[edges[i]]; ok {
			snap.Size = size
			continue
		}
		if o.Estimate || !able || ctx.Err() != nil {
			continue
		}
		size, err := measurer.Estimate(ctx, store.Request{Edge: edges[i]})
		if err != nil {
			if ctx.Err() == nil {
				e.log().Warn("the size of a snapshot cannot be told", "snapshot", l.Inventory.Where(*snap), "error", err)
			}
			continue
		}
		snap.Size, found[edges[i]] = size, size
	}
	if e.Ledger != nil && !o.DryRun && len(found) > 0 {
		if err := e.Ledger.RememberSizes(referencedSize, found, time.Now()); err != nil {
			e.log().Warn("remembering sizes", "error", err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// clean removes what unfinished transfers have left, and counts it.
func (e *Engine) clean(ctx context.Context, st store.Store, inv *snapshot.Inventory, o ListOptions) (cleaned int, err error) {
	remover, ok := st.(store.Remover)
	if !ok {
		return 0, &UnableError{Store: st.String(), Verb: "remove unfinished transfers"}
	}
	var errs []error
	for _, p := range inv.Partials {
		if !p.Ours {
			continue
		}
		var err error
		if !o.DryRun {
			err = remover.RemovePartial(ctx, p)
		}
		if err != nil {
			errs = append(errs, err)
		} else {
			cleaned++
		}
		if o.Cleaned != nil {
			o.Cleaned(p, err)
		}
	}
	return cleaned, errors.Join(errs...)
}
