package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// verdicts writes what was considered as "A chosen, B costs more".
func verdicts(x *Explanation) string {
	var words []string
	for _, c := range x.Considered {
		name := c.Path
		if c.Full {
			name = "full"
		}
		words = append(words, name+": "+string(c.Verdict))
	}
	return strings.Join(words, ", ")
}

func TestExplain(t *testing.T) {
	a, b, c := snap("A", "x", 10), snap("B", "x", 20), snap("C", "x", 30)
	touched := copyOf(snap("T", "x", 15), "")
	touched.Trust = snapshot.Touched
	away := snap("away", "x", 12)
	away.Outside = true
	src := inventory(a, b, c, snap("T", "x", 15), away, snap("other", "y", 29))
	dst := inventory(copyOf(a, ""), touched)
	w := Wish{Want: []snapshot.ID{a.ID, b.ID, c.ID}}
	sizes := lookup(edges(abc))
	for _, tt := range []struct {
		id       string
		decision Decision
		verdicts string
		reason   string
	}{
		{"C", WillSend, "B: chosen, A: costs more, full: costs more, T: changed, away: not at the destination, other: unrelated", "250 bytes, against 400 bytes from A"},
		{"B", WillSend, "A: chosen, C: starts from it itself, full: costs more, T: changed, away: not at the destination, other: unrelated", "120 bytes, against 1.074 KiB in full"},
		{"A", Kept, "", "at A"},
		{"T", NotWanted, "", "not wanted"},
		{"away", NotWanted, "", "outside of the source's directory"},
		{"other", NotWanted, "", "nothing wanted starts from it"},
		{"nobody", Unknown, "", "does not hold it"},
	} {
		x := Explain(src, dst, w, sizes, id(tt.id))
		if x.Decision != tt.decision || verdicts(x) != tt.verdicts || !strings.Contains(x.Reason, tt.reason) {
			t.Errorf("%s: %s because %q; %s", tt.id, x.Decision, x.Reason, verdicts(x))
		}
		if x.Wanted != slices.Contains(w.Want, x.ID) || x.Cost != 370 || x.Bound != 370 {
			t.Errorf("%s: %+v", tt.id, x)
		}
		text, err := json.Marshal(x)
		if err != nil || !strings.Contains(string(text), `"decision":"`+string(tt.decision)) {
			t.Errorf("%s: %s, %v", tt.id, text, err)
		}
	}

	if x := Explain(src, dst, Wish{Want: w.Want, Known: map[snapshot.ID]Problem{b.ID: {Snapshot: b, Path: "B", Why: "it broke"}}}, sizes, b.ID); x.Decision != Impossible || x.Reason != "it broke" {
		t.Errorf("a known problem: %+v", x)
	}
	if x := Explain(src, dst, w, sizes, c.ID); x.Considered[1].More != 150 || x.Considered[1].Bytes != 400 || x.Considered[1].Steps != 2 || x.Considered[1].Generations != 20 {
		t.Errorf("what costs more: %+v", x.Considered[1])
	}
	if x := Explain(src, archive(), Wish{Want: w.Want, MaxChain: 1}, sizes, c.ID); verdicts(x) != "full: chosen, B: chain too long, A: chain too long, T: not at the destination, away: not at the destination, other: unrelated" {
		t.Errorf("with a limit: %s", verdicts(x))
	}
	// The planner needs a number for a full stream of which nothing is known; people do not.
	if x := Explain(src, dst, w, lookup(edges("B<A 120, C<B 250")), b.ID); !x.Considered[2].Full || x.Considered[2].Bytes != 0 || x.Considered[2].More != 0 || x.Considered[2].Why != "its length was not looked up" {
		t.Errorf("a full stream of unknown length: %+v", x.Considered)
	}
	stored := storingEdges("A 990, B<A 120, C<B 250")
	if x := Explain(stored, inventory(), Wish{Want: []snapshot.ID{c.ID}}, nil, b.ID); x.Decision != Between || x.Wanted || len(x.Children) != 1 || verdicts(x) != "A: chosen, C: no such stream" {
		t.Errorf("between: %+v", x)
	}
	if x := Explain(stored, inventory(), Wish{Want: []snapshot.ID{c.ID}}, nil, c.ID); verdicts(x) != "B: chosen, A: no such stream" {
		t.Errorf("from an archive: %s", verdicts(x))
	}
}

// TestExplainFarther: relatives that are not candidates because others are
// nearer.
func TestExplainFarther(t *testing.T) {
	src := inventory()
	for g := range 30 {
		src.Snapshots = append(src.Snapshots, snap(fmt.Sprintf("s%02d", g), "x", uint64(g+1)))
	}
	x := Explain(src, inventory(), Wish{Want: all(src)}, nil, src.Snapshots[20].ID)
	if len(x.Considered) > 24 || x.Considered[0].Path != "s19" {
		t.Errorf("%s", verdicts(x))
	}
	for _, want := range []string{"s19: chosen", "s18: costs more", "s21: starts from it itself", "s15: farther away"} {
		if !strings.Contains(verdicts(x), want) {
			t.Errorf("not %q in %s", want, verdicts(x))
		}
	}
}

