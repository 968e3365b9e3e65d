package job

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// parallel is how many streams are on their way at a time, unless told
// otherwise: enough for increments to share the commits of a file system, which
// they otherwise spend their time waiting for.
const parallel = 8

// hopeless is after how many plans in a row of which nothing succeeded no other
// is made. Several old snapshots that cannot be read must not keep the newest from
// being sent, every night; a destination that takes nothing need not refuse
// everything one by one.
const hopeless = 8

// FullError says that full streams would be longer than is allowed.
type FullError struct {
	Limit int64 // bytes
	// Transferred counts the snapshots that were transferred before: something
	// has failed since, and these have lost their parents.
	Transferred int
	// Steps are those with the streams, of a length that is known to be more, or
	// is not known.
	Steps []plan.Step
}

func (e *FullError) Error() string {
	var each []string
	for _, s := range e.Steps {
		size := "an unknown number of"
		if s.Size.Known {
			size = fmt.Sprint(s.Size.Bytes)
		}
		each = append(each, fmt.Sprintf("%s (%s bytes)", s.Path, size))
	}
	return fmt.Sprintf("full streams longer than %d bytes: %s", e.Limit, strings.Join(each, ", "))
}

// tooFull returns *FullError if the plan has full streams longer than limit.
func (o *Outlook) tooFull(limit int64, transferred int) error {
	if limit <= 0 {
		return nil
	}
	e := &FullError{Limit: limit, Transferred: transferred}
	for _, s := range o.Steps {
		if s.Action == plan.Send && s.Edge.IsFull() && (!s.Size.Known || s.Size.Bytes > limit) {
			e.Steps = append(e.Steps, s)
		}
	}
	if len(e.Steps) == 0 {
		return nil
	}
	return e
}

// world is what a plan is made from.
type world struct {
	holds, has *snapshot.Inventory // of the source and the destination
	wish       plan.Wish
	excluded   int
}

// world lists both stores, and finds out what is wanted: not what has failed
// already.
func (e *Engine) world(ctx context.Context, src, dst store.Store, o SyncOptions, without failures) (*world, error) {
	holds, err := e.listFor(ctx, src, o)
	if err != nil {
		return nil, err
	}
	wanted, excluded, err := o.pick(src, holds, o.Wanted)
	if err != nil {
		return nil, err
	}
	if len(wanted)+excluded+len(without.wanted) == 0 {
		return nil, o.nothing(src, holds)
	}
	has, err := e.listFor(ctx, dst, o)
	if err != nil {
		return nil, err
	}
	if o.direct {
		_, copies := dst.(store.Copier)
		direct(has, copies)
	}
	wish := plan.Wish{Delete: o.Delete, Known: without.wanted, MaxChain: o.MaxChain, MaxRestore: o.MaxRestore, Linear: o.Linear}
	wanting := map[snapshot.ID]bool{}
	for _, s := range wanted {
		wish.Want = append(wish.Want, s.ID)
		wanting[s.ID] = true
	}
	wish.Never = o.never(holds, wanting)
	if o.Full {
		wish.Full = wanting
	}
	if o.Wanted != nil {
		for _, s := range holds.Inside() {
			if !wanting[s.ID] {
				wish.Never[s.ID] = true
			}
		}
	}
	for id := range without.between {
		wish.Never[id] = true
	}
	if err := e.inspect(ctx, dst, has, wanted); err != nil {
		return nil, err
	}
	for _, p := range o.cleared {
		delete(has.Occupied, p)
	}
	return &world{holds: holds, has: has, wish: wish, excluded: excluded}, nil
}

// listFor lists a store for a run.
func (e *Engine) listFor(ctx context.Context, st store.Store, o SyncOptions) (*snapshot.Inventory, error) {
	inv, err := st.List(ctx)
	if err != nil {
		return nil, err
	}
	if o.direct {
		aboutDirectory(inv)
	}
	for _, w := range inv.Warnings {
		e.log().Warn(w)
	}
	return inv, nil
}

// outlook plans, without what has failed already.
func (e *Engine) outlook(ctx context.Context, src, dst store.Store, o SyncOptions, without failures) (*Outlook, error) {
	w, err := e.world(ctx, src, dst, o, without)
	if err != nil {
		return nil, err
	}
	z := e.newSizes(ctx, src, w, o)
	p, err := e.plan(ctx, src, dst, w.holds, w.has, w.wish, z)
	if err != nil {
		return nil, err
	}
	warm, err := e.warmest(ctx, src, w, p, o.Thaw, func(holds *snapshot.Inventory) *plan.Plan {
		return z.planned(holds, w.has, w.wish, z.decided)
	})
	if err != nil {
		return nil, err
	}
	p = warm.Plan
	if o.Full {
		slices.SortStableFunc(p.Steps, func(a, b plan.Step) int { return newer(a.Snapshot, b.Snapshot) })
	}
	if p.Remove, err = e.unheld(ctx, dst, w.has, p.Remove); err != nil {
		return nil, err
	}
	outlook := &Outlook{
		Plan: p, Source: src.String(), Destination: dst.String(), SourceHolds: w.holds, DestinationHas: w.has,
		Excluded: w.excluded, Thawings: warm.thawings, sizes: z,
	}
	outlook.Forecast = e.forecast(ctx, src, dst, outlook, o)
	if o.Planned != nil {
		o.Planned(outlook)
	}
	return outlook, nil
}

