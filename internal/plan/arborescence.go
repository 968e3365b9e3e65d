package plan

// This is Edmonds' minimum arborescence in Tarjan's form with mergeable heaps:
// from every node the cheapest way in is followed backwards until it comes to
// the start or closes a circle; a circle becomes one node, whose ways in cost
// what they cost more than the one that they replace.
// R. E. Tarjan, "Finding optimum branchings", Networks 7 (1977) 25-35; the
// opening of the circles is that of P. M. Camerini, L. Fratta and F. Maffioli,
// "A note on finding optimum branchings", Networks 9 (1979) 309-312.

// weight is compared first by cost, then by tie.
type weight struct {
	cost float64
	tie  int64
}

func (a weight) minus(b weight) weight { return weight{a.cost - b.cost, a.tie - b.tie} }

func (a weight) less(b weight) bool {
	return a.cost < b.cost || a.cost == b.cost && a.tie < b.tie
}

// arborescence returns the cheapest tree over the nodes that may be used (all of
// them if use is nil), by what each link costs; nil if some cannot be reached.
// It takes O(E log V).
func (p *problem) arborescence(use []bool, cost func(l *link) float64) tree {
	e := &edmonds{
		heaps: make([]*heap, p.n, 2*p.n), in: make([]int32, p.n, 2*p.n),
		leader: make([]int32, p.n, 2*p.n), circle: make([]int32, p.n, 2*p.n), inner: make([][]int32, p.n, 2*p.n),
	}
	// Heaps are filled in pairs, so that filling one takes linear time.
	var fill []*heap
	for v := range p.n {
		e.leader[v], e.circle[v], e.in[v] = int32(v), -1, -1
		if use != nil && !use[v] {
			continue
		}
		fill = fill[:0]
		for _, i := range p.in[v] {
			l := &p.links[i]
			if l.from != start && use != nil && !use[l.from] {
				continue
			}
			fill = append(fill, &heap{link: i, weight: weight{cost(l), l.tie}, rank: 1})
		}
		for len(fill) > 1 {
			fill = append(fill[2:], merge(fill[0], fill[1]))
		}
		if len(fill) == 1 {
			e.heaps[v] = fill[0]
		}
	}
	const (
		fresh = iota
		onPath
		done
	)
	state := make([]byte, 2*p.n)
	var path []int32
	for v := range p.n {
		if use != nil && !use[v] {
			continue
		}
		path = path[:0]
		for u := e.find(int32(v)); state[u] != done; {
			if state[u] == onPath {
				c := int32(len(e.in))
				e.open(c)
				var all *heap
				for {
					x := path[len(path)-1]
					path = path[:len(path)-1]
					e.leader[x], e.circle[x] = c, c
					e.inner[c] = append(e.inner[c], x)
					all = merge(all, e.heaps[x])
					e.heaps[x] = nil
					if x == u {
						break
					}
				}
				e.heaps[c] = all
				u = c
			}
			state[u] = onPath
			path = append(path, u)
			// The cheapest way in that does not come from within.
			var l *link
			for l == nil {
				h := e.heaps[u]
				if h == nil {
					return nil
				}
				h.push()
				if x := &p.links[h.link]; x.from == start || e.find(x.from) != u {
					l = x
					e.in[u] = h.link
					h.add(weight{}.minus(h.weight))
				} else {
					e.heaps[u] = merge(h.left, h.right)
				}
			}
			if l.from == start {
				break
			}
			u = e.find(l.from)
		}
		for _, x := range path {
			state[x] = done
		}
	}
	return e.tree(p)
}

// edmonds has the nodes and, after them, the circles.
type edmonds struct {
	heaps  []*heap
	in     []int32   // the link by which it is entered
	leader []int32   // union-find
	circle []int32   // the circle of which it is a part
	inner  [][]int32 // the parts of a circle
}

// open makes room for the circle c.
func (e *edmonds) open(c int32) {
	e.heaps = append(e.heaps, nil)
	e.in = append(e.in, -1)
	e.leader = append(e.leader, c)
	e.circle = append(e.circle, -1)
	e.inner = append(e.inner, nil)
}

func (e *edmonds) find(x int32) int32 {
	for e.leader[x] != x {
		e.leader[x] = e.leader[e.leader[x]]
		x = e.leader[x]
	}
	return x
}

// tree opens the circles from the outermost inwards: each is broken where it is
// entered.
func (e *edmonds) tree(p *problem) tree {
	t := newTree(p.n)
	var whole []int32
	for x := range e.in {
		if e.circle[x] < 0 && e.in[x] >= 0 {
			whole = append(whole, int32(x))
		}
	}
	for len(whole) > 0 {
		r := whole[len(whole)-1]
		whole = whole[:len(whole)-1]
		i := e.in[r]
		x := p.links[i].to
		t[x] = i
		for x != r {
			c := e.circle[x]
			for _, y := range e.inner[c] {
				if y != x {
					whole = append(whole, y)
				}
			}
			x = c
		}
	}
	return t
}

// heap is a leftist heap of links; adding to all weights takes constant time.
type heap struct {
	left, right *heap
	link        int32
	rank        int32
	weight      weight
	owed        weight // what those below have still to be given
}

func (h *heap) add(w weight) {
	if h == nil {
		return
	}
	h.weight.cost += w.cost
	h.weight.tie += w.tie
	h.owed.cost += w.cost
	h.owed.tie += w.tie
}

func (h *heap) push() {
	h.left.add(h.owed)
	h.right.add(h.owed)
	h.owed = weight{}
}

func (h *heap) height() int32 {
	if h == nil {
		return 0
	}
	return h.rank
}

func merge(a, b *heap) *heap {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	if b.weight.less(a.weight) || b.weight == a.weight && b.link < a.link {
		a, b = b, a
	}
	a.push()
	a.right = merge(a.right, b)
	if a.left.height() < a.right.height() {
		a.left, a.right = a.right, a.left
	}
	a.rank = a.right.height() + 1
	return a
}
