package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// log keeps what is logged.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) Enabled(context.Context, slog.Level) bool { return true }
func (l *log) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *log) WithGroup(string) slog.Handler            { return l }

func (l *log) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, r.Message)
	return nil
}

func (l *log) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

// place is a directory for programs that only this user can change.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(place(t), "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// gone waits for a process to end.
func gone(t *testing.T, pidFile string) {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if state, _ := membership(stat(pid)); state != 0 && state != 'Z' && state != 'X' {
		t.Errorf("process %d of %s is still there: %c", pid, filepath.Base(pidFile), state)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestRun(t *testing.T) {
	t.Setenv("BUTTERSINK_TEST_LEAK", "it is seen")
	l := &log{}
	name := script(t, `echo "$0 $*"; pwd; echo "[$(cat)]"; echo oops >&2; env; ps -o sid= -p $$ | tr -d ' ' | grep -qx $$ && echo leads; tty </dev/tty`)
	err := Run(t.Context(), Program{
		Argv: []string{name, "a b", "*", "$HOME"}, Stdin: []byte("what it is given"),
		Env: []string{"BUTTERSINK_JOB=home", "BUTTERSINK_LINES=a\nb", "LANG=de_DE", "NUL=a\x00b"}, Log: slog.New(l),
	})
	failed, ok := errors.AsType[*Error](err)
	if !ok || failed.Status == 0 || failed.Program != name {
		t.Errorf("a terminal is there: %v", err)
	}
	got := strings.Join(l.all(), "\n")
	for _, want := range []string{name + " a b * $HOME\n/\n[what it is given]\n", "\noops\n", "\nBUTTERSINK_JOB=home\n", "\nBUTTERSINK_LINES=a\nb\n", "\nLANG=de_DE\n", "\nNUL=ab\n", "\nPATH=" + searchPath + "\n", "\nHOME=/", "\nleads\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "LEAK") {
		t.Errorf("the environment of this process is seen:\n%s", got)
	}
}

// TestRunNothingGiven: no input is an end of it, not a terminal nor a wait.
func TestRunNothingGiven(t *testing.T) {
	if err := Run(t.Context(), Program{Argv: []string{script(t, `test "$(readlink /proc/$$/fd/0)" = /dev/null && exec cat`)}}); err != nil {
		t.Error(err)
	}
}

// TestRunUnread gives a program more than it wants.
func TestRunUnread(t *testing.T) {
	if err := Run(t.Context(), Program{Argv: []string{script(t, "exit 0")}, Stdin: make([]byte, 4<<20)}); err != nil {
		t.Error(err)
	}
}

func TestRunFailures(t *testing.T) {
	for _, c := range []struct {
		name, script, want string
		status             int
		signal             syscall.Signal
	}{
		{name: "a status", script: "echo starting; echo the disk is full >&2; exit 3", want: "it ended with status 3: the disk is full", status: 3},
		{name: "a status and nothing said", script: "exit 255", want: "it ended with status 255", status: 255},
		{name: "a signal", script: "kill -SEGV $$", want: "it was ended by a signal: segmentation fault", status: -1, signal: syscall.SIGSEGV},
		{name: "a command that is not there", script: "no-such-command-anywhere", want: "status 127: ", status: 127},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := script(t, c.script)
			err := Run(t.Context(), Program{Argv: []string{name}})
			failed, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(err.Error(), "running "+name+": ") || !strings.Contains(err.Error(), c.want) || failed.Status != c.status || failed.Signal != c.signal {
				t.Errorf("%v: %+v", err, failed)
			}
		})
	}
}

