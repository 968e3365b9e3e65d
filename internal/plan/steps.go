package plan

import (
	"math"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// MaxClones is the most clone sources that a step has. The kernel compares every
// extent of the stream with each of them, so that more cost more time than they
// save bytes.
const MaxClones = 8

// decision is a plan with what it was made from.
type decision struct {
	*sync
	plan  *Plan
	graph *graph
	sol   *solution
	kids  [][]int // of the tree, by node
	// first and last are the numbers of the nodes below a node, itself included,
	// in a walk of the tree.
	first, last []int
	round       *circle // what can be a clone source from the start

	full   map[int]string                // why families begin anew, once asked for
	before map[snapshot.ID][]snapshot.ID // where an archive's streams start, once asked for
}

func decide(src, dst *snapshot.Inventory, w Wish, sizes Sizes) *decision {
	s := newSync(src, dst, w, sizes)
	p, missing := s.sort()
	d := &decision{sync: s, plan: p}
	d.graph = s.graph(missing)
	d.sol = d.graph.solve()
	p.Cost, p.Bound = int64(math.Ceil(min(d.sol.cost, math.MaxInt64/2))), int64(math.Ceil(min(d.sol.bound, math.MaxInt64/2)))
	d.kids = make([][]int, len(d.graph.nodes))
	for n, i := range d.sol.choice {
		if i >= 0 {
			d.kids[d.graph.arcs[i].from] = append(d.kids[d.graph.arcs[i].from], n)
		}
	}
	d.walk()
	if !src.Archive && !dst.Archive {
		d.round = s.kin.circle(func(i int) bool {
			here := s.kin.all[i].snap
			there, ok := dst.Find(here.ID)
			return ok && s.there[here.ID] && here.Trust == snapshot.Intact && there.Trust == snapshot.Intact &&
				(there.Received || !dst.ReceivedClones)
		})
	}
	for _, n := range d.order(missing) {
		if d.graph.arcs[d.sol.choice[n]].held {
			if there, ok := dst.Find(d.graph.of(n).snap.ID); ok && d.graph.nodes[n].must {
				p.Keep = append(p.Keep, there)
			}
			continue
		}
		p.Steps = append(p.Steps, d.step(n))
	}
	for _, n := range d.sol.cut {
		r := d.graph.of(n)
		p.Problems = append(p.Problems, Problem{Snapshot: r.snap, Path: r.snap.Path, Why: d.whyCut(n)})
	}
	for _, n := range d.sol.long {
		r := d.graph.of(n)
		p.Problems = append(p.Problems, Problem{Snapshot: r.snap, Path: r.snap.Path, Why: d.whyLong()})
	}
	if w.Delete {
		p.Remove = s.removals(p, d.needed())
	}
	return d
}

// walk numbers the nodes of the tree, those above first.
func (d *decision) walk() {
	d.first, d.last = make([]int, len(d.kids)), make([]int, len(d.kids))
	type visit struct {
		node int
		left bool
	}
	var look []visit
	for n, node := range d.graph.nodes {
		if node.there {
			look = append(look, visit{node: n})
		}
	}
	for count := 0; len(look) > 0; {
		v := look[len(look)-1]
		look = look[:len(look)-1]
		if v.left {
			d.last[v.node] = count
			continue
		}
		count++
		d.first[v.node] = count
		look = append(look, visit{v.node, true})
		for _, kid := range d.kids[v.node] {
			look = append(look, visit{node: kid})
		}
	}
}

// below reports whether m is n, or starts from it directly or through others.
func (d *decision) below(n, m int) bool {
	return d.first[n] <= d.first[m] && d.first[m] <= d.last[n]
}

// order lists the nodes of the tree: what is needed first, and within that the
// families as they were wished for, each in the order of its levels.
func (d *decision) order(missing []snapshot.Snapshot) []int {
	turn := map[int]int{} // of a family
	for _, m := range missing {
		f := d.kin.all[d.kin.number[m.ID]].family
		if _, ok := turn[f]; !ok {
			turn[f] = len(turn)
		}
	}
	rank := make([]int32, len(d.graph.nodes)) // of the nodes
	nodes := make([]int, 0, len(rank))
	for n := 1; n < len(rank); n++ {
		nodes = append(nodes, n)
	}
	key := func(n int) (int, int) {
		t, ok := turn[d.graph.of(n).family]
		if !ok {
			t = len(turn)
		}
		return t, d.graph.nodes[n].level
	}
	slices.SortFunc(nodes, func(a, b int) int {
		s, x := key(a)
		t, y := key(b)
		if s != t {
			return s - t
		}
		if x != y {
			return x - y
		}
		return d.graph.nodes[a].relative - d.graph.nodes[b].relative
	})
	for i, n := range nodes {
		rank[n] = int32(i)
	}
	var q queue
	ready := func(kids []int) {
		for _, n := range kids {
			q.put(item{float64(rank[n]), int32(n)})
		}
	}
	for n, node := range d.graph.nodes {
		if node.there {
			ready(d.kids[n])
		}
	}
	var order []int
	for len(q) > 0 {
		n := int(q.take().node)
		order = append(order, n)
		ready(d.kids[n])
	}
	return order
}

// step makes the step by which a node is reached.
func (d *decision) step(n int) Step {
	r := d.graph.of(n)
	a := &d.graph.arcs[d.sol.choice[n]]
	step := Step{
		Action: Send, Edge: d.graph.edge(a.from, n), Snapshot: r.snap, Path: d.place(r.snap), Size: a.size,
		Intermediate: !d.graph.nodes[n].must, Reason: d.reason(n),
	}
	if d.dst.Archive {
		step.Chain, step.Restore = d.sol.chains[n].streams, int64(d.sol.chains[n].bytes)
	}
	if a.from != 0 {
		step.Parent = d.graph.of(a.from).snap
		if d.graph.nodes[a.from].there {
			step.Held, _ = d.dst.Find(step.Parent.ID)
		}
	}
	if !a.size.Known {
		d.plan.Guessed++
	}
	if d.round != nil && !d.w.Full[step.Edge.To] {
		step.Clones = d.clones(n)
	}
	return step
}

// clones returns the clone sources of a step.
func (d *decision) clones(n int) []snapshot.Snapshot {
	self := d.graph.nodes[n].relative
	parent := d.graph.arcs[d.sol.choice[n]].from
	found := d.round.near(self, MaxClones+1, MaxClones+1)
	for x := parent; len(found) < 4*MaxClones && !d.graph.nodes[x].there; {
		x = d.graph.arcs[d.sol.choice[x]].from
		if x == 0 || d.graph.nodes[x].there {
			break // looked at already
		}
		found = append(found, d.graph.nodes[x].relative)
	}
	slices.SortFunc(found, d.kin.nearer(self))
	var clones []snapshot.Snapshot
	for _, i := range found {
		if len(clones) < MaxClones && i != d.graph.nodes[parent].relative {
			clones = append(clones, d.kin.all[i].snap)
		}
	}
	return clones
}

// needed tells of which snapshots of an archive others are made that stay or
// come.
func (d *decision) needed() func(snapshot.ID) bool {
	var look []snapshot.ID
	for _, there := range d.dst.Snapshots {
		if here, ok := d.src.Find(there.ID); ok && !here.Outside {
			look = append(look, there.ID)
		}
	}
	for _, step := range d.plan.Steps {
		look = append(look, step.Edge.To)
		if !step.Edge.IsFull() {
			look = append(look, step.Edge.From)
		}
	}
	needed := closure(d.dst, look)
	return func(id snapshot.ID) bool { _, ok := needed[id]; return ok }
}
