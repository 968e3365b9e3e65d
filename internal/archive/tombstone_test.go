package archive

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// frozen is a bucket of which the objects that match are in cold storage.
func frozen(class string, keys ...string) *memoryBucket {
	b := newMemoryBucket()
	for i, key := range keys {
		b.put(key, 10+i)
		if n := parseKey("p", key); n.kind == isObject {
			b.move(class, key)
		}
	}
	return b
}

// openAt opens the archive below p by the clock of its bucket.
func openAt(t testing.TB, b *memoryBucket) *Store {
	t.Helper()
	s, err := Open(t.Context(), b, Options{Prefix: "p", Now: b.now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func trashOf(t testing.TB, s *Store) []store.Trashed {
	t.Helper()
	all, err := s.Trashed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestBuried: what is not to be copied stays where it is, counts as removed, and
// comes back or goes for good.
func TestBuried(t *testing.T) {
	key := "p/A/" + uuidA + "_None.zst"
	for _, class := range []string{"GLACIER", "STANDARD_IA"} {
		b := frozen(class, key, key+".json", "p/A.bs", "p/B/"+uuidB+"_"+uuidA, "p/C/"+uuidC+"_None")
		s := openAt(t, b)
		before, stored := b.has(""), b.objects[key].modified
		b.advance(time.Hour)
		if fates := sweep(t, s, "A", "B"); fates["A"] != nil || fates["B"] != nil {
			t.Fatal(fates)
		}
		inv := mustList(t, s)
		if len(inv.Snapshots) != 1 || len(inv.Edges) != 1 || len(inv.Warnings) > 0 {
			t.Errorf("%+v", inv)
		}
		if left := b.has("trash/"); len(left) != 1 { // the noted sizes
			t.Errorf("%q were copied", left)
		}
		if _, err := s.Open(t.Context(), store.Request{Edge: snapshot.Edge{To: parsed(t, uuidA)}}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("opening what has been removed: %v", err)
		}
		all := trashOf(t, s)
		slices.SortFunc(all, func(x, y store.Trashed) int { return strings.Compare(x.Path, y.Path) })
		if len(all) != 2 || all[0].Handle != key || all[0].Path != "A" || all[0].Class != class || !all[0].Since.Equal(stored) ||
			all[0].Size.Bytes != 10 || all[0].When.Before(stored.Add(time.Hour)) {
			t.Fatalf("%+v", all)
		}
		text, err := s.small(t.Context(), key+".trashed", maxTomb)
		if err != nil {
			t.Fatal(err)
		}
		if stone, err := parseTombstone(text); err != nil || stone.Size != 10 || stone.Tag != b.objects[key].tag || !stone.When.Equal(all[0].When.Truncate(time.Second).Add(-time.Second)) {
			t.Errorf("%s: %v", text, err)
		}
		for i := range 2 {
			for _, x := range all {
				if err := s.Untrash(t.Context(), x); (i > 0) != errors.Is(err, store.ErrNotFound) || i == 0 && err != nil {
					t.Error(i, err)
				}
			}
		}
		if diff := cmp.Diff(before, b.has("")); diff != "" {
			t.Error(diff)
		}
		if all := s.of(snapshot.Edge{To: parsed(t, uuidA)}); len(all) != 1 || !all[0].Described || !all[0].Modified.Equal(stored) {
			t.Errorf("%+v", all)
		}
		sweep(t, s, "A", "B")
		for _, x := range trashOf(t, s) {
			if err := s.Discard(t.Context(), x); err != nil {
				t.Error(err)
			}
			if err := s.Discard(t.Context(), x); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("again: %v", err)
			}
		}
		if diff := cmp.Diff([]string{"p/C/" + uuidC + "_None"}, b.has("")); diff != "" {
			t.Error(diff)
		}
	}
}

// TestBuriedSizes: where not even notes can be copied they stay, and go with the
// last stream.
func TestBuriedSizes(t *testing.T) {
	key := "p/A/" + uuidA + "_None"
	b := frozen("GLACIER", key, "p/A/"+uuidB+"_None", "p/A.bs")
	b.move("GLACIER", "p/A.bs")
	s := openAt(t, b)
	for n := range 2 {
		if err := s.Remove(t.Context(), mustList(t, s).Snapshots[0]); err != nil {
			t.Fatal(err)
		}
		all := trashOf(t, s)
		if len(all) != 1 {
			t.Fatalf("%+v", all)
		}
		if err := s.Discard(t.Context(), all[0]); err != nil {
			t.Error(err)
		}
		if left := b.has("p/A.bs"); len(left)+n != 1 {
			t.Errorf("after %d: %q", n, left)
		}
	}
	if left := b.has(""); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

// TestBuriedElsewhere: in a directory that an archive was copied to tombstones
// count too, though its objects can be copied, and other prefixes are no harm.
func TestBuriedElsewhere(t *testing.T) {
	b := newMemoryBucket()
	for _, key := range []string{
		"p/A/" + uuidA + "_None", "p/A/" + uuidA + "_None.trashed", "q/B/" + uuidB + "_" + uuidA,
		"/p/C/" + uuidC + "_None", "/p/C/" + uuidC + "_None.trashed", // by an old version
	} {
		b.put(key, 5)
	}
	s := openAt(t, b)
	if inv := mustList(t, s); len(inv.Snapshots)+len(inv.Warnings) > 0 {
		t.Errorf("%+v", inv)
	}
	if inv := mustList(t, open(t, b, "q")); len(inv.Snapshots) != 1 || len(inv.Warnings) != 1 {
		t.Errorf("%+v", inv)
	}
	for _, x := range trashOf(t, s) {
		err := s.Discard(t.Context(), x)
		if _, needed := errors.AsType[*neededError](err); x.Path == "A" && !needed {
			t.Errorf("what is needed below another prefix: %v", err)
		}
		if err := s.Untrash(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	if left := b.has(""); len(left) != 3 || strings.Contains(strings.Join(left, " "), ".trashed") {
		t.Errorf("%q", left)
	}
	if inv := mustList(t, open(t, b, "q")); len(inv.Warnings) > 0 {
		t.Errorf("%+v", inv)
	}
}

// TestBuriedNeeded: what a program that knows no tombstones has built on is not
// removed for good, and the next sweep puts it back.
func TestBuriedNeeded(t *testing.T) {
	key := "p/A/" + uuidA + "_None"
	b := frozen("DEEP_ARCHIVE", key)
	s := openAt(t, b)
	sweep(t, s, "A")
	b.put("p/B/"+uuidB+"_"+uuidA, 5)
	all := trashOf(t, s)
	if _, ok := errors.AsType[*neededError](s.Discard(t.Context(), all[0])); !ok || len(b.has(key)) != 2 {
		t.Error("what is needed has been removed for good")
	}
	if err := s.Sweep(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	if inv := mustList(t, s); len(inv.Snapshots) != 2 || len(inv.Warnings) > 0 {
		t.Errorf("%+v", inv)
	}
}

// TestDiscardAgainst: whoever puts back while another one removes for good, one of
// the two gives way.
func TestDiscardAgainst(t *testing.T) {
	key := "p/A/" + uuidA + "_None"
	setting := func() (*memoryBucket, *Store, store.Trashed) {
		b := frozen("GLACIER", key)
		s := openAt(t, b)
		sweep(t, s, "A")
		return b, s, trashOf(t, s)[0]
	}
	// Another machine puts it back between two calls of the one that removes it, and
	// the other way round.
	for name, two := range map[string]func(s *Store, x store.Trashed) (first, second func() error){
		"put back while it is deleted": func(s *Store, x store.Trashed) (func() error, func() error) {
			return func() error { return s.Discard(t.Context(), x) }, func() error { return s.Untrash(t.Context(), x) }
		},
		"deleted while it is put back": func(s *Store, x store.Trashed) (func() error, func() error) {
			return func() error { return s.Untrash(t.Context(), x) }, func() error { return s.Discard(t.Context(), x) }
		},
		"deleted twice": func(s *Store, x store.Trashed) (func() error, func() error) {
			return func() error { return s.Discard(t.Context(), x) }, func() error { return s.Discard(t.Context(), x) }
		},
	} {
		for n, more := 1, true; more; n++ {
			b, s, x := setting()
			one, _ := two(s, x)
			_, other := two(openAt(t, b), x)
			calls := 0
			var theirs error
			more = false
			b.hook = func(string, string) error {
				if calls++; calls == n {
					more = true
					b.hook = nil
					theirs = other()
				}
				return nil
			}
			ours := one()
			if !more {
				break
			}
			there := len(b.has(key)) > 0
			live := len(mustList(t, openAt(t, b)).Snapshots) > 0
			for _, x := range []struct {
				puts bool
				err  error
			}{{name == "deleted while it is put back", ours}, {name == "put back while it is deleted", theirs}} {
				if x.puts && x.err == nil && !live {
					t.Fatalf("%s, at call %d: it is put back, and not there: %v, %v", name, n, ours, theirs)
				}
			}
			if name == "deleted twice" && (there || ours != nil && theirs != nil) {
				t.Errorf("%s, at call %d: %v, %v", name, n, ours, theirs)
			}
			if left := b.has(key + "."); there && !live && len(left) == 0 || !there && len(left) > 0 && name != "deleted while it is put back" && name != "put back while it is deleted" {
				t.Errorf("%s, at call %d: %q are left", name, n, b.has(""))
			}
		}
	}
}

// TestDiscardInterrupted: wherever removing for good ends, the next try ends it,
// after a day where nobody can know whether the first one is still at it.
func TestDiscardInterrupted(t *testing.T) {
	key := "p/A/" + uuidA + "_None"
	died := errors.New("the power is gone")
	for n := 0; ; n++ {
		b := frozen("GLACIER", key, key+".json")
		s := openAt(t, b)
		sweep(t, s, "A")
		x := trashOf(t, s)[0]
		calls := 0
		b.hook = func(string, string) error {
			if calls++; calls > n {
				return died
			}
			return nil
		}
		err := s.Discard(t.Context(), x)
		b.hook = nil
		if err == nil && calls <= n {
			break
		}
		if !slices.Contains(b.has(""), key) && slices.Contains(b.has(""), key+".json") {
			t.Errorf("after %d calls a manifest is there without its stream, which looks lost: %q", n, b.has(""))
		}
		b.advance(doomedFor)
		s = openAt(t, b)
		for _, x := range trashOf(t, s) {
			if err := s.Discard(t.Context(), x); err != nil {
				t.Errorf("after %d calls: %v", n, err)
			}
		}
		if err := s.Sweep(t.Context(), nil, nil); err != nil {
			t.Error(err)
		}
		b.put("p/A/"+uuidA+"_None", 10)
		if left := b.has(""); len(mustList(t, s).Snapshots) != 1 || strings.Contains(strings.Join(left, " "), ".trashed") || strings.Contains(strings.Join(left, " "), ".deleting") {
			t.Errorf("after %d calls: %q are left", n, left)
		}
	}
}

// TestRevive: storing again what has been removed brings it back, and what its
// tombstone has left behind does not bury what comes to the key.
func TestRevive(t *testing.T) {
	full, next := snapshot.Edge{To: id(1)}, snapshot.Edge{To: id(2), From: id(1)}
	for _, other := range []bool{false, true} {
		b := newMemoryBucket()
		b.class = "GLACIER"
		f := openOn(t, b, newNotes(), func(o *Options) { o.Now = b.now })
		data, inc := streamOf(t, full, 300_000, 1), streamOf(t, next, 300_000, 2)
		put := func(e snapshot.Edge, data []byte) error {
			mustList(t, f.Store)
			want := sized(e, data)
			want.Path = e.To.String()
			_, err := f.store(t.Context(), want, runs(t, data))
			return err
		}
		if err := errors.Join(put(full, data), put(next, inc)); err != nil {
			t.Fatal(err)
		}
		sweep(t, f.Store, full.To.String(), next.To.String())
		if other {
			data, inc = streamOf(t, full, 300_000, 3), streamOf(t, next, 300_000, 4)
		}
		if _, ok := errors.AsType[*store.ParentError](put(next, inc)); !ok {
			t.Error("an increment has come back without its parent")
		}
		if n := len(mustList(t, f.Store).Snapshots); n != 0 {
			t.Errorf("%d snapshots are back", n)
		}
		parts := b.calls["Part"]
		if err := errors.Join(put(full, data), put(next, inc)); err != nil {
			t.Fatal(err)
		}
		if inv := mustList(t, f.Store); len(inv.Snapshots) != 2 || len(inv.Warnings) > 0 || b.calls["Part"] != parts {
			t.Errorf("%+v, %d parts were uploaded", inv, b.calls["Part"]-parts)
		}
		if n := len(trashOf(t, f.Store)); n != 0 {
			t.Errorf("%d are still in the trash", n)
		}
		f.settled(t)
	}
	b := newMemoryBucket()
	f := openOn(t, b, newNotes(), func(o *Options) { o.Now = b.now })
	key := "pre/fix/a/" + edgeName(full, seal.Form{})
	b.put(key+".trashed", 5)
	b.put(key+".deleting", 5)
	b.advance(doomedFor)
	mustList(t, f.Store)
	late := false
	b.hook = func(op, _ string) error {
		if op == "Complete" && !late {
			late = true
			b.put(key+".trashed", 5)
		}
		return nil
	}
	data := streamOf(t, full, 300_000, 1)
	if _, err := f.store(t.Context(), sized(full, data), runs(t, data)); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(t.Context(), full); err != nil || !bytes.Equal(got, data) || len(mustList(t, f.Store).Snapshots) != 1 {
		t.Errorf("what was stored counts as removed: %v", err)
	}
}

func FuzzTombstone(f *testing.F) {
	f.Add([]byte(`{"format":1,"when":"2026-11-21T15:04:05Z","size":5,"tag":"abc-2","id":"00ff"}`))
	f.Add([]byte(`{"format":2,"size":"x"}`))
	f.Add([]byte("xxxxx"))
	s, err := Open(context.Background(), newMemoryBucket(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		stone, err := parseTombstone(text)
		if err != nil {
			return
		}
		again, err := parseTombstone(s.stone(Object{Size: stone.Size, Tag: stone.Tag}))
		if err != nil || again.Size != stone.Size || again.Tag != stone.Tag || again.ID == stone.ID {
			t.Errorf("%+v is read as %+v: %v", stone, again, err)
		}
	})
}
