package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// The first Create of a run puts in order what runs that were killed have left,
// and touches nothing else.
func TestTidy(t *testing.T) {
	edge, last := snapshot.Edge{To: id(1)}, snapshot.Edge{To: id(2)}
	data := streamOf(t, edge, 300_000, 1)
	key := "pre/fix/a/" + edgeName(edge, seal.Form{})
	for _, at := range []string{"Begin", "Part", "Complete", "Put", "Uploads"} {
		b, notes := newMemoryBucket(), newNotes()
		calls := 0
		b.hook = func(op, _ string) error { calls++; return nil }
		// Killed before the next call after the first one of a kind.
		first := openOn(t, b, notes, nil)
		seen, dead := false, killAfter(b, 1<<40)
		b.hook = func(op, key string) error {
			if seen || dead.Load() {
				dead.Store(true)
				return errors.New("dead")
			}
			seen = op == at
			return nil
		}
		first.o.Notes = mortal{notes, dead}
		if at == "Uploads" { // the second time, when the object is complete
			n := 0
			b.hook = func(op, key string) error {
				if op == "Uploads" {
					if n++; n == 2 {
						dead.Store(true)
					}
				}
				if dead.Load() {
					return errors.New("dead")
				}
				return nil
			}
		}
		first.store(t.Context(), sized(edge, data), runs(t, data))
		b.hook = nil

		// Uploads that were removed meanwhile, of another prefix, of somebody else.
		j := &journal{s: first.Store, upload: uploadNote{Key: "pre/fix/gone/x", ID: "gone", Secret: []byte("secret")}, parts: map[int]partNote{}}
		elsewhere := &journal{s: first.Store, upload: uploadNote{Key: "else/x", ID: "u"}, parts: map[int]partNote{}}
		first.o.Notes = notes
		j.begin()
		j.part(partNote{Number: 1})
		elsewhere.begin()
		begun(t, b, "pre/fix/theirs", data)

		f := openOn(t, b, notes, nil)
		if _, err := f.store(t.Context(), store.Want{Edge: last, Path: "b"}, runs(t, streamOf(t, last, 10, 2))); err != nil {
			t.Fatal(err)
		}
		_, complete := b.objects[key]
		wantNotes := []string{elsewhere.upload.name()}
		wantUploads := 1
		if !complete {
			wantUploads++ // it can still be carried on
			for _, name := range notes.names() {
				if name != wantNotes[0] {
					wantNotes = append(wantNotes, name)
				}
			}
			if len(wantNotes) < 2 {
				t.Errorf("after %s: the note of the upload is gone", at)
			}
		} else if _, described := b.objects[manifestKey(key)]; !described {
			t.Errorf("after %s: the object has no manifest", at)
		}
		slices.Sort(wantNotes)
		if got := notes.names(); !slices.Equal(got, wantNotes) || slices.ContainsFunc(got, func(s string) bool { return s == j.upload.name() }) {
			t.Errorf("after %s: notes %q, want %q", at, got, wantNotes)
		}
		if len(b.uploads) != wantUploads {
			t.Errorf("after %s: %d uploads, want %d", at, len(b.uploads), wantUploads)
		}
	}
}

// A run that has nothing to store puts in order what others have left: uploads of
// a snapshot that has come there by another edge, ones of an object that is there
// and that were never noted, notes of parts without an upload. What a machine
// still needs stays.
// TestTidyUnnoted: an upload of which a run has died before it knew its name is
// dropped, and one that somebody had begun long before is not.
func TestTidyUnnoted(t *testing.T) {
	b, notes := newMemoryBucket(), newNotes()
	first := openOn(t, b, notes, nil)
	mine, theirs := "pre/fix/a/"+edgeName(snapshot.Edge{To: id(1)}, seal.Form{}), "pre/fix/b/"+edgeName(snapshot.Edge{To: id(2)}, seal.Form{})
	begun(t, b, theirs, []byte("some"))
	begun(t, b, mine, []byte("some"))
	began := b.uploadsOf(mine)[0].Begun
	first.now = func() time.Time { return began }
	first.intend(mine)
	first.now = func() time.Time { return began.Add(time.Hour) }
	first.intend(theirs)
	openOn(t, b, notes, nil).Tidy(t.Context())
	if len(b.uploadsOf(mine)) != 0 || len(b.uploadsOf(theirs)) != 1 || len(notes.all) != 0 {
		t.Errorf("%d and %d uploads are left, and the notes %q", len(b.uploadsOf(mine)), len(b.uploadsOf(theirs)), notes.names())
	}
}

