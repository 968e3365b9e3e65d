package endurance

import (
	"bufio"
	"encoding/json"
	"fmt"
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

// A month is the jobs of one machine, night after night.
type month struct {
	t        *testing.T
	state    string
	config   string
	now      time.Time // of the machine's clock
	src, usb *btrfstest.FS
	small    *btrfstest.FS // which gets full
	tree     *btrfstest.Tree
	night    int
	hang     string // a file that makes a hook hang
	last     map[spot]time.Time
}

// A spot is a source at a destination.
type spot struct{ job, source, destination string }

// The jobs, and where they bring their snapshots; of each the source comes first.
const (
	usbHome  = "usb/home"
	coldHome = "cold/home"
	smallBit = "small"
)

const wwwOwn, wwwBlog = "www/own", "www/blog"

func newMonth(t *testing.T) *month {
	t.Helper()
	btrfstest.Require(t)
	dir := t.TempDir()
	m := &month{
		t: t, state: filepath.Join(dir, "state"), config: filepath.Join(dir, "config.toml"),
		now: time.Date(2027, time.March, 1, 2, 30, 0, 0, time.Local),
		src: btrfstest.New(t, btrfstest.Size(2<<30)), usb: btrfstest.New(t, btrfstest.Size(2<<30)), small: btrfstest.New(t, btrfstest.Size(256<<20)),
		last: map[spot]time.Time{}, hang: filepath.Join(dir, "hang"),
	}
	m.tree = btrfstest.NewTree(t, m.src.Subvolume("home"), 8, btrfstest.Without(btrfstest.BigFiles, btrfstest.ManyLinks))
	m.tree.Fill()
	for _, name := range []string{"own", "blog"} {
		m.must(os.MkdirAll(m.src.Path("www"), 0o755))
		m.must(os.WriteFile(filepath.Join(m.src.Subvolume("www/"+name), "index"), []byte(name), 0o644))
	}
	cold := filepath.Join(dir, "cold", "home")
	m.must(os.MkdirAll(cold, 0o700))
	start(t, m.state, "init", "dir://"+cold).ends(done)
	hook := filepath.Join(dir, "hook")
	m.must(os.WriteFile(hook, []byte("#!/bin/sh\n[ ! -e "+m.hang+" ] || exec sleep 1000\n"), 0o755))
	text := fmt.Sprintf(`
[stores.usb]
url = "%[2]s/"
[stores.cold]
url = "dir://%[3]s/"
compress = "zstd:1"
max-chain = 5
[stores.small]
url = "%[4]s/"

[jobs.home]
sources = ["%[1]s/home"]
snapshots = "%[1]s/.snapshots/home"
prefix = "home-"
keep = "last:3,daily:5"
every = "1d"
before = ["%[5]s"]
hook-timeout = "2s"
  [[jobs.home.destinations]]
  store = "usb"
  path = "home/"
  keep = "daily:14"
  [[jobs.home.destinations]]
  store = "cold"
  path = "home/"
  keep = "daily:8"
  [[jobs.home.destinations]]
  store = "small"
  keep = "last:2"

[jobs.www]
sources = ["%[1]s/www/*"]
snapshots = "%[1]s/.snapshots/{source}"
only-if-changed = true
max-age = "26h"
  [[jobs.www.destinations]]
  store = "usb"
  path = "{source}/"

[metrics]
textfile = "%[6]s"
`, m.src.Path(""), m.usb.Path("store"), filepath.Dir(cold), m.small.Path("store"), hook, m.textfile())
	m.must(os.WriteFile(m.config, []byte(text), 0o600))
	m.must(os.Mkdir(m.usb.Path("store"), 0o755))
	m.must(os.Mkdir(m.small.Path("store"), 0o755))
	return m
}

func (m *month) textfile() string { return filepath.Join(filepath.Dir(m.config), "jobs.prom") }

func (m *month) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// program starts the program at the time of the machine.
func (m *month) program(args ...string) *run {
	m.t.Helper()
	return runAt(m.t, m.now, m.state, []string{"BUTTERSINK_CONFIG=" + m.config}, args...)
}

// spots are all that the jobs are about, as they are called.
func (m *month) spots(job string) []spot {
	name := func(source string) string { return strings.ReplaceAll(strings.Trim(m.src.Path(source), "/"), "/", "-") }
	all := []spot{
		{"home", m.src.Path("home"), ""}, {"home", m.src.Path("home"), usbHome}, {"home", m.src.Path("home"), coldHome}, {"home", m.src.Path("home"), smallBit},
	}
	for _, www := range []string{wwwOwn, wwwBlog} {
		all = append(all, spot{"www", m.src.Path(www), ""}, spot{"www", m.src.Path(www), "usb/" + name(www)})
	}
	return slices.DeleteFunc(all, func(s spot) bool { return job != "" && s.job != job })
}

// runs lets a night pass: all jobs are run, and end with a code. What is not among
// those that fail has then succeeded.
func (m *month) runs(code int, fails func(spot) bool) {
	m.t.Helper()
	m.change()
	m.program("run").ends(code)
	m.succeeded("", fails)
	m.looks()
}

// succeeded writes down what has succeeded just now.
func (m *month) succeeded(job string, fails func(spot) bool) {
	for _, s := range m.spots(job) {
		if fails == nil || !fails(s) {
			m.last[s] = m.now
		}
	}
}

// change changes the sources: home each night, one of www now and then.
func (m *month) change() {
	m.t.Helper()
	m.night++
	m.tree.Mutate()
	if m.night%4 == 0 {
		m.must(os.WriteFile(m.src.Path(wwwBlog)+"/index", fmt.Appendf(nil, "%d", m.night), 0o644))
	}
}

// tomorrow is the next night.
func (m *month) tomorrow() { m.now = m.now.AddDate(0, 0, 1) }

// looks asks how jobs stand, at several times before the next night, and fails the
// test if anything is taken for well that is not, or the other way round.
func (m *month) looks() {
	m.t.Helper()
	night := m.now
	for _, later := range []time.Duration{time.Minute, 3 * time.Hour, 23 * time.Hour} {
		m.now = night.Add(later)
		m.stands()
	}
	m.now = night
}

// limits are how old successes may be.
var limits = map[string]time.Duration{"home": 30 * time.Hour, "www": 26 * time.Hour}

// stands compares how jobs stand with what is known of them.
func (m *month) stands() {
	m.t.Helper()
	want := map[spot]bool{} // late
	for _, s := range m.spots("") {
		last, ok := m.last[s]
		age := m.now.Sub(last)
		want[s] = !ok || age > limits[s.job] || age < -5*time.Minute
	}
	late := 0
	for _, is := range want {
		if is {
			late++
		}
	}
	code := partly
	switch late {
	case 0:
		code = done
	case len(want):
		code = failed
	}
	r := m.program("status", "--json").ends(code)
	got := map[spot]bool{}
	for line := range lines(r.out.String()) {
		var p struct {
			Job, Source, Destination string
			Late                     bool
			Why                      string
		}
		if !strings.Contains(line, `"event":"place"`) {
			continue
		}
		m.must(json.Unmarshal([]byte(line), &p))
		got[spot{p.Job, p.Source, p.Destination}] = p.Late
		if p.Late != (p.Why != "") && p.Late {
			m.t.Errorf("%s, %+v: late, and nothing says why", m.now, p)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.t.Fatalf("at %s, night %d: %s", m.now, m.night, diff)
	}
}

func lines(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(strings.NewReader(text))
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

// snapshots are those in a directory whose names begin in a way.
func (m *month) snapshots(dir, prefix string) []string {
	m.t.Helper()
	entries, err := os.ReadDir(dir)
	m.must(err)
	var all []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), prefix) {
			all = append(all, e.Name())
		}
	}
	return all
}

