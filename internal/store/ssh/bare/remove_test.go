package bare

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TestRemoveBelowMount mounts another disk where snapshots and remainders are: the
// listing still has what is hidden by it, and the paths are those of the other
// disk's.
func TestRemoveBelowMount(t *testing.T) {
	x := newScene(t, "two")
	other := btrfstest.New(t)
	part := partName("four")
	for _, dir := range []string{filepath.Join(x.from, "host"), other.Path("host")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	other.Subvolume("live")
	x.fs.Snapshot("live", "from/host/three", true)
	other.Snapshot("live", "host/three", true)
	x.fs.Snapshot("live", "from/host/"+part, false)
	other.Snapshot("live", "host/"+part, false)
	there := func() bool {
		for _, name := range []string{"three", part} {
			if _, err := os.Stat(other.Path(filepath.Join("host", name))); err != nil {
				t.Error(err)
				return false
			}
		}
		return true
	}
	if err := unix.Mount(other.Path("host"), filepath.Join(x.from, "host"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := unix.Unmount(filepath.Join(x.from, "host"), 0); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(unmount)

	s := openHere(t, x.from, nil)
	three := at(t, s, "host/three")
	if err := s.Remove(t.Context(), three); !errors.Is(err, store.ErrNotFound) || !there() {
		t.Errorf("removing the other disk's: %v", err)
	}
	remainder := snapshot.Partial{Path: "host/" + part, Ours: true}
	if err := s.RemovePartial(t.Context(), remainder); !errors.Is(err, store.ErrNotFound) || !there() {
		t.Errorf("removing the other disk's remainder: %v", err)
	}
	w, err := s.Create(t.Context(), store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}}, Path: "host/four"})
	if err == nil {
		err = w.Close()
	}
	if _, ok := errors.AsType[*store.ExistsError](err); !ok || !there() {
		t.Errorf("making something on the other disk: %v", err)
	}
	unmount()
	if err := errors.Join(s.Remove(t.Context(), three), s.RemovePartial(t.Context(), remainder)); err != nil {
		t.Error(err)
	}
	if inv, err := s.List(t.Context()); err != nil || len(inv.Partials) > 0 || len(inv.Snapshots) != 2 {
		t.Errorf("left are %+v, %v", inv, err)
	}
	there()
}
