package plan

import (
	"math"
)

// gains reports whether a change is an improvement and not a rounding.
func gains(change, of float64) bool { return change < -1e-9*(math.Abs(of)+1) }

// nearest grows a tree by whichever node costs the least to add next, as the
// chains are by then.
func (p *problem) nearest() tree {
	f := p.plant(newTree(p.n))
	var q queue // of links
	put := func(i int32) {
		l := &p.links[i]
		if f.tree[l.to] >= 0 {
			return
		}
		streams, bytes := f.chain(l)
		if !p.fits(streams, bytes) {
			return
		}
		q.put(item{p.price(l, streams, bytes), i})
	}
	for i := range p.links {
		if p.links[i].from == start {
			put(int32(i))
		}
	}
	for len(q) > 0 {
		i := q.take().node
		v := p.links[i].to
		if f.tree[v] >= 0 {
			continue
		}
		f.attach(v, i)
		for _, i := range p.out[v] {
			put(i)
		}
	}
	return p.prune(f.tree)
}

// lowest is the tree in which nothing can have fewer streams before it.
func (p *problem) lowest() tree {
	f := p.plant(newTree(p.n))
	var q queue
	for i := range p.links {
		if l := &p.links[i]; l.from == start {
			q.put(item{float64(l.streams), int32(i)})
		}
	}
	for len(q) > 0 {
		next := q.take()
		v := p.links[next.node].to
		if f.tree[v] >= 0 {
			continue
		}
		f.attach(v, next.node)
		for _, i := range p.out[v] {
			q.put(item{next.cost + 1, i})
		}
	}
	return p.prune(f.tree)
}

// lightest is the tree in which nothing can have fewer bytes before it.
func (p *problem) lightest() tree {
	f := p.plant(newTree(p.n))
	var q queue
	for i := range p.links {
		if l := &p.links[i]; l.from == start {
			q.put(item{l.bytes + l.size, int32(i)})
		}
	}
	for len(q) > 0 {
		next := q.take()
		v := p.links[next.node].to
		if f.tree[v] >= 0 {
			continue
		}
		f.attach(v, next.node)
		for _, i := range p.out[v] {
			q.put(item{next.cost + p.links[i].size, i})
		}
	}
	return p.prune(f.tree)
}

// along attaches the nodes in the order of a tree, those above first, each
// where it costs the least by then.
func (p *problem) along(t tree) tree {
	if t == nil {
		return nil
	}
	f := p.plant(newTree(p.n))
	kids := make([][]int32, p.n)
	var order []int32
	for v, i := range t {
		if i < 0 {
			continue
		}
		if from := p.links[i].from; from == start {
			order = append(order, int32(v))
		} else {
			kids[from] = append(kids[from], int32(v))
		}
	}
	for k := 0; k < len(order); k++ {
		v := order[k]
		order = append(order, kids[v]...)
		best, least := int32(-1), math.Inf(1)
		for _, i := range p.in[v] {
			l := &p.links[i]
			if !f.reached(l) {
				continue
			}
			streams, bytes := f.chain(l)
			if !p.fits(streams, bytes) {
				continue
			}
			if c := p.price(l, streams, bytes); c < least {
				best, least = i, c
			}
		}
		if best >= 0 {
			f.attach(v, best)
		}
	}
	return p.prune(f.tree)
}

// improve takes steps from a tree, each of which makes it cheaper: another way
// into a node; a node before the one that it came from; a node that is not
// wanted put in or taken out. It stops where there is none, or when its turns
// are used up.
func (p *problem) improve(t tree, turns *int) tree {
	f := p.plant(t)
	for moved := true; moved && *turns > 0; {
		moved = false
		for v := range p.n {
			if *turns <= 0 {
				break
			}
			switch {
			case f.tree[v] >= 0 && !p.must[v] && len(f.kids[v]) == 0:
				f.attach(int32(v), -1)
				moved = true
			case f.tree[v] >= 0:
				moved = f.move(int32(v), turns) || f.swap(int32(v), turns) || moved
			default:
				moved = f.insert(int32(v), turns) || moved
			}
		}
	}
	return p.prune(f.tree)
}

// move reaches v in the way that makes all cheapest.
func (f *forest) move(v int32, turns *int) bool {
	p := f.p
	if len(p.in[v]) < 2 {
		return false
	}
	below := f.under(v)
	best, least := int32(-1), 0.0
	for _, i := range p.in[v] {
		if i == f.tree[v] || !f.reached(&p.links[i]) || f.above(v, max(p.links[i].from, 0)) && p.links[i].from != start {
			continue
		}
		*turns -= len(below)
		if c := f.change(v, i, below); c < least {
			best, least = i, c
		}
	}
	if best < 0 || !gains(least, f.weigh(below)) {
		return false
	}
	f.attach(v, best)
	return true
}

// swap puts v before the node that it comes from.
func (f *forest) swap(v int32, turns *int) bool {
	p := f.p
	up := p.links[f.tree[v]].from
	if up == start {
		return false
	}
	back := int32(-1)
	for _, i := range p.out[v] {
		if p.links[i].to == up {
			back = i
		}
	}
	if back < 0 {
		return false
	}
	was, above := f.tree[v], f.tree[up]
	// What changes is all below the upper one; the list is taken before, since
	// its order is not good after.
	all := append([]int32(nil), f.under(up)...)
	before := f.weigh(all)
	best, least := int32(-1), before
	for _, i := range p.in[v] {
		l := &p.links[i]
		if !f.reached(l) || l.from != start && f.above(up, l.from) {
			continue
		}
		*turns -= 3 * len(all)
		f.attach(v, i)
		f.attach(up, back)
		if c := f.weigh(all); c < least {
			best, least = i, c
		}
		f.attach(up, above)
		f.attach(v, was)
	}
	if best < 0 || !gains(least-before, before) {
		return false
	}
	f.attach(v, best)
	f.attach(up, back)
	return true
}

// insert takes in a node that is not wanted if others gain more by it than it
// costs.
func (f *forest) insert(u int32, turns *int) bool {
	p := f.p
	best, least := int32(-1), math.Inf(1)
	for _, i := range p.in[u] {
		l := &p.links[i]
		if !f.reached(l) {
			continue
		}
		*turns--
		streams, bytes := f.chain(l)
		if !p.fits(streams, bytes) {
			continue
		}
		if c := p.price(l, streams, bytes); c < least {
			best, least = i, c
		}
	}
	if best < 0 {
		return false
	}
	f.attach(u, best)
	type change struct{ v, was int32 }
	var done []change
	sum := least
	for _, i := range p.out[u] {
		v := p.links[i].to
		if f.tree[v] < 0 || f.above(v, u) {
			continue
		}
		below := f.under(v)
		*turns -= len(below)
		if c := f.change(v, i, below); c < 0 {
			done = append(done, change{v, f.tree[v]})
			f.attach(v, i)
			sum += c
		}
	}
	if gains(sum, least) {
		return true
	}
	for k := len(done) - 1; k >= 0; k-- {
		f.attach(done[k].v, done[k].was)
	}
	f.attach(u, -1)
	return false
}
