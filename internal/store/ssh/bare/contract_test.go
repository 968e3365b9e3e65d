package bare

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestContract runs the suite that every store passes, on real file systems, with
// the commands run by a shell here. Cases about abilities that the store does not
// have are left out: it has no measures, no lock, no sizes, and nothing outside.
func TestContract(t *testing.T) {
	h := harness(func() *hereLink { return &hereLink{shellWords: shells["dash"]} })
	for _, c := range storetest.Cases() {
		ability, _, _ := strings.Cut(c.Name, "/")
		if slices.Contains([]string{"measure", "resume", "continue", "sizes", "copy", "outside", "prove", "lock", "location", "archive"}, ability) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
	}
}

// told is a store with what btrfs-progs do not tell: the suite compares the
// transaction numbers of snapshots, which a Store knows of received ones only.
type told struct{ *Store }

func (s told) List(ctx context.Context) (*snapshot.Inventory, error) {
	inv, err := s.Store.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range inv.Snapshots {
		snap := &inv.Snapshots[i]
		info, err := infoOf(filepath.Join(s.dir, snap.Path))
		if err != nil {
			return nil, err
		}
		if !snap.Received {
			snap.Transid = info.Ctransid
		}
	}
	return inv, nil
}

func (s told) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	snap, err := s.Store.Snapshot(ctx, path)
	if err != nil {
		return snap, err
	}
	info, err := infoOf(filepath.Join(s.dir, path))
	snap.Transid = info.Ctransid
	return snap, err
}

func infoOf(path string) (btrfs.Subvolume, error) {
	f, err := os.Open(path)
	if err != nil {
		return btrfs.Subvolume{}, err
	}
	defer f.Close()
	return btrfs.Info(f)
}

func harness(link func() *hereLink) storetest.Harness {
	fsOf := map[string]*btrfstest.FS{} // by the store's directory
	live := 0
	return storetest.Harness{
		New: func(t testing.TB) store.Store {
			fs := btrfstest.New(t)
			// The directory is neither the top level nor a subvolume's root.
			dir := filepath.Join(fs.Subvolume("it's a \"subvolume\""), "and $HOME\nin it")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			fsOf[dir] = fs
			return told{openHere(t, dir, link())}
		},
		Again: func(t testing.TB, s store.Store) store.Store {
			return told{openHere(t, s.(told).dir, link())}
		},
		Populate: func(t testing.TB, st store.Store, paths ...string) {
			s := st.(told)
			fs := fsOf[s.dir]
			live++
			name := fmt.Sprintf("live%d", live)
			dir := fs.Subvolume(name)
			write := func(name string, data []byte) {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			noise := make([]byte, 128<<10)
			_, _ = rand.Read(noise)
			write("noise", noise)
			write("fixed", []byte("always the same"))
			for i, p := range paths {
				write("changing", fmt.Appendf(nil, "state %d", i))
				write(fmt.Sprintf("new%d", i), noise[:1000+i])
				if err := os.MkdirAll(filepath.Dir(filepath.Join(s.dir, p)), 0o755); err != nil {
					t.Fatal(err)
				}
				fs.Snapshot(name, filepath.Join(s.dir, p), true)
			}
		},
		Origin: func(t testing.TB, st store.Store) (store.Store, func()) {
			s := st.(told)
			origin := fsOf[s.dir].Subvolume("origin")
			n := 0
			change := func() {
				n++
				if err := os.WriteFile(filepath.Join(origin, "changing"), fmt.Appendf(nil, "state %d", n), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			change()
			return told{besides(t, Options{Dir: s.dir, Of: origin}, link())}, change
		},
		Leftover: func(t testing.TB, st store.Store, path string) {
			full := filepath.Join(st.(told).dir, path)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			dir := fsOf[st.(told).dir].Subvolume(full)
			if err := os.WriteFile(filepath.Join(dir, "half"), []byte("of a file"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		Digest: func(t testing.TB, st store.Store, x snapshot.Snapshot) string {
			return btrfstest.Digest(t, filepath.Join(st.(told).dir, x.Path), btrfstest.WithoutRootTime())
		},
		Leave: func(t testing.TB, st store.Store, path string) {
			s := st.(told)
			full := filepath.Join(s.dir, partName(path))
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			fsOf[s.dir].Subvolume(full)
			if err := os.WriteFile(filepath.Join(full, "half"), []byte("of a file"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	}
}
