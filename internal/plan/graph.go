package plan

import (
	"cmp"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// Which parents are considered for a snapshot of a live source.
const (
	// olderParents and newerParents are how many of those that the destination
	// has or is to have are considered to either side of a snapshot.
	olderParents, newerParents = 4, 3
	// olderThere and newerThere are how many of those that it has already.
	olderThere, newerThere = 2, 1
	// hubs is how many unwanted snapshots of a family may serve as intermediates.
	hubs = 16
)

// node is a snapshot in the graph; the first node stands for nothing.
type node struct {
	relative int // number in the kinship
	// there is set for what streams can start from right away, with the chain
	// that leads to it at an archive.
	there bool
	chain chain
	must  bool
	// level is the order within the family in which steps are best taken.
	level int
}

// arc is an edge of the graph.
type arc struct {
	from, to int // nodes; 0 for nothing
	// rank is how good a guess the parent is, 0 for the best; for people and for
	// breaking ties.
	rank int16
	// round is when Candidates offers the edge; negative for never.
	round int16
	// held is set for a stream that the destination keeps already, idle for one
	// that is of no use without a known size.
	held, idle bool
	// size is what is known of the stream; bytes what is reckoned with.
	size  snapshot.Size
	bytes float64
}

const (
	apartRound = 50  // added for parents out of which the snapshot has not developed
	hubRound   = 100 // edges of intermediates
	fullRound  = 101 // full streams that are not needed
)

// graph is all that can be done.
type graph struct {
	s         *sync
	nodes     []node
	number    map[snapshot.ID]int
	arcs      []arc
	in        [][]int // arcs by target
	unfounded []bool  // nodes whose length in full is a number out of the air
}

// of returns the relative that a node stands for.
func (g *graph) of(n int) *relative { return &g.s.kin.all[g.nodes[n].relative] }

func (g *graph) add(relative int, n node) int {
	n.relative = relative
	id := g.s.kin.all[relative].snap.ID
	g.number[id] = len(g.nodes)
	g.nodes = append(g.nodes, n)
	return len(g.nodes) - 1
}

// graph makes the graph in which the missing snapshots have to be reached.
func (s *sync) graph(missing []snapshot.Snapshot) *graph {
	g := &graph{s: s, nodes: make([]node, 1, len(missing)+len(s.there)+1), number: make(map[snapshot.ID]int, len(missing)+len(s.there))}
	g.nodes[0] = node{relative: -1, there: true}
	must := map[int]bool{}
	for _, m := range missing {
		must[s.kin.number[m.ID]] = true
	}
	for i := range s.kin.all {
		id := s.kin.all[i].snap.ID
		switch {
		case s.there[id]:
			g.add(i, node{there: true, chain: s.chains[id]})
		case must[i]:
			g.add(i, node{must: true})
		}
	}
	if s.src.Archive {
		g.stored()
	} else {
		g.made()
	}
	if s.dst.Archive {
		g.kept()
	}
	g.in = gather[int](len(g.nodes), len(g.arcs), func(i int) int {
		if g.arcs[i].idle {
			return start
		}
		return g.arcs[i].to
	})
	g.levels()
	g.measure()
	return g
}

// stored adds the edges that an archive can give back.
func (g *graph) stored() {
	s := g.s
	// Any of its snapshots can be an intermediate; who leads nowhere drops out
	// later.
	for i := range s.kin.all {
		if r := &s.kin.all[i]; g.number[r.snap.ID] == 0 && s.passable(r.snap) {
			g.add(i, node{})
		}
	}
	for _, e := range s.src.Edges {
		from, to := g.number[e.From], g.number[e.To]
		if to == 0 || g.nodes[to].there || from == 0 && !e.IsFull() || from == to || s.holds[e.Edge] || from != 0 && s.w.Full[e.To] {
			continue
		}
		a := arc{from: from, to: to, size: e.Size, round: -1}
		if !e.Size.Known {
			a.size = s.size(e.Edge)
		}
		g.arcs = append(g.arcs, a)
	}
}

// made adds the edges for which a live source can make the stream, as far as
// they are worth considering.
func (g *graph) made() {
	s := g.s
	k := s.kin
	here := func(i int) int { return g.number[k.all[i].snap.ID] }
	all := k.circle(func(i int) bool { return here(i) != 0 })
	there := k.circle(func(i int) bool { return here(i) != 0 && g.nodes[here(i)].there })
	between := k.circle(func(i int) bool { return here(i) == 0 && s.passable(k.all[i].snap) })

	g.arcs = make([]arc, 0, len(g.nodes)*(olderParents+newerParents+2))
	started := map[int]bool{} // families of which the destination has one
	for _, n := range g.nodes[1:] {
		if n.there {
			started[k.all[n.relative].family] = true
		}
	}
	named := map[int][]int{} // unwanted ones by the missing nodes near to them
	count := len(g.nodes)
	for n := 1; n < count; n++ {
		if g.nodes[n].there {
			continue
		}
		i := g.nodes[n].relative
		parents := g.parents(i, all, there)
		for rank, p := range parents {
			round := rank
			if !k.follows(i, p) {
				round += apartRound
			}
			g.link(here(p), n, rank, round)
		}
		if !s.linear && !s.w.Full[k.all[i].snap.ID] {
			for _, u := range between.near(i, 1, 1) {
				named[u] = append(named[u], n)
			}
		}
		round := fullRound
		if r := &k.all[i]; s.w.Full[r.snap.ID] || !started[r.family] && all.members[r.family][0] == i {
			round = 0
		} else if !s.dst.Archive {
			round = -1
		}
		g.link(0, n, len(parents), round)
	}
	// Intermediates are those that several would start from.
	var hub []int
	for u, by := range named {
		if len(by) > 1 {
			hub = append(hub, u)
		}
	}
	slices.SortFunc(hub, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(named[b]), len(named[a])), cmp.Compare(k.all[a].family, k.all[b].family), cmp.Compare(a, b))
	})
	taken := map[int]int{}
	for _, u := range hub {
		if taken[k.all[u].family]++; taken[k.all[u].family] > hubs {
			continue
		}
		n := g.add(u, node{})
		parents := g.parents(u, all, there)
		for rank, p := range parents {
			g.link(here(p), n, rank, hubRound)
		}
		g.link(0, n, len(parents), hubRound)
		for _, to := range named[u] {
			g.link(n, to, len(parents), hubRound)
		}
	}
}

