package plan

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomProblem makes a problem of n nodes, each of which can be reached.
func randomProblem(r *rand.Rand, n int, archive, optional bool) *problem {
	p := &problem{n: n, must: make([]bool, n), risk: archive}
	for v := range n {
		p.must[v] = !optional || r.IntN(2) == 0
	}
	p.must[r.IntN(n)] = true
	factor := 1.0
	if archive {
		factor += storing
	}
	add := func(from, to, streams int, bytes, size float64, held bool) {
		cost := size * factor
		if !archive && !p.must[to] {
			cost += size * storing
		}
		if held {
			cost = 0
		}
		p.links = append(p.links, link{
			from: int32(from), to: int32(to), size: size, cost: cost, streams: int32(streams), bytes: bytes, held: held,
			tie: int64(len(p.links)), arc: int32(len(p.links)),
		})
	}
	full := float64(200 + r.IntN(800))
	dense := 1 + r.IntN(4)
	for v := range n {
		// Something always leads to it: nothing, or a node before it.
		if v == 0 || r.IntN(3) > 0 {
			add(start, v, 0, 0, full+float64(r.IntN(200)), false)
		} else {
			add(r.IntN(v), v, 0, 0, float64(1+r.IntN(300)), false)
		}
		if r.IntN(4) == 0 {
			streams := 1 + r.IntN(9)
			add(start, v, streams, full+float64(10*streams), float64(1+r.IntN(300)), false)
		}
		for range dense {
			if u := r.IntN(n); u != v {
				add(u, v, 0, 0, float64(1+r.IntN(300)), archive && r.IntN(6) == 0)
			}
		}
	}
	p.index()
	if archive && r.IntN(3) == 0 {
		// A limit within which everything can be reached.
		streams, bytes, _ := p.chains(p.lowestOfAll())
		for _, s := range streams {
			p.limit = max(p.limit, s)
		}
		p.limit += r.IntN(2)
		if r.IntN(2) == 0 {
			p.heaviest = slices.Max(bytes) + float64(r.IntN(100))
		}
		// As the graph does: no link that leads beyond it whatever happens.
		low := p.lows()
		var links []link
		for _, l := range p.links {
			if l.from == start && int(l.streams) < p.limit || l.from != start && low.streams[l.from]+1 <= p.limit {
				links = append(links, l)
			}
		}
		p.links = links
		p.index()
	}
	return p
}

// lowestOfAll reaches every node with the fewest streams.
func (p *problem) lowestOfAll() tree {
	q := *p
	q.must = make([]bool, p.n)
	for v := range q.must {
		q.must[v] = true
	}
	return q.lowest()
}

// brute tries all trees.
func brute(p *problem) float64 {
	t := newTree(p.n)
	least := math.Inf(1)
	var try func(v int)
	try = func(v int) {
		if v == p.n {
			least = min(least, p.cost(t))
			return
		}
		if !p.must[v] {
			t[v] = -1
			try(v + 1)
		}
		for _, i := range p.in[v] {
			t[v] = i
			try(v + 1)
		}
		t[v] = -1
	}
	try(0)
	return least
}

// TestSolveIsExact compares with all trees of thousands of small graphs.
func TestSolveIsExact(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 3))
		n := 1 + r.IntN(5)
		if seed%40 == 0 {
			n = 6
		}
		p := randomProblem(r, n, seed%2 == 0, seed%3 > 0)
		want := brute(p)
		got, cost, bound := newEffort().solve(p)
		if math.Abs(p.cost(got)-cost) > 1e-6 {
			t.Fatalf("seed %d: the tree costs %v, said is %v", seed, p.cost(got), cost)
		}
		if math.Abs(cost-want) > 1e-6 || math.Abs(bound-want) > 1e-6 {
			t.Fatalf("seed %d (%d nodes, archive %v): cost %v, bound %v, cheapest is %v", seed, n, p.risk, cost, bound, want)
		}
	}
}

// TestHardWays holds the ways of large problems against all trees of small ones:
// the tree is one, no greedy one is cheaper, and the bound is one.
func TestHardWays(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 5))
		p := randomProblem(r, 1+r.IntN(5), seed%2 == 0, seed%3 > 0)
		want := brute(p)
		e := newEffort()
		e.exhaust, e.always = 0, 0
		free := 0
		for _, m := range p.must {
			if !m {
				free++
			}
		}
		solve := e.steiner
		if p.risk {
			solve = func(p *problem) (tree, float64, float64) { return e.chained(p, free) }
		}
		_, cost, bound := solve(p)
		if cost < want-1e-6 || bound > want+1e-6 {
			t.Fatalf("seed %d: cost %v, bound %v, cheapest is %v", seed, cost, bound, want)
		}
		if greedy := p.cost(p.greedy()); cost > greedy+1e-6 {
			t.Fatalf("seed %d: cost %v, the greedy search finds %v", seed, cost, greedy)
		}
	}
}

// TestNeverWorseThanGreedy does so on larger graphs, where nothing is exact.
func TestNeverWorseThanGreedy(t *testing.T) {
	better, gap, count := 0, 0.0, 0
	for seed := range uint64(240) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := randomProblem(r, 10+r.IntN(60), seed%2 == 0, seed%3 > 0)
		e := newEffort()
		e.exhaust, e.always = 0, 0
		_, cost, bound := e.solve(p)
		greedy := p.cost(p.greedy())
		if cost > greedy*(1+1e-9) {
			t.Fatalf("seed %d: cost %v, the greedy search finds %v", seed, cost, greedy)
		}
		if bound > cost || bound <= 0 {
			t.Fatalf("seed %d: cost %v, bound %v", seed, cost, bound)
		}
		if cost < greedy-1e-6 {
			better++
		}
		gap += cost/bound - 1
		count++
	}
	if better == 0 {
		t.Error("no plan is better than the greedy one")
	}
	t.Logf("%d of %d better; above the bound by %.1f%% on average", better, count, 100*gap/float64(count))
}
