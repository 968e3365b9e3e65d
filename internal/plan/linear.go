package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// linear reaches the nodes of a problem in their order, each from the chain that
// it lengthens for as long as that may be and is not dearer than a new one. It
// does not begin a chain early where that would be cheaper today: what is left of
// it is for those that come tomorrow.
func (p *problem) linear(order []int) (t tree, cost, bound float64) {
	t = newTree(p.n)
	streams, bytes := make([]int, p.n), make([]float64, p.n)
	for _, v := range order {
		for _, i := range p.in[v] {
			l := &p.links[i]
			s, b := int(l.streams), l.bytes
			if l.from != start {
				if t[l.from] < 0 {
					continue
				}
				s, b = streams[l.from], bytes[l.from]
			}
			s, b = s+1, b+l.size
			if !p.fits(s, b) || t[v] >= 0 && !p.better(l, &p.links[t[v]]) {
				continue
			}
			t[v], streams[v], bytes[v] = i, s, b
		}
	}
	// Without limits on chains the cheapest way to each is the least that it costs.
	for _, in := range p.in {
		least := math.Inf(1)
		for _, i := range in {
			least = min(least, p.links[i].cost)
		}
		bound += least
	}
	cost = p.cost(t)
	return t, cost, min(bound, cost)
}

// better prefers the link that costs less, and then the better guess.
func (p *problem) better(a, b *link) bool {
	return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.tie, b.tie)) < 0
}

// byLevel is the order of the nodes of a part in which steps are best taken.
func (g *graph) byLevel(part []int) []int {
	order := make([]int, len(part))
	for v := range order {
		order[v] = v
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(g.of(part[a]).family, g.of(part[b]).family), cmp.Compare(g.nodes[part[a]].level, g.nodes[part[b]].level))
	})
	return order
}

// whyAnew says why a snapshot that could have lengthened a chain begins a new one.
func (d *decision) whyAnew(n int, a *arc) string {
	for _, i := range d.graph.in[n] {
		from := d.graph.arcs[i].from
		if from == 0 || !d.graph.nodes[from].there && d.sol.choice[from] < 0 {
			continue
		}
		if _, why := d.dearer(n, i); why != "" {
			return fmt.Sprintf("full: %s, as a new chain: with an increment from %s %s", amount(a.bytes, a.size), d.name(from), why)
		}
	}
	return ""
}

// Needed returns, for the snapshots of a store that are to be kept, what else has
// to stay with them, each with the nearest of those that need it: at an archive,
// all that any chain to them goes through, since which of several chains is
// relied on is not known. What lies outside of the store's directory stays
// anyway, and needs what it needs. Elsewhere every snapshot stands alone.
func Needed(inv *snapshot.Inventory, keep func(snapshot.ID) bool) map[snapshot.ID]snapshot.ID {
	needed := map[snapshot.ID]snapshot.ID{}
	if !inv.Archive {
		return needed
	}
	var kept []snapshot.ID
	for _, s := range inv.Snapshots {
		if s.Outside || keep(s.ID) {
			kept = append(kept, s.ID)
		}
	}
	for id, by := range closure(inv, kept) {
		if id != by {
			needed[id] = by
		}
	}
	return needed
}

// closure returns all from which streams of an archive lead to some snapshots,
// those included, each with the nearest of these.
func closure(inv *snapshot.Inventory, from []snapshot.ID) map[snapshot.ID]snapshot.ID {
	before := map[snapshot.ID][]snapshot.ID{}
	for _, e := range inv.Edges {
		if !e.IsFull() {
			before[e.To] = append(before[e.To], e.From)
		}
	}
	by := make(map[snapshot.ID]snapshot.ID, len(from))
	look := slices.Clone(from)
	for _, id := range from {
		by[id] = id
	}
	for k := 0; k < len(look); k++ {
		for _, up := range before[look[k]] {
			if _, seen := by[up]; !seen {
				by[up] = by[look[k]]
				look = append(look, up)
			}
		}
	}
	return by
}
