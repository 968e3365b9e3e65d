package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// herald is a machine with a job, programs around it, and people who are told.
type herald struct {
	fs     *btrfstest.FS
	dir    string
	config string

	mu     sync.Mutex
	pings  []string
	bodies []string
	broken bool // the service answers badly
}

// key is what nobody may read.
const key = "5f0c-hunter2-a91b"

func newHerald(t *testing.T) *herald {
	t.Helper()
	btrfstest.Require(t)
	h := &herald{fs: btrfstest.New(t), dir: t.TempDir()}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.fs.Subvolume("home")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.pings, h.bodies = append(h.pings, r.URL.Path), append(h.bodies, string(body))
		if h.broken {
			http.Error(w, "no such check: "+r.URL.Path, http.StatusNotFound)
		}
	}))
	t.Cleanup(service.Close)
	for name, text := range map[string]string{
		"before":   `echo "the password is ` + key + `"; echo before >>` + h.dir + `/told; . ` + h.dir + `/mood`,
		"after":    `echo "$BUTTERSINK_EVENT $BUTTERSINK_RESULT" >>` + h.dir + `/told`,
		"sendmail": `cat >` + h.dir + `/mail`,
		"speak":    `cat >>` + h.dir + `/reports`,
	} {
		h.write(t, name, "#!/bin/sh\n"+text+"\n", 0o755)
	}
	h.config = filepath.Join(h.dir, "config.toml")
	h.write(t, "config.toml", fmt.Sprintf(`
[jobs.home]
sources = [%[1]q]
before = ["%[2]s/before"]
after-snapshot = ["%[2]s/after"]
after = ["%[2]s/after"]
on-failure = ["%[2]s/after"]
hook-timeout = "2s"
[[jobs.home.destinations]]
url = "%[3]s"

[notify.hc]
ping = "%[4]s/%[5]s/{job}"
[notify.admin]
mail = ["root"]
sendmail = ["%[2]s/sendmail", "-t"]
[notify.chat]
command = ["%[2]s/speak"]
`, h.fs.Path("home"), h.dir, h.fs.Path("backup"), service.URL, key), 0o600)
	return h
}

func (h *herald) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// run runs the job, with before in some mood, and returns what was told.
func (h *herald) run(t *testing.T, want int, mood string) (told, output string) {
	t.Helper()
	h.write(t, "mood", mood+"\n", 0o644)
	for _, name := range []string{"told", "mail", "reports"} {
		if err := os.RemoveAll(filepath.Join(h.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	h.pings, h.bodies = nil, nil
	env, stdout, stderr := testEnv(t, "buttersink")
	env.Getenv = func(name string) string {
		return map[string]string{"BUTTERSINK_STATE": h.dir + "/state", "BUTTERSINK_CONFIG": h.config}[name]
	}
	if code := Main([]string{"run"}, env); code != want {
		t.Errorf("%s: exit code %d, want %d\n%s%s", mood, code, want, stdout, stderr)
	}
	return h.read("told"), stdout.String() + stderr.String()
}

func (h *herald) read(name string) string {
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		return ""
	}
	return string(text)
}

// TestRunTold: everybody hears how a job went, also of one that never got to its
// snapshot; and nobody finds out what is secret, whatever goes wrong.
func TestRunTold(t *testing.T) {
	h := newHerald(t)
	told, _ := h.run(t, 0, "exit 0")
	if told != "before\nafter-snapshot going-on\nafter done\n" {
		t.Errorf("programs were told %q", told)
	}
	if diff := cmp.Diff([]string{"/" + key + "/home/start", "/" + key + "/home"}, h.pings); diff != "" {
		t.Error(diff)
	}
	if h.read("mail") != "" || strings.Count(h.read("reports"), "\n") != 1 || !strings.Contains(h.read("reports"), `"event":"success"`) {
		t.Errorf("mail %q, reports %q", h.read("mail"), h.read("reports"))
	}
	for mood, why := range map[string]string{
		"echo no space left; exit 5":                        "ended with status 5",
		"(sleep 1000; echo " + key + ") & echo stuck; wait": "has not ended within 2s, and was ended",
	} {
		before := len(entries(t, h.fs.Path("home/snapshot")))
		told, said := h.run(t, 1, mood)
		if told != "before\nafter-snapshot failed\nafter failed\non-failure failed\n" {
			t.Errorf("programs were told %q", told)
		}
		if diff := cmp.Diff([]string{"/" + key + "/home/start", "/" + key + "/home/fail"}, h.pings); diff != "" {
			t.Error(diff)
		}
		var report struct{ Event, Summary string }
		if err := json.Unmarshal([]byte(h.read("reports")), &report); err != nil || report.Event != "failure" {
			t.Errorf("%v: %s", err, h.read("reports"))
		}
		for what, text := range map[string]string{
			"the ping": strings.Join(h.bodies, "\n"), "the mail": strings.ReplaceAll(h.read("mail"), "=\n", ""),
			"the report": h.read("reports"), "standard error": said,
		} {
			if !strings.Contains(text, why) {
				t.Errorf("%s does not say %q: %s", what, why, text)
			}
			if what != "standard error" && (strings.Contains(text, "no space left") || strings.Contains(text, "stuck")) {
				t.Errorf("%s has what a program has printed, which is nobody's business: %s", what, text)
			}
			if strings.Contains(text, key) {
				t.Errorf("%s gives the key away: %s", what, text)
			}
		}
		if after := len(entries(t, h.fs.Path("home/snapshot"))); after != before {
			t.Errorf("%d snapshots were made", after-before)
		}
	}
	// Who cannot be told is a warning, and the key stays a secret there too.
	h.broken = true
	h.write(t, "speak", "#!/bin/sh\nexit 7\n", 0o755)
	h.write(t, "before", "#!/bin/sh\n", 0o755)
	_, said := h.run(t, 0, "")
	if strings.Count(said, " could not be told: ") != 3 || strings.Contains(said, key) {
		t.Errorf("it says\n%s", said)
	}
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
