package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// oddNames are legal names that a careless store stumbles over.
var oddNames = []string{
	"two words", "new\nline", "tab\there", "ünï→✓", "-dash", "q'u\"o`te", "$(x);*?[a]", `back\slash`, "per%20cent#x?y", ".hidden", "a.parts", "\xff\xfe",
}

var listCases = []Case{
	{"list/empty", func(t testing.TB, h Harness) {
		s := h.New(t)
		inv := list(t, s)
		if len(inv.Inside()) != 0 || len(inv.Partials) != 0 {
			t.Errorf("a fresh store lists %+v", inv)
		}
		if s.String() == "" {
			t.Error("the store has no name")
		}
	}},
	{"list/what is there", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "b", "a", "deep/er/c")
		if got, want := inside(t, s), []string{"a", "b", "deep/er/c"}; !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
		inv := list(t, s)
		if inv.Archive {
			for _, x := range x {
				if found, ok := inv.Find(x.ID); !ok || found.Path != x.Path || x.ID.IsZero() || x.Outside {
					t.Errorf("odd snapshot: %+v", x)
				}
				leads := func(e snapshot.Stored) bool { return e.To == x.ID && e.Size.Known }
				if !slices.ContainsFunc(inv.Edges, leads) {
					t.Errorf("no edge leads to %s: %+v", x.Path, inv.Edges)
				}
			}
			return
		}
		for i, x := range x {
			if x.ID.IsZero() || x.UUID.IsZero() || x.Transid == 0 || x.Generation == 0 || x.Outside || x.Received || x.Trust != snapshot.Intact {
				t.Errorf("odd snapshot: %+v", x)
			}
			if found, ok := inv.Find(x.ID); !ok || found.Path != x.Path {
				t.Errorf("%s is not found by its ID", x.Path)
			}
			if inv.Occupied[x.Path] == "" {
				t.Errorf("%q is not among the occupied paths %q", x.Path, inv.Occupied)
			}
			if i > 0 && x.Generation <= find(t, s, "b")[0].Generation {
				t.Errorf("%s was made after b, but its generation is not higher", x.Path)
			}
		}
		for _, dir := range []string{"deep", "deep/er"} {
			if inv.Occupied[dir] == "" {
				t.Errorf("the directory %q is not among the occupied paths %q", dir, inv.Occupied)
			}
		}
	}},
	{"list/changes nothing", func(t testing.TB, h Harness) {
		s, _ := populated(t, h, "a", "b")
		first, second, third := list(t, s), list(t, s), list(t, h.Again(t, s))
		if !reflect.DeepEqual(first, second) {
			t.Errorf("the first listing:\n%+v\nthe second one:\n%+v", first, second)
		}
		if !reflect.DeepEqual(first, third) {
			t.Errorf("the first listing:\n%+v\nthat of another run:\n%+v", first, third)
		}
	}},
	{"list/sees what came later", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		again := h.Again(t, dst)
		list(t, dst)
		list(t, again)
		transfer(t, src, dst, x[0], snapshot.Snapshot{}, "a")
		find(t, dst, "a")
		find(t, again, "a")
	}},
	{"list/odd names", func(t testing.TB, h Harness) {
		src, x := source(t, h, oddNames...)
		dst := h.New(t)
		for i, x := range x {
			if i == 0 {
				transfer(t, src, dst, x, none, x.Path)
				continue
			}
			transfer(t, src, dst, x, find(t, src, oddNames[0])[0], "in "+x.Path+"/"+x.Path)
		}
		nothingLeft(t, dst)
	}},
}