// TestRunUnrunnable has files that look like programs.
func TestRunUnrunnable(t *testing.T) {
	for text, want := range map[string]string{
		"#!/no/such/interpreter\n": "what its first line names after #! is not there",
		"echo no first line\n":     "a script begins with a line such as #!/bin/sh",
		"":                         "a script begins with a line such as #!/bin/sh",
	} {
		name := filepath.Join(place(t), "program")
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Run(t.Context(), Program{Argv: []string{name}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	err := Run(t.Context(), Program{Argv: []string{script(t, ""), strings.Repeat("x", 1<<20)}})
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long argument: %v", err)
	}
	err = Run(t.Context(), Program{Argv: []string{"true"}})
	if err == nil || err.Error() != "running a program: true is no full path: want one that begins with /" {
		t.Errorf("no full path: %v", err)
	}
}

// TestRunLongVariable: what there is to tell is long when everything fails, and
// whoever is told of that has to be run all the same.
func TestRunLongVariable(t *testing.T) {
	l := &log{}
	err := Run(t.Context(), Program{Argv: []string{script(t, "echo ${#WHY}")}, Env: []string{"WHY=" + strings.Repeat("é", 1<<20)}, Log: slog.New(l)})
	if want := fmt.Sprint(longestVariable - len("WHY=")); err != nil || len(l.all()) != 1 || l.all()[0] != want {
		t.Errorf("%v, %q, want %s", err, l.all(), want)
	}
}

// TestRunHangs: a program that does not end is ended, with what it has started, in
// whatever process group.
func TestRunHangs(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		last   string
	}{
		"sleeps":                {script: `echo working; exec sleep 1000`, last: "working"},
		"reads its terminal":    {script: `echo "a question"; cat /dev/tty; exec sleep 1000`},
		"waits for others":      {script: `sleep 1000 & echo $! >"$1/child"; (sleep 1000 & echo $! >"$1/grandchild"; wait) & echo more; wait`, last: "more"},
		"has groups of its own": {script: `set -m; sleep 1000 & echo $! >"$1/child"; set +m; echo more; wait`, last: "more"},
		"ends in its own way":   {script: `trap 'echo tidied; exit 0' TERM; echo working; sleep 1000 & wait`, last: "tidied"},
		"does not listen":       {script: `trap '' TERM; sh -c 'trap "" TERM; echo $$ >"$1/child"; while :; do sleep 1; done' x "$1" & while :; do sleep 1; done`},
		"is stopped":            {script: `trap 'echo tidied; exit 0' TERM; kill -STOP $$; while :; do sleep 0.01; done`, last: "tidied"},
		"prints without end":    {script: `exec yes`, last: "y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			err := run(t.Context(), Program{Argv: []string{script(t, c.script), dir}, Timeout: 500 * time.Millisecond}, time.Second)
			failed, ok := errors.AsType[*Error](err)
			if !ok || failed.Limit != 500*time.Millisecond || !strings.Contains(err.Error(), "it has not ended within 500ms, and was ended") || failed.Err != nil {
				t.Fatalf("%v: %+v", err, failed)
			}
			if c.last != "" && failed.Last != c.last {
				t.Errorf("the last line is %q", failed.Last)
			}
			pids, err := filepath.Glob(dir + "/*")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range pids {
				gone(t, file)
			}
		})
	}
}

// TestRunInterrupted ends with its context.
func TestRunInterrupted(t *testing.T) {
	why := errors.New("somebody has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	l := &log{}
	time.AfterFunc(300*time.Millisecond, func() { cancel(why) })
	err := Run(ctx, Program{Argv: []string{script(t, "exec sleep 1000")}, Log: slog.New(l)})
	if !errors.Is(err, why) || !strings.HasSuffix(err.Error(), ": "+why.Error()) {
		t.Error(err)
	}
	err = Run(ctx, Program{Argv: []string{script(t, `echo it runs`)}, Log: slog.New(l)})
	if !errors.Is(err, why) || len(l.all()) > 0 {
		t.Errorf("%v, and it has printed %q", err, l.all())
	}
}

// TestRunLeftRunning: after a success, what is left running goes on, even where it
// holds the output open; after a failure it does not.
func TestRunLeftRunning(t *testing.T) {
	for status, stays := range map[string]bool{"0": true, "1": false} {
		dir := t.TempDir()
		l := &log{}
		err := Run(t.Context(), Program{
			Argv: []string{script(t, `sh -c 'echo $$ >"$1/child"; exec sleep 1000' x "$1" & while ! [ -s "$1/child" ]; do sleep 0.01; done; echo begun; exit `+status), dir},
			Log:  slog.New(l), Timeout: time.Minute,
		})
		if (err == nil) != stays || !cmp.Equal(l.all(), []string{"begun"}) {
			t.Errorf("status %s: %v, %q", status, err, l.all())
		}
		if !stays {
			gone(t, dir+"/child")
			continue
		}
		text, err := os.ReadFile(dir + "/child")
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("ending what was left running: %v", err)
		}
	}
}

// TestRunSecrets prints secrets in every way, and finds none of them in the log nor
// in the error.
func TestRunSecrets(t *testing.T) {
	secrets := []string{"hunter2", "hunter2000", "", "-----BEGIN-----\nfirstline\nsecondline\n"}
	l := &log{}
	err := Run(t.Context(), Program{
		Argv: []string{script(t, `
echo "the password is hunter2000, or hunter2!"
printf 'hunter2' >&2; echo
echo firstline; echo secondline
head -c 4090 /dev/zero | tr '\0' x; echo hunter2hunter2
head -c 4095 /dev/zero | tr '\0' x; echo hunter2000
printf 'wrong: hunter2000'
exit 1`)},
		Log: slog.New(l), Hide: secrets,
	})
	all := strings.Join(l.all(), "\n") + "\n" + err.Error()
	for _, piece := range []string{"hunt", "firstline", "secondline", "2000"} {
		if strings.Contains(all, piece) {
			t.Errorf("%q is seen:\n%s", piece, all)
		}
	}
	if !strings.Contains(all, "the password is ***, or ***!") || !strings.HasSuffix(err.Error(), "status 1: wrong: ***") {
		t.Errorf("%v:\n%s", err, all)
	}
}

