package pipe

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// keeping is a command that keeps each stream in a file.
const keeping = `f="$DIR/$BUTTERSINK_UUID.$BUTTERSINK_PARENT"; cat >"$f.tmp" && mv "$f.tmp" "$f"`

// TestContract holds a store of a command that keeps what it is given to the
// contract of stores, as far as it is about stores that give nothing back.
func TestContract(t *testing.T) {
	type place struct {
		dir   string
		notes *notes
	}
	places := map[store.Store]place{}
	trees := 0
	open := func(t testing.TB, at place) store.Store {
		t.Helper()
		s := opened(t, Options{Command: keeping, Env: append(os.Environ(), "DIR="+at.dir), Notes: at.notes})
		places[s] = at
		return s
	}
	storetest.Run(t, storetest.Harness{
		New:    func(t testing.TB) store.Store { t.Helper(); return open(t, place{t.TempDir(), newNotes()}) },
		Again:  func(t testing.TB, s store.Store) store.Store { t.Helper(); return open(t, places[s]) },
		Source: func(testing.TB) store.Store { return storetest.NewMemory("source") },
		Populate: func(t testing.TB, s store.Store, paths ...string) {
			t.Helper()
			trees++
			live, ok := s.(*storetest.Memory)
			if !ok {
				live = storetest.NewMemory("populating")
			}
			for i, p := range paths {
				x := live.Add(fmt.Sprint("tree ", trees), uint64(100+i), p)
				if !ok {
					give(t, s, x, snapshot.Snapshot{}, streamOf(t, live, snapshot.Edge{To: x.ID}))
				}
			}
		},
		Digest: func(t testing.TB, s store.Store, x snapshot.Snapshot) string {
			t.Helper()
			if live, ok := s.(*storetest.Memory); ok {
				return live.Digest(x.ID)
			}
			live := storetest.NewMemory("restored")
			restore(t, places[s].dir, live, x.ID)
			return live.Digest(x.ID)
		},
	})
}

// restore carries out the streams in a directory that lead to a snapshot.
func restore(t testing.TB, dir string, live *storetest.Memory, id snapshot.ID) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, id.String()+".*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the command has kept nothing of %s: %v", id, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	e := snapshot.Edge{To: id}
	if parent := filepath.Ext(files[0])[1:]; parent != "" {
		if e.From, err = snapshot.ParseID(parent); err != nil {
			t.Fatal(err)
		}
		restore(t, dir, live, e.From)
	}
	w, err := live.Create(t.Context(), store.Want{Edge: e, Path: id.String(), Fresh: true})
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
}

// opened opens a store.
func opened(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// streamOf returns the stream of an edge.
func streamOf(t testing.TB, from store.Source, e snapshot.Edge) []byte {
	t.Helper()
	in, err := from.Open(t.Context(), store.Request{Edge: e})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// want is what a sink is told of an edge.
func want(to, from snapshot.Snapshot) store.Want {
	return store.Want{Edge: snapshot.Edge{To: to.ID, From: from.ID}, Path: to.Path, Transid: to.Transid, FromTransid: from.Transid}
}

// try gives a stream to a store, and returns what comes of it.
func try(t testing.TB, s store.Store, w store.Want, raw []byte) error {
	t.Helper()
	out, err := s.(store.Sink).Create(t.Context(), w)
	if err != nil {
		return err
	}
	_, err = out.Write(raw)
	if err == nil {
		err = out.Commit(t.Context())
	}
	if closed := out.Close(); closed != nil {
		t.Errorf("Close: %v", closed)
	}
	return err
}

// give gives a stream to a store.
func give(t testing.TB, s store.Store, to, from snapshot.Snapshot, raw []byte) {
	t.Helper()
	if err := try(t, s, want(to, from), raw); err != nil {
		t.Fatal(err)
	}
}

// notes are kept in memory.
type notes struct {
	mu   sync.Mutex
	kept map[string]map[string][]byte
	deny error // what every call returns
}

func newNotes() *notes { return &notes{kept: map[string]map[string][]byte{}} }

func (n *notes) Notes(place string) (map[string][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.kept[place]), n.deny
}

func (n *notes) Keep(place, name string, data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.deny != nil {
		return n.deny
	}
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
	return n.deny
}
