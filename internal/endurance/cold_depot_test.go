package endurance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
)

// pending is the exit code of a run that cold storage keeps from its end.
const pending = 5

const day = 24 * time.Hour

// A coldDepot is an archive in S3, in a storage class, with a clock.
type coldDepot struct {
	*depot
	cold   *s3test.Cold
	server *s3test.Server
	name   string // of the bucket
}

// newColdDepot makes an empty archive whose streams go into a storage class.
func newColdDepot(t *testing.T, class string) *coldDepot {
	t.Helper()
	server := s3test.Start(t)
	d := &coldDepot{depot: s3Depot(t, server), cold: server.Cold(t), server: server}
	d.name = d.bucket.(s3Bucket).name
	d.through(d.cold.Endpoint)
	d.write = append(d.write, "--storage-class="+class)
	return d
}

// classed fails the test unless all streams are in a class, and everything else is
// where it can be read at once.
func (d *coldDepot) classed(class string) {
	d.t.Helper()
	streams := map[string]bool{}
	for _, o := range d.objects() {
		streams[o.key] = true
		if got := d.cold.Class(d.name, o.key); got != class {
			d.t.Errorf("%s is in %s, and not in %s", o, got, class)
		}
	}
	for _, key := range d.bucket.keys() {
		if got := d.cold.Class(d.name, key); !streams[key] && got != "STANDARD" {
			d.t.Errorf("%s is in %s", key, got)
		}
	}
}

// asked fails the test unless each stream has been asked for so many times, and
// nothing else at all. With no number of its own, a snapshot has that of "".
func (d *coldDepot) asked(want map[string]int) {
	d.t.Helper()
	all := d.cold.AskedAll()
	for _, o := range d.objects() {
		n, ok := want[o.path]
		if !ok {
			n = want[""]
		}
		if got := all[d.name+"/"+o.key]; got != n {
			d.t.Errorf("%s has been asked for %d times, and not %d", o, got, n)
		}
		delete(all, d.name+"/"+o.key)
	}
	for name, n := range all {
		d.t.Errorf("%s has been asked for %d times", name, n)
	}
}

func (d *coldDepot) askedEach(n int) {
	d.t.Helper()
	d.asked(map[string]int{"": n})
}

// move has a rule of the bucket move what a function picks.
func (d *coldDepot) move(class string, pick func(key string) bool) (moved int) {
	d.t.Helper()
	for _, key := range d.bucket.keys() {
		if pick(key) {
			d.cold.Move(d.t, d.name, key, class)
			moved++
		}
	}
	return moved
}

// elsewhere has all that restores from now on do it with another state directory,
// as another machine would.
func (s *scene) elsewhere() { s.state = filepath.Join(s.t.TempDir(), "state") }

// A coldRecord is what the tests look at of a record about cold storage.
type coldRecord struct {
	Event, Path, State, Class, Tier, Handle, Error string
	Fresh, OK                                      bool
	Exit, Pending, Transferred                     int
	Due, Until                                     time.Time
}

// records returns the records of an event.
func (r *run) records(event string) (all []coldRecord) {
	r.t.Helper()
	for line := range strings.Lines(r.out.String()) {
		var x coldRecord
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			r.t.Fatalf("%v: %s", err, line)
		}
		if x.Event == event {
			all = append(all, x)
		}
	}
	return all
}

// result returns the last record.
func (r *run) result() coldRecord {
	r.t.Helper()
	all := r.records("result")
	if len(all) != 1 {
		r.t.Fatalf("there are %d results:\n%s", len(all), r.story())
	}
	return all[0]
}

// coldPrices has prices of everybody's cold storage.
const coldPrices = `format = 1
date = "2026-01-01"
currency = "EUR"

[[place]]
provider = "*"
service = "s3"
region = "*"
date = "2026-01-01"
source = ["a test"]
egress = 1.0

[place.class.STANDARD]
storage = 20.0
put = 0.005
get = 0.0004

[place.class.DEEP_ARCHIVE]
storage = 1000.0
put = 0.05
minimum-days = 180

[place.class.DEEP_ARCHIVE.tier.bulk]
gb = 100.0
least-hours = 12
most-hours = 48

[place.class.DEEP_ARCHIVE.tier.standard]
gb = 20000.0
least-hours = 9
most-hours = 12

[[place]]
provider = "*"
service = "glacier"
region = "*"
date = "2026-01-01"
source = ["a test"]

[place.class.STANDARD]
storage = 1000.0
put = 0.05
minimum-days = 90

[place.class.STANDARD.tier.bulk]
gb = 100.0
least-hours = 5
most-hours = 12
`

// priceFile writes them into a file.
func priceFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prices.toml")
	if err := os.WriteFile(file, []byte(coldPrices), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
