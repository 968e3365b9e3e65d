package job

import (
	"context"
	"fmt"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// ForecastCalendar estimates what it costs to do what a dry run of Calendar says;
// nil where nobody bills that. What is to be made counts as long as the newest
// backup of its kind.
func (e *Engine) ForecastCalendar(ctx context.Context, st store.Store, r *CalendarReport) (*Forecast, error) {
	t := tariff(st)
	if t == nil {
		return nil, nil
	}
	inv, err := st.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking at what is there, for what it costs: %w", err)
	}
	f := &Forecast{}
	var going []snapshot.Snapshot
	gone := map[snapshot.ID]bool{}
	for _, b := range r.Removed {
		going = append(going, b.Snapshot)
		gone[b.Snapshot.ID] = true
	}
	if _, trash := st.(store.Trash); !trash {
		if early := e.early(ctx, st, going); early != nil {
			f.Removing = &early.Estimate
		}
	}
	if r.Decision.Create {
		e.storingDated(st, inv, r, gone, f)
	}
	if *f == (Forecast{}) {
		return nil, nil
	}
	return f, nil
}

// storingDated estimates what it costs to store the backup that is to be made, and
// to have it back.
func (e *Engine) storingDated(st store.Store, inv *snapshot.Inventory, r *CalendarReport, gone map[snapshot.ID]bool, f *Forecast) {
	t := tariff(st)
	sizes := map[snapshot.ID]snapshot.Stored{}
	for _, s := range inv.Edges {
		if sofar, known := sizes[s.To]; !known || s.Size.Bytes < sofar.Size.Bytes {
			sizes[s.To] = s
		}
	}
	var size snapshot.Size
	var parent snapshot.ID
	complete := r.Decision.Parent.IsZero()
	for _, b := range r.There { // in order of their dates
		if s, known := sizes[b.Snapshot.ID]; known && b.Parent.IsZero() == complete {
			size = s.Size
		}
		if b.Date == r.Decision.Parent && !gone[b.Snapshot.ID] {
			parent = b.Snapshot.ID
		}
	}
	objects := stored(st, t, size)
	estimate := e.prices().Storing(placeOf(t), objects)
	kind := map[bool]string{true: "complete backup", false: "increment"}[complete]
	if size.Known {
		estimate.Assumptions = append(estimate.Assumptions, "it is as long as the newest "+kind)
	} else {
		estimate.Assumptions = append(estimate.Assumptions, "how long it is is not known, since there is no "+kind+" yet: it counts as empty")
	}
	f.Storing = &estimate
	chain := []bill.Object{objects[0]}
	if !complete {
		for _, s := range lightest(inv.Edges, parent) {
			chain = append(chain, stored(st, t, s.Size)[0])
		}
	}
	if b := e.back(t, chain, daysOf(store.ThawOptions{})); b.Cold > 0 {
		f.Back = b
	}
}
