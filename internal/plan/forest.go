package plan

import "math"

// forest is a tree in the making that knows its chains, so that a change costs
// only what hangs on it.
type forest struct {
	p       *problem
	tree    tree
	streams []int
	bytes   []float64
	kids    [][]int32
	below   []int32 // room for what a change touches
}

// plant makes a forest of a tree that is known to be one, or of an empty one.
func (p *problem) plant(t tree) *forest {
	f := &forest{p: p, tree: newTree(p.n), kids: make([][]int32, p.n)}
	f.streams, f.bytes, _ = p.chains(t)
	for v, i := range t {
		f.tree[v] = i
		if i >= 0 && p.links[i].from != start {
			f.kids[p.links[i].from] = append(f.kids[p.links[i].from], int32(v))
		}
	}
	return f
}

// chain returns the chain at whose end a link would put its target.
func (f *forest) chain(l *link) (streams int, bytes float64) {
	if l.from == start {
		return int(l.streams) + 1, l.bytes + l.size
	}
	return f.streams[l.from] + 1, f.bytes[l.from] + l.size
}

// reached reports whether a link can be used as the forest stands.
func (f *forest) reached(l *link) bool { return l.from == start || f.tree[l.from] >= 0 }

// under lists v and all that hangs on it, those above first. The list is good
// until the next call.
func (f *forest) under(v int32) []int32 {
	f.below = append(f.below[:0], v)
	for i := 0; i < len(f.below); i++ {
		f.below = append(f.below, f.kids[f.below[i]]...)
	}
	return f.below
}

// above reports whether v is w or one of those on which w hangs.
func (f *forest) above(v, w int32) bool {
	if len(f.kids[v]) == 0 {
		return v == w
	}
	for ; w != start && f.tree[w] >= 0; w = f.p.links[f.tree[w]].from {
		if w == v {
			return true
		}
	}
	return v == w
}

// attach reaches a node through another link than before; -1 takes it out.
func (f *forest) attach(v, i int32) {
	p := f.p
	if old := f.tree[v]; old >= 0 && p.links[old].from != start {
		kids := f.kids[p.links[old].from]
		for k, x := range kids {
			if x == v {
				f.kids[p.links[old].from] = append(kids[:k:k], kids[k+1:]...)
				break
			}
		}
	}
	f.tree[v] = i
	if i < 0 {
		return
	}
	if from := p.links[i].from; from != start {
		f.kids[from] = append(f.kids[from], v)
	}
	for _, x := range f.under(v) {
		f.streams[x], f.bytes[x] = f.chain(&p.links[f.tree[x]])
	}
}

// weigh returns what is paid for some nodes, those above first, and infinity if
// a chain is too long.
func (f *forest) weigh(nodes []int32) float64 {
	sum := 0.0
	for _, x := range nodes {
		if !f.p.fits(f.streams[x], f.bytes[x]) {
			return math.Inf(1)
		}
		sum += f.p.price(&f.p.links[f.tree[x]], f.streams[x], f.bytes[x])
	}
	return sum
}

// change returns by how much the cost grows when v, in the forest, is reached
// through link i, and infinity where it cannot be. Below is v with all that
// hangs on it.
func (f *forest) change(v, i int32, below []int32) float64 {
	p := f.p
	was, will := &p.links[f.tree[v]], &p.links[i]
	streams, bytes := f.chain(will)
	if !p.risk {
		return will.cost - was.cost
	}
	deeper, more := streams-f.streams[v], bytes-f.bytes[v]
	grown := 0.0
	for _, x := range below {
		s, b := f.streams[x]+deeper, f.bytes[x]+more
		if !p.fits(s, b) {
			return math.Inf(1)
		}
		l := &p.links[f.tree[x]]
		before := p.price(l, f.streams[x], f.bytes[x])
		if x == v {
			l = will
		}
		grown += p.price(l, s, b) - before
	}
	return grown
}
