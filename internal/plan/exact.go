package plan

import "math"

// few returns the cheapest tree where few nodes are wanted and chains cost
// nothing. The cheapest way to reach a set of them from a node goes along a link,
// or parts there into the ways to two smaller sets: S. E. Dreyfus and
// R. A. Wagner, "The Steiner problem in graphs", Networks 1 (1971) 195-207. It
// takes 3^k n + 2^k E log E for k wanted ones.
func (p *problem) few() tree {
	var wanted []int
	for v, m := range p.must {
		if m {
			wanted = append(wanted, v)
		}
	}
	all := 1<<len(wanted) - 1
	// The last node is the start.
	type way struct {
		cost float64
		link int32 // along which it goes, or -1
		part int   // the set for the first of two ways, where it parts
	}
	ways := make([][]way, all+1)
	for set := 1; set <= all; set++ {
		at := make([]way, p.n+1)
		var q queue
		for v := range at {
			at[v] = way{cost: math.Inf(1), link: -1}
			for part := (set - 1) & set; part > set/2; part = (part - 1) & set {
				if c := ways[part][v].cost + ways[set^part][v].cost; c < at[v].cost {
					at[v] = way{cost: c, link: -1, part: part}
				}
			}
		}
		for k, v := range wanted {
			if set == 1<<k {
				at[v] = way{link: -1}
			}
		}
		for v := range at {
			if !math.IsInf(at[v].cost, 1) {
				q.put(item{at[v].cost, int32(v)})
			}
		}
		for len(q) > 0 {
			next := q.take()
			if int(next.node) == p.n || next.cost > at[next.node].cost {
				continue
			}
			for _, i := range p.in[next.node] {
				l := &p.links[i]
				from := l.from
				if from == start {
					from = int32(p.n)
				}
				if c := next.cost + l.cost; c < at[from].cost {
					at[from] = way{cost: c, link: i}
					q.put(item{c, from})
				}
			}
		}
		ways[set] = at
	}
	use := make([]bool, p.n)
	var walk func(set, v int)
	walk = func(set, v int) {
		if v < p.n {
			use[v] = true
		}
		switch w := ways[set][v]; {
		case w.link >= 0:
			walk(set, int(p.links[w.link].to))
		case w.part != 0:
			walk(w.part, v)
			walk(set^w.part, v)
		}
	}
	walk(all, p.n)
	return p.arborescence(use, plain)
}

// plain is the cost of a link where chains cost nothing.
func plain(l *link) float64 { return l.cost }

// subsets returns the cheapest tree where few nodes are not wanted and chains
// cost nothing: the best over every choice of them.
func (p *problem) subsets() tree {
	var free []int
	use := make([]bool, p.n)
	for v, m := range p.must {
		use[v] = m
		if !m {
			free = append(free, v)
		}
	}
	var best tree
	least := math.Inf(1)
	for set := range 1 << len(free) {
		for k, v := range free {
			use[v] = set>>k&1 == 1
		}
		if t := p.arborescence(use, plain); t != nil {
			if c := p.cost(t); c < least {
				best, least = t, c
			}
		}
	}
	return best
}

// search looks for a cheaper tree than best by going through all of them, level
// by level: which nodes come to the height, and each from where. It gives up
// after so many turns, and says whether it has seen all.
type search struct {
	p     *problem
	low   *lows
	best  tree
	least float64
	turns int

	tree    tree
	streams []int
	bytes   []float64
	missing int // wanted ones without a link
}

// exhaust returns the cheapest tree, starting from a known one, and how many turns
// are left: none if it has not been able to go through all of them.
func (p *problem) exhaust(known tree, low *lows, turns int) (tree, int) {
	s := &search{
		p: p, low: low, best: known, least: p.cost(known), turns: turns,
		tree: newTree(p.n), streams: make([]int, p.n), bytes: make([]float64, p.n),
	}
	for _, m := range p.must {
		if m {
			s.missing++
		}
	}
	s.level(s.next(0), 0)
	return p.prune(s.best), max(s.turns, 0)
}

// next returns the lowest height above h at which a link from start can put a
// node; 0 if there is none.
func (s *search) next(h int) int {
	n := 0
	for i := range s.p.links {
		if l := &s.p.links[i]; l.from == start && int(l.streams) >= h && (n == 0 || int(l.streams)+1 < n) && s.tree[l.to] < 0 {
			n = int(l.streams) + 1
		}
	}
	return n
}

// level decides about the nodes at height h, those below being decided.
func (s *search) level(h int, cost float64) {
	if s.missing == 0 {
		if cost < s.least {
			s.best, s.least = append(tree(nil), s.tree...), cost
		}
		return
	}
	if h == 0 || s.p.limit > 0 && h > s.p.limit {
		return
	}
	rest := 0.0
	least := make([]float64, s.p.n)
	for v := range least {
		if s.tree[v] < 0 && s.p.must[v] {
			least[v] = s.low.from(h, v)
			rest += least[v]
		}
	}
	s.node(0, h, cost, rest, least, false)
}

// node decides about v and those after it at height h; rest is what the missing
// ones cost at the least.
func (s *search) node(v, h int, cost, rest float64, least []float64, placed bool) {
	if s.turns--; s.turns <= 0 || cost+rest >= s.least {
		return
	}
	p := s.p
	for v < p.n && s.tree[v] >= 0 {
		v++
	}
	if v == p.n {
		if placed {
			s.level(h+1, cost)
		} else {
			s.level(s.next(h), cost)
		}
		return
	}
	for _, i := range p.in[v] {
		l := &p.links[i]
		streams, bytes := int(l.streams), l.bytes
		if l.from != start {
			if s.tree[l.from] < 0 {
				continue
			}
			streams, bytes = s.streams[l.from], s.bytes[l.from]
		}
		if streams+1 != h || !p.fits(h, bytes+l.size) {
			continue
		}
		s.tree[v], s.streams[v], s.bytes[v] = i, h, bytes+l.size
		if p.must[v] {
			s.missing--
		}
		s.node(v+1, h, cost+p.price(l, h, s.bytes[v]), rest-least[v], least, true)
		s.tree[v] = -1
		if p.must[v] {
			s.missing++
		}
	}
	s.node(v+1, h, cost, rest, least, placed)
}
