package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// process is the program as a process of its own.
type process struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

// newProcess prepares a run of the test binary under the program's name (see
// TestMain).
func newProcess(t *testing.T, state string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: &exec.Cmd{Path: self, Args: append([]string{"buttersink"}, args...)}}
	p.Env = append(os.Environ(), "BUTTERSINK_STATE="+state)
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	return p
}

// watched starts the process with its standard output in a file, and returns
// the file's name.
func (p *process) watched(t *testing.T) string {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.Stdout = out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// code waits for the process and returns its exit code, -1 if a signal ended it.
func (p *process) code(t *testing.T) int {
	t.Helper()
	err := p.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

// pair is a source with some snapshots, and an empty destination.
type pair struct {
	src, dst *btrfstest.FS
	names    []string
	state    string
}

func newPair(t *testing.T, snapshots int) *pair {
	t.Helper()
	p := &pair{src: btrfstest.New(t, btrfstest.Size(1<<30)), dst: btrfstest.New(t, btrfstest.Size(1<<30)), state: filepath.Join(t.TempDir(), "state")}
	live := p.src.Subvolume("live")
	tree := btrfstest.NewTree(t, live, 42)
	tree.Fill()
	noise := make([]byte, 8<<20)
	rng := rand.NewChaCha8([32]byte{1})
	for _, fs := range []*btrfstest.FS{p.src, p.dst} {
		if err := os.Mkdir(fs.Path("snaps"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range snapshots {
		_, _ = rng.Read(noise)
		if err := os.WriteFile(filepath.Join(live, fmt.Sprintf("noise%d", i)), noise, 0o644); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("s%02d", i)
		p.src.Snapshot("live", "snaps/"+name, true)
		p.names = append(p.names, name)
		tree.Mutate()
	}
	return p
}

func (p *pair) sync(t *testing.T, flags ...string) *process {
	t.Helper()
	return newProcess(t, p.state, append(flags, p.src.Path("snaps")+"/", p.dst.Path("snaps")+"/")...)
}

// check holds what is at the destination against the source: what looks whole
// has to be, and there is nothing else but parts.
func (p *pair) check(t *testing.T) (whole, parts int) {
	t.Helper()
	entries, err := os.ReadDir(p.dst.Path("snaps"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".part") {
			parts++
			continue
		}
		whole++
		show := p.dst.Show("snaps/" + e.Name())
		if want := p.src.Show("snaps/" + e.Name())["UUID"]; show["Received UUID"] != want || show["Flags"] != "readonly" {
			t.Fatalf("%s looks like %v; the original is %s", e.Name(), show, want)
		}
		if diff := btrfstest.Diff(t, p.src.Path("snaps/"+e.Name()), p.dst.Path("snaps/"+e.Name())); diff != "" {
			t.Fatalf("%s differs:\n%s", e.Name(), diff)
		}
	}
	return whole, parts
}

// TestKilled kills the program at random moments, again and again, until all is
// done: what looks whole always is, and in the end nothing else is left.
func TestKilled(t *testing.T) {
	p := newPair(t, 6)
	kills := 0
	for run := 0; ; run++ {
		if run > 200 {
			t.Fatal("200 runs do not get it done")
		}
		cmd := p.sync(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Longer and longer, so that it ends.
		wait := time.Duration(rand.Int64N(int64(100+40*run))) * time.Millisecond
		timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
		code := cmd.code(t)
		timer.Stop()
		whole, parts := p.check(t)
		if code == 0 {
			if whole != len(p.names) || parts != 0 {
				t.Fatalf("success with %d whole and %d parts", whole, parts)
			}
			break
		}
		if code != -1 {
			t.Fatalf("exit code %d:\n%s", code, &cmd.stderr)
		}
		kills++
	}
	t.Logf("killed %d times", kills)
	if kills == 0 {
		t.Error("it was never killed")
	}
}

// TestSignals ends the program by signals that it can act on: it says so, ends
// with 130, and leaves nothing behind, not even a part. timeout(1) sends its signal
// twice, to the process and to its group.
func TestSignals(t *testing.T) {
	p := newPair(t, 4)
	for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		cmd := p.sync(t, "--json")
		out := cmd.watched(t)
		waitFor(t, out, `"event":"step-begun","time":`, i+1)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if sig == syscall.SIGTERM {
			time.Sleep(time.Millisecond)
			if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		code := cmd.code(t)
		whole, parts := p.check(t)
		if parts != 0 {
			t.Errorf("%v: %d parts are left", sig, parts)
		}
		if code == 0 && whole == len(p.names) {
			t.Logf("%v came too late", sig)
			continue
		}
		if code != exitInterrupted || !strings.Contains(cmd.stderr.String(), "of 4 snapshots are at the destination.\nNothing half-made") {
			t.Errorf("%v: exit code %d: %s", sig, code, &cmd.stderr)
		}
		for _, name := range p.names {
			if _, err := os.Stat(p.dst.Path("snaps/" + name)); err == nil {
				p.dst.Delete("snaps/" + name)
			}
		}
	}
}

// waitFor waits until a file has a text in it so many times.
func waitFor(t *testing.T, file, text string, times int) {
	t.Helper()
	for range 3000 {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(data), text) >= times {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("%q does not come", text)
}

// TestStopped stops and continues the program in the middle of a send, as a
// suspend does. The kernel begins the stream anew in its middle; that is seen,
// and sent again.
func TestStopped(t *testing.T) {
	p := newPair(t, 3)
	cmd := p.sync(t, "--json")
	out := cmd.watched(t)
	// A step has three tries, so it gets through two stops.
	for i := range 2 {
		waitFor(t, out, `"event":"step-begun"`, i+1)
		time.Sleep(20 * time.Millisecond)
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	code := cmd.code(t)
	whole, parts := p.check(t)
	if code != 0 || whole != len(p.names) || parts != 0 {
		t.Errorf("exit code %d with %d whole and %d parts:\n%s", code, whole, parts, &cmd.stderr)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d retries", strings.Count(string(text), `"event":"retry"`))
}

// TestTerminalStop: Ctrl-Z does not stop a sync, because a stopped send begins
// anew in its middle.
func TestTerminalStop(t *testing.T) {
	p := newPair(t, 2)
	cmd := p.sync(t, "--json")
	out := cmd.watched(t)
	for i := range 2 {
		waitFor(t, out, `"event":"step-begun"`, i+1)
		if err := cmd.Process.Signal(syscall.SIGTSTP); err != nil {
			t.Fatal(err)
		}
	}
	// A stopped process would never end.
	watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	if code := cmd.code(t); code != 0 {
		t.Errorf("exit code %d: %s", code, &cmd.stderr)
	}
	if text, err := os.ReadFile(out); err != nil || strings.Contains(string(text), `"event":"retry"`) {
		t.Errorf("it was disturbed: %v", err)
	}
}

// TestTwoAtOnce starts two syncs into one directory. One of them does the work;
// the other says who does.
func TestTwoAtOnce(t *testing.T) {
	p := newPair(t, 4)
	first := p.sync(t, "--json")
	out := first.watched(t)
	waitFor(t, out, `"event":"plan"`, 1)
	second := p.sync(t)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	if code := second.code(t); code != exitLocked {
		t.Errorf("the second ends with %d: %s", code, &second.stderr)
	}
	want := fmt.Sprintf("is locked by process %d since ", first.Process.Pid)
	if !strings.Contains(second.stderr.String(), want) || !strings.Contains(second.stderr.String(), "buttersink sync "+p.src.Path("snaps")) {
		t.Errorf("it does not say who is at work: %s", &second.stderr)
	}
	if code := first.code(t); code != 0 {
		t.Errorf("the first ends with %d: %s", code, &first.stderr)
	}
	if whole, parts := p.check(t); whole != len(p.names) || parts != 0 {
		t.Errorf("%d whole, %d parts", whole, parts)
	}
}

// TestFullDisk runs out of space in the middle: the error says so, nothing that
// looks whole is not, and with more space the next run carries on.
func TestFullDisk(t *testing.T) {
	p := newPair(t, 4)
	small := btrfstest.New(t, btrfstest.Size(128<<20))
	if err := os.Mkdir(small.Path("snaps"), 0o755); err != nil {
		t.Fatal(err)
	}
	big := p.dst
	p.dst = small
	// What remains is less than the first snapshot needs.
	fill := make([]byte, 1<<20)
	ballast, err := os.Create(small.Path("ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	for range 100 {
		if _, err := ballast.Write(fill); err != nil {
			break
		}
	}
	if err := ballast.Sync(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	cmd := p.sync(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if code := cmd.code(t); code != exitFailed && code != exitPartly {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(cmd.stderr.String(), "no space left on device") {
		t.Errorf("the cause is not named: %s", &cmd.stderr)
	}
	if whole, _ := p.check(t); whole == len(p.names) {
		t.Error("everything fitted; the test is of no use")
	}
	p.dst = big
	cmd = p.sync(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if code := cmd.code(t); code != 0 {
		t.Errorf("with space: exit code %d: %s", code, &cmd.stderr)
	}
}

// TestJSONLines: every line of --json is one object with an event.
func TestJSONLines(t *testing.T) {
	p := newPair(t, 2)
	for _, flags := range [][]string{{"--json", "-n"}, {"--json"}, {"--json"}} {
		cmd := p.sync(t, flags...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if code := cmd.code(t); code != 0 {
			t.Fatalf("exit code %d: %s", code, &cmd.stderr)
		}
		lines := strings.Split(strings.TrimSuffix(cmd.stdout.String(), "\n"), "\n")
		for i, line := range lines {
			var record struct {
				Event string `json:"event"`
			}
			if err := json.Unmarshal([]byte(line), &record); err != nil || record.Event == "" {
				t.Errorf("line %d: %v: %s", i+1, err, line)
			}
			if last := i == len(lines)-1; last != (record.Event == "result") {
				t.Errorf("line %d of %d is %q", i+1, len(lines), record.Event)
			}
		}
	}
}
