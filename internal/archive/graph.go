package archive

import (
	"bytes"
	"slices"
	"sort"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// graph tells which snapshots of a catalogue have a chain: streams of which the
// first is full, and each other one starts from what the one before makes. It
// takes 8 bytes for each stream.
type graph struct {
	c      *catalogue
	start  []uint32 // for each snapshot, the first entry that leads to it
	byFrom []uint32 // entries of increments, ordered by what they start from
}

func newGraph(c *catalogue) *graph {
	g := &graph{c: c}
	for i := range c.entries {
		if i == 0 || c.entries[i].to != c.entries[i-1].to {
			g.start = append(g.start, uint32(i))
		}
		if !c.entries[i].from.IsZero() {
			g.byFrom = append(g.byFrom, uint32(i))
		}
	}
	slices.SortFunc(g.byFrom, func(i, j uint32) int { return bytes.Compare(c.entries[i].from[:], c.entries[j].from[:]) })
	return g
}

// node finds a snapshot.
func (g *graph) node(id snapshot.ID) (int, bool) {
	n := sort.Search(len(g.start), func(i int) bool { return bytes.Compare(g.c.entries[g.start[i]].to[:], id[:]) >= 0 })
	return n, n < len(g.start) && g.c.entries[g.start[n]].to == id
}

// end is where the entries that lead to a snapshot end.
func (g *graph) end(n int) uint32 {
	if n+1 < len(g.start) {
		return g.start[n+1]
	}
	return uint32(len(g.c.entries))
}

// rooted tells for each snapshot whether it has a chain without the streams that
// are skipped.
func (g *graph) rooted(skip func(*entry) bool) []bool {
	done := make([]bool, len(g.start))
	var look []int
	for n := range g.start {
		for i := g.start[n]; i < g.end(n); i++ {
			if e := &g.c.entries[i]; e.from.IsZero() && (skip == nil || !skip(e)) {
				done[n] = true
				look = append(look, n)
				break
			}
		}
	}
	for len(look) > 0 {
		id := g.c.entries[g.start[look[len(look)-1]]].to
		look = look[:len(look)-1]
		for at := g.after(id); at < len(g.byFrom) && g.c.entries[g.byFrom[at]].from == id; at++ {
			e := &g.c.entries[g.byFrom[at]]
			if skip != nil && skip(e) {
				continue
			}
			if n, _ := g.node(e.to); !done[n] {
				done[n] = true
				look = append(look, n)
			}
		}
	}
	return done
}

// after is where in byFrom the entries begin that start from a snapshot.
func (g *graph) after(id snapshot.ID) int {
	return sort.Search(len(g.byFrom), func(i int) bool { return bytes.Compare(g.c.entries[g.byFrom[i]].from[:], id[:]) >= 0 })
}

// inside reports whether a snapshot is below the prefix, as far as its streams
// are not skipped.
func (g *graph) inside(n int, skip func(*entry) bool) bool {
	for i := g.start[n]; i < g.end(n); i++ {
		if e := &g.c.entries[i]; !e.has(flagOutside) && (skip == nil || !skip(e)) {
			return true
		}
	}
	return false
}

// remains reports whether a snapshot has streams that are not skipped.
func (g *graph) remains(n int, skip func(*entry) bool) bool {
	for i := g.start[n]; i < g.end(n); i++ {
		if !skip(&g.c.entries[i]) {
			return true
		}
	}
	return false
}

// name is a path of a snapshot, inside if there is one.
func (g *graph) name(n int) string {
	for i := g.start[n]; i < g.end(n); i++ {
		if e := &g.c.entries[i]; !e.has(flagOutside | flagTrashed) {
			return g.c.paths[e.path]
		}
	}
	return g.c.paths[g.c.entries[g.start[n]].path]
}

// lacking reports whether there is a snapshot without chain.
func (g *graph) lacking() bool { return slices.Contains(g.rooted(nil), false) }

// unrooted counts the snapshots inside that have no chain.
func (g *graph) unrooted() (t tally) {
	for n, ok := range g.rooted(nil) {
		if !ok && g.inside(n, nil) {
			t.add(g.name(n))
		}
	}
	return t
}

// cheapest finds for each snapshot a chain of the least cost, where each stream
// costs 0 or 1: it returns the last entry of each chain, or -1.
func (g *graph) cheapest(cost func(*entry) int) (via []int) {
	via = make([]int, len(g.start))
	at := make([]int, len(g.start))
	for n := range via {
		via[n], at[n] = -1, len(g.c.entries)+1
	}
	// What is reached at the cost that is looked at, and at one more.
	var now, later []int
	reach := func(i uint32, before int) {
		e := &g.c.entries[i]
		n, _ := g.node(e.to)
		d := cost(e)
		if before+d >= at[n] {
			return
		}
		at[n], via[n] = before+d, int(i)
		if d == 0 {
			now = append(now, n)
		} else {
			later = append(later, n)
		}
	}
	for i := range g.c.entries {
		if g.c.entries[i].from.IsZero() {
			reach(uint32(i), 0)
		}
	}
	for d := 0; len(now)+len(later) > 0; d++ {
		for len(now) > 0 {
			n := now[len(now)-1]
			now = now[:len(now)-1]
			if at[n] != d {
				continue // it has been reached for less
			}
			id := g.c.entries[g.start[n]].to
			for j := g.after(id); j < len(g.byFrom) && g.c.entries[g.byFrom[j]].from == id; j++ {
				reach(g.byFrom[j], d)
			}
		}
		now, later = later, nil
	}
	return via
}

// missed gives of what is gone those entries that snapshots need which are there
// and have no chain, as few as there can be of each chain, and in the order of the
// chain, until each returns false. Meant says which of the snapshots count.
func (g *graph) missed(gone func(*entry) bool, meant func(n int) bool, each func(e *entry, by string) bool) {
	live := g.rooted(gone)
	if !slices.Contains(live, false) {
		return
	}
	via := g.cheapest(func(e *entry) int {
		if gone(e) {
			return 1
		}
		return 0
	})
	for n := range g.start {
		if live[n] || !meant(n) {
			continue
		}
		var chain []*entry
		g.follow(via, n, func(e *entry) {
			if gone(e) {
				chain = append(chain, e)
			}
		})
		for _, e := range slices.Backward(chain) {
			if !each(e, g.name(n)) {
				break
			}
		}
	}
}

// missable gives of what is gone all that could be in a chain of snapshots which
// are there and have none. Which of several ways there are will be put back nobody
// knows, and other machines may be removing some of them.
func (g *graph) missable(gone func(*entry) bool, each func(e *entry, by string)) {
	live, all := g.rooted(gone), g.rooted(nil)
	seen := make([]bool, len(g.start))
	for n := range g.start {
		if live[n] || !all[n] || !g.remains(n, gone) {
			continue
		}
		by := g.name(n)
		for look := []int{n}; len(look) > 0; {
			n := look[len(look)-1]
			look = look[:len(look)-1]
			if seen[n] || live[n] {
				continue
			}
			seen[n] = true
			for i := g.start[n]; i < g.end(n); i++ {
				e := &g.c.entries[i]
				from, ok := g.node(e.from)
				if !e.from.IsZero() && (!ok || !all[from]) {
					continue // nothing can be made of it
				}
				if gone(e) {
					each(e, by)
				}
				if !e.from.IsZero() {
					look = append(look, from)
				}
			}
		}
	}
}

// follow gives the entries of the chain to a snapshot that cheapest has found, the
// last one first.
func (g *graph) follow(via []int, n int, each func(*entry)) {
	for ok := true; ok && via[n] >= 0; {
		e := &g.c.entries[via[n]]
		each(e)
		n, ok = g.node(e.from)
	}
}
