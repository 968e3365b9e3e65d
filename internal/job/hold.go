package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Hold is a snapshot that is kept until it is released.
type Hold struct {
	ID    snapshot.ID
	Path  string // as it was when it was held
	Why   string
	Since time.Time
}

// Hold keeps the snapshot at a path of a store from every Prune, and with it, in
// an archive, what its chain needs. It fails with store.ErrNotFound if there is
// none, and with *UnableError if the store keeps no notes. Of one that is held
// already the reason is changed.
//
// It takes no lock, since a run may have that for hours: Prune looks for holds
// again before each snapshot that it removes, and Hold looks whether it has been
// in time.
func (e *Engine) Hold(ctx context.Context, st store.Store, path, why string) (Hold, error) {
	inv, err := e.list(ctx, st)
	if err != nil {
		return Hold{}, err
	}
	snap, ok := snapshotAt(inv, path)
	if !ok {
		return Hold{}, fmt.Errorf("%s: %w as %s", st, store.ErrNotFound, strings.Trim(path, "/"))
	}
	h := Hold{ID: snap.ID, Path: snap.Path, Why: why, Since: e.now()}
	r, err := updateRegister(ctx, st, func(r *register) {
		h.Since = e.now()
		if old, held := r.hold(snap.ID); held {
			h.Since = old.Since
		}
		r.setHold(h)
	})
	if err != nil {
		return Hold{}, err
	}
	if h, ok = r.hold(snap.ID); !ok {
		return Hold{}, fmt.Errorf("holding %s: it has been released again", snap.Path)
	}
	if inv, err = st.List(ctx); err != nil {
		return Hold{}, fmt.Errorf("looking whether %s is still there: %w", snap.Path, err)
	}
	if _, ok := snapshotAt(inv, path); !ok {
		_, err := updateRegister(ctx, st, func(r *register) { r.release(snap.ID) })
		return Hold{}, cmp.Or(err, fmt.Errorf("%s: %s was being removed: %w any more", st, snap.Path, store.ErrNotFound))
	}
	return h, nil
}

// Release ends what Hold began. A snapshot that is not there any more is known by
// the path that it had. It fails with store.ErrNotFound if nothing is held there.
func (e *Engine) Release(ctx context.Context, st store.Store, path string) (Hold, error) {
	inv, err := e.list(ctx, st)
	if err != nil {
		return Hold{}, err
	}
	var released Hold
	var found bool
	_, err = updateRegister(ctx, st, func(r *register) {
		released, found = Hold{}, false
		if snap, ok := snapshotAt(inv, path); ok {
			released, found = r.hold(snap.ID)
		}
		for _, h := range r.holds {
			if !found && h.Path == strings.Trim(path, "/") {
				released, found = h.Hold, true
			}
		}
		r.release(released.ID)
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: %w is held as %s", st, store.ErrNotFound, strings.Trim(path, "/"))
	}
	if err != nil {
		return Hold{}, err
	}
	return released, nil
}

// Holds returns what is held in a store, the oldest first.
func (e *Engine) Holds(ctx context.Context, st store.Store) ([]Hold, error) {
	r, err := readRegister(ctx, st)
	if err != nil {
		return nil, err
	}
	var all []Hold
	for _, h := range r.holds {
		all = append(all, h.Hold)
	}
	slices.SortStableFunc(all, func(a, b Hold) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Path, b.Path))
	})
	return all, nil
}

// snapshotAt returns the snapshot that a store has at a path in its directory.
func snapshotAt(inv *snapshot.Inventory, path string) (snapshot.Snapshot, bool) {
	path = strings.Trim(path, "/")
	for _, s := range inv.Inside() {
		for _, c := range copies(s) {
			if c.Path == path {
				return c, true
			}
		}
	}
	return snapshot.Snapshot{}, false
}

// unheld returns those of some snapshots of a store that are neither held there nor
// needed by one that is.
func (e *Engine) unheld(ctx context.Context, st store.Store, inv *snapshot.Inventory, all []snapshot.Snapshot) ([]snapshot.Snapshot, error) {
	if len(all) == 0 {
		return all, nil
	}
	r, err := readRegister(ctx, st)
	if err != nil {
		return nil, err
	}
	going := map[snapshot.ID]bool{}
	for _, s := range all {
		_, is := r.hold(s.ID)
		going[s.ID] = !is
	}
	needed := plan.Needed(inv, func(id snapshot.ID) bool { return !going[id] })
	return slices.DeleteFunc(slices.Clone(all), func(s snapshot.Snapshot) bool {
		h, is := r.hold(s.ID)
		_, needs := needed[s.ID]
		switch {
		case is:
			e.log().Info(fmt.Sprintf("%s is not removed: it is held since %s", s.Path, strings.TrimSuffix(h.Since.Format(time.DateOnly)+": "+h.Why, ": ")))
		case needs:
			e.log().Info(fmt.Sprintf("%s is not removed: the chain of one that is held needs it", s.Path))
		}
		return is || needs
	}), nil
}
