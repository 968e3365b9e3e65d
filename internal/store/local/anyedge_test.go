package local

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TestAnyEdge sends random snapshots of a subvolume and of a branch of it on top
// of each other, with, against and across the course of time, with other
// snapshots as clone sources. On the way files are restored by reflinks.
// BUTTERSINK_ANYEDGE is how many such families there are.
func TestAnyEdge(t *testing.T) {
	families := 1
	if n, err := strconv.Atoi(os.Getenv("BUTTERSINK_ANYEDGE")); err == nil {
		families = n
	}
	first := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("BUTTERSINK_SEED"), 10, 64); err == nil {
		first = n
	}
	for seed := first; seed < first+uint64(families); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { anyEdge(t, seed) })
	}
}

func anyEdge(t *testing.T, seed uint64) {
	a, b := btrfstest.New(t), btrfstest.New(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	tree := btrfstest.NewTree(t, a.Subvolume("live"), seed)
	tree.Fill()
	a.Snapshot("live", "0", true)
	tree.Mutate()
	a.Snapshot("live", "1", true)
	restore(t, rng, a.Path("0"), a.Path("live"))
	a.Snapshot("live", "2", true)
	tree.Mutate()
	a.Snapshot("live", "3", true)
	a.Snapshot("1", "branch", false)
	branch := btrfstest.NewTree(t, a.Path("branch"), seed+1000)
	branch.Mutate()
	a.Snapshot("branch", "4", true)
	restore(t, rng, a.Path("2"), a.Path("branch"))
	a.Snapshot("branch", "5", true)

	src, dst := mustOpen(t, a.Dir, Options{Protocol: uint32(1 + rng.IntN(2))}), mustOpen(t, b.Dir)
	inv := mustList(t, src)
	var snaps []snapshot.Snapshot
	for i := range 6 {
		snap := at(t, inv, fmt.Sprint(i))
		if err := carry(t.Context(), src, dst, wantOf(inv, snap, snapshot.Snapshot{})); err != nil {
			t.Fatal(err)
		}
		if diff := btrfstest.Diff(t, a.Path(snap.Path), b.Path(snap.Path)); diff != "" {
			t.Fatalf("%s in full:\n%s", snap.Path, diff)
		}
		snaps = append(snaps, snap)
	}
	for _, from := range snaps {
		for _, to := range snaps {
			if to.ID == from.ID {
				continue
			}
			r := store.Request{Edge: snapshot.Edge{To: to.ID, From: from.ID}}
			for _, c := range snaps {
				if c.ID != to.ID && c.ID != from.ID && rng.IntN(3) == 0 {
					r.Clones = append(r.Clones, c.ID)
				}
			}
			want := wantOf(inv, to, from)
			want.Path = "again"
			if err := deliver(t.Context(), src, dst, r, want); err != nil {
				t.Fatalf("%s from %s: %v", to.Path, from.Path, err)
			}
			if diff := btrfstest.Diff(t, a.Path(to.Path), b.Path("again")); diff != "" {
				t.Errorf("%s from %s, with %d clone sources:\n%s", to.Path, from.Path, len(r.Clones), diff)
			}
			b.Delete("again")
			mustList(t, dst)
		}
	}
}

// restore gives some files of live what they hold in a snapshot.
func restore(t *testing.T, rng *rand.Rand, from, live string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || rng.IntN(2) == 0 {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := os.Lstat(filepath.Join(live, rel))
		if err != nil || !info.Mode().IsRegular() {
			return nil // not there any more
		}
		// Files without checksums and such cannot be cloned: they stay.
		_ = exec.Command("cp", "--reflink=always", path, filepath.Join(live, rel)).Run()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// deliver carries the stream of a request.
func deliver(ctx context.Context, src, dst *Store, r store.Request, want store.Want) error {
	in, err := src.Open(ctx, r)
	if err != nil {
		return err
	}
	defer in.Close()
	w, err := dst.Create(ctx, want)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	return w.Commit(ctx)
}
