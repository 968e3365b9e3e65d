package endurance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
)

// streamsOf returns the keys of the streams of snapshots.
func (d *depot) streamsOf(paths ...string) (keys []string) {
	d.t.Helper()
	for _, o := range d.objects() {
		if slices.Contains(paths, o.path) {
			keys = append(keys, o.key)
		}
	}
	return keys
}

// TestColdRemoval removes snapshots whose streams are in DEEP_ARCHIVE: they stay
// where they are, count as removed, can be had back, and cost something only when
// the trash is emptied. None of it asks for anything.
func TestColdRemoval(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "DEEP_ARCHIVE"), empty(t)
	storm := d.cold.Storm(t)
	d.through(storm.Endpoint)
	prices := "--prices=" + priceFile(t)
	s.src.Subvolume("live-a")
	for night := range 4 {
		s.night(d.depot, night)
	}
	s.family("b", 2, 300_000)
	s.store(d.depot).fine()
	d.classed("DEEP_ARCHIVE")
	all := maps.Clone(s.wanted)
	gone := []string{"b0", "b1", "a03"}
	before := d.streamsOf(gone...)
	for _, name := range gone {
		s.src.Delete("snaps/" + name)
		delete(s.wanted, name)
	}
	s.store(d.depot, "-d", "-n").fine()
	if got := d.streamsOf(gone...); !slices.Equal(got, before) {
		t.Errorf("a dry run leaves %q of %q", got, before)
	}
	r := s.store(d.depot, "-d", prices).fine()
	if got := d.listed(); !maps.Equal(got, keysOf(s.wanted)) {
		t.Errorf("it lists %q:\n%s", sorted(got), r.story())
	}
	if got := d.streamsOf(gone...); !slices.Equal(got, before) {
		t.Errorf("the streams are not in their places any more: %q and %q", got, before)
	}
	trashed := d.run("trash", "list", "--json", d.url).fine().records("trashed")
	if len(trashed) != len(gone) {
		t.Fatalf("the trash has %+v", trashed)
	}
	for _, x := range trashed {
		if !slices.Contains(gone, x.Path) || !slices.Contains(before, x.Handle) {
			t.Errorf("the trash has %+v", x)
		}
	}
	d.run("verify", d.url).fine()
	s.store(d.depot, "-d").fine() // nothing more to do
	uncopied(t, storm)

	// What is kept can be restored, and nothing else is asked for.
	want := map[string]int{"": 1}
	for _, name := range gone {
		want[name] = 0
	}
	s.restore(d.depot, "--tier=standard").ends(pending)
	d.asked(want)
	d.cold.Advance(2 * day)
	s.restore(d.depot).fine()
	s.complete()

	// One is put back, one is stored anew, under its old name.
	d.run("trash", "restore", d.url, "a03").fine()
	s.wanted["a03"] = all["a03"]
	s.restore(d.depot).ends(pending)
	want["a03"] = 1
	d.asked(want)
	d.cold.Advance(2 * day)
	s.restore(d.depot).fine()
	s.complete()

	// To empty the trash costs something, which is said before, and on what day it
	// costs nothing any more.
	d.run("trash", "empty", "-n", "--all", prices, d.url).fine().says("EUR", "b0", "b1")
	d.run("cost", prices, d.url).fine()
	if got := d.streamsOf("b0", "b1"); len(got) != 2 {
		t.Errorf("a dry run leaves %q", got)
	}
	empty := d.run("trash", "empty", "--all", prices, d.url).fine()
	empty.says("EUR")
	if got := d.streamsOf("b0", "b1"); len(got) != 0 {
		t.Errorf("the emptied trash has %q", got)
	}
	d.sound(s)
	for _, key := range d.bucket.keys() {
		if strings.Contains(key, "/b0/") || strings.Contains(key, "/b1/") || strings.Contains(key, ".trashed") || strings.HasPrefix(key, "trash/") {
			t.Errorf("left behind: %s", key)
		}
	}
	uncopied(t, storm)
	d.run("verify", d.url).fine()
}

