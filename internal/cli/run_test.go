package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
)

// homestead is a machine with a subvolume, and some configuration.
type homestead struct {
	fs          *btrfstest.FS
	dir, config string
	ahead       time.Duration // of its clock
}

// newHomestead makes one. In its configuration $FS and $DIR stand for two directories, the
// first of btrfs.
func newHomestead(t *testing.T, config string) *homestead {
	t.Helper()
	btrfstest.Require(t)
	e := &homestead{fs: btrfstest.New(t), dir: t.TempDir()}
	if err := os.Chmod(e.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	e.fs.Subvolume("home")
	e.config = filepath.Join(e.dir, "config.toml")
	e.write(t, "config.toml", config, 0o600)
	return e
}

func (e *homestead) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	text = strings.NewReplacer("$FS", e.fs.Dir, "$DIR", e.dir).Replace(text)
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// run runs a command, and returns what it says.
func (e *homestead) run(t *testing.T, want int, args ...string) string {
	t.Helper()
	env, stdout, stderr := testEnv(t, "buttersink")
	env.Getenv = func(name string) string {
		return map[string]string{"BUTTERSINK_STATE": e.dir + "/state", "BUTTERSINK_CONFIG": e.config}[name]
	}
	env.Now = func() time.Time { return time.Now().Add(e.ahead) }
	if code := Main(args, env); code != want {
		t.Errorf("%q: exit code %d, want %d\n%s%s", args, code, want, stdout, stderr)
	}
	return stdout.String() + stderr.String()
}

// says expects a text to have some others in it.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
}

