package plan

import (
	"cmp"
	"math"
	"slices"
)

// lows says what links cost at the least, whatever the rest of the tree: with
// the fewest streams and the fewest bytes that can lead to where they begin.
type lows struct {
	p       *problem
	streams []int
	bytes   []float64
}

func (p *problem) lows() *lows {
	low := &lows{p: p, streams: make([]int, p.n), bytes: make([]float64, p.n)}
	if !p.risk {
		return low
	}
	for v := range p.n {
		low.streams[v], low.bytes[v] = math.MaxInt, math.Inf(1)
	}
	// Twice the same walk; the number of streams is exact as a float64.
	p.walk(func(l *link) float64 { return float64(l.streams + 1) }, func(*link) float64 { return 1 },
		func(v int32, least float64) { low.streams[v] = int(least) })
	p.walk(func(l *link) float64 { return l.bytes + l.size }, func(l *link) float64 { return l.size },
		func(v int32, least float64) { low.bytes[v] = least })
	return low
}

// walk finds the least sum over the links of a way to every node.
func (p *problem) walk(first, further func(*link) float64, found func(v int32, least float64)) {
	var q queue
	done := make([]bool, p.n)
	for i := range p.links {
		if l := &p.links[i]; l.from == start {
			q.put(item{first(l), l.to})
		}
	}
	for len(q) > 0 {
		next := q.take()
		if done[next.node] {
			continue
		}
		done[next.node] = true
		found(next.node, next.cost)
		for _, i := range p.out[next.node] {
			if l := &p.links[i]; !done[l.to] {
				q.put(item{next.cost + further(l), l.to})
			}
		}
	}
}

// price is the least that a link can cost.
func (low *lows) price(l *link) float64 {
	if l.from == start {
		return low.p.price(l, int(l.streams)+1, l.bytes+l.size)
	}
	if !low.p.risk {
		return l.cost
	}
	return low.p.price(l, low.streams[l.from]+1, low.bytes[l.from]+l.size)
}

// from is the least that reaching v at height h or above can cost.
func (low *lows) from(h, v int) float64 {
	least := math.Inf(1)
	for _, i := range low.p.in[v] {
		l := &low.p.links[i]
		streams, bytes := int(l.streams), l.bytes
		if l.from != start {
			streams, bytes = low.streams[l.from], low.bytes[l.from]
		} else if streams+1 < h {
			continue
		}
		least = min(least, low.p.price(l, max(h, streams+1), bytes+l.size))
	}
	return least
}

// relaxed is a graph in which every tree costs no more than one of the problem:
// chains cost nothing in it.
type relaxed struct {
	must []bool
	// The links to a node v are those from first[v] to first[v+1].
	first []int32
	from  []int32
	left  []float64 // of their prices
}

func (x *relaxed) link(from int32, price float64) {
	x.from = append(x.from, from)
	x.left = append(x.left, price)
}

// end ends the links to a node.
func (x *relaxed) end(must bool) {
	x.must = append(x.must, must)
	x.first = append(x.first, int32(len(x.from)))
}

func newRelaxed(nodes, links int) *relaxed {
	return &relaxed{
		must: make([]bool, 0, nodes), first: make([]int32, 1, nodes+1),
		from: make([]int32, 0, links), left: make([]float64, 0, links),
	}
}

// relax gives every link the least that it can cost.
func (p *problem) relax(low *lows) *relaxed {
	x := newRelaxed(p.n, len(p.links))
	for v := range p.n {
		for _, i := range p.in[v] {
			x.link(p.links[i].from, low.price(&p.links[i]))
		}
		x.end(p.must[v])
	}
	return x
}

// layers is the height to which layered tells chains apart.
const layers = 8

// layered has every node once for each height that it can come to, the last
// standing for all above, and before them one that is reached from any of these.
// A link has the price of its height, with the fewest bytes that can lead to it.
func (p *problem) layered(low *lows) *relaxed {
	top := layers
	if p.limit > 0 {
		top = min(top, p.limit)
	}
	x := newRelaxed(p.n*(top+1), (len(p.links)+p.n)*(top+1))
	at := func(v int32, h int) int32 { return v*int32(top+1) + int32(h) }
	for v := range int32(p.n) {
		for h := 1; h <= top; h++ {
			x.link(at(v, h), 0)
		}
		x.end(p.must[v])
		for h := 1; h <= top; h++ {
			for _, i := range p.in[v] {
				l := &p.links[i]
				if l.from == start {
					if s := int(l.streams) + 1; min(s, top) == h {
						x.link(start, p.price(l, s, l.bytes+l.size))
					}
					continue
				}
				price := p.price(l, h, low.bytes[l.from]+l.size)
				if low.streams[l.from] < h {
					x.link(at(l.from, h-1), price)
				}
				if h == top && h != p.limit {
					x.link(at(l.from, h), price)
				}
			}
			x.end(false)
		}
	}
	return x
}

