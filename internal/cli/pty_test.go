package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/meter/metertest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// pty is a terminal of the kernel's, and what has appeared on it.
type pty struct {
	keyboard, tty *os.File

	mu   sync.Mutex
	seen bytes.Buffer
	done chan struct{}
}

func newPTY(t *testing.T, columns, rows uint16) *pty {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(err)
	must(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(err)
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(err)
	must(unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
	p := &pty{keyboard: master, tty: tty, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		tty.Close()
		<-p.done // reading fails when nobody has the terminal any more
		master.Close()
	})
	return p
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// all is everything that was ever written: nobody has the terminal any more.
func (p *pty) all() string {
	p.tty.Close()
	<-p.done
	return p.text()
}

// wait returns when the text has appeared.
func (p *pty) wait(t *testing.T, text string) {
	t.Helper()
	for range 500 {
		if strings.Contains(p.text(), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%q did not appear; this did: %q", text, p.text())
}

func (p *pty) settings(t *testing.T) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// screen is what a person sees, given all that was written. It knows the few
// commands that the program may use, and reports any other.
func screen(t *testing.T, written string) (lines []string, column int) {
	t.Helper()
	rows, row, col := [][]rune{{}}, 0, 0
	for rest := written; rest != ""; {
		var r rune
		r, rest = []rune(rest)[0], string([]rune(rest)[1:])
		switch {
		case r == '\r':
			col = 0
		case r == '\n': // the terminal has put a carriage return before it
			if row++; row == len(rows) {
				rows = append(rows, nil)
			}
		case r == '\x1b':
			end := strings.IndexAny(rest, "AJm")
			if end < 1 || rest[0] != '[' {
				t.Fatalf("an escape sequence that is not known: %q", rest[:min(10, len(rest))])
			}
			n, _ := strconv.Atoi(rest[1:end])
			switch rest[end] {
			case 'A':
				row = max(row-n, 0)
			case 'J':
				rows = rows[:row+1]
				rows[row] = rows[row][:min(col, len(rows[row]))]
			}
			rest = rest[end+1:]
		case r < ' ':
			t.Fatalf("a control character: %q", r)
		default:
			for len(rows[row]) <= col {
				rows[row] = append(rows[row], ' ')
			}
			rows[row][col] = r
			col++
		}
	}
	for _, r := range rows {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	return lines, col
}

func TestBarsOnATerminal(t *testing.T) {
	p := newPTY(t, 100, 24)
	before := p.settings(t)

	env, stdout, _ := testEnv(t, "buttersink")
	env.Stderr, env.StderrIsTerminal = p.tty, true
	env.Width = func() int { return 100 }
	env.console = &console{w: p.tty}
	if err := env.startLog(0, ""); err != nil {
		t.Fatal(err)
	}
	env.Log.Info("before")
	show := env.newProgress(false)
	show.begin()
	s := metertest.NewScript(snapshot.AboutSize(100*mib), snapshot.ExactSize(50*mib))
	event := func(kind transfer.Kind, step int, bytes int64) {
		show.event(s.Event(transfer.Event{Kind: kind, Step: step, Bytes: bytes, Path: []string{"a/one", "a/two"}[step-1], File: "dir/na\nme\x1b[2J", Error: "no space"}))
	}
	event(transfer.StepBegun, 1, 0)
	event(transfer.Progress, 1, 50*mib)
	p.wait(t, "[1/2] a/one: 50 MiB of ~100 MiB (50%)")
	p.wait(t, "all 2: 50 MiB of ~150 MiB (33%)")
	p.wait(t, `dir/na\nme\x1b[2J`)
	lines, _ := screen(t, p.text())
	if len(lines) < 4 || lines[0] != "  before" || !strings.HasPrefix(lines[1], "[1/2]") || !strings.HasPrefix(lines[3], "all 2: ") || !strings.Contains(lines[3], "[====") {
		t.Errorf("while it runs:\n%s", strings.Join(lines, "\n"))
	}

	// With another stream on its way there is a row for each, and none for files.
	event(transfer.StepBegun, 2, 0)
	event(transfer.Progress, 2, 10*mib)
	p.wait(t, "[2/2] a/two: 10 MiB of 50 MiB (20%)")
	p.wait(t, "all 2: 60 MiB of ~150 MiB (40%)")
	lines, _ = screen(t, p.text())
	if len(lines) < 4 || !strings.HasPrefix(lines[1], "[1/2]") || !strings.HasPrefix(lines[2], "[2/2]") || !strings.HasPrefix(lines[3], "all 2: ") {
		t.Errorf("with two streams:\n%s", strings.Join(lines, "\n"))
	}

	// Somebody types, and the terminal shows it, in the middle of everything.
	if _, err := io.WriteString(p.keyboard, "xyz"); err != nil {
		t.Fatal(err)
	}
	env.Log.Info("in between")
	p.wait(t, "in between")
	event(transfer.Committed, 1, 100*mib)
	event(transfer.Failed, 2, 0)
	show.close()
	env.Log.Info("after")
	p.wait(t, "after")

	lines, column := screen(t, p.text())
	want := []string{"  before", "  in between", "  a/one: 100 MiB", "  a/two: failed: no space", "  after", ""}
	for i := range lines { // the pace depends on the machine
		lines[i] = regexp.MustCompile(` in [0-9].*`).ReplaceAllString(lines[i], "")
	}
	if diff := cmp.Diff(want, lines); diff != "" || column != 0 {
		t.Errorf("what is left on the screen, cursor in column %d (-want +got):\n%s", column, diff)
	}
	if diff := cmp.Diff(before, p.settings(t)); diff != "" {
		t.Errorf("the terminal's settings (-before +after):\n%s", diff)
	}
	if stdout.Len() > 0 {
		t.Errorf("standard output got %q", stdout)
	}
}

// Nothing is drawn where it cannot be.
func TestCanDraw(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		term     string
		width    int
		want     bool
	}{
		{true, "xterm", 80, true},
		{true, "", 80, true},
		{false, "xterm", 80, false},
		{true, "dumb", 80, false},
		{true, "xterm", 0, false},
	} {
		env, _, _ := testEnv(t, "buttersink")
		env.StderrIsTerminal = c.terminal
		env.Width = func() int { return c.width }
		env.Getenv = func(name string) string { return map[string]string{"TERM": c.term}[name] }
		if got := env.canDraw(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// system runs the program as a person does: in a session of its own on a
// terminal.
func (p *pty) system(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "buttersink") // TestMain goes by the name
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.tty, p.tty, p.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return cmd
}

func TestCtrlC(t *testing.T) {
	p := newPTY(t, 80, 24)
	before := p.settings(t)
	cmd := p.system(t, "stream", "verify", "-")
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "BUTTERSINK_DEBUG=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.wait(t, "Begins: buttersink stream verify -")
	if _, err := io.WriteString(p.keyboard, "\x03"); err != nil {
		t.Fatal(err)
	}
	ended := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer ended.Stop()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	p.wait(t, "ERROR: stopped by a signal: interrupt.")
	if diff := cmp.Diff(before, p.settings(t)); diff != "" {
		t.Errorf("the terminal's settings (-before +after):\n%s", diff)
	}
}
