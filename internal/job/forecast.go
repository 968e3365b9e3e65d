package job

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Forecast is what a run is going to cost, about; nil parts cost nothing that
// anybody bills.
type Forecast struct {
	// Storing is what is stored at the destination, and Restoring what is read from
	// the source.
	Storing   *bill.Estimate `json:"storing,omitempty"`
	Restoring *Restoring     `json:"restoring,omitempty"`
	// Back is what it costs to have the newest snapshot back from the destination,
	// with all that it needs, once it is there; nil where nothing is cold there.
	Back *Restoring `json:"back,omitempty"`
	// Removing is what removing for good costs now; removing to the trash costs
	// nothing yet.
	Removing *bill.Estimate `json:"removing,omitempty"`
}

// Restoring is what it costs to have streams back, and how long it takes until
// they are readable, by tier. A tier that is not there for all of them is left out.
type Restoring struct {
	Tiers map[store.Tier]TierCost `json:"tiers"`
	// Partly has the tiers that are there for some of them: what these cost, and all
	// that need not be asked for.
	Partly map[store.Tier]TierCost `json:"partly,omitempty"`
	// Days is how long they are to stay readable.
	Days int `json:"days"`
	// Streams counts them, and Bytes is how long they are together, as they are
	// stored. Cold counts those that have to be asked for, and Pending those that have
	// been asked for and cannot be read yet: they cost nothing more, and how long they
	// take is not part of Wait.
	Streams int   `json:"streams"`
	Bytes   int64 `json:"bytes"`
	Cold    int   `json:"cold"`
	Pending int   `json:"pending,omitempty"`
}

// TierCost is what one tier costs.
type TierCost struct {
	bill.Estimate
	Wait bill.Wait `json:"wait"`
	// Unpriced is set if there are prices, but none for thawing some of it: the cost
	// is that of the rest.
	Unpriced bool `json:"unpriced,omitempty"`
}

// Early is what it costs to remove things for good before they have been stored for
// as long as is charged anyway.
type Early struct {
	bill.Estimate
	// Settled is from when on all of it can be removed at no such cost; zero if it
	// can now.
	Settled time.Time `json:"settled,omitzero"`
	// Later is set where things go to a trash first: it is paid when that is emptied.
	Later bool `json:"later,omitempty"`
}

// Fee is what is paid for time in which nothing is stored.
func (e *Early) Fee() float64 {
	fee := 0.0
	for _, l := range e.Lines {
		if l.What == bill.Early {
			fee += l.Cost
		}
	}
	return fee
}

// tiers are the ways of thawing, the cheapest first.
var tiers = []store.Tier{store.Bulk, store.Standard, store.Expedited}

// besideBytes is about how long what an archive keeps beside a stream is, and
// besideObjects how many objects that is: what describes it, and what is known of
// its length.
const (
	besideBytes   = 2 << 10
	besideObjects = 2
)

// prices are those that estimates are made with.
func (e *Engine) prices() *bill.Table {
	if e.Prices == nil {
		return bill.Default()
	}
	return e.Prices
}

// tariff says whose prices hold for a store; nil if nobody gets a bill for it.
func tariff(st store.Store) *store.Tariff {
	if b, ok := st.(store.Billed); ok {
		return b.Tariff()
	}
	return nil
}

func placeOf(t *store.Tariff) bill.Place {
	return bill.Place{Provider: t.Provider, Service: t.Service, Region: t.Region}
}

// restoring estimates what it costs to have streams back; nil where nobody bills
// that.
func (e *Engine) restoring(_ context.Context, src store.Store, streams []store.Thawing, days int) *Restoring {
	t := tariff(src)
	if t == nil || len(streams) == 0 {
		return nil
	}
	var objects []bill.Object
	for _, s := range streams {
		objects = append(objects, bill.Object{Class: s.Class, Bytes: s.Bytes, Readable: s.State != store.Cold})
	}
	r := e.back(t, objects, days)
	r.Cold = 0
	classes := map[string]bool{}
	for _, s := range streams {
		switch s.State {
		case store.Pending:
			r.Pending++
		case store.Cold:
			r.Cold++
			classes[s.Class] = true
		}
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		if !e.prices().Thaws(placeOf(t), class) {
			r.unpriced(class)
		}
	}
	return r
}