func TestTidyAfterwards(t *testing.T) {
	full, again := snapshot.Edge{To: id(1)}, snapshot.Edge{To: id(1), From: id(2)}
	other, later := snapshot.Edge{To: id(2)}, snapshot.Edge{To: id(3)}
	b, notes := newMemoryBucket(), newNotes()
	f := openOn(t, b, notes, nil)
	for path, e := range map[string]snapshot.Edge{"a": full, "b": other} {
		if _, err := f.store(t.Context(), store.Want{Edge: e, Path: path}, runs(t, streamOf(t, e, 1000, 0))); err != nil {
			t.Fatal(err)
		}
	}
	f.Tidy(t.Context()) // there is nothing to do
	f.settled(t)
	keyOf := func(path string, e snapshot.Edge) string { return "pre/fix/" + path + "/" + edgeName(e, seal.Form{}) }
	for _, key := range []string{keyOf("a", again), keyOf("b", other), keyOf("c", later)} {
		begun(t, b, key, []byte("some"))
		at := b.uploadsOf(key)[0]
		j := &journal{s: f.Store, upload: uploadNote{Key: key, ID: at.ID, Begun: at.Begun, PartSize: 100_000}, parts: map[int]partNote{}}
		j.begin()
		j.part(partNote{Number: 1})
	}
	begun(t, b, keyOf("b", other), []byte("never noted"))
	orphan := &journal{s: f.Store, upload: uploadNote{Key: keyOf("d", later), ID: "orphan"}, parts: map[int]partNote{}}
	orphan.part(partNote{Number: 1})
	if len(notes.all) != 7 {
		t.Fatalf("notes %q", notes.names())
	}

	g := openOn(t, b, notes, nil)
	if _, err := g.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.Tidy(t.Context())
	if len(b.uploads) != 1 || len(b.uploadsOf(keyOf("c", later))) != 1 {
		t.Errorf("%d uploads are left", len(b.uploads))
	}
	for _, name := range notes.names() {
		if !strings.HasSuffix(name, " "+keyOf("c", later)) {
			t.Errorf("left: %q", name)
		}
	}
	if len(notes.all) != 2 {
		t.Errorf("notes %q", notes.names())
	}
}

// uploadsOf returns the unfinished uploads of a key.
func (b *memoryBucket) uploadsOf(key string) (all []Unfinished) {
	for at := range b.Uploads(context.Background(), key) {
		if at.Key == key {
			all = append(all, at)
		}
	}
	return all
}

// A manifest is not put beside an object that may be another one.
func TestNotTheirManifest(t *testing.T) {
	edge, last := snapshot.Edge{To: id(1)}, snapshot.Edge{To: id(2)}
	data := streamOf(t, edge, 300_000, 1)
	key := "pre/fix/a/" + edgeName(edge, seal.Form{})
	for i, o := range []memoryObject{
		{data: data[1:], tag: "x"}, {data: data, tag: "x"}, {data: data, tag: ""}, {},
	} {
		b, notes := newMemoryBucket(), newNotes()
		f := openOn(t, b, notes, nil)
		m := f.describe(&stored{Object: Object{Key: key, Size: int64(len(data))}, Edge: edge, Path: "a"})
		f.keepManifest(key, m, fmt.Sprint("guess", i))
		if o.data != nil {
			b.objects[key] = o
		}
		if _, err := f.store(t.Context(), store.Want{Edge: last, Path: "b"}, runs(t, streamOf(t, last, 10, 2))); err != nil {
			t.Fatal(err)
		}
		if _, there := b.objects[manifestKey(key)]; there {
			t.Errorf("%d: it has been put", i)
		}
		f.settled(t)
	}
}

// Notes that cannot be read or kept do not keep anything from being stored.
func TestNotesFail(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 300_000, 1)
	ways, keys := sealings(t)
	for name, sealing := range ways {
		f := openOn(t, newMemoryBucket(), nil, func(o *Options) { o.Seal, o.Keys, o.Notes = sealing, keys, noNotes{} })
		if _, err := f.store(t.Context(), sized(edge, data), runs(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.settled(t)
	}
}

type noNotes struct{}

func (noNotes) Notes(string) (map[string][]byte, error) { return nil, errors.New("no disk") }
func (noNotes) Keep(string, string, []byte) error       { return errors.New("no disk") }
func (noNotes) Forget(string, string) error             { return errors.New("no disk") }
