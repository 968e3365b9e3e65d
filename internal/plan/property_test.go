package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// scene is a random pair of inventories with a wish and sizes.
type scene struct {
	src, dst *snapshot.Inventory
	wish     Wish
	sizes    Sizes
}

func drawScene(t *rapid.T) scene {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 11))
	n := rapid.IntRange(1, 14).Draw(t, "snapshots")
	fromArchive, toArchive := rapid.Bool().Draw(t, "from archive"), rapid.Bool().Draw(t, "to archive")
	c := scene{src: inventory(), dst: inventory()}
	c.src.Archive, c.dst.Archive = fromArchive, toArchive
	for i := range n {
		s := snap(fmt.Sprintf("s%02d", i), []string{"x", "y"}[r.IntN(2)], uint64(1+r.IntN(30)))
		if r.IntN(6) == 0 && i > 0 {
			s.Path = c.src.Snapshots[r.IntN(i)].Path + "/" + s.Path
		}
		if r.IntN(8) == 0 && !fromArchive {
			s.Outside = true
		}
		if r.IntN(10) == 0 {
			s.Trust = snapshot.Trust(r.IntN(3))
		}
		c.src.Snapshots = append(c.src.Snapshots, s)
		switch r.IntN(4) {
		case 0:
			k := copyOf(s, "")
			k.Outside = r.IntN(3) == 0 && !toArchive
			if r.IntN(6) == 0 {
				k.Trust = snapshot.Trust(r.IntN(3))
			}
			c.dst.Snapshots = append(c.dst.Snapshots, k)
		case 1:
			if r.IntN(4) == 0 {
				c.dst.Occupied[s.Path] = "a file"
			}
		}
		if !s.Outside && r.IntN(3) > 0 {
			c.wish.Want = append(c.wish.Want, s.ID)
		}
	}
	random := func(inv *snapshot.Inventory) {
		seen := map[snapshot.Edge]bool{}
		for _, s := range inv.Snapshots {
			for range 1 + r.IntN(2) {
				e := snapshot.Edge{To: s.ID}
				if r.IntN(3) > 0 {
					e.From = c.src.Snapshots[r.IntN(n)].ID
				}
				if e.From != e.To && !seen[e] {
					seen[e] = true
					inv.Edges = append(inv.Edges, snapshot.Stored{Edge: e, Size: snapshot.ExactSize(int64(1 + r.IntN(500)))})
				}
			}
		}
	}
	if fromArchive {
		random(c.src)
	}
	if toArchive {
		random(c.dst)
		c.wish.MaxChain = r.IntN(5)
		c.wish.MaxRestore = int64(max(0, r.IntN(3000)-1500))
	}
	c.wish.Delete = r.IntN(2) == 0
	c.wish.Linear = r.IntN(2) == 0
	c.wish.Full = map[snapshot.ID]bool{}
	if every := r.IntN(4); every > 0 {
		for _, s := range c.src.Snapshots {
			c.wish.Full[s.ID] = r.IntN(1+every*every) == 1
		}
	}
	known := r.IntN(3)
	c.sizes = func(e snapshot.Edge) snapshot.Size {
		h := int64(e.To[1])*7 + int64(e.To[2])*13 + int64(e.From[1])*29 + int64(e.From[2])*5
		if known == 0 || known == 1 && h%2 == 0 {
			return snapshot.Size{}
		}
		if e.IsFull() {
			h += 600
		}
		return snapshot.ExactSize(h % 900)
	}
	return c
}

