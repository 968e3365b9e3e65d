package storetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// archiveCases are about stores that give back what they were given.
var archiveCases = []Case{
	{"archive/gives back what it was given", func(t testing.TB, h Harness) {
		dst := archives(t, h)
		src, x := source(t, h, "a", "b")
		transfer(t, src, dst, x[0], none, "a")
		transfer(t, src, dst, x[1], x[0], "sub/b")
		for _, s := range []store.Store{dst, h.Again(t, dst)} {
			edges(t, s, full(x[0]), increment(x[1], x[0]))
			for _, e := range []snapshot.Edge{full(x[0]), increment(x[1], x[0])} {
				want := read(t, src, e)
				if got := read(t, s, e); !bytes.Equal(got, want) {
					t.Errorf("%v was stored with %d bytes, and comes back with %d that are not the same", e, len(want), len(got))
				}
				in, err := s.(store.Source).Open(t.Context(), store.Request{Edge: e})
				if err != nil {
					t.Fatal(err)
				}
				if l, ok := in.(store.Lengthy); ok && l.Length() != snapshot.ExactSize(int64(len(want))) {
					t.Errorf("a stream of %d bytes says that it has %+v", len(want), l.Length())
				}
				in.Close()
			}
			for _, e := range []snapshot.Edge{full(x[1]), increment(x[0], x[1])} {
				in, err := s.(store.Source).Open(t.Context(), store.Request{Edge: e})
				if err == nil {
					in.Close()
				}
				if !errors.Is(err, store.ErrNotFound) {
					t.Errorf("Open(%v), which was not stored: %v, want ErrNotFound", e, err)
				}
			}
		}
	}},
	{"archive/several streams of a snapshot", func(t testing.TB, h Harness) {
		dst := archives(t, h)
		src, x := source(t, h, "a", "b")
		transfer(t, src, dst, x[0], none, "a")
		transfer(t, src, dst, x[1], x[0], "b")
		y := transfer(t, src, dst, x[1], none, "b")
		same(t, dst, []string{"a", "b"})
		edges(t, dst, full(x[0]), full(x[1]), increment(x[1], x[0]))
		for _, e := range []snapshot.Edge{full(x[1]), increment(x[1], x[0])} {
			if !bytes.Equal(read(t, dst, e), read(t, src, e)) {
				t.Errorf("%v is not what was stored", e)
			}
		}
		if err := able[store.Remover](t, dst).Remove(t.Context(), y); err != nil {
			t.Fatal(err)
		}
		edges(t, dst, full(x[0]))
	}},
	{"archive/carries on", func(t testing.TB, h Harness) {
		dst := archives(t, h)
		src, x := source(t, h, "a")
		raw := read(t, src, full(x[0]))
		want := resumed(x[0], none, "a")
		for quarters := 1; quarters <= 4; quarters++ {
			n := interrupt(t, dst, want, raw, quarters)
			same(t, dst, []string{})
			s := h.Again(t, dst)
			list(t, s)
			w := create(t, s, want)
			complete(t, w, raw)
			if skips, ok := w.(store.Skipper); ok && (skips.Skipped() < 0 || skips.Skipped() > int64(n)+64<<10) {
				t.Errorf("%d bytes were written, and %d need not be stored again", n, skips.Skipped())
			}
			nothingLeft(t, dst)
			if !bytes.Equal(read(t, dst, full(x[0])), raw) {
				t.Error("what was carried on is not what was stored")
			}
			if err := able[store.Remover](t, dst).Remove(t.Context(), find(t, dst, "a")[0]); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{"archive/carries on with another stream", func(t testing.TB, h Harness) {
		// The source may have made the snapshot's stream in another way meanwhile.
		dst := archives(t, h)
		src, x := source(t, h, "a")
		raw := read(t, src, full(x[0]))
		other := renamed(t, raw, stream.Identity{Transid: x[0].Transid + 1})
		want := resumed(x[0], none, "a")
		want.Transid = 0
		interrupt(t, dst, want, raw, 3)
		complete(t, create(t, dst, want), other)
		if !bytes.Equal(read(t, dst, full(x[0])), other) {
			t.Error("what is stored is not the stream that was given last")
		}
		nothingLeft(t, dst)
	}},
	{"archive/fresh", func(t testing.TB, h Harness) {
		dst := archives(t, h)
		src, x := source(t, h, "a")
		raw := read(t, src, full(x[0]))
		interrupt(t, dst, resumed(x[0], none, "a"), raw, 3)
		w := create(t, dst, wanted(x[0], none, "a"))
		complete(t, w, raw)
		if skips, ok := w.(store.Skipper); ok && skips.Skipped() != 0 {
			t.Errorf("%d bytes were not stored again by what was to begin anew", skips.Skipped())
		}
		nothingLeft(t, dst)
		equal(t, h, src, x[0], dst, find(t, dst, "a")[0])
	}},
	{"archive/trash", func(t testing.TB, h Harness) {
		dst := archives(t, h)
		trash := able[store.Trash](t, dst)
		src, x := source(t, h, "a", "sub/b")
		transfer(t, src, dst, x[0], none, "a")
		y := transfer(t, src, dst, x[1], x[0], "sub/b")
		if err := able[store.Remover](t, dst).Remove(t.Context(), y); err != nil {
			t.Fatal(err)
		}
		edges(t, dst, full(x[0]))
		thrown := trashed(t, trash)
		if len(thrown) != 1 || thrown[0].Edge != increment(x[1], x[0]) || thrown[0].Path != "sub/b" || thrown[0].When.IsZero() || thrown[0].Handle == "" {
			t.Fatalf("in the trash is %+v", thrown)
		}
		canceled(t, "Untrash", trash.Untrash(gone(t), thrown[0]))
		if err := trash.Untrash(t.Context(), thrown[0]); err != nil {
			t.Fatal(err)
		}
		edges(t, dst, full(x[0]), increment(x[1], x[0]))
		equal(t, h, src, x[1], dst, find(t, dst, "sub/b")[0])
		if left := trashed(t, trash); len(left) > 0 {
			t.Errorf("in the trash is still %+v", left)
		}
		if err := dst.(store.Remover).Remove(t.Context(), y); err != nil {
			t.Fatal(err)
		}
		for _, x := range trashed(t, trash) {
			if err := trash.Discard(t.Context(), x); err != nil {
				t.Error(err)
			}
		}
		if left := trashed(t, trash); len(left) > 0 {
			t.Errorf("in the trash is still %+v", left)
		}
		edges(t, dst, full(x[0]))
	}},
	{"archive/sweep", func(t testing.TB, h Harness) {
		dst := archives(t, h)
		sweeper := able[store.Sweeper](t, dst)
		src, x := source(t, h, "a", "b", "c")
		y0 := transfer(t, src, dst, x[0], none, "a")
		y1 := transfer(t, src, dst, x[1], x[0], "b")
		transfer(t, src, dst, x[2], none, "c")
		fate := func(all ...snapshot.Snapshot) map[string]error {
			t.Helper()
			told := map[string]error{}
			if err := sweeper.Sweep(t.Context(), all, func(x snapshot.Snapshot, err error) { told[x.Path] = err }); err != nil {
				t.Fatal(err)
			}
			return told
		}
		// b needs a.
		if told := fate(y0); len(told) != 1 || told["a"] == nil {
			t.Errorf("what was told of a snapshot that another one needs: %v", told)
		}
		edges(t, dst, full(x[0]), full(x[2]), increment(x[1], x[0]))
		if told := fate(y0, y1); len(told) != 2 || told["a"] != nil || told["b"] != nil {
			t.Errorf("what was told of two that only need each other: %v", told)
		}
		edges(t, dst, full(x[2]))
		err := sweeper.Sweep(gone(t), find(t, dst, "c"), func(snapshot.Snapshot, error) {})
		canceled(t, "Sweep", err)
		edges(t, dst, full(x[2]))
	}},
	{"archive/verify", func(t testing.TB, h Harness) {
		dst := archives(t, h)
		v := able[store.Verifier](t, dst)
		src, x := source(t, h, "a", "b")
		transfer(t, src, dst, x[0], none, "a")
		transfer(t, src, dst, x[1], x[0], "b")
		for _, data := range []bool{false, true} {
			found := 0
			sum, err := v.Verify(t.Context(), store.VerifyOptions{Data: data, Found: func(f store.Finding) {
				if f.Verdict != store.Sound {
					t.Errorf("found %+v", f)
				}
				found++
			}})
			if err != nil {
				t.Fatal(err)
			}
			if sum.Streams[store.Sound] != 2 || sum.Snapshots[store.Sound] != 2 || found < 2 || data != (sum.ReadWhole == 2) {
				t.Errorf("with data %v: %+v, and %d findings", data, sum, found)
			}
		}
		if err := able[store.Remover](t, dst).Remove(t.Context(), find(t, dst, "a")[0]); err != nil {
			t.Fatal(err)
		}
		sum, err := v.Verify(t.Context(), store.VerifyOptions{})
		if err != nil || sum.Snapshots[store.Sound] != 0 {
			t.Errorf("with what b starts from gone: %+v, %v", sum, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := v.Verify(ctx, store.VerifyOptions{Data: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("Verify after its context was cancelled: %v", err)
		}
	}},
}

// archives makes an empty archive, or skips the case.
func archives(t testing.TB, h Harness) store.Store {
	t.Helper()
	s := h.New(t)
	if !isArchive(t, s) {
		t.Skipf("%s is no archive", s)
	}
	return s
}

// edges expects an archive to list exactly these.
func edges(t testing.TB, s store.Store, want ...snapshot.Edge) {
	t.Helper()
	got := []snapshot.Edge{}
	for _, e := range list(t, s).Edges {
		got = append(got, e.Edge)
	}
	order := func(a, b snapshot.Edge) int {
		return bytes.Compare(slices.Concat(a.To[:], a.From[:]), slices.Concat(b.To[:], b.From[:]))
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Errorf("%s has the edges %v, want %v", s, got, want)
	}
}

func trashed(t testing.TB, s store.Trash) []store.Trashed {
	t.Helper()
	all, err := s.Trashed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}
