package plan

import (
	"math"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// chain is what has to be whole so that an archive can give back a snapshot.
type chain struct {
	streams int
	bytes   float64
}

// chainsOf returns the shortest chain for every snapshot that an archive can
// give back: the fewest streams, and of those the fewest bytes.
func chainsOf(inv *snapshot.Inventory) map[snapshot.ID]chain {
	after := map[snapshot.ID][]snapshot.Stored{}
	for _, e := range inv.Edges {
		after[e.From] = append(after[e.From], e)
	}
	found := map[snapshot.ID]chain{}
	front := []snapshot.ID{{}}
	for streams := 1; len(front) > 0; streams++ {
		var next []snapshot.ID
		for _, from := range front {
			for _, e := range after[from] {
				c := chain{streams, found[from].bytes + float64(e.Size.Bytes)}
				old, ok := found[e.To]
				if !ok {
					next = append(next, e.To)
				}
				if !ok || old.streams == streams && c.bytes < old.bytes {
					found[e.To] = c
				}
			}
		}
		front = next
	}
	return found
}

// solution is what is decided about the graph.
type solution struct {
	// choice is the arc by which a node is reached, or -1.
	choice []int
	chains []chain // of the nodes
	// cut are the wanted nodes to which no way leads, and long those to which
	// only too long ones do.
	cut, long   []int
	cost, bound float64
}

// solve decides which arcs to use.
func (g *graph) solve() *solution {
	sol := &solution{choice: make([]int, len(g.nodes)), chains: make([]chain, len(g.nodes))}
	for n := range sol.choice {
		sol.choice[n] = -1
		sol.chains[n] = g.nodes[n].chain
	}
	height := g.reach(0)
	limit, heaviest := 0, 0.0
	if g.s.dst.Archive {
		limit, heaviest = g.s.w.MaxChain, float64(g.s.w.MaxRestore)
	}
	within := height
	if limit > 0 {
		within = g.reach(limit)
	}
	var weight []float64
	if heaviest > 0 {
		weight = g.weights(within)
		within = slices.Clone(within)
		for n := range within {
			if weight[n] > heaviest && !g.nodes[n].there {
				within[n] = -1
			}
		}
	}
	for n, node := range g.nodes {
		switch {
		case !node.must || within[n] >= 0:
		case height[n] < 0:
			sol.cut = append(sol.cut, n)
		default:
			sol.long = append(sol.long, n)
		}
	}
	effort := newEffort()
	for _, part := range g.parts(within) {
		p := g.problem(part, within, limit)
		if heaviest > 0 {
			p.heaviest = heaviest
			p.links = slices.DeleteFunc(p.links, func(l link) bool {
				return weight[g.arcs[l.arc].from]+l.size > heaviest
			})
			p.index()
		}
		var t tree
		var cost, bound float64
		switch {
		case g.s.linear:
			t, cost, bound = p.linear(g.byLevel(part))
		case g.blind(part):
			t = g.byRank(p, part)
			cost = p.cost(t)
			_, _, bound = effort.solve(p)
		default:
			t, cost, bound = effort.solve(p)
		}
		if math.IsInf(cost, 1) {
			// The two limits together can keep from some what each by itself allows.
			t = p.along(p.lightest())
			cost, bound = 0, 0
			for v, i := range t {
				if p.must[v] && i < 0 {
					sol.long = append(sol.long, part[v])
					p.must[v] = false
				}
			}
			cost = p.cost(t)
		}
		sol.cost += cost
		sol.bound += bound
		streams, bytes, _ := p.chains(t)
		for v, i := range t {
			if i >= 0 {
				sol.choice[part[v]] = int(p.links[i].arc)
				sol.chains[part[v]] = chain{streams[v], bytes[v]}
			}
		}
	}
	return sol
}

// reach returns the length of the shortest chain to every node, and -1 for those
// to which there is none within the limit.
func (g *graph) reach(limit int) []int {
	out := make([][]int, len(g.nodes))
	for i, a := range g.arcs {
		out[a.from] = append(out[a.from], i)
	}
	height := make([]int, len(g.nodes))
	var q queue
	for n, node := range g.nodes {
		if height[n] = -1; node.there {
			q.put(item{float64(node.chain.streams), int32(n)})
		}
	}
	for len(q) > 0 {
		next := q.take()
		h := int(next.cost)
		if height[next.node] >= 0 || limit > 0 && h > limit && !g.nodes[next.node].there {
			continue
		}
		height[next.node] = h
		for _, i := range out[next.node] {
			if to := g.arcs[i].to; height[to] < 0 {
				q.put(item{float64(h + 1), int32(to)})
			}
		}
	}
	return height
}

// weights returns the fewest bytes with which a chain can lead to every node
// over those within, and infinity where none does.
func (g *graph) weights(within []int) []float64 {
	out := make([][]int, len(g.nodes))
	for i, a := range g.arcs {
		out[a.from] = append(out[a.from], i)
	}
	weight := make([]float64, len(g.nodes))
	var q queue
	for n, node := range g.nodes {
		if weight[n] = math.Inf(1); node.there {
			q.put(item{node.chain.bytes, int32(n)})
		}
	}
	for len(q) > 0 {
		next := q.take()
		if within[next.node] < 0 || !math.IsInf(weight[next.node], 1) {
			continue
		}
		weight[next.node] = next.cost
		for _, i := range out[next.node] {
			if a := &g.arcs[i]; !g.nodes[a.to].there {
				q.put(item{next.cost + a.bytes, int32(a.to)})
			}
		}
	}
	return weight
}

// parts splits the nodes that are not there into those that have nothing to do
// with each other, and leaves out what leads to nothing wanted.
func (g *graph) parts(height []int) [][]int {
	useful := make([]bool, len(g.nodes))
	var look []int
	for n, node := range g.nodes {
		if node.must && height[n] >= 0 {
			useful[n] = true
			look = append(look, n)
		}
	}
	number := make([]int, len(g.nodes))
	leader := make([]int, len(g.nodes))
	for n := range leader {
		leader[n] = n
	}
	find := func(x int) int {
		for leader[x] != x {
			leader[x] = leader[leader[x]]
			x = leader[x]
		}
		return x
	}
	for k := 0; k < len(look); k++ {
		for _, i := range g.in[look[k]] {
			from := g.arcs[i].from
			if g.nodes[from].there || height[from] < 0 {
				continue
			}
			leader[find(from)] = find(look[k])
			if !useful[from] {
				useful[from] = true
				look = append(look, from)
			}
		}
	}
	var parts [][]int
	slices.Sort(look)
	for _, n := range look {
		l := find(n)
		if number[l] == 0 {
			parts = append(parts, nil)
			number[l] = len(parts)
		}
		parts[number[l]-1] = append(parts[number[l]-1], n)
	}
	return parts
}

// problem makes the problem of one part.
func (g *graph) problem(part, height []int, limit int) *problem {
	p := &problem{n: len(part), must: make([]bool, len(part)), risk: g.s.dst.Archive && !g.s.linear, limit: limit}
	local := make(map[int]int32, len(part))
	for v, n := range part {
		local[n] = int32(v)
		p.must[v] = g.nodes[n].must
	}
	for v, n := range part {
		for _, i := range g.in[n] {
			a := &g.arcs[i]
			from, ok := local[a.from]
			if !ok {
				if !g.nodes[a.from].there {
					continue
				}
				from = start
			}
			if limit > 0 && height[a.from]+1 > limit {
				continue
			}
			c := g.nodes[a.from].chain
			p.links = append(p.links, link{
				from: from, to: int32(v), size: a.bytes, cost: g.price(a), streams: int32(c.streams), bytes: c.bytes,
				tie: g.tie(a), held: a.held, arc: int32(i),
			})
		}
	}
	p.index()
	return p
}

// price is what an arc costs, but for the risk of its chain: the bytes sent, and
// those stored where they would not have to be stored anyway.
func (g *graph) price(a *arc) float64 {
	switch {
	case a.held:
		return 0
	case g.s.dst.Archive, !g.nodes[a.to].must:
		return a.bytes + a.bytes*storing
	}
	return a.bytes
}

// tie prefers, among what costs the same, the better guess, and increments; of
// full streams, that of the snapshot whose turn comes first.
func (g *graph) tie(a *arc) int64 {
	if a.from == 0 {
		return 1<<32 + int64(g.nodes[a.to].level)
	}
	return int64(a.rank)
}

// blind reports whether nothing at all is known about the sizes of a part, and
// chains cost nothing, so that the order of the guesses has to do.
func (g *graph) blind(part []int) bool {
	if g.s.dst.Archive || g.s.src.Archive {
		return false
	}
	for _, n := range part {
		for _, i := range g.in[n] {
			if g.arcs[i].size.Known {
				return false
			}
		}
	}
	return true
}

// byRank gives every node, in the order of the steps, the best guess among those
// that are there by then.
func (g *graph) byRank(p *problem, part []int) tree {
	t := newTree(p.n)
	for _, v := range g.byLevel(part) {
		if !p.must[v] {
			continue
		}
		for _, i := range p.in[v] {
			if l := &p.links[i]; l.from != start && t[l.from] < 0 {
				continue
			}
			if t[v] < 0 || p.links[i].tie < p.links[t[v]].tie {
				t[v] = i
			}
		}
	}
	return t
}
