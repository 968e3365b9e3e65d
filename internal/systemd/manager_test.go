package systemd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// files are the files and links below the directory of units, with their texts;
// the templates have none here.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	dir := filepath.Join(root, own)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			if all[name], err = os.Readlink(path); err != nil {
				return err
			}
			all[name] = "-> " + all[name]
		case d.IsDir():
			all[name] = "directory"
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm() != 0o644 {
				t.Errorf("%s has the mode %o", name, info.Mode().Perm())
			}
			all[name] = string(text)
			if strings.HasPrefix(name, "buttersink@.") {
				all[name], _, _ = strings.Cut(string(text), "\n")
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

func install(t *testing.T, m *Manager, timer Timer) {
	t.Helper()
	p, err := m.Install(t.Context(), timer, false)
	if err == nil {
		err = m.Do(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, m *Manager, job string) {
	t.Helper()
	p, err := m.Remove(t.Context(), job)
	if err == nil {
		err = m.Do(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, m *Manager) []Listed {
	t.Helper()
	all, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const (
	templateMark = mark + ", as no package has brought it."
	dropInMark   = mark + ", which replaces it.\n"
)

func TestInstall(t *testing.T) {
	root, dir := written(t, Timer{Job: "home", Calendar: []string{"daily"}, RandomDelay: "30m"})
	m := &Manager{Root: root}
	link := "-> " + filepath.Join(own, TimerTemplate)
	want := map[string]string{
		".": "directory", "timers.target.wants": "directory", "buttersink@home.timer.d": "directory",
		ServiceTemplate: templateMark, TimerTemplate: templateMark,
		"timers.target.wants/buttersink@home.timer":  link,
		"buttersink@home.timer.d/50-buttersink.conf": dropInMark + "[Timer]\nOnCalendar=\nOnCalendar=daily\nRandomizedDelaySec=30m\n",
	}
	if diff := cmp.Diff(want, files(t, root)); diff != "" {
		t.Fatalf("installed (-want +got):\n%s", diff)
	}

	// Once more, with other times and another program; and another job.
	install(t, m, Timer{Job: "home", Calendar: []string{"02:30", "14:30"}, Program: "/usr/local/bin/buttersink", Config: "/srv/b.toml"})
	install(t, m, Timer{Job: "www", Calendar: []string{"weekly"}, Program: Program})
	want["buttersink@home.timer.d/50-buttersink.conf"] = dropInMark + "[Timer]\nOnCalendar=\nOnCalendar=02:30\nOnCalendar=14:30\n"
	want["buttersink@home.service.d"] = "directory"
	want["buttersink@home.service.d/50-buttersink.conf"] = dropInMark + "[Service]\nExecStart=\nExecStart=/usr/local/bin/buttersink run %i\nEnvironment=BUTTERSINK_CONFIG=/srv/b.toml\n"
	want["buttersink@www.timer.d"] = "directory"
	want["buttersink@www.timer.d/50-buttersink.conf"] = dropInMark + "[Timer]\nOnCalendar=\nOnCalendar=weekly\n"
	want["timers.target.wants/buttersink@www.timer"] = link
	if diff := cmp.Diff(want, files(t, root)); diff != "" {
		t.Fatalf("installed again (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Listed{
		{Job: "home", Calendar: []string{"02:30", "14:30"}, Enabled: true},
		{Job: "www", Calendar: []string{"weekly"}, Enabled: true},
	}, list(t, m)); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}

	// The same again changes nothing.
	p, err := m.Install(t.Context(), Timer{Job: "www", Calendar: []string{"weekly"}}, false)
	if err != nil || len(p.Files) > 0 {
		t.Errorf("what is there is written again: %v, %v", p, err)
	}

	// People's own files stay.
	theirs := filepath.Join(dir, "buttersink@home.timer.d", "60-own.conf")
	if err := os.WriteFile(theirs, []byte("[Timer]\nWakeSystem=true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	remove(t, m, "home")
	want = map[string]string{
		".": "directory", "timers.target.wants": "directory", "buttersink@home.timer.d": "directory", "buttersink@www.timer.d": "directory",
		ServiceTemplate: templateMark, TimerTemplate: templateMark,
		"timers.target.wants/buttersink@www.timer":  link,
		"buttersink@www.timer.d/50-buttersink.conf": dropInMark + "[Timer]\nOnCalendar=\nOnCalendar=weekly\n",
		"buttersink@home.timer.d/60-own.conf":       "[Timer]\nWakeSystem=true\n",
	}
	if diff := cmp.Diff(want, files(t, root)); diff != "" {
		t.Fatalf("removed (-want +got):\n%s", diff)
	}
	if _, err := m.Remove(t.Context(), "home"); !errors.Is(err, ErrNoTimer) {
		t.Errorf("removed again: %v", err)
	}
	if err := os.RemoveAll(filepath.Dir(theirs)); err != nil {
		t.Fatal(err)
	}
	remove(t, m, "www")
	left := files(t, root)
	delete(left, "timers.target.wants") // which systemctl leaves, or not
	if diff := cmp.Diff(map[string]string{".": "directory"}, left); diff != "" {
		t.Errorf("all removed (-want +got):\n%s", diff)
	}
	if all := list(t, m); len(all) > 0 {
		t.Errorf("listed: %v", all)
	}
}

// A package that brings the templates later has them used; one that goes leaves
// them to be written.
func TestPackage(t *testing.T) {
	timer := Timer{Job: "home", Calendar: []string{"daily"}}
	root, _ := written(t, timer)
	m := &Manager{Root: root}
	dir := filepath.Join(root, "usr/lib/systemd/system")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ServiceTemplate, TimerTemplate} {
		text, err := Template(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install(t, m, timer)
	want := map[string]string{
		".": "directory", "timers.target.wants": "directory", "buttersink@home.timer.d": "directory",
		"timers.target.wants/buttersink@home.timer":  "-> /usr/lib/systemd/system/" + TimerTemplate,
		"buttersink@home.timer.d/50-buttersink.conf": dropInMark + "[Timer]\nOnCalendar=\nOnCalendar=daily\n",
	}
	if diff := cmp.Diff(want, files(t, root)); diff != "" {
		t.Errorf("with a package (-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	btrfstest.Program(t, "systemd-analyze")
	btrfstest.Program(t, "systemctl")
	for _, c := range []struct {
		name  string
		timer Timer
		spec  bool
		want  string
	}{
		{"no times", Timer{Job: "a"}, false, "the timer has no times"},
		{"no calendar", Timer{Job: "a", Calendar: []string{"daily", "sometimes"}}, true, `"sometimes" is no calendar: want times as in daily, 02:30 or Mon..Fri 12:00 (man systemd.time)`},
		{"an option", Timer{Job: "a", Calendar: []string{"--help"}}, true, `"--help" is no calendar: want times as in daily, 02:30 or Mon..Fri 12:00 (man systemd.time)`},
		{"two lines", Timer{Job: "a", Calendar: []string{"daily\nUnit=x.service"}}, true, `"daily\nUnit=x.service" is no calendar: want times as in daily, 02:30 or Mon..Fri 12:00 (man systemd.time)`},
		{"what has been", Timer{Job: "a", Calendar: []string{"2020-01-01"}}, true, `the calendar "2020-01-01" never comes again`},
		{"no span", Timer{Job: "a", Calendar: []string{"daily"}, RandomDelay: "long"}, true, `"long" is no span of time: want one as in 30m or 2h`},
		{"for ever", Timer{Job: "a", Calendar: []string{"daily"}, RandomDelay: "infinity"}, true, `"infinity" is no span of time: want one as in 30m or 2h`},
		{"for ever, in other words", Timer{Job: "a", Calendar: []string{"daily"}, RandomDelay: " infinity "}, true, `" infinity " is no span of time: want one as in 30m or 2h`},
		{"a span of two lines", Timer{Job: "a", Calendar: []string{"daily"}, RandomDelay: "1h\nx"}, true, `"1h\nx" is no span of time: want one as in 30m or 2h`},
		{"no name", Timer{Job: "../a", Calendar: []string{"daily"}}, false, `"../a" cannot be the name of a unit`},
		{"a path that is not full", Timer{Job: "a", Calendar: []string{"daily"}, Config: "b.toml"}, false, "b.toml is no full path"},
		{"a path with quotes", Timer{Job: "a", Calendar: []string{"daily"}, Program: "/it's/b"}, false, "systemd runs no program at /it's/b, with quotes or backslashes in the path"},
		{"a path of two lines", Timer{Job: "a", Calendar: []string{"daily"}, Program: "/a\nb"}, false, "a path with control characters cannot stand in a unit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			_, err := (&Manager{Root: root}).Install(t.Context(), c.timer, false)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if _, ok := errors.AsType[*SpecError](err); ok != c.spec {
				t.Errorf("%T", err)
			}
			if all := files(t, root); len(all) > 0 {
				t.Errorf("something is written: %v", all)
			}
		})
	}
	t.Run("no root", func(t *testing.T) {
		_, err := (&Manager{Root: filepath.Join(t.TempDir(), "none")}).Install(t.Context(), Timer{Job: "a", Calendar: []string{"daily"}}, false)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("somebody else's file", func(t *testing.T) {
		m := &Manager{Root: t.TempDir()}
		path := filepath.Join(m.Root, timerFile("a"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("[Timer]\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Install(t.Context(), Timer{Job: "a", Calendar: []string{"daily"}}, false); err == nil || !strings.Contains(err.Error(), "60-own.conf") {
			t.Error(err)
		}
	})
}

// What fails in the middle leaves everything as it was.
func TestUndone(t *testing.T) {
	timer := Timer{Job: "home", Calendar: []string{"daily"}}
	for name, prepare := range map[string]func(t *testing.T, m *Manager){
		"the first": func(*testing.T, *Manager) {},
		"with another": func(t *testing.T, m *Manager) {
			install(t, m, Timer{Job: "home", Calendar: []string{"weekly"}, Program: "/opt/buttersink"})
			install(t, m, Timer{Job: "www", Calendar: []string{"weekly"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			btrfstest.Program(t, "systemctl")
			m := &Manager{Root: t.TempDir()}
			prepare(t, m)
			before := files(t, m.Root)
			p, err := m.Install(t.Context(), timer, false)
			if err != nil {
				t.Fatal(err)
			}
			p.Start = append(p.Start, Command{Argv: []string{"systemctl", "--root=" + m.Root, "enable", "nothing-of-that-name.timer"}})
			if err := m.Do(t.Context(), p); err == nil || !strings.Contains(err.Error(), "nothing-of-that-name") {
				t.Errorf("got %v", err)
			}
			after := files(t, m.Root)
			if _, was := before["."]; !was { // directories that were made stay, empty
				delete(after, ".")
				delete(after, "timers.target.wants")
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("what became of it (-before +after):\n%s", diff)
			}
		})
	}
}

func TestNext(t *testing.T) {
	btrfstest.Program(t, "systemd-analyze")
	t.Setenv("TZ", "Asia/Tokyo")
	for spec, want := range map[string]time.Time{
		"2097-03-04 05:06:07 UTC":           time.Date(2097, 3, 4, 5, 6, 7, 0, time.UTC),
		"2097-07-04 05:06:07 Europe/Berlin": time.Date(2097, 7, 4, 3, 6, 7, 0, time.UTC),
	} {
		got, err := Next(t.Context(), spec)
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v; want %v", spec, got, err, want)
		}
	}
}
