package archive

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// cutAfter has the line cut after a number of parts, and returns the error of
// whoever stores them.
func cutAfter(t *testing.T, f *fixture, parts int, data []byte, e snapshot.Edge) {
	t.Helper()
	n := 0
	f.b.hook = func(op, _ string) error {
		if op == "Part" {
			f.b.mu.Lock()
			n++
			over := n > parts
			f.b.mu.Unlock()
			if over {
				return store.MarkTemporary(errors.New("the line is cut"))
			}
		}
		return nil
	}
	if _, err := f.store(t.Context(), sized(e, data), runs(t, data)); !store.Temporary(err) {
		t.Fatalf("the line was not cut: %v", err)
	}
	f.b.hook = nil
}

// An upload that is carried on stays for the next run, even if this one is over
// before it has come to the first part.
func TestCarriedOnInVain(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 900_000, 1)
	for name, sealing := range ways {
		b, notes := newMemoryBucket(), newNotes()
		open := func() *fixture {
			return openOn(t, b, notes, func(o *Options) { o.Seal, o.Keys = sealing, keys })
		}
		cutAfter(t, open(), 3, data, edge)
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			w, err := open().Create(ctx, sized(edge, data))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			cancel()
			if err := w.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		f := open()
		skipped, err := f.store(t.Context(), sized(edge, data), runs(t, data))
		if err != nil || skipped != 300_000 {
			t.Errorf("%s: skipped %d: %v", name, skipped, err)
		}
		f.settled(t)
	}
}

// An object of which the answer to Complete was lost is ours when the same writer
// is asked for again, and gets its manifest.
func TestCompleteUnansweredTwice(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 300_000, 1)
	for name, sealing := range ways {
		b := newMemoryBucket()
		f := openOn(t, b, newNotes(), func(o *Options) { o.Seal, o.Keys = sealing, keys })
		f.bucket = deafBucket{b}
		completed := false
		b.hook = func(op, key string) error {
			completed = completed || op == "Complete"
			if completed && op == "Stat" {
				return store.MarkTemporary(errors.New("the line is cut"))
			}
			return nil
		}
		if _, err := f.store(t.Context(), sized(edge, data), runs(t, data)); !store.Temporary(err) {
			t.Fatalf("%s: %v", name, err)
		}
		b.hook, f.bucket = nil, b
		w, err := f.Create(t.Context(), sized(edge, data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.(*writer).wait = 0
		for _, run := range runs(t, data) {
			if _, err := w.Write(run); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Commit(t.Context()), w.Close()); err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
		f.settled(t)
		if o := f.of(edge); len(o) != 1 || !o[0].Described {
			t.Errorf("%s: stored as %+v", name, o)
		}
	}
}

// failingNotes keep nothing any more from some time on.
type failingNotes struct {
	*memoryNotes
	full, stuck bool
}

func (n *failingNotes) Keep(place, name string, data []byte) error {
	if n.full && strings.HasPrefix(name, noteParts) {
		return errors.New("no space left")
	}
	return n.memoryNotes.Keep(place, name, data)
}

func (n *failingNotes) Forget(place, name string) error {
	if n.stuck {
		return errors.New("no space left")
	}
	return n.memoryNotes.Forget(place, name)
}

// What is encrypted never leaves the machine unnoted as long as the keys are
// noted: another stream could be encrypted with them later.
func TestUnnotedPartsEncrypted(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 900_000, 1)
	for _, stuck := range []bool{false, true} {
		b, notes := newMemoryBucket(), &failingNotes{memoryNotes: newNotes(), full: true, stuck: stuck}
		f := openOn(t, b, notes.memoryNotes, func(o *Options) { o.Seal, o.Keys, o.Notes = ways["age"], keys, notes })
		b.hook = func(op, _ string) error {
			if op == "Part" {
				for _, name := range notes.names() {
					if strings.HasPrefix(name, noteUpload) {
						t.Errorf("stuck %v: a part is sent that is not noted, and %q is", stuck, name)
					}
				}
			}
			return nil
		}
		_, err := f.store(t.Context(), sized(edge, data), runs(t, data))
		if stuck == (err == nil) {
			t.Errorf("stuck %v: %v", stuck, err)
		}
		if !stuck {
			f.settled(t)
			if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read back %d bytes of %d: %v", len(got), len(data), err)
			}
		}
	}
}

