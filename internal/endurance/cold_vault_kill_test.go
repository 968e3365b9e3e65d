package endurance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

// bulky changes so much that it goes in several parts, and makes a snapshot.
func (s *scene) bulky(number int) {
	s.t.Helper()
	live := s.src.Path("live-a")
	if err := os.WriteFile(filepath.Join(live, fmt.Sprintf("film%d", number%3)), noise(byte(number), 7<<20), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.snapshot(live, fmt.Sprintf("a%02d", number))
}

// TestColdVaultKilledUploads kills the program at random moments while it stores in
// a vault, loses replies, and cuts connections. In the end everything is there once,
// no upload is left, and no part that the vault has was sent again.
func TestColdVaultKilledUploads(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	server := d.vault.server
	s.src.Subvolume("live-a")
	kills, waits := 0, 0
	for round := 0; kills < times(t, 10); round++ {
		s.bulky(round)
		for tries := 0; ; tries++ {
			before := server.Count("UploadMultipartPart", "UploadArchive", "CompleteMultipartUpload")
			if tries%3 == 1 {
				server.Lose(1, []string{"CompleteMultipartUpload", "UploadArchive", "InitiateMultipartUpload"}[rand.N(3)])
			}
			if tries%3 == 2 {
				server.CutUp(2, 500_000, "UploadMultipartPart")
			}
			r := s.store(d.depot)
			for limit := before + rand.N(11+tries); server.Count("UploadMultipartPart", "UploadArchive", "CompleteMultipartUpload") <= limit && !r.gone(); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(rand.N(3 * time.Millisecond))
			r.signal(syscall.SIGKILL)
			code := r.wait()
			server.Calm()
			if code == done {
				break
			}
			switch {
			case code == killed && tries < 50:
				kills++
			case code == pending && tries < 50:
				// It cannot be told whether something was completed, before the vault
				// has taken an inventory.
				waits++
				server.Advance(12 * time.Hour)
			default:
				t.Fatalf("after %d kills it ends with %d:\n%s", kills, code, r.story())
			}
		}
		d.sound(s)
		d.once()
	}
	s.secretless()
	if n := server.Asked(t, d.vault.name, ""); waits == 0 && n > 0 {
		t.Errorf("%d inventories", n)
	}
	d.passes(6*time.Hour, func() *run { return d.back(s) })
	s.complete()
	d.once()

	// What nobody remembers is all there.
	s.empty()
	server.Advance(3 * day)
	s.elsewhere()
	d.passes(7*time.Hour, func() *run { return d.back(s) })
	s.complete()
	t.Logf("%d kills, %d waits", kills, waits)
}

// TestColdVaultKilledRestores kills the program at random moments while it asks for
// streams, with replies lost, and while it reads them, over connections that break.
// Nothing is asked for twice; part of it happens on a machine that knows nothing.
func TestColdVaultKilledRestores(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost=%v", lost), func(t *testing.T) {
			t.Parallel()
			s := empty(t)
			d := newVaultDepot(s)
			server := d.vault.server
			s.src.Subvolume("live-a")
			for number := range 3 {
				s.bulky(number)
			}
			s.store(d.depot).fine()
			d.sound(s)
			if lost {
				server.Advance(2 * day)
				s.elsewhere()
			}
			kills, ends := 0, 0
			for round := 0; ; round++ {
				calm := round > 40
				if !calm {
					server.Lose(rand.N(2), "InitiateJob", "ListJobs")
					server.Cut(rand.N(2), 1<<20, "GetJobOutput")
				}
				before := server.Count()
				r := d.back(s, often)
				if !calm {
					for limit := before + rand.N(6+3*round); server.Count() <= limit && !r.gone(); {
						time.Sleep(time.Millisecond)
					}
					if round%3 == 0 {
						d.proxy.Drop()
					}
					time.Sleep(rand.N(60 * time.Millisecond))
					r.signal(syscall.SIGKILL)
				}
				code := r.wait()
				server.Calm()
				s.whole()
				d.once()
				if code == done {
					break
				}
				switch {
				case code == killed:
					kills++
				case code == pending && round < 60:
					ends++
					server.Advance(5 * time.Hour)
				default:
					t.Fatalf("round %d ends with %d:\n%s", round, code, r.story())
				}
			}
			s.complete()
			if n := server.Asked(t, d.vault.name, ""); n > 3 || !lost && n > 0 {
				t.Errorf("%d inventories", n)
			}
			t.Logf("%d kills, %d ends", kills, ends)
		})
	}
}

