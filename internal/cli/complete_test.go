package cli

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// offered is what a shell is told that can follow: the words, without what is
// said about them, and the directive.
func offered(t *testing.T, env *Env, words ...string) (offers []string, directive string) {
	t.Helper()
	once, out, _ := testEnv(t, "buttersink")
	once.Getenv = func(name string) string {
		if name == configVariable {
			return env.configPath()
		}
		return env.Getenv(name)
	}
	if code := Main(append([]string{"__complete"}, words...), once); code != exitDone {
		t.Fatalf("%q: exit code %d", words, code)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for _, line := range lines[:len(lines)-1] {
		word, _, _ := strings.Cut(line, "\t")
		offers = append(offers, word)
	}
	return offers, lines[len(lines)-1]
}

const completedConfig = `
[stores.nas]
url = "ssh://keeper@nas.invalid/srv"
[stores.cloud]
url = "s3://bucket/machines/?region=eu-west-1"
[stores.tape]
url = "shell://cat"
[stores.disk]
url = "DIR/disk/"
[jobs.home]
sources = ["/home"]
  [[jobs.home.destinations]]
  store = "nas"
  path = "home/"
  [[jobs.home.destinations]]
  store = "cloud"
  path = "home/{source}/x/"
[jobs.srv]
sources = ["/srv/*"]
  [[jobs.srv.destinations]]
  store = "nas"
  path = "{source}/"
  [[jobs.srv.destinations]]
  url = "ssh://elsewhere.invalid/srv/{source}/"
`

func TestOffers(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, d := range []string{"disk/a b", "disk/.h", "disk/odd\nname", "disk/odd\tname", "disk/x\x1b[1mname", "dist", "disk/ends "} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("disk", "dislink"); err != nil {
		t.Fatal(err)
	}
	env := configured(t, strings.ReplaceAll(completedConfig, "DIR", dir))
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"run|", []string{"home", "srv"}},
		{"run|home|s", []string{"srv"}},
		{"history|home|", nil},
		{"-c /no/such/file|run|", nil},
		{"systemd|install|h", []string{"home"}},
		{"help|comp", []string{"completion"}},
		{"help|__", nil},

		{"compl", []string{"completion"}},
		{"store://n", []string{"store://nas/"}},
		{"/x/|store://n", []string{"store://nas/"}},
		{"list|store://", []string{"store://nas/", "store://cloud/", "store://disk/"}},
		{"sync|/x/|store://t", []string{"store://tape/"}},
		{"sync|store://t", nil},
		{"verify|sto", []string{"store://cloud/"}},
		{"init|s", []string{"s3://", "store://cloud/"}},
		{"sync|/x/|sh", []string{"shell://"}},
		{"list|/x/|", nil},

		{"list|store://nas/", []string{"store://nas/home/"}},
		{"list|store://nas/home/", []string{"store://nas/home/"}},
		{"verify|store://cloud/h", []string{"store://cloud/home/"}},
		{"verify|store://nas/h", nil},
		{"list|store://disk/", []string{"store://disk/a b/", "store://disk/ends /"}},
		{"list|store://disk/.", []string{"store://disk/.h/"}},
		{"list|store://nosuch/", nil},
		{"list|store://disk/../", nil},
		{"list|store://disk/../di", nil},

		{"list|dis", []string{"disk/", "dislink/", "dist/"}},
		{"list|./dis", []string{"./disk/", "./dislink/", "./dist/"}},
		{"list|dir://dist", []string{"dir://dist/"}},
		{"list|file://dist", []string{"file://dist/"}},
		{"verify|dist", nil},
		{"list|nosuch://", nil},
		{"list|ssh://nas.invalid/", nil},
		{"list|s3://bucket/", nil},

		{"prune|--keep|last:2,da", []string{"last:2,daily:"}},
		{"backup|--dest-keep|/x=", []string{"/x=last:", "/x=hourly:", "/x=daily:", "/x=weekly:", "/x=monthly:", "/x=yearly:", "/x=min-age:", "/x=zone:"}},
		{"sync|--encrypt|a", []string{"age:"}},
		{"sync|--encrypt|age:dist", []string{"age:dist/"}},
		{"sync|--compress=zstd:1", []string{"zstd:1", "zstd:19"}},
		{"sync|--part-size|", nil},
		{"sync|--wire-c", []string{"--wire-compression"}},
		{"prune|--for|store://d", []string{"store://disk/"}},
	} {
		got, _ := offered(t, env, strings.Split(tt.line, "|")...)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}

	if got, _ := offered(t, env, ""); len(got) == 0 || slices.ContainsFunc(got, func(w string) bool { return strings.Contains(w, "/") }) {
		t.Errorf("at the beginning there are %q", got)
	}

	// A configuration with a mistake has no stores; directories are offered still.
	if err := os.WriteFile(env.configFile, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _ := offered(t, env, "list", "di")
	if diff := cmp.Diff([]string{"dir://", "disk/", "dislink/", "dist/"}, got); diff != "" {
		t.Errorf("without a configuration (-want +got):\n%s", diff)
	}
}

