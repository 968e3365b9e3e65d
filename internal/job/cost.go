package job

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// CostOptions say what Cost tells of.
type CostOptions struct {
	// Name is the snapshot that is to be had back, by its path or the last element
	// of that; empty is everything.
	Name string
	// Days is how long readable copies are to stay; 0 is seven.
	Days int
}

// Kept is what a store keeps in one class.
type Kept struct {
	Class   string `json:"class"` // empty for the usual place
	Streams int    `json:"streams"`
	Objects int    `json:"objects"` // with the streams
	Bytes   int64  `json:"bytes"`
}

// CostReport is what a store costs, about.
type CostReport struct {
	Store  string
	Tariff store.Tariff
	// Kept is what is in use, and InTrash what is in the trash, by class.
	Kept, InTrash []Kept
	// Keeping is what both cost together, and Trash what the trash does of that.
	Keeping, Trash bill.Estimate
	// Emptying is what emptying the trash costs now; nil if there is nothing in it.
	Emptying *Early
	// Path is the snapshot that was asked for, and Restoring what having it back
	// costs, with all that it needs, or, where none was asked for, having back all
	// streams; nil if there are none.
	Path      string
	Restoring *Restoring
}

// UnbilledError says that nobody gets a bill for a store.
type UnbilledError struct{ Store string }

func (e *UnbilledError) Error() string {
	return fmt.Sprintf("%s is nowhere where anybody sends a bill", e.Store)
}

// Cost estimates what it costs to keep what a store holds, to empty its trash, and
// to have a snapshot, or everything, back. It changes nothing, and asks cold storage
// for nothing. It fails with *UnbilledError and *NoSnapshotsError.
func (e *Engine) Cost(ctx context.Context, st store.Store, o CostOptions) (*CostReport, error) {
	t := tariff(st)
	if t == nil {
		return nil, &UnbilledError{Store: st.String()}
	}
	report := &CostReport{Store: st.String(), Tariff: *t}
	var used, trashed, streams []bill.Object
	all, trash := map[string]*Kept{}, map[string]*Kept{}
	for h, err := range st.(store.Billed).Holdings(ctx) {
		if err != nil {
			return nil, fmt.Errorf("looking at what %s holds: %w", st, err)
		}
		object := bill.Object{Class: h.Class, Bytes: h.Bytes, Since: h.Since}
		stream := !h.To.IsZero()
		if h.Trashed {
			trashed = append(trashed, object)
			count(trash, h, stream)
			continue
		}
		used = append(used, object)
		count(all, h, stream)
		if stream {
			streams = append(streams, object)
		}
	}
	report.Kept, report.InTrash = byClass(all), byClass(trash)
	report.Keeping = e.prices().Keeping(placeOf(t), append(slices.Clone(used), trashed...))
	report.Trash = e.prices().Keeping(placeOf(t), trashed)
	if len(trashed) > 0 {
		report.Emptying = e.removing(t, trashed)
	}
	days := cmp.Or(o.Days, 7)
	if o.Name == "" {
		if len(streams) > 0 {
			report.Restoring = e.back(t, streams, days)
		}
		return report, nil
	}
	return report, e.costOf(ctx, st, report, o.Name, days)
}

// costOf estimates what it costs to have one snapshot back.
func (e *Engine) costOf(ctx context.Context, st store.Store, report *CostReport, name string, days int) error {
	inv, err := e.list(ctx, st)
	if err != nil {
		return err
	}
	name = strings.Trim(name, "/")
	snap, ok := named(inv, name)
	if !ok {
		return &NoSnapshotsError{Store: st.String(), Named: true, There: inv.Occupied[name]}
	}
	report.Path = snap.Path
	chain := lightest(inv.Edges, snap.ID)
	if len(chain) == 0 {
		return fmt.Errorf("%s: no chain of streams leads to it, so that it cannot be had back", snap.Path)
	}
	var edges []snapshot.Edge
	var whole []store.Thawing
	for _, s := range chain {
		edges = append(edges, s.Edge)
		whole = append(whole, store.Thawing{Edge: s.Edge, Bytes: s.Size.Bytes, Class: report.Tariff.Class, State: store.Cold})
	}
	if thawer, ok := st.(store.Thawer); ok {
		if whole, err = thawer.Thaw(ctx, edges, store.ThawOptions{}); err != nil {
			return fmt.Errorf("looking at what can be read: %w", err)
		}
	}
	report.Restoring = e.restoring(ctx, st, whole, days)
	return nil
}

// named is the snapshot at a path, or the newest of those whose last element it is.
func named(inv *snapshot.Inventory, name string) (found snapshot.Snapshot, ok bool) {
	for _, s := range inv.Inside() {
		switch {
		case s.Path == name:
			return s, true
		case s.Name() == name && (!ok || newer(s, found) < 0):
			found, ok = s, true
		}
	}
	return found, ok
}

func count(all map[string]*Kept, h store.Holding, stream bool) {
	k := all[h.Class]
	if k == nil {
		k = &Kept{Class: h.Class}
		all[h.Class] = k
	}
	if stream {
		k.Streams++
	}
	k.Objects++
	k.Bytes += h.Bytes
}

func byClass(all map[string]*Kept) []Kept {
	sorted := []Kept{}
	for _, class := range slices.Sorted(maps.Keys(all)) {
		sorted = append(sorted, *all[class])
	}
	return sorted
}
