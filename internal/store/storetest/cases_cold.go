package storetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// coldCases are about stores in which streams can be cold.
var coldCases = []Case{
	{"cold/nothing is", func(t testing.TB, h Harness) {
		s, all, _ := keeps(t, h, false)
		for _, ask := range []bool{false, true} {
			for i, x := range thaw(t, s, store.ThawOptions{Ask: ask}, all...) {
				if x.Edge != all[i] || x.State != store.Readable || x.Fresh {
					t.Errorf("asked %v for %v: %+v", ask, all[i], x)
				}
			}
		}
		if some, err := s.(store.Thawer).Thaw(t.Context(), nil, store.ThawOptions{Ask: true}); err != nil || len(some) > 0 {
			t.Errorf("asked for nothing: %+v, %v", some, err)
		}
	}},
	{"cold/looking asks for nothing", func(t testing.TB, h Harness) {
		s, all, pass := keeps(t, h, true)
		for range 2 {
			states(t, thaw(t, s, store.ThawOptions{}, all...), store.Cold, store.Cold)
			pass(72 * time.Hour)
		}
		states(t, thaw(t, h.Again(t, s), store.ThawOptions{}, all...), store.Cold, store.Cold)
	}},
	{"cold/until it is readable", func(t testing.TB, h Harness) {
		s, all, pass := keeps(t, h, true)
		shut(t, s, all[0])
		for i, x := range thaw(t, s, store.ThawOptions{Ask: true, Tier: store.Standard, Days: 3}, all...) {
			if x.Edge != all[i] || x.State != store.Pending || !x.Fresh || x.Class == "" || x.Bytes <= 0 || x.Object == "" {
				t.Errorf("after asking for %v: %+v", all[i], x)
			}
		}
		shut(t, s, all[1])
		for _, again := range []store.Store{s, h.Again(t, s)} {
			list(t, again)
			for _, x := range thaw(t, again, store.ThawOptions{Ask: true, Tier: store.Expedited}, all...) {
				if x.State != store.Pending || x.Fresh {
					t.Errorf("what is pending was asked for again: %+v", x)
				}
			}
		}
		pass(48 * time.Hour)
		for _, x := range thaw(t, s, store.ThawOptions{Ask: true}, all...) {
			if x.State != store.Readable || x.Fresh {
				t.Errorf("two days later: %+v", x)
			}
		}
		for _, e := range all {
			if len(read(t, s, e)) == 0 {
				t.Errorf("the stream of %v is empty", e)
			}
		}
	}},
	{"cold/only what is asked for", func(t testing.TB, h Harness) {
		s, all, pass := keeps(t, h, true)
		states(t, thaw(t, s, store.ThawOptions{Ask: true}, all[1]), store.Pending)
		states(t, thaw(t, s, store.ThawOptions{}, all...), store.Cold, store.Pending)
		states(t, thaw(t, s, store.ThawOptions{}, all[1], all[0]), store.Pending, store.Cold)
		pass(72 * time.Hour)
		states(t, thaw(t, s, store.ThawOptions{}, all...), store.Cold, store.Readable)
		shut(t, s, all[0])
		if !bytes.Equal(read(t, s, all[1]), read(t, s, all[1])) {
			t.Error("what was thawed differs from reading to reading")
		}
	}},
	{"cold/expires", func(t testing.TB, h Harness) {
		s, all, pass := keeps(t, h, true)
		thaw(t, s, store.ThawOptions{Ask: true, Days: 1}, all...)
		pass(49 * time.Hour)
		states(t, thaw(t, s, store.ThawOptions{}, all...), store.Readable, store.Readable)
		pass(40 * 24 * time.Hour)
		states(t, thaw(t, s, store.ThawOptions{}, all...), store.Cold, store.Cold)
		shut(t, s, all[0])
		for _, x := range thaw(t, s, store.ThawOptions{Ask: true}, all...) {
			if x.State != store.Pending || !x.Fresh {
				t.Errorf("asked again for what has expired: %+v", x)
			}
		}
	}},
	{"cold/says what it cannot ask for", func(t testing.TB, h Harness) {
		s, all, _ := keeps(t, h, true)
		some, err := s.(store.Thawer).Thaw(t.Context(), []snapshot.Edge{{To: snapshot.ID{9, 9}}, all[0]}, store.ThawOptions{Ask: true})
		if err == nil || len(some) != 2 || some[0].State == store.Readable || some[1].State != store.Pending || some[1].Edge != all[0] {
			t.Errorf("asked for something that is not there, and something that is: %+v, %v", some, err)
		}
		_, err = s.(store.Thawer).Thaw(gone(t), all, store.ThawOptions{Ask: true})
		canceled(t, "Thaw", err)
		states(t, thaw(t, s, store.ThawOptions{}, all...), store.Pending, store.Cold)
	}},
}

// keeps makes a store with the streams of two edges, which are cold if that is
// wanted, or skips the case.
func keeps(t testing.TB, h Harness, cold bool) (s store.Store, all []snapshot.Edge, pass func(time.Duration)) {
	t.Helper()
	dst := h.New(t)
	able[store.Thawer](t, dst)
	if cold && h.Cold == nil {
		t.Skip("nothing can be made cold")
	}
	if isArchive(t, dst) {
		src, x := source(t, h, "a", "b")
		transfer(t, src, dst, x[0], none, "a")
		transfer(t, src, dst, x[1], x[0], "b")
		all = []snapshot.Edge{full(x[0]), increment(x[1], x[0])}
	} else {
		h.Populate(t, dst, "a", "b")
		x := find(t, dst, "a", "b")
		all = []snapshot.Edge{full(x[0]), increment(x[1], x[0])}
	}
	if cold {
		pass = h.Cold(t, dst, all...)
	}
	list(t, dst)
	return dst, all, pass
}

// thaw looks at edges, or asks for them, and expects an answer to each.
func thaw(t testing.TB, s store.Store, o store.ThawOptions, edges ...snapshot.Edge) []store.Thawing {
	t.Helper()
	all, err := s.(store.Thawer).Thaw(t.Context(), edges, o)
	if err != nil {
		t.Fatalf("thawing %v: %v", edges, err)
	}
	if len(all) != len(edges) {
		t.Fatalf("asked about %d streams, told of %d", len(edges), len(all))
	}
	return all
}

func states(t testing.TB, all []store.Thawing, want ...store.ThawState) {
	t.Helper()
	for i, x := range all {
		if x.State != want[i] {
			t.Errorf("stream %d is %s, want %s", i, x.State, want[i])
		}
	}
}

// shut expects that a stream cannot be opened because it is cold.
func shut(t testing.TB, s store.Store, e snapshot.Edge) {
	t.Helper()
	in, err := s.(store.Source).Open(t.Context(), store.Request{Edge: e})
	if err == nil {
		in.Close()
	}
	if !errors.Is(err, store.ErrCold) {
		t.Errorf("opening what is cold: %v, want ErrCold", err)
	}
}
