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

// often is how far apart the checkpoints are here, so that short streams have
// many.
const often = "--checkpoint=1MiB"

// resumed returns how many bytes of streams a run did not carry again, and in how
// many streams.
func (r *run) resumed() (bytes int64, streams int) {
	r.t.Helper()
	for line := range strings.Lines(r.out.String()) {
		var record struct {
			Event string
			Bytes int64
		}
		// What a kill has cut off is no record.
		if err := json.Unmarshal([]byte(line), &record); err == nil && record.Event == "resumed" {
			bytes, streams = bytes+record.Bytes, streams+1
		}
	}
	return bytes, streams
}

// checkpointed waits until a run has made a number of checkpoints. All but the
// last of them are on the disk then: the one before goes only when the next is.
func (s *scene) checkpointed(r *run, count int) {
	s.t.Helper()
	for seen := map[string]int64{}; count > 0; time.Sleep(time.Millisecond) {
		if r.gone() {
			s.t.Fatalf("it ends before:\n%s", r.story())
		}
		for path, offset := range s.held() {
			if last, ok := seen[path]; !ok {
				count--
			} else if offset > last { // there may have been several since the last look
				count -= max(1, int((offset-last)>>20))
			}
			seen[path] = offset
		}
	}
}

// TestResumedKills kills runs that carry on from checkpoints, at random moments:
// streams in full and increments, in several pieces each.
func TestResumedKills(t *testing.T) {
	t.Parallel()
	s := plain(t, 3, 20<<20)
	began := time.Now()
	if r := s.sync(often); r.wait() != done {
		t.Fatalf("undisturbed it fails:\n%s", r.story())
	}
	undisturbed := time.Since(began)
	s.complete()

	kills, carried := 0, 0
	for want := times(t, 20); kills < want; {
		s.empty()
		for tries := 0; ; tries++ {
			life := undisturbed/20 + rand.N(undisturbed/5+undisturbed*time.Duration(tries)/50)
			r := s.sync(often)
			timer := time.AfterFunc(life, func() { r.signal(syscall.SIGKILL) })
			code := r.wait()
			timer.Stop()
			_, n := r.resumed()
			carried += n
			if strings.Contains(r.out.String(), `"event":"retry"`) {
				t.Errorf("after %d kills a stream begins again:\n%s", kills, r.story())
			}
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
	t.Logf("%d kills, %d streams carried on", kills, carried)
	if carried == 0 {
		t.Error("no stream was carried on")
	}
}

// TestResumedPowerCut cuts the power in the middle of a stream: the checkpoint is
// on the disk, and the next run carries on from it.
func TestResumedPowerCut(t *testing.T) {
	s := powered(t, 2, 20<<20)
	for seed := range uint64(times(t, 2)) {
		r := s.sync(often)
		s.checkpointed(r, 2+rand.N(8))
		s.dst.PowerOff(seed)
		r.signal(syscall.SIGKILL)
		if code := r.wait(); code == done {
			t.Errorf("a false success:\n%s", r.story())
		}
		s.dst.PowerOn()
		s.whole()
		r = s.sync(often)
		if code := r.wait(); code != done {
			t.Fatalf("the next run ends with %d:\n%s", code, r.story())
		}
		if bytes, streams := r.resumed(); streams != 1 || bytes < 1<<20 {
			t.Errorf("%d streams are carried on, with %d bytes:\n%s", streams, bytes, r.story())
		}
		s.complete()
		s.empty()
		s.dst.Sync()
	}
}

// TestResumedOtherStream carries on with a stream of the same snapshot that is
// made in another way, which the digest shows: the snapshot begins again, and the
// run says why.
func TestResumedOtherStream(t *testing.T) {
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	s.family("a", 1, 20<<20)
	r := s.sync(often)
	s.checkpointed(r, 3)
	r.signal(syscall.SIGKILL)
	if code := r.wait(); code != killed {
		t.Fatalf("it ends with %d:\n%s", code, r.story())
	}
	s.whole()
	r = s.sync(often, "--kernel-send")
	if code := r.wait(); code != done {
		t.Fatalf("it ends with %d:\n%s", code, r.story())
	}
	if _, streams := r.resumed(); streams > 0 {
		t.Errorf("it goes on with another stream:\n%s", r.story())
	}
	if !strings.Contains(r.story(), `"error":"the stream is not the one that was interrupted`) {
		t.Errorf("it does not say why it begins again:\n%s", r.story())
	}
	s.complete()
}
