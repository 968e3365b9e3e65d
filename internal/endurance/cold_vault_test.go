package endurance

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// A vaultDepot is an archive in a vault, with a clock.
type vaultDepot struct {
	*depot
	vault vaultBucket
	proxy *s3test.Proxy // on the way there
}

type vaultBucket struct {
	t      *testing.T
	server *glaciertest.Server
	name   string
}

// newVaultDepot has a scene's machine make an empty archive in a vault.
func newVaultDepot(s *scene, opts ...glaciertest.Option) *vaultDepot {
	s.t.Helper()
	b := vaultBucket{s.t, glaciertest.Start(s.t, opts...), "Cold"}
	proxy := s3test.ProxyTo(s.t, b.server.Addr())
	d := &vaultDepot{&depot{t: s.t, url: "glacier://Cold/home/", prefix: "home/", bucket: b, write: []string{"--part-size=1"}}, b, proxy}
	d.env = b.server.EnvAt(proxy.Endpoint)
	d.here(s, "init", d.url).fine()
	return d
}

// here runs the program on the machine that has stored everything.
func (d *vaultDepot) here(s *scene, args ...string) *run {
	d.t.Helper()
	return startWith(d.t, s.state, d.env, args...)
}

// back starts a restore there.
func (d *vaultDepot) back(s *scene, flags ...string) *run {
	d.t.Helper()
	return d.here(s, slices.Concat([]string{"--json"}, flags, []string{d.url, s.to()})...)
}

// describedAs is what the description of an archive begins with that is an object
// (docs/format.md).
const describedAs = "buttersink 1 "

func (b vaultBucket) all() map[string][]glaciertest.Archive {
	b.t.Helper()
	all := map[string][]glaciertest.Archive{}
	for _, a := range b.server.Archives(b.t, b.name) {
		text, ok := strings.CutPrefix(a.Description, describedAs)
		key, err := url.PathUnescape(text)
		if !ok || err != nil {
			b.t.Fatalf("what is %q?", a.Description)
		}
		all[key] = append(all[key], a)
	}
	return all
}

func (b vaultBucket) find(key string) glaciertest.Archive {
	b.t.Helper()
	all := b.all()[key]
	if len(all) == 0 {
		b.t.Fatalf("there is no %s", key)
	}
	return all[0]
}

