package bare

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
)

// TestClonesOfOriginals brings back what was made here of snapshots that come from
// the other machine, which has them as they were made there: btrfs receive finds
// such a parent, but no such clone source.
func TestClonesOfOriginals(t *testing.T) {
	x := newScene(t, "two")
	fs := btrfstest.New(t)
	dir := fs.Path("here")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	here, err := local.Open(dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	there := openHere(t, x.from, nil)
	inv, err := there.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one, two := at(t, there, "one"), at(t, there, "two")
	carry(t, there, here, store.Request{Edge: snapshot.Edge{To: one.ID}}, "one")
	carry(t, there, here, store.Request{Edge: snapshot.Edge{To: two.ID, From: one.ID}}, "two")

	live := fs.Snapshot("here/one", "live", false)
	reflink(t, filepath.Join(dir, "one/noise"), filepath.Join(live, "of the parent"))
	reflink(t, filepath.Join(dir, "two/dir 1/new"), filepath.Join(live, "of another"))
	fs.Snapshot("live", "here/three", true)

	r := store.Request{Edge: snapshot.Edge{To: at(t, here, "three").ID, From: one.ID}}
	if two.Received || !inv.ReceivedClones {
		r.Clones = []snapshot.ID{two.ID}
	}
	carry(t, here, there, r, "three")
	if diff := btrfstest.Diff(t, filepath.Join(dir, "three"), filepath.Join(x.from, "three"), btrfstest.WithoutRootTime()); diff != "" {
		t.Error(diff)
	}
}

// carry has one store make what the other one sends.
func carry(t testing.TB, src store.Source, dst store.Sink, r store.Request, path string) {
	t.Helper()
	in, err := src.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	w, err := dst.Create(t.Context(), store.Want{Edge: r.Edge, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, err = w.Write(raw)
	if err = errors.Join(err, w.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func reflink(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.IoctlFileClone(int(out.Fd()), int(in.Fd())), out.Close()); err != nil {
		t.Fatal(err)
	}
}
