package endurance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// sending waits until a run is in the middle of a stream, some MiB of it
// written.
func (s *scene) sending(r *run, step int) {
	s.t.Helper()
	if !r.await(`"event":"step-begun"`, step) || !s.growing(r) {
		s.t.Fatalf("it is not sending:\n%s", r.story())
	}
}

// growing waits until some unfinished snapshot holds a file that has grown to a
// MiB.
func (s *scene) growing(r *run) bool {
	s.t.Helper()
	for ; !r.gone(); time.Sleep(time.Millisecond) {
		files, _ := filepath.Glob(s.to() + "*.part/ballast")
		renamed, _ := filepath.Glob(s.to() + "*.part/o*-*-*") // before it has its name
		for _, file := range append(files, renamed...) {
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Size() >= 1<<20 {
				return true
			}
		}
	}
	return false
}

// big makes a scene with one family whose streams take their time.
func big(t *testing.T, snapshots int) *scene {
	t.Helper()
	src := btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30))
	s := newScene(t, src, btrfstest.New(t, btrfstest.Size(1<<30)))
	s.family("a", snapshots, 48<<20)
	src.Remount()
	return s
}

// TestSourceDeleted deletes a snapshot while it is sent. Whether the kernel
// allows that depends on who makes the stream. Where it does, the run fails for
// that snapshot, or has sent it whole.
func TestSourceDeleted(t *testing.T) {
	s := big(t, 2)
	r := s.sync()
	s.sending(r, 1)
	out, err := exec.Command("btrfs", "subvolume", "delete", s.src.Path("snaps/a0")).CombinedOutput()
	code := r.wait()
	n := s.whole()
	t.Logf("deleting: %v %s; code %d, %d whole", err, out, code, n)
	switch {
	case err != nil && (code != done || n != 2):
		t.Errorf("nothing was deleted, and it ends with %d and %d whole:\n%s", code, n, r.story())
	case code == done && n != 2:
		t.Errorf("a false success:\n%s", r.story())
	case code != done && s.seen["a0"] && s.seen["a1"]:
		t.Errorf("everything is there, and it ends with %d:\n%s", code, r.story())
	case code != done:
		r.says("a0: ")
	}
	if err == nil && !s.seen["a0"] {
		delete(s.wanted, "a0")
	}
	s.finish()
}

// TestSourceRenamed renames a snapshot, and the directory of all, while they are
// sent: they are the same snapshots.
func TestSourceRenamed(t *testing.T) {
	s := big(t, 2)
	r := s.sync()
	s.sending(r, 1)
	if err := os.Rename(s.src.Path("snaps/a0"), s.src.Path("snaps/a9")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.src.Path("snaps"), s.src.Path("moved")); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(); code != done {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	if err := os.Rename(s.src.Path("moved"), s.src.Path("snaps")); err != nil {
		t.Fatal(err)
	}
	s.complete()
}

// TestDestinationMoved moves the destination's directory while it is written to.
// Everything goes to where it is.
func TestDestinationMoved(t *testing.T) {
	s := big(t, 2)
	r := s.sync()
	s.sending(r, 1)
	if err := os.Rename(s.dst.Path("snaps"), s.dst.Path("moved")); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(); code != done {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	if err := os.Rename(s.dst.Path("moved"), s.dst.Path("snaps")); err != nil {
		t.Fatal(err)
	}
	s.complete()
}

// TestDestinationRemoved removes the destination's directory, with what is
// unfinished in it, while it is written to.
func TestDestinationRemoved(t *testing.T) {
	s := big(t, 2)
	r := s.sync()
	s.sending(r, 1)
	for {
		for _, path := range s.dst.Subvolumes() {
			_ = exec.Command("btrfs", "subvolume", "delete", s.dst.Path(path)).Run()
		}
		if err := os.Remove(s.dst.Path("snaps")); err == nil {
			break
		}
		if r.gone() {
			t.Fatalf("it cannot be removed:\n%s", r.story())
		}
	}
	if code := r.wait(); code != failed {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	r.says("a0: ", "it has been removed")
	if left := s.dst.Subvolumes(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.Mkdir(s.dst.Path("snaps"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.finish()
}

// TestPartRemoved removes the unfinished snapshot alone.
func TestPartRemoved(t *testing.T) {
	s := big(t, 2)
	r := s.sync()
	s.sending(r, 1)
	for _, path := range s.dst.Subvolumes() {
		if strings.Contains(path, ".part") {
			_ = exec.Command("btrfs", "subvolume", "delete", s.dst.Path(path)).Run()
		}
	}
	code := r.wait()
	n := s.whole()
	if (code == done) != (n == 2) {
		t.Errorf("it ends with %d, and %d are whole:\n%s", code, n, r.story())
	}
	if code != done {
		r.says("it has been removed while it was being received (a0.part)")
	}
	s.finish()
}

// TestUnmounted takes the source's mount away, and then the destination's, while
// the program works. It holds both open.
func TestUnmounted(t *testing.T) {
	for _, side := range []string{"source", "destination"} {
		t.Run(side, func(t *testing.T) {
			s := big(t, 2)
			fs := map[string]*btrfstest.FS{"source": s.src, "destination": s.dst}[side]
			r := s.sync()
			s.sending(r, 1)
			if err := unix.Unmount(fs.Dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			code := r.wait()
			fs.Mount()
			n := s.whole()
			if (code == done) != (n == 2) {
				t.Errorf("it ends with %d, and %d are whole:\n%s", code, n, r.story())
			}
			t.Logf("code %d, %d whole: %s", code, n, &r.err)
			s.finish()
		})
	}
}