func (b vaultBucket) keys() (keys []string) {
	b.t.Helper()
	for key, all := range b.all() {
		for range all {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (b vaultBucket) size(key string) int64 { return b.find(key).Size }
func (b vaultBucket) get(key string) []byte { return b.server.Content(b.t, b.name, b.find(key).ID) }
func (b vaultBucket) put(key string, data []byte) {
	b.server.Put(b.t, b.name, describedAs+key, data)
}
func (b vaultBucket) remove(key string) { b.server.Delete(b.t, b.name, b.find(key).ID) }
func (b vaultBucket) unfinished() (all []string) {
	for _, u := range b.server.Uploads(b.t, b.name) {
		all = append(all, u.Description)
	}
	return all
}

// asked fails the test unless each stream has been asked for so many times.
func (d *vaultDepot) asked(want int) {
	d.t.Helper()
	for _, o := range d.objects() {
		if n := d.vault.server.Asked(d.t, d.vault.name, d.vault.find(o.key).ID); n != want {
			d.t.Errorf("%s has been asked for %d times, and not %d", o, n, want)
		}
	}
}

// once fails the test if anything has been asked for again, or a stream is there
// twice. What is small can be, after a run that died before it could write down that
// it had stored it.
func (d *vaultDepot) once() {
	d.t.Helper()
	for key, all := range d.vault.all() {
		if len(all) > 1 && streamKey.MatchString(key) {
			d.t.Errorf("%s is there %d times", key, len(all))
		}
		for _, a := range all {
			if n := d.vault.server.Asked(d.t, d.vault.name, a.ID); n > 1 {
				d.t.Errorf("%s has been asked for %d times", key, n)
			}
		}
	}
}

// passes runs something every few hours by the vault's clock, until it is done.
func (d *vaultDepot) passes(every time.Duration, begin func() *run) (runs int) {
	d.t.Helper()
	for {
		r := begin()
		runs++
		switch code := r.wait(); {
		case code == done:
			return runs
		case code != pending || time.Duration(runs)*every > 10*day:
			d.t.Fatalf("run %d ends with %d:\n%s", runs, code, r.story())
		}
		d.vault.server.Advance(every)
	}
}

// TestColdVault stores in a vault, and has it back.
func TestColdVault(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	s.src.Subvolume("live-a")
	for night := range 4 {
		s.night(d.depot, night)
	}
	d.sound(s)
	prices := "--prices=" + priceFile(t)
	d.back(s, "-n").fine()
	d.back(s, "--max-cost=0.0001", prices).ends(conflict)
	for _, args := range [][]string{{"list"}, {"verify"}, {"cost", prices}, {"thaw", "-n"}, {"trash", "list"}} {
		d.here(s, append(args, d.url)...).fine()
	}
	d.here(s, "verify", "--data", d.url).ends(partly)
	d.asked(0)
	d.back(s).ends(pending)
	d.back(s, "--tier=expedited").ends(pending)
	d.asked(1)
	d.vault.server.Advance(glaciertest.BulkTime)
	d.back(s).fine()
	s.complete()
	d.here(s, "verify", "--data", d.url).fine()

	// A snapshot that is removed stays until the trash is emptied.
	s.src.Delete("snaps/a03")
	gone := s.wanted["a03"]
	delete(s.wanted, "a03")
	s.store(d.depot, "-d", prices).fine()
	if got := d.here(s, "trash", "list", "--json", d.url).fine().records("trashed"); len(got) != 1 || got[0].Path != "a03" {
		t.Errorf("the trash has %+v", got)
	}
	d.here(s, "trash", "restore", d.url, "a03").fine()
	s.wanted["a03"] = gone
	d.sound(s)
	delete(s.wanted, "a03")
	s.store(d.depot, "-d").fine()
	d.here(s, "trash", "empty", "-n", "--all", prices, d.url).fine().says("EUR")
	d.here(s, "trash", "empty", "--all", prices, d.url).fine().says("EUR")
	d.sound(s)
	for _, key := range d.vault.keys() {
		if strings.Contains(key, "a03") || strings.Contains(key, ".trashed") {
			t.Errorf("left behind: %s", key)
		}
	}
	d.once()

	// A day later the copies are gone, and something can be asked for again.
	d.vault.server.Advance(2 * day)
	s.empty()
	d.back(s).ends(pending)
	d.asked(2)
	d.vault.server.Advance(glaciertest.BulkTime)
	d.back(s).fine()
	s.complete()
}

// TestColdVaultLostLedger loses what the machine knows about a vault. Everything is
// restored from the inventory and the descriptions alone, and stored to again.
func TestColdVaultLostLedger(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	s.src.Subvolume("live-a")
	for night := range 4 {
		s.night(d.depot, night)
	}
	s.elsewhere()
	runs := d.passes(7*time.Hour, func() *run { return d.back(s) })
	s.complete()
	d.once()
	if n := d.vault.server.Asked(t, d.vault.name, ""); n > 2 {
		t.Errorf("%d inventories", n)
	}
	d.passes(7*time.Hour, func() *run { return d.here(s, "verify", d.url) })
	if got := len(d.here(s, "list", "--json", d.url).fine().records("stream")); got != 4 {
		t.Errorf("%d are listed", got)
	}

	// It is stored to as before, in increments.
	live := s.src.Path("live-a")
	s.snapshot(live, "a04")
	d.passes(7*time.Hour, func() *run { return s.store(d.depot) })
	for _, o := range d.sound(s) {
		if o.path != "a00" && o.from == "None" {
			t.Errorf("%s is stored in full", o)
		}
	}
	// A third machine sees both what the inventory has and what it had not.
	s.empty()
	d.vault.server.Advance(3 * day)
	s.elsewhere()
	more := d.passes(7*time.Hour, func() *run { return d.back(s) })
	s.complete()
	t.Logf("%d runs, and %d; %d inventories", runs, more, d.vault.server.Asked(t, d.vault.name, ""))
}

// TestColdVaultToS3 moves an archive from a vault to a storage class of S3.
func TestColdVaultToS3(t *testing.T) {
	t.Parallel()
	to := newColdDepot(t, "DEEP_ARCHIVE")
	s := empty(t)
	d := newVaultDepot(s, glaciertest.Keys(to.server.Access, to.server.Secret))
	s.src.Subvolume("live-a")
	for night := range 3 {
		s.night(d.depot, night)
	}
	to.env = slices.Concat(to.env, d.env)
	move := func() *run {
		return startWith(t, s.state, to.env, slices.Concat([]string{"--json"}, to.write, []string{d.url, to.url})...)
	}
	move().ends(pending)
	d.asked(1)
	d.vault.server.Advance(glaciertest.BulkTime)
	move().fine()
	d.asked(1)
	to.sound(s)
	to.classed("DEEP_ARCHIVE")
	move().fine()
	s.restore(to.depot).ends(pending)
	to.cold.Advance(s3test.DeepBulkTime)
	s.restore(to.depot).fine()
	s.complete()
	for _, o := range to.objects() {
		var same bool
		for _, from := range d.objects() {
			same = same || from.to == o.to && from.from == o.from && from.size == o.size
		}
		if !same {
			t.Errorf("%s is not in the vault", fmt.Sprint(o))
		}
	}
}
