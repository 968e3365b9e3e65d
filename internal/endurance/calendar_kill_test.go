package endurance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A monastery is a machine with a job of the kind calendar, day after day.
type monastery struct {
	t             *testing.T
	depot         *depot
	src           *btrfstest.FS
	state, config string
	now           time.Time // of the machine's clock
	first         time.Time
	snaps         string
	success       time.Time // of the last run that has ended well
	digests       map[string]string
}

// The rule of its calendar: a backup each day, chains of so many, which go when the
// last one is so many days old; and how old a success may get.
const (
	monkChain    = 3
	monkLifetime = 2
	monkMaxAge   = 20 * time.Hour
)

func newMonastery(t *testing.T, d *depot) *monastery {
	t.Helper()
	btrfstest.Require(t)
	dir := t.TempDir()
	m := &monastery{
		t: t, depot: d, src: btrfstest.New(t), state: filepath.Join(dir, "state"), config: filepath.Join(dir, "config.toml"),
		now: time.Date(2027, time.March, 1, 12, 0, 0, 0, time.Local), digests: map[string]string{},
	}
	m.first = m.now
	m.src.Subvolume("mail")
	m.snaps = m.src.Path("snaps")
	var days []string
	for day := range 31 {
		days = append(days, fmt.Sprint(day+1))
	}
	text := fmt.Sprintf(`
[jobs.mail]
kind = "calendar"
sources = [%q]
snapshots = %q
days = [%s]
chain = %d
lifetime = %d
snapshots-max-age = "2d"
max-age = "%dh"
  [[jobs.mail.destinations]]
  url = %q
  part-size = 5
`, m.src.Path("mail"), m.snaps, strings.Join(days, ", "), monkChain, monkLifetime, monkMaxAge/time.Hour, d.url)
	m.must(os.WriteFile(m.config, []byte(text), 0o600))
	return m
}

func (m *monastery) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// program starts the program at the time of the machine.
func (m *monastery) program(args ...string) *run {
	m.t.Helper()
	return runAt(m.t, m.now, m.state, append([]string{"BUTTERSINK_CONFIG=" + m.config}, m.depot.env...), args...)
}

// day is what the snapshot and the backup of this day are called.
func (m *monastery) day() string { return m.now.Format(time.DateOnly) }

// tomorrow is the next day, with a mailbox of its own.
func (m *monastery) tomorrow() {
	m.t.Helper()
	m.now = m.now.AddDate(0, 0, 1)
	box := make([]byte, 6<<20) // two parts
	_, _ = rand.NewChaCha8([32]byte{byte(m.number())}).Read(box)
	m.must(os.WriteFile(m.src.Path("mail/box"), box, 0o600))
}

// number is which day this is, from 1.
func (m *monastery) number() int {
	return int(m.now.Sub(m.first).Round(24*time.Hour) / (24 * time.Hour))
}

// note writes down what the snapshot of the day is, once there is one.
func (m *monastery) note() {
	m.t.Helper()
	if path := filepath.Join(m.snaps, m.day()); m.digests[m.day()] == "" {
		if _, err := os.Stat(path); err == nil {
			m.digests[m.day()] = btrfstest.Digest(m.t, path)
		}
	}
}

// due are the backups that the calendar wants there to be at the end of this day,
// and what each builds on.
func (m *monastery) due() map[string]string {
	name := func(number int) string { return m.first.AddDate(0, 0, number).Format(time.DateOnly) }
	all, today := map[string]string{}, m.number()
	for number := 1; number <= today; number++ {
		begin := (number-1)/monkChain*monkChain + 1
		last := min(begin+monkChain-1, today)
		// What goes does so before the day's own backup is made, so that the chain
		// that was the newest then stays for another day.
		newest := (today-2)/monkChain*monkChain + 1
		if today-last >= monkLifetime && begin != newest {
			continue
		}
		all[name(number)] = ""
		if number > begin {
			all[name(number)] = name(number - 1)
		}
	}
	return all
}

// there are the backups that can be given back: what is in the bucket under its
// date, with what it builds on.
func (m *monastery) there() map[string]string {
	m.t.Helper()
	all, names := map[string]string{}, map[string]string{}
	objects := m.depot.objects()
	for _, o := range objects {
		names[o.to] = o.path
	}
	for _, o := range objects {
		if _, twice := all[o.path]; twice {
			m.t.Errorf("%s: there are two backups of %s", m.day(), o.path)
		}
		all[o.path] = ""
		if o.from != "None" {
			if all[o.path] = names[o.from]; names[o.from] == "" {
				m.t.Errorf("%s: what %s builds on is not there", m.day(), o.path)
			}
		}
	}
	return all
}

// stands is what status says of the backups.
type stands struct {
	Destination string
	Success     *time.Time `json:"last_success"`
	TryResult   string     `json:"last_try_result"`
	Snapshot    string
	Outstanding *int
	Chain       int
	Late        bool
}