// TestColdVaultBackup backs up into a vault on 14 days, and removes what its rules
// do not keep; what is kept can be restored by a machine that knows nothing.
func TestColdVaultBackup(t *testing.T) {
	t.Parallel()
	s := newSeries(t)
	d := newVaultDepot(s.scene)
	d.env = append(d.env, "TZ=UTC")
	d.sealed(newAgeKey(t))
	const days, longest = 14, 4
	first := time.Now().UTC().AddDate(0, 0, -days-1).Truncate(day).Add(12 * time.Hour)
	for i := range days {
		s.write("diary", 150_000)
		s.day(first.AddDate(0, 0, i))
		args := slices.Concat([]string{"backup", "--json", "-S", "-f", s.from(), "-N", "2", "--max-chain", fmt.Sprint(longest), "--dest-keep", "last:3,weekly:2"}, d.write, []string{s.live, d.url})
		r := d.here(s.scene, args...).fine()
		listed := map[string]bool{}
		for _, x := range d.here(s.scene, "list", "--json", d.url).fine().records("stream") {
			listed[x.Path] = true
		}
		there := slices.DeleteFunc(d.objects(), func(o object) bool { return !listed[o.path] })
		needs := s.needs(there, s.keeping(3, 0, 2, 0))
		for path := range needs {
			if !listed[path] {
				t.Fatalf("day %d: there are %q, and the rules keep %q:\n%s", i, sorted(listed), sorted(needs), r.story())
			}
		}
		if len(listed) != len(needs) {
			t.Fatalf("day %d: there are %q, and the rules keep %q:\n%s", i, sorted(listed), sorted(needs), r.story())
		}
		if i%8 == 7 {
			d.here(s.scene, "trash", "empty", "--all", d.url).fine()
		}
	}
	d.here(s.scene, "trash", "empty", "--all", d.url).fine()
	d.asked(0)
	s.wanted = map[string]original{}
	for _, o := range d.objects() {
		s.wanted[o.path] = s.all[o.path]
	}
	d.sound(s.scene)
	for _, key := range d.vault.keys() {
		if strings.HasSuffix(key, ".trashed") || strings.HasSuffix(key, ".deleting") {
			t.Errorf("left behind: %s", key)
		}
	}
	d.vault.server.Advance(glaciertest.InventoryDelay)
	s.elsewhere()
	d.passes(7*time.Hour, func() *run { return d.back(s.scene, d.read...) })
	s.complete()
	d.once()
}

// TestColdVaultTwoMachines has two machines store the same in a vault, each by what
// it knows, and remove some of it.
func TestColdVaultTwoMachines(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := newVaultDepot(s)
	s.src.Subvolume("live-a")
	for night := range 2 {
		s.night(d.depot, night)
	}
	one := s.state
	s.elsewhere()
	two := s.state
	d.passes(7*time.Hour, func() *run { return d.here(s, "list", d.url) })
	d.passes(7*time.Hour, func() *run { return s.store(d.depot) }) // what describes the streams, too
	for night := 2; night < 4; night++ {                           // seen by this one only
		s.night(d.depot, night)
	}
	s.state = one
	s.store(d.depot).fine() // knows nothing of those, and stores them too
	s.state = two
	s.store(d.depot).fine()
	s.state = one
	d.passes(7*time.Hour, func() *run { return d.back(s) })
	s.complete()
	s.empty()
	d.vault.server.Advance(3 * day)
	s.elsewhere()
	d.passes(7*time.Hour, func() *run { return d.back(s) })
	s.complete()
	d.passes(7*time.Hour, func() *run { return d.here(s, "verify", d.url) })
}
