package endurance

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestKills kills the program at random moments while it syncs 20 snapshots of
// three families, and starts it again until it is done; and all of it again
// until there were hundreds of kills. After each of them everything that looks
// whole is, a run that says it is done is done, and then nothing else is left.
func TestKills(t *testing.T) {
	t.Parallel()
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	s.family("a", 8, 1<<20)
	s.family("b", 7, 100_000)
	s.family("c", 5, 4<<20)
	began := time.Now()
	r := s.sync()
	if code := r.wait(); code != done {
		t.Fatalf("undisturbed it ends with %d:\n%s", code, r.story())
	}
	undisturbed := time.Since(began)
	s.complete()

	kills, rounds := 0, 0
	for want := times(t, 180); kills < want; rounds++ {
		s.empty()
		for tries := 0; ; tries++ {
			// At first most die young, and later ever fewer, so that it ends.
			life := rand.N(undisturbed/4 + undisturbed*time.Duration(tries)/100)
			r := s.sync()
			timer := time.AfterFunc(life, func() { r.signal(syscall.SIGKILL) })
			code := r.wait()
			timer.Stop()
			if code == killed {
				kills++
				s.whole()
				continue
			}
			if code != done {
				t.Fatalf("after %d kills it ends with %d:\n%s", kills, code, r.story())
			}
			s.complete()
			break
		}
	}
	t.Logf("%d kills in %d rounds of at least %v", kills, rounds, undisturbed.Round(time.Millisecond))
}
