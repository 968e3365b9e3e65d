package local

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestContract runs the suite that every store passes, on real file systems.
func TestContract(t *testing.T) {
	storetest.Run(t, harness())
}

// TestContractProtocol1 runs it with the streams that older kernels make.
func TestContractProtocol1(t *testing.T) {
	h := harness()
	old := h.New
	h.New = func(t testing.TB) store.Store {
		s := old(t).(*Store)
		s.opt.Protocol = 1
		return s
	}
	storetest.Run(t, h)
}

func harness() storetest.Harness {
	// The mounted file system that a store's directory lies on.
	fsOf := map[*Store]*btrfstest.FS{}
	live := 0
	return storetest.Harness{
		New: func(t testing.TB) store.Store {
			fs := btrfstest.New(t)
			if err := os.Mkdir(fs.Path("store"), 0o755); err != nil {
				t.Fatal(err)
			}
			s := openFor(t, fs.Path("store"))
			fsOf[s] = fs
			return s
		},
		Again: func(t testing.TB, s store.Store) store.Store {
			again := openFor(t, s.(*Store).path)
			fsOf[again] = fsOf[s.(*Store)]
			return again
		},
		Populate: func(t testing.TB, st store.Store, paths ...string) {
			s := st.(*Store)
			fs := fsOf[s]
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
				if err := os.MkdirAll(filepath.Dir(filepath.Join(s.path, p)), 0o755); err != nil {
					t.Fatal(err)
				}
				fs.Snapshot(name, filepath.Join(s.path, p), true)
			}
		},
		Digest: func(t testing.TB, st store.Store, x snapshot.Snapshot) string {
			if x.Outside {
				return btrfstest.Digest(t, x.Path)
			}
			return btrfstest.Digest(t, filepath.Join(st.(*Store).path, x.Path))
		},
		Outside: func(t testing.TB, st store.Store) snapshot.ID {
			fs := fsOf[st.(*Store)]
			fs.Subvolume("apart")
			f, err := os.Open(fs.Snapshot("apart", "outside", true))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := btrfs.Info(f)
			if err != nil {
				t.Fatal(err)
			}
			return snapshot.ID(info.UUID)
		},
		Origin: func(t testing.TB, st store.Store) (store.Store, func()) {
			s := st.(*Store)
			origin := fsOf[s].Subvolume("origin")
			again := mustOpenFor(t, s.path, Options{Protocol: s.opt.Protocol, Origin: origin})
			fsOf[again] = fsOf[s]
			n := 0
			change := func() {
				n++
				if err := os.WriteFile(filepath.Join(origin, "changing"), fmt.Appendf(nil, "state %d", n), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			change()
			return again, change
		},
		Leftover: func(t testing.TB, st store.Store, path string) {
			s := st.(*Store)
			if err := os.MkdirAll(filepath.Dir(filepath.Join(s.path, path)), 0o755); err != nil {
				t.Fatal(err)
			}
			dir := fsOf[s].Subvolume(filepath.Join(s.path, path))
			if err := os.WriteFile(filepath.Join(dir, "half"), []byte("of a file"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		Leave: func(t testing.TB, st store.Store, path string) {
			s := st.(*Store)
			full := filepath.Join(s.path, path) + snapshot.PartSuffix
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			fsOf[s].Subvolume(full)
			if err := os.WriteFile(filepath.Join(full, "half"), []byte("of a file"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func openFor(t testing.TB, dir string) *Store { return mustOpenFor(t, dir, Options{}) }

func mustOpenFor(t testing.TB, dir string, o Options) *Store {
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
