package job

import (
	"context"
	"errors"
	"slices"
	"strings"

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
	}
	inv, err := e.list(ctx, st)
	if err != nil {
		return nil, err
	}
	cleaned := 0
	var failed error
	if o.Clean {
		cleaned, failed = e.clean(ctx, st, inv, o)
	}
	listing := &Listing{Inventory: inv}
	excluded := 0
	for _, snap := range inv.Inside() {
		for _, c := range copies(snap) {
			switch {
			case o.Name != "" && c.Name() != o.Name:
			case o.excludes(c.Path):
				excluded++
			default:
				listing.Snapshots = append(listing.Snapshots, c)
			}
		}
	}
	slices.SortFunc(listing.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	if len(listing.Snapshots)+excluded+cleaned == 0 {
		return listing, errors.Join(failed, o.nothing(st, inv))
	}
	if err := e.sizes(ctx, st, listing, o); err != nil {
		return listing, errors.Join(failed, err)
	}
	return listing, failed
}

// sizes fills in what the listing does not say. A size that cannot be told
// stays unknown.
func (e *Engine) sizes(ctx context.Context, st store.Store, l *Listing, o ListOptions) error {
	measurer, able := st.(store.Measurer)
	for i := range l.Snapshots {
		snap := &l.Snapshots[i]
		if snap.Size.Known {
			continue
		}
		edge := snapshot.Edge{To: snap.ID}
		var err error
		snap.Size, err = e.sizeOf(edge, referencedSize, !o.DryRun, func() (snapshot.Size, error) {
			if o.Estimate || !able {
				return snapshot.Size{}, nil
			}
			return measurer.Estimate(ctx, store.Request{Edge: edge})
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			e.log().Warn("the size of a snapshot cannot be told", "snapshot", l.Inventory.Where(*snap), "error", err)
		}
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
