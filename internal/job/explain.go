package job

import (
	"context"
	"slices"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Explain answers what a sync of the selected snapshots of src would do about
// one of them, and why: the one that is at a path below the directory of src,
// selected or not. It does nothing, takes no lock, and measures only if
// o.Estimate does not keep it from that. It fails with *NoSnapshotsError if there
// is no snapshot at the path.
func (e *Engine) Explain(ctx context.Context, src, dst store.Store, path string, o SyncOptions) (*plan.Explanation, error) {
	o.DryRun = true
	if err := differ(src, dst); err != nil {
		return nil, err
	}
	w, err := e.world(ctx, src, dst, o, failures{})
	if err != nil {
		return nil, err
	}
	id, err := at(src, w.holds, path)
	if err != nil {
		return nil, err
	}
	z := e.newSizes(ctx, src, w, o)
	p, err := e.plan(ctx, src, dst, w.holds, w.has, w.wish, z)
	if err != nil {
		return nil, err
	}
	// The steps may have been measured since; what is explained is their plan.
	edges := func(p *plan.Plan) (all []snapshot.Edge) {
		for _, s := range p.Steps {
			all = append(all, s.Edge)
		}
		return all
	}
	sizes := plan.Sizes(z.of)
	if !slices.Equal(edges(plan.Sync(w.holds, w.has, w.wish, sizes)), edges(p)) {
		sizes = z.decided
	}
	warm, err := e.warmest(ctx, src, w, p, o.Thaw, func(holds *snapshot.Inventory) *plan.Plan {
		return plan.Sync(holds, w.has, w.wish, sizes)
	})
	if err != nil {
		return nil, err
	}
	x := plan.Explain(warm.holds, w.has, w.wish, sizes, id)
	cold := map[snapshot.Edge]bool{}
	for _, s := range w.holds.Edges {
		cold[s.Edge] = true
	}
	for _, s := range warm.holds.Edges {
		delete(cold, s.Edge)
	}
	for i, c := range x.Considered {
		if cold[snapshot.Edge{To: id, From: c.ID}] {
			x.Considered[i].Verdict, x.Considered[i].Why = plan.NotKept, "it is in cold storage, and others can be had without asking for anything"
		}
	}
	return x, nil
}

// at finds the snapshot at a path of an inventory, by its last element if
// nothing is at the path.
func at(src store.Store, inv *snapshot.Inventory, path string) (snapshot.ID, error) {
	for _, same := range []func(snapshot.Snapshot) bool{
		func(s snapshot.Snapshot) bool { return s.Path == path },
		func(s snapshot.Snapshot) bool { return s.Name() == path },
	} {
		for _, snap := range inv.Inside() {
			for _, c := range copies(snap) {
				if same(c) {
					return snap.ID, nil
				}
			}
		}
	}
	return snapshot.ID{}, &NoSnapshotsError{Store: src.String(), Named: true, There: inv.Occupied[path]}
}
