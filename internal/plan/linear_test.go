package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// checkFull checks that what is to be sent in full is, newest first.
func checkFull(t *rapid.T, c scene, p *Plan) {
	last := map[snapshot.ID]Step{} // by what they are of
	for _, step := range p.Steps {
		if !c.wish.Full[step.Edge.To] || step.Intermediate || step.Action == Copy {
			continue
		}
		if !step.Edge.IsFull() || len(step.Clones) > 0 || step.Reason != "full: asked for" {
			t.Fatalf("%s is to be sent in full: %+v", step.Path, step)
		}
		if before, ok := last[step.Snapshot.Parent]; ok && !c.src.Archive && before.Snapshot.Generation < step.Snapshot.Generation {
			t.Fatalf("%s comes before %s, which is newer", before.Path, step.Path)
		}
		last[step.Snapshot.Parent] = step
	}
}

// checkLinear checks that, where chains are linear, increments start from nothing
// but the nearest older relative, and nothing is sent that is not wanted.
func checkLinear(t *rapid.T, c scene, p *Plan) {
	if !c.wish.Linear || !c.dst.Archive || c.src.Archive {
		return
	}
	has := map[snapshot.ID]bool{}
	for id := range chainsOf(c.dst) {
		there, _ := c.dst.Find(id)
		here, ok := c.src.Find(id)
		has[id] = ok && here.Trust != snapshot.Touched && there.Trust != snapshot.Touched
	}
	for _, step := range p.Steps {
		has[step.Edge.To] = true
	}
	for _, step := range p.Steps {
		if step.Intermediate {
			t.Fatalf("%s is not wanted", step.Path)
		}
		if step.Edge.IsFull() {
			continue
		}
		self, parent := step.Snapshot, step.Parent
		if parent.Generation > self.Generation {
			t.Fatalf("%s starts from %s, which is newer", self.Path, parent.Path)
		}
		for _, other := range c.src.Snapshots {
			if has[other.ID] && other.Parent == self.Parent && other.Generation < self.Generation && other.Generation > parent.Generation {
				t.Fatalf("%s starts from %s, and %s is nearer", self.Path, parent.Path, other.Path)
			}
		}
	}
}

// grow makes the edges of a plan part of an archive.
func grow(dst *snapshot.Inventory, p *Plan) {
	for _, s := range p.Steps {
		dst.Edges = append(dst.Edges, snapshot.Stored{Edge: s.Edge, Size: s.Size})
		there := s.Snapshot
		there.Transid, there.Parent = 0, snapshot.ID{}
		dst.Snapshots = append(dst.Snapshots, there)
	}
}

// TestLinearGrows adds to an archive one by one, and several at once: the chains
// are the same, each as long as it may be, whatever a new one would cost.
func TestLinearGrows(t *testing.T) {
	lengths := func(e snapshot.Edge) snapshot.Size {
		if e.IsFull() {
			return snapshot.ExactSize(1000)
		}
		return snapshot.ExactSize(10)
	}
	for _, tt := range []struct {
		limit int
		bytes int64
		sizes Sizes
		want  int // streams of a chain
	}{
		{7, 0, lengths, 7},
		{7, 0, nil, 7},
		{1, 0, lengths, 1},
		{30, 0, lengths, 30},
		{0, 1045, lengths, 5},
		{3, 1045, lengths, 3},
		{0, 0, lengths, 64},
	} {
		for _, atOnce := range []int{1, 3, 64} {
			src, dst := inventory(), archive()
			w := Wish{Linear: true, MaxChain: tt.limit, MaxRestore: tt.bytes}
			for g := range 64 {
				s := snap(fmt.Sprintf("s%02d", g), "x", uint64(10*(g+1)))
				src.Snapshots = append(src.Snapshots, s)
				w.Want = append(w.Want, s.ID)
				if (g+1)%atOnce == 0 || g == 63 {
					p := Sync(src, dst, w, tt.sizes)
					if len(p.Problems) > 0 || p.Cost < p.Bound {
						t.Fatalf("%+v: %+v", tt, p)
					}
					grow(dst, p)
				}
			}
			for g, e := range dst.Edges {
				want := snapshot.Edge{To: src.Snapshots[g].ID}
				if g%tt.want != 0 {
					want.From = src.Snapshots[g-1].ID
				}
				if e.Edge != want {
					t.Fatalf("at most %d streams, %d bytes, %d at once: number %d is %v", tt.limit, tt.bytes, atOnce, g, e.Edge)
				}
			}
		}
	}
}

