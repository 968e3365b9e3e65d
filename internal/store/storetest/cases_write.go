package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// none is the parent of a full stream.
var none snapshot.Snapshot

var sinkCases = []Case{
	{"commit/full", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		y := transfer(t, src, dst, x[0], none, "a")
		if isArchive(t, dst) {
			if y.ID != x[0].ID {
				t.Errorf("sent %+v, arrived %+v", x[0], y)
			}
		} else if y.ID != x[0].ID || y.Transid != x[0].Transid || !y.Received || y.Trust != snapshot.Intact || y.UUID == y.ID {
			t.Errorf("sent %+v, arrived %+v", x[0], y)
		}
		equal(t, h, src, x[0], dst, y)
		nothingLeft(t, dst)
	}},
	{"commit/increments", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b", "c")
		dst := h.New(t)
		var from snapshot.Snapshot
		for _, x := range x {
			y := transfer(t, src, dst, x, from, x.Path)
			equal(t, h, src, x, dst, y)
			from = x
		}
		nothingLeft(t, dst)
	}},
	{"commit/backwards", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		transfer(t, src, dst, x[1], none, "b")
		equal(t, h, src, x[0], dst, transfer(t, src, dst, x[0], x[1], "a"))
	}},
	{"commit/passed on", func(t testing.TB, h Harness) {
		// The identity goes along, however many stores it passes through.
		src, x := source(t, h, "a", "b")
		via, dst := h.New(t), h.New(t)
		y0 := transfer(t, src, via, x[0], none, "a")
		y1 := transfer(t, src, via, x[1], x[0], "b")
		verify(t, read(t, via, increment(y1, y0)), x[1], x[0])
		transfer(t, via, dst, y0, none, "a")
		z1 := transfer(t, via, dst, y1, y0, "b")
		if z1.ID != x[1].ID || z1.Transid != x[1].Transid && !isArchive(t, dst) {
			t.Errorf("sent %+v, arrived at the second store %+v", x[1], z1)
		}
		equal(t, h, src, x[1], dst, z1)
	}},
	{"commit/and back", func(t testing.TB, h Harness) {
		// An increment goes back to the store where its parent was made.
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		y0 := transfer(t, src, dst, x[0], none, "a")
		y1 := transfer(t, src, dst, x[1], x[0], "b")
		want := h.Digest(t, src, x[1])
		if err := able[store.Remover](t, src).Remove(t.Context(), x[1]); err != nil {
			t.Fatal(err)
		}
		z := transfer(t, dst, src, y1, y0, "back")
		if h.Digest(t, src, z) != want {
			t.Error("what came back differs")
		}
	}},
	{"commit/subdirectories", func(t testing.TB, h Harness) {
		src, x := source(t, h, "17/snapshot", "18/snapshot")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "17/snapshot")
		transfer(t, src, dst, x[1], x[0], "deep/down/18/snapshot")
		nothingLeft(t, dst)
	}},
	{"commit/nothing shows before", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		w := create(t, dst, wanted(x[0], none, "a"))
		same(t, dst, []string{})
		if err := feed(w, read(t, src, full(x[0]))); err != nil {
			t.Fatal(err)
		}
		same(t, dst, []string{})
		same(t, h.Again(t, dst), []string{})
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		same(t, h.Again(t, dst), []string{"a"})
	}},
	{"commit/then it is over", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		w := create(t, dst, wanted(x[0], none, "a"))
		if err := feed(w, raw); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.Close(); err != nil {
				t.Errorf("Close after Commit: %v", err)
			}
		}
		if _, err := w.Write(raw); err == nil {
			t.Error("Write after Commit succeeded")
		}
		if err := w.Commit(t.Context()); err == nil {
			t.Error("the second Commit succeeded")
		}
		equal(t, h, src, x[0], dst, find(t, dst, "a")[0])
	}},
	{"commit/parent may go", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		y0 := transfer(t, src, dst, x[0], none, "a")
		y1 := transfer(t, src, dst, x[1], x[0], "b")
		if err := able[store.Remover](t, dst).Remove(t.Context(), y0); err != nil {
			t.Fatal(err)
		}
		if isArchive(t, dst) {
			// What is left cannot be restored, and yet is what was stored.
			verify(t, read(t, dst, increment(x[1], x[0])), x[1], x[0])
			return
		}
		equal(t, h, src, x[1], dst, y1)
	}},
	{"close/abandons", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		// Nothing written, a little, and all of it.
		for _, part := range [][]byte{nil, pieces(raw)[0], raw} {
			w := create(t, dst, wanted(x[0], none, "sub/a"))
			if len(part) > 0 {
				if err := feed(w, part); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := w.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			if _, err := w.Write(raw); err == nil {
				t.Error("Write after Close succeeded")
			}
			if err := w.Commit(t.Context()); err == nil {
				t.Error("Commit after Close succeeded")
			}
			same(t, dst, []string{})
			abandoned(t, dst, w)
		}
		equal(t, h, src, x[0], dst, transfer(t, src, dst, x[0], none, "sub/a"))
		nothingLeft(t, dst)
	}},
	{"close/abandons an increment", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		y0 := transfer(t, src, dst, x[0], none, "a")
		w := create(t, dst, wanted(x[1], x[0], "b"))
		if err := feed(w, withoutEnd(read(t, src, increment(x[1], x[0])))); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		same(t, dst, []string{"a"})
		abandoned(t, dst, w)
		equal(t, h, src, x[0], dst, y0)
		equal(t, h, src, x[1], dst, transfer(t, src, dst, x[1], x[0], "b"))
		nothingLeft(t, dst)
	}},
	{"create/over a dead one", func(t testing.TB, h Harness) {
		if h.Leave == nil {
			t.Skip("dead processes leave nothing behind here")
		}
		src, x := source(t, h, "a")
		dst := h.New(t)
		h.Leave(t, dst, "sub/a")
		inv := list(t, dst)
		if len(inv.Inside()) != 0 {
			t.Errorf("what a dead process left is listed as a snapshot: %+v", inv.Inside())
		}
		if len(inv.Partials) != 1 || !inv.Partials[0].Ours || inv.Partials[0].Why == "" {
			t.Errorf("partials: %+v, want one of ours", inv.Partials)
		}
		equal(t, h, src, x[0], dst, transfer(t, src, dst, x[0], none, "sub/a"))
		if isArchive(t, dst) {
			return // it was another edge, which may be carried on
		}
		nothingLeft(t, dst)
	}},
	{"create/cancelled before", func(t testing.TB, h Harness) {
		_, x := source(t, h, "a")
		dst := h.New(t)
		w, err := able[store.Sink](t, dst).Create(gone(t), wanted(x[0], none, "a"))
		if err == nil {
			w.Close()
		}
		canceled(t, "Create", err)
		same(t, dst, []string{})
		nothingLeft(t, dst)
	}},
	{"commit/cancelled before", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		w := create(t, dst, wanted(x[0], none, "a"))
		if err := feed(w, read(t, src, full(x[0]))); err != nil {
			t.Fatal(err)
		}
		canceled(t, "Commit", w.Commit(gone(t)))
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		same(t, dst, []string{})
		abandoned(t, dst, w)
	}},
	{"create/cancelled in the middle", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w, err := able[store.Sink](t, dst).Create(ctx, wanted(x[0], none, "a"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(pieces(raw)[0]); err != nil {
			t.Fatal(err)
		}
		cancel()
		ended := make(chan error, 1)
		go func() {
			var err error
			for i := 1; err == nil && i < len(pieces(raw)); i++ {
				_, err = w.Write(pieces(raw)[i])
			}
			if err == nil {
				err = w.Commit(ctx)
			}
			ended <- errors.Join(err, w.Close())
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it was committed after its context was cancelled")
			}
		case <-time.After(patience):
			t.Fatal("the writer goes on after its context was cancelled")
		}
		same(t, dst, []string{})
		abandoned(t, dst, w)
		equal(t, h, src, x[0], dst, transfer(t, src, dst, x[0], none, "a"))
		nothingLeft(t, dst)
	}},
}