// unpriced notes that nothing is known of what thawing a class costs.
func (r *Restoring) unpriced(class string) {
	text := fmt.Sprintf("what thawing costs in the class %s is not known, and not part of it", cmp.Or(class, "STANDARD"))
	for tier, cost := range r.Tiers {
		if cost.Unpriced = true; !slices.Contains(cost.Assumptions, text) {
			cost.Assumptions = append(slices.Clip(cost.Assumptions), text)
		}
		r.Tiers[tier] = cost
	}
}

// back estimates what it costs to have objects back.
func (e *Engine) back(t *store.Tariff, objects []bill.Object, days int) *Restoring {
	r := &Restoring{Tiers: map[store.Tier]TierCost{}, Days: days, Streams: len(objects)}
	frozen := map[string]int{} // by class, of which there are few
	for _, o := range objects {
		r.Bytes += o.Bytes
		if !o.Readable {
			frozen[o.Class]++
		}
	}
	for class, n := range frozen {
		if e.prices().Thaws(placeOf(t), class) {
			r.Cold += n
		}
	}
	for _, tier := range tiers {
		if cost, wait, err := e.prices().Restoring(placeOf(t), objects, string(tier), days); err == nil {
			r.Tiers[tier] = TierCost{Estimate: cost, Wait: wait}
			continue
		}
		never := map[string]bool{}
		for class := range frozen {
			_, err := e.prices().Thawing(placeOf(t), class, string(tier))
			never[class] = err != nil
		}
		some := slices.DeleteFunc(slices.Clone(objects), func(o bill.Object) bool { return !o.Readable && never[o.Class] })
		if cost, wait, err := e.prices().Restoring(placeOf(t), some, string(tier), days); err == nil && len(some) > 0 {
			if r.Partly == nil {
				r.Partly = map[store.Tier]TierCost{}
			}
			r.Partly[tier] = TierCost{Estimate: cost, Wait: wait}
		}
	}
	return r
}

// forecast estimates what a plan costs: of a dry run everything, and otherwise what
// comes out of cold storage.
func (e *Engine) forecast(ctx context.Context, src, dst store.Store, outlook *Outlook, o SyncOptions) *Forecast {
	cold := slices.ContainsFunc(outlook.Thawings, func(t store.Thawing) bool { return t.State != store.Readable })
	if !o.DryRun && !cold {
		return nil
	}
	f := &Forecast{Restoring: e.restoring(ctx, src, outlook.Thawings, daysOf(o.Thaw))}
	if o.DryRun {
		e.storing(dst, outlook, daysOf(o.Thaw), f)
		if _, trash := dst.(store.Trash); !trash {
			if early := e.early(ctx, dst, outlook.Remove); early != nil {
				f.Removing = &early.Estimate
			}
		}
	}
	if *f == (Forecast{}) {
		return nil
	}
	return f
}

// storing estimates what it costs to store what a plan sends, and to have the
// newest of it back.
func (e *Engine) storing(dst store.Store, outlook *Outlook, days int, f *Forecast) {
	t := tariff(dst)
	if t == nil {
		return
	}
	var objects []bill.Object
	var there []snapshot.Stored
	var newest *plan.Step
	unknown := 0
	for i, s := range outlook.Steps {
		if s.Action != plan.Send {
			continue
		}
		if !s.Size.Known {
			unknown++
		}
		objects = append(objects, stored(dst, t, s.Size)...)
		there = append(there, snapshot.Stored{Edge: s.Edge, Size: s.Size})
		if newest == nil || newer(s.Snapshot, newest.Snapshot) < 0 {
			newest = &outlook.Steps[i]
		}
	}
	if newest == nil {
		return
	}
	estimate := e.prices().Storing(placeOf(t), objects)
	estimate.Assumptions = append(estimate.Assumptions, "streams are as long as they are before they are compressed or encrypted")
	if unknown > 0 {
		estimate.Assumptions = append(estimate.Assumptions, fmt.Sprintf("%d streams of unknown length count as empty", unknown))
	}
	f.Storing = &estimate
	var chain []bill.Object
	for _, s := range lightest(append(there, outlook.DestinationHas.Edges...), newest.Edge.To) {
		chain = append(chain, stored(dst, t, s.Size)[0])
	}
	if r := e.back(t, chain, days); r.Cold > 0 {
		f.Back = r
	}
}

