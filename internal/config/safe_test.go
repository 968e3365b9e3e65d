package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/config"
)

// TestGuarded: a configuration that root reads is one that nobody else could have put
// there, however it is reached.
func TestGuarded(t *testing.T) {
	if os.Geteuid() != 0 { // it is about root
		if os.Getenv("BUTTERSINK_TEST_REAL") != "" {
			t.Fatal("only root can give directories away")
		}
		t.Skip("only root can give directories away")
	}
	top := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	make := func(dir string, mode os.FileMode, owner int) string {
		t.Helper()
		dir = filepath.Join(top, dir)
		must(os.MkdirAll(dir, 0o755))
		must(os.WriteFile(filepath.Join(dir, "c.toml"), []byte("[jobs.a]\nsources = [\"/a\"]\n"), 0o600))
		must(os.Chown(dir, owner, -1))
		must(os.Chmod(dir, mode))
		return dir
	}
	fine, sticky := make("fine", 0o755, 0), make("sticky", 0o777|os.ModeSticky, 0)
	group, all, theirs := make("group", 0o775, 0), make("all", 0o777, 0), make("theirs", 0o755, 1234)
	must(os.MkdirAll(filepath.Join(all, "in"), 0o755))
	must(os.WriteFile(filepath.Join(all, "in", "c.toml"), nil, 0o600))
	must(os.Symlink(filepath.Join(fine, "c.toml"), filepath.Join(all, "link")))
	must(os.Symlink("../all/c.toml", filepath.Join(fine, "link")))
	must(os.Symlink(fine, filepath.Join(sticky, "dir")))
	must(os.Symlink(fine, filepath.Join(sticky, "trap")))
	must(os.Lchown(filepath.Join(sticky, "trap"), 1234, -1))
	const fix = "\nLook through it, and keep it in a directory of root's, such as /etc/buttersink." // what is on the way there may be a home
	for path, want := range map[string]string{
		fine + "/c.toml":        "",
		sticky + "/c.toml":      "",
		sticky + "/dir/c.toml":  "",
		group + "/c.toml":       "others than its owner can write to " + group + " (mode 0775)",
		all + "/c.toml":         "others than its owner can write to " + all + " (mode 0777)",
		all + "/in/c.toml":      "others than its owner can write to " + all + " (mode 0777)",
		all + "/link":           "others than its owner can write to " + all,
		fine + "/link":          "others than its owner can write to " + all,
		theirs + "/c.toml":      theirs + " belongs to the user 1234",
		sticky + "/trap/c.toml": sticky + "/trap belongs to the user 1234",
	} {
		_, err := config.Load(path, config.Checks{})
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", path, err, want)
		case want != "" && (!strings.HasSuffix(strings.TrimSpace(err.Error()), fix) || strings.Contains(err.Error(), "chown") || strings.Contains(err.Error(), "chmod")):
			t.Errorf("%s: %v, want the advice %q", path, err, fix)
		}
	}
}
