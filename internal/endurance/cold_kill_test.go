package endurance

import (
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
)

// TestColdKilledUploads kills the program at random moments while it stores in
// DEEP_ARCHIVE. In the end everything is there once, in its class, and nothing was
// copied, asked for, or sent twice.
func TestColdKilledUploads(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "DEEP_ARCHIVE")
	s := pair(t, 2, 7<<20)
	s.family("b", 1, 300_000)
	storm := d.cold.Storm(t)
	d.through(storm.Endpoint)
	watch := &watch{Storm: storm, since: map[int]int{}}
	began := time.Now()
	s.store(d.depot).fine()
	undisturbed := time.Since(began)
	d.clear()
	watch.forget()
	n := killing(t, times(t, 8), undisturbed, func() *run { watch.next(); return s.store(d.depot) }, watch.sends, func() {}, func() {
		d.sound(s)
		d.classed("DEEP_ARCHIVE")
		watch.once(t)
		s.secretless()
		uncopied(t, storm)
		watch.forget()
	})
	s.restore(d.depot).ends(pending)
	d.cold.Advance(s3test.DeepBulkTime)
	s.restore(d.depot).fine()
	s.complete()
	d.askedEach(1)
	t.Logf("%d kills", n)
}

// TestColdKilledThaws kills the program at random moments while it asks for streams,
// and cuts its connections, on another machine each time. Whatever has been asked for
// is not asked for again.
func TestColdKilledThaws(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "STANDARD"), pair(t, 12, 0)
	s.store(d.depot).fine()
	streams := d.move("GLACIER", func(key string) bool { return streamKey.MatchString(key) })
	storm := d.cold.Storm(t)
	proxy := s3test.ProxyTo(t, strings.TrimPrefix(storm.Endpoint, "http://"))
	d.through(proxy.Endpoint)
	proxy.Latency(20 * time.Millisecond)
	// wanted is how often all were to be asked for so far.
	kills, ends, wanted := 0, 0, 1
	all := func() bool {
		d.t.Helper()
		least := wanted
		asked := d.cold.AskedAll()
		for name, n := range asked {
			if least = min(least, n); n > wanted {
				t.Fatalf("%s has been asked for %d times, and not %d", name, n, wanted)
			}
		}
		return least == wanted && len(asked) == streams
	}
	for round := 0; kills < times(t, 10) && round < times(t, 60); round++ {
		before := len(d.cold.Asks())
		s.elsewhere()
		var r *run
		if round%3 == 2 {
			r = d.run("thaw", "--json", d.url)
		} else {
			r = s.restore(d.depot)
		}
		for limit := before + rand.N(2); len(d.cold.Asks()) <= limit && !r.gone(); {
			time.Sleep(time.Millisecond)
		}
		if round%4 == 3 {
			proxy.Drop()
		}
		r.signal(syscall.SIGKILL)
		switch code := r.wait(); code {
		case killed:
			kills++
		case pending:
			ends++
		default:
			t.Fatalf("round %d ends with %d:\n%s", round, code, r.story())
		}
		if all() { // they are to be cold again
			d.cold.Advance(30 * day)
			wanted++
		}
	}
	storm.FailShare(0.2, 503, "SlowDown", "RestoreObject", "HeadObject")
	storm.Lose(6, "RestoreObject")
	s.restore(d.depot).ends(pending)
	storm.Calm()
	if !all() {
		t.Errorf("not all have been asked for: %v", d.cold.AskedAll())
	}
	proxy.Latency(0)
	d.cold.Advance(s3test.BulkTime)
	s.restore(d.depot).fine()
	s.complete()
	all()
	t.Logf("%d kills, %d came to their end, %d times", kills, ends, wanted)
}

