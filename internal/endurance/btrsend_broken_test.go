package endurance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// nothing expects the vault to be empty, and no row.
func (c *cellar) nothing() {
	c.t.Helper()
	if there := c.server.Archives(c.t, backupVault); len(there) > 0 {
		c.t.Errorf("archives: %+v", there)
	}
	if left := c.server.Uploads(c.t, backupVault); len(left) > 0 {
		c.t.Errorf("unfinished: %+v", left)
	}
	if table := c.query("SELECT name FROM sqlite_master WHERE name = 'btrsend'"); len(table) == 0 {
		return
	}
	if rows := c.query("SELECT date FROM btrsend"); len(rows) > 0 {
		c.t.Errorf("rows: %q", rows)
	}
}

// TestBtrsendBrokenGPG has a gpg that fails, in ways that can be mistaken for the end
// of a backup.
func TestBtrsendBrokenGPG(t *testing.T) {
	c := newCellar(t, time.Date(2014, 1, 1, 12, 0, 0, 0, time.UTC))
	c.snapshot("2014-01-01", 3<<20)
	stream := c.send("2014-01-01", "")
	path := os.Getenv("PATH")
	for name, end := range map[string]string{
		"fails":                            `"$gpg" "$@" <"$f"; exit 2`,
		"fails at the end":                 `cat >>"$f"; "$gpg" "$@" <"$f"; exit 2`,
		"is content with a part":           `"$gpg" "$@" <"$f"; exit 0`,
		"is killed":                        `"$gpg" "$@" <"$f"; kill -9 $$`,
		"says nothing":                     `cat >/dev/null; exit 0`,
		"closes its output, and is killed": `cat >>"$f"; "$gpg" "$@" <"$f"; exec >&-; sleep 0.2; kill -9 $$`,
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			dir := t.TempDir()
			script := "#!/bin/bash\ngpg=" + btrfstest.Program(t, "gpg") + "\nf=$(mktemp -p " + dir + ")\nhead -c 300000 >\"$f\"\n" +
				"[ -s \"$f\" ] || exec \"$gpg\" \"$@\" <\"$f\"\n" + end + "\n"
			if err := os.WriteFile(filepath.Join(dir, "gpg"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+path)
			call := c.begin("2014-01-01", "--part-size", "1")
			if got := call.asks(); got != "c" {
				t.Fatalf("it asks %q:\n%s", got, call.story())
			}
			if code := call.give(stream); code != failed {
				t.Errorf("it ends with %d:\n%s", code, call.story())
			}
			call.says("nothing has been recorded", "gpg")
			c.nothing()
		})
	}
	c.t = t
	c.answer("2014-01-01", "c")
}

// TestBtrsendFullDisk has no space for the row of a backup that the vault has
// confirmed.
func TestBtrsendFullDisk(t *testing.T) {
	c := newCellar(t, time.Date(2014, 1, 1, 12, 0, 0, 0, time.UTC))
	c.snapshot("2014-01-01", 100_000)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	c.database = filepath.Join(dir, "rows")
	args := []string{"--database", c.database}
	call := c.begin("2014-01-01", args...)
	if got := call.asks(); got != "c" {
		t.Fatalf("it asks %q:\n%s", got, call.story())
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if code := call.give(c.send("2014-01-01", "")); code != failed {
		t.Errorf("it ends with %d:\n%s", code, call.story())
	}
	call.says("nothing has been recorded", "full")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.nothing()
	c.answer("2014-01-01", "c", args...)
	c.answer("2014-01-01", "", args...)
	if rows := c.query("SELECT date FROM btrsend"); len(rows) != 1 {
		t.Errorf("rows: %q", rows)
	}
	if log, err := os.ReadFile(filepath.Join(c.dir, ".btrsend.log")); err != nil || strings.Count(string(log), "Successfully") != 1 {
		t.Errorf("%v: %s", err, log)
	}
}
