package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// Decision is what is decided about one snapshot.
type Decision string

const (
	WillSend   Decision = "send"
	WillCopy   Decision = "copy"
	Kept       Decision = "keep"         // the destination has it
	Impossible Decision = "problem"      // it is wanted, and there is no way
	NotWanted  Decision = "not wanted"   // it is neither wanted nor needed
	Between    Decision = "intermediate" // it is not wanted, but others start from it
	Unknown    Decision = "unknown"      // the source does not hold it
)

// Verdict is why a parent was chosen or not.
type Verdict string

const (
	Chosen    Verdict = "chosen"
	Dearer    Verdict = "costs more"
	Circular  Verdict = "starts from it itself"
	TooLong   Verdict = "chain too long"
	NotThere  Verdict = "not at the destination"
	Changed   Verdict = "changed"
	Farther   Verdict = "farther away"
	Unrelated Verdict = "unrelated"
	NotKept   Verdict = "no such stream" // the source is an archive without it
)

// Considered is a snapshot as a parent for another one, or the full stream.
type Considered struct {
	Verdict Verdict `json:"verdict"`
	// Why says more, for people.
	Why string `json:"why"`
	// ID and Path are the parent's, as the source holds it; empty for the full
	// stream.
	ID   snapshot.ID `json:"id,omitzero"`
	Path string      `json:"path,omitzero"`
	Full bool        `json:"full,omitzero"`
	// Steps counts the steps of "was made from" between the two; 8 stands for
	// that many and more, 0 for unknown. Generations is the distance by the
	// source's count.
	Steps       int    `json:"steps,omitzero"`
	Generations uint64 `json:"generations,omitzero"`
	// Bytes is the length of the stream that was reckoned with; Exact and Guessed
	// say how well it is known. It is zero for one that was not a candidate,
	// and for a full stream of which nothing is known.
	Bytes   int64 `json:"bytes,omitzero"`
	Exact   bool  `json:"exact,omitzero"`
	Guessed bool  `json:"guessed,omitzero"`
	// More is by how much the plan would cost more with this parent in place of
	// the chosen one and all else as it is, in bytes. It can be negative only for
	// one that cannot be chosen.
	More int64 `json:"more,omitzero"`
	// Chain is how many streams an archive would need.
	Chain int `json:"chain,omitzero"`
}

// Explanation says what is decided about one snapshot, and why.
type Explanation struct {
	ID       snapshot.ID `json:"id"`
	Path     string      `json:"path,omitzero"`
	Wanted   bool        `json:"wanted"`
	Decision Decision    `json:"decision"`
	// Reason is the step's, or what the problem is.
	Reason string `json:"reason"`
	// Parent is what the step starts from.
	Parent     snapshot.ID `json:"parent,omitzero"`
	ParentPath string      `json:"parent_path,omitzero"`
	// Chain is how many streams an archive needs to give it back.
	Chain int `json:"chain,omitzero"`
	// Children are the paths of those that start from it in the plan.
	Children []string `json:"children,omitzero"`
	// Considered has the chosen way first, then the other candidates, the best
	// guess first, then those that came near to being one.
	Considered []Considered `json:"considered,omitzero"`
	// Cost and Bound are those of the whole plan.
	Cost  int64 `json:"cost"`
	Bound int64 `json:"bound"`
}

// near is how many of each kind that are no candidates are named.
const near = 4

