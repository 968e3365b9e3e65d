package archive

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// mortal are notes that change no more when the process is dead.
type mortal struct {
	*memoryNotes
	dead *atomic.Bool
}

func (m mortal) Keep(place, name string, data []byte) error {
	if m.dead.Load() {
		return errors.New("dead")
	}
	return m.memoryNotes.Keep(place, name, data)
}

func (m mortal) Forget(place, name string) error {
	if m.dead.Load() {
		return errors.New("dead")
	}
	return m.memoryNotes.Forget(place, name)
}

// killAfter has the process die after n calls of the bucket: nothing that it
// still does has any effect.
func killAfter(b *memoryBucket, n int64) *atomic.Bool {
	dead := new(atomic.Bool)
	var calls atomic.Int64
	b.hook = func(string, string) error {
		if calls.Add(1) > n {
			dead.Store(true)
			return errors.New("dead")
		}
		return nil
	}
	return dead
}

// However often an upload is killed, and wherever, the next runs carry it on: in
// the end the object is the stream, parts that were there have not been stored
// again, and nothing is left over.
func TestKilledUploads(t *testing.T) {
	ways, keys := sealings(t)
	names := slices.Sorted(maps.Keys(ways))
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 600_000, 1)
	all := runs(t, data)
	skippedAtAll := false
	rapid.Check(t, func(t *rapid.T) {
		sealing := ways[rapid.SampledFrom(names).Draw(t, "form")]
		b, notes := newMemoryBucket(), newNotes()
		want := store.Want{Edge: edge, Path: "a", Size: rapid.SampledFrom([]snapshot.Size{
			{}, snapshot.ExactSize(int64(len(data))), snapshot.AboutSize(10), snapshot.AboutSize(1 << 30),
		}).Draw(t, "size")}
		for range rapid.IntRange(1, 4).Draw(t, "kills") {
			dead := killAfter(b, int64(rapid.IntRange(1, 25).Draw(t, "calls")))
			f := openOn(t, b, notes, func(o *Options) {
				o.Seal, o.Keys, o.Notes = sealing, keys, mortal{notes, dead}
				o.PartSize = rapid.Int64Range(20_000, 150_000).Draw(t, "part size")
			})
			f.store(context.Background(), want, all)
			if f.budget.used != 0 {
				t.Fatalf("%d bytes are still reserved", f.budget.used)
			}
		}
		b.hook = nil
		stored := int64(0)
		for _, u := range b.uploads {
			for _, p := range u.parts {
				stored += int64(len(p.data))
			}
		}
		key := "pre/fix/a/" + edgeName(edge, sealing.Form())
		_, done := b.objects[key]
		before := b.calls["Part"]
		f := openOn(t, b, notes, func(o *Options) { o.Seal, o.Keys = sealing, keys })
		skipped, err := f.store(context.Background(), want, all)
		if _, exists := errors.AsType[*store.ExistsError](err); done && exists {
			err = nil
			if _, err := f.List(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		f.settled(t)
		if len(b.objects) != 2 {
			t.Fatalf("the bucket has %v", slices.Sorted(maps.Keys(b.objects)))
		}
		if o := f.of(edge); len(o) != 1 || !o[0].Described {
			t.Fatalf("stored as %+v", o)
		}
		got, err := f.read(context.Background(), edge)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("read back %d bytes of %d: %v", len(got), len(data), err)
		}
		if stored > 0 && !done {
			if skipped == 0 || !strings.Contains(f.log.String(), "Skipping already uploaded") {
				t.Fatalf("%d bytes were stored before, and %d skipped (%d parts put)\n%s", stored, skipped, b.calls["Part"]-before, f.log)
			}
			skippedAtAll = true
		}
	})
	if !skippedAtAll {
		t.Error("no part was ever skipped")
	}
}