// atUSB reports whether a spot is on the disk that goes away.
func atUSB(s spot) bool { return strings.HasPrefix(s.destination, "usb/") }

// TestJobsMonth has the jobs of a machine run for a month, with what happens in one:
// a disk is away for a week, another one is full, the clock goes wrong, a run is
// killed, two meet, a hook hangs, and the configuration is broken. How jobs stand is
// right at every point, and in the end everything is where it should be.
func TestJobsMonth(t *testing.T) {
	t.Parallel()
	m := newMonth(t)
	m.program("status").ends(failed) // nothing has ever run
	for range 6 {
		m.runs(done, nil)
		m.tomorrow()
	}

	// The disk is away for a week; its mount point is there.
	away := m.usb.Path("taken away")
	m.must(os.Rename(m.usb.Path("store"), away))
	m.must(os.WriteFile(m.usb.Path("store"), nil, 0o600)) // no place for a directory
	for range 7 {
		m.runs(partly, atUSB)
		m.tomorrow()
	}
	m.must(os.Remove(m.usb.Path("store")))
	m.must(os.Rename(away, m.usb.Path("store")))
	m.runs(done, nil)
	if all := m.snapshots(m.usb.Path("store/home"), "home-"); len(all) < 10 {
		t.Errorf("after a week away there are %q", all)
	}
	m.tomorrow()

	// A disk gets full, for two nights.
	ballast := m.small.Path("ballast")
	m.fill(ballast)
	m.must(os.WriteFile(m.src.Path("home/more"), m.noise(24<<20), 0o644))
	for range 2 {
		m.runs(partly, func(s spot) bool { return s.destination == smallBit })
		m.tomorrow()
	}
	m.must(os.Remove(ballast))
	syscall.Sync()
	m.runs(done, nil)
	m.tomorrow()

	// The clock is five years ahead for a night. What has succeeded then says nothing
	// when it is back.
	right := m.now
	m.now = m.now.AddDate(5, 0, 0)
	m.change()
	m.program("run").ends(done)
	m.succeeded("", nil)
	m.stands()
	m.now = right.Add(time.Hour)
	m.stands()
	m.tomorrow()
	m.runs(done, nil)
	m.tomorrow()

	// A run is killed, and says nothing of it; the next one carries on.
	m.must(os.WriteFile(m.src.Path("home/more"), m.noise(64<<20), 0o644))
	r := m.program("run", "--json", "home")
	if !r.await(`"event":"step-begun"`, 1) && !r.await(`"event"`, 4) {
		t.Fatalf("nothing has begun:\n%s", r.story())
	}
	if other := m.program("run", "home"); other.wait() != locked {
		t.Errorf("a second run of the job:\n%s", other.story())
	}
	r.signal(syscall.SIGKILL)
	r.wait()
	m.looks()
	if text := m.program("history", "home", "--json").ends(done).out.String(); !strings.Contains(text, `"result":"killed"`) {
		t.Errorf("the history says nothing of a killed run:\n%s", text)
	}
	m.tomorrow()
	m.runs(done, nil)
	m.tomorrow()

	// A hook hangs: no snapshot, and the other job is served.
	m.must(os.WriteFile(m.hang, nil, 0o600))
	before := m.snapshots(m.src.Path(".snapshots/home"), "home-")
	m.runs(partly, func(s spot) bool { return s.job == "home" })
	if diff := cmp.Diff(before, m.snapshots(m.src.Path(".snapshots/home"), "home-")); diff != "" {
		t.Errorf("a run that makes no snapshot: %s", diff)
	}
	m.must(os.Remove(m.hang))
	m.tomorrow()

	// The configuration is broken: nothing is begun, and nobody is told that all is well.
	text, err := os.ReadFile(m.config)
	m.must(err)
	m.must(os.WriteFile(m.config, append(text, "[jobs.x]\nsauces = []\n"...), 0o600))
	m.program("run").ends(3)
	m.program("status").ends(3)
	m.must(os.WriteFile(m.config, text, 0o600))
	m.stands()
	m.tomorrow()

	for m.night < 31 {
		m.runs(done, nil)
		m.tomorrow()
	}
	m.complete()
}

