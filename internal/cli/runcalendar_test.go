package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// monastery is a machine with a job of the kind calendar, and a clock.
type monastery struct {
	fs, far        *btrfstest.FS
	config, state  string
	archive        string
	now            time.Time
	tree           *btrfstest.Tree
	stdout, stderr string
}

func newMonastery(t *testing.T, more string) *monastery {
	t.Helper()
	btrfstest.Require(t)
	dir := t.TempDir()
	m := &monastery{
		fs: btrfstest.New(t), far: btrfstest.New(t), state: dir + "/state", config: dir + "/config.toml",
		now: time.Date(2026, 1, 3, 4, 0, 0, 0, time.Local),
	}
	m.archive = m.far.Path("archive")
	if err := os.Mkdir(m.archive, 0o700); err != nil {
		t.Fatal(err)
	}
	m.fs.Subvolume("mail")
	m.tree = btrfstest.NewTree(t, m.fs.Path("mail"), 40)
	m.tree.Fill()
	text := fmt.Sprintf(`
[jobs.mail]
kind = "calendar"
sources = [%q]
snapshots = %q
days = [1, 8, 15, 22]
chain = 3
lifetime = 30
snapshots-max-age = "25d"
every = "1d"
%s
[[jobs.mail.destinations]]
url = "dir://%s"
compress = "zstd"
`, m.fs.Path("mail"), m.fs.Path("snaps/{source}"), more, m.archive)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run(t, 0, "init", "dir://"+m.archive)
	return m
}

// run runs a command at the time of the clock.
func (m *monastery) run(t *testing.T, want int, args ...string) {
	t.Helper()
	env, stdout, stderr := testEnv(t, "buttersink")
	env.Now = func() time.Time { return m.now }
	env.Getenv = func(name string) string {
		return map[string]string{"BUTTERSINK_STATE": m.state, "BUTTERSINK_CONFIG": m.config}[name]
	}
	code := Main(args, env)
	m.stdout, m.stderr = stdout.String(), stderr.String()
	if code != want {
		t.Fatalf("%s: %q: exit code %d, want %d\n%s%s", m.now.Format(time.DateOnly), args, code, want, m.stdout, m.stderr)
	}
}

// snapshots are those that the machine has.
func (m *monastery) snapshots(t *testing.T) []string {
	t.Helper()
	source := strings.ReplaceAll(strings.Trim(m.fs.Path("mail"), "/"), "/", "-")
	return names(t, m.fs.Path("snaps/"+source))
}

