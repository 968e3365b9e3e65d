package endurance

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestSignals ends the program at random moments by the signals that it can act
// on. It ends with the exit code for that and says what there is; the next run
// completes it.
func TestSignals(t *testing.T) {
	t.Parallel()
	s := plain(t, 6, 2<<20)
	began := time.Now()
	s.finish()
	undisturbed := time.Since(began)
	caught := 0
	for i := range times(t, 9) {
		s.empty()
		r := s.sync()
		r.await(`"event":"plan"`, 1) // before it has set itself up, a signal just ends it
		time.Sleep(rand.N(undisturbed))
		sig := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}[i%3]
		r.signal(sig)
		switch code := r.wait(); code {
		case interrupted:
			caught++
			r.says("of 6 snapshots are at the destination.")
			s.whole()
		case done:
			s.complete()
		default:
			t.Errorf("%v: it ends with %d:\n%s", sig, code, r.story())
		}
		s.finish()
	}
	t.Logf("%d caught in the middle", caught)
	if caught == 0 {
		t.Error("no signal came in time")
	}
}

// A stop is a way to make a process stand still and go on.
type stop struct {
	name   string
	add    func(r *run)
	freeze func(r *run)
	thaw   func(r *run)
}

func stops(t *testing.T) []stop {
	all := []stop{{
		"SIGSTOP", func(*run) {},
		func(r *run) { r.signal(syscall.SIGSTOP) },
		func(r *run) { r.signal(syscall.SIGCONT) },
	}}
	for _, f := range btrfstest.Freezers(t) {
		all = append(all, stop{
			"freezer " + string('0'+rune(f.Version)),
			func(r *run) { f.Add(r.cmd.Process.Pid) },
			func(*run) { f.Freeze() },
			func(*run) { f.Thaw() },
		})
	}
	return all
}

// TestStops makes the program stand still in the middle of streams, as a machine
// does that goes to sleep. The kernel begins such a stream anew in its middle.
// Either that is noticed and the stream is sent again, or nothing has happened;
// whatever is at the destination in the end is whole. With several tries for
// each snapshot a run gets over two stops.
func TestStops(t *testing.T) {
	for _, stop := range stops(t) {
		t.Run(stop.name, func(t *testing.T) {
			s := big(t, 2)
			s.src.Disks[0].Delay(time.Millisecond) // a stream that takes its time
			r := s.sync()
			stop.add(r)
			stopped := 0
			for step := range 2 {
				if !r.await(`"event":"step-begun"`, step+1) || !s.growing(r) {
					break
				}
				stop.freeze(r)
				time.Sleep(10 * time.Millisecond)
				if n := s.whole(); n > step+1 {
					t.Errorf("%d are published in step %d", n, step+1)
				}
				stop.thaw(r)
				stopped++
			}
			if code := r.wait(); code != done {
				t.Errorf("it ends with %d:\n%s", code, r.story())
			}
			s.complete()
			t.Logf("stopped %d times, %d retries", stopped, strings.Count(r.out.String(), `"event":"retry"`))
			if stopped == 0 {
				t.Error("it was never stopped")
			}
		})
	}
}
