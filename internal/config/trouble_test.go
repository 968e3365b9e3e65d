package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/config"
)

// onMachine are checks on a machine on which nothing with "gone" in its name is
// there; "wrong" is so everywhere.
func onMachine() config.Checks {
	return config.Checks{
		Setting: func(_, _ string, values []string) error {
			switch all := strings.Join(values, " "); {
			case strings.Contains(all, "wrong"):
				return errors.New("wrong anywhere")
			case strings.Contains(all, "gone"):
				return &config.StateError{Err: errors.New("reading it: write another one")}
			}
			return nil
		},
		Program: func(argv []string) error {
			if strings.Contains(argv[0], "gone") || strings.Contains(argv[0], "sendmail") {
				return fmt.Errorf("%s is not there: install it, or correct its path", argv[0])
			}
			return nil
		},
	}
}

func loadOn(t *testing.T, text string, c config.Checks) (*config.File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path, c)
}

// troublesOf are those of each part of a configuration, as KEY:LINE:COLUMN.
func troublesOf(f *config.File) map[string]string {
	found := map[string]string{}
	put := func(of string, troubles []*config.Trouble) {
		for _, t := range troubles {
			text := fmt.Sprintf("%s:%d:%d", t.Key, t.At.Line, t.At.Column)
			found[of] = strings.TrimSpace(found[of] + " " + text)
		}
	}
	for _, s := range f.Stores {
		put("store "+s.Name, s.Troubles)
	}
	for _, j := range f.Jobs {
		put("job "+j.Name, j.Troubles)
		put("hindering "+j.Name, j.Hindrances())
		for _, d := range j.Destinations {
			put("job "+j.Name+" "+d.Name, d.Troubles)
		}
	}
	for _, n := range f.Notices {
		put("notice "+n.Name, n.Troubles)
	}
	put("all", f.Troubles)
	return found
}

// TestTroubles: what is wrong with the machine is a trouble of what it is about, and
// of nothing else.
func TestTroubles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       map[string]string
	}{
		{"none", "[jobs.a]\nsources = ['/a']\nbefore = ['/there']\n", map[string]string{}},
		{
			"what keeps a job from being begun, and what does not",
			"[jobs.a]\nsources = ['/a']\nbefore = [['/there'], ['/gone'], ['/gone', 'x']]\nafter-snapshot = ['/gone']\nafter = ['/gone']\non-failure = ['/gone']\n[jobs.b]\nsources = ['/b']\nbefore = ['/there']\n",
			map[string]string{
				"job a":       "before:3:24 before:3:35 after-snapshot:4:19 after:5:10 on-failure:6:15",
				"hindering a": "before:3:24 before:3:35 after-snapshot:4:19",
				"all":         "before:3:24 before:3:35 after-snapshot:4:19 after:5:10 on-failure:6:15",
			},
		},
		{
			"of a store, and the destinations in it that have nothing else in its place",
			"[stores.s]\nurl = 's3://b/'\nencrypt = ['age:/gone']\nidentity = ['/gone']\n[stores.t]\nurl = 's3://c/'\n" +
				"[jobs.a]\nsources = ['/a']\n[[jobs.a.destinations]]\nstore = 's'\npath = 'x'\n[[jobs.a.destinations]]\nstore = 's'\npath = 'y'\nencrypt = ['age:/there']\n[[jobs.a.destinations]]\nstore = 't'\n",
			map[string]string{
				"store s": "encrypt:3:11 identity:4:12", "job a s/x": "encrypt:3:11 identity:4:12", "job a s/y": "identity:4:12",
				"all": "encrypt:3:11 identity:4:12",
			},
		},
		{
			"of a destination alone",
			"[stores.s]\nurl = 's3://b/'\n[jobs.a]\nsources = ['/a']\n[[jobs.a.destinations]]\nstore = 's'\nencrypt = ['age:/gone']\n[[jobs.a.destinations]]\nurl = 's3://c/'\n",
			map[string]string{"job a s": "encrypt:7:11", "all": "encrypt:7:11"},
		},
		{
			"of notices",
			"[notify.c]\ncommand = ['/gone']\n[notify.m]\nmail = ['root']\n[notify.n]\nmail = ['root']\nsendmail = ['/gone', '-t']\n[notify.o]\nmail = ['root']\nsendmail = ['/there']\n",
			map[string]string{"notice c": "command:2:12", "notice m": "sendmail:4:1", "notice n": "sendmail:7:13", "all": "command:2:12 sendmail:4:1 sendmail:7:13"},
		},
		{
			"in the order of the file, wherever it begins to read",
			"[jobs.a]\nsources = ['/a']\nafter = ['/gone']\n[stores.s]\nurl = 's3://b/'\nidentity = ['/gone']\n",
			map[string]string{"job a": "after:3:10", "store s": "identity:6:12", "all": "after:3:10 identity:6:12"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := loadOn(t, c.text, onMachine())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, troublesOf(f)); diff != "" {
				t.Error(diff)
			}
			// Nothing is left out for it: it is what is said.
			plain, err := loadOn(t, c.text, config.Checks{})
			if err != nil {
				t.Fatal(err)
			}
			ignored := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Troubles" }, cmp.Ignore())
			if diff := cmp.Diff(plain, f, noPositions, ignored); diff != "" {
				t.Error(diff)
			}
			_, told := errors.AsType[*config.Error](f.Wrong())
			if told != (len(f.Troubles) > 0) {
				t.Errorf("%v", f.Wrong())
			}
		})
	}
}

