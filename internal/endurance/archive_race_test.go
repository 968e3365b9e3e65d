package endurance

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
)

// another is the scene as another machine sees it: with a state of its own.
func (s *scene) another() *scene {
	other := *s
	other.state = filepath.Join(s.t.TempDir(), "another")
	return &other
}

// TestArchiveSameAtOnce has two machines store the same snapshots at the same
// time. Both end well, and each edge is there once.
func TestArchiveSameAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, d *depot) {
		s := pair(t, 3, 6<<20)
		two := s.another()
		for i := range times(t, 2) {
			if i == 1 {
				d.write = append(d.write, "--compress=zstd")
			}
			a := s.store(d)
			time.Sleep(rand.N(100 * time.Millisecond))
			b := two.store(d)
			for _, r := range []*run{a, b} {
				if code := r.wait(); code != done && code != locked {
					t.Errorf("it ends with %d:\n%s", code, r.story())
				}
			}
			d.sound(s)
			s.restore(d).fine()
			s.complete()
			s.empty()
			d.clear()
		}
	})
}

// TestArchiveOthersAtOnce has two machines store different snapshots.
func TestArchiveOthersAtOnce(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	s, two := pair(t, 3, 6<<20), empty(t)
	two.family("b", 3, 6<<20)
	a, b := s.store(d), two.store(d)
	a.fine()
	b.fine()
	all := *s
	all.wanted = maps.Clone(s.wanted)
	maps.Copy(all.wanted, two.wanted)
	d.sound(&all)
	s.restore(d).fine()
	all.complete()
}

// TestArchiveDeleteAtOnce has one machine remove with -d what another one builds
// its increments on. Whatever is in the archive afterwards can be restored, and
// the other's next run completes what it wants.
func TestArchiveDeleteAtOnce(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	s := pair(t, 5, 2<<20)
	cleaner := empty(t) // has one snapshot of its own and none of these
	cleaner.family("b", 1, 0)
	all := *s
	all.wanted = maps.Clone(s.wanted)
	maps.Copy(all.wanted, cleaner.wanted)
	for range times(t, 2) {
		s.storeFrom(s.from()+"a0", d).fine()
		s.storeFrom(s.from()+"a1", d).fine()
		r := s.store(d)
		time.Sleep(rand.N(400 * time.Millisecond))
		c := cleaner.store(d, "-d")
		for _, r := range []*run{r, c} {
			if code := r.wait(); code != done && code != partly && code != failed && code != conflict {
				t.Errorf("it ends with %d:\n%s", code, r.story())
			}
		}
		d.restorable(&all)
		s.store(d).fine()
		d.restorable(&all)
		for name, want := range s.wanted {
			if !slices.ContainsFunc(d.objects(), func(o object) bool { return o.to == want.uuid }) {
				t.Errorf("%s is not in the archive", name)
			}
		}
		d.clear()
	}
}

// restorable fails the test unless everything that is in the archive can be
// restored.
func (d *depot) restorable(s *scene) {
	d.t.Helper()
	streams, _ := chains(d.objects())
	for _, o := range d.objects() {
		if _, ok := streams[o.to]; !ok {
			d.t.Errorf("%s has no chain among %v", o, d.objects())
		}
	}
	s.empty()
	r := s.restore(d).fine()
	s.whole()
	for _, o := range d.objects() {
		if !s.seen[o.path] {
			d.t.Errorf("%s is in the archive, and is not restored:\n%s", o.path, r.story())
		}
	}
	if left := d.bucket.unfinished(); len(left) > 0 {
		d.t.Errorf("left unfinished: %q", left)
	}
}
