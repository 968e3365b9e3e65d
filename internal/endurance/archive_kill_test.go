package endurance

import (
	"database/sql"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/buttersink/buttersink/internal/ledger" // for its driver
	"github.com/buttersink/buttersink/internal/s3test"
)

// killing runs something again and again, and kills it at random moments, until
// it is done; and all of it again until there were so many kills. Half of them
// come when moment returns, if there is one, however fast the machine is. After
// each of them look is called.
func killing(t *testing.T, kills int, undisturbed time.Duration, begin func() *run, moment func(*run), look, finish func()) int {
	t.Helper()
	count := 0
	for count < kills {
		for tries := 0; ; tries++ {
			// At first most die young, and later ever fewer, so that it ends.
			life := undisturbed/20 + rand.N(undisturbed/2+undisturbed*time.Duration(tries)/20)
			r := begin()
			if moment != nil && rand.N(2) == 0 {
				moment(r)
			} else {
				r.lives(life)
			}
			r.signal(syscall.SIGKILL)
			code := r.wait()
			if code == killed {
				count++
				look()
				continue
			}
			if code != done {
				t.Fatalf("after %d kills it ends with %d:\n%s", count, code, r.story())
			}
			break
		}
		finish()
	}
	return count
}

// lives waits for some time, or until the process has ended.
func (r *run) lives(life time.Duration) {
	for end := time.Now().Add(life); time.Now().Before(end) && !r.gone(); {
		time.Sleep(time.Millisecond)
	}
}

// TestArchiveKilledUploads kills the program at random moments while it stores
// streams of several parts. Whatever has come to its key is whole; in the end
// everything is there, once, and described; and no part that was stored has been
// sent twice.
func TestArchiveKilledUploads(t *testing.T) {
	t.Parallel()
	key := newAgeKey(t)
	for _, form := range []struct {
		name  string
		flags []string
	}{
		{"plain", nil},
		{"zst", []string{"--compress=zstd"}},
		{"zst.age", []string{"--compress=zstd", "--encrypt=age:" + key.recipient}},
	} {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			d := s3Depot(t, s3test.Start(t))
			s := pair(t, 2, 17<<20)
			s.family("b", 1, 300_000)
			d.write, d.read = append(d.write, form.flags...), []string{"--identity=" + key.file}
			began := time.Now()
			s.store(d).fine()
			undisturbed := time.Since(began)
			watch := watched(t, d)
			look := func() {
				for _, o := range d.objects() {
					if d.has(o.key + ".json") {
						d.described(o)
					}
				}
			}
			look()
			d.clear()
			carried := 0
			round := func(kills int) int {
				return killing(t, kills, undisturbed, func() *run { watch.next(); return s.store(d) }, watch.sends, look, func() {
					d.sound(s)
					watch.once(t)
					carried += watch.carriedOn()
					s.secretless()
					watch.forget()
					if carried == 0 || rand.N(3) == 0 {
						s.empty()
						s.restore(d).fine()
						s.complete()
					}
					d.clear()
				})
			}
			n := round(times(t, 8))
			for more := 0; carried == 0 && more < 10; more++ {
				n += round(2)
			}
			t.Logf("%d kills, %d uploads carried on", n, carried)
			if carried == 0 {
				t.Error("no upload was carried on")
			}
		})
	}
}

// clear removes every object but the marker.
func (d *depot) clear() {
	d.t.Helper()
	for _, key := range d.bucket.keys() {
		if !strings.HasSuffix(key, "/"+marker) && key != marker {
			d.bucket.remove(key)
		}
	}
}

// marker is what makes a directory an archive.
const marker = ".buttersink-archive.json"

// secretless fails the test if the ledger can be read by others, or keeps
// anything that only an unfinished upload needs.
func (s *scene) secretless() {
	s.t.Helper()
	err := filepath.WalkDir(s.state, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			s.t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.state, "ledger.db")+"?mode=ro")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	notes := -1
	if err := db.QueryRow("SELECT count(*) FROM notes").Scan(&notes); err != nil || notes != 0 {
		s.t.Errorf("the ledger keeps %d notes: %v", notes, err)
	}
}

// TestArchiveKilledDirectory does it with a directory.
func TestArchiveKilledDirectory(t *testing.T) {
	t.Parallel()
	d := tempDepot(t)
	d.sealed(newAgeKey(t))
	s := pair(t, 2, 17<<20)
	s.family("b", 1, 300_000)
	began := time.Now()
	s.store(d).fine()
	undisturbed := time.Since(began)
	n := killing(t, times(t, 6), undisturbed, func() *run { return s.store(d) }, nil, func() {}, func() {
		// What died between an object and its manifest cannot tell in a directory
		// whether the object is its own. The next chance is when it has been read.
		d.run(slices.Concat([]string{"verify", "--data"}, d.read, []string{d.url})...).fine()
		d.sound(s)
		s.secretless()
		s.empty()
		s.restore(d).fine()
		s.complete()
		d.clear()
	})
	t.Logf("%d kills", n)
}

// TestArchiveKilledRestores kills the program while it restores.
func TestArchiveKilledRestores(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	d.sealed(newAgeKey(t))
	s := pair(t, 3, 12<<20)
	s.store(d).fine()
	began := time.Now()
	s.restore(d, often).fine()
	undisturbed := time.Since(began)
	s.complete()
	s.empty()
	n := killing(t, times(t, 8), undisturbed, func() *run { return s.restore(d, often) }, nil, func() { s.whole() }, func() {
		s.complete()
		s.empty()
	})
	t.Logf("%d kills", n)
}