// backups are those that the archive has.
func (m *monastery) backups(t *testing.T) string {
	t.Helper()
	m.run(t, 0, "list", "--json", "dir://"+m.archive+"/")
	var all []string
	for line := range strings.SplitSeq(m.stdout, "\n") {
		if strings.Contains(line, `"event":"stream"`) {
			_, path, _ := strings.Cut(line, `"path":"`)
			path, _, _ = strings.Cut(path, `"`)
			if strings.Contains(line, `"from":"`) {
				path += "+"
			}
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range all {
		if _, err := time.Parse(time.DateOnly, e.Name()); err == nil {
			found = append(found, e.Name())
		}
	}
	return found
}

// TestRunCalendarOfAnother: what two machines keep in one archive is not taken for
// what each of them has.
func TestRunCalendarOfAnother(t *testing.T) {
	m := newMonastery(t, "")
	m.run(t, 0, "run")
	m.fs.Subvolume("www")
	text, err := os.ReadFile(m.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.config, []byte(strings.ReplaceAll(string(text), "mail", "www")), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run(t, exitConflict, "run")
	if !strings.Contains(m.stderr, "is one of another snapshot") {
		t.Error(m.stderr)
	}
	m.run(t, exitPartly, "status")
}

// TestRunCalendar is a job over some months, with the archive away for some days:
// chains are made, go, and can be restored, and status tells the truth.
func TestRunCalendar(t *testing.T) {
	m := newMonastery(t, "")
	m.run(t, 0, "run", "-n")
	for _, want := range []string{"WOULD: Make the directory", "WOULD: Bring 2026-01-03 to"} {
		if !strings.Contains(m.stderr, want) {
			t.Errorf("%q is not in\n%s", want, m.stderr)
		}
	}
	day := func(date string, code int, want string) {
		t.Helper()
		at, err := time.ParseInLocation(time.DateOnly, date, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		m.now = at.Add(4 * time.Hour)
		m.tree.Mutate()
		m.run(t, code, "run")
		said := m.stderr
		if got := m.backups(t); got != want {
			t.Errorf("%s: there is %s, want %s\n%s", date, got, want, said)
		}
		m.stderr = said
	}
	day("2026-01-03", 0, "2026-01-03")
	day("2026-01-03", 0, "2026-01-03")
	day("2026-01-04", 0, "2026-01-03")
	if !strings.Contains(m.stderr, "wants no backup of 2026-01-04") {
		t.Errorf("it says\n%s", m.stderr)
	}
	m.now = m.now.AddDate(0, 0, 4)
	m.run(t, 0, "run", "-n")
	if !strings.Contains(m.stderr, "WOULD: Bring the increment from 2026-01-03 to 2026-01-08 to") {
		t.Errorf("it says\n%s", m.stderr)
	}
	m.run(t, 0, "status", "--max-age", "10d")

	// The archive is away on the day: the snapshot is there, and status knows.
	away := m.archive + ".away"
	if err := os.Rename(m.archive, away); err != nil {
		t.Fatal(err)
	}
	m.now = m.now.Add(time.Hour)
	m.run(t, 4, "run")
	if got := m.snapshots(t); !slices.Equal(got, []string{"2026-01-03", "2026-01-04", "2026-01-08"}) {
		t.Errorf("snapshots: %q", got)
	}
	m.run(t, 4, "status", "--max-age", "1d") // here all is well
	if err := os.Rename(away, m.archive); err != nil {
		t.Fatal(err)
	}
	// It is made up for.
	day("2026-01-10", 0, "2026-01-03 2026-01-10+")
	m.run(t, 0, "status", "--max-age", "1d")
	day("2026-01-11", 0, "2026-01-03 2026-01-10+")
	day("2026-01-15", 0, "2026-01-03 2026-01-10+ 2026-01-15+")
	// The chain is full. What has got too old here goes, but for what is needed.
	day("2026-01-22", 0, "2026-01-03 2026-01-10+ 2026-01-15+ 2026-01-22")
	if err := os.Rename(m.archive, away); err != nil {
		t.Fatal(err)
	}
	m.now = m.now.AddDate(0, 0, 8)
	m.run(t, 4, "run")
	if got := m.snapshots(t); !slices.Equal(got, []string{"2026-01-08", "2026-01-10", "2026-01-11", "2026-01-15", "2026-01-22", "2026-01-30"}) {
		t.Errorf("snapshots: %q", got)
	}
	if err := os.Rename(away, m.archive); err != nil {
		t.Fatal(err)
	}
	day("2026-02-06", 0, "2026-01-03 2026-01-10+ 2026-01-15+ 2026-01-22 2026-02-06+")
	// The first chain is old enough to go, and the second one is full now.
	day("2026-02-17", 0, "2026-01-22 2026-02-06+ 2026-02-17+")
	day("2026-02-22", 0, "2026-01-22 2026-02-06+ 2026-02-17+ 2026-02-22")
	// What the increment would start from is lost.
	source := strings.ReplaceAll(strings.Trim(m.fs.Path("mail"), "/"), "/", "-")
	m.fs.Delete("snaps/" + source + "/2026-02-22")
	day("2026-03-01", 0, "2026-01-22 2026-02-06+ 2026-02-17+ 2026-02-22 2026-03-01")
	if !strings.Contains(m.stderr, "a complete backup takes its place") {
		t.Errorf("it says\n%s", m.stderr)
	}
	back := m.far.Path("back")
	if err := os.Mkdir(back, 0o700); err != nil {
		t.Fatal(err)
	}
	m.run(t, 0, "dir://"+m.archive+"/", back+"/")
	for _, name := range []string{"2026-02-06", "2026-02-17", "2026-03-01"} {
		if diff := cmp.Diff(btrfstest.Entries(t, m.fs.Path("snaps/"+source+"/"+name)), btrfstest.Entries(t, filepath.Join(back, name))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// A machine that was off for long does not throw away most of what it has.
	m.now = m.now.AddDate(0, 2, 0)
	m.run(t, 6, "run")
	if got := len(m.snapshots(t)); got < 4 {
		t.Errorf("%d snapshots", got)
	}
	m.run(t, 0, "history", "--json")
	if strings.Count(m.stdout, "\n") < 13 {
		t.Errorf("the history is\n%s", m.stdout)
	}
}
