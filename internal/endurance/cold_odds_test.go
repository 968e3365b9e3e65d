package endurance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// TestColdDelete restores with --delete. As long as anything is pending nothing is
// removed.
func TestColdDelete(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "GLACIER")
	s := d.nights(3)
	extra := s.dst.Subvolume("extra")
	s.dst.Snapshot(extra, "snaps/old", true)
	s.dst.Delete("extra")
	for range 2 {
		r := s.restore(d.depot, "-d").ends(pending)
		if !s.there("old") || len(r.records("removed")) > 0 {
			t.Fatalf("something is removed:\n%s", r.story())
		}
	}
	d.cold.Advance(s3test.BulkTime)
	s.restore(d.depot, "-d").fine()
	s.complete()
	d.askedEach(1)
}

// TestColdAtOnce has several machines restore the same at the same time, some by
// another tier. Each stream is asked for once.
func TestColdAtOnce(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "GLACIER")
	s := d.nights(6)
	var runs []*run
	for i := range 5 {
		s.elsewhere()
		if i == 0 {
			runs = append(runs, s.restore(d.depot, "--tier=standard"))
		} else {
			runs = append(runs, d.run("thaw", "--json", "--tier=standard", d.url))
		}
	}
	fresh := 0
	for _, r := range runs {
		for _, x := range r.ends(pending).records("thawing") {
			if x.Fresh {
				fresh++
			}
		}
	}
	d.askedEach(1)
	if fresh != 6 {
		t.Errorf("%d say that they have asked", fresh)
	}
	d.cold.Advance(s3test.StandardTime)
	s.restore(d.depot).fine()
	s.complete()
}

// TestColdDenied may read and list, and not ask. What can be read is restored; the
// permission that is missing is named.
func TestColdDenied(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "STANDARD")
	s := d.nights(3)
	chain := d.chain()
	d.cold.Move(t, d.name, chain[2].key, "DEEP_ARCHIVE")
	mine := d.env
	access, secret := d.server.User(t, d.name, "s3:ListBucket", "s3:GetObject", "s3:ListBucketMultipartUploads")
	d.env = s3test.EnvOf(d.cold.Endpoint, access, secret)
	r := s.restore(d.depot)
	if code := r.wait(); code != partly {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	r.says("s3:RestoreObject", "a02")
	if n := s.whole(); n != 2 {
		t.Errorf("%d are there", n)
	}
	d.askedEach(0)
	s.restore(d.depot, "-n").fine()
	theirs := d.env
	d.env = mine
	d.run("thaw", d.url).ends(pending)
	d.env = theirs
	s.restore(d.depot).ends(pending) // others have asked
	d.cold.Advance(s3test.DeepBulkTime)
	s.restore(d.depot).fine()
	s.complete()
	d.asked(map[string]int{chain[2].path: 1})
}

// TestColdToDirectory copies an archive out of DEEP_ARCHIVE into a directory, and
// from there, sealed, into another class.
func TestColdToDirectory(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "DEEP_ARCHIVE")
	d.sealed(newAgeKey(t))
	s := d.nights(3)
	to := tempDepot(t)
	copies := func() *run {
		return startWith(t, s.state+"-copying", d.env, slices.Concat([]string{"--json"}, d.read, []string{d.url, to.url})...)
	}
	copies().ends(pending)
	if n := len(to.objects()); n > 0 {
		t.Errorf("%d are copied", n)
	}
	d.cold.Advance(s3test.DeepBulkTime)
	copies().fine()
	to.read = d.read
	to.sound(s)
	s.restore(to).fine()
	s.complete()
	d.askedEach(1)
}

// TestColdVaultDryRun looks at a vault from a machine that knows nothing. That takes
// one inventory, and asks for no stream.
func TestColdVaultDryRun(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	s.src.Subvolume("live-a")
	for night := range 3 {
		s.night(d.depot, night)
	}
	d.vault.server.Advance(2 * day)
	s.elsewhere()
	for round, want := range []int{pending, done, done} {
		for _, args := range [][]string{{"sync", "-n", d.url, s.to()}, {"list", d.url}, {"cost", d.url}, {"thaw", "-n", d.url}, {"trash", "list", d.url}} {
			if code := d.here(s, args...).wait(); code != want {
				t.Errorf("round %d: %q ends with %d", round, args, code)
			}
		}
		d.vault.server.Advance(6 * time.Hour)
	}
	d.asked(0)
	d.once()
	if n := d.vault.server.Asked(t, d.vault.name, ""); n != 1 {
		t.Errorf("%d inventories", n)
	}
}

// TestColdVaultExpires has what is thawed go while it is being read, and jobs fail.
func TestColdVaultExpires(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	server := d.vault.server
	s.src.Subvolume("live-a")
	for number := range 3 {
		s.bulky(number)
	}
	s.store(d.depot).fine()
	d.back(s).ends(pending)
	failed := ""
	for _, j := range server.Jobs(t, d.vault.name) {
		if failed == "" {
			failed = j.Archive
			server.FailJob(t, d.vault.name, j.ID)
		}
	}
	server.Advance(glaciertest.BulkTime)
	r := d.back(s).ends(pending)
	if n := server.Asked(t, d.vault.name, failed); n != 2 {
		t.Errorf("what has failed has been asked for %d times:\n%s", n, r.story())
	}
	server.Advance(glaciertest.BulkTime)
	d.proxy.Slow(4 << 20)
	r = d.back(s, often)
	if !r.await(`"event":"progress"`, 2) {
		t.Fatalf("it ends before:\n%s", r.story())
	}
	time.Sleep(300 * time.Millisecond)
	server.Advance(2 * day)
	d.proxy.Drop()
	d.proxy.Heal()
	r.ends(pending)
	missing := 3 - s.whole()
	if missing == 0 {
		t.Error("all have come; the test is of no use")
	}
	asked := len(server.Jobs(t, d.vault.name))
	if asked != 4+missing {
		t.Errorf("there are %d jobs, and %d are missing", asked, missing)
	}
	d.back(s).ends(pending)
	server.Advance(glaciertest.BulkTime)
	d.back(s).fine()
	s.complete()
	if n := len(server.Jobs(t, d.vault.name)); n != asked {
		t.Errorf("%d jobs, and %d before", n, asked)
	}
}