var refusalCases = []Case{
	{"refuse/no END", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		refuse(t, dst, wanted(x[0], none, "a"), withoutEnd(read(t, src, full(x[0]))))
	}},
	{"refuse/no END of an increment", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		refuse(t, dst, wanted(x[1], x[0], "b"), withoutEnd(read(t, src, increment(x[1], x[0]))))
	}},
	{"refuse/nothing at all", func(t testing.TB, h Harness) {
		_, x := source(t, h, "a")
		dst := h.New(t)
		w := create(t, dst, wanted(x[0], none, "a"))
		if err := w.Commit(t.Context()); err == nil {
			t.Error("an empty stream was committed")
		}
		w.Close()
		same(t, dst, []string{})
		nothingLeft(t, dst)
	}},
	{"refuse/another snapshot", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		refuse(t, dst, wanted(x[0], none, "a"), renamed(t, raw, stream.Identity{UUID: stream.UUID{9, 9, 9}}))
	}},
	{"refuse/another state", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		refuse(t, dst, wanted(x[0], none, "a"), renamed(t, raw, stream.Identity{Transid: x[0].Transid + 1}))
	}},
	{"refuse/another parent", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b", "c")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		transfer(t, src, dst, x[1], x[0], "b")
		refuse(t, dst, wanted(x[2], x[1], "c"), read(t, src, increment(x[2], x[0])))
	}},
	{"refuse/an increment for a full stream", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		refuse(t, dst, wanted(x[1], none, "b"), read(t, src, increment(x[1], x[0])))
	}},
	{"refuse/a full stream for an increment", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		refuse(t, dst, wanted(x[1], x[0], "b"), read(t, src, full(x[1])))
	}},
	{"create/taken", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b", "dir/c")
		dst := h.New(t)
		y := transfer(t, src, dst, x[0], none, "a")
		transfer(t, src, dst, x[2], none, "dir/c")
		before := inside(t, dst)
		sink := able[store.Sink](t, dst)
		taken := []store.Want{
			wanted(x[1], none, "a"), // a snapshot with another identity
			wanted(x[0], none, "a"), // the same one
			wanted(x[1], x[0], "a"), // its own parent
		}
		if !isArchive(t, dst) { // which has no directories
			taken = append(taken, wanted(x[1], none, "dir"))
		}
		for _, want := range taken {
			w, err := sink.Create(t.Context(), want)
			if err == nil {
				w.Close()
			}
			exists, ok := errors.AsType[*store.ExistsError](err)
			if !ok {
				t.Errorf("Create at %q: %v, want *ExistsError", want.Path, err)
			} else if exists.Path == "" || exists.What == "" {
				t.Errorf("Create at %q: %#v says too little", want.Path, exists)
			}
		}
		same(t, dst, before)
		nothingLeft(t, dst)
		equal(t, h, src, x[0], dst, y)
	}},
	{"create/inside of a snapshot", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		y := transfer(t, src, dst, x[0], none, "a")
		want := h.Digest(t, dst, y)
		w, err := able[store.Sink](t, dst).Create(t.Context(), wanted(x[1], none, "a/b"))
		if err == nil {
			w.Close()
		}
		if isArchive(t, dst) {
			// Names are only names there.
			if err != nil {
				t.Fatal(err)
			}
			equal(t, h, src, x[1], dst, transfer(t, src, dst, x[1], none, "a/b"))
			same(t, dst, []string{"a", "a/b"})
			equal(t, h, src, x[0], dst, y)
			return
		}
		if _, ok := errors.AsType[*store.ExistsError](err); !ok {
			t.Errorf("Create inside of a snapshot: %v, want *ExistsError", err)
		}
		same(t, dst, []string{"a"})
		if h.Digest(t, dst, y) != want {
			t.Error("the snapshot was changed")
		}
	}},
	{"create/outside of the directory", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "sub/b")
		dst := h.New(t)
		transfer(t, src, dst, x[1], none, "sub/b")
		sink := able[store.Sink](t, dst)
		for _, p := range []string{"", ".", "..", "../a", "sub/../../a", "/a", "sub/../a"} {
			w, err := sink.Create(t.Context(), wanted(x[0], none, p))
			if err == nil {
				w.Close()
				t.Errorf("Create at %q succeeded", p)
			}
		}
		same(t, dst, []string{"sub/b"})
		nothingLeft(t, dst)
	}},
	{"create/a partial's name", func(t testing.TB, h Harness) {
		// It would be taken for what a dead process left, and removed.
		src, x := source(t, h, "a")
		dst := h.New(t)
		w, err := able[store.Sink](t, dst).Create(t.Context(), wanted(x[0], none, "b"+snapshot.PartSuffix))
		if err == nil {
			err = errors.Join(feed(w, read(t, src, full(x[0]))), w.Commit(t.Context()), w.Close())
		}
		if err == nil {
			t.Error("a snapshot was made under the name of a partial")
		}
		same(t, dst, []string{})
		nothingLeft(t, dst)
	}},
	{"create/parent missing", func(t testing.TB, h Harness) {
		_, x := source(t, h, "a", "b")
		dst := h.New(t)
		w, err := able[store.Sink](t, dst).Create(t.Context(), wanted(x[1], x[0], "b"))
		if err == nil {
			w.Close()
		}
		if bad, ok := errors.AsType[*store.ParentError](err); !ok || bad.ID != x[0].ID || bad.Why == "" {
			t.Errorf("Create without the parent: %#v, want *ParentError about %s", err, x[0].ID)
		}
		same(t, dst, []string{})
		nothingLeft(t, dst)
	}},
	{"create/parent removed", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		y := transfer(t, src, dst, x[0], none, "a")
		if err := able[store.Remover](t, h.Again(t, dst)).Remove(t.Context(), y); err != nil {
			t.Fatal(err)
		}
		w, err := able[store.Sink](t, dst).Create(t.Context(), wanted(x[1], x[0], "b"))
		if err == nil {
			if isArchive(t, dst) { // it finds out when it looks again
				err = errors.Join(feed(w, read(t, src, increment(x[1], x[0]))), w.Commit(t.Context()))
			}
			w.Close()
		}
		same(t, dst, []string{})
		if _, ok := errors.AsType[*store.ParentError](err); !ok {
			t.Errorf("Create after its parent was removed: %v, want *ParentError", err)
		}
	}},
}
