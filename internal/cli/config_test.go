package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/buttersink/buttersink/internal/config"
)

// configure writes a configuration that is nobody else's, and returns its path,
// relative to the working directory.
func configure(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f.toml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "f.toml"
}

// TestBrokenConfigs: everything that is wrong is told at once, each with its place,
// its line and what to do.
func TestBrokenConfigs(t *testing.T) {
	cases, err := txtar.ParseFile("testdata/config/broken.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases.Files) < 2*40 || len(cases.Files)%2 != 0 {
		t.Fatalf("%d files are not enough, or not pairs", len(cases.Files))
	}
	for pair := range slices.Chunk(cases.Files, 2) {
		t.Run(pair[0].Name, func(t *testing.T) {
			path := configure(t, string(pair[0].Data))
			env, stdout, stderr := testEnv(t, "buttersink")
			code := Main([]string{"config", "check", path}, env)
			if diff := cmp.Diff(string(pair[1].Data), stderr.String()); diff != "" || pair[1].Name != "want" {
				t.Error(diff)
			}
			if code != exitConfig || stdout.Len() > 0 {
				t.Errorf("exit code %d, and %q", code, stdout)
			}
			told := stderr.String()

			env, stdout, stderr = testEnv(t, "buttersink")
			code = Main([]string{"-c", path, "config", "check", "--json"}, env)
			problems := strings.Count(string(pair[1].Data), "ERROR: ")
			if code != exitConfig || stderr.Len() > 0 || strings.Count(stdout.String(), "\n") != problems {
				t.Errorf("exit code %d, %d problems:\n%s%s", code, problems, stdout, stderr)
			}
			if told += stdout.String(); strings.Contains(told, "-secret") || strings.Contains(told, "QQQ") {
				t.Error("a secret is shown")
			}
			for line := range strings.Lines(stdout.String()) {
				var p configProblem
				if err := json.Unmarshal([]byte(line), &p); err != nil || p.File != path || p.Line < 1 || p.Column < 1 || p.Message == "" || p.Fix == "" {
					t.Errorf("%s: %v", line, err)
				}
			}
		})
	}
}