// parents returns the candidates for a snapshot, the best guess first.
func (g *graph) parents(i int, all, there *circle) []int {
	switch {
	case g.s.w.Full[g.s.kin.all[i].snap.ID]:
		return nil
	case g.s.linear:
		return all.near(i, 1, 0)
	}
	found := all.near(i, olderParents, newerParents)
	for _, p := range there.near(i, olderThere, newerThere) {
		if !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	if g.s.dst.Archive {
		for _, p := range all.anchors(i) {
			if !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
	}
	slices.SortFunc(found, g.s.kin.nearer(i))
	return found
}

// edge names the stream of an arc between two nodes.
func (g *graph) edge(from, to int) snapshot.Edge {
	e := snapshot.Edge{To: g.of(to).snap.ID}
	if from != 0 {
		e.From = g.of(from).snap.ID
	}
	return e
}

func (g *graph) link(from, to, rank, round int) {
	e := g.edge(from, to)
	if g.s.holds[e] {
		return // in an archive that holds it for nothing, it cannot be stored again
	}
	size := g.s.size(e)
	if from != 0 && !size.Exact && !g.s.kin.follows(g.nodes[to].relative, g.nodes[from].relative) {
		size = snapshot.Size{} // estimates see only what is younger than the parent
	}
	g.arcs = append(g.arcs, arc{
		from: from, to: to, size: size, rank: int16(rank), round: int16(round), idle: round == hubRound && !size.Known,
	})
}

// kept adds the streams that an archive holds for snapshots that it cannot give
// back, because something before them is missing.
func (g *graph) kept() {
	for _, e := range g.s.dst.Edges {
		from, to := g.number[e.From], g.number[e.To]
		if from == 0 || to == 0 || from == to || g.nodes[to].there || g.s.w.Full[e.To] {
			continue
		}
		g.arcs = append(g.arcs, arc{from: from, to: to, size: e.Size, held: true, round: -1})
	}
}

// levels finds the order of the steps of every family: those that are newer than
// something that is there go first, the oldest of them leading; those older than
// all that is there follow, the youngest leading, so that each has its neighbour
// to start from. Where chains are linear all are in their order. What is sent in
// full by wish goes before all, the newest leading.
func (g *graph) levels() {
	first := map[int]int{} // of those that are there
	for _, n := range g.nodes[1:] {
		if n.there {
			r := &g.s.kin.all[n.relative]
			if p, ok := first[r.family]; !ok || r.place < p {
				first[r.family] = r.place
			}
		}
	}
	for i := 1; i < len(g.nodes); i++ {
		r := g.of(i)
		g.nodes[i].level = r.place
		switch p, ok := first[r.family]; {
		case g.nodes[i].must && g.s.w.Full[r.snap.ID]:
			g.nodes[i].level = -1 - r.place
		case ok && r.place < p && !g.s.linear:
			g.nodes[i].level = 2*len(g.s.kin.members[r.family]) - r.place
		}
	}
}
