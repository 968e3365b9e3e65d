package endurance

import (
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
)

// TestColdRestore stores in DEEP_ARCHIVE and has it back: what looks asks for
// nothing, what is too dear neither; then all is asked for at once, by any number of
// runs and machines once, and it comes when it is due.
func TestColdRestore(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "STANDARD"), pair(t, 3, 300_000)
	d.write = d.write[:1]
	plain := d.url
	d.url += "?storage-class=DEEP_ARCHIVE"
	s.store(d.depot).fine()
	s.store(d.depot).fine()
	d.url = plain
	d.sound(s)
	d.classed("DEEP_ARCHIVE")

	prices := "--prices=" + priceFile(t)
	s.restore(d.depot, "-n").fine()
	for _, args := range [][]string{{"list", d.url}, {"cost", d.url}, {"verify", d.url}, {"thaw", "-n", d.url}, {"cost", prices, d.url + "a1"}, {"trash", "list", d.url}} {
		d.run(args...).fine()
	}
	d.run("thaw", "-n", prices, d.url+"a1").fine().says("WOULD: Ask cold storage for", "bulk", "EUR", "readable after 12 h to 48 h")
	r := startWith(t, s.state, d.env, "-n", prices, d.url, s.to()).fine()
	r.says("WOULD: Ask cold storage for 3 streams", "DEEP_ARCHIVE", "bulk", "standard", "EUR")
	s.restore(d.depot, "--max-cost=0.001", prices).ends(conflict).says("EUR", "--max-cost")
	s.restore(d.depot, "--max-cost=1000").ends(conflict).says("no prices") // cannot be told
	s.restore(d.depot, "--max-cost=10", "--tier=standard", prices).ends(conflict)
	d.run("thaw", "--max-cost=0.001", prices, d.url).ends(conflict)
	d.run("verify", "--data", d.url).ends(partly)
	s.restore(d.depot, "--tier=expedited").unsuccessful("DEEP_ARCHIVE")
	d.askedEach(0)
	if n := s.whole(); n != 0 {
		t.Errorf("%d have come", n)
	}

	begun := d.cold.Now()
	r = s.restore(d.depot, "--max-cost=10", prices).ends(pending)
	d.askedEach(1)
	if all, x := r.records("thawing"), r.result(); x.OK || x.Exit != pending || x.Pending != 3 || len(all) != 3 || !all[0].Fresh || all[0].State != "pending" || all[0].Class != "DEEP_ARCHIVE" || all[0].Tier != "bulk" {
		t.Errorf("it tells of %+v and %+v", all, x)
	} else if late := x.Due.Sub(begun); late < 47*time.Hour || late > 49*time.Hour {
		t.Errorf("it is due after %v", late)
	}
	r = startWith(t, s.state, d.env, d.url, s.to()).ends(pending)
	r.says("a0", "a1", "a2", "DEEP_ARCHIVE", "READABLE BY", "Run the same again")
	d.cold.Advance(47 * time.Hour)
	if r := s.restore(d.depot).ends(pending); r.result().Transferred != 0 || r.records("thawing")[0].Fresh {
		t.Errorf("too soon:\n%s", r.story())
	}
	d.run("thaw", d.url).ends(pending)
	if n := s.whole(); n != 0 {
		t.Errorf("%d have come", n)
	}

	d.cold.Advance(90 * time.Minute)
	d.cold.Restart()
	s.elsewhere()
	s.restore(d.depot, "--max-cost=1", prices).ends(done)
	s.complete()
	s.restore(d.depot).fine()
	d.askedEach(1)
	d.run("verify", "--data", d.url).fine()
	d.run("thaw", d.url).fine()
	for _, ask := range d.cold.Asks() {
		if ask.Tier != "Bulk" || ask.Days != 7 || ask.Status != 202 {
			t.Errorf("it was asked: %+v", ask)
		}
	}

	// A week later they are cold again; what is at the destination is not asked for.
	d.cold.Advance(10 * day)
	s.restore(d.depot).fine()
	s.dst.Delete("snaps/a2")
	clear(s.seen)
	s.restore(d.depot, "--tier=standard", "--days=1").ends(pending)
	d.asked(map[string]int{"": 1, "a2": 2})
	d.cold.Advance(s3test.DeepStandardTime)
	s.restore(d.depot).fine()
	s.complete()
	d.asked(map[string]int{"": 1, "a2": 2})
}