// uncopied fails the test if a stream was copied.
func uncopied(t *testing.T, storm *s3test.Storm) {
	t.Helper()
	for _, r := range storm.Requests("CopyObject") {
		if streamKey.MatchString(r.Key) {
			t.Errorf("%s is a copy", r.Key)
		}
	}
}

func keysOf(all map[string]original) map[string]bool {
	keys := map[string]bool{}
	for name := range all {
		keys[name] = true
	}
	return keys
}

// TestColdStoredAgain removes snapshots and stores the same ones again, from where
// they still are: they come out of the trash, and nothing is sent.
func TestColdStoredAgain(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "GLACIER")
	s := d.nights(3)
	chain := d.chain()
	last := chain[2].path
	s.restore(d.depot).ends(pending)
	d.cold.Advance(day)
	s.restore(d.depot).fine()
	s.complete()
	// Another machine has all of them but one, and nothing to do with the first.
	s.dst.Delete("snaps/" + last)
	s.elsewhere()
	s.storeFrom(s.to(), d.depot, "-d").fine()
	if got := d.run("trash", "list", "--json", d.url).fine().records("trashed"); len(got) != 1 || got[0].Path != last {
		t.Errorf("the trash has %+v", got)
	}
	s.elsewhere()
	r := s.store(d.depot).fine()
	if got := d.run("trash", "list", "--json", d.url).fine().records("trashed"); len(got) != 0 {
		t.Errorf("the trash has %+v", got)
	}
	if got := d.streamsOf(last); len(got) != 1 {
		t.Errorf("it is stored as %q:\n%s", got, r.story())
	}
	d.sound(s)
	s.restore(d.depot).fine()
	s.complete()
	d.askedEach(1)
	d.run("verify", "--data", d.url).fine()
}

// listed are the paths of the snapshots that the program lists.
func (d *depot) listed() map[string]bool {
	d.t.Helper()
	paths := map[string]bool{}
	for _, x := range d.run("list", "--json", d.url).fine().records("stream") {
		paths[x.Path] = true
	}
	return paths
}

// TestColdTiering has INTELLIGENT_TIERING move streams into its archive tiers, which
// a listing does not tell.
func TestColdTiering(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "INTELLIGENT_TIERING")
	s := d.nights(3)
	d.classed("INTELLIGENT_TIERING")
	chain := d.chain()
	s.restore(d.depot).fine()
	s.complete()
	s.empty()
	d.cold.Archive(t, d.name, chain[1].key, "ARCHIVE_ACCESS")
	d.cold.Archive(t, d.name, chain[2].key, "DEEP_ARCHIVE_ACCESS")
	s.restore(d.depot, "-n").fine()
	d.askedEach(0)
	want := map[string]int{chain[1].path: 1, chain[2].path: 1}
	for i, step := range []struct {
		later time.Duration
		code  int
		there int
	}{{0, pending, 1}, {13 * time.Hour, pending, 2}, {2 * day, done, 3}} {
		d.cold.Advance(step.later)
		s.elsewhere()
		s.restore(d.depot).ends(step.code)
		if n := s.whole(); n != step.there {
			t.Errorf("step %d: %d are there, and not %d", i, n, step.there)
		}
		d.asked(want)
	}
	s.complete()
	for _, ask := range d.cold.Asks() {
		if ask.Days != 0 || ask.Status != 202 {
			t.Errorf("it was asked: %+v", ask)
		}
	}

	// What is archived is removed without being copied.
	d.cold.Archive(t, d.name, chain[2].key, "DEEP_ARCHIVE_ACCESS")
	s.src.Delete("snaps/" + chain[2].path)
	delete(s.wanted, chain[2].path)
	s.store(d.depot, "-d").fine()
	d.asked(want)
	d.run("trash", "empty", "--all", d.url).fine()
	d.sound(s)
}

