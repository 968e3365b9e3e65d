package storetest

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// besideCases are about store.Snapshotter, store.Notebook, store.Reclaimer and
// store.Leftovers.
var besideCases = []Case{
	{"snapshot/like a listed one", func(t testing.TB, h Harness) {
		s, change := originated(t, h)
		origin, err := s.Origin(t.Context())
		if err != nil || origin.IsZero() {
			t.Fatalf("Origin: %s, %v", origin, err)
		}
		st := s.(store.Store)
		list(t, st)
		var all []snapshot.Snapshot
		for _, p := range []string{"a", "sub/b"} {
			x, err := s.Snapshot(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if x.Path != p || x.Parent != origin || x.Received || !x.Pristine || x.ID.IsZero() {
				t.Errorf("the snapshot at %q of %s is %+v", p, origin, x)
			}
			all = append(all, x)
			change()
		}
		full1, inc := read(t, st, full(all[0])), read(t, st, increment(all[1], all[0]))
		verify(t, full1, all[0], none)
		verify(t, inc, all[1], all[0])
		inv := list(t, st)
		for i, x := range find(t, st, "a", "sub/b") {
			// Its sizes may be known to a listing only.
			y := all[i]
			y.Size, y.Exclusive = x.Size, x.Exclusive
			if x.Created.Equal(y.Created) {
				y.Created = x.Created
			}
			if !reflect.DeepEqual(x, y) {
				t.Errorf("made as %+v, it is listed as %+v", y, x)
			}
			if inv.Lineage[x.UUID] != origin {
				t.Errorf("the lineage of %s is not that of the origin", x.Path)
			}
		}
		if h.Digest(t, st, all[0]) == h.Digest(t, st, all[1]) {
			t.Error("the origin was changed, and the snapshots are equal")
		}
		dst := h.New(t)
		if isArchive(t, dst) {
			return
		}
		transfer(t, st, dst, all[0], none, "a")
		equal(t, h, st, all[1], dst, transfer(t, st, dst, all[1], all[0], "b"))
	}},
	{"snapshot/bad paths", func(t testing.TB, h Harness) {
		s, _ := originated(t, h)
		st := s.(store.Store)
		if _, err := s.Snapshot(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"", ".", "..", "../x", "/x", "b/../c", "b/", "a" + snapshot.PartSuffix} {
			if x, err := s.Snapshot(t.Context(), p); err == nil {
				t.Errorf("a snapshot was made at %q: %+v", p, x)
			}
		}
		for _, p := range []string{"a", "a/b"} {
			_, err := s.Snapshot(t.Context(), p)
			if _, ok := errors.AsType[*store.ExistsError](err); !ok {
				t.Errorf("a snapshot at %q: %v, want *ExistsError", p, err)
			}
		}
		same(t, st, []string{"a"})
		_, err := s.Snapshot(gone(t), "c")
		canceled(t, "Snapshot", err)
		_, err = s.Origin(gone(t))
		canceled(t, "Origin", err)
		same(t, st, []string{"a"})
		nothingLeft(t, st)
	}},
	{"snapshot/of nothing", func(t testing.TB, h Harness) {
		st := h.New(t)
		s := able[store.Snapshotter](t, st)
		if _, err := s.Origin(t.Context()); !errors.Is(err, store.ErrNoOrigin) {
			t.Errorf("Origin: %v, want ErrNoOrigin", err)
		}
		if _, err := s.Snapshot(t.Context(), "a"); !errors.Is(err, store.ErrNoOrigin) {
			t.Errorf("Snapshot: %v, want ErrNoOrigin", err)
		}
		same(t, st, []string{})
	}},
	{"snapshot/one taker at a time", func(t testing.TB, h Harness) {
		s := h.New(t)
		long, err := able[store.Locker](t, s).Lock(t.Context(), "a transfer")
		if err != nil {
			t.Fatal(err)
		}
		other := h.Again(t, s)
		first, second := able[store.TakeLocker](t, s), able[store.TakeLocker](t, other)
		for range 2 { // it can be had again
			unlock, err := first.LockTaking(t.Context(), "the first run")
			if err != nil {
				t.Fatalf("while a transfer has its lock: %v", err)
			}
			for range 2 { // who was refused has left nothing
				free, err := second.LockTaking(t.Context(), "the second run")
				if err == nil {
					free()
					t.Error("the lock was given twice")
				} else if held, ok := errors.AsType[*store.LockedError](err); !ok || held.Holder == "" || held.Store == "" {
					t.Errorf("%#v, want *LockedError with a holder", err)
				}
			}
			if _, err := able[store.Locker](t, other).Lock(t.Context(), "another transfer"); err == nil {
				t.Error("the lock of the transfer was given twice")
			}
			if err := unlock(); err != nil {
				t.Error(err)
			}
			first, second = second, first
		}
		if err := long(); err != nil {
			t.Error(err)
		}
		_, err = first.LockTaking(gone(t), "a run")
		canceled(t, "LockTaking", err)
		same(t, s, []string{})
		nothingLeft(t, s)
	}},
	{"note/written and read", func(t testing.TB, h Harness) {
		s, _ := populated(t, h, "a")
		n := able[store.Notebook](t, s)
		for _, name := range []string{store.LocksNote, store.RetentionNote} {
			var was []byte
			for _, text := range []string{"{}", "{\n    \"x\": \u00fc\x00\xff}", string(bytes.Repeat([]byte("long"), 50_000)), "short", ""} {
				if got, err := n.ReadNote(t.Context(), name); err != nil || !bytes.Equal(got, was) || len(was) == 0 && got != nil {
					t.Fatalf("%s is %d bytes, %v, want %d", name, len(got), err, len(was))
				}
				if err := n.WriteNote(t.Context(), name, []byte(text), was); err != nil {
					t.Fatal(err)
				}
				was = []byte(text)
				if got, err := able[store.Notebook](t, h.Again(t, s)).ReadNote(t.Context(), name); err != nil || string(got) != text {
					t.Fatalf("to another process %s is %d bytes, %v, want %d", name, len(got), err, len(text))
				}
			}
		}
		same(t, s, []string{"a"})
		nothingLeft(t, s)
	}},
	{"note/changed by another", func(t testing.TB, h Harness) {
		s := h.New(t)
		a, b := able[store.Notebook](t, s), able[store.Notebook](t, h.Again(t, s))
		write := func(n store.Notebook, text, was string, fails bool) {
			t.Helper()
			err := n.WriteNote(t.Context(), store.LocksNote, []byte(text), []byte(was))
			if fails != errors.Is(err, store.ErrNoteChanged) || !fails && err != nil {
				t.Errorf("writing %q over %q: %v, to fail: %v", text, was, err, fails)
			}
		}
		write(a, "one", "zero", true)
		write(a, "one", "", false)
		write(b, "two", "", true)
		write(b, "", "", true)
		write(b, "two", "one", false)
		write(a, "", "one", true)
		write(a, "", "two", false)
		write(a, "", "two", true)
		write(b, "", "", false)
		write(b, "three", "", false)
		if got, err := a.ReadNote(t.Context(), store.LocksNote); err != nil || string(got) != "three" {
			t.Errorf("the note is %q, %v", got, err)
		}
		if got, err := a.ReadNote(t.Context(), store.RetentionNote); err != nil || got != nil {
			t.Errorf("the other note is %q, %v", got, err)
		}
	}},
	{"note/many at once", func(t testing.TB, h Harness) {
		// What each has added is there in the end, if none wrote over another.
		s := h.New(t)
		able[store.Notebook](t, s)
		const writers, times = 4, 5
		var wg sync.WaitGroup
		for range writers {
			n := able[store.Notebook](t, h.Again(t, s))
			wg.Go(func() {
				for done := 0; done < times; {
					was, err := n.ReadNote(t.Context(), store.RetentionNote)
					if err == nil {
						err = n.WriteNote(t.Context(), store.RetentionNote, append(bytes.Clone(was), 'x'), was)
					}
					switch {
					case err == nil:
						done++
					case !errors.Is(err, store.ErrNoteChanged):
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if got, err := s.(store.Notebook).ReadNote(t.Context(), store.RetentionNote); err != nil || len(got) != writers*times {
			t.Errorf("of %d additions there are %d, %v", writers*times, len(got), err)
		}
	}},
	{"note/refused", func(t testing.TB, h Harness) {
		s := h.New(t)
		n := able[store.Notebook](t, s)
		for _, name := range []string{"", ".", "..", "x", "../x", "/etc/passwd", "a/" + store.LocksNote, store.LocksNote + "\x00"} {
			if got, err := n.ReadNote(t.Context(), name); err == nil {
				t.Errorf("%q was read: %q", name, got)
			}
			if err := n.WriteNote(t.Context(), name, []byte("x"), nil); err == nil {
				t.Errorf("%q was written", name)
			}
		}
		if err := n.WriteNote(t.Context(), store.LocksNote, make([]byte, store.MaxNote+1), nil); err == nil {
			t.Error("a note that is too long was written")
		}
		_, err := n.ReadNote(gone(t), store.LocksNote)
		canceled(t, "ReadNote", err)
		canceled(t, "WriteNote", n.WriteNote(gone(t), store.LocksNote, []byte("x"), nil))
		if got, err := n.ReadNote(t.Context(), store.LocksNote); err != nil || got != nil {
			t.Errorf("the note is %q, %v, want none", got, err)
		}
	}},
	{"reclaim", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		r := able[store.Reclaimer](t, s)
		if err := r.Reclaim(t.Context()); err != nil {
			t.Errorf("with nothing removed: %v", err)
		}
		if err := able[store.Remover](t, s).Remove(t.Context(), x[0]); err != nil {
			t.Fatal(err)
		}
		canceled(t, "Reclaim", r.Reclaim(gone(t)))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := r.Reclaim(ctx); err != nil {
			t.Error(err)
		}
		same(t, s, []string{"b"})
	}},
	{"leftover", func(t testing.TB, h Harness) {
		if h.Leftover == nil {
			t.Skip("there are none here")
		}
		s, _ := populated(t, h, "a", "dir/b")
		l := able[store.Leftovers](t, s)
		for _, p := range []string{"c", "dir/d"} {
			before := inside(t, s)
			h.Leftover(t, s, p)
			canceled(t, "RemoveLeftover", l.RemoveLeftover(gone(t), p))
			same(t, s, before)
			if inv := list(t, s); inv.Occupied[p] == "" || len(inv.Partials) != 1 || inv.Partials[0].Path != p || inv.Partials[0].Ours {
				t.Fatalf("with a leftover at %s, partials are %+v, and there is %q", p, inv.Partials, inv.Occupied[p])
			}
			if err := l.RemoveLeftover(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if inv := list(t, s); inv.Occupied[p] != "" || len(inv.Partials) != 0 {
				t.Errorf("the leftover at %s was removed, partials are %+v, and there is %q", p, inv.Partials, inv.Occupied[p])
			}
			if err := l.RemoveLeftover(t.Context(), p); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("removing it twice: %v, want ErrNotFound", err)
			}
			h.Populate(t, s, p) // the place is free
		}
		same(t, s, []string{"a", "c", "dir/b", "dir/d"})
	}},
	{"leftover/of what is none", func(t testing.TB, h Harness) {
		if h.Leftover == nil {
			t.Skip("there are none here")
		}
		src, x := source(t, h, "x")
		s, _ := populated(t, h, "a", "dir/b")
		l := able[store.Leftovers](t, s)
		transfer(t, src, s, x[0], none, "received")
		if h.Leave != nil {
			h.Leave(t, s, "ours")
		}
		for _, p := range []string{"a", "dir", "dir/b", "received", "nothing", "ours" + snapshot.PartSuffix, "", ".", "..", "../x", "/"} {
			if err := l.RemoveLeftover(t.Context(), p); err == nil {
				t.Errorf("what is at %q was removed as a leftover", p)
			}
		}
		same(t, s, []string{"a", "dir/b", "received"})
		if n := len(list(t, s).Partials); h.Leave != nil && n != 1 {
			t.Errorf("there are %d partials, want one", n)
		}
	}},
}

// originated makes a store in which snapshots can be made.
func originated(t testing.TB, h Harness) (s store.Snapshotter, change func()) {
	t.Helper()
	if h.Origin == nil {
		t.Skip("no snapshots are made here")
	}
	st, change := h.Origin(t, h.New(t))
	s, ok := st.(store.Snapshotter)
	if !ok {
		t.Fatalf("%s was opened with an origin, and is no Snapshotter", st)
	}
	return s, change
}