// Explain says what Sync decides about one snapshot, and why.
func Explain(src, dst *snapshot.Inventory, w Wish, sizes Sizes, id snapshot.ID) *Explanation {
	d := decide(src, dst, w, sizes)
	x := &Explanation{ID: id, Wanted: d.wants[id], Cost: d.plan.Cost, Bound: d.plan.Bound}
	here, ok := src.Find(id)
	there, held := dst.Find(id)
	x.Path = here.Path
	if !ok {
		x.Decision, x.Path, x.Reason = Unknown, there.Path, "the source does not hold it"
	}
	n := d.graph.number[id]
	if n != 0 {
		for _, kid := range d.kids[n] {
			x.Children = append(x.Children, d.name(kid))
		}
		x.Chain = d.sol.chains[n].streams
	}
	for _, step := range d.plan.Steps {
		if step.Edge.To != id {
			continue
		}
		switch x.Decision = WillSend; {
		case step.Action == Copy:
			x.Decision = WillCopy
		case step.Intermediate:
			x.Decision = Between
		}
		x.Reason, x.Parent, x.ParentPath = step.Reason, step.Edge.From, step.Parent.Path
	}
	for _, k := range d.plan.Keep {
		if k.ID == id {
			x.Decision, x.Reason = Kept, "the destination has it already, at "+k.Path
			if n != 0 && d.sol.choice[n] >= 0 {
				x.Reason = fmt.Sprintf("the destination holds its stream already, from %s, without which it could not be given back", d.name(d.graph.arcs[d.sol.choice[n]].from))
			}
		}
	}
	for _, q := range d.plan.Problems {
		if q.Snapshot.ID == id {
			x.Decision, x.Reason = Impossible, q.Why
		}
	}
	if x.Decision == "" {
		x.Decision, x.Reason = NotWanted, "it is not wanted, and nothing wanted starts from it"
		switch {
		case held && d.there[id]:
			x.Reason = "it is not wanted; the destination has it already, at " + there.Path
		case len(x.Children) > 0:
			x.Reason = "it is not wanted"
		case here.Outside:
			x.Reason = "it lies outside of the source's directory, so it is never sent"
		}
	}
	if n != 0 && d.sol.choice[n] >= 0 {
		x.Considered = d.considered(n)
	}
	return x
}

