package plan

import "math"

// effort bounds the work of one planning, in turns of its loops and not in
// time, so that the same inventories give the same plan on every machine.
type effort struct {
	exhaust int // of going through all trees
	always  int // up to which size that is done in any case
	improve int // of making trees cheaper
	ascend  int // of proving a bound
}

func newEffort() *effort {
	return &effort{exhaust: 4e6, always: alwaysExhaust, improve: 1e8, ascend: 2e8}
}

const (
	// exhaustTurns bounds the going through all trees of one problem. That is
	// enough for 6 nodes whatever the links; it was always enough for 11 in
	// thousands of random graphs, and for half of those with 14. Those of up to
	// alwaysExhaust take a few thousand turns and are gone through even if the
	// effort is used up.
	exhaustTurns  = 400_000
	alwaysExhaust = 8
	// fewWanted, fewFree and fewTurns bound the two exact ways where chains cost
	// nothing.
	fewWanted = 8
	fewFree   = 8
	fewTurns  = 4_000_000
)

// solve returns a cheap tree, its cost, and a bound that no tree can be below;
// the two are equal where it is known to be the cheapest. Every node has to be
// reachable within the limit.
func (e *effort) solve(p *problem) (t tree, cost, bound float64) {
	free, wanted := 0, 0
	for _, m := range p.must {
		if m {
			wanted++
		} else {
			free++
		}
	}
	switch {
	case p.risk:
		return e.chained(p, free)
	case free == 0:
		t = p.arborescence(nil, plain)
	case wanted <= fewWanted && pow(3, wanted)*p.n+pow(2, wanted)*len(p.links) <= fewTurns:
		t = p.few()
	case free <= fewFree && pow(2, free)*len(p.links) <= fewTurns:
		t = p.subsets()
	default:
		return e.steiner(p)
	}
	cost = p.cost(t)
	return t, cost, cost
}

func pow(b, n int) int {
	r := 1
	for range n {
		r *= b
	}
	return r
}

// chained solves where chains cost: from several starts, each improved.
func (e *effort) chained(p *problem, free int) (best tree, cost, bound float64) {
	low := p.lows()
	flat := p.arborescence(nil, low.price)
	best = p.lowest()
	cost = p.cost(best)
	starts := []tree{p.greedy(), p.nearest(), p.along(flat), p.prune(p.copy(flat)), best}
	if p.heaviest > 0 {
		starts = append(starts, p.lightest(), p.along(p.lightest()), p.along(p.lowest()))
	}
	if free > 0 {
		x := p.relax(low)
		bound = x.ascend(&e.ascend)
		paid := p.paid(x)
		starts = append(starts, paid, p.along(paid))
	}
	for _, t := range starts {
		if math.IsInf(p.cost(t), 1) {
			continue
		}
		t = p.improve(t, &e.improve)
		if c := p.cost(t); c < cost {
			best, cost = t, c
		}
	}
	turns := exhaustTurns
	if p.n > e.always {
		turns = min(turns, e.exhaust)
	}
	if p.n <= 16 && turns > 0 {
		better, left := p.exhaust(best, low, turns)
		if c := p.cost(better); c < cost {
			best, cost = better, c
		}
		e.exhaust -= turns - left
		if left > 0 {
			return best, cost, cost
		}
	}
	if free == 0 {
		for v := range flat {
			bound += low.price(&p.links[flat[v]])
		}
	}
	bound = max(bound, p.layered(low).ascend(&e.ascend))
	return best, cost, min(bound, cost)
}

func (p *problem) copy(t tree) tree { return append(tree(nil), t...) }

// steiner solves where chains cost nothing but many nodes need not be reached.
// For any choice of them the rest is exact, so only the choice is searched.
func (e *effort) steiner(p *problem) (best tree, cost, bound float64) {
	cost = math.Inf(1)
	consider := func(t tree) bool {
		for {
			c := p.cost(t)
			if !(c < cost) {
				return false
			}
			best, cost = t, c
			// Without those that lead nowhere another tree may be better.
			t = p.prune(p.copy(p.arborescence(uses(best), plain)))
			if !(p.cost(t) < cost) {
				return true
			}
		}
	}
	x := p.relax(p.lows())
	bound = x.ascend(&e.ascend)
	for _, t := range []tree{p.paid(x), p.joined(), p.prune(p.arborescence(nil, plain)), p.greedy()} {
		if t != nil {
			consider(p.prune(p.improve(t, &e.improve)))
		}
	}
	for moved := cost > bound; moved; {
		moved = false
		for v, m := range p.must {
			if e.improve -= len(p.links); m || e.improve <= 0 {
				continue
			}
			use := uses(best)
			use[v] = !use[v]
			if t := p.arborescence(use, plain); t != nil {
				moved = consider(p.prune(t)) || moved
			}
		}
	}
	return best, cost, min(bound, cost)
}

// uses says which nodes are in a tree.
func uses(t tree) []bool {
	use := make([]bool, len(t))
	for v, i := range t {
		use[v] = i >= 0
	}
	return use
}

// joined reaches one wanted node after the other, always the one that is
// nearest to what is reached already.
func (p *problem) joined() tree {
	dist, via, in := make([]float64, p.n), newTree(p.n), make([]bool, p.n)
	var q queue // of nodes
	look := func(i int32, so float64) {
		l := &p.links[i]
		if c := so + l.cost; !in[l.to] && c < dist[l.to] {
			dist[l.to], via[l.to] = c, i
			q.put(item{c, l.to})
		}
	}
	for v := range dist {
		dist[v] = math.Inf(1)
	}
	for i := range p.links {
		if p.links[i].from == start {
			look(int32(i), 0)
		}
	}
	for len(q) > 0 {
		next := q.take()
		v := next.node
		if next.cost > dist[v] {
			continue
		}
		for x := v; p.must[v] && x != start && !in[x]; x = p.links[via[x]].from {
			in[x], dist[x] = true, 0
			q.put(item{0, x})
		}
		for _, i := range p.out[v] {
			look(i, dist[v])
		}
	}
	return p.prune(p.arborescence(in, plain))
}
