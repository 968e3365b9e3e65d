package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

var removeCases = []Case{
	{"remove/only that", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "dir/b", "dir/c")
		if err := able[store.Remover](t, s).Remove(t.Context(), x[1]); err != nil {
			t.Fatal(err)
		}
		same(t, s, []string{"a", "dir/c"})
		h.Populate(t, s, "dir/b") // the place is free
		same(t, s, []string{"a", "dir/b", "dir/c"})
	}},
	{"remove/a received one", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		y := transfer(t, src, dst, x[1], x[0], "b")
		if err := able[store.Remover](t, dst).Remove(t.Context(), y); err != nil {
			t.Fatal(err)
		}
		same(t, dst, []string{"a"})
		equal(t, h, src, x[1], dst, transfer(t, src, dst, x[1], x[0], "b"))
	}},
	{"remove/another one by now", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		r := able[store.Remover](t, s)
		if err := r.Remove(t.Context(), x[0]); err != nil {
			t.Fatal(err)
		}
		h.Populate(t, s, "a")
		if err := r.Remove(t.Context(), x[0]); err == nil {
			t.Error("another snapshot at the same path was removed")
		}
		same(t, s, []string{"a"})
	}},
	{"remove/gone already", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		r := able[store.Remover](t, s)
		if err := r.Remove(t.Context(), x[0]); err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(t.Context(), x[0]); err == nil {
			t.Error("what is not there was removed")
		}
		same(t, s, []string{"b"})
	}},
	{"remove/outside", func(t testing.TB, h Harness) {
		if h.Outside == nil {
			t.Skip("there is no outside")
		}
		s := h.New(t)
		id := h.Outside(t, s)
		x, ok := list(t, s).Find(id)
		if !ok || !x.Outside {
			t.Fatalf("the snapshot outside is listed as %+v, %v", x, ok)
		}
		if err := able[store.Remover](t, s).Remove(t.Context(), x); err == nil {
			t.Error("a snapshot outside of the directory was removed")
		}
		if _, ok := list(t, s).Find(id); !ok {
			t.Error("it is gone")
		}
	}},
	{"remove/cancelled", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		canceled(t, "Remove", able[store.Remover](t, s).Remove(gone(t), x[0]))
		same(t, s, []string{"a"})
	}},
	{"remove/partial", func(t testing.TB, h Harness) {
		if h.Leave == nil {
			t.Skip("dead processes leave nothing behind here")
		}
		s, _ := populated(t, h, "a")
		r := able[store.Remover](t, s)
		h.Leave(t, s, "b")
		left := list(t, s).Partials
		if len(left) != 1 {
			t.Fatalf("partials: %+v, want one", left)
		}
		canceled(t, "RemovePartial", r.RemovePartial(gone(t), left[0]))
		if n := len(list(t, s).Partials); n != 1 {
			t.Fatalf("%d partials, want one", n)
		}
		if err := r.RemovePartial(t.Context(), left[0]); err != nil {
			t.Fatal(err)
		}
		same(t, s, []string{"a"})
		nothingLeft(t, s)
		if err := r.RemovePartial(t.Context(), left[0]); err == nil {
			t.Error("it was removed twice")
		}
		// A snapshot is no partial, whatever it is called.
		if err := r.RemovePartial(t.Context(), snapshot.Partial{Path: "a", Ours: true}); err == nil {
			t.Error("a snapshot was removed as a partial")
		}
		same(t, s, []string{"a"})
	}},
}

