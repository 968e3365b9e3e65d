package endurance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// repeat calls do in the background, again and again, until the returned
// function is called, which gives back the first error.
func repeat(do func(i int) error) (end func() error) {
	stop := make(chan struct{})
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				return
			default:
				err = do(i)
			}
		}
	})
	return sync.OnceValue(func() error {
		close(stop)
		wg.Wait()
		return err
	})
}

// tool runs a program and returns what it says if it fails.
func tool(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}

// TestBusySource syncs while the source's data are being moved about, snapshots
// come and go beside those that are wanted, and files are read and written.
func TestBusySource(t *testing.T) {
	s := plain(t, 5, 12<<20)
	balance := repeat(func(int) error {
		// The kernel does not balance while it sends, and says so.
		_ = tool("btrfs", "balance", "start", "-d", s.src.Dir)
		time.Sleep(5 * time.Millisecond)
		return nil
	})
	snapshots := repeat(func(i int) error {
		path := s.src.Path(fmt.Sprintf("snaps/zz-passing%d", i))
		if err := tool("btrfs", "subvolume", "snapshot", "-r", s.src.Path("live-a"), path); err != nil {
			return err
		}
		return tool("btrfs", "subvolume", "delete", path)
	})
	writes := repeat(func(i int) error {
		return os.WriteFile(s.src.Path("live-a/written"), make([]byte, 100_000*(i%5)), 0o644)
	})
	t.Cleanup(func() { _ = errors.Join(balance(), snapshots(), writes()) })
	for range times(t, 3) {
		r := s.sync("--exclude", "zz-")
		if code := r.wait(); code != done {
			t.Errorf("it ends with %d:\n%s", code, r.story())
		}
		if strings.Contains(r.out.String(), `"path":"zz-`) {
			t.Errorf("what is excluded is sent:\n%s", r.story())
		}
		s.complete()
		s.empty()
	}
	if err := errors.Join(balance(), snapshots(), writes()); err != nil {
		t.Error(err)
	}
	s.finish()
}

// TestPassingSnapshots syncs a directory in which snapshots come and go. What
// went before it was sent is a failure of that snapshot alone.
func TestPassingSnapshots(t *testing.T) {
	s := plain(t, 4, 2<<20)
	passing := repeat(func(i int) error {
		path := s.src.Path(fmt.Sprintf("snaps/zz%d", i))
		if err := tool("btrfs", "subvolume", "snapshot", "-r", s.src.Path("live-a"), path); err != nil {
			return err
		}
		time.Sleep(30 * time.Millisecond)
		_ = tool("btrfs", "subvolume", "delete", path) // not while it is sent
		return nil
	})
	t.Cleanup(func() { _ = passing() })
	for range times(t, 4) {
		r := s.sync()
		if code := r.wait(); code != done && code != partly {
			t.Errorf("it ends with %d:\n%s", code, r.story())
		}
		for name := range s.wanted {
			s.compare(name)
		}
		for _, path := range s.dst.Subvolumes() {
			s.dst.Delete(path)
		}
		clear(s.seen)
	}
	if err := passing(); err != nil {
		t.Error(err)
	}
}

// TestBothWays syncs between two file systems both ways at the same time.
func TestBothWays(t *testing.T) {
	s := plain(t, 4, 4<<20)
	for _, dir := range []string{s.src.Path("back"), s.dst.Path("own")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	live := s.dst.Subvolume("live-own")
	tree := btrfstest.NewTree(t, live, 77, btrfstest.Extra(20))
	tree.Fill()
	for i := range 3 {
		s.dst.Snapshot("live-own", fmt.Sprintf("own/o%d", i), true)
		tree.Mutate()
	}
	for range times(t, 3) {
		there := s.sync()
		back := start(t, s.state, "--json", s.dst.Path("own")+"/", s.src.Path("back")+"/")
		if code := there.wait(); code != done {
			t.Errorf("there: %d:\n%s", code, there.story())
		}
		if code := back.wait(); code != done {
			t.Errorf("back: %d:\n%s", code, back.story())
		}
		if n := s.whole(); n != len(s.wanted) {
			t.Errorf("%d are there", n)
		}
		for i := range 3 {
			name := fmt.Sprintf("o%d", i)
			if diff := difference(t, s.dst.Path("own/"+name), s.src.Path("back/"+name)); diff != "" {
				t.Errorf("%s differs:\n%s", name, diff)
			}
			s.src.Delete("back/" + name)
		}
		for _, name := range s.names() {
			s.dst.Delete("snaps/" + name)
		}
		clear(s.seen)
	}
}
