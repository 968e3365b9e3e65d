package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/schedule"
)

// load reads a configuration without any checks of others.
func load(t testing.TB, text string) (*config.File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path, config.Checks{})
}

// noPositions compares what is meant, wherever it stands.
var noPositions = cmp.Options{cmpopts.IgnoreTypes(config.Position{}), cmpopts.IgnoreFields(config.File{}, "Path"), cmpopts.EquateEmpty()}

// TestUsual: what holds where nothing is said.
func TestUsual(t *testing.T) {
	f, err := load(t, `
[jobs.home]
sources = ["/home"]
[jobs.mail]
kind = "calendar"
sources = ["/home/mail"]
snapshots = "/snaps/{source}"
[[jobs.mail.destinations]]
url = "dir:///mnt/mail"
[notify.a]
ping = "https://host/x"
[notify.b]
mail = ["root"]
[notify.c]
command = ["/bin/x"]
`)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"a", "b", "c"}
	btrsend := schedule.Btrsend()
	want := &config.File{
		Jobs: []config.Job{
			{
				Name: "home", Kind: config.Backup, Sources: []string{"/home"}, Snapshots: "snapshot",
				Format: schedule.Compact, Snapshot: true, HookTimeout: 5 * time.Minute, Notify: all,
			},
			{
				Name: "mail", Kind: config.Calendar, Sources: []string{"/home/mail"}, Snapshots: "/snaps/{source}",
				Format: schedule.Compact, Snapshot: true, HookTimeout: 5 * time.Minute, Notify: all,
				Days: btrsend.Days, Chain: btrsend.Length, Lifetime: btrsend.Lifetime, SnapshotsMaxAge: 60 * 24 * time.Hour,
				Destinations: []config.Destination{{Name: "dir:///mnt/mail", URL: "dir:///mnt/mail", Place: "dir:///mnt/mail"}},
			},
		},
		Notices: []config.Notice{
			{Name: "a", Ping: "https://host/x", On: []string{"start", "success", "failure"}, Timeout: 30 * time.Second},
			{Name: "b", Mail: []string{"root"}, Sendmail: []string{"/usr/sbin/sendmail", "-i", "-t"}, On: []string{"failure"}, Timeout: 30 * time.Second},
			{Name: "c", Command: []string{"/bin/x"}, On: []string{"success", "failure"}, Timeout: 30 * time.Second},
		},
	}
	if diff := cmp.Diff(want, f, noPositions); diff != "" {
		t.Error(diff)
	}
}

// TestForms: however it is written in TOML, the same is meant, in the order of the
// file.
func TestForms(t *testing.T) {
	var first *config.File
	for i, text := range []string{
		"[jobs.b]\nsources = [\"/b\"]\n[[jobs.b.destinations]]\nstore = \"s\"\npath = \"x\"\nlimit = \"1K\"\n[jobs.a]\nsources = [\"/a\"]\nbefore = [\"/x\", \"y\"]\n[stores.s]\nurl = \"ssh://h/d/\"\nlimit = \"9K\"\nssh-opt = [\"A=b\"]\n",
		"stores.s = { url = 'ssh://h/d/', limit = '9K', ssh-opt = ['A=b'] }\njobs.b = { sources = ['/b'], destinations = [{ store = 's', path = 'x', limit = '1K' }] }\njobs.a.before = [['/x', 'y']]\njobs.a.sources = ['/a']\n",
		"[stores]\n\"s\".url = \"ssh://h/d/\"\ns.limit = \"9K\"\ns.\"ssh-opt\" = [ # an option\n\"A=\\u0062\",\n]\r\n[jobs]\r\nb.sources = [\"/b\"]\r\n[[jobs.b.destinations]]\r\nstore = \"s\"\r\npath = '''x'''\r\nlimit = \"1K\"\r\n[jobs.a]\r\nsources = [\"/a\"]\r\nbefore = [[\"/x\", \"y\"]]\r\n",
	} {
		f, err := load(t, text)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if first == nil {
			first = f
		}
		if diff := cmp.Diff(first, f, noPositions); diff != "" {
			t.Errorf("%d: %s", i, diff)
		}
	}
	if len(first.Jobs) != 2 || first.Jobs[0].Name != "b" {
		t.Errorf("%+v", first.Jobs)
	}
	d := first.Jobs[0].Destinations[0]
	want := config.Destination{
		Name: "s/x", URL: "ssh://h/d/x", Place: "ssh://h/d/x",
		Settings: []config.Setting{{Key: "limit", Values: []string{"1K"}}, {Key: "ssh-opt", Values: []string{"A=b"}}},
	}
	if diff := cmp.Diff(want, d, noPositions); diff != "" {
		t.Error(diff)
	}
}

