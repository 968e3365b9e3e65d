package cli

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestFileLine(t *testing.T) {
	at := time.Date(2026, 11, 20, 23, 5, 45, 498_999_999, time.Local)
	r := slog.NewRecord(at, slog.LevelInfo, "x", 0)
	if got, want := fileLine(r, "message"), "2026-11-20 23:05:45,498:    INFO:?[0]: message"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("earlier\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	env, _, stderr := testEnv(t, "buttersink")
	env.console = &console{w: stderr}
	if err := env.startLog(0, file); err != nil {
		t.Fatal(err)
	}
	env.Log.Debug("seen by few")
	env.Log.Info("two\nlines", "path", "a b\x1b[2J", "n", 3, slog.Group("g", "x", ""))
	env.Log.With("who", "me").WithGroup("grp").Warn("careful", "k", "v")
	env.Log.Error("bad", "url", "ssh://u:secret@h/")

	want := "  two\\nlines path=\"a b\\x1b[2J\" n=3 g.x=\"\"\n" +
		"  WARNING: careful who=me grp.k=v\n" +
		"  ERROR: bad url=ssh://u:***@h/\n"
	if stderr.String() != want {
		t.Errorf("console:\n%s\nwant:\n%s", stderr, want)
	}
	lines := strings.Split(strings.TrimSuffix(readFile(t, file), "\n"), "\n")
	form := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (  DEBUG|   INFO|WARNING|  ERROR):log_test\.go\[\d+\]: `)
	if len(lines) != 5 || lines[0] != "earlier" {
		t.Fatalf("the log file holds %q", lines)
	}
	for _, l := range lines[1:] {
		if !form.MatchString(l) {
			t.Errorf("the line %q has another form", l)
		}
	}
}

func TestLogLevels(t *testing.T) {
	for _, c := range []struct {
		name         string
		quiet        int
		debug, color bool
		noColor      string
		want         string
	}{
		{"as it is", 0, false, false, "", "  i\n  WARNING: w\n  ERROR: e\n"},
		{"quiet", 1, false, false, "", "  WARNING: w\n  ERROR: e\n"},
		{"quiet twice", 2, false, false, "", "  ERROR: e\n"},
		{"quiet thrice", 3, false, false, "", "  ERROR: e\n"},
		{"debug wins", 2, true, false, "", "  DEBUG: d\n  i\n  WARNING: w\n  ERROR: e\n"},
		{"on a terminal", 1, false, true, "", "  \x1b[33mWARNING:\x1b[0m w\n  \x1b[31mERROR:\x1b[0m e\n"},
		{"without colour", 1, false, true, "1", "  WARNING: w\n  ERROR: e\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env, _, stderr := testEnv(t, "buttersink")
			env.console = &console{w: stderr}
			env.StderrIsTerminal = c.color
			env.Getenv = func(name string) string {
				switch {
				case name == "NO_COLOR":
					return c.noColor
				case name == "BUTTERSINK_DEBUG" && c.debug:
					return "1"
				}
				return ""
			}
			if err := env.startLog(c.quiet, ""); err != nil {
				t.Fatal(err)
			}
			env.Log.Debug("d")
			env.Log.Info("i")
			env.Log.Warn("w")
			env.Log.Error("e")
			if stderr.String() != c.want {
				t.Errorf("got %q, want %q", stderr, c.want)
			}
		})
	}
}
