package archive_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/archive/s3"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestContract holds archives in a directory to the contract of stores.
func TestContract(t *testing.T) {
	to, keys := pair(t)
	for name, o := range map[string]archive.Options{
		"plain":      {},
		"prefix":     {Prefix: "some/where"},
		"compressed": {Seal: seal.Options{Compress: true}},
		"encrypted":  {Seal: seal.Options{Recipients: to}, Keys: keys, RequireEncryption: true},
		"both":       {Seal: seal.Options{Compress: true, Recipients: to}, Keys: keys, Prefix: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, harness(o, 16<<10, func(t testing.TB) func(t testing.TB) archive.Bucket {
				t.Helper()
				path := t.TempDir()
				return func(t testing.TB) archive.Bucket {
					t.Helper()
					b, err := dir.Open(path, dir.Options{})
					if err != nil {
						t.Fatal(err)
					}
					return b
				}
			}))
		})
	}
}

// TestContractOnS3 does so for archives on a real server.
func TestContractOnS3(t *testing.T) {
	server := s3test.Start(t)
	to, keys := pair(t)
	o := archive.Options{Seal: seal.Options{Compress: true, Recipients: to}, Keys: keys, Prefix: "some/where"}
	storetest.Run(t, harness(o, 0, func(t testing.TB) func(t testing.TB) archive.Bucket {
		t.Helper()
		bucket := server.Bucket(t)
		return func(t testing.TB) archive.Bucket {
			t.Helper()
			b, err := s3.Open(t.Context(), s3.Options{Bucket: bucket, Endpoint: server.Endpoint, PathStyle: true, Getenv: environment(server)})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}))
}

// environment is that of a program which may use a server, and nothing else.
func environment(server *s3test.Server) func(string) string {
	return func(name string) string {
		for _, v := range slices.Backward(server.Env()) {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// pair is a key of age, made for this test.
func pair(t *testing.T) ([]seal.Recipient, seal.Keys) {
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

// place is where an archive is.
type place struct {
	open  func(t testing.TB) archive.Bucket
	notes *notes
}

// harness makes archives with parts of some length in buckets that are made by
// bucket, each of which can be opened several times.
func harness(o archive.Options, part int64, bucket func(t testing.TB) func(t testing.TB) archive.Bucket) storetest.Harness {
	o.PartSize, o.Version = part, "test"
	var mu sync.Mutex
	places := map[store.Store]place{}
	trees := 0
	open := func(t testing.TB, at place) *archive.Store {
		t.Helper()
		o := o
		o.Notes = at.notes
		s, err := archive.Open(t.Context(), at.open(t), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		mu.Lock()
		defer mu.Unlock()
		places[s] = at
		return s
	}
	where := func(s store.Store) place {
		mu.Lock()
		defer mu.Unlock()
		return places[s]
	}
	tree := func() string {
		mu.Lock()
		defer mu.Unlock()
		trees++
		return fmt.Sprint("tree ", trees)
	}
	return storetest.Harness{
		New: func(t testing.TB) store.Store {
			t.Helper()
			s := open(t, place{bucket(t), &notes{kept: map[string]map[string][]byte{}}})
			if err := s.Init(t.Context(), archive.InitOptions{RequireEncryption: o.RequireEncryption}); err != nil {
				t.Fatal(err)
			}
			return s
		},
		Again:  func(t testing.TB, s store.Store) store.Store { t.Helper(); return open(t, where(s)) },
		Source: func(testing.TB) store.Store { return storetest.NewMemory("source") },
		Populate: func(t testing.TB, s store.Store, paths ...string) {
			t.Helper()
			live, ok := s.(*storetest.Memory)
			if !ok {
				live = storetest.NewMemory("populating")
			}
			family := tree()
			var all []snapshot.Snapshot
			for i, p := range paths {
				all = append(all, live.Add(family, uint64(100+i), p))
			}
			if !ok {
				storeAll(t, live, s, all)
			}
		},
		Digest: func(t testing.TB, s store.Store, x snapshot.Snapshot) string {
			t.Helper()
			if live, ok := s.(*storetest.Memory); ok {
				return live.Digest(x.ID)
			}
			return restored(t, s, x.ID)
		},
		Leave: func(t testing.TB, s store.Store, path string) {
			t.Helper()
			leave(t, where(s).open(t), o, path)
		},
	}
}

// storeAll stores the stream of every edge between some snapshots.
func storeAll(t testing.TB, live *storetest.Memory, s store.Store, all []snapshot.Snapshot) {
	t.Helper()
	for _, to := range all {
		carry(t, live, s, store.Want{Edge: snapshot.Edge{To: to.ID}, Path: to.Path})
	}
	for _, to := range all {
		for _, from := range all {
			if to.ID != from.ID {
				carry(t, live, s, store.Want{Edge: snapshot.Edge{To: to.ID, From: from.ID}, Path: to.Path})
			}
		}
	}
}

// carry stores one stream.
func carry(t testing.TB, from, to store.Store, want store.Want) {
	t.Helper()
	want.Fresh = true
	in, err := from.(store.Source).Open(t.Context(), store.Request{Edge: want.Edge})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	w, err := to.(store.Sink).Create(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// restored restores a snapshot by the shortest chain, and returns the digest of it.
func restored(t testing.TB, s store.Store, id snapshot.ID) string {
	t.Helper()
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := map[snapshot.ID]snapshot.Edge{}
	for reached := []snapshot.ID{{}}; len(reached) > 0; reached = reached[1:] {
		for _, e := range inv.Edges {
			if _, ok := last[e.To]; !ok && e.From == reached[0] {
				last[e.To] = e.Edge
				reached = append(reached, e.To)
			}
		}
	}
	var chain []snapshot.Edge
	for at := id; !at.IsZero(); at = last[at].From {
		if _, ok := last[at]; !ok {
			t.Errorf("no chain of streams leads to %s", id)
			return "none"
		}
		chain = append([]snapshot.Edge{last[at]}, chain...)
	}
	live := storetest.NewMemory("restored")
	for i, e := range chain {
		carry(t, s, live, store.Want{Edge: e, Path: fmt.Sprint(i)})
	}
	return live.Digest(id)
}

// notes are kept in memory.
type notes struct {
	mu   sync.Mutex
	kept map[string]map[string][]byte
}

func (n *notes) Notes(place string) (map[string][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.kept[place]), nil
}

func (n *notes) Keep(place, name string, data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kept[place] == nil {
		n.kept[place] = map[string][]byte{}
	}
	n.kept[place][name] = append([]byte(nil), data...)
	return nil
}

func (n *notes) Forget(place, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.kept[place], name)
	return nil
}

// leave begins an upload as a process that dies.
func leave(t testing.TB, b archive.Bucket, o archive.Options, snapshotPath string) {
	t.Helper()
	defer b.Close()
	key := snapshotPath + "/" + snapshot.ID{7}.String() + "_None" + o.Seal.Form().Suffix()
	if o.Prefix != "" {
		key = o.Prefix + "/" + key
	}
	if _, err := b.Begin(context.WithoutCancel(t.Context()), key, archive.UploadOptions{PartSize: 8 << 20}); err != nil {
		t.Fatal(err)
	}
}