// A part that was stored, but of which the answer was lost, is stored again where
// its tag does not tell what it is: it was noted what it was to be.
func TestForeignTagsEncrypted(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 950_000, 1)
	b, notes := newMemoryBucket(), newNotes()
	open := func() *fixture {
		f := openOn(t, b, notes, func(o *Options) { o.Seal, o.Keys = ways["age"], keys })
		f.bucket = kmsBucket{b}
		return f
	}
	cutAfter(t, open(), 4, data, edge)
	key := "pre/fix/a/" + edgeName(edge, seal.Form{Cipher: seal.Age})
	for at, j := range open().recall(key) {
		for n, p := range j.parts {
			if p.Tag != "" {
				p.Tag = ""
				j.part(p)
				t.Logf("part %d of %s has been sent, as far as is known", n, at)
				break
			}
		}
	}
	f := open()
	skipped, err := f.store(t.Context(), sized(edge, data), runs(t, data))
	if err != nil || skipped != 300_000 {
		t.Errorf("skipped %d: %v", skipped, err)
	}
	f.settled(t)
	if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back %d bytes of %d: %v", len(got), len(data), err)
	}
}

// met makes a writer that finds at its end that somebody else has stored an
// object, with a manifest beside it.
func met(t *testing.T, f *fixture, data, theirs []byte, change func(m *Manifest)) *writer {
	t.Helper()
	edge := snapshot.Edge{To: id(1)}
	w, err := f.Create(t.Context(), sized(edge, data))
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs(t, data) {
		if _, err := w.Write(run); err != nil {
			t.Fatal(err)
		}
	}
	other := openOn(t, f.b, nil, nil)
	if _, err := other.store(t.Context(), sized(edge, theirs), runs(t, theirs)); err != nil {
		t.Fatal(err)
	}
	o := other.of(edge)[0]
	m, err := other.manifest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	if err := other.putManifest(t.Context(), o.Key, m); err != nil {
		t.Fatal(err)
	}
	w.(*writer).wait = 0
	return w.(*writer)
}