// TestPlaces: positions count characters from 1, in any kind of line.
func TestPlaces(t *testing.T) {
	f, err := load(t, "# ü\r\n\t[stores.ü]\r\n")
	wrong, ok := errors.AsType[*config.Error](err)
	if !ok || f != nil {
		t.Fatal(err)
	}
	p := wrong.Problems[0]
	if diff := cmp.Diff(config.Position{Line: 2, Column: 10}, p.At); diff != "" {
		t.Error(p.Error(), diff)
	}
	f, err = load(t, "[stores.a]\nurl = '/a/'\n  [stores.b]\n  url = '/ü/'\n  limit = '1K'\n[jobs.j]\nsources=['/x']\ndestinations=[{store='b'},\n {store='a'}]")
	if err != nil {
		t.Fatal(err)
	}
	got := []config.Position{f.Stores[1].At, f.Stores[1].Settings[0].At, f.Jobs[0].At, f.Jobs[0].Destinations[0].Settings[0].At}
	want := []config.Position{{Line: 3, Column: 11}, {Line: 5, Column: 11}, {Line: 6, Column: 7}, {Line: 5, Column: 11}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTooMany: in a file that is no configuration at all, nobody reads on.
func TestTooMany(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "colour%d = %d\n", i, i)
	}
	_, err := load(t, b.String())
	wrong, ok := errors.AsType[*config.Error](err)
	if !ok || len(wrong.Problems) != 101 || wrong.Problems[100].Message != "from here on there are 4900 more problems" {
		t.Error(len(wrong.Problems), wrong.Problems[len(wrong.Problems)-1])
	}
	for _, many := range []string{
		"jobs.a.sources = [" + strings.Repeat("1,", 500_000) + "]",
		"jobs.a.sources = [" + strings.Repeat("'',", 300_000) + "]",
		"jobs.a.destinations = [" + strings.Repeat("{},", 300_000) + "]",
		strings.Repeat("[jobs.x1]\n[jobs.x1.y]\n", 40_000),
		strings.Repeat("a.", 300_000) + "a = 1", "a = " + strings.Repeat("[", 9000),
		"stores = {" + strings.Repeat("a", 1_000_000) + " = 1}",
	} {
		if _, err := load(t, many); err == nil || len(err.Error()) > 100_000 {
			t.Errorf("%.20s: %d bytes", many, len(err.Error()))
		}
	}
	if _, err := load(t, "#"+strings.Repeat("x", 1<<20)); err == nil || !strings.Contains(err.Error(), "is longer than 1048576 bytes") {
		t.Error(err)
	}
}

// TestUnreadable: what cannot be read is no problem in it.
func TestUnreadable(t *testing.T) {
	if _, err := config.Load(filepath.Join(t.TempDir(), "none"), config.Checks{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
		t.Error(err)
	}
	_, err := config.Load(t.TempDir(), config.Checks{})
	if _, ok := errors.AsType[*config.Error](err); ok || err == nil {
		t.Error(err)
	}
}

func TestSourceName(t *testing.T) {
	for source, want := range map[string]string{
		"/": "root", "/home": "home", "/srv/www": "srv-www", "/srv//www/": "srv-www", "/srv/../home/.": "home",
		"ssh://nas": "root", "ssh://nas/": "root", "ssh://me@nas:22/mnt/a b/": "mnt-a b", "ssh+btrfs://nas/x": "x",
	} {
		if got := config.SourceName(source); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}

func TestJoin(t *testing.T) {
	for _, c := range [][3]string{
		{"/mnt", "a/", "/mnt/a/"},
		{"/mnt/", "a", "/mnt/a"},
		{"/", "a", "/a"},
		{"/mnt/", "", "/mnt/"},
		{"dir:///", "a", "dir:///a"},
		{"ssh://nas/srv/?/", "a", "ssh://nas/srv/?/a"},
		{"s3://b", "a/", "s3://b/a/"},
		{"s3://b/?region=eu", "a/", "s3://b/a/?region=eu"},
		{"s3://b/x?storage-class=GLACIER&region=eu", "{source}/", "s3://b/x/{source}/?storage-class=GLACIER&region=eu"},
		{"s3://b/what?/", "a", "s3://b/what?/a"},
	} {
		if got := config.Join(c[0], c[1]); got != c[2] {
			t.Errorf("%s and %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{"30s": 30 * time.Second, "15m": 15 * time.Minute, "26h": 26 * time.Hour, "1d": 24 * time.Hour, "8w": 1344 * time.Hour} {
		if got, err := config.ParseSpan(text); err != nil || got != want || config.FormatSpan(got) != text {
			t.Errorf("%s: %v, %v, %s", text, got, err, config.FormatSpan(got))
		}
		if got, err := config.ParseAge(text); (err == nil) != strings.ContainsAny(text, "hdw") || err == nil && got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "30", "s", "-1s", "1.5h", "1d12h", "5 m", "36501d", "1y", "٣s"} {
		if got, err := config.ParseSpan(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.IntRange(0, 876_000).Draw(t, "n")) * rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "unit")
		text := config.FormatSpan(d)
		if got, err := config.ParseSpan(text); err != nil || got != d {
			t.Fatalf("%v is %s, and that %v, %v", d, text, got, err)
		}
	})
}