// TestEveryPlan checks what has to be true of any plan whatever.
func TestEveryPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawScene(t)
		p := Sync(c.src, c.dst, c.wish, c.sizes)
		if diff := cmp.Diff(p, Sync(c.src, c.dst, c.wish, c.sizes)); diff != "" {
			t.Fatalf("the same inventories give two plans:\n%s", diff)
		}
		if p.Bound > p.Cost {
			t.Fatalf("cost %d, bound %d", p.Cost, p.Bound)
		}
		count := map[snapshot.ID]int{}
		for _, k := range p.Keep {
			count[k.ID]++
		}
		for _, q := range p.Problems {
			count[q.Snapshot.ID]++
		}
		for _, s := range p.Steps {
			count[s.Edge.To]++
			if wanted := slices.Contains(c.wish.Want, s.Edge.To); wanted == s.Intermediate {
				t.Fatalf("%s: intermediate %v, wanted %v", s.Path, s.Intermediate, wanted)
			}
			if s.Snapshot.Outside || s.Reason == "" || c.dst.Occupied[s.Path] != "" {
				t.Fatalf("%+v", s)
			}
		}
		for id, n := range count {
			if n != 1 {
				t.Fatalf("%v is %d times in the plan", id, n)
			}
		}
		for _, id := range c.wish.Want {
			if count[id] != 1 {
				t.Fatalf("%v is wanted, and not in the plan", id)
			}
		}
		carryOut(t, c, p)
		checkFull(t, c, p)
		checkLinear(t, c, p)
		for _, s := range c.src.Snapshots {
			x := Explain(c.src, c.dst, c.wish, c.sizes, s.ID)
			if x.Reason == "" || x.Wanted != slices.Contains(c.wish.Want, s.ID) {
				t.Fatalf("%+v", x)
			}
			if sent := slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Edge.To == x.ID && s.Action == Send }); sent && (len(x.Considered) == 0 || x.Considered[0].Verdict != Chosen) {
				t.Fatalf("%+v", x)
			}
			for i, q := range x.Considered {
				if q.Why == "" || q.Verdict == "" || i > 0 && q.Verdict == Chosen {
					t.Fatalf("%s considers %+v", s.Path, q)
				}
			}
		}
	})
}

// carryOut carries out a plan on paper.
func carryOut(t *rapid.T, c scene, p *Plan) {
	before := map[snapshot.ID]bool{} // usable from the start
	chains := chainsOf(c.dst)
	s := newSync(c.src, c.dst, c.wish, nil)
	for _, there := range c.dst.Snapshots {
		here, ok := c.src.Find(there.ID)
		_, whole := chains[there.ID]
		if ok && here.Trust != snapshot.Touched && there.Trust != snapshot.Touched && (whole || !c.dst.Archive) {
			before[there.ID] = true
		}
	}
	stored := map[snapshot.Edge]bool{}
	for _, e := range c.src.Edges {
		stored[e.Edge] = true
	}
	after := slices.Clone(c.dst.Edges)
	has := map[snapshot.ID]bool{}
	parent := map[snapshot.ID]snapshot.ID{}
	for id := range before {
		has[id] = true
	}
	for _, step := range p.Steps {
		e := step.Edge
		if step.Action == Copy {
			if !before[e.To] {
				t.Fatalf("%s is copied and is not there", step.Path)
			}
			continue
		}
		// A stream that an archive holds may get a shorter chain besides.
		if _, sent := parent[e.To]; before[e.To] || sent {
			t.Fatalf("%s is there already", step.Path)
		}
		// In an archive a stream may have been completed by an earlier step.
		if c.dst.Archive {
			now := *c.dst
			now.Edges = after
			for id := range chainsOf(&now) {
				has[id] = true
			}
		}
		if !e.IsFull() && !has[e.From] {
			t.Fatalf("%s comes before its parent %s", step.Path, step.Parent.Path)
		}
		if c.src.Archive && !stored[e] {
			t.Fatalf("%s: the source has no such stream", step.Path)
		}
		if c.dst.Archive && slices.ContainsFunc(c.dst.Edges, func(h snapshot.Stored) bool { return h.Edge == e }) {
			t.Fatalf("%s: the destination holds that stream", step.Path)
		}
		if !c.src.Archive && !e.IsFull() && step.Parent.Parent != step.Snapshot.Parent {
			t.Fatalf("%s starts from the unrelated %s", step.Path, step.Parent.Path)
		}
		if limit := c.wish.MaxRestore; c.dst.Archive && limit > 0 && step.Restore > limit {
			t.Fatalf("%s needs %d bytes, with %d allowed", step.Path, step.Restore, limit)
		}
		if limit := c.wish.MaxChain; c.dst.Archive && limit > 0 && step.Chain > limit {
			t.Fatalf("%s ends a chain of %d", step.Path, step.Chain)
		}
		checkClones(t, c, step, before, parent)
		has[e.To], parent[e.To] = true, e.From
		after = append(after, snapshot.Stored{Edge: e})
	}
	now := *c.dst
	now.Edges = after
	then := chainsOf(&now)
	for _, k := range p.Keep {
		if _, whole := then[k.ID]; c.dst.Archive && !whole {
			t.Fatalf("%s is kept, and has no chain in the end", k.Path)
		}
	}
	if c.dst.Archive {
		// What is removed leaves everything else as it is.
		gone := map[snapshot.ID]bool{}
		for _, r := range p.Remove {
			gone[r.ID] = true
		}
		now.Edges = slices.DeleteFunc(slices.Clone(after), func(e snapshot.Stored) bool { return gone[e.To] })
		left := chainsOf(&now)
		for id := range then {
			if _, whole := left[id]; !whole && !gone[id] {
				if _, known := s.kin.number[id]; known {
					t.Fatalf("removing breaks the chain of %v", id)
				}
			}
		}
	}
}