// ascend returns a lower bound for the cost of every tree that reaches what is
// wanted. A wanted node that is not reached has a set of nodes that lead to it
// for nothing; one of the links into that set has to be paid for, so the
// cheapest of their prices is owed, and taken off them all.
// R. T. Wong, "A dual ascent approach for Steiner tree problems on a directed
// graph", Mathematical Programming 28 (1984) 271-287. It may stop at any time,
// and does so when its turns are used up.
func (x *relaxed) ascend(turns *int) float64 {
	bound := 0.0
	seen := make([]int32, len(x.must))
	var set []int32
	stamp := int32(0)
	// reach finds what leads to v for nothing, and false if start does.
	reach := func(v int32) bool {
		stamp++
		set = append(set[:0], v)
		seen[v] = stamp
		for k := 0; k < len(set); k++ {
			first, last := x.first[set[k]], x.first[set[k]+1]
			*turns -= int(last - first)
			for i := first; i < last; i++ {
				if x.left[i] > 0 {
					continue
				}
				from := x.from[i]
				if from == start {
					return false
				}
				if seen[from] != stamp {
					seen[from] = stamp
					set = append(set, from)
				}
			}
		}
		return true
	}
	var q queue
	for v, m := range x.must {
		if m {
			q.put(item{1, int32(v)})
		}
	}
	for len(q) > 0 && *turns > 0 {
		next := q.take()
		if !reach(next.node) {
			continue
		}
		if size := float64(len(set)); size > next.cost {
			q.put(item{size, next.node}) // smaller sets first
			continue
		}
		owed := math.Inf(1)
		entering := func(do func(i int32)) {
			for _, v := range set {
				for i := x.first[v]; i < x.first[v+1]; i++ {
					if from := x.from[i]; from == start || seen[from] != stamp {
						do(i)
					}
				}
			}
		}
		entering(func(i int32) { owed = min(owed, x.left[i]) })
		if math.IsInf(owed, 1) {
			continue
		}
		bound += owed
		entering(func(i int32) { x.left[i] -= owed })
		q.put(next)
	}
	return bound
}

// paid returns the cheapest tree of the links that ascend has left no price, from
// what relax made of the problem. It is often the cheapest of all; nil if they
// do not reach everything.
func (p *problem) paid(x *relaxed) tree {
	q := &problem{n: p.n, must: p.must, risk: p.risk, limit: p.limit, heaviest: p.heaviest}
	var number []int32
	for v, n := 0, 0; v < p.n; v++ {
		for _, i := range p.in[v] {
			if x.left[n] <= 0 {
				q.links = append(q.links, p.links[i])
				number = append(number, i)
			}
			n++
		}
	}
	q.index()
	use := make([]bool, p.n)
	none := func(*link) float64 { return 0 }
	q.walk(none, none, func(v int32, _ float64) { use[v] = true })
	for v, m := range p.must {
		if m && !use[v] {
			return nil
		}
	}
	t := q.arborescence(use, plain)
	for v, i := range t {
		if i >= 0 {
			t[v] = number[i]
		}
	}
	return p.prune(t)
}

// item waits in a queue.
type item struct {
	cost float64
	node int32
}

// queue gives back its items by cost, and those that cost the same by node.
type queue []item

func (a item) compare(b item) int {
	return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.node, b.node))
}

func (q *queue) put(x item) {
	*q = append(*q, x)
	h := *q
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].compare(h[i]) <= 0 {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

func (q *queue) take() item {
	h := *q
	top, n := h[0], len(h)-1
	h[0] = h[n]
	h = slices.Delete(h, n, n+1)
	for i := 0; ; {
		least := i
		for _, k := range [2]int{2*i + 1, 2*i + 2} {
			if k < n && h[k].compare(h[least]) < 0 {
				least = k
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*q = h
	return top
}