// TestLinear: what starts from where.
func TestLinear(t *testing.T) {
	five := func() *snapshot.Inventory {
		return inventory(snap("A", "x", 10), snap("B", "x", 20), snap("C", "x", 30), snap("D", "x", 40), snap("E", "x", 50))
	}
	for _, tt := range []struct {
		name  string
		there string
		limit int
		full  string
		sizes string
		plan  string
		why   string // of the last step
	}{
		{"nothing there", "", 0, "", "", "A B<A C<B D<C E<D", "number 5 of its chain"},
		{"two chains", "", 3, "", "", "A B<A C<B D E<D", "number 2 of its chain"},
		{"the chain is full", "A 900, B<A 10, C<B 10, D<C 10", 4, "", "", "E", "as a new chain: with an increment from D the chain would be longer than 4 streams"},
		{"a gap is filled from below it, and those above stay", "A 900, B<A 10, D<B 10, E<D 10", 30, "", "", "C<B", ""},
		{"older than all that is there", "C 900", 30, "", "", "A B<A D<C E<D", ""},
		{"a full stream is shorter", "A 900", 0, "", "B<A 500, B 100, C<B 10, D<C 10, E<D 10", "B C<B D<C E<D", ""},
		{"in full by wish", "A 900", 0, "BE", "", "E B C<B D<C", ""},
	} {
		src := five()
		dst, sizes := archive(), Sizes(nil)
		if tt.there != "" {
			dst = storingEdges(tt.there)
		}
		if tt.sizes != "" {
			sizes = lookup(edges(tt.sizes))
		}
		w := Wish{Want: all(src), Linear: true, MaxChain: tt.limit, Full: map[snapshot.ID]bool{}}
		for _, c := range tt.full {
			w.Full[id(string(c))] = true
		}
		p := Sync(src, dst, w, sizes)
		if got := shape(p); got != tt.plan || !strings.Contains(p.Steps[len(p.Steps)-1].Reason, tt.why) {
			t.Errorf("%s: %q, want %q; %s", tt.name, got, tt.plan, p.Steps[len(p.Steps)-1].Reason)
		}
	}
	// Elsewhere the wish says nothing.
	src := five()
	for name, dst := range map[string]*snapshot.Inventory{"a live destination": inventory(), "none": nil} {
		from := src
		if dst == nil {
			from, dst = storingEdges("A 900, B<A 10, C<B 10, C<A 12, D<C 10, E<D 10"), archive()
		}
		w := Wish{Want: all(from)}
		want := Sync(from, dst, w, nil)
		w.Linear = true
		if diff := cmp.Diff(want, Sync(from, dst, w, nil)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestFull: in full and newest first, everywhere.
func TestFull(t *testing.T) {
	src := inventory(snap("A", "x", 10), snap("B", "x", 20), snap("C", "x", 30))
	w := Wish{Want: all(src), Full: map[snapshot.ID]bool{id("A"): true, id("B"): true, id("C"): true}}
	for name, dst := range map[string]*snapshot.Inventory{"live": inventory(), "archive": archive()} {
		if got := shape(Sync(src, dst, w, lookup(edges(abc)))); got != "C B A" {
			t.Errorf("%s: %q", name, got)
		}
		var asked []string
		for _, e := range Candidates(src, dst, w) {
			asked = append(asked, fmt.Sprint(e.IsFull()))
		}
		if len(asked) != 3 || slices.Contains(asked, "false") {
			t.Errorf("%s: %v", name, asked)
		}
	}
	held := inventory(copyOf(snap("A", "x", 10), ""))
	if got := shape(Sync(src, held, w, nil)); got != "C B" {
		t.Errorf("what is there is sent: %q", got)
	}
	delete(w.Full, id("B"))
	if got := shape(Sync(src, inventory(), w, nil)); got != "C A B<A" {
		t.Errorf("one that is not to be in full: %q", got)
	}
	kept := storingEdges("A 1000, B<A 10, B 900, C<B 10")
	p := Sync(kept, inventory(), Wish{Want: all(kept), Full: map[snapshot.ID]bool{id("B"): true, id("C"): true}}, nil)
	if got := shape(p); got != "B A" || len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Why, "keeps no full stream") {
		t.Errorf("%q, %+v", got, p.Problems)
	}
}

// TestNeeded compares what is needed with every chain there is.
func TestNeeded(t *testing.T) {
	some, none := 0, 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 17))
		n := 1 + r.IntN(7)
		inv := archive()
		for i := range n {
			s := snap(fmt.Sprintf("s%02d", i), "x", uint64(i+1))
			s.Outside = r.IntN(8) == 0
			inv.Snapshots = append(inv.Snapshots, s)
		}
		for i := range n {
			for range 1 + r.IntN(2) {
				e := snapshot.Edge{To: inv.Snapshots[i].ID}
				if r.IntN(3) > 0 {
					e.From = inv.Snapshots[r.IntN(n)].ID
				}
				if e.From != e.To {
					inv.Edges = append(inv.Edges, snapshot.Stored{Edge: e})
				}
			}
		}
		keep := map[snapshot.ID]bool{}
		stays := map[snapshot.ID]bool{}
		for _, s := range inv.Snapshots {
			keep[s.ID] = r.IntN(3) == 0
			stays[s.ID] = keep[s.ID] || s.Outside
		}
		// steps is over how many streams one leads to another, by every way.
		steps := func(from, to snapshot.ID) int {
			least := -1
			var walk func(at snapshot.ID, way []snapshot.ID)
			walk = func(at snapshot.ID, way []snapshot.ID) {
				if at == from && (least < 0 || len(way) < least) {
					least = len(way)
				}
				for _, e := range inv.Edges {
					if e.To == at && !e.IsFull() && !slices.Contains(way, e.From) && e.From != to {
						walk(e.From, append(slices.Clone(way), e.From))
					}
				}
			}
			walk(to, nil)
			return least
		}
		want := map[snapshot.ID]int{}
		for _, s := range inv.Snapshots {
			for _, k := range inv.Snapshots {
				if d := steps(s.ID, k.ID); stays[k.ID] && !stays[s.ID] && d >= 0 && (want[s.ID] == 0 || d < want[s.ID]) {
					want[s.ID] = d
				}
			}
		}
		got := map[snapshot.ID]int{}
		for id, by := range Needed(inv, func(id snapshot.ID) bool { return keep[id] }) {
			if !stays[by] {
				t.Fatalf("seed %d: %v is needed by %v, which does not stay", seed, id, by)
			}
			got[id] = steps(id, by)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		if len(want) > 0 {
			some++
		} else {
			none++
		}
		inv.Archive = false
		if len(Needed(inv, func(id snapshot.ID) bool { return keep[id] })) > 0 {
			t.Fatal("in a directory something is needed")
		}
	}
	if some < 500 || none < 100 {
		t.Errorf("something was needed %d times, and nothing %d times", some, none)
	}
}

// TestLinearBetweenLimits: one limit allows what the other one forbids.
func TestLinearBetweenLimits(t *testing.T) {
	src := inventory(snap("A", "x", 10), snap("B", "x", 20), snap("C", "x", 30), snap("D", "x", 40))
	sizes := lookup(edges("A 100, B<A 10, C<B 10, D<C 10, B 1000, C 1000, D 1000"))
	p := Sync(src, archive(), Wish{Want: all(src), Linear: true, MaxChain: 2, MaxRestore: 500}, sizes)
	if got := shape(p); got != "A B<A" || len(p.Problems) != 2 || !strings.Contains(p.Problems[0].Why, "longer than 2 streams or 500 bytes") {
		t.Errorf("%q, %+v", got, p.Problems)
	}
}