// checkClones checks that the clone sources of a step are there by its turn
// without anything that the step does not wait for anyway.
func checkClones(t *rapid.T, c scene, step Step, before map[snapshot.ID]bool, parent map[snapshot.ID]snapshot.ID) {
	if len(step.Clones) > MaxClones || len(step.Clones) > 0 && (c.dst.Archive || c.src.Archive) {
		t.Fatalf("%s has %d clone sources", step.Path, len(step.Clones))
	}
	seen := map[snapshot.ID]bool{step.Edge.To: true, step.Edge.From: true}
	for _, clone := range step.Clones {
		ancestor := false
		for x := step.Edge.From; !x.IsZero(); x = parent[x] {
			ancestor = ancestor || x == clone.ID
		}
		there, _ := c.dst.Find(clone.ID)
		switch {
		case seen[clone.ID]:
			t.Fatalf("%s has the clone source %s twice", step.Path, clone.Path)
		case clone.Parent != step.Snapshot.Parent:
			t.Fatalf("%s has the unrelated clone source %s", step.Path, clone.Path)
		case !ancestor && (!before[clone.ID] || clone.Trust != snapshot.Intact || there.Trust != snapshot.Intact):
			t.Fatalf("%s would wait for its clone source %s", step.Path, clone.Path)
		}
		seen[clone.ID] = true
	}
}

// TestCheapest compares whole plans, with what Candidates asks for measured,
// with all choices of edges, by a reckoning of its own.
func TestCheapest(t *testing.T) {
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 13))
		n := 1 + r.IntN(4)
		src, dst := inventory(), inventory()
		toArchive := seed%2 == 0
		if toArchive {
			dst = archive()
		}
		for i := range n {
			src.Snapshots = append(src.Snapshots, snap(fmt.Sprint("s", i), "x", uint64(i+1)))
		}
		there := map[int]bool{}
		if r.IntN(3) == 0 && n > 1 {
			i := r.IntN(n)
			there[i] = true
			dst.Snapshots = append(dst.Snapshots, copyOf(src.Snapshots[i], ""))
			dst.Edges = []snapshot.Stored{{Edge: snapshot.Edge{To: src.Snapshots[i].ID}, Size: snapshot.ExactSize(700)}}
		}
		sizes := map[snapshot.Edge]snapshot.Size{}
		for _, a := range src.Snapshots {
			sizes[snapshot.Edge{To: a.ID}] = snapshot.ExactSize(int64(500 + r.IntN(500)))
			for _, b := range src.Snapshots {
				sizes[snapshot.Edge{To: a.ID, From: b.ID}] = snapshot.ExactSize(int64(1 + r.IntN(600)))
			}
		}
		p := Sync(src, dst, Wish{Want: all(src)}, func(e snapshot.Edge) snapshot.Size { return sizes[e] })

		// parent[i] is n for nothing.
		parent := make([]int, n)
		least := math.Inf(1)
		var try func(i int)
		try = func(i int) {
			if i == n {
				least = min(least, reckon(src, there, parent, sizes, toArchive))
				return
			}
			if there[i] {
				parent[i] = -1
				try(i + 1)
				return
			}
			for q := range n + 1 {
				if q != i {
					parent[i] = q
					try(i + 1)
				}
			}
		}
		try(0)
		if want := int64(math.Ceil(least)); p.Cost != want || p.Bound != want {
			t.Fatalf("seed %d: %q costs %d, bound %d, the cheapest is %d", seed, shape(p), p.Cost, p.Bound, want)
		}
	}
}