// A manifest that is about another object than the one that is there proves
// nothing, and one that cannot be read now is not a missing one.
func TestLostWithoutProof(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data, other := streamOf(t, edge, 300_000, 1), streamOf(t, edge, 400_000, 2)
	ours := openOn(t, newMemoryBucket(), nil, nil)
	if _, err := ours.store(t.Context(), sized(edge, data), runs(t, data)); err != nil {
		t.Fatal(err)
	}
	stale, err := ours.manifest(t.Context(), ours.of(edge)[0])
	if err != nil {
		t.Fatal(err)
	}
	f := openOn(t, newMemoryBucket(), newNotes(), nil)
	w := met(t, f, data, other, func(m *Manifest) { *m = *stale })
	err = w.Commit(t.Context())
	if _, exists := errors.AsType[*store.ExistsError](err); !exists {
		t.Errorf("with a manifest of another object: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	f.settled(t)

	for _, why := range []error{store.MarkTemporary(errors.New("the line is cut")), &DeniedError{Bucket: "b", Action: "s3:GetObject", Err: errors.New("no")}} {
		f := openOn(t, newMemoryBucket(), newNotes(), nil)
		w := met(t, f, data, data, func(*Manifest) {})
		f.b.hook = func(op, _ string) error {
			if op == "Get" {
				return why
			}
			return nil
		}
		if err := w.Commit(t.Context()); !errors.Is(err, why) || store.Temporary(err) != store.Temporary(why) {
			t.Errorf("%v: %v", why, err)
		}
		f.b.hook = nil
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What this machine has noted of an object takes the place of a manifest that is
// about another one.
func TestStaleManifest(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data, other := streamOf(t, edge, 300_000, 1), streamOf(t, edge, 300_000, 2)
	b, notes := newMemoryBucket(), newNotes()
	f := openOn(t, b, notes, nil)
	key := "pre/fix/a/" + edgeName(edge, seal.Form{})
	if _, err := f.store(t.Context(), sized(edge, other), runs(t, other)); err != nil {
		t.Fatal(err)
	}
	// The object is removed, its manifest stays, and the next run dies before it
	// puts its own.
	delete(b.objects, key)
	b.keys = nil
	f = openOn(t, b, notes, nil)
	dead := false
	f.o.Notes = noForgetting{notes, &dead}
	b.hook = func(op, _ string) error {
		if op == "Put" {
			dead = true
		}
		if dead {
			return errors.New("dead")
		}
		return nil
	}
	f.store(t.Context(), sized(edge, data), runs(t, data))
	b.hook = nil
	f = openOn(t, b, notes, nil)
	f.Tidy(t.Context())
	if _, err := f.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back %d bytes of %d: %v", len(got), len(data), err)
	}
	f.settled(t)
}

// noForgetting are notes of a process that may be dead.
type noForgetting struct {
	*memoryNotes
	dead *bool
}

func (n noForgetting) Forget(place, name string) error {
	if *n.dead {
		return errors.New("dead")
	}
	return n.memoryNotes.Forget(place, name)
}

// longBucket says that parts are much longer than they are.
type longBucket struct {
	*memoryBucket
	part int64
}

type longUpload struct {
	Upload
	part int64
}

func (b longBucket) Continue(ctx context.Context, at Unfinished) (Upload, error) {
	u, err := b.memoryBucket.Continue(ctx, at)
	return longUpload{u, b.part}, err
}

func (u longUpload) Parts(ctx context.Context) ([]Part, error) {
	parts, err := u.Upload.Parts(ctx)
	for i := range parts {
		parts[i].Size = u.part
	}
	return parts, err
}

// An upload whose parts take much more memory than was asked for is not carried
// on; that of a run with the usual length is.
func TestLongParts(t *testing.T) {
	const mib = 1 << 20
	edge := snapshot.Edge{To: id(1)}
	for _, c := range []struct {
		asked, there int64
		carried      bool
	}{
		{5 * mib, 5 * mib, true},
		{5 * mib, 100 * mib, true},
		{5 * mib, 101 * mib, false},
		{100 * mib, 200 * mib, true}, // an estimate that has grown
		{100 * mib, 1 << 30, false},
		{1 << 30, 1 << 30, true},
	} {
		b := newMemoryBucket()
		begun(t, b, "pre/fix/a/"+edgeName(edge, seal.Form{}), []byte("some"), []byte("more"))
		f := openOn(t, b, nil, func(o *Options) { o.PartSize = c.asked })
		f.bucket = longBucket{b, c.there}
		w, err := f.Create(t.Context(), store.Want{Edge: edge, Path: "a", Size: snapshot.ExactSize(10)})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.(*writer).up.carried; got != c.carried {
			t.Errorf("parts of %d MiB, asked for %d: carried on: %v", c.there/mib, c.asked/mib, got)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Two runs of one machine that carry on one upload at a time never encrypt
// different bytes with its keys.
func TestTwoStreamsOneSecret(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data, other := streamOf(t, edge, 3_000_000, 1), streamOf(t, edge, 2_960_000, 1) // alike up to the end
	b, notes := newMemoryBucket(), newNotes()
	open := func() *fixture {
		return openOn(t, b, notes, func(o *Options) { o.Seal, o.Keys = ways["age"], keys })
	}
	first, err := open().Create(t.Context(), sized(edge, data))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for _, run := range runs(t, data) {
		if _, err := first.Write(run); err != nil {
			t.Fatal(err)
		}
	}
	for first.(*writer).count.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	f := open()
	second, err := f.Create(t.Context(), sized(edge, other))
	if err != nil {
		t.Fatal(err)
	}
	if !second.(*writer).up.carried {
		t.Fatal("the upload is not carried on")
	}
	if err := first.(*writer).finish(); err != nil {
		t.Fatal(err)
	}
	last := first.(*writer).cutter.number
	was := first.(*writer).up.all()[last-1].Tag
	for _, run := range runs(t, other) {
		if _, err = second.Write(run); err != nil {
			break
		}
	}
	if err == nil {
		err = second.(*writer).finish()
	}
	if !store.Temporary(err) || !errors.Is(err, errAgain) {
		t.Errorf("another stream with the same keys: %v", err)
	}
	for _, u := range b.uploads {
		if now := u.parts[last].tag; now != was {
			t.Errorf("part %d has been encrypted with the same keys from other bytes", last)
		}
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	f.settled(t)
}
