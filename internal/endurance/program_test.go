package endurance

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take before the test gives up: a run that
// hangs must not take the whole test with it.
const patience = 2 * time.Minute

// The exit codes of the program, as `buttersink help exit-codes` promises them.
const (
	done        = 0
	failed      = 1
	partly      = 4
	conflict    = 6
	locked      = 7
	interrupted = 130
	killed      = -1
)

// A run is the program at work.
type run struct {
	t   *testing.T
	cmd *exec.Cmd
	out output
	err output
}

// output collects what a process writes, and can be looked at meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs the program with a state directory.
func start(t *testing.T, state string, args ...string) *run {
	t.Helper()
	return startWith(t, state, nil, args...)
}

// startWith runs the program with a state directory, and with more in its
// environment.
func startWith(t *testing.T, state string, env []string, args ...string) *run {
	t.Helper()
	return startAs(t, program, state, env, args...)
}

// startAs runs the program by another name.
func startAs(t *testing.T, name, state string, env []string, args ...string) *run {
	t.Helper()
	r := &run{t: t, cmd: exec.Command(name, args...)}
	r.cmd.Env = append(append(os.Environ(), "BUTTERSINK_STATE="+state), env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	// Whoever interrupts the test ends the test, not the run alone.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := onKeptThread(r.cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
		r.tell()
	})
	return r
}

// tellings counts, of each test that has failed, the runs that have been told of.
var tellings sync.Map

// tell adds to what is said of a test that has failed how this run of it went, if it
// is one of the last few.
func (r *run) tell() {
	if !r.t.Failed() {
		return
	}
	const most, bytes = 4, 3000
	told, _ := tellings.LoadOrStore(r.t, new(atomic.Int32))
	if told.(*atomic.Int32).Add(1) > most { // cleanups come last first
		return
	}
	text := r.story()
	if over := len(text) - bytes; over > 0 {
		text = "…" + text[over:]
	}
	r.t.Logf("%q (%v):\n%s", r.cmd.Args[1:], r.cmd.ProcessState, text)
}

// keptThread runs functions on a thread that never ends.
var keptThread = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for do := range c {
			do()
		}
	}()
	return c
})

// onKeptThread calls a function that makes a process. With Pdeathsig, a process dies
// with the thread that has made it, and a send in this process ends its thread.
func onKeptThread(do func() error) error {
	done := make(chan error)
	keptThread() <- func() { done <- do() }
	return <-done
}

// await waits until standard output has a text in it so many times, and reports
// false if the program ends before.
func (r *run) await(text string, count int) bool {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if strings.Count(r.out.String(), text) >= count {
			return true
		}
		if r.gone() {
			return strings.Count(r.out.String(), text) >= count
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%q does not come %d times:\n%s", text, count, r.story())
		}
	}
}

// gone reports whether the process has ended, and leaves it to be waited for.
func (r *run) gone() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, r.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

// signal sends a signal; a process that has ended already does not mind.
func (r *run) signal(sig os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Fatal(err)
	}
}

// wait returns the exit code, killed if a signal ended the process.
func (r *run) wait() int {
	r.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = r.cmd.Process.Signal(syscall.SIGQUIT) })
	err := r.cmd.Wait()
	if !timer.Stop() {
		r.t.Fatalf("it hangs:\n%s", r.story())
	}
	if strings.Contains(r.err.String(), "goroutine ") {
		r.t.Fatalf("it panics:\n%s", &r.err)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return 0
}

// story is what the program has said so far, for the report of a failure.
func (r *run) story() string {
	var b strings.Builder
	for line := range strings.Lines(r.out.String()) {
		if !strings.Contains(line, `"event":"progress"`) {
			b.WriteString(line)
		}
	}
	return b.String() + r.err.String()
}

// says fails the test unless the program has said each of the texts to people.
func (r *run) says(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.err.String(), text) {
			r.t.Errorf("it does not say %q but:\n%s", text, &r.err)
		}
	}
}
