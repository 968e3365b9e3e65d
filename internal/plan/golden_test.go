package plan

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// edges reads "A 1000, B<A 120": what there is, with exact sizes.
func edges(text string) []snapshot.Stored {
	var list []snapshot.Stored
	for word := range strings.SplitSeq(text, ",") {
		var name string
		var size int64
		if _, err := fmt.Sscan(word, &name, &size); err != nil {
			panic(err)
		}
		to, from, increment := strings.Cut(name, "<")
		e := snapshot.Edge{To: id(to)}
		if increment {
			e.From = id(from)
		}
		list = append(list, snapshot.Stored{Edge: e, Size: snapshot.ExactSize(size)})
	}
	return list
}

// lookup answers sizes from a list.
func lookup(list []snapshot.Stored) Sizes {
	m := map[snapshot.Edge]snapshot.Size{}
	for _, e := range list {
		m[e.Edge] = e.Size
	}
	return func(e snapshot.Edge) snapshot.Size { return m[e] }
}

// storingEdges makes an archive with snapshots to which its edges lead.
func storingEdges(text string) *snapshot.Inventory {
	inv := archive(edges(text)...)
	seen := map[snapshot.ID]bool{}
	for i, e := range inv.Edges {
		if !seen[e.To] {
			seen[e.To] = true
			name := strings.TrimRight(string(e.To[:]), "\x00")
			inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{ID: e.To, UUID: e.To, Path: name, Received: true, Generation: uint64(i)})
		}
	}
	return inv
}

const abc = "A 1000, B 1100, C 1300, B<A 120, A<B 60, C<B 250, B<C 90, C<A 400, A<C 150"

