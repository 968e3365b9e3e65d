package storetest

import (
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

var requestCases = []Case{
	{"open/clone sources", func(t testing.TB, h Harness) {
		src, x := populated(t, h, "a", "b", "c")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		transfer(t, src, dst, x[1], x[0], "b")
		for path, r := range map[string]store.Request{
			"full":      {Edge: full(x[2]), Clones: []snapshot.ID{x[0].ID, x[1].ID}},
			"increment": {Edge: increment(x[2], x[0]), Clones: []snapshot.ID{x[1].ID}},
			"parent":    {Edge: increment(x[2], x[0]), Clones: []snapshot.ID{x[0].ID}}, // it is one anyway
		} {
			from := none
			if !r.Edge.IsFull() {
				from = x[0]
			}
			raw := request(t, src, r)
			verify(t, raw, x[2], from)
			w := create(t, dst, wanted(x[2], from, path))
			complete(t, w, raw)
			equal(t, h, src, x[2], dst, copyAt(t, dst, path))
		}
	}},
	{"open/clone source not there", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		in, err := able[store.Source](t, s).Open(t.Context(), store.Request{Edge: full(x[0]), Clones: []snapshot.ID{{1, 2, 3}}})
		if err == nil {
			in.Close()
		}
		if err == nil && isArchive(t, s) {
			return // it makes no use of them
		}
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Open with a clone source that is not there: %v, want ErrNotFound", err)
		}
	}},
	{"measure/form", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		m := able[store.Measurer](t, s)
		for _, r := range []store.Request{{Edge: full(x[0])}, {Edge: increment(x[1], x[0])}, {Edge: full(x[1]), Clones: []snapshot.ID{x[0].ID}}} {
			form := m.Form(r)
			if form == "" {
				t.Errorf("the form of %+v has no name", r)
			}
			if again := m.Form(store.Request{Edge: r.Edge, Clones: append([]snapshot.ID(nil), r.Clones...)}); again != form {
				t.Errorf("the form of %+v is %q, and then %q", r, form, again)
			}
		}
	}},
	{"create/two at a time", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b", "c")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		// Their pieces come in turn, and one is committed while the other is
		// still on its way.
		b, c := create(t, dst, wanted(x[1], x[0], "b")), create(t, dst, wanted(x[2], none, "sub/c"))
		left, right := pieces(read(t, src, increment(x[1], x[0]))), pieces(read(t, src, full(x[2])))
		for i := range max(len(left), len(right)) {
			for w, all := range map[store.Writer][][]byte{b: left, c: right} {
				if i < len(all) {
					if _, err := w.Write(all[i]); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for w, path := range map[store.Writer]string{b: "b", c: "sub/c"} {
			if err := w.Commit(t.Context()); err != nil {
				t.Fatalf("committing %s: %v", path, err)
			}
		}
		equal(t, h, src, x[1], dst, find(t, dst, "b")[0])
		equal(t, h, src, x[2], dst, find(t, dst, "sub/c")[0])
		b.Close()
		c.Close()
		nothingLeft(t, dst)
	}},
	{"create/several side by side", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b", "c", "d")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		errs := make([]error, 6)
		var all sync.WaitGroup
		for i := range errs {
			to, from, path := x[1+i%3], x[0], "new/"+string(rune('0'+i))
			if i >= 3 {
				from = none
			}
			raw := read(t, src, increment(to, from))
			all.Go(func() {
				w, err := dst.(store.Sink).Create(t.Context(), wanted(to, from, path))
				if err != nil {
					errs[i] = err
					return
				}
				if err = feed(w, raw); err == nil {
					err = w.Commit(t.Context())
				}
				errs[i] = errors.Join(err, w.Close())
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for i := range errs {
			equal(t, h, src, x[1+i%3], dst, copyAt(t, dst, "new/"+string(rune('0'+i))))
		}
		nothingLeft(t, dst)
	}},
}

// Sizes of full streams may be left out: there is a format that has none.
var sizeCases = []Case{
	{"sizes/kept", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "sub/b", "c")
		k := able[store.SizeKeeper](t, s)
		known(t, s, nil)
		ba, ca, cb := increment(x[1], x[0]), increment(x[2], x[0]), increment(x[2], x[1])
		keep(t, k, "sub/b", map[snapshot.Edge]int64{ba: 1501459})
		keep(t, k, "c", map[snapshot.Edge]int64{ca: 100, cb: 200})
		all := map[snapshot.Edge]int64{ba: 1501459, ca: 100, cb: 200}
		known(t, s, all)
		known(t, h.Again(t, s), all)
		// What is not mentioned stays.
		keep(t, k, "c", map[snapshot.Edge]int64{ca: 101})
		all[ca] = 101
		known(t, s, all)
		keep(t, k, "c", nil)
		known(t, s, all)
		same(t, s, []string{"a", "c", "sub/b"})
		nothingLeft(t, s)
	}},
	{"sizes/go with the snapshot", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b", "c")
		k := able[store.SizeKeeper](t, s)
		ba, ca := increment(x[1], x[0]), increment(x[2], x[0])
		keep(t, k, "b", map[snapshot.Edge]int64{ba: 7})
		keep(t, k, "c", map[snapshot.Edge]int64{ca: 8})
		if err := able[store.Remover](t, s).Remove(t.Context(), x[1]); err != nil {
			t.Fatal(err)
		}
		known(t, s, map[snapshot.Edge]int64{ca: 8})
		h.Populate(t, s, "b")
		known(t, s, map[snapshot.Edge]int64{ca: 8})
	}},
	{"sizes/bad paths", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "sub/b")
		k := able[store.SizeKeeper](t, s)
		for _, p := range []string{"", ".", "..", "../a", "sub/../../a", "/a", "sub/../a", "a" + snapshot.PartSuffix} {
			if err := k.KeepSizes(t.Context(), p, map[snapshot.Edge]int64{increment(x[0], x[1]): 1}); err == nil {
				t.Errorf("sizes were kept for %q", p)
			}
		}
		known(t, s, nil)
	}},
	{"sizes/cancelled", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		k := able[store.SizeKeeper](t, s)
		canceled(t, "KeepSizes", k.KeepSizes(gone(t), "a", map[snapshot.Edge]int64{increment(x[0], x[1]): 1}))
		_, err := k.KnownSizes(gone(t))
		canceled(t, "KnownSizes", err)
		known(t, s, nil)
	}},
}

func keep(t testing.TB, k store.SizeKeeper, path string, sizes map[snapshot.Edge]int64) {
	t.Helper()
	if err := k.KeepSizes(t.Context(), path, sizes); err != nil {
		t.Fatalf("keeping the sizes of %q: %v", path, err)
	}
}

// known expects a store to know some sizes, once it has been listed.
func known(t testing.TB, s store.Store, want map[snapshot.Edge]int64) {
	t.Helper()
	list(t, s)
	got, err := able[store.SizeKeeper](t, s).KnownSizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s knows the sizes %v, want %v", s, got, want)
	}
	if other, err := able[store.SizeKeeper](t, s).KnownSizes(t.Context(), "no such path"); err != nil || len(other) > 0 {
		t.Errorf("%s knows the sizes %v, %v of nothing", s, other, err)
	}
}
