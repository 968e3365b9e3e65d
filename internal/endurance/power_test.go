package endurance

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// powered makes a scene whose destination is on a disk with a write cache, of
// which a power cut takes what was not flushed.
func powered(t *testing.T, snapshots int, ballast int64) *scene {
	t.Helper()
	dst := btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30), btrfstest.MountOptions("noatime,commit=300"))
	dst.Disks[0].Cached()
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), dst)
	s.family("a", snapshots, ballast)
	dst.Sync()
	return s
}

// committed returns the paths that a run has reported as committed.
func (r *run) committed() []string {
	r.t.Helper()
	var paths []string
	for line := range strings.Lines(r.out.String()) {
		var record struct{ Event, Path string }
		if err := json.Unmarshal([]byte(line), &record); err == nil && record.Event == "committed" {
			paths = append(paths, record.Path)
		}
	}
	return paths
}

// TestPowerCutAfterSuccess cuts the power at the moment that the program has
// ended well: what it said is on the disk.
func TestPowerCutAfterSuccess(t *testing.T) {
	t.Parallel()
	s := powered(t, 3, 2<<20)
	for seed := range uint64(3) {
		r := s.sync()
		if code := r.wait(); code != done {
			t.Fatalf("it ends with %d:\n%s", code, r.story())
		}
		s.dst.PowerOff(seed)
		s.dst.PowerOn()
		s.complete()
		s.empty()
		s.dst.Sync()
	}
}

// TestPowerCutInTheMiddle cuts the power of the whole machine at random moments
// after none, one, two and so on of the snapshots have been committed. What was reported as committed is there after the boot, everything that looks
// whole is, and the next run completes it.
func TestPowerCutInTheMiddle(t *testing.T) {
	t.Parallel()
	const snapshots = 6
	s := powered(t, snapshots, 2<<20)
	began := time.Now()
	s.finish()
	each := time.Since(began) / snapshots
	cuts, reported := 0, 0
	for seed := range uint64(times(t, 6)) {
		s.empty()
		s.dst.Sync()
		r := s.sync()
		r.await(`"event":"committed"`, int(seed)%snapshots)
		time.Sleep(rand.N(each))
		s.dst.PowerOff(seed)
		r.signal(syscall.SIGKILL)
		if code := r.wait(); code != done {
			cuts++
		}
		s.dst.PowerOn()
		s.whole()
		for _, path := range r.committed() {
			if !s.seen[path] {
				t.Errorf("%s was reported as committed, and is gone", path)
			}
			reported++
		}
		s.finish()
	}
	t.Logf("%d cuts, %d snapshots committed before", cuts, reported)
	if cuts == 0 {
		t.Error("the power was never cut in time")
	}
}