// reckon returns the cost of a choice of parents.
func reckon(src *snapshot.Inventory, there map[int]bool, parent []int, sizes map[snapshot.Edge]snapshot.Size, toArchive bool) float64 {
	n, sum := len(parent), 0.0
	for i := range n {
		if there[i] {
			continue
		}
		streams, bytes, own := 0, 0.0, 0.0
		for x := i; x != n; x = parent[x] {
			if there[x] {
				streams, bytes = streams+1, bytes+700
				break
			}
			e := snapshot.Edge{To: src.Snapshots[x].ID}
			if parent[x] != n {
				e.From = src.Snapshots[parent[x]].ID
			}
			size := float64(sizes[e].Bytes)
			if x == i {
				own = size
			}
			if streams, bytes = streams+1, bytes+size; streams > n {
				return math.Inf(1)
			}
		}
		sum += own
		if toArchive {
			sum += own/16 + bytes*math.Pow(2, float64(streams-6))
		}
	}
	return sum
}

// TestClones: the nearest that both sides hold for sure, and ancestors in the
// plan; nothing for which the step would have to wait.
func TestClones(t *testing.T) {
	src, dst := inventory(), inventory()
	for g := range 30 {
		src.Snapshots = append(src.Snapshots, snap(fmt.Sprintf("s%02d", g), "x", uint64(10*(g+1))))
		if g < 12 {
			dst.Snapshots = append(dst.Snapshots, copyOf(src.Snapshots[g], ""))
		}
	}
	src.Snapshots[9].Trust = snapshot.Doubtful
	dst.Snapshots[8].Trust = snapshot.Doubtful
	dst.Snapshots[7].Trust = snapshot.Touched
	dst.Snapshots[6].Outside = true
	names := func(list []snapshot.Snapshot) string {
		var words []string
		for _, s := range list {
			words = append(words, s.Path)
		}
		return fmt.Sprint(words)
	}
	p := Sync(src, dst, Wish{Want: []snapshot.ID{src.Snapshots[12].ID, src.Snapshots[13].ID, src.Snapshots[14].ID}}, nil)
	var got []string
	for _, s := range p.Steps {
		got = append(got, names(s.Clones))
	}
	want := []string{
		"[s10 s06 s05 s04 s03 s02 s01 s00]",
		"[s11 s10 s06 s05 s04 s03 s02 s01]",
		"[s12 s11 s10 s06 s05 s04 s03 s02]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, s := range Sync(src, archive(), Wish{Want: all(src)}, nil).Steps {
		if s.Clones != nil {
			t.Errorf("at an archive %s has clone sources", s.Path)
		}
	}
	// Where only what was received can be one, originals are parents and nothing else.
	for g := range 12 {
		dst.Snapshots[g] = src.Snapshots[g]
	}
	dst.Snapshots[4], dst.ReceivedClones = copyOf(src.Snapshots[4], ""), true
	p = Sync(src, dst, Wish{Want: []snapshot.ID{src.Snapshots[12].ID, src.Snapshots[13].ID}}, nil)
	if len(p.Steps) != 2 || p.Steps[0].Parent.Path != "s11" || names(p.Steps[0].Clones) != "[s04]" || names(p.Steps[1].Clones) != "[s04]" {
		t.Errorf("of received ones only: %+v", p.Steps)
	}
}

// TestDeleteFromArchive: what others are made from stays.
func TestDeleteFromArchive(t *testing.T) {
	src := inventory(snap("C", "x", 3), snap("D", "x", 4))
	dst := storingEdges("A 1000, B<A 10, C<B 10, Y 500, Z<Y 10")
	var gone []string
	p := Sync(src, dst, Wish{Want: all(src), Delete: true}, nil)
	for _, s := range p.Remove {
		gone = append(gone, s.Path)
	}
	if diff := cmp.Diff([]string{"Y", "Z"}, gone); diff != "" || shape(p) != "D<C" {
		t.Errorf("%q, %s", shape(p), diff)
	}
}