// TestColdVaultLostTrash removes something from a vault and loses what the machine
// knows: it is still removed, can be put back, and can be deleted for good.
func TestColdVaultLostTrash(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	s.src.Subvolume("live-a")
	for night := range 4 {
		s.night(d.depot, night)
	}
	for _, name := range []string{"a02", "a03"} {
		s.src.Delete("snaps/" + name)
		delete(s.wanted, name)
	}
	s.store(d.depot, "-d").fine()
	d.vault.server.Advance(2 * day)
	s.elsewhere()
	var list *run
	listed := func() (paths []string) {
		d.passes(7*time.Hour, func() *run { list = d.here(s, "list", "--json", d.url); return list })
		for _, x := range list.records("stream") {
			paths = append(paths, x.Path)
		}
		slices.Sort(paths)
		return paths
	}
	if got := listed(); !slices.Equal(got, []string{"a00", "a01"}) {
		t.Errorf("it lists %q", got)
	}
	d.passes(7*time.Hour, func() *run { return d.here(s, "trash", "restore", d.url, "a02") })
	if got := listed(); !slices.Equal(got, []string{"a00", "a01", "a02"}) {
		t.Errorf("it lists %q", got)
	}
	d.passes(7*time.Hour, func() *run { return d.here(s, "trash", "empty", "--all", d.url) })
	for _, key := range d.vault.keys() {
		if strings.Contains(key, "/a03/") || strings.HasSuffix(key, ".trashed") || strings.HasSuffix(key, ".deleting") {
			t.Errorf("left behind: %s", key)
		}
	}
	if got := listed(); !slices.Equal(got, []string{"a00", "a01", "a02"}) {
		t.Errorf("it lists %q", got)
	}
	// And another one, by an inventory that tells of all this.
	d.vault.server.Advance(2 * day)
	s.state = filepath.Join(t.TempDir(), "third")
	if got := listed(); !slices.Equal(got, []string{"a00", "a01", "a02"}) {
		t.Errorf("another machine lists %q", got)
	}
	d.here(s, "verify", d.url).ends(partly) // the manifests are asked for
	d.vault.server.Advance(7 * time.Hour)
	d.here(s, "verify", d.url).fine()
}

// TestColdSmall stores increments that are too short to be worth it: they stay where
// they can be read at once.
func TestColdSmall(t *testing.T) {
	t.Parallel()
	d := newColdDepot(t, "DEEP_ARCHIVE")
	s := d.nights(1)
	live := s.src.Path("live-a")
	for i := range 2 {
		if err := os.WriteFile(filepath.Join(live, "diary"), noise(byte(i), 10_000), 0o644); err != nil {
			t.Fatal(err)
		}
		s.snapshot(live, fmt.Sprintf("a%02d", i+1))
		s.store(d.depot).fine()
	}
	for _, o := range d.objects() {
		want := "STANDARD"
		if o.from == "None" {
			want = "DEEP_ARCHIVE"
		}
		if got := d.cold.Class(d.name, o.key); got != want {
			t.Errorf("%s of %d bytes is in %s, and not in %s", o, o.size, got, want)
		}
	}
	s.restore(d.depot).ends(pending)
	d.cold.Advance(s3test.DeepBulkTime)
	s.restore(d.depot).fine()
	s.complete()
	d.asked(map[string]int{"a00": 1})

	// What is hot is moved to the trash as ever, what is cold is marked.
	other := empty(t)
	other.family("b", 1, 0)
	other.store(d.depot, "-d").fine()
	if got := d.run("trash", "list", "--json", d.url).fine().records("trashed"); len(got) != 3 {
		t.Errorf("the trash has %+v", got)
	}
	s.elsewhere()
	d.run("trash", "restore", "--all", d.url).fine()
	d.run("verify", d.url).fine()
	s.empty()
	s.restore(d.depot, "--exclude=b").fine()
	s.complete()
	d.asked(map[string]int{"a00": 1})
}

// TestColdServersDie has a vault's server die while it is stored to and read from,
// and be back a moment later. The program goes on by itself.
func TestColdServersDie(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	s.src.Subvolume("live-a")
	for number := range 3 {
		s.bulky(number)
	}
	dies := func(begin func() *run, op string) {
		before := d.vault.server.Count(op)
		r := begin()
		for d.vault.server.Count(op) < before+2 && !r.gone() {
			time.Sleep(time.Millisecond)
		}
		d.vault.server.Stop()
		time.Sleep(200 * time.Millisecond)
		d.vault.server.Restart()
		r.fine()
	}
	dies(func() *run { return s.store(d.depot) }, "UploadMultipartPart")
	d.sound(s)
	d.back(s).ends(pending)
	d.vault.server.Advance(glaciertest.BulkTime)
	dies(func() *run { return d.back(s) }, "GetJobOutput")
	s.complete()
	d.once()
}