var sourceCases = []Case{
	{"open/full", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		verify(t, read(t, s, full(x[0])), x[0], snapshot.Snapshot{})
	}},
	{"open/increment", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		raw := read(t, s, increment(x[1], x[0]))
		verify(t, raw, x[1], x[0])
		if n := len(read(t, s, full(x[1]))); len(raw) >= n {
			t.Errorf("the increment has %d bytes, the full stream %d", len(raw), n)
		}
	}},
	{"open/backwards", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		verify(t, read(t, s, increment(x[0], x[1])), x[0], x[1])
	}},
	{"open/not there", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		src := able[store.Source](t, s)
		nobody := snapshot.ID{1, 2, 3}
		for _, e := range []snapshot.Edge{{To: nobody}, {To: x[0].ID, From: nobody}, {To: nobody, From: x[0].ID}} {
			in, err := src.Open(t.Context(), store.Request{Edge: e})
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Open(%v): %v, want ErrNotFound", e, err)
			}
			if err == nil {
				in.Close()
			}
		}
	}},
	{"open/close early", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		src := able[store.Source](t, s)
		for range 20 {
			in, err := src.Open(t.Context(), store.Request{Edge: full(x[0])})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(in, make([]byte, 100)); err != nil {
				t.Errorf("reading: %v", err)
			}
			if err := in.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if n, err := in.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("Read after Close: %d, %v", n, err)
			}
			if err := in.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		}
		verify(t, read(t, s, full(x[0])), x[0], snapshot.Snapshot{})
	}},
	{"open/several at a time", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		src := able[store.Source](t, s)
		want := read(t, s, full(x[0]))
		one, err := src.Open(t.Context(), store.Request{Edge: full(x[0])})
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		verify(t, read(t, s, full(x[1])), x[1], snapshot.Snapshot{})
		if got, err := io.ReadAll(one); err != nil || !bytes.Equal(got, want) {
			t.Errorf("a stream that was open at the same time has %d bytes, want %d (%v)", len(got), len(want), err)
		}
	}},
	{"open/cancelled before", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		in, err := able[store.Source](t, s).Open(gone(t), store.Request{Edge: full(x[0])})
		if err == nil {
			_, err = io.ReadAll(in)
			in.Close()
		}
		canceled(t, "Open and Read", err)
	}},
	{"open/cancelled in the middle", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		in, err := able[store.Source](t, s).Open(ctx, store.Request{Edge: full(x[0])})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		head := make([]byte, 100)
		if _, err := io.ReadFull(in, head); err != nil {
			t.Fatal(err)
		}
		cancel()
		ended := make(chan error, 1)
		var rest []byte
		go func() {
			var err error
			rest, err = io.ReadAll(in)
			ended <- err
		}()
		select {
		case err := <-ended:
			// What was on its way may still arrive, but never as a whole that
			// is none.
			if _, _, bad := stream.Verify(io.MultiReader(bytes.NewReader(head), bytes.NewReader(rest))); err == nil && bad != nil {
				t.Errorf("a stream that was cancelled ends with io.EOF, and is not whole: %v", bad)
			}
		case <-time.After(patience):
			t.Error("Read goes on after its context was cancelled")
		}
		verify(t, read(t, s, full(x[0])), x[0], snapshot.Snapshot{})
	}},
	{"measure/exact", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b", "c")
		m := able[store.Measurer](t, s)
		for _, e := range []snapshot.Edge{full(x[0]), full(x[2]), increment(x[1], x[0]), increment(x[2], x[0])} {
			size, err := m.Measure(t.Context(), store.Request{Edge: e})
			if err != nil {
				t.Fatal(err)
			}
			if n := len(read(t, s, e)); size != snapshot.ExactSize(int64(n)) {
				t.Errorf("Measure(%v) = %+v, and the stream has %d bytes", e, size, n)
			}
		}
	}},
	{"measure/estimate", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		m := able[store.Measurer](t, s)
		for _, e := range []snapshot.Edge{full(x[0]), increment(x[1], x[0])} {
			size, err := m.Estimate(t.Context(), store.Request{Edge: e})
			if err != nil {
				t.Fatal(err)
			}
			n := int64(len(read(t, s, e)))
			if !size.Known || size.Bytes < n/3 || size.Bytes > 3*n+64<<10 {
				t.Errorf("Estimate(%v) = %+v, and the stream has %d bytes", e, size, n)
			}
		}
	}},
	{"measure/not there", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		m := able[store.Measurer](t, s)
		nobody := snapshot.ID{1, 2, 3}
		for _, e := range []snapshot.Edge{{To: nobody}, {To: x[0].ID, From: nobody}} {
			if _, err := m.Estimate(t.Context(), store.Request{Edge: e}); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Estimate(%v): %v, want ErrNotFound", e, err)
			}
			if _, err := m.Measure(t.Context(), store.Request{Edge: e}); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Measure(%v): %v, want ErrNotFound", e, err)
			}
		}
	}},
}

// verify expects a whole stream that says it makes to out of from. Archives do not
// list transaction numbers; where they have none to compare with, any will do.
func verify(t testing.TB, raw []byte, to, from snapshot.Snapshot) {
	t.Helper()
	_, id, err := stream.Verify(bytes.NewReader(raw))
	if err != nil {
		t.Errorf("the stream of %s is bad: %v", to.Path, err)
		return
	}
	want := stream.Identity{
		Path: id.Path, UUID: to.ID, Transid: cmp.Or(to.Transid, id.Transid),
		HasParent: !from.ID.IsZero(), Parent: from.ID, ParentTransid: cmp.Or(from.Transid, id.ParentTransid),
	}
	if id != want {
		t.Errorf("the stream of %s says that it is %+v, want %+v", to.Path, id, want)
	}
}