// TestRunUnusable: a destination for which nothing can be encrypted keeps no other
// from being served, and gets nothing.
func TestRunUnusable(t *testing.T) {
	e := newHomestead(t, `
[jobs.home]
sources = ["$FS/home"]
before = ["$DIR/lose"]
[[jobs.home.destinations]]
url = "dir://$FS/archive"
encrypt = ["age:$DIR/key.pub"]
require-encryption = true
[[jobs.home.destinations]]
url = "$FS/backup"
`)
	e.write(t, "key.pub", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n", 0o644)
	e.write(t, "lose", "#!/bin/sh\nrm -f $DIR/key.pub\n", 0o755)
	if err := os.Mkdir(e.fs.Path("archive"), 0o700); err != nil {
		t.Fatal(err)
	}
	e.run(t, 0, "init", "dir://"+e.fs.Path("archive"))
	said := e.run(t, 4, "run")
	says(t, said, "key.pub", e.fs.Path("backup")+": complete: 1 transferred")
	if strings.Contains(said, "--help") {
		t.Errorf("nobody has typed anything:\n%s", said)
	}
	if n := len(entries(t, e.fs.Path("archive"))); n != 1 { // what makes it an archive
		t.Errorf("the archive has %d entries", n)
	}
	e.write(t, "key.pub", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n", 0o644)
	says(t, e.run(t, 4, "status"), "1 of 3 are late")
}

// TestRunNothing: where others make the snapshots and have made none, nothing is no
// success.
func TestRunNothing(t *testing.T) {
	e := newHomestead(t, `
[jobs.home]
sources = ["$FS/home"]
prefix = "home-"
snapshot = false
[[jobs.home.destinations]]
url = "$FS/backup"
`)
	says(t, e.run(t, 1, "run"), "there is no snapshot home-YYYYMMDD-HHMMSS to bring anywhere", "snapshot = false")
	says(t, e.run(t, 1, "status"), "LATE")
	e.run(t, 0, "-q", "backup", "-p", "home-", e.fs.Path("home"))
	e.run(t, 0, "run")
	e.run(t, 0, "status")
}

// TestRunNothingNew: where others make the snapshots and have stopped, runs succeed for
// ever, and all that is backed up gets old.
func TestRunNothingNew(t *testing.T) {
	e := newHomestead(t, `
[jobs.home]
sources = ["$FS/home"]
snapshot = false
every = "1d"
[[jobs.home.destinations]]
url = "$FS/backup"
`)
	e.run(t, 0, "-q", "backup", e.fs.Path("home"))
	e.run(t, 0, "run")
	e.run(t, 0, "status")
	e.ahead = 28 * time.Hour
	e.run(t, 0, "run")
	e.run(t, 0, "status")
	e.ahead = 31 * time.Hour
	e.run(t, 0, "run")
	says(t, e.run(t, 1, "status"), "the newest snapshot is 31 hours old, and may be 30 hours: others are to make them", "everything is late (2 of 2)")
	e.run(t, 0, "-q", "backup", e.fs.Path("home"))
	says(t, e.run(t, 1, "status"), "the newest snapshot") // nobody has brought it anywhere
	e.run(t, 0, "run")
	e.run(t, 0, "status")
}

// TestRunElsewhere: what has succeeded at one place says nothing of another one.
func TestRunElsewhere(t *testing.T) {
	const job = `
[stores.disk]
url = "$FS/disk"
[jobs.home]
sources = ["$FS/home"]
[[jobs.home.destinations]]
store = "disk"
path = "{source}"
`
	e := newHomestead(t, job)
	e.run(t, 0, "run")
	e.run(t, 0, "status")
	e.write(t, "config.toml", strings.Replace(job, "$FS/disk", "$FS/./disk/", 1), 0o600) // the same
	e.run(t, 0, "status")
	e.write(t, "config.toml", strings.Replace(job, "$FS/disk", "$FS/other", 1), 0o600)
	says(t, e.run(t, 4, "status"), "never tried: the configuration had another place for it at the last run", "1 of 2 are late")
	says(t, e.run(t, 4, "status", "--json"), `"last_success":null`, `"moved":true`)
	e.run(t, 0, "run")
	e.run(t, 0, "status")
}

// TestRunWithoutLedger: who counts on the status is told that it will not know.
func TestRunWithoutLedger(t *testing.T) {
	e := newHomestead(t, "[jobs.home]\nsources = [\"$FS/home\"]\n")
	if err := os.Mkdir(e.dir+"/state", 0o700); err != nil {
		t.Fatal(err)
	}
	e.write(t, "state/ledger.db", strings.Repeat("no database ", 999), 0o600)
	says(t, e.run(t, 0, "run", "-q"), "Nothing will be known of this run afterwards")
}

// TestRunSignals: a run that is told to end, and told again by somebody who does not
// like to wait, has what was frozen go on all the same, and says what it did not begin.
func TestRunSignals(t *testing.T) {
	e := newHomestead(t, `
[jobs.home]
sources = ["$FS/home"]
before = ["$DIR/freeze"]
after-snapshot = ["$DIR/thaw"]
[jobs.later]
sources = ["$FS/home"]
`)
	e.write(t, "freeze", "#!/bin/sh\ntrap '' TERM\ntouch $DIR/frozen\nsleep 3\n", 0o755)
	e.write(t, "thaw", "#!/bin/sh\nsleep 1\nrm $DIR/frozen\n", 0o755)
	p := newProcess(t, e.dir+"/state", "-c", e.config, "run", "--json")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	frozen := filepath.Join(e.dir, "frozen")
	for {
		if _, err := os.Stat(frozen); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for range 3 {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(atOnce + 200*time.Millisecond)
	}
	if code := p.code(t); code != exitInterrupted {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
	if _, err := os.Stat(frozen); err == nil {
		t.Error("what was frozen stays so")
	}
	says(t, p.stderr.String(), "ERROR: later: it was not begun: stopped by a signal")
	says(t, p.stdout.String(), `"job":"later","ok":false,"exit":130`)
}

// TestEarlyGivenUp: nothing goes on connecting to a destination that nobody waits for
// any more.
func TestEarlyGivenUp(t *testing.T) {
	dir := t.TempDir()
	slow := filepath.Join(dir, "ssh")
	if err := os.WriteFile(slow, fmt.Appendf(nil, "#!/bin/sh\n: >%s/called\nexec sleep 1000\n", dir), 0o755); err != nil {
		t.Fatal(err)
	}
	env, _, _ := testEnv(t, "buttersink")
	env.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	p, err := place.Parse("ssh://root@host/backup/", true)
	if err != nil {
		t.Fatal(err)
	}
	o := &syncOptions{}
	if err := o.ssh.command.Set(slow); err != nil {
		t.Fatal(err)
	}
	r := &backupRun{env: env, command: "run", o: &backupOptions{}, targets: []*target{{site: site{Place: p}, o: o}}}
	r.openEarly(context.WithoutCancel(t.Context()))
	for {
		if _, err := os.Stat(filepath.Join(dir, "called")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.close()
	<-r.early[0].done
	if r.early[0].err == nil {
		t.Error("it was opened")
	}
}

// TestUsable: a gpg that hangs is not waited for.
func TestUsable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gpg"), []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	s, err := sealing("run", "", []string{"gpg:me@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if err := usable(t.Context(), s, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "has not answered within 100ms") {
		t.Errorf("it ended with %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := usable(ctx, s, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("it was stopped, and says %v", err)
	}
}

// TestMixedEnds: the exit code of a run says the same of every mixture.
func TestMixedEnds(t *testing.T) {
	fails := func(code int) error { return &exitError{code: code, err: errors.New("x")} }
	at := func(err error) error { return &runner.SourceError{Source: "/home", Err: err} }
	stopped := &interruptedError{syscall.SIGTERM}
	for _, c := range []struct {
		jobs []jobEnd
		want int
	}{
		{[]jobEnd{{}, {}}, exitDone},
		{[]jobEnd{{}, {err: fails(exitFailed)}}, exitPartly},
		{[]jobEnd{{err: fails(exitFailed)}, {err: fails(exitFailed), done: true}}, exitPartly},
		{[]jobEnd{{err: fails(exitFailed)}, {err: fails(exitFailed)}}, exitFailed},
		{[]jobEnd{{err: fails(exitFailed)}, {err: fails(exitConfig)}}, exitFailed},
		{[]jobEnd{{err: fails(exitPartly)}, {err: fails(exitConfig)}}, exitPartly},
		{[]jobEnd{{err: &runner.LockedError{Job: "a"}}}, exitLocked},
		{[]jobEnd{{err: &runner.LockedError{Job: "a"}}, {}}, exitPartly},
		{[]jobEnd{{err: fails(exitConflict)}, {}}, exitConflict},
		{[]jobEnd{{err: fails(exitConflict)}, {err: fails(exitFailed)}}, exitFailed},
		{[]jobEnd{{err: fails(exitPending)}, {}}, exitPending},
		{[]jobEnd{{}, {err: stopped}}, exitInterrupted},
		{[]jobEnd{{err: fails(exitPartly), done: true}, {err: stopped}}, exitInterrupted},
		// Of one job, by what failed in it.
		{[]jobEnd{{err: &runner.JobError{Failures: []error{errors.New("a program")}, Done: true}, done: true}}, exitPartly},
		{[]jobEnd{{err: &runner.JobError{Failures: []error{errors.New("a program")}}}}, exitFailed},
		{[]jobEnd{{err: &runner.JobError{Failures: []error{at(fails(exitConflict)), at(fails(exitConflict))}, Done: true}, done: true}}, exitConflict},
		{[]jobEnd{{err: &runner.JobError{Failures: []error{at(fails(exitConflict)), errors.New("a program")}, Done: true}, done: true}}, exitPartly},
		{[]jobEnd{{err: &runner.JobError{Failures: []error{at(usagef("run", "a store"))}}}}, exitConfig},
		{[]jobEnd{{err: &runner.JobError{Failures: []error{at(fails(exitPartly)), stopped}, Done: true}, done: true}}, exitInterrupted},
	} {
		var ends []jobEnd
		for _, e := range c.jobs {
			e.err = explainJob("a", e.err)
			ends = append(ends, e)
		}
		if got := judge(explainRun(ends)).code; got != c.want {
			t.Errorf("%+v: exit code %d, want %d", c.jobs, got, c.want)
		}
	}
}

// TestPlacesSayWhy: what is written down of a place, and told, has the cause in it.
func TestPlacesSayWhy(t *testing.T) {
	full := &job.IncompleteError{Wanted: 2, Failures: []error{errors.New("a: writing: no space left on device"), errors.New("b: nothing is sent")}}
	stuck := &job.RemovalError{Failures: []error{errors.New("c: it is in use")}}
	r := &job.BackupReport{Destinations: []job.DestinationReport{{Name: "there", Err: full}, {Name: "fine"}}}
	at := func(place string, err error) error { return fmt.Errorf("%s: %w", place, err) }
	all := placesOf([]string{"there", "fine"}, r, &job.BackupError{Failures: []error{at("source", stuck), at("there", full)}})
	var got []string
	for _, p := range all {
		got = append(got, p.Message)
	}
	want := []string{
		"source: not everything that was to go has been removed: source: c: it is in use",
		"2 of 2 snapshots are not at the destination: a: writing: no space left on device; and more",
		"",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
