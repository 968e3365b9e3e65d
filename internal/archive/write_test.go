package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// id is a snapshot for tests.
func id(n byte) snapshot.ID { return snapshot.ID{0xea, n, 15: n} }

// streamOf makes a stream of an edge with about size bytes of data, which is half
// compressible.
func streamOf(t testing.TB, e snapshot.Edge, size int, seed uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stream.NewWriter(&b, 1)
	put := func(c *stream.Command) {
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	first := &stream.Command{Kind: stream.Subvol, Path: []byte("s"), UUID: e.To, Transid: 7}
	if !e.IsFull() {
		first.Kind, first.CloneUUID, first.CloneTransid = stream.Snapshot, e.From, 6
	}
	put(first)
	put(&stream.Command{Kind: stream.MkFile, Path: []byte("f"), Ino: 257})
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	data := make([]byte, 40<<10)
	for at := 0; at < size; at += len(data) {
		chunk := data[:min(len(data), size-at)]
		rng.Read(chunk[:len(chunk)/2])
		put(&stream.Command{Kind: stream.Write, Path: []byte("f"), FileOffset: uint64(at), Data: chunk})
	}
	put(&stream.Command{Kind: stream.End})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// runs cuts a stream into runs of whole commands.
func runs(t testing.TB, data []byte) [][]byte {
	t.Helper()
	var all [][]byte
	for r := stream.NewReader(bytes.NewReader(data)); ; {
		run, err := r.NextRunTo(r.Stats().Bytes + 50_000)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.Clone(run))
	}
}

// memoryNotes are notes in memory.
type memoryNotes struct {
	mu  sync.Mutex
	all map[string][]byte
}

func newNotes() *memoryNotes { return &memoryNotes{all: map[string][]byte{}} }

func (n *memoryNotes) Notes(place string) (map[string][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	got := map[string][]byte{}
	for k, v := range n.all {
		if name, ok := strings.CutPrefix(k, place+"\x00"); ok {
			got[name] = bytes.Clone(v)
		}
	}
	return got, nil
}

func (n *memoryNotes) Keep(place, name string, data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all[place+"\x00"+name] = bytes.Clone(data)
	return nil
}

func (n *memoryNotes) Forget(place, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, place+"\x00"+name)
	return nil
}

func (n *memoryNotes) names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for k := range n.all {
		_, name, _ := strings.Cut(k, "\x00")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// sealings are all the ways to seal that need no program, with the key that opens
// them.
func sealings(t testing.TB) (map[string]seal.Options, seal.Keys) {
	t.Helper()
	to, keys := ageKeys(t)
	return map[string]seal.Options{
		"plain":        {},
		"zstd":         {Compress: true},
		"age":          {Recipients: to},
		"zstd and age": {Compress: true, Recipients: to},
	}, keys
}

// tester is a test, of properties too.
type tester interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
}

// fixture is a store over a bucket, and what came of it.
type fixture struct {
	*Store
	b     *memoryBucket
	notes *memoryNotes
	log   *bytes.Buffer
}

// openOn opens a store over a bucket.
func openOn(t tester, b *memoryBucket, n *memoryNotes, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{b: b, notes: n, log: &bytes.Buffer{}}
	o := Options{Prefix: "pre/fix", PartSize: 100_000, Version: "1.2", Log: slog.New(slog.NewTextHandler(&locked{w: f.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if n != nil {
		o.Notes = n
	}
	if change != nil {
		change(&o)
	}
	s, err := Open(context.Background(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	f.Store = s
	return f
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// store stores a stream and tells how much was skipped.
func (f *fixture) store(ctx context.Context, want store.Want, all [][]byte) (skipped int64, err error) {
	w, err := f.Create(ctx, want)
	if err != nil {
		return 0, err
	}
	defer func() {
		skipped = w.(store.Skipper).Skipped()
		err = errors.Join(err, w.Close())
	}()
	for _, run := range all {
		if _, err := w.Write(run); err != nil {
			return 0, err
		}
	}
	return 0, w.Commit(ctx)
}

// read reads a stream back.
func (f *fixture) read(ctx context.Context, e snapshot.Edge) ([]byte, error) {
	in, err := f.Open(ctx, store.Request{Edge: e})
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(in)
	return data, errors.Join(err, in.Close())
}

// settled checks that nothing is left of uploads, in the bucket and in the notes.
func (f *fixture) settled(t tester) {
	t.Helper()
	if n := len(f.b.uploads); n > 0 {
		t.Errorf("%d unfinished uploads are left", n)
	}
	if f.notes != nil && len(f.notes.all) > 0 {
		t.Errorf("notes are left: %q", f.notes.names())
	}
	if f.budget.used != 0 || len(f.budget.wide) > 0 {
		t.Errorf("%d bytes are still reserved, %v", f.budget.used, f.budget.wide)
	}
}

func TestStoreAndRead(t *testing.T) {
	ways, keys := sealings(t)
	for name, sealing := range ways {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			full, next := snapshot.Edge{To: id(1)}, snapshot.Edge{To: id(2), From: id(1)}
			f := openOn(t, newMemoryBucket(), newNotes(), func(o *Options) { o.Seal, o.Keys = sealing, keys })
			for i, e := range []snapshot.Edge{full, next} {
				data := streamOf(t, e, 730_000*(1-i)+10, uint64(i))
				want := store.Want{Edge: e, Path: fmt.Sprintf("dir/%d", i), Size: snapshot.ExactSize(int64(len(data)))}
				if _, err := f.store(ctx, want, runs(t, data)); err != nil {
					t.Fatal(err)
				}
				f.settled(t)
				o := f.of(e)[0]
				wantKey := fmt.Sprintf("pre/fix/dir/%d/%s%s", i, edgeName(e, seal.Form{}), sealing.Form().Suffix())
				if o.Key != wantKey || !o.Described || o.Size != int64(len(f.b.objects[wantKey].data)) {
					t.Errorf("stored as %+v, want %s", o, wantKey)
				}
				m, err := f.manifest(ctx, o)
				if err != nil {
					t.Fatal(err)
				}
				object := f.b.objects[o.Key]
				st, ident, err := stream.Verify(bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				parts := int((o.Size + 99_999) / 100_000)
				wanted := &Manifest{
					Format: 1, To: e.To, From: e.From, Path: want.Path, Key: o.Key,
					Form:     ManifestForm{sealing.Form().Compressed, sealing.Form().Cipher},
					Protocol: 1,
					Plain:    Content{int64(len(data)), sha256.Sum256(data)},
					Object:   ObjectContent{o.Size, sha256.Sum256(object.data), object.tag},
					Stream:   StreamCount{st.Commands, st.DataBytes, st.Files, st.Dirs, st.Clones},
					Parts:    ManifestParts{100_000, parts}, ToTransid: ident.Transid, FromTransid: ident.ParentTransid,
					Created: m.Created, By: "buttersink 1.2",
				}
				if diff := cmp.Diff(wanted, m); diff != "" {
					t.Errorf("manifest (-want +got):\n%s", diff)
				}
				got, err := f.read(ctx, e)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("read back %d bytes of %d: %v", len(got), len(data), err)
				}
			}
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	ctx := t.Context()
	full := snapshot.Edge{To: id(1)}
	data := runs(t, streamOf(t, full, 1000, 0))
	f := openOn(t, newMemoryBucket(), nil, nil)
	if _, err := f.store(ctx, store.Want{Edge: full, Path: "a"}, data); err != nil {
		t.Fatal(err)
	}
	exists := func(err error) bool { _, ok := errors.AsType[*store.ExistsError](err); return ok }
	parent := func(err error) bool { _, ok := errors.AsType[*store.ParentError](err); return ok }
	large := func(err error) bool { _, ok := errors.AsType[*tooLargeError](err); return ok }
	for _, c := range []struct {
		name string
		want store.Want
		is   func(error) bool
	}{
		{"the same edge", store.Want{Edge: full, Path: "a"}, exists},
		{"another snapshot there", store.Want{Edge: snapshot.Edge{To: id(3)}, Path: "a"}, exists},
		{"no parent", store.Want{Edge: snapshot.Edge{To: id(3), From: id(9)}, Path: "b"}, parent},
		{"too large", store.Want{Edge: snapshot.Edge{To: id(3)}, Path: "b", Size: snapshot.ExactSize(6 << 40)}, large},
		{"bad path", store.Want{Edge: snapshot.Edge{To: id(3)}, Path: "../b"}, func(err error) bool { return err != nil }},
	} {
		w, err := f.Create(ctx, c.want)
		if !c.is(err) || w != nil {
			t.Errorf("%s: %v, %v", c.name, w, err)
		}
		t.Log(err)
	}
	// What is there is seen without a listing too: the same stream may come again,
	// and no byte of it is stored; another one may not.
	other := openOn(t, f.b, nil, nil)
	f.b.calls = map[string]int{}
	if _, err := other.store(ctx, store.Want{Edge: full, Path: "a"}, data); err != nil || f.b.calls["Part"] > 0 {
		t.Errorf("what somebody else has stored meanwhile: %v, %v", err, f.b.calls)
	}
	third := openOn(t, f.b, nil, nil)
	if _, err := third.store(ctx, store.Want{Edge: full, Path: "a"}, runs(t, streamOf(t, full, 1000, 7))); !exists(err) {
		t.Errorf("another stream over what somebody else has stored: %v", err)
	}
	if w, err := other.Create(ctx, store.Want{Edge: snapshot.Edge{To: id(2), From: id(1)}, Path: "b"}); err != nil {
		t.Errorf("with a parent that was not listed: %v", err)
	} else if err := w.Close(); err != nil {
		t.Error(err)
	}
	f.b.calls = map[string]int{}
	strict := openOn(t, f.b, nil, func(o *Options) { o.RequireEncryption = true })
	if _, err := strict.Create(ctx, store.Want{Edge: snapshot.Edge{To: id(5)}, Path: "c"}); err == nil || f.b.calls["Begin"] > 0 {
		t.Errorf("a plain stream where encryption is required: %v, %v", err, f.b.calls)
	}
	f.settled(t)
}

// A stream that is not what was announced leaves nothing behind.
func TestBadStreams(t *testing.T) {
	ctx := t.Context()
	e := snapshot.Edge{To: id(1)}
	good := runs(t, streamOf(t, e, 300_000, 0))
	for name, all := range map[string][][]byte{
		"another edge":   runs(t, streamOf(t, snapshot.Edge{To: id(2)}, 300_000, 0)),
		"an increment":   runs(t, streamOf(t, snapshot.Edge{To: id(1), From: id(4)}, 300_000, 0)),
		"no end":         good[:len(good)-1],
		"nothing":        nil,
		"more after end": append(slices.Clone(good), good[len(good)-1]),
		"no stream":      {[]byte("this is no stream")},
	} {
		f := openOn(t, newMemoryBucket(), nil, nil)
		if _, err := f.store(ctx, store.Want{Edge: e, Path: "a", Fresh: true}, all); err == nil {
			t.Errorf("%s was stored", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		if len(f.b.objects) > 0 {
			t.Errorf("%s: left %v", name, f.b.keys)
		}
	}
}

// Errors of the bucket come through as what they are.
func TestBucketErrors(t *testing.T) {
	ctx := t.Context()
	e := snapshot.Edge{To: id(1)}
	all := runs(t, streamOf(t, e, 450_000, 0))
	for _, op := range []string{"Stat", "Begin", "Part", "Complete"} {
		for name, wrong := range map[string]error{
			"denied":    &DeniedError{Bucket: "mem", Action: op, Err: errors.New("no")},
			"temporary": store.MarkTemporary(errors.New("try again")),
		} {
			f := openOn(t, newMemoryBucket(), nil, nil)
			f.b.hook = func(o, _ string) error {
				if o == op {
					return wrong
				}
				return nil
			}
			_, err := f.store(ctx, store.Want{Edge: e, Path: "a"}, all)
			if !errors.Is(err, wrong) || store.Temporary(err) != (name == "temporary") {
				t.Errorf("%s %s: %v", op, name, err)
			}
			if f.budget.used != 0 {
				t.Errorf("%s %s: %d bytes are still reserved", op, name, f.budget.used)
			}
			f.b.hook = nil
			if _, err := f.store(ctx, store.Want{Edge: e, Path: "a"}, all); err != nil {
				t.Errorf("%s %s, again: %v", op, name, err)
			}
			f.settled(t)
		}
	}
	// A manifest that cannot be put is no failure; the next run adds it.
	n := newNotes()
	f := openOn(t, newMemoryBucket(), n, nil)
	f.b.hook = func(op, _ string) error {
		if op == "Put" {
			return errors.New("no space")
		}
		return nil
	}
	if _, err := f.store(ctx, store.Want{Edge: e, Path: "a"}, all); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(f.log.String(), "manifest is not") || len(n.all) != 1 {
		t.Errorf("notes %q, log %s", n.names(), f.log)
	}
	f.b.hook = nil
	f = openOn(t, f.b, n, nil)
	if _, err := f.store(ctx, store.Want{Edge: snapshot.Edge{To: id(2)}, Path: "b"}, runs(t, streamOf(t, snapshot.Edge{To: id(2)}, 10, 0))); err != nil {
		t.Fatal(err)
	}
	f.settled(t)
	if _, err := f.manifest(ctx, &stored{Object: Object{Key: f.canonical("a", e, seal.Form{})}, Edge: e}); err != nil {
		t.Errorf("the manifest that was owed: %v", err)
	}
}

// ageKeys are a recipient, and the key that opens what is encrypted for it. It
// protects nothing.
func ageKeys(t testing.TB) ([]seal.Recipient, seal.Keys) {
	t.Helper()
	const (
		public = "age1kufsg64k4rajafa0uys8gud48mperg72vmmgsejuw8ep8yzkvsmqtlmn0g"
		secret = "AGE-SECRET-KEY-1GL2QMF942DAG7K2PDQZL5L2M4MCRQ6K04LRGTNY58C7KULEJWEXQVA62LD"
	)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipients([]string{"age:" + public})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.LoadKeys([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	return to, keys
}