// TestConfigOfOthers: who can write to the configuration can run programs.
func TestConfigOfOthers(t *testing.T) {
	path := configure(t, "colour = 1\n")
	for mode, want := range map[os.FileMode]string{
		0o600: "",
		0o644: "",
		0o664: "ERROR: f.toml: others than its owner can write to it (mode 0664), and it names programs that are run.\nLook through it, and then: chmod go-w f.toml\n",
		0o602: "ERROR: f.toml: others than its owner can write to it (mode 0602), and it names programs that are run.\nLook through it, and then: chmod go-w f.toml\n",
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		env, _, stderr := testEnv(t, "buttersink")
		code := Main([]string{"config", "check", path}, env)
		colour := "ERROR: f.toml:1:1: there is no key \"colour\" in a configuration.\n    1 | colour = 1\n      | ^^^^^^\nThere are stores, jobs, notify and metrics.\n"
		if diff := cmp.Diff(want+colour, stderr.String()); code != exitConfig || diff != "" {
			t.Errorf("%04o: exit code %d\n%s", mode, code, diff)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(path, config.Checks{})
	wrong, ok := errors.AsType[*config.Error](err)
	if !ok || wrong.Problems[0].Message != "it belongs to the user 65534, neither to root nor to who runs this" {
		t.Error(err)
	}
}

// TestSettingsAreFlags: every key that is told to be a flag is one of backup, and
// has its example taken by it.
func TestSettingsAreFlags(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	backup := newBackup(env, "backup").Flags()
	for _, key := range config.Settings() {
		ours := settingFlags(&syncOptions{}).Flags().Lookup(key)
		theirs := backup.Lookup(key)
		switch {
		case ours == nil:
			t.Errorf("there is no flag --%s", key)
		case key == "identity": // of commands that read
		case theirs == nil || theirs.Value.Type() != ours.Value.Type() || theirs.DefValue != ours.DefValue:
			t.Errorf("--%s is another flag in backup", key)
		}
	}
}

// TestSettingsOf: settings are taken as flags are, and those of a store give way.
func TestSettingsOf(t *testing.T) {
	path := configure(t, `
[stores.s]
url = "ssh://nas/srv/"
ssh-opt = ["Port=22", "IdentityFile=/k"]
limit = "1MiB/s"
checkpoint = "0"
[jobs.a]
sources = ["ssh://host/a"]
kernel-send = true
ssh-sudo = "always"
[[jobs.a.destinations]]
store = "s"
path = "x/y/"
limit = "2MiB/s"
ssh-opt = ["Port=23"]
[[jobs.a.destinations]]
url = "s3://b/x?storage-class=GLACIER"
max-chain = 0
require-encryption = false
keep = "daily:7"
`)
	env, _, stderr := testEnv(t, "buttersink")
	env.Getenv = func(name string) string { return map[string]string{configVariable: path}[name] }
	f, err := env.loadConfig()
	if err != nil {
		t.Fatal(err, stderr)
	}
	j := f.Jobs[0]
	source, err := settingsOf(j.Settings)
	if err != nil || !source.kernelSend || source.ssh.sudo.text != sudoAlways || source.maxChain != usualChain || source.partSize != 100 {
		t.Errorf("%+v, %v", source, err)
	}
	nas, err := settingsOf(j.Destinations[0].Settings)
	if err != nil || nas.wire.limit.bytes != 2<<20 || !slices.Equal(nas.ssh.options, []string{"Port=23"}) || nas.checkpoint.given != "0" {
		t.Errorf("%+v, %v", nas, err)
	}
	cloud, err := settingsOf(j.Destinations[1].Settings)
	if err != nil || cloud.maxChain != 0 || cloud.requireEncryption {
		t.Errorf("%+v, %v", cloud, err)
	}
	var names, urls []string
	for _, d := range j.Destinations {
		names, urls = append(names, d.Name), append(urls, d.URL)
	}
	if diff := cmp.Diff([]string{"s/x/y", "s3://b/x"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ssh://nas/srv/x/y/", "s3://b/x?storage-class=GLACIER"}, urls); diff != "" {
		t.Error(diff)
	}
	if _, err := settingsOf([]config.Setting{{Key: "colour", Values: []string{"red"}}}); err == nil {
		t.Error("there is a flag --colour")
	}
}

// TestConfigShow: what is shown is a configuration that means the same.
func TestConfigShow(t *testing.T) {
	text := `
[stores.nas]
url = "ssh://nas/srv/"
limit = "1MiB/s"
[stores."s.3"]
url = "s3://bucket/?region=eu"
compress = "zstd:3"
parallel = 2
[jobs.home]
sources = ["/home", "/srv/*"]
nested = true
exclude = ["/srv/\u0007\"\\*"]
before = [["/bin/true", "\n\U0001F9C8"], ["/bin/echo", "https://u:secret@host/"]]
notify = []
every = "36h"
keep = "last:3,min-age:2d,zone:Europe/Berlin"
[[jobs.home.destinations]]
store = "s.3"
path = "{source}/"
[[jobs.home.destinations]]
store = "nas"
path = "{source}"
limit = "5MiB/s"
keep = "daily:7"
[jobs.old]
kind = "calendar"
sources = ["/mail"]
snapshots = "/snaps/{source}"
days = [22, 8]
destinations = [{ url = "dir:///mnt/mail" }]
[notify.web]
ping = "https://host/secret/{job}"
[notify.tell]
command = ["/bin/true"]
timeout = "90s"
[metrics]
textfile = "/x.prom"
`
	load := func(text string) *config.File {
		t.Helper()
		f, err := config.Load(configure(t, text), (&Env{}).configChecks())
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return f
	}
	first := load(text)
	shown := showConfig(first)
	if strings.Contains(shown, "secret") {
		t.Errorf("there is a secret in\n%s", shown)
	}
	again := showConfig(load(strings.ReplaceAll(shown, "https://host/***", "https://host/x")))
	names := regexp.MustCompile(` # .*`) // which are no longer those of the stores
	if diff := cmp.Diff(names.ReplaceAllString(shown, ""), names.ReplaceAllString(again, "")); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{
		"[stores.\"s.3\"]\n", "max-chain = 30\n", "limit = \"5MiB/s\"\n", "days = [8, 22]\nchain = 12\nlifetime = 90\n",
		"ping = \"https://host/***\"\n", "notify = []\n", "timeout = \"90s\"\n", "every = \"36h\"\n",
		`exclude = ["/srv/\u0007\"\\*"]`, "hook-timeout = \"5m\"\n",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("there is no %q in\n%s", want, shown)
		}
	}
	var b strings.Builder
	if err := showConfigRecords(&b, first); err != nil || strings.Contains(b.String(), "secret") {
		t.Error(err, b.String())
	}
	var kinds []string
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err, line)
		}
		for _, k := range []string{"store", "job", "notice", "metrics"} {
			if v, ok := m[k]; ok {
				if name, ok := v.(string); ok {
					k += " " + name
				}
				kinds = append(kinds, k)
			}
		}
	}
	if diff := cmp.Diff([]string{"store nas", "store s.3", "job home", "job old", "notice web", "notice tell", "metrics"}, kinds); diff != "" {
		t.Error(diff)
	}
}

// TestExample: the example is right as it stands, and with everything in it that
// is commented out, but for the files that are not there.
func TestExample(t *testing.T) {
	if _, err := config.Load(configure(t, config.Example()), (&Env{}).configChecks()); err != nil {
		t.Error(err)
	}
	var all strings.Builder
	for line := range strings.Lines(config.Example()) {
		bare := strings.TrimPrefix(line, "#")
		if key, _, ok := strings.Cut(strings.TrimSpace(bare), " = "); ok && !strings.Contains(key, " ") || strings.HasPrefix(strings.TrimSpace(bare), "[") {
			line = bare
		}
		all.WriteString(line)
	}
	checks := (&Env{}).configChecks()
	checks.Program = nil
	used := map[string]bool{}
	setting := checks.Setting
	checks.Setting = func(url, key string, values []string) error {
		used[key] = true
		if key == "encrypt" || key == "identity" {
			return nil
		}
		return setting(url, key, values)
	}
	f, err := config.Load(configure(t, all.String()), checks)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Stores) != 3 || len(f.Jobs) != 4 || len(f.Notices) != 3 || f.Textfile == "" || len(used) < 8 {
		t.Errorf("%d stores, %d jobs, %d notices, %d settings", len(f.Stores), len(f.Jobs), len(f.Notices), len(used))
	}
	if !filepath.IsAbs(f.Textfile) {
		t.Error(f.Textfile)
	}
}
