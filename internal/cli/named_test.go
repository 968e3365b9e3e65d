package cli

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// configured is an environment with a configuration.
func configured(t *testing.T, text string) *Env {
	t.Helper()
	env, _, _ := testEnv(t, "buttersink")
	env.configFile = filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(env.configFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return env
}

const namedStores = `
[stores.nas]
url = "ssh://keeper@nas/srv/backup"
ssh-opt = ["Port=2222", "IdentityFile=/k"]
ssh-sudo = "never"
ssh-program = "/opt/buttersink"
wire-compression = "never"
limit = "1MiB"
[stores.cloud]
url = "s3://bucket/machines/?storage-class=GLACIER&region=eu-west-1"
s3-endpoint = "http://127.0.0.1:1/"
s3-path-style = true
compress = "zstd:3"
require-encryption = true
encrypt = ["gpg:me"]
max-chain = 5
max-full = "1GiB"
[stores.whole]
url = "s3://bucket"
[stores.disk]
url = "/mnt/usb"
checkpoint = "0"
`

// TestPlaceOfStore: a name and a path stand for what the store's URL and the path
// would be, and are typed again as they were.
func TestPlaceOfStore(t *testing.T) {
	env := configured(t, namedStores)
	for _, tt := range []struct {
		arg, url    string
		destination bool
	}{
		{"store://nas", "ssh://keeper@nas/srv/backup/", false},
		{"store://nas/", "ssh://keeper@nas/srv/backup/", false},
		{"store://nas/home", "ssh://keeper@nas/srv/backup/home", false},
		{"store://nas/home", "ssh://keeper@nas/srv/backup/home/", true},
		{"store://nas//home//one", "ssh://keeper@nas/srv/backup/home/one", false},
		{"store://cloud/srv/a?b", "s3://bucket/machines/srv/a?b?storage-class=GLACIER&region=eu-west-1", false},
		{"store://cloud", "s3://bucket/machines/?storage-class=GLACIER&region=eu-west-1", false},
		{"store://whole/a/", "s3://bucket/a/", true},
		{"store://whole", "s3://bucket/", false},
		{"store://disk/a b/c'd", "/mnt/usb/a b/c'd", false},
	} {
		want, err := place.Parse(tt.url, tt.destination)
		if err != nil {
			t.Fatal(err)
		}
		want.Arg, want.Query = tt.arg, ""
		got, err := env.placeOf("buttersink", tt.arg, tt.destination)
		if err != nil {
			t.Errorf("%s: %v", tt.arg, err)
			continue
		}
		if got.store == nil || !strings.HasPrefix(tt.arg, "store://"+got.store.name) {
			t.Errorf("%s: of the store %v", tt.arg, got.store)
		}
		if diff := cmp.Diff(want, got.Place); diff != "" {
			t.Errorf("%s (-%s +got):\n%s", tt.arg, tt.url, diff)
		}
	}
	for arg, want := range map[string]string{
		"store://":                     "there is no name",
		"store:///home":                "there is no name",
		"store://NAS/home":             `has no store "NAS": it has nas, cloud, whole, disk`,
		"store://nas/../../etc/":       "leads out of the store nas",
		"store://nas/a/..":             "leads out of the store nas",
		"store://cloud/a?region=x":     "options of a URL stand in the configuration",
		"store://cloud/?region=x":      "options of a URL stand in the configuration",
		"store://cloud/a?region=x&a=b": "options of a URL stand in the configuration",
	} {
		if _, err := env.placeOf("buttersink", arg, true); err == nil || judge(err).code != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
	if _, err := place.Parse("store://nas/", true); err == nil {
		t.Error("a store is a place where there is no configuration")
	}
}

// TestSettingsReach: what a store is reached by comes from its settings, each side
// of a transfer from its own, unless it was typed.
func TestSettingsReach(t *testing.T) {
	env := configured(t, namedStores)
	at := func(arg string) site {
		t.Helper()
		p, err := env.placeOf("buttersink", arg, true)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	o := opening{mode: ssh.Read}.ofStore(at("store://nas/"))
	if diff := cmp.Diff([]string{"Port=2222", "IdentityFile=/k"}, o.ssh.options); diff != "" || o.ssh.sudo.text != sudoNever || o.ssh.program != "/opt/buttersink" || !o.plainWire || o.limit == nil {
		t.Errorf("%s%+v", diff, o)
	}
	typed := opening{ssh: sshFlags{options: []string{"Port=1"}, sudo: sudoFlag{sudoAuto}, program: "b"}}.ofStore(at("store://nas/"))
	if diff := cmp.Diff([]string{"Port=1"}, typed.ssh.options); diff != "" || typed.ssh.sudo.text != sudoAuto || typed.ssh.program != "b" {
		t.Errorf("%s%+v", diff, typed.ssh)
	}
	o = opening{}.ofStore(at("store://cloud/"))
	if o.s3.endpoint != "http://127.0.0.1:1/" || !o.s3.pathStyle || !o.archive.RequireEncryption || len(o.ssh.options) > 0 || o.limit != nil {
		t.Errorf("%+v", o)
	}
	bucket, err := o.forS3(at("store://cloud/").Place)
	if err != nil || bucket.Class != "GLACIER" || bucket.Region != "eu-west-1" {
		t.Errorf("%+v, %v", bucket, err)
	}
	if o := (opening{}).ofStore(site{Place: place.Place{Scheme: "ssh"}}); o.ssh.sudo.text != "" || o.limit != nil {
		t.Errorf("a place without a name: %+v", o)
	}
}

// TestSettle: what a store keeps, and how, are flags that nobody had to type.
func TestSettle(t *testing.T) {
	env := configured(t, namedStores)
	p, err := env.placeOf("buttersink", "store://cloud/", true)
	if err != nil {
		t.Fatal(err)
	}
	root := program(env)
	sync, _, err := root.Find([]string{"sync"})
	if err != nil {
		t.Fatal(err)
	}
	if err := sync.ParseFlags([]string{"--compress", "zstd:9", "--part-size", "7", "--limit", "2M", "-n"}); err != nil {
		t.Fatal(err)
	}
	if err := p.settle(sync); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"compress": "zstd:9", "encrypt": "[gpg:me]", "require-encryption": "true", "max-chain": "5", "max-full": "1GiB",
		"part-size": "7", "s3-endpoint": "", "checkpoint": "",
	} {
		if got := sync.Flags().Lookup(flag).Value.String(); got != want {
			t.Errorf("--%s is %q, want %q", flag, got, want)
		}
	}

	// One of several places has flags of its own.
	shared := &syncOptions{dryRun: true}
	o, err := p.settled(sync, shared)
	if err != nil {
		t.Fatal(err)
	}
	if o == shared || !o.dryRun || o.compress != "zstd:9" || !o.requireEncryption || o.maxChain != 5 || o.partSize != 7 || o.maxFull.bytes != 1<<30 || o.wire.limit.bytes != 2<<20 || !o.s3.pathStyle {
		t.Errorf("%+v", o)
	}
	if diff := cmp.Diff([]string{"gpg:me"}, o.encrypt); diff != "" {
		t.Error(diff)
	}
	if shared.compress != "" {
		t.Errorf("what all share has changed: %+v", shared)
	}
	if o, err := (site{}).settled(sync, shared); o != shared || err != nil {
		t.Errorf("a place without a name: %v, %v", o, err)
	}
}

// TestSamePlace: a place is one destination, by whatever name it goes, and places of
// one name at two endpoints are two.
func TestSamePlace(t *testing.T) {
	env := configured(t, `
[stores.one]
url = "s3://bucket/a"
s3-endpoint = "http://127.0.0.1:1"
[stores.two]
url = "s3://bucket/"
s3-endpoint = "http://127.0.0.1:2"
encrypt = ["gpg:me"]
require-encryption = true
[stores.each]
url = "dir:///bk/{source}/"
[stores.disk]
url = "/mnt/usb"
[jobs.a]
sources = ["/a", "/b"]
destinations = [{ store = "each", encrypt = ["gpg:me"] }]
`)
	env.Log = slog.New(slog.DiscardHandler)
	with := func(o *backupOptions, destinations ...string) (*backupRun, error) {
		t.Helper()
		o.partSize, o.typed = 100, newBackup(env, "backup")
		return o.prepare(t.Context(), env, "buttersink backup", "/home", destinations)
	}
	for _, c := range []struct {
		destinations, ids []string // without ids it is a mistake
	}{
		{[]string{"store://one/", "store://one"}, []string{"s3://bucket/a?endpoint=http%3A%2F%2F127.0.0.1%3A1"}},
		{[]string{"store://disk/a/", "store://disk/b"}, []string{"/mnt/usb/a", "/mnt/usb/b"}},
		{[]string{"/mnt/usb/a", "store://disk/a"}, nil},
		{[]string{"store://one/", "s3://bucket/a/?endpoint=http%3A%2F%2F127.0.0.1%3A1"}, nil},
		{[]string{"store://each/"}, nil},
	} {
		run, err := with(&backupOptions{}, c.destinations...)
		if err != nil || c.ids == nil {
			if c.ids != nil || judge(err).code != exitUsage {
				t.Errorf("%q: %v", c.destinations, err)
			}
			continue
		}
		var ids []string
		for _, target := range run.targets {
			ids = append(ids, target.id)
		}
		if diff := cmp.Diff(c.ids, ids); diff != "" {
			t.Errorf("%q: %s", c.destinations, diff)
		}
	}
	// Without recipients, which would have to be there: the store is named by nobody.
	run, err := with(&backupOptions{lockedDests: true}, "store://one/")
	if err != nil {
		t.Fatal(err)
	}
	for id, encrypted := range map[string]bool{
		"s3://bucket/a?endpoint=http%3A%2F%2F127.0.0.1%3A2": true,
		"s3://bucket/?endpoint=http%3A%2F%2F127.0.0.1%3A2":  true,
		"s3://bucket/a?endpoint=http%3A%2F%2F127.0.0.1%3A1": false,
		"dir:///bk/a": true,
		"dir:///bk":   true, // where the places of all sources lie
		"dir:///bkx":  false,
	} {
		p, err := env.knownAs("buttersink", id)
		if err != nil {
			t.Fatal(err)
		}
		target, err := run.targetAt(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(target.o.encrypt) > 0; got != encrypted || target.id != id {
			t.Errorf("%s is %s, encrypted: %v", id, target.id, got)
		}
	}
	// Rules are those of the place, by whatever name it goes.
	for _, c := range []struct {
		named, destination string
	}{
		{"store://disk/a", "store://disk/a/"},
		{"store://disk/a/", "/mnt/usb/a"},
		{"/mnt/usb/a", "store://disk/a"},
		{"s3://bucket/a", "store://one"},
		{"store://one/", "s3://bucket/a/?endpoint=http%3A%2F%2F127.0.0.1%3A1"},
	} {
		o := &backupOptions{}
		if err := o.destinationKeep.Set(c.named + "=last:9"); err != nil {
			t.Fatal(err)
		}
		run, err := with(o, c.destination)
		if err != nil || run.targets[0].rules.Last != 9 {
			t.Errorf("%s for %s: %v", c.named, c.destination, err)
		}
	}
	o := &backupOptions{lockedDests: true}
	if err := o.destinationKeep.Set("store://dsik/=last:9"); err != nil {
		t.Fatal(err)
	}
	if _, err := with(o, "/mnt/usb"); err == nil || judge(err).code != exitUsage {
		t.Errorf("rules for a store that is none: %v", err)
	}
}

// TestRunEndpoints: the destinations of a job that are called alike, at two endpoints,
// are served both.
func TestRunEndpoints(t *testing.T) {
	env := configured(t, `
[jobs.home]
sources = ["/home"]
destinations = [{ url = "s3://bucket/a", s3-endpoint = "http://127.0.0.1:1" }, { url = "s3://bucket/a", s3-endpoint = "http://127.0.0.1:2" }]
`)
	f, err := env.loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{env: env, command: "buttersink run", o: &runOptions{}, engine: &job.Engine{}}
	run, err := w.places(t.Context(), &f.Jobs[0], runner.Source{Arg: "/home", Name: "home"})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := run.targets[0], run.targets[1]; a.id == b.id || a.unusable != nil || b.unusable != nil {
		t.Errorf("%s and %s: %v, %v", a.id, b.id, a.unusable, b.unusable)
	}
}

// TestRunSamePlace: two machines behind one name are served both; of one machine that a
// job has twice all the same, the second is told of, and never left out in silence.
func TestRunSamePlace(t *testing.T) {
	env := configured(t, `
[jobs.home]
sources = ["/home"]
destinations = [
	{ url = "ssh://nas/b", ssh-opt = ["HostName=%h.lan"] },
	{ url = "ssh://nas/b", ssh-opt = ["HostName=%h.wan"] },
]
`)
	f, err := env.loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{env: env, command: "buttersink run", o: &runOptions{}, engine: &job.Engine{}}
	j := &f.Jobs[0]
	run, err := w.places(t.Context(), j, runner.Source{Arg: "/home", Name: "home"})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := run.targets[0], run.targets[1]; a.id != "ssh://nas.lan/b" || b.id != "ssh://nas.wan/b" || a.unusable != nil || b.unusable != nil {
		t.Errorf("%s and %s: %v, %v", a.id, b.id, a.unusable, b.unusable)
	}
	j.Destinations[1].Settings = j.Destinations[0].Settings
	if run, err = w.places(t.Context(), j, runner.Source{Arg: "/home", Name: "home"}); err != nil {
		t.Fatal(err)
	}
	if a, b := run.targets[0], run.targets[1]; a.id == b.id || a.unusable != nil || b.unusable == nil || !strings.Contains(b.unusable.Error(), a.name) {
		t.Errorf("%s and %s: %v, %v", a.id, b.id, a.unusable, b.unusable)
	}
}

// TestNamedByOptions: two machines behind one name are two destinations, each of which
// is known again by what is noted of it; what was typed is called as ever.
func TestNamedByOptions(t *testing.T) {
	env := configured(t, `
[stores.inner]
url = "ssh://nas/b/"
ssh-opt = ["Port=2222"]
[stores.other]
url = "ssh://nas/b/"
ssh-opt = ["IdentityFile=/x", "HostName=ten"]
[stores.plain]
url = "ssh://nas/b/"
`)
	o := &backupOptions{}
	o.typed = newBackup(env, "buttersink")
	run := &backupRun{env: env, command: "buttersink", o: o}
	for arg, want := range map[string]string{
		"store://plain/a": "ssh://nas/b/a", "store://inner/a": "ssh://nas:2222/b/a", "store://other/a": "ssh://ten/b/a", "ssh://nas/b/a": "ssh://nas/b/a",
	} {
		target, err := run.target(arg)
		if err != nil {
			t.Fatal(err)
		}
		if target.id != want {
			t.Errorf("%s is %s, want %s", arg, target.id, want)
		}
		p, err := env.knownAs("buttersink", want)
		if err != nil {
			t.Fatal(err)
		}
		again, err := run.targetAt(p)
		if err != nil || again.id != want || again.Machine.Host != "nas" {
			t.Errorf("%s comes to %s on %s, %v", want, again.id, again.Machine, err)
		}
	}
}