// TestGoldenGreedy holds the search by levels against plans that ButterSink was
// seen to make, at live destinations and, as its releases up to 0.6.9 and 0.7
// differ in it, with and without the risk of chains.
func TestGoldenGreedy(t *testing.T) {
	letters, steps := []string{"a 1000"}, []string{}
	for c := 'b'; c <= 'p'; c++ {
		letters = append(letters, fmt.Sprintf("%c %d", c, 1000+int(c-'a')))
		steps = append(steps, fmt.Sprintf("%c<%c 100", c, c-1))
	}
	sixteen := strings.Join(append(letters, steps...), ",")
	for _, tt := range []struct {
		name, edges string
		risk        bool
		want        string
	}{
		{"empty archive", abc, false, "A B<A C<B"},
		{"empty file system", abc, true, "A B<A C<B"},
		{"one chain of 16", sixteen, false, "a b<a c<b d<c e<d f<e g<f h<g i<h j<i k<j l<k m<l n<m o<n p<o"},
		{"two chains of 8", sixteen, true, "a b<a c<b d<c e<d f<e g<f h<g i j<i k<j l<k m<l n<m o<n p<o"},
	} {
		list := edges(tt.edges)
		number := map[snapshot.ID]int32{{}: start}
		for _, e := range list {
			if e.IsFull() {
				number[e.To] = int32(len(number) - 1)
			}
		}
		p := &problem{n: len(number) - 1, risk: tt.risk}
		p.must = make([]bool, p.n)
		names := make([]string, p.n)
		for i, e := range list {
			size := float64(e.Size.Bytes)
			p.links = append(p.links, link{from: number[e.From], to: number[e.To], size: size, cost: size * (1 + storing), arc: int32(i)})
			p.must[number[e.To]] = true
			names[number[e.To]] = strings.TrimRight(string(e.To[:]), "\x00")
		}
		p.index()
		greedy := p.greedy()
		var got []string
		for v, i := range greedy {
			word := names[v]
			if from := p.links[i].from; from != start {
				word += "<" + names[from]
			}
			got = append(got, word)
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
		_, cost, bound := newEffort().solve(p)
		if g := p.cost(greedy); cost > g || bound > cost || math.IsInf(g, 1) {
			t.Errorf("%s: cost %v, bound %v, the greedy search finds %v", tt.name, cost, bound, g)
		}
	}
}

// TestGolden plans what ButterSink was seen to plan, and where chains cost
// something at an archive what is cheaper by the model.
func TestGolden(t *testing.T) {
	a, b, c := snap("A", "x", 10), snap("B", "x", 20), snap("C", "x", 30)
	live := inventory(a, b, c)
	for _, tt := range []struct {
		name     string
		src, dst *snapshot.Inventory
		want     []snapshot.ID
		plan     string
		cost     int64
	}{
		{"live, empty", live, inventory(), all(live), "A B<A C<B", 1370},
		{"live, holding A", live, inventory(copyOf(a, "")), all(live), "B<A C<B", 370},
		{"archive, empty", live, archive(), all(live), "B A<B C<B", 1690},
		{"archive, holding A", live, storingEdges("A 990"), all(live), "B<A C<B", 633},
		{"from an archive, only the last", storingEdges("A 990, B<A 120, C<B 250"), inventory(), []snapshot.ID{c.ID}, "A B<A C<B", 1430},
		{"from an archive, holding the middle", storingEdges("A 990, B<A 120, C<B 250"), inventory(copyOf(b, "")), []snapshot.ID{c.ID}, "C<B", 250},
		{"from an archive, directly is dearer", storingEdges("A 990, B<A 120, C<B 250, C 1400"), inventory(copyOf(a, "")), []snapshot.ID{c.ID}, "B<A C<B", 378},
		{"from an archive, directly is cheaper", storingEdges("A 990, B<A 120, C<B 250, C 300"), inventory(copyOf(a, "")), []snapshot.ID{c.ID}, "C", 300},
		{"from archive to archive", storingEdges("A 990, B<A 120, C<B 250, C<A 300"), storingEdges("A 990"), []snapshot.ID{c.ID}, "C<A", 400},
		{"a hole in an archive is filled", live, storingEdges("A 990, C<B 250"), all(live), "B<A", 197},
	} {
		p := Sync(tt.src, tt.dst, Wish{Want: tt.want}, lookup(edges(abc)))
		if got := shape(p); got != tt.plan || len(p.Problems) > 0 {
			t.Errorf("%s: plan is %q, want %q; problems %+v", tt.name, got, tt.plan, p.Problems)
		}
		if p.Cost != tt.cost || p.Bound != tt.cost {
			t.Errorf("%s: cost %d, bound %d, want %d", tt.name, p.Cost, p.Bound, tt.cost)
		}
	}
}

func TestUnreachable(t *testing.T) {
	src := storingEdges("A 1000, D<X 50, E<D 5")
	for _, tt := range []struct {
		name string
		dst  *snapshot.Inventory
		plan string
		why  string
	}{
		{"nobody has what it starts from", inventory(), "A", "neither side has"},
		{"the destination has it", inventory(copyOf(snap("X", "x", 1), "")), "A D<X E<D", ""},
		{"the destination has it, changed", inventory(func() snapshot.Snapshot {
			s := copyOf(snap("X", "x", 1), "")
			s.Trust = snapshot.Touched
			return s
		}()), "A", "changed at the destination"},
	} {
		p := Sync(src, tt.dst, Wish{Want: all(src)}, nil)
		if got := shape(p); got != tt.plan {
			t.Errorf("%s: plan is %q, want %q", tt.name, got, tt.plan)
		}
		if tt.why == "" != (len(p.Problems) == 0) {
			t.Errorf("%s: problems %+v", tt.name, p.Problems)
		}
		for _, q := range p.Problems {
			if !strings.Contains(q.Why, tt.why) || q.Conflict {
				t.Errorf("%s: %+v", tt.name, q)
			}
		}
	}
}

// TestMaxRestore: chains begin anew before they have too many bytes, and what
// does not fit however it is sent is a problem that names the limit.
func TestMaxRestore(t *testing.T) {
	src := storingEdges("A 1000, B<A 100, B 1000, C<B 100, C 1000, D<C 100, D 1000")
	wish := Wish{Want: []snapshot.ID{id("A"), id("B"), id("C"), id("D")}, MaxRestore: 1250}
	p := Sync(src, archive(), wish, nil)
	full := 0
	for _, s := range p.Steps {
		if s.Restore > 1250 {
			t.Errorf("%s needs %d bytes", s.Path, s.Restore)
		}
		if s.Edge.IsFull() {
			full++
		}
	}
	if len(p.Steps) != 4 || full != 2 || len(p.Problems) > 0 {
		t.Errorf("%s, %+v", shape(p), p.Problems)
	}
	wish.MaxRestore = 999
	if p := Sync(src, archive(), wish, nil); len(p.Steps) != 0 || len(p.Problems) != 4 || !strings.Contains(p.Problems[0].Why, "999 bytes") {
		t.Errorf("%s, %+v", shape(p), p.Problems)
	}
	// Each limit by itself leaves a way to D, the two together leave none.
	src = storingEdges("A 10, B<A 10, C<B 10, D<C 10, X 900, D<X 10")
	wish = Wish{Want: []snapshot.ID{id("A"), id("B"), id("C"), id("D")}, MaxRestore: 500, MaxChain: 3}
	if p := Sync(src, archive(), wish, nil); len(p.Steps) != 3 || len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Why, "3 streams or 500 bytes") {
		t.Errorf("%s, %+v", shape(p), p.Problems)
	}
	if p := Sync(src, inventory(), wish, nil); len(p.Problems) != 0 {
		t.Errorf("a live destination has a limit: %+v", p.Problems)
	}
}

func TestMaxChain(t *testing.T) {
	src := inventory()
	for g := range 12 {
		src.Snapshots = append(src.Snapshots, snap(fmt.Sprintf("s%02d", g), "x", uint64(g+1)))
	}
	for limit := 1; limit < 6; limit++ {
		p := Sync(src, archive(), Wish{Want: all(src), MaxChain: limit}, nil)
		if len(p.Steps) != 12 || len(p.Problems) != 0 {
			t.Errorf("limit %d: %d steps, problems %+v", limit, len(p.Steps), p.Problems)
		}
		for _, s := range p.Steps {
			if s.Chain < 1 || s.Chain > limit {
				t.Errorf("limit %d: %s ends a chain of %d", limit, s.Path, s.Chain)
			}
		}
	}
	// What an archive gives back only at the end of a long chain cannot be stored
	// within the limit.
	p := Sync(storingEdges("A 1000, B<A 10, C<B 10"), archive(), Wish{Want: []snapshot.ID{id("A"), id("B"), id("C")}, MaxChain: 2}, nil)
	if shape(p) != "A B<A" || len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Why, "longer than 2 streams") {
		t.Errorf("plan is %q, problems %+v", shape(p), p.Problems)
	}
	if p := Sync(src, inventory(), Wish{Want: all(src), MaxChain: 1}, nil); !strings.Contains(shape(p), "s11<s10") || p.Steps[0].Chain != 0 {
		t.Errorf("at a live destination: %q", shape(p))
	}
}