// newer orders snapshots, the newest first.
func newer(a, b snapshot.Snapshot) int {
	return cmp.Or(b.Created.Compare(a.Created), strings.Compare(b.Path, a.Path))
}

// inspect finds out what else than snapshots is in the way of those that the
// destination does not have, so that the plan can do without them.
func (e *Engine) inspect(ctx context.Context, dst store.Store, has *snapshot.Inventory, wanted []snapshot.Snapshot) error {
	inspector, ok := dst.(store.Inspector)
	if !ok {
		return nil
	}
	if has.Occupied == nil {
		has.Occupied = map[string]string{}
	}
	var paths []string
	for _, want := range wanted {
		if there, ok := has.Find(want.ID); ok && !there.Outside || has.Occupied[want.Path] != "" {
			continue
		}
		paths = append(paths, want.Path)
	}
	if len(paths) == 0 {
		return nil
	}
	ways, err := inspector.Inspect(ctx, paths...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		// If something is, making the snapshot fails, and that alone.
		e.log().Warn("what is in the way of snapshots cannot be told", "error", err)
	}
	maps.Copy(has.Occupied, ways)
	return nil
}

// plan plans with the sizes that can be had, looks closer at the doubtful
// snapshots on which the plan rests, measures where that is worth it, and plans
// again as long as any of it has changed something.
func (e *Engine) plan(ctx context.Context, src, dst store.Store, holds, has *snapshot.Inventory, wish plan.Wish, z *sizes) (*plan.Plan, error) {
	measuring := !z.o.Estimate && (z.o.DryRun || has.Archive)
	for again := 0; ; {
		if err := z.consider(ctx, plan.Candidates(holds, has, wish), has.Archive); err != nil {
			return nil, err
		}
		z.decide()
		p := z.planned(holds, has, wish, z.decided)
		if changed, err := e.proveAll(ctx, src, dst, holds, has, p); err != nil {
			return nil, err
		} else if changed {
			continue
		}
		surprised, err := z.settle(ctx, p, measuring)
		if err != nil {
			return nil, err
		}
		if measuring {
			z.note(ctx, src, holds)
			measured := z.planned(holds, has, wish, z.of)
			if alike(p, measured) {
				reworded(p, measured)
			} else if wish.MaxRestore > 0 {
				// What was measured may be more than is allowed, however little.
				surprised = true
			}
		}
		if again++; !surprised || again > replans {
			return p, nil
		}
	}
}

// planned plans, with the clone sources that the run has use for.
func (z *sizes) planned(holds, has *snapshot.Inventory, wish plan.Wish, known plan.Sizes) *plan.Plan {
	p := plan.Sync(holds, has, wish, known)
	if z.o.Unaided {
		for i := range p.Steps {
			p.Steps[i].Clones = nil
		}
	}
	return p
}

// alike reports whether two plans have the same steps.
func alike(p, q *plan.Plan) bool {
	return slices.EqualFunc(p.Steps, q.Steps, func(a, b plan.Step) bool { return a.Edge == b.Edge && a.Action == b.Action })
}

// reworded gives the steps of a plan what the one like it says that was made
// after they were measured: reasons name sizes.
func reworded(p, measured *plan.Plan) {
	for i := range p.Steps {
		p.Steps[i].Reason, p.Steps[i].Restore = measured.Steps[i].Reason, measured.Steps[i].Restore
	}
	p.Cost, p.Bound, p.Guessed = measured.Cost, measured.Bound, measured.Guessed
}

// proveAll looks at what a plan rests on, and reports whether any of it turned
// out to be touched.
func (e *Engine) proveAll(ctx context.Context, src, dst store.Store, holds, has *snapshot.Inventory, p *plan.Plan) (changed bool, err error) {
	var rests []snapshot.ID
	for _, kept := range p.Keep {
		rests = append(rests, kept.ID)
	}
	for _, step := range p.Steps {
		rests = append(rests, step.Edge.To)
		if !step.Edge.IsFull() {
			rests = append(rests, step.Edge.From)
		}
		for _, c := range step.Clones {
			rests = append(rests, c.ID)
		}
	}
	for _, id := range rests {
		for _, side := range []struct {
			store.Store
			inv *snapshot.Inventory
		}{{src, holds}, {dst, has}} {
			if err := ctx.Err(); err != nil {
				return false, context.Cause(ctx)
			}
			changed = e.prove(ctx, side.Store, side.inv, id) || changed
		}
	}
	return changed, nil
}

// prove settles the trust of a doubtful snapshot, and reports whether it turned
// out to be touched. One that cannot be looked at is not relied on either.
func (e *Engine) prove(ctx context.Context, st store.Store, inv *snapshot.Inventory, id snapshot.ID) bool {
	snap, ok := inv.Find(id)
	if !ok || snap.Trust != snapshot.Doubtful {
		return false
	}
	trust, err := snapshot.Touched, error(nil)
	if prover, ok := st.(store.Prover); ok {
		trust, err = prover.Prove(ctx, snap)
	}
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		trust = snapshot.Touched
		e.log().Warn(fmt.Sprintf("%s cannot be looked at, so nothing is based on it", inv.Where(snap)), "error", err)
	case trust == snapshot.Touched:
		e.log().Warn(fmt.Sprintf("%s was made writable and changed after it was received; it is neither sent nor used as a parent", inv.Where(snap)))
	}
	inv.SetTrust(id, trust)
	return trust == snapshot.Touched
}