// What a run has stored that ended in an orderly way is carried on, and Skipped
// tells how much; what it stored does not go over the net again.
func TestAbandonedUploads(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 900_000, 1)
	all := runs(t, data)
	for name, sealing := range ways {
		b, notes := newMemoryBucket(), newNotes()
		change := func(o *Options) { o.Seal, o.Keys = sealing, keys }
		f := openOn(t, b, notes, change)
		b.hook = func(op, _ string) error {
			if op == "Part" && b.calls["Part"] > 3 {
				return store.MarkTemporary(errors.New("the line is cut"))
			}
			return nil
		}
		if _, err := f.store(t.Context(), sized(edge, data), all); !store.Temporary(err) {
			t.Fatalf("%s: %v", name, err)
		}
		if len(b.uploads) != 1 || len(notes.all) == 0 {
			t.Fatalf("%s: %d uploads are left, notes %q", name, len(b.uploads), notes.names())
		}
		b.hook = nil
		b.calls["Part"] = 0
		f = openOn(t, b, notes, func(o *Options) { change(o); o.PartSize = 77_777 })
		skipped, err := f.store(t.Context(), sized(edge, data), all)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.settled(t)
		size := f.of(edge)[0].Size
		if skipped != 300_000 || int64(b.calls["Part"]) != (size-300_000+99_999)/100_000 {
			t.Errorf("%s: skipped %d bytes, put %d parts of %d bytes", name, skipped, b.calls["Part"], size)
		}
		if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read back %d bytes of %d: %v", name, len(got), len(data), err)
		}
	}
}