// TestColdMixture has a chain whose streams are in different classes. Every run does
// what can be done, and asks for the rest.
func TestColdMixture(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "STANDARD")
	s := d.nights(4)
	chain := d.chain()
	for i, class := range []string{"STANDARD", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"} {
		d.cold.Move(t, d.name, chain[i].key, class)
	}
	for i, step := range []struct {
		later time.Duration
		code  int
		there int
	}{{0, pending, 2}, {s3test.BulkTime, pending, 3}, {day, pending, 3}, {day, done, 4}} {
		d.cold.Advance(step.later)
		s.elsewhere()
		s.restore(d.depot).ends(step.code)
		if n := s.whole(); n != step.there {
			t.Errorf("step %d: %d are there, and not %d", i, n, step.there)
		}
		d.asked(map[string]int{chain[2].path: 1, chain[3].path: 1})
	}
	s.complete()

	// The middle of a chain is missing for days: what starts from it waits, too.
	s.empty()
	d.cold.Move(t, d.name, chain[3].key, "STANDARD")
	d.cold.Advance(30 * day)
	if r := s.restore(d.depot).ends(pending); r.result().Pending != 1 {
		t.Errorf("it waits for something else:\n%s", r.story())
	}
	if n := s.whole(); n != 2 {
		t.Errorf("%d are there", n)
	}
	d.cold.Advance(s3test.BulkTime)
	s.restore(d.depot).fine()
	s.complete()
}

// nights stores snapshots one by one, each as an increment from the one before.
func (d *coldDepot) nights(count int) *scene {
	d.t.Helper()
	s := empty(d.t)
	s.src.Subvolume("live-a")
	for night := range count {
		s.night(d.depot, night)
	}
	return s
}

// chain returns the streams of an archive that has one chain, from its beginning.
func (d *coldDepot) chain() (chain []object) {
	d.t.Helper()
	from := "None"
	for all := d.objects(); len(chain) < len(all); from = chain[len(chain)-1].to {
		n := len(chain)
		for _, o := range all {
			if o.from == from {
				chain = append(chain, o)
			}
		}
		if len(chain) != n+1 {
			d.t.Fatalf("this is no chain: %v", all)
		}
	}
	return chain
}

// TestColdExpires has readable copies expire while they are being read. That is no
// failure: they are asked for again, and the next run carries on.
func TestColdExpires(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "DEEP_ARCHIVE"), pair(t, 3, 6<<20)
	s.store(d.depot).fine()
	s.restore(d.depot, "--days=1").ends(pending)
	d.cold.Advance(s3test.DeepBulkTime)
	proxy := s3test.ProxyTo(t, d.cold.Addr)
	d.through(proxy.Endpoint)
	proxy.Slow(4 << 20)
	r := s.restore(d.depot, often)
	if !r.await(`"event":"progress"`, 2) {
		t.Fatalf("it ends before:\n%s", r.story())
	}
	time.Sleep(500 * time.Millisecond)
	d.cold.Advance(3 * day)
	proxy.Drop()
	proxy.Heal()
	r.ends(pending)
	if n := s.whole(); n == 3 {
		t.Error("all have come; the test is of no use")
	}
	again := 0
	for _, o := range d.objects() {
		n := d.cold.Asked(d.name, o.key)
		if there := s.there(o.path); there && n != 1 || !there && n != 2 {
			t.Errorf("%s is there: %v, and has been asked for %d times", o, there, n)
		}
		again += n - 1
	}
	if x := r.result(); x.Pending != again || again == 0 {
		t.Errorf("%d are pending, %d have been asked for again", x.Pending, again)
	}
	s.elsewhere()
	s.restore(d.depot).ends(pending)
	d.cold.Advance(s3test.DeepBulkTime)
	s.restore(d.depot).fine()
	s.complete()
	if sum := len(d.cold.Asks()); sum != 3+again {
		t.Errorf("%d have been asked for again, and there are %d requests", again, sum)
	}
}

// there reports whether a snapshot is at the destination by its name.
func (s *scene) there(name string) bool {
	for _, path := range s.dst.Subvolumes() {
		if path == "snaps/"+name {
			return true
		}
	}
	return false
}

// TestColdWaits: a run that waits holds no lock meanwhile, can be interrupted, and
// goes on by itself. It looks once a minute.
func TestColdWaits(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "DEEP_ARCHIVE"), pair(t, 2, 300_000)
	s.store(d.depot).fine()
	waiting := s.restore(d.depot, "--wait")
	if !waiting.await(`"event":"thawing"`, 2) {
		t.Fatalf("it ends:\n%s", waiting.story())
	}
	other := s.restore(d.depot).ends(pending) // is not locked out
	if other.records("thawing")[0].Fresh {
		t.Errorf("it is asked for again:\n%s", other.story())
	}
	stopped := s.restore(d.depot, "--wait", "--tier=standard")
	if !stopped.await(`"event":"thawing"`, 2) {
		t.Fatalf("it ends:\n%s", stopped.story())
	}
	stopped.signal(syscall.SIGINT)
	stopped.ends(interrupted)
	d.cold.Advance(s3test.DeepBulkTime)
	waiting.ends(done)
	s.complete()
	d.askedEach(1)
	if x := waiting.result(); x.Transferred != 2 {
		t.Errorf("it says %+v", x)
	}
}