// looks asks how the job stands, and fails the test if that is not so. A run that was
// killed counts for a success only if all is done that it was about.
func (m *monastery) looks(ended bool) {
	m.t.Helper()
	r := m.program("status", "--json")
	code := r.wait()
	var place stands
	for line := range lines(r.out.String()) {
		var p stands
		if strings.Contains(line, `"event":"place"`) {
			m.must(json.Unmarshal([]byte(line), &p))
			if p.Destination != "" {
				place = p
			}
		}
	}
	success := time.Time{}
	if place.Success != nil {
		success = *place.Success
	}
	_, stored := m.there()[m.day()]
	today := success.Local().Format(time.DateOnly) == m.day()
	switch {
	case ended && !today, !ended && today && !stored:
		m.t.Errorf("%s: the run has ended: %t; the backup is there: %t; and the last success is of %s:\n%s", m.now, ended, stored, success, r.story())
	case !today && !success.Equal(m.success):
		m.t.Errorf("%s: the last success is of %s, and not of %s:\n%s", m.now, success, m.success, r.story())
	}
	late := success.IsZero() || m.now.Sub(success) > monkMaxAge
	if place.Late != late || (code == done) == late {
		m.t.Errorf("%s: late is %t, it ends with %d, and the last success is of %s:\n%s", m.now, place.Late, code, success, r.story())
	}
	if ended {
		chain := (m.number()-1)%monkChain + 1
		if place.TryResult != "done" || place.Snapshot != m.day() || place.Chain != chain || place.Outstanding == nil || *place.Outstanding != 0 {
			m.t.Errorf("%s: it stands like that, and the chain has %d:\n%s", m.now, chain, r.story())
		}
		m.success = success
	}
	if ended {
		return
	}
	r = m.program("history", "--json", "-n", "1").ends(done)
	var last struct{ Result string }
	m.must(json.Unmarshal([]byte(r.out.String()), &last))
	if last.Result != "killed" && (last.Result != "done" || !today) {
		m.t.Errorf("%s: the last run is %q, and the last success is of %s", m.now, last.Result, success)
	}
}

// TestCalendarKilled kills the runs of a calendar behind what they say, and at random
// moments, day after day. Nothing counts for done that is not there; the next run of
// the day does the rest; and what there is in the end can be restored.
func TestCalendarKilled(t *testing.T) {
	everywhere(t, func(t *testing.T, d *depot) {
		m := newMonastery(t, d)
		// What a run says, and how long one takes that has all to do.
		m.tomorrow()
		began := time.Now()
		m.program("run", "--json").ends(done)
		undisturbed := time.Since(began)
		m.note()
		m.looks(true)
		// On the fourth day of these a chain goes. In the end it may be anywhere.
		moments := []string{"taken", "step-begun", "given", "removed", ""}
		if d.env != nil {
			moments = []string{"wanted", "progress", "committed", "removed", ""}
		}
		kills, full := 0, 0
		for i := range times(t, len(moments)) {
			m.tomorrow()
			r := m.program("run", "--json")
			if event := moments[i%len(moments)]; event == "" {
				r.lives(rand.N(undisturbed))
			} else {
				r.await(`"event":"`+event+`"`, 1)
			}
			r.signal(syscall.SIGKILL)
			code := r.wait()
			if code != killed && code != done {
				t.Fatalf("%s: it ends with %d:\n%s", m.day(), code, r.story())
			}
			m.note()
			if code == killed {
				kills++
				m.looks(false)
			}
			again := m.program("run", "--json").ends(done)
			if _, stored := m.there()[m.day()]; !stored {
				t.Fatalf("%s: it is done, and there is no backup:\n%s%s", m.day(), r.story(), again.story())
			}
			m.note()
			if diff := cmp.Diff(m.due(), m.there()); diff != "" {
				t.Fatalf("%s: the backups and what they build on (-want +got):\n%s\n%s\n%s", m.day(), diff, r.story(), again.story())
			}
			m.looks(true)
			if m.due()[m.day()] == "" {
				full++
			}
		}
		t.Logf("%d kills, %d chains begun", kills, full)
		if kills < 3 || full < 1 {
			t.Errorf("only %d kills, and %d chains", kills, full)
		}
		m.ends()
	})
}

// ends looks at all that there is in the end.
func (m *monastery) ends() {
	m.t.Helper()
	// What died between an object and its manifest cannot tell in a directory whether
	// the object is its own, until it has been read.
	m.depot.run("verify", "--data", m.depot.url).fine()
	for _, o := range m.depot.objects() {
		m.depot.described(o)
	}
	if left := m.depot.bucket.unfinished(); len(left) > 0 {
		m.t.Errorf("left unfinished: %q", left)
	}
	var days []string
	for day := range m.due() {
		days = append(days, day)
	}
	slices.Sort(days)
	fs := btrfstest.New(m.t)
	m.must(os.Mkdir(fs.Path("back"), 0o755))
	m.depot.run(m.depot.url, fs.Path("back")+"/").fine()
	for _, day := range days {
		if btrfstest.Digest(m.t, fs.Path("back/"+day)) != m.digests[day] {
			m.t.Errorf("%s is not what it was", day)
		}
	}
	if there := fs.Subvolumes(); len(there) != len(days) {
		m.t.Errorf("restored are %q, and not %q", there, days)
	}
}
