package archive

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TestStoringWaitsForDeleting: who deletes for good may ask for that again when no
// answer has come, so nothing is stored under a key while it is marked. Else the
// second request would take what has just been stored.
func TestStoringWaitsForDeleting(t *testing.T) {
	full := snapshot.Edge{To: id(1)}
	data := streamOf(t, full, 300_000, 1)
	key := "pre/fix/a/" + edgeName(full, seal.Form{})
	b := newMemoryBucket()
	b.class = "GLACIER"
	f := openOn(t, b, newNotes(), func(o *Options) { o.Now = b.now })
	put := func() error {
		mustList(t, f.Store)
		_, err := f.store(t.Context(), sized(full, data), runs(t, data))
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	sweep(t, f.Store, "a")
	x := trashOf(t, f.Store)[0]
	lost := errors.New("no answer has come")
	b.hook = func(op, k string) error {
		if op == "Delete" && k == key {
			b.hook = nil
			if err := b.Delete(t.Context(), k); err != nil {
				t.Error(err)
			}
			return lost
		}
		return nil
	}
	if err := f.Discard(t.Context(), x); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*beingDeletedError](put()); !ok || slices.Contains(b.has(""), key) {
		t.Errorf("it has been stored while it was being deleted: %q", b.has(""))
	}
	b.advance(doomedFor)
	if err := put(); err != nil {
		t.Error(err)
	}
	if len(mustList(t, f.Store).Snapshots) != 1 {
		t.Errorf("what was stored is not there: %q", b.has(""))
	}
}

// TestStoredBesideMark: an object that counts as removed by nothing but an old mark
// of those who delete is there again once the same stream has been stored.
func TestStoredBesideMark(t *testing.T) {
	full := snapshot.Edge{To: id(1)}
	data := streamOf(t, full, 300_000, 1)
	key := "pre/fix/a/" + edgeName(full, seal.Form{})
	b := newMemoryBucket()
	b.class = "GLACIER"
	f := openOn(t, b, newNotes(), func(o *Options) { o.Now = b.now })
	if _, err := f.store(t.Context(), sized(full, data), runs(t, data)); err != nil {
		t.Fatal(err)
	}
	b.put(doomKey(key), 5)
	again := func() error {
		mustList(t, f.Store)
		_, err := f.store(t.Context(), sized(full, data), runs(t, data))
		return err
	}
	if _, ok := errors.AsType[*beingDeletedError](again()); !ok {
		t.Error("what somebody is deleting was taken for stored")
	}
	b.advance(doomedFor)
	if err := again(); err != nil {
		t.Error(err)
	}
	if inv := mustList(t, f.Store); len(inv.Snapshots) != 1 {
		t.Errorf("it was stored, and counts as removed: %q", b.has(""))
	}
}

// TestPutBackForAMoment: what was there again for a moment, and has come to be
// needed in it, is not deleted by somebody who has only seen it removed before and
// after.
func TestPutBackForAMoment(t *testing.T) {
	key, next := "p/A/"+uuidA+"_None", "p/B/"+uuidB+"_"+uuidA
	b := frozen("GLACIER", key)
	storing := openAt(t, b) // has seen it there
	mustList(t, storing)
	s := openAt(t, b)
	sweep(t, s, "A")
	x := trashOf(t, s)[0]
	as := func(name string) context.Context { return context.WithValue(t.Context(), agentKey{}, name) }

	inBetween, marked, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	gone, marking := false, false
	b.step = func(ctx context.Context, op, k string) error {
		switch name, _ := ctx.Value(agentKey{}).(string); {
		case name == "back" && op == "Delete" && k == tombKey(key):
			gone = true
		case name == "back" && gone && op == "Stat" && k == doomKey(key):
			once.Do(func() { close(inBetween); <-marked })
		case name == "away" && op == "Put" && k == doomKey(key):
			marking = true
			go func() { done <- openAt(t, b).Untrash(as("back"), x) }()
			<-inBetween
			b.put(next, 5)
			b.move("GLACIER", next)
			o := &stored{Object: Object{Key: next, Size: 5, Fixed: true}, Edge: snapshot.Edge{To: parsed(t, uuidB), From: parsed(t, uuidA)}, Path: "B"}
			if err := storing.stays(as("storing"), o); err != nil {
				t.Errorf("storing: %v", err)
			}
		case name == "away" && marking && op == "Stat" && k == tombKey(key):
			marking = false
			close(marked)
			if err := <-done; err == nil {
				t.Error("it has been put back from under a mark")
			}
		}
		return nil
	}
	err := s.Discard(as("away"), x)
	b.step = nil
	if !slices.Contains(b.has(""), key) {
		t.Fatalf("what an increment needs that has been stored is deleted: %v", err)
	}
	b.advance(doomedFor)
	if err := openAt(t, b).Sweep(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	if inv := mustList(t, openAt(t, b)); len(inv.Snapshots) != 2 || len(inv.Warnings) > 0 {
		t.Errorf("%+v", inv)
	}
}

// TestDiscardLooksElsewhere: who cannot see the rest of the bucket is told so
// before something goes for good.
func TestDiscardLooksElsewhere(t *testing.T) {
	b := frozen("GLACIER", "p/A/"+uuidA+"_None")
	s := openAt(t, b)
	sweep(t, s, "A")
	x := trashOf(t, s)[0]
	b.hook = func(op, key string) error {
		if op == "List" && key == "" {
			return &DeniedError{Bucket: b.String(), Action: "s3:ListBucket", Err: errors.New("AccessDenied")}
		}
		return nil
	}
	var told bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&told, nil))
	if err := s.Discard(t.Context(), x); err != nil {
		t.Error(err)
	}
	if !strings.Contains(told.String(), "rest of the bucket cannot be searched") {
		t.Errorf("nothing is said of what could not be looked at: %s", told.String())
	}
}

