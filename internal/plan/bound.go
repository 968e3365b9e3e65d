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
	p.walk(func(l *link) float64 { return float64(l.streams) + 1 }, func(*link) float64 { return 1 },
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
		return low.p.price(l, l.streams+1, l.bytes+l.size)
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
		streams, bytes := l.streams, l.bytes
		if l.from != start {
			streams, bytes = low.streams[l.from], low.bytes[l.from]
		} else if streams+1 < h {
			continue
		}
		least = min(least, low.p.price(l, max(h, streams+1), bytes+l.size))
	}
	return least
}

// ascend returns a lower bound for the cost of every tree that reaches what is
// wanted. A wanted node that is not reached has a set of nodes that lead to it
// for nothing; one of the links into that set has to be paid for, so the
// cheapest of their prices is owed, and taken off them all.
// R. T. Wong, "A dual ascent approach for Steiner tree problems on a directed
// graph", Mathematical Programming 28 (1984) 271-287. It may stop at any time,
// and does so when its turns are used up.
func (p *problem) ascend(low *lows, turns int) float64 {
	left := make([]float64, len(p.links))
	for i := range p.links {
		left[i] = low.price(&p.links[i])
	}
	bound := 0.0
	seen := make([]int32, p.n)
	var set []int32
	stamp := int32(0)
	// gather finds what leads to v for nothing, and false if start does.
	gather := func(v int32) bool {
		stamp++
		set = append(set[:0], v)
		seen[v] = stamp
		for k := 0; k < len(set); k++ {
			for _, i := range p.in[set[k]] {
				turns--
				if left[i] > 0 {
					continue
				}
				from := p.links[i].from
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
	for v, m := range p.must {
		if m {
			q.put(item{1, int32(v)})
		}
	}
	for len(q) > 0 && turns > 0 {
		next := q.take()
		if !gather(next.node) {
			continue
		}
		if size := float64(len(set)); size > next.cost {
			q.put(item{size, next.node}) // smaller sets first
			continue
		}
		owed := math.Inf(1)
		for _, v := range set {
			for _, i := range p.in[v] {
				if from := p.links[i].from; from == start || seen[from] != stamp {
					owed = min(owed, left[i])
				}
			}
		}
		if math.IsInf(owed, 1) {
			continue
		}
		bound += owed
		for _, v := range set {
			for _, i := range p.in[v] {
				if from := p.links[i].from; from == start || seen[from] != stamp {
					left[i] -= owed
				}
			}
		}
		q.put(next)
	}
	return bound
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