// begun makes an upload with parts as another program has left it.
func begun(t testing.TB, b *memoryBucket, key string, parts ...[]byte) {
	t.Helper()
	u, err := b.Begin(t.Context(), key, UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		if p == nil {
			continue
		}
		if _, err := u.Put(t.Context(), i+1, bodyOf(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// chunks cuts data as the old program does.
func chunks(data []byte, size int) (all [][]byte) {
	for c := range slices.Chunk(data, size) {
		all = append(all, c)
	}
	return all
}

// Uploads that others have left are carried on where that is of use, and never
// spliced with what does not belong there.
func TestUploadsOfOthers(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 950_000, 1)
	other := streamOf(t, edge, 950_000, 2)
	key := "pre/fix/a/" + edgeName(edge, seal.Form{})
	cut := chunks(data, 120_000)
	for _, c := range []struct {
		name    string
		parts   [][]byte
		skipped int
		log     string
	}{
		{"all but the last", cut[:len(cut)-1], (len(cut) - 1) * 120_000, "part #1"},
		{"all", cut, len(data), "part #8"},
		{"a gap", [][]byte{cut[0], nil, cut[2], nil, cut[4]}, 360_000, "part #5"},
		{"surplus parts", append(slices.Clone(cut), cut[0]), len(data), "part #8"}, // a shorter stream before a longer one
		{"a surplus part", append(slices.Clone(cut[:3]), nil, nil, nil, nil, nil, cut[3]), 360_000, "part #3"},
		{"another stream", chunks(other, 120_000)[:3], 0, "not the one that was interrupted: from part #1"},
		{"from the middle on another", append(slices.Clone(cut[:2]), chunks(other, 120_000)[2:5]...), 240_000, "from part #3"},
		{"one part of the usual length", chunks(data, 100_000)[:1], 100_000, "part #1"},
		{"one part of any length", chunks(data, 123_456)[:1], 0, ""},
		{"parts that are too short", chunks(data, 900)[:4], 0, ""},
		{"no parts", nil, 0, ""},
	} {
		b := newMemoryBucket()
		b.limits.MinPart = 1000
		begun(t, b, key, c.parts...)
		begun(t, b, key+"x", cut...)
		f := openOn(t, b, newNotes(), nil)
		skipped, err := f.store(t.Context(), sized(edge, data), runs(t, data))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if skipped != int64(c.skipped) || !strings.Contains(f.log.String(), c.log) {
			t.Errorf("%s: skipped %d bytes, want %d; log %s", c.name, skipped, c.skipped, f.log)
		}
		if got := b.objects[key].data; !bytes.Equal(got, data) {
			t.Errorf("%s: the object has %d bytes, and is not the stream of %d", c.name, len(got), len(data))
		}
		if len(b.uploads) != 1 {
			t.Errorf("%s: %d uploads, want the one of another key", c.name, len(b.uploads))
		}
		if len(f.notes.all) > 0 {
			t.Errorf("%s: notes are left: %q", c.name, f.notes.names())
		}
	}
}

// The one of several uploads that has the most is carried on; sealed ones of
// others never are, and with Fresh none is.
func TestWhichUpload(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 950_000, 1)
	cut := chunks(data, 100_000)
	for name, c := range map[string]struct {
		sealing seal.Options
		fresh   bool
		skipped int64
	}{
		"plain": {seal.Options{}, false, 500_000}, "fresh": {seal.Options{}, true, 0}, "sealed": {seal.Options{Compress: true}, false, 0},
	} {
		b := newMemoryBucket()
		key := "pre/fix/a/" + edgeName(edge, c.sealing.Form())
		for _, n := range []int{2, 5, 1} {
			begun(t, b, key, cut[:n]...)
		}
		f := openOn(t, b, newNotes(), func(o *Options) { o.Seal = c.sealing })
		skipped, err := f.store(t.Context(), store.Want{Edge: edge, Path: "a", Size: snapshot.ExactSize(int64(len(data))), Fresh: c.fresh}, runs(t, data))
		if err != nil || skipped != c.skipped {
			t.Errorf("%s: skipped %d, want %d: %v", name, skipped, c.skipped, err)
		}
		f.settled(t)
		if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read back %d bytes of %d: %v", name, len(got), len(data), err)
		}
	}
}

// kmsBucket gives tags that are no MD5 of parts.
type kmsBucket struct{ *memoryBucket }

type kmsUpload struct{ Upload }

func kmsTag(tag string) string {
	sum := md5.Sum([]byte(tag))
	return hex.EncodeToString(sum[:])
}

func (b kmsBucket) Begin(ctx context.Context, key string, o UploadOptions) (Upload, error) {
	u, err := b.memoryBucket.Begin(ctx, key, o)
	return kmsUpload{u}, err
}

func (b kmsBucket) Continue(ctx context.Context, at Unfinished) (Upload, error) {
	u, err := b.memoryBucket.Continue(ctx, at)
	return kmsUpload{u}, err
}

func (u kmsUpload) Parts(ctx context.Context) ([]Part, error) {
	parts, err := u.Upload.Parts(ctx)
	for i := range parts {
		parts[i].Tag = kmsTag(parts[i].Tag)
	}
	return parts, err
}

func (u kmsUpload) Put(ctx context.Context, n int, body Body) (Part, error) {
	p, err := u.Upload.Put(ctx, n, body)
	p.Tag = kmsTag(p.Tag)
	return p, err
}

func (u kmsUpload) Complete(ctx context.Context, parts []Part) (Object, error) {
	there, err := u.Upload.Parts(ctx)
	if err != nil {
		return Object{}, err
	}
	for i, p := range parts {
		for _, q := range there {
			if q.Number == p.Number && kmsTag(q.Tag) == p.Tag {
				parts[i].Tag = q.Tag
			}
		}
	}
	return u.Upload.Complete(ctx, parts)
}

// Where tags say nothing of the content, the notes do.
func TestForeignTags(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 950_000, 1)
	for _, withNotes := range []bool{true, false} {
		b, notes := newMemoryBucket(), newNotes()
		b.hook = func(op, _ string) error {
			if op == "Part" && b.calls["Part"] > 4 {
				return errors.New("the line is cut")
			}
			return nil
		}
		open := func() *fixture {
			f := openOn(t, b, notes, nil)
			f.bucket = kmsBucket{b}
			if !withNotes {
				f.o.Notes = nil
			}
			return f
		}
		if _, err := open().store(t.Context(), sized(edge, data), runs(t, data)); err == nil {
			t.Fatal("the line was not cut")
		}
		b.hook = nil
		f := open()
		skipped, err := f.store(t.Context(), sized(edge, data), runs(t, data))
		if want := map[bool]int64{true: 400_000}[withNotes]; err != nil || skipped != want {
			t.Errorf("notes %v: skipped %d, want %d: %v", withNotes, skipped, want, err)
		}
		f.settled(t)
		if !bytes.Equal(b.objects["pre/fix/a/"+edgeName(edge, seal.Form{})].data, data) {
			t.Error("the object is not the stream")
		}
	}
}

