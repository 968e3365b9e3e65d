package store

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
)

const (
	to   = "6dc79d55-8f46-da4f-a5a3-f63b54ac3ad8"
	from = "ea7c1d34-c782-584b-8144-845760163ea1"
)

func edge(t testing.TB, to, from string) snapshot.Edge {
	t.Helper()
	a, err := snapshot.ParseID(to)
	if err != nil {
		t.Fatal(err)
	}
	b, err := snapshot.ParseID(from)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Edge{To: a, From: b}
}

func TestReadSizes(t *testing.T) {
	e, back := edge(t, to, from), edge(t, from, to)
	for _, tt := range []struct {
		name, text string
		want       map[snapshot.Edge]int64
		complaints int
	}{
		{"one", to + "\t" + from + "\t1501459\n", map[snapshot.Edge]int64{e: 1501459}, 0},
		{"spaces and no newline", to + "  " + from + " 7", map[snapshot.Edge]int64{e: 7}, 0},
		{"the later counts", to + "\t" + from + "\t1\n" + to + "\t" + from + "\t2\n", map[snapshot.Edge]int64{e: 2}, 0},
		{"of another snapshot too", to + "\t" + from + "\t1\n" + from + "\t" + to + "\t2\n", map[snapshot.Edge]int64{e: 1, back: 2}, 0},
		{"a bad size", to + "\t" + from + "\t1.5\n" + from + "\t" + to + "\t2\n", map[snapshot.Edge]int64{back: 2}, 1},
		{"a negative size", to + "\t" + from + "\t-1\n", map[snapshot.Edge]int64{}, 1},
		{"a bad line ends it", from + "\t" + to + "\t2\n" + "x y\n" + to + "\t" + from + "\t1\n", map[snapshot.Edge]int64{back: 2}, 1},
		{"a full stream", to + "\tNone\t1\n", map[snapshot.Edge]int64{}, 1},
		{"a long line", strings.Repeat("x", 5000), map[snapshot.Edge]int64{}, 1},
		{"nothing", "", map[snapshot.Edge]int64{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, complaints := ReadSizes(strings.NewReader(tt.text))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if len(complaints) != tt.complaints {
				t.Errorf("complaints: %q", complaints)
			}
		})
	}
}

func TestSizesText(t *testing.T) {
	e, back := edge(t, to, from), edge(t, from, to)
	got := string(SizesText(map[snapshot.Edge]int64{back: 2, e: 1501459, {To: e.To}: 9}))
	if want := to + "\t" + from + "\t1501459\n" + from + "\t" + to + "\t2\n"; got != want {
		t.Errorf("got %q", got)
	}
}

func FuzzReadSizes(f *testing.F) {
	f.Add([]byte(to + "\t" + from + "\t1501459\n"))
	f.Add([]byte(to + " " + from + " -1\nx"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sizes, _ := ReadSizes(bytes.NewReader(text))
		again, complaints := ReadSizes(bytes.NewReader(SizesText(sizes)))
		if diff := cmp.Diff(sizes, again); diff != "" || len(complaints) != 0 {
			t.Errorf("%q\n%s", complaints, diff)
		}
	})
}
