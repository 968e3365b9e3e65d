package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/buttersink/buttersink/internal/config"
)

// TestMistakeOrTrouble: what could be right on another machine, or on this one later,
// is no mistake in the text.
func TestMistakeOrTrouble(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"open.key": 0o644, "bad.key": 0o600, "bad.pub": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("# nothing\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	const some = "age:age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	for _, c := range []struct {
		name, url, key string
		values         []string
		wrong, state   bool
	}{
		{"a recipient", "s3://b/", "encrypt", []string{some}, false, false},
		{"a file that is not there", "s3://b/", "encrypt", []string{"age:" + dir + "/none"}, true, true},
		{"a file without a recipient", "s3://b/", "encrypt", []string{some, "age:" + dir + "/bad.pub"}, true, true},
		{"a file that is not there, relative", "s3://b/", "encrypt", []string{"age:none"}, true, false},
		{"one that is misspelt beside a file", "s3://b/", "encrypt", []string{"age:" + dir + "/none", "age:age1misspelt"}, true, false},
		{"one that is unknown", "s3://b/", "encrypt", []string{"rot13:me"}, true, false},
		{"a secret key", "s3://b/", "encrypt", []string{"age:AGE-SECRET-KEY-1QQQ"}, true, false},
		{"a file where nothing is encrypted", "ssh://nas/srv/", "encrypt", []string{"age:" + dir + "/none"}, true, false},
		{"a key that is not there", "s3://b/", "identity", []string{dir + "/none"}, true, true},
		{"a key that others can read", "s3://b/", "identity", []string{dir + "/open.key"}, true, true},
		{"no key", "s3://b/", "identity", []string{dir + "/bad.key"}, true, true},
		{"a key that is not there, relative", "s3://b/", "identity", []string{"none"}, true, false},
		{"a key beside a relative one", "s3://b/", "identity", []string{dir + "/none", "none"}, true, false},
		{"a key where nothing is encrypted", "/mnt/usb/", "identity", []string{dir + "/none"}, true, false},
		{"a speed", "s3://b/", "limit", []string{"fast"}, true, false},
	} {
		err := checkSetting(c.url, c.key, c.values)
		_, state := errors.AsType[*config.StateError](err)
		if (err != nil) != c.wrong || state != c.state {
			t.Errorf("%s: %v, and the machine is to blame: %t", c.name, err, state)
		}
	}
}

// TestTroublesChecked: config check tells troubles as it tells mistakes.
func TestTroublesChecked(t *testing.T) {
	path := configure(t, "[jobs.home]\nsources = [\"/home\"]\nbefore = [\"/nonexistent/freeze\"]\n")
	want := "ERROR: f.toml:3:11: /nonexistent/freeze is not there, since /nonexistent is not.\n" +
		"    3 | before = [\"/nonexistent/freeze\"]\n      |           ^^^^^^^^^^^^^^^^^^^^^\nInstall it, or correct its path.\n"
	env, stdout, stderr := testEnv(t, "buttersink")
	if code := Main([]string{"config", "check", path}, env); code != exitConfig || stdout.Len() > 0 || stderr.String() != want {
		t.Errorf("exit code %d\n%s%s\nwant\n%s", code, stdout, stderr, want)
	}
	env, stdout, stderr = testEnv(t, "buttersink")
	record := `{"file":"f.toml","line":3,"column":11,"message":"/nonexistent/freeze is not there, since /nonexistent is not","fix":"Install it, or correct its path."}` + "\n"
	if code := Main([]string{"config", "check", "--json", path}, env); code != exitConfig || stderr.Len() > 0 || stdout.String() != record {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestCalendarInTrouble: a calendar that cannot encrypt makes its snapshot, and
// nothing else, until it can.
func TestCalendarInTrouble(t *testing.T) {
	e := newHomestead(t, `
[jobs.mail]
kind = "calendar"
sources = ["$FS/home"]
snapshots = "$FS/snaps/{source}"
days = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]
[[jobs.mail.destinations]]
url = "dir://$FS/archive"
encrypt = ["age:$DIR/away/key.pub"]
`)
	if err := errors.Join(os.Mkdir(e.fs.Path("archive"), 0o700), os.Mkdir(filepath.Join(e.dir, "away"), 0o700)); err != nil {
		t.Fatal(err)
	}
	e.run(t, 0, "init", "dir://"+e.fs.Path("archive"))
	says(t, e.run(t, exitPartly, "run"), "ERROR: mail: ", "config.toml:9:11: reading the recipients: open ")
	if n := len(entries(t, e.fs.Path("archive"))); n != 1 { // what makes it an archive
		t.Errorf("the archive has %d entries", n)
	}
	e.write(t, "away/key.pub", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n", 0o644)
	e.run(t, 0, "run")
	if n := len(entries(t, e.fs.Path("archive"))); n < 2 {
		t.Errorf("the archive has %d entries", n)
	}
}