var otherCases = []Case{
	{"inspect", func(t testing.TB, h Harness) {
		s, _ := populated(t, h, "a", "deep/b")
		i := able[store.Inspector](t, s)
		before := inside(t, s)
		names := isArchive(t, s) // which are only names there
		for p, free := range map[string]bool{"a": false, "deep": names, "deep/b": false, "a/x": names, "c": true, "deep/c": true, "new/er/c": true} {
			ways, err := i.Inspect(t.Context(), p)
			if err != nil || (ways[p] == "") != free {
				t.Errorf("Inspect at %q: %q, %v", p, ways, err)
			}
		}
		ways, err := i.Inspect(t.Context(), "a", "c", "deep/b")
		if err != nil || len(ways) != 2 || ways["a"] == "" || ways["deep/b"] == "" {
			t.Errorf("Inspect at several paths: %q, %v", ways, err)
		}
		same(t, s, before)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := i.Inspect(ctx, "c"); !errors.Is(err, context.Canceled) {
			t.Errorf("Inspect after its context was cancelled: %v, want context.Canceled", err)
		}
	}},
	{"copy", func(t testing.TB, h Harness) {
		if h.Outside == nil {
			t.Skip("there is no outside")
		}
		s := h.New(t)
		c := able[store.Copier](t, s)
		id := h.Outside(t, s)
		x, ok := list(t, s).Find(id)
		if !ok || !x.Outside {
			t.Fatalf("the snapshot outside is listed as %+v, %v", x, ok)
		}
		want := wanted(x, none, "sub/copy")
		canceled(t, "Copy", c.Copy(gone(t), want))
		same(t, s, []string{})
		nothingLeft(t, s)
		if err := c.Copy(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		y, ok := list(t, s).Find(id)
		if !ok || y.Outside || y.Path != "sub/copy" || y.Transid != x.Transid || y.Trust != snapshot.Intact {
			t.Errorf("%+v was copied, and is listed as %+v", x, y)
		}
		equal(t, h, s, x, s, y)
		verify(t, read(t, s, full(y)), x, none)
		if _, ok := errors.AsType[*store.ExistsError](c.Copy(t.Context(), want)); !ok {
			t.Error("Copy to a path that is taken: no *ExistsError")
		}
		if err := c.Copy(t.Context(), store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}}, Path: "x"}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Copy of what is not there: %v, want ErrNotFound", err)
		}
		nothingLeft(t, s)
	}},
	{"outside/as a parent", func(t testing.TB, h Harness) {
		if h.Outside == nil {
			t.Skip("there is no outside")
		}
		s := h.New(t)
		id := h.Outside(t, s)
		x, _ := list(t, s).Find(id)
		verify(t, read(t, s, full(x)), x, none)
	}},
	{"prove", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		y := transfer(t, src, dst, x[0], none, "a")
		for _, c := range []struct {
			s store.Store
			x snapshot.Snapshot
		}{{src, x[0]}, {dst, y}} {
			trust, err := able[store.Prover](t, c.s).Prove(t.Context(), c.x)
			if err != nil || trust != snapshot.Intact {
				t.Errorf("Prove(%s in %s) = %v, %v, want Intact", c.x.Path, c.s, trust, err)
			}
		}
		_, err := able[store.Prover](t, dst).Prove(gone(t), y)
		canceled(t, "Prove", err)
	}},
	{"lock/one at a time", func(t testing.TB, h Harness) {
		s := h.New(t)
		l := able[store.Locker](t, s)
		unlock, err := l.Lock(t.Context(), "the first run")
		if err != nil {
			t.Fatal(err)
		}
		second := able[store.Locker](t, h.Again(t, s))
		if free, err := second.Lock(t.Context(), "the second run"); err == nil {
			free()
			t.Error("the lock was given twice")
		} else if held, ok := errors.AsType[*store.LockedError](err); !ok || !strings.Contains(held.Holder, "the first run") || held.Store == "" {
			t.Errorf("%#v, want *LockedError that names the first run", err)
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
		unlock, err = second.Lock(t.Context(), "the second run")
		if err != nil {
			t.Fatalf("locking what was unlocked: %v", err)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}},
	{"lock/changes no listing", func(t testing.TB, h Harness) {
		s, _ := populated(t, h, "a")
		unlock, err := able[store.Locker](t, s).Lock(t.Context(), "a run")
		if err != nil {
			t.Fatal(err)
		}
		same(t, s, []string{"a"})
		nothingLeft(t, s)
		if err := unlock(); err != nil {
			t.Error(err)
		}
		same(t, s, []string{"a"})
		nothingLeft(t, s)
	}},
	{"lock/of its own", func(t testing.TB, h Harness) {
		for _, s := range []store.Store{h.New(t), h.New(t)} {
			unlock, err := able[store.Locker](t, s).Lock(t.Context(), "a run")
			if err != nil {
				t.Fatal(err)
			}
			defer unlock()
		}
	}},
	{"lock/cancelled", func(t testing.TB, h Harness) {
		s := h.New(t)
		l := able[store.Locker](t, s)
		unlock, err := l.Lock(gone(t), "a run")
		canceled(t, "Lock", err)
		if err == nil {
			unlock()
		}
		unlock, err = l.Lock(t.Context(), "another run")
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	}},
	{"location", func(t testing.TB, h Harness) {
		a, b := h.New(t), h.New(t)
		here, there, again := able[store.Located](t, a).Location(), able[store.Located](t, b).Location(), able[store.Located](t, h.Again(t, a)).Location()
		if here == there {
			t.Errorf("two places are both at %q", here)
		}
		if here != again {
			t.Errorf("one place is at %q and at %q", here, again)
		}
	}},
	{"cancelled/list and measure", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		_, err := s.List(gone(t))
		canceled(t, "List", err)
		m := able[store.Measurer](t, s)
		_, err = m.Estimate(gone(t), store.Request{Edge: full(x[0])})
		canceled(t, "Estimate", err)
		_, err = m.Measure(gone(t), store.Request{Edge: full(x[0])})
		canceled(t, "Measure", err)
	}},
	{"close", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		read(t, s, full(x[0]))
		again := h.Again(t, s)
		if again == s {
			t.Skip("it cannot be opened twice")
		}
		if err := again.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if !slices.Equal(inside(t, s), []string{"a"}) {
			t.Error("closing one store closed another one")
		}
	}},
}
