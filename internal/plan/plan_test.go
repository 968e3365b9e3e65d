package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// world makes inventories from short words: a letter names a snapshot.
func id(name string) snapshot.ID {
	var v snapshot.ID
	copy(v[:], name)
	return v
}

// snap is an original snapshot of the subvolume called family.
func snap(name, family string, generation uint64) snapshot.Snapshot {
	return snapshot.Snapshot{
		ID: id(name), UUID: id(name), Parent: id("subvol-" + family), Path: name,
		Transid: generation, Generation: generation,
	}
}

// copyOf is what a receiver holds of an original.
func copyOf(s snapshot.Snapshot, parent string) snapshot.Snapshot {
	s.UUID, s.Received, s.Generation = id("copy-"+s.Path), true, s.Generation+1000
	s.Parent = snapshot.ID{}
	if parent != "" {
		s.Parent = id("copy-" + parent)
	}
	return s
}

func inventory(s ...snapshot.Snapshot) *snapshot.Inventory {
	return &snapshot.Inventory{Snapshots: s, Occupied: map[string]string{}}
}

func all(inv *snapshot.Inventory) []snapshot.ID {
	var ids []snapshot.ID
	for _, s := range inv.Snapshots {
		if !s.Outside {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// shape writes a plan as "a", "b<a": full a, then b from a.
func shape(p *Plan) string {
	var words []string
	for _, s := range p.Steps {
		word := s.Path
		if !s.Edge.IsFull() {
			word += "<" + s.Parent.Path
		}
		if s.Action == Copy {
			word += "="
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestSync(t *testing.T) {
	a, b, c := snap("a", "x", 10), snap("b", "x", 20), snap("c", "x", 30)
	touched := func(s snapshot.Snapshot) snapshot.Snapshot { s.Trust = snapshot.Touched; return s }
	doubtful := func(s snapshot.Snapshot) snapshot.Snapshot { s.Trust = snapshot.Doubtful; return s }
	outside := func(s snapshot.Snapshot) snapshot.Snapshot { s.Outside = true; return s }
	at := func(s snapshot.Snapshot, gen uint64) snapshot.Snapshot { s.Transid = gen; return s }
	pristine := func(s snapshot.Snapshot) snapshot.Snapshot { s.Pristine = true; return s }
	arrived := func(s snapshot.Snapshot, gen uint64) snapshot.Snapshot {
		s = copyOf(s, "")
		s.Parent, s.Generation = id("one"), gen
		return s
	}
	made := func(s snapshot.Snapshot, hour int) snapshot.Snapshot {
		s.Created = time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)
		return s
	}
	// A restored subvolume: live1 was made from a copy of b, and d from live1.
	d := snap("d", "live1", 40)
	restored := inventory(a, b, d)
	restored.Lineage = map[snapshot.ID]snapshot.ID{id("subvol-live1"): b.UUID}

	for _, tt := range []struct {
		name     string
		src, dst *snapshot.Inventory
		want     string
	}{
		{"empty destination: oldest in full, then a chain", inventory(c, a, b), inventory(), "a b<a c<b"},
		{"newer ones start from the newest that is there", inventory(a, b, c), inventory(copyOf(a, "")), "b<a c<b"},
		{"older ones go backwards", inventory(a, b, c), inventory(copyOf(c, "")), "b<c a<b"},
		{"a gap takes the nearest", inventory(a, snap("b", "x", 28), c), inventory(copyOf(a, ""), copyOf(c, "")), "b<c"},
		{"nothing to do", inventory(a, b), inventory(copyOf(a, ""), copyOf(b, "a")), ""},
		{"two families in one directory stay apart", inventory(a, snap("p", "y", 11), b, snap("q", "y", 21)), inventory(), "a b<a p q<p"},
		{"a changed parent is not used", inventory(a, b), inventory(touched(copyOf(a, ""))), "b"},
		{"a parent changed on the source is not used", inventory(touched(a), b), inventory(copyOf(a, "")), "b"},
		{"an own parent changed after it was sent is not used", inventory(at(a, 12), b), inventory(copyOf(a, "")), "b"},
		{"one with other numbers that never changed is", inventory(pristine(at(a, 12)), b), inventory(copyOf(a, "")), "b<a"},
		{"a doubtful one is used until proven", inventory(a, b), inventory(doubtful(copyOf(a, ""))), "b<a"},
		{"going home: the original is the parent", inventory(copyOf(a, ""), copyOf(b, "a")), inventory(a), "b<a"},
		{"going home to an original that was never changed", inventory(copyOf(a, ""), copyOf(b, "a")), inventory(pristine(at(a, 12))), "b<a"},
		{"going home to a changed original", inventory(copyOf(a, ""), copyOf(b, "a")), inventory(at(a, 12)), "b"},
		{"received copies are a family by their chain", inventory(copyOf(a, ""), copyOf(b, "a"), copyOf(c, "b")), inventory(copyOf(b, "")), "c<b a<b"},
		{"a parent outside of the directory", inventory(outside(a), b), inventory(outside(copyOf(a, ""))), "b<a"},
		{"what lies elsewhere on the file system is copied", inventory(a, b), inventory(outside(copyOf(a, ""))), "a= b<a"},
		{"a changed one that lies elsewhere is not", inventory(a), inventory(touched(outside(copyOf(a, "")))), "a"},
		{"through a writable subvolume made from a snapshot", restored, inventory(copyOf(a, ""), copyOf(b, "a")), "d<b"},
		{"copies that arrived in any order", inventory(arrived(a, 3), arrived(b, 1), arrived(c, 2)), inventory(copyOf(a, "")), "b<a c<b"},
		{"of one generation: as they were made", inventory(a, made(snap("z", "x", 20), 1), made(snap("y", "x", 20), 2)), inventory(copyOf(a, "")), "z<a y<z"},
		{"what was restored starts from what it was restored from", func() *snapshot.Inventory {
			inv := inventory(a, b, c, snap("r", "live1", 40))
			inv.Lineage = map[snapshot.ID]snapshot.ID{id("subvol-live1"): a.UUID}
			return inv
		}(), inventory(copyOf(a, ""), copyOf(b, ""), copyOf(c, "")), "r<a"},
		{"siblings before cousins", func() *snapshot.Inventory {
			inv := inventory(a, snap("e", "live1", 25), snap("f", "live1", 60), snap("g", "x", 58))
			inv.Lineage = map[snapshot.ID]snapshot.ID{id("subvol-live1"): a.UUID}
			return inv
		}(), inventory(copyOf(snap("e", "live1", 25), ""), copyOf(snap("g", "x", 58), ""), copyOf(a, "")), "f<e"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Sync(tt.src, tt.dst, Wish{Want: all(tt.src)}, nil)
			if s := shape(got); s != tt.want {
				t.Errorf("plan is %q, want %q", s, tt.want)
			}
			for _, s := range got.Steps {
				if s.Reason == "" {
					t.Errorf("step %s has no reason", s.Path)
				}
			}
		})
	}
}

// TestNested: nothing can be made inside of a snapshot that is to be received.
// TestOutsideParent restores an increment from an archive that has its parent
// outside of the prefix.
func TestOutsideParent(t *testing.T) {
	parent, child := snap("/else/where/a", "x", 1), snap("b", "x", 2)
	parent.Outside = true
	src := inventory(parent, child)
	src.Archive = true
	src.Edges = []snapshot.Stored{
		{Edge: snapshot.Edge{To: parent.ID}, Size: snapshot.ExactSize(100)},
		{Edge: snapshot.Edge{To: child.ID, From: parent.ID}, Size: snapshot.ExactSize(10)},
	}
	p := Sync(src, inventory(), Wish{Want: all(src)}, nil)
	if shape(p) != "else/where/a b</else/where/a" || len(p.Problems) != 0 || !p.Steps[0].Intermediate {
		t.Errorf("plan is %q with problems %+v", shape(p), p.Problems)
	}
	taken := inventory()
	taken.Occupied["else/where/a"] = "a file"
	if p := Sync(src, taken, Wish{Want: all(src)}, nil); len(p.Steps) != 0 || len(p.Problems) != 1 {
		t.Errorf("over what is in the way: %q with problems %+v", shape(p), p.Problems)
	}
}

func TestNested(t *testing.T) {
	src := inventory(snap("w", "x", 1), snap("w/in", "y", 2), snap("w2", "x", 3))
	p := Sync(src, inventory(), Wish{Want: all(src)}, nil)
	if shape(p) != "w w2<w" || len(p.Problems) != 1 || p.Problems[0].Path != "w/in" || !p.Problems[0].Conflict {
		t.Errorf("plan is %q with problems %+v", shape(p), p.Problems)
	}
	if p := Sync(src, inventory(), Wish{Want: []snapshot.ID{id("w/in")}}, nil); shape(p) != "w/in" || len(p.Problems) != 0 {
		t.Errorf("by itself: %q, %+v", shape(p), p.Problems)
	}
}

func TestSyncProblems(t *testing.T) {
	src := inventory(snap("a", "x", 1), snap("b", "x", 2), snap("c", "x", 3))
	src.Snapshots[2].Trust = snapshot.Touched
	dst := inventory()
	dst.Occupied["a"] = "a snapshot with another identity"
	p := Sync(src, dst, Wish{Want: all(src)}, nil)
	if shape(p) != "b" || len(p.Problems) != 2 {
		t.Fatalf("plan is %q with problems %+v", shape(p), p.Problems)
	}
	if q := p.Problems[0]; !q.Conflict || q.Path != "a" || !strings.Contains(q.Why, "another identity") {
		t.Errorf("the taken path is reported as %+v", q)
	}
	if q := p.Problems[1]; q.Conflict || q.Path != "c" || !strings.Contains(q.Why, "changed") {
		t.Errorf("the changed snapshot is reported as %+v", q)
	}
}

// TestSyncDiffers: what the destination has under a UUID is kept only if it is
// what the source has under it.
func TestSyncDiffers(t *testing.T) {
	a := snap("a", "x", 10)
	changed := func(s snapshot.Snapshot) snapshot.Snapshot { s.Transid += 5; return s }
	touched := func(s snapshot.Snapshot) snapshot.Snapshot { s.Trust = snapshot.Touched; return s }
	for _, tt := range []struct {
		name     string
		src, dst snapshot.Snapshot
		conflict bool
		why      string
	}{
		{"an original changed after it was sent", changed(a), copyOf(a, ""), true, "changed on the source"},
		{"a copy changed at the destination", a, touched(copyOf(a, "")), true, "changed at the destination"},
		{"an original changed after it came here", copyOf(a, ""), changed(a), true, "changed at the destination"},
		{"a copy changed on the source", touched(copyOf(a, "")), a, false, "changed after it was received"},
	} {
		p := Sync(inventory(tt.src), inventory(tt.dst), Wish{Want: []snapshot.ID{a.ID}}, nil)
		if len(p.Keep)+len(p.Steps) != 0 || len(p.Problems) != 1 {
			t.Errorf("%s: keep %v, steps %v, problems %v", tt.name, p.Keep, p.Steps, p.Problems)
		} else if q := p.Problems[0]; q.Conflict != tt.conflict || !strings.Contains(q.Why, tt.why) {
			t.Errorf("%s: %+v", tt.name, q)
		}
	}
}

func TestDelete(t *testing.T) {
	a, b, c := snap("a", "x", 1), snap("b", "x", 2), snap("c", "x", 3)
	c.Outside = true
	src := inventory(a, b, c)
	elsewhere := copyOf(snap("z", "y", 9), "")
	elsewhere.Outside = true
	kept := copyOf(c, "")
	kept.Outside = false
	old := copyOf(snap("old", "x", 0), "")
	twin, away := old, old
	twin.Path, away.Path, away.Outside = "old twin", "/away", true
	old.Copies = []snapshot.Snapshot{twin, away}
	dst := inventory(copyOf(a, ""), old, kept, elsewhere)

	var gone []string
	// Only a is wanted: b, unwanted but in the source, would stay if it were there.
	for _, s := range Sync(src, dst, Wish{Want: []snapshot.ID{a.ID}, Delete: true}, nil).Remove {
		gone = append(gone, s.Path)
	}
	if diff := cmp.Diff([]string{"c", "old", "old twin"}, gone); diff != "" {
		t.Error(diff)
	}
	if r := Sync(src, dst, Wish{Want: []snapshot.ID{a.ID}}, nil).Remove; r != nil {
		t.Errorf("without Delete %v would be removed", r)
	}
}

// TestSyncEndsWithTheWish carries out plans for random inventories: every step
// finds its parent, and in the end the destination holds what was wished.
func TestSyncEndsWithTheWish(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src, dst := inventory(), inventory()
		for i := range rapid.IntRange(1, 12).Draw(t, "snapshots") {
			s := snap(fmt.Sprintf("s%02d", i), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "family"), uint64(rapid.IntRange(1, 30).Draw(t, "generation")))
			s.Trust = snapshot.Trust(rapid.IntRange(0, 2).Draw(t, "trust"))
			s.Outside = rapid.Bool().Draw(t, "outside")
			src.Snapshots = append(src.Snapshots, s)
			if rapid.Bool().Draw(t, "there") {
				k := copyOf(s, "")
				k.Trust = snapshot.Trust(rapid.IntRange(0, 2).Draw(t, "trust there"))
				k.Outside = rapid.Bool().Draw(t, "outside there")
				dst.Snapshots = append(dst.Snapshots, k)
			}
		}
		p := Sync(src, dst, Wish{Want: all(src)}, nil)
		again := Sync(src, dst, Wish{Want: all(src)}, nil)
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatalf("the same inventories give two plans:\n%s", diff)
		}

		holds := map[snapshot.ID]bool{}
		parents := map[snapshot.ID]bool{}
		for _, s := range dst.Snapshots {
			holds[s.ID] = !s.Outside
			parents[s.ID] = s.Trust != snapshot.Touched
		}
		for _, step := range p.Steps {
			if holds[step.Edge.To] {
				t.Fatalf("%s is there already", step.Path)
			}
			if step.Snapshot.Trust == snapshot.Touched {
				t.Fatalf("%s was changed and is sent all the same", step.Path)
			}
			if from := step.Edge.From; !from.IsZero() && (!parents[from] || step.Parent.Trust == snapshot.Touched) {
				t.Fatalf("%s starts from %s, which cannot be used", step.Path, step.Parent.Path)
			}
			if !step.Edge.IsFull() && step.Parent.Parent != step.Snapshot.Parent {
				t.Fatalf("%s starts from the unrelated %s", step.Path, step.Parent.Path)
			}
			holds[step.Edge.To], parents[step.Edge.To] = true, true
		}
		for _, q := range p.Problems {
			holds[q.Snapshot.ID] = true
		}
		for _, want := range all(src) {
			if !holds[want] {
				t.Fatalf("%v is neither there, nor planned, nor a problem", want)
			}
		}
	})
}