// TestSizesOfBuried: known sizes go with the last snapshot at a path, though an
// earlier one of that path has not gone for good.
func TestSizesOfBuried(t *testing.T) {
	b := frozen("GLACIER", "p/A/"+uuidA+"_None", "p/A.bs")
	s := openAt(t, b)
	sweep(t, s, "A")
	b.put("p/A/"+uuidB+"_None", 5)
	b.move("GLACIER", "p/A/"+uuidB+"_None")
	b.put("p/A.bs", 7)
	sweep(t, s, "A")
	for _, x := range trashOf(t, s) {
		if err := s.Discard(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	if left := b.has(""); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

// TestReviveForeignKeys: what comes back in place of a stream that was to be
// encrypted may be encrypted for somebody who is not there any more, which has to
// be said.
func TestReviveForeignKeys(t *testing.T) {
	full := snapshot.Edge{To: id(1)}
	data := streamOf(t, full, 300_000, 1)
	b := newMemoryBucket()
	b.class = "GLACIER"
	for n := range 2 {
		to, keys := ageKeys(t)
		f := openOn(t, b, newNotes(), func(o *Options) { o.Now, o.Seal, o.Keys = b.now, seal.Options{Recipients: to}, keys })
		mustList(t, f.Store)
		var told bytes.Buffer
		f.Store.log = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelWarn}))
		if _, err := f.store(t.Context(), sized(full, data), runs(t, data)); err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(told.String(), "encrypted"); said != (n > 0) {
			t.Errorf("%d: %s", n, told.String())
		}
		sweep(t, f.Store, "a")
	}
}

// TestUnreadableTombstone: where the tombstone cannot be read the one that is put
// in its place is about the same object.
func TestUnreadableTombstone(t *testing.T) {
	key := "p/A/" + uuidA + "_None"
	b := frozen("GLACIER", key)
	s := openAt(t, b)
	sweep(t, s, "A")
	b.move("GLACIER", tombKey(key))
	x := trashOf(t, s)[0]
	b.hook = func(op, k string) error {
		if op == "Delete" && k == tombKey(key) {
			b.hook = nil
			b.put(doomKey(key), 5)
		}
		return nil
	}
	if _, ok := errors.AsType[*beingDeletedError](s.Untrash(t.Context(), x)); !ok {
		t.Fatal("it was put back from under a mark")
	}
	b.advance(doomedFor + time.Second)
	if err := s.Discard(t.Context(), x); err != nil {
		t.Error(err)
	}
	if left := b.has(""); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

// TestBuriedInForeignClass: at some providers there are classes that nobody here
// knows. What turns out not to be copied there counts as removed too, for somebody
// who has been at it before.
func TestBuriedInForeignClass(t *testing.T) {
	key := "p/A/" + uuidA + "_None"
	b := newMemoryBucket()
	b.put(key, 10)
	o := b.objects[key]
	o.class, o.cold = "COLD_ARCHIVE", true
	b.objects[key] = o
	storing := openAt(t, b)
	mustList(t, storing)
	sweep(t, openAt(t, b), "A")
	b.put("p/B/"+uuidB+"_"+uuidA, 5)
	err := storing.stays(t.Context(), &stored{
		Object: Object{Key: "p/B/" + uuidB + "_" + uuidA, Size: 5},
		Edge:   snapshot.Edge{To: parsed(t, uuidB), From: parsed(t, uuidA)}, Path: "B",
	})
	if _, ok := errors.AsType[*store.ParentError](err); !ok || len(mustList(t, storing).Snapshots) != 0 {
		t.Errorf("an increment has been stored on what was removed: %v, %q", err, b.has(""))
	}
}

// TestVerifyBuried: what has been removed is not verified, and nothing is asked about
// it.
func TestVerifyBuried(t *testing.T) {
	hollow := "p/B/" + uuidB + "_None"
	b := frozen("GLACIER", "p/A/"+uuidA+"_None", "p/A/"+uuidA+"_None.json", "p/C/"+uuidC+"_None")
	s := openAt(t, b)
	sweep(t, s, "A")
	b.put(hollow, 0)
	b.put(tombKey(hollow), 5)
	clear(b.calls)
	found, err := s.Verify(t.Context(), store.VerifyOptions{})
	if err != nil || found.Streams[store.Damaged] > 0 || found.Streams[store.Sound] != 1 || b.calls["Stat"]+b.calls["Get"] > 0 {
		t.Errorf("%+v, %v, %v", found, err, b.calls)
	}
}
