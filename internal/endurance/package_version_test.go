package endurance

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestPackageVersions follows a history from before its first release to after the
// second, and asks dpkg whether each version comes after the one before.
func TestPackageVersions(t *testing.T) {
	btrfstest.Require(t) // where everything of Debian's is
	dir := t.TempDir()
	day := 1
	do := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		date := "2026-11-0" + string(rune('0'+day)) + "T12:00:00Z"
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE="+date, "GIT_AUTHOR_DATE="+date, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "TZ=Pacific/Auckland")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	file := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("../../packaging/version.sh")
	if err != nil {
		t.Fatal(err)
	}
	do("git", "init", "-q")
	file("packaging/version.sh", string(script))
	file("text", "one")
	do("git", "add", ".")

	last := "0~0"
	commit := func() {
		t.Helper()
		day++
		do("git", "commit", "-q", "--allow-empty", "-m", "more")
	}
	is := func(want string) {
		t.Helper()
		got := do("sh", "packaging/version.sh")
		if !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("version %s, want %s", got, want)
		}
		do("dpkg", "--compare-versions", got, "gt", last)
		last = got
	}
	commit()
	is(`0~20261102\.120000\.g[0-9a-f]{7}`)
	commit()
	is(`0~20261103\.120000\.g[0-9a-f]{7}`)
	do("git", "tag", "v1.2.0-rc1")
	is(`1\.2\.0~rc1`)
	commit()
	is(`1\.2\.0~rc1\+1\.g[0-9a-f]{7}`)
	do("git", "tag", "v1.2.0")
	is(`1\.2\.0`)
	file("text", "two")
	is(`1\.2\.0\+dirty`)
	do("git", "checkout", "-q", "text")
	last = "1.2.0"
	for range 3 {
		commit()
	}
	is(`1\.2\.0\+3\.g[0-9a-f]{7}`)
	file("text", "three")
	is(`1\.2\.0\+3\.g[0-9a-f]{7}\.dirty`)
	do("git", "commit", "-q", "-a", "-m", "three")
	do("git", "tag", "v1.2.1")
	is(`1\.2\.1`)
}