// TestCandidates: what is asked for, and in which order.
func TestCandidates(t *testing.T) {
	src := inventory(snap("a", "x", 1), snap("b", "x", 2), snap("c", "x", 3), snap("p", "y", 2), snap("q", "y", 8))
	name := func(id snapshot.ID) string { return strings.TrimRight(string(id[:]), "\x00") }
	list := func(c []snapshot.Edge) string {
		var words []string
		for _, e := range c {
			words = append(words, name(e.To)+"<"+name(e.From))
		}
		return strings.Join(words, " ")
	}
	w := Wish{Want: all(src)}
	for _, tt := range []struct {
		name string
		dst  *snapshot.Inventory
		want string
	}{
		{"first guesses, second ones", inventory(copyOf(src.Snapshots[0], ""), copyOf(src.Snapshots[3], "")), "b<a c<b q<p c<a"},
		{"families begin in full", inventory(), "a< b<a c<b p< q<p c<a"},
		{"chains begin anew", archive(), "a< b<a c<b p< q<p c<a b< c< q<"},
		{"nothing to do", inventory(copyOf(src.Snapshots[0], ""), copyOf(src.Snapshots[1], ""), copyOf(src.Snapshots[2], ""), copyOf(src.Snapshots[3], ""), copyOf(src.Snapshots[4], "")), ""},
	} {
		if got := list(Candidates(src, tt.dst, w)); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
	if c := Candidates(storingEdges("A 10"), inventory(), Wish{Want: []snapshot.ID{id("A")}}); c != nil {
		t.Errorf("of an archive: %v", c)
	}
	big, dst := many(3000, "crowd")
	per := map[snapshot.ID]int{}
	for _, e := range Candidates(big, dst, Wish{Want: all(big)}) {
		per[e.To]++
	}
	for id, n := range per {
		if n < 1 || n > 12 {
			t.Errorf("%d candidates for %v", n, id)
		}
	}
}

// TestHub: an unwanted snapshot from which several wanted ones were made is sent
// where the sizes say that it is worth it.
func TestHub(t *testing.T) {
	base := snap("base", "gold", 10)
	src := inventory(base)
	src.Lineage = map[snapshot.ID]snapshot.ID{}
	var w Wish
	for i := range 4 {
		name := fmt.Sprint("w", i)
		src.Lineage[id("subvol-"+name)] = base.UUID
		src.Snapshots = append(src.Snapshots, snap(name, name, uint64(20+i)))
		w.Want = append(w.Want, id(name))
	}
	sizes := func(own int64) Sizes {
		return func(e snapshot.Edge) snapshot.Size {
			switch {
			case e.IsFull() && e.To == base.ID:
				return snapshot.ExactSize(100_000)
			case e.IsFull():
				return snapshot.ExactSize(100_000 + own)
			case e.From == base.ID || e.To == base.ID:
				return snapshot.ExactSize(own)
			}
			return snapshot.ExactSize(2 * own)
		}
	}
	p := Sync(src, inventory(), w, sizes(10_000))
	if shape(p) != "base w0<base w1<base w2<base w3<base" || !p.Steps[0].Intermediate || p.Cost != p.Bound {
		t.Errorf("%q costs %d, bound %d", shape(p), p.Cost, p.Bound)
	}
	if p := Sync(src, inventory(), Wish{Want: w.Want[:2]}, sizes(1_000)); strings.Contains(shape(p), "base") {
		t.Errorf("for two: %q", shape(p))
	}
	if p := Sync(src, inventory(), w, nil); strings.Contains(shape(p), "base") {
		t.Errorf("without sizes: %q", shape(p))
	}
	if c := Candidates(src, inventory(), w); !slices.Contains(c, snapshot.Edge{To: base.ID}) || !slices.Contains(c, snapshot.Edge{To: id("w3"), From: base.ID}) {
		t.Errorf("its edges are not asked for: %v", c)
	}
	never := Wish{Want: w.Want, Never: map[snapshot.ID]bool{base.ID: true}}
	if p := Sync(src, inventory(), never, sizes(10_000)); strings.Contains(shape(p), "base") || len(p.Steps) != 4 {
		t.Errorf("where it is left out on purpose: %q", shape(p))
	}
	taken := inventory()
	taken.Occupied["base"] = "a file"
	if p := Sync(src, taken, w, sizes(10_000)); strings.Contains(shape(p), "base") || len(p.Steps) != 4 {
		t.Errorf("where its place is taken: %q", shape(p))
	}
}

// TestNearInCrowds: in large families the search finds what looking at everybody
// finds.
func TestNearInCrowds(t *testing.T) {
	for _, shape := range []string{"crowd", "received", "clones"} {
		src, _ := many(400, shape)
		k := newKinship(src, nil)
		c := k.circle(func(i int) bool { return i%3 > 0 })
		for want := range k.all {
			got := c.near(want, 4, 3)
			var everybody []int
			for i := range k.all {
				if i != want && i%3 > 0 && k.all[i].family == k.all[want].family {
					everybody = append(everybody, i)
				}
			}
			slices.SortFunc(everybody, k.nearer(want))
			older, newer := 4, 3
			exact := slices.DeleteFunc(everybody, func(i int) bool {
				if k.all[i].place < k.all[want].place {
					older--
					return older < 0
				}
				newer--
				return newer < 0
			})
			if !slices.Equal(got, exact) {
				t.Fatalf("%s: for %d found %v, there are %v", shape, want, got, exact)
			}
		}
	}
}

// TestFollows: whose content has developed out of whose.
func TestFollows(t *testing.T) {
	src := inventory()
	src.Lineage, src.Born = map[snapshot.ID]snapshot.ID{}, map[snapshot.ID]uint64{}
	add := func(name, from string, born, changed uint64) {
		s := snap(name, "x", changed)
		s.Parent, s.Pristine = id(from), changed <= born
		src.Lineage[s.UUID], src.Born[s.UUID] = s.Parent, born
		src.Snapshots = append(src.Snapshots, s)
	}
	add("a", "live", 10, 10)
	add("b", "live", 20, 20)
	add("c", "live", 30, 30)
	src.Lineage[id("branch")], src.Born[id("branch")] = id("b"), 25
	add("d", "branch", 40, 40)
	add("e", "branch", 50, 50)
	add("f", "live", 15, 60) // made writable, changed, and read-only again
	k := newKinship(src, nil)
	for _, tt := range []struct {
		child, parents string
	}{
		{"a", ""}, {"b", "a"}, {"c", "ab"}, {"d", "ab"}, {"e", "abd"}, {"f", "a"},
	} {
		var got string
		for _, p := range []string{"a", "b", "c", "d", "e", "f"} {
			if p != tt.child && k.follows(k.number[id(tt.child)], k.number[id(p)]) {
				got += p
			}
		}
		if got != tt.parents {
			t.Errorf("%s follows %q, want %q", tt.child, got, tt.parents)
		}
	}
}

// TestEstimates: those of streams against the course of time are not believed,
// measured ones are.
func TestEstimates(t *testing.T) {
	src := inventory(snap("a", "x", 10), snap("b", "x", 20), snap("c", "x", 30))
	sizes := func(exact bool) Sizes {
		return func(e snapshot.Edge) snapshot.Size {
			to, _ := src.Find(e.To)
			from, _ := src.Find(e.From)
			bytes := int64(to.Generation-from.Generation) * 100
			if e.IsFull() {
				bytes = 10000
			} else if from.Generation > to.Generation {
				bytes = 7
			}
			return snapshot.Size{Bytes: bytes, Known: true, Exact: exact}
		}
	}
	if p := Sync(src, inventory(), Wish{Want: all(src)}, sizes(false)); shape(p) != "a b<a c<b" {
		t.Errorf("about: %q", shape(p))
	}
	if p := Sync(src, inventory(), Wish{Want: all(src)}, sizes(true)); shape(p) != "c a<c b<c" && shape(p) != "c b<c a<b" {
		t.Errorf("exact: %q", shape(p))
	}
	if p := Sync(src, inventory(copyOf(src.Snapshots[2], "")), Wish{Want: all(src)}, sizes(false)); shape(p) != "b<c a<b" || p.Steps[0].Size.Known || p.Guessed != 2 {
		t.Errorf("backwards: %q, %+v", shape(p), p.Steps)
	}
}

// TestFullOnlyIfShorter: a full stream takes the place of an increment only if
// both are known, and the increment is longer.
func TestFullOnlyIfShorter(t *testing.T) {
	src := inventory(snap("a", "x", 10), snap("b", "x", 20))
	dst := inventory(copyOf(src.Snapshots[0], ""))
	for _, tt := range []struct{ sizes, want string }{
		{"b 100, b<a 200", "b"},
		{"b 200, b<a 100", "b<a"},
		{"b 100, b<a 100", "b<a"},
		{"b 100", "b<a"},
		{"b<a 200", "b<a"},
		{"b 100, a<b 500", "b<a"},
	} {
		if p := Sync(src, dst, Wish{Want: all(src)}, lookup(edges(tt.sizes))); shape(p) != tt.want {
			t.Errorf("%s: %q", tt.sizes, shape(p))
		}
	}
}

// TestTakenBy: a place that nothing can have is not said to be taken.
func TestTakenBy(t *testing.T) {
	for what, want := range map[string]string{
		"a file":                            "taken by a file",
		snapshot.NoPlace + "trash/ is kept": "one where nothing can be stored: trash/ is kept",
	} {
		if got := takenBy(what); got != want {
			t.Errorf("%q: %q", what, got)
		}
	}
}
