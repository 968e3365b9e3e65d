package job

import (
	"context"
	"slices"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	// mostLooks is how many streams besides those of a plan are looked at to find
	// some that need not be asked for: each look is a request.
	mostLooks = 1000
	// worthThawing is how many times as much as asking for something may cost, as the
	// plan counts, what is done with the streams that can be read or have been asked
	// for. Waiting for days, and paying for what is there, is worth a longer stream.
	worthThawing = 2
)

// choice is a plan, with what it is made from.
type choice struct {
	*plan.Plan
	// holds is the source, without the streams that are cold and are not needed.
	holds *snapshot.Inventory
	// thawings tell how things stand with the plan's streams.
	thawings []store.Thawing
}

// warmest returns the plan that is given, or, where an archive keeps several streams
// of a snapshot, one that asks cold storage for nothing more, if that is not much
// dearer. So a run does not ask for other streams than the one before it has asked
// for. Replan plans anew for a source that holds less.
func (e *Engine) warmest(ctx context.Context, src store.Store, w *world, p *plan.Plan, o store.ThawOptions, replan func(*snapshot.Inventory) *plan.Plan) (*choice, error) {
	all, err := e.stand(ctx, src, p.Steps, o)
	first := &choice{p, w.holds, all}
	if err != nil || !slices.ContainsFunc(all, func(t store.Thawing) bool { return t.State == store.Cold }) {
		return first, err
	}
	others := besides(w, p)
	if len(others) == 0 || len(others) > mostLooks {
		return first, nil
	}
	looked, err := e.stand(ctx, src, others, o)
	if err != nil {
		return nil, err
	}
	cold := map[snapshot.Edge]bool{}
	for _, t := range slices.Concat(all, looked) {
		cold[t.Edge] = t.State == store.Cold
	}
	holds := *w.holds
	holds.Edges = slices.DeleteFunc(slices.Clone(holds.Edges), func(s snapshot.Stored) bool { return cold[s.Edge] })
	q := replan(&holds)
	if len(q.Problems) > len(p.Problems) || q.Cost > worthThawing*p.Cost {
		return first, nil
	}
	if all, err = e.stand(ctx, src, q.Steps, o); err != nil {
		return nil, err
	}
	return &choice{q, &holds, all}, nil
}

// besides are the streams that an archive keeps besides those of a plan, of what the
// plan makes and of what can lead to that; none if there is one of each. They come
// as steps, which is what is looked at.
func besides(w *world, p *plan.Plan) (others []plan.Step) {
	streams := map[snapshot.ID][]snapshot.Edge{}
	for _, s := range w.holds.Edges {
		streams[s.To] = append(streams[s.To], s.Edge)
	}
	planned, seen := map[snapshot.Edge]bool{}, map[snapshot.ID]bool{}
	var next []snapshot.ID
	choice := false
	for _, s := range p.Steps {
		planned[s.Edge] = true
		next = append(next, s.Edge.To)
	}
	for len(next) > 0 {
		id := next[0]
		if next = next[1:]; seen[id] {
			continue
		}
		seen[id] = true
		if _, there := w.has.Find(id); there {
			continue
		}
		choice = choice || len(streams[id]) > 1
		for _, e := range streams[id] {
			if !planned[e] {
				others = append(others, plan.Step{Action: plan.Send, Edge: e})
			}
			if !e.IsFull() {
				next = append(next, e.From)
			}
		}
	}
	if !choice {
		return nil
	}
	return others
}