// considered says what became of every parent of a node.
func (d *decision) considered(n int) []Considered {
	var list []Considered
	seen := map[snapshot.ID]bool{d.graph.of(n).snap.ID: true}
	in := slices.Clone(d.graph.in[n])
	slices.SortStableFunc(in, func(a, b int) int {
		x, y := &d.graph.arcs[a], &d.graph.arcs[b]
		chosen := func(i int) int {
			if i == d.sol.choice[n] {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(chosen(a), chosen(b)), cmp.Compare(x.rank, y.rank))
	})
	for _, i := range in {
		c := d.candidate(n, i)
		seen[c.ID] = true
		list = append(list, c)
	}
	return append(list, d.others(n, seen)...)
}

// candidate says what became of one candidate.
func (d *decision) candidate(n, i int) Considered {
	a := &d.graph.arcs[i]
	c := Considered{Full: a.from == 0, Bytes: int64(a.bytes), Exact: a.size.Known && a.size.Exact, Guessed: !a.size.Known}
	if a.from != 0 {
		c = d.relation(c, n, d.graph.nodes[a.from].relative)
	}
	if d.dst.Archive && (d.graph.nodes[a.from].there || d.sol.choice[a.from] >= 0) {
		c.Chain = d.sol.chains[a.from].streams + 1
	}
	size := amount(a.bytes, a.size)
	blind := c.Full && c.Guessed && d.graph.unfounded[n]
	switch {
	case blind:
		c.Bytes, size = 0, "of a length that was not looked up"
	case c.Guessed:
		size += " by a guess"
	}
	if i == d.sol.choice[n] {
		c.Verdict, c.Why = Chosen, size
		if a.held {
			c.Why = size + ", which the destination holds already"
		}
		return c
	}
	dearer, why := d.dearer(n, i)
	if limit := d.w.MaxChain; limit > 0 && d.dst.Archive && c.Chain > limit {
		why = fmt.Sprintf("the chain would be longer than %d streams", limit)
	}
	switch {
	case a.from != 0 && !d.graph.nodes[a.from].there && d.sol.choice[a.from] < 0:
		c.Verdict = NotThere
	case a.from != 0 && d.below(n, a.from):
		c.Verdict = Circular
	case why != "":
		c.Verdict = TooLong
	default:
		c.Verdict, c.More = Dearer, int64(dearer)
		switch extra := a.bytes - d.graph.arcs[d.sol.choice[n]].bytes; {
		case dearer <= 0 && d.guessing(n):
			why = "it is not nearer by the order in which snapshots are sent"
		case dearer <= 0:
			why = "it would cost the same"
		case d.dst.Archive && extra < dearer/2:
			why = fmt.Sprintf("its chain would be longer, which costs as much as %s more", words(dearer))
		case blind:
			c.More, c.Why = 0, "its length was not looked up"
			return c
		default:
			why = words(dearer) + " more"
		}
	}
	c.Why = size + "; " + why
	return c
}

// guessing reports whether no size of a way to the node is known.
func (d *decision) guessing(n int) bool {
	return !slices.ContainsFunc(d.graph.in[n], func(i int) bool { return d.graph.arcs[i].size.Known })
}

// relation fills in who a parent is and how it is related.
func (d *decision) relation(c Considered, n, parent int) Considered {
	self := d.graph.nodes[n].relative
	r := &d.kin.all[parent]
	c.ID, c.Path = r.snap.ID, r.snap.Path
	if r.family == d.kin.all[self].family {
		if !d.src.Archive {
			c.Steps = d.kin.apart(self, parent)
		}
		c.Generations = d.kin.distance(self, parent)
	}
	return c
}

// others says why the nearest of those that are no candidates are none.
func (d *decision) others(n int, seen map[snapshot.ID]bool) []Considered {
	self := d.graph.of(n)
	unseen := func(in func(i int) bool) *circle {
		return d.kin.circle(func(i int) bool { return !seen[d.kin.all[i].snap.ID] && in(i) })
	}
	var list []Considered
	add := func(i int, v Verdict, why string) {
		if len(list) < 6*near {
			list = append(list, d.relation(Considered{Verdict: v, Why: why}, n, i))
		}
	}
	changed := map[int]string{}
	for _, there := range d.dst.Snapshots {
		if i, ok := d.kin.number[there.ID]; ok && d.kin.all[i].family == self.family {
			if why := d.why(d.kin.all[i].snap, there); why != "" {
				changed[i] = why
			}
		}
	}
	for i := range d.kin.all {
		if r := &d.kin.all[i]; r.family == self.family && r.snap.Trust == snapshot.Touched && changed[i] == "" {
			changed[i] = "has been changed on the source since it was received there"
		}
	}
	own := d.graph.nodes[n].relative
	for _, i := range unseen(func(i int) bool { return changed[i] != "" }).near(own, near, near) {
		add(i, Changed, "it "+changed[i])
	}
	usable := func(i int) bool {
		m := d.graph.number[d.kin.all[i].snap.ID]
		return m != 0 && changed[i] == "" && (d.graph.nodes[m].there || d.sol.choice[m] >= 0 || d.src.Archive)
	}
	for _, i := range unseen(usable).near(own, near, near) {
		switch {
		case d.src.Archive:
			add(i, NotKept, "the source keeps no stream from it")
		default:
			add(i, Farther, "others are nearer")
		}
	}
	for _, i := range unseen(func(i int) bool { return !usable(i) && changed[i] == "" }).near(own, near, near) {
		r := &d.kin.all[i]
		why := "the destination does not have it, and it is not wanted"
		switch _, failed := d.w.Known[r.snap.ID]; {
		case failed:
			why = "it could not be transferred"
		case d.wants[r.snap.ID]:
			why = "it is wanted, but cannot be transferred"
		case r.snap.Outside:
			why = "the destination does not have it, and it lies outside of the source's directory"
		}
		add(i, NotThere, why)
	}
	return append(list, d.strangers(n)...)
}

// strangers names the nearest in the same directory that are not related.
func (d *decision) strangers(n int) []Considered {
	self := d.graph.of(n)
	var found []int
	for i := range d.kin.all {
		r := &d.kin.all[i]
		if r.family != self.family && r.snap.Outside == self.snap.Outside && path.Dir(r.snap.Path) == path.Dir(self.snap.Path) {
			found = append(found, i)
		}
	}
	own := d.graph.nodes[n].relative
	slices.SortFunc(found, func(a, b int) int {
		return cmp.Or(cmp.Compare(d.kin.distance(own, a), d.kin.distance(own, b)), cmp.Compare(a, b))
	})
	var list []Considered
	for _, i := range found[:min(near, len(found))] {
		c := d.relation(Considered{Verdict: Unrelated, Why: "it merely lies in the same directory"}, n, i)
		list = append(list, c)
	}
	return list
}