// TestTroubleText: one is told as any problem is, and in one line where it is a part
// of something else.
func TestTroubleText(t *testing.T) {
	text := "[stores.s]\nurl = 's3://b/'\nencrypt = ['age:/gone']\n[jobs.a]\nsources = ['/a']\nbefore = ['/gone']\n"
	f, err := loadOn(t, text, onMachine())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, x := range f.Troubles {
		lines = append(lines, strings.TrimPrefix(x.Error(), filepath.Dir(f.Path)+"/"))
	}
	want := []string{"f.toml:3:11: reading it. Write another one", "f.toml:6:11: /gone is not there. Install it, or correct its path"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if f.Troubles[1].Program != "/gone" || f.Troubles[0].Program != "" {
		t.Errorf("%+v", f.Troubles)
	}
	all := f.Path + ":3:11: reading it.\n    3 | encrypt = ['age:/gone']\n      |           ^^^^^^^^^^^^^\nWrite another one.\n" +
		f.Path + ":6:11: /gone is not there.\n    6 | before = ['/gone']\n      |           ^^^^^^^\nInstall it, or correct its path."
	if diff := cmp.Diff(all, f.Wrong().Error()); diff != "" {
		t.Error(diff)
	}
	// Beside a mistake in the text, it is told in its place.
	f, err = loadOn(t, text+"keeep = 1\nssh-sudo = 'wrong'\n", onMachine())
	wrong, ok := errors.AsType[*config.Error](err)
	if !ok || f != nil {
		t.Fatal(err)
	}
	var places []int
	for _, p := range wrong.Problems {
		places = append(places, p.At.Line)
	}
	if diff := cmp.Diff([]int{3, 6, 7, 8}, places); diff != "" {
		t.Errorf("%s\n%v", diff, err)
	}
}

// TestManyTroubles: however many there are, none is lost, and nobody has to read
// them all.
func TestManyTroubles(t *testing.T) {
	const n = 400
	text := "[jobs.a]\nsources = ['/a']\nbefore = [" + strings.Repeat("['/gone'], ", n) + "]\n"
	f, err := loadOn(t, text, onMachine())
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Jobs[0].Hindrances()) != n || len(f.Troubles) != n {
		t.Errorf("%d of %d", len(f.Jobs[0].Hindrances()), len(f.Troubles))
	}
	if i := slices.IndexFunc(f.Troubles, func(x *config.Trouble) bool { return x.Message == "" }); i >= 0 {
		t.Errorf("%d says nothing", i)
	}
	wrong, ok := errors.AsType[*config.Error](f.Wrong())
	if !ok || len(wrong.Problems) != 101 || wrong.Problems[100].Message != "from here on there are 300 more problems" {
		t.Errorf("%d: %+v", len(wrong.Problems), wrong.Problems[len(wrong.Problems)-1])
	}
}