// fill leaves next to nothing free on the small disk.
func (m *month) fill(path string) {
	m.t.Helper()
	f, err := os.Create(path)
	m.must(err)
	defer f.Close()
	for block := m.noise(1 << 20); err == nil; {
		_, err = f.Write(block)
	}
	_ = f.Sync()
}

func (m *month) noise(n int) []byte {
	block := make([]byte, n)
	f, err := os.Open("/dev/urandom")
	m.must(err)
	defer f.Close()
	_, err = f.Read(block)
	m.must(err)
	return block
}

// complete fails the test unless every destination has the newest snapshot, as it
// was made, and only what its rules keep.
func (m *month) complete() {
	m.t.Helper()
	here := m.snapshots(m.src.Path(".snapshots/home"), "home-2027")
	newest := slices.Max(here)
	want := btrfstest.Digest(m.t, m.src.Path(".snapshots/home/"+newest))
	restored := m.usb.Path("restored")
	m.must(os.Mkdir(restored, 0o755))
	m.program("sync", "store://cold/home/"+newest, restored+"/").ends(done)
	for where, dir := range map[string]string{"usb": m.usb.Path("store/home"), "small": m.small.Path("store"), "cold": restored} {
		if btrfstest.Digest(m.t, filepath.Join(dir, newest)) != want {
			m.t.Errorf("%s: %s is not what was made: %s", where, newest, btrfstest.Diff(m.t, m.src.Path(".snapshots/home/"+newest), filepath.Join(dir, newest)))
		}
	}
	// What stays here: three and five days, and what was named by a clock gone wrong.
	counts := map[string]int{
		"source": len(here), "usb": len(m.snapshots(m.usb.Path("store/home"), "home-2027")), "small": len(m.snapshots(m.small.Path("store"), "home-2027")),
	}
	if diff := cmp.Diff(map[string]int{"source": 5, "usb": 14, "small": 2}, counts); diff != "" {
		m.t.Error(diff)
	}
	// Of what changes now and then there are as many as there were changes.
	blog := m.snapshots(m.src.Path(".snapshots/"+strings.ReplaceAll(strings.Trim(m.src.Path(wwwBlog), "/"), "/", "-")), "2")
	own := m.snapshots(m.src.Path(".snapshots/"+strings.ReplaceAll(strings.Trim(m.src.Path(wwwOwn), "/"), "/", "-")), "2")
	if len(own) != 1 || len(blog) < 6 || len(blog) > 9 {
		m.t.Errorf("%q are of what changed every fourth night, %q of what never did", blog, own)
	}
	text, err := os.ReadFile(m.textfile())
	m.must(err)
	if !strings.Contains(string(text), `buttersink_job_late{destination="usb/home",job="home"`) {
		m.t.Errorf("the metrics:\n%s", text)
	}
}