// With the keys of an interrupted upload nothing else is ever encrypted than what
// it began with: a stream that differs begins anew, and the next try succeeds.
func TestDifferentStreamEncrypted(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data, other := streamOf(t, edge, 950_000, 1), streamOf(t, edge, 950_000, 2)
	for name, sealing := range ways {
		b, notes := newMemoryBucket(), newNotes()
		change := func(o *Options) { o.Seal, o.Keys = sealing, keys }
		b.hook = func(op, _ string) error {
			if op == "Part" && b.calls["Part"] > 2 {
				return errors.New("the line is cut")
			}
			return nil
		}
		if _, err := openOn(t, b, notes, change).store(t.Context(), sized(edge, data), runs(t, data)); err == nil {
			t.Fatal("the line was not cut")
		}
		b.hook = nil
		b.calls["Part"] = 0
		f := openOn(t, b, notes, change)
		_, err := f.store(t.Context(), sized(edge, data), runs(t, other))
		if sealing.Form().Cipher != seal.None {
			if !store.Temporary(err) || !errors.Is(err, errAgain) || b.calls["Part"] > 0 {
				t.Errorf("%s: %v, after %d parts", name, err, b.calls["Part"])
			}
			f.settled(t)
			_, err = f.store(t.Context(), sized(edge, data), runs(t, other))
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.settled(t)
		if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, other) {
			t.Errorf("%s: read back %d bytes of %d: %v", name, len(got), len(other), err)
		}
	}
}

// Other recipients, or another level: what is there cannot be made again.
func TestOtherWishes(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 950_000, 1)
	b, notes := newMemoryBucket(), newNotes()
	b.hook = func(op, _ string) error {
		if op == "Part" && b.calls["Part"] > 2 {
			return errors.New("the line is cut")
		}
		return nil
	}
	sealing := ways["zstd and age"]
	if _, err := openOn(t, b, notes, func(o *Options) { o.Seal = sealing }).store(t.Context(), sized(edge, data), runs(t, data)); err == nil {
		t.Fatal("the line was not cut")
	}
	b.hook = nil
	sealing.Level = 9
	f := openOn(t, b, notes, func(o *Options) { o.Seal, o.Keys = sealing, keys })
	if skipped, err := f.store(t.Context(), sized(edge, data), runs(t, data)); err != nil || skipped != 0 {
		t.Errorf("skipped %d: %v", skipped, err)
	}
	f.settled(t)
	if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back %d bytes of %d: %v", len(got), len(data), err)
	}
}

func TestNamesOfNotes(t *testing.T) {
	s := openOn(t, newMemoryBucket(), newNotes(), nil)
	for i, key := range []string{"a", "b a", "0 a", "x 0 a"} {
		j := &journal{s: s.Store, upload: uploadNote{Key: key, ID: fmt.Sprint("u", i)}, parts: map[int]partNote{}}
		if !j.begin() {
			t.Fatal("not noted")
		}
		for n := range 2*partsInNote + 1 {
			j.part(partNote{Number: n + 1, Prefix: Hash{byte(n)}, Tag: key})
		}
	}
	all := s.recall("a")
	if len(all) != 1 || len(all["u0"].parts) != 2*partsInNote+1 || all["u0"].parts[65] != (partNote{65, Hash{64}, "a"}) {
		t.Errorf("recalled %+v", all)
	}
	s.forgetUploads("a", "")
	if got := s.notes.names(); len(got) != 3*4 {
		t.Errorf("after forgetting one upload: %q", got)
	}
	s.forgetUploads("0 a", "u2")
	if got := s.notes.names(); len(got) != 2*4 {
		t.Errorf("after forgetting two: %q", got)
	}
}

// sized wants a stream at the path a, and knows its length.
func sized(e snapshot.Edge, data []byte) store.Want {
	return store.Want{Edge: e, Path: "a", Size: snapshot.ExactSize(int64(len(data)))}
}

func bodyOf(data []byte) Body {
	return Body{ReadSeeker: bytes.NewReader(data), Size: int64(len(data)), CRC32C: crc32.Checksum(data, castagnoli)}
}