// stored are the objects that storing a stream makes, that of the stream first. A
// store that keeps no sizes beside its streams keeps nothing there.
func stored(st store.Store, t *store.Tariff, size snapshot.Size) []bill.Object {
	o := bill.Object{Bytes: size.Bytes, Parts: 3} // one part, beginning and ending it
	if !size.Known || size.Bytes >= t.Small {
		o.Class = t.Class
	}
	if t.PartSize > 0 && size.Bytes > t.PartSize {
		o.Parts = int(min((size.Bytes-1)/t.PartSize, 1<<20)) + 3
	}
	if _, beside := st.(store.SizeKeeper); !beside {
		return []bill.Object{o}
	}
	return append([]bill.Object{o}, slices.Repeat([]bill.Object{{Bytes: besideBytes}}, besideObjects)...)
}

// early estimates what it costs to remove snapshots of a store for good now; nil
// where nobody bills that, or there is nothing to remove. What cannot be found out
// is told in the log.
func (e *Engine) early(ctx context.Context, st store.Store, going []snapshot.Snapshot) *Early {
	t := tariff(st)
	if t == nil || len(going) == 0 {
		return nil
	}
	gone := map[snapshot.ID]bool{}
	for _, s := range going {
		gone[s.ID] = true
	}
	var objects []bill.Object
	for h, err := range st.(store.Billed).Holdings(ctx) {
		if err != nil {
			e.log().Warn("what removing costs cannot be told", "store", st.String(), "error", err)
			return nil
		}
		if !h.To.IsZero() && gone[h.To] && !h.Trashed {
			objects = append(objects, bill.Object{Class: h.Class, Bytes: h.Bytes, Since: h.Since})
		}
	}
	early := e.removing(t, objects)
	_, early.Later = st.(store.Trash)
	return early
}

// removing estimates what it costs to remove objects for good now.
func (e *Engine) removing(t *store.Tariff, objects []bill.Object) *Early {
	early := &Early{Estimate: e.prices().Removing(placeOf(t), objects, e.now())}
	for _, o := range objects {
		if o.Since.IsZero() {
			o.Since = e.now()
		}
		if at := e.prices().SettledAt(placeOf(t), o); at.After(early.Settled) && at.After(e.now()) {
			early.Settled = at
		}
	}
	return early
}

// lightest are the streams from which a snapshot is made, the full one first: of
// all ways, that with the fewest bytes. There are none if no way leads to it.
func lightest(edges []snapshot.Stored, to snapshot.ID) []snapshot.Stored {
	from := map[snapshot.ID][]snapshot.Stored{}
	for _, e := range edges {
		from[e.From] = append(from[e.From], e)
	}
	type state struct {
		way
		last snapshot.Stored
		done bool
	}
	best := map[snapshot.ID]*state{{}: {}}
	next := &ways{{}}
	for next.Len() > 0 {
		w := heap.Pop(next).(way)
		here := best[w.id]
		if here.done {
			continue
		}
		if here.done = true; w.id == to {
			break
		}
		for _, e := range from[w.id] {
			onwards := way{e.To, w.bytes + e.Size.Bytes, w.streams + 1}
			if sofar := best[e.To]; sofar == nil || onwards.less(sofar.way) {
				best[e.To] = &state{way: onwards, last: e}
				heap.Push(next, onwards)
			}
		}
	}
	var chain []snapshot.Stored
	for id := to; best[id] != nil && !id.IsZero(); id = best[id].last.From {
		chain = append(chain, best[id].last)
	}
	slices.Reverse(chain)
	return chain
}

// way leads to a snapshot.
type way struct {
	id      snapshot.ID
	bytes   int64
	streams int
}

func (w way) less(v way) bool {
	return w.bytes < v.bytes || w.bytes == v.bytes && w.streams < v.streams
}

// ways are ordered as heap has it.
type ways []way

func (h ways) Len() int           { return len(h) }
func (h ways) Less(i, j int) bool { return h[i].less(h[j]) }
func (h ways) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *ways) Push(x any)        { *h = append(*h, x.(way)) }
func (h *ways) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