// TestColdManifests has a rule of the bucket move everything into DEEP_ARCHIVE, what
// describes the streams as well. Listing, storing and restoring go on.
func TestColdManifests(t *testing.T) {
	t.Parallel()
	d, s := newColdDepot(t, "STANDARD"), pair(t, 3, 300_000)
	s.store(d.depot).fine()
	moved := d.move("DEEP_ARCHIVE", func(string) bool { return true })
	if moved < 6 {
		t.Fatalf("%d are moved", moved)
	}
	if got := d.listed(); len(got) != 3 {
		t.Errorf("it lists %q", sorted(got))
	}
	if code := d.run("verify", d.url).wait(); code != done && code != partly {
		t.Errorf("verify ends with %d", code)
	}
	if n := len(d.cold.AskedAll()); n != 0 {
		t.Errorf("%d have been asked for", n)
	}
	live := s.src.Path("live-a")
	s.snapshot(live, "a3")
	s.store(d.depot).fine()
	runs := 0
	for r := s.restore(d.depot); ; r = s.restore(d.depot) {
		code := r.wait()
		if code == done {
			break
		}
		if runs++; code != pending || runs > 5 {
			t.Fatalf("run %d ends with %d:\n%s", runs, code, r.story())
		}
		d.cold.Advance(2*day + time.Hour)
		s.elsewhere()
	}
	s.complete()
	for name, n := range d.cold.AskedAll() {
		if n != 1 {
			t.Errorf("%s has been asked for %d times", name, n)
		}
	}
	t.Logf("%d runs, %d asked for", runs, len(d.cold.AskedAll()))
	s.src.Delete("snaps/a3")
	delete(s.wanted, "a3")
	s.store(d.depot, "-d").fine()
	d.run("trash", "empty", "--all", d.url).fine()
	d.sound(s)
}

// TestColdBackup backs up into DEEP_ARCHIVE on 14 days, and removes what its rules do
// not keep: nothing is ever copied or asked for, and what is kept can be restored.
func TestColdBackup(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "DEEP_ARCHIVE")
	storm := d.cold.Storm(t)
	d.through(storm.Endpoint)
	d.env = append(d.env, "TZ=UTC")
	s := newSeries(t)
	for i := range 20 {
		s.write(fmt.Sprint("file", i), 40_000)
	}
	const days, longest = 14, 4
	first := time.Now().UTC().AddDate(0, 0, -days-1).Truncate(day).Add(12 * time.Hour)
	for i := range days {
		s.write("diary", 150_000)
		s.day(first.AddDate(0, 0, i))
		args := slices.Concat([]string{"backup", "--json", "-S", "-f", s.from(), "-N", "2", "--max-chain", fmt.Sprint(longest), "--dest-keep", "last:3,weekly:2"}, d.write, []string{s.live, d.url})
		r := startWith(t, s.state, d.env, args...).fine()
		listed := d.listed()
		var there []object
		for _, o := range d.objects() {
			if listed[o.path] {
				there = append(there, o)
			}
		}
		if want := s.needs(there, s.keeping(3, 0, 2, 0)); !maps.Equal(listed, want) {
			t.Fatalf("day %d: there are %q, and the rules keep %q:\n%s", i, sorted(listed), sorted(want), r.story())
		}
	}
	uncopied(t, storm)
	prune := d.run("prune", "-n", "--force", "--json", "--keep", "last:1", "--prices="+priceFile(t), d.url)
	prune.fine()
	d.run("trash", "empty", "--all", "--prices="+priceFile(t), d.url).fine().says("EUR")
	s.wanted = map[string]original{}
	for _, o := range d.objects() {
		s.wanted[o.path] = s.all[o.path]
	}
	d.sound(s.scene)
	d.classed("DEEP_ARCHIVE")
	s.restore(d.depot).ends(pending)
	d.cold.Advance(2 * day)
	s.restore(d.depot).fine()
	s.complete()
	d.askedEach(1)
}