// TestColdKilledDownloads kills the program at random moments while it restores what
// has been thawed, and cuts its connections. Nothing is asked for again.
func TestColdKilledDownloads(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "DEEP_ARCHIVE"), pair(t, 3, 5<<20)
	s.store(d.depot).fine()
	s.restore(d.depot).ends(pending)
	d.cold.Advance(s3test.DeepBulkTime)
	began := time.Now()
	s.restore(d.depot, often).fine()
	undisturbed := time.Since(began)
	s.complete()
	s.empty()
	n := killing(t, times(t, 8), undisturbed, func() *run { return s.restore(d.depot, often) }, nil, func() { s.whole() }, func() {
		s.complete()
		s.empty()
	})
	d.askedEach(1)

	proxy := s3test.ProxyTo(t, d.cold.Addr)
	d.through(proxy.Endpoint)
	proxy.Cut(1<<20+rand.N(int64(2<<20)), s3test.Down)
	s.restore(d.depot).fine()
	s.complete()
	proxy.Heal()
	s.empty()
	r := s.restore(d.depot)
	for range times(t, 8) {
		if time.Sleep(rand.N(100 * time.Millisecond)); r.gone() {
			break
		}
		proxy.Drop()
	}
	r.fine()
	s.complete()
	d.askedEach(1)
	t.Logf("%d kills", n)
}

// TestColdKilledRemovals kills the program while it removes what is in DEEP_ARCHIVE,
// puts it back, and deletes it for good. What is kept stays whole.
func TestColdKilledRemovals(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "STANDARD"), empty(t)
	s.src.Subvolume("live-a")
	for night := range 12 {
		s.night(d.depot, night, "--max-chain=3")
	}
	d.move("DEEP_ARCHIVE", func(key string) bool { return streamKey.MatchString(key) })
	storm := d.cold.Storm(t)
	proxy := s3test.ProxyTo(t, strings.TrimPrefix(storm.Endpoint, "http://"))
	d.through(proxy.Endpoint)
	proxy.Latency(10 * time.Millisecond)
	all := map[string]original{}
	for i, name := range s.names() {
		all[name] = s.wanted[name]
		if i < 9 {
			s.src.Delete("snaps/" + name)
			delete(s.wanted, name)
		}
	}
	disturbed := func(begin func() *run, ops ...string) (kills int) {
		for round := 0; ; round++ {
			before := storm.Count(ops...)
			r := begin()
			for limit := before + rand.N(4+round); storm.Count(ops...) <= limit && !r.gone(); {
				time.Sleep(time.Millisecond)
			}
			r.signal(syscall.SIGKILL)
			switch code := r.wait(); {
			case code == killed && round < 40:
				kills++
			case code == done:
				return kills
			case kills > 0 && strings.Contains(r.err.String(), "or was interrupted at that"):
				return kills // and keeps for a day what it was about to delete
			default:
				t.Fatalf("after %d kills it ends with %d:\n%s", kills, code, r.story())
			}
			d.run("list", d.url).fine()
		}
	}
	kills := disturbed(func() *run { return s.store(d.depot, "-d") }, "PutObject", "DeleteObject")
	kept := d.listed()
	if len(kept) == 12 {
		t.Error("nothing is removed; the test is of no use")
	}
	kills += disturbed(func() *run {
		r := d.run("trash", "restore", "--all", "--json", d.url)
		return r
	}, "PutObject", "DeleteObject")
	if got := d.listed(); len(got) != 12 {
		t.Errorf("it lists %q", sorted(got))
	}
	d.run("verify", d.url).fine()
	kills += disturbed(func() *run { return s.store(d.depot, "-d") }, "PutObject", "DeleteObject")
	kills += disturbed(func() *run { return d.run("trash", "empty", "--all", d.url) }, "PutObject", "DeleteObject")
	proxy.Latency(0)
	if got := d.listed(); !maps.Equal(got, kept) {
		t.Errorf("it lists %q, and not %q", sorted(got), sorted(kept))
	}
	for name := range kept {
		s.wanted[name] = all[name]
	}
	d.run("verify", d.url).fine()
	d.askedEach(0)
	s.restore(d.depot).ends(pending)
	d.cold.Advance(s3test.DeepBulkTime)
	s.restore(d.depot).fine()
	s.complete()
	for name, n := range d.cold.AskedAll() {
		if n != 1 {
			t.Errorf("%s has been asked for %d times", name, n)
		}
	}
	if n := len(d.cold.AskedAll()); n != len(kept) {
		t.Errorf("%d have been asked for", n)
	}
	uncopied(t, storm)
	t.Logf("%d kills", kills)
}