// TestManyOffers: a directory with more than anybody wants to see is cut.
func TestManyOffers(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for i := range mostOffered + 10 {
		if err := os.Mkdir(filepath.Join(dir, strings.Repeat("x", i%100+1)+string(rune('a'+i/100))), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := offered(t, configured(t, ""), "list", "x"); len(got) != mostOffered {
		t.Errorf("%d are offered, want %d", len(got), mostOffered)
	}
}

// TestFlagValues: where the help says FILE, a shell offers files, where it says
// DIR, directories, and nowhere else what may be lying around.
func TestFlagValues(t *testing.T) {
	env := configured(t, "")
	flag := regexp.MustCompile(`(?m)^ +(?:-[a-zA-Z], )?--([a-z0-9-]+) ([A-Za-z=]+)`)
	files := []string{"FILE", "PATH", "COMMAND"}
	seen := 0
	for _, cmd := range branches(Commands(env)) {
		for _, m := range flag.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			words := append(strings.Fields(cmd.CommandPath())[1:], "--"+m[1], "")
			_, directive := offered(t, env, words...)
			want := ":4 :36"
			switch {
			case m[2] == "DIR":
				want = ":16"
			case slices.Contains(files, m[2]):
				want = ":0"
			}
			if seen++; !strings.Contains(want, directive) {
				t.Errorf("%s --%s %s: directive %s, want one of %s", cmd.CommandPath(), m[1], m[2], directive, want)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d flags were found", seen)
	}
}

// TestWordsNamed: what has completions is there.
func TestWordsNamed(t *testing.T) {
	env := configured(t, "")
	root := Commands(env)
	for path := range env.wordsFollowing() {
		cmd, rest, err := root.Find(strings.Fields(path))
		if err != nil || len(rest) > 0 || path != "" && cmd == root {
			t.Errorf("there is no command %q: %v, %v", path, rest, err)
		}
	}
}

// TestNobodyWaits: a prompt is there again after a while, whatever hangs.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		f := following([]follow{func(context.Context, *cobra.Command, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			<-hangs
			return []cobra.Completion{"late"}, filesFollow
		}})
		began := time.Now()
		words, directive := f(&cobra.Command{}, nil, "")
		if len(words) > 0 || directive != wordsFollow {
			t.Errorf("%q, %v", words, directive)
		}
		if took := time.Since(began); took != completionTime {
			t.Errorf("it took %s", took)
		}
		close(hangs)
	})
}

// TestCompletionCommand: each shell has its text, and no other.
func TestCompletionCommand(t *testing.T) {
	for _, shell := range completionShells {
		env, stdout, _ := testEnv(t, "buttersink")
		if code := Main([]string{"completion", shell}, env); code != exitDone || !strings.Contains(stdout.String(), "__complete") {
			t.Errorf("%s: exit code %d\n%s", shell, code, stdout)
		}
	}
	for _, args := range [][]string{{}, {"powershell"}, {"bash", "zsh"}} {
		env, stdout, _ := testEnv(t, "buttersink")
		if code := Main(append([]string{"completion"}, args...), env); code != exitUsage || stdout.Len() > 0 {
			t.Errorf("%q: exit code %d\n%s", args, code, stdout)
		}
	}
}