// TestRunOutput has output that no log and no terminal is made for.
func TestRunOutput(t *testing.T) {
	l := &log{}
	err := Run(t.Context(), Program{Log: slog.New(l), Argv: []string{script(t, `
printf 'one\r\ntwo  \n\n\n'
printf '10%%\r20%%\r30%%\n'
printf 'bell\007 and \033[2Jclear\n'
printf '\377\376\n'
head -c 100000000 /dev/zero | tr '\0' z; echo
printf 'a\tb'`)}})
	want := []string{"one", "two", "30%", `"bell\a and \x1b[2Jclear"`, `"\xff\xfe"`, strings.Repeat("z", longestLine) + " ...", "a b"}
	if diff := cmp.Diff(want, l.all()); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// TestRunChatter prints more than anybody reads.
func TestRunChatter(t *testing.T) {
	l := &log{}
	err := Run(t.Context(), Program{Log: slog.New(l), Argv: []string{script(t, `yes "a line that says nothing $(printf %0100d 0)" | head -n 100000; echo the end; exit 9`)}})
	var size int
	for _, line := range l.all() {
		size += len(line)
	}
	if size > mostShown+1000 || size < mostShown/2 || !strings.Contains(l.all()[len(l.all())-1], "not shown") {
		t.Errorf("%d bytes are shown, and last %q", size, l.all()[len(l.all())-1])
	}
	if err == nil || !strings.HasSuffix(err.Error(), "status 9: the end") {
		t.Error(err)
	}
}

// TestRunChatterOfShortLines prints next to nothing, very often: a line takes room in
// a log, whatever is in it.
func TestRunChatterOfShortLines(t *testing.T) {
	l := &log{}
	if err := Run(t.Context(), Program{Log: slog.New(l), Argv: []string{script(t, `yes | head -n 100000`)}}); err != nil {
		t.Error(err)
	}
	if n := len(l.all()); n > mostShown/leastOfLine+2 || n < mostShown/leastOfLine/2 || !strings.Contains(l.all()[n-1], "not shown") {
		t.Errorf("%d lines are shown, and last %q", n, l.all()[n-1])
	}
}

func TestMembership(t *testing.T) {
	for text, want := range map[string]int{
		"7 (sh) S 1 5 6 0":              6,
		"7 (a) b) R 1 9) Z 1 5 6 0":     6,
		"7 (\n) ) S 1 5 6 0":            6,
		"":                              0,
		"7 (sh":                         0,
		"7 (sh) S":                      0,
		"7 (sh) S 1 5 not-a-number 0 0": 0,
	} {
		if _, got := membership([]byte(text)); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
	_, mine := membership(stat(os.Getpid()))
	if sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0); errno != 0 || int(sid) != mine {
		t.Errorf("this session is %d, and %d", mine, sid)
	}
}

// FuzzLines prints anything: no secret is seen, nothing moves a terminal, and the
// memory is bounded.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a secret1 and\nanother secret22\r\n"), "secret1", "secret22", 3)
	f.Add(append(bytes.Repeat([]byte("x"), longestLine-2), "secret1 yy"...), "secret1", "s", 4000)
	f.Add([]byte("\x1b]0;title\x07\xff\r\t"), "", "t", 1)
	f.Fuzz(func(t *testing.T, text []byte, one, two string, step int) {
		for _, s := range []string{one, two} {
			if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
				t.Skip("what is escaped is not found again")
			}
		}
		kept := &log{}
		l := newLines(slog.New(kept), "fuzz", []string{one, two})
		for rest := text; len(rest) > 0; {
			n := min(len(rest), max(1, step&0xffff))
			if got, err := l.Write(rest[:n]); got != n || err != nil {
				t.Fatal(got, err)
			}
			rest = rest[n:]
		}
		l.close()
		if len(l.rest) > longestLine+len(one)+len(two) {
			t.Errorf("%d bytes are held", len(l.rest))
		}
		for _, line := range kept.all() {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q has control characters", line)
			}
			if len(line) > 4*longestLine+len(stars)*longestLine+10 {
				t.Errorf("a line has %d bytes", len(line))
			}
			for _, s := range []string{one, two} {
				// What is escaped has letters of its own, and the notes of the log have some.
				if s != "" && strings.Contains(line, s) && line[0] != '"' && !strings.Contains(line, "prints very much") {
					t.Errorf("%q is seen in %q", s, line)
				}
			}
		}
	})
}
