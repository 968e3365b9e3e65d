package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	// shell is what runs commands: every system has it there.
	shell = "/bin/sh"
	// grace is how long a command that is abandoned may take to tidy up.
	grace = 3 * time.Second
	// lingering is how long what a command has printed is waited for when it has
	// ended, but others hold its output open.
	lingering = time.Second
)

// statusError says how a command ended that has not ended well.
type statusError struct {
	code   int // -1 if a signal ended it
	signal syscall.Signal
	last   string // what it printed last
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("it ended with status %d", e.code)
	switch {
	case e.code == 126:
		text += " (what it names cannot be run)"
	case e.code == 127:
		text += " (what it names was not found)"
	case e.code < 0:
		text = fmt.Sprintf("it was ended by a signal: %v", e.signal)
	}
	if e.last != "" {
		text += ": " + e.last
	}
	return text
}

var (
	errEarly  = errors.New("it ended with status 0 before it had been given the whole stream: a command has to read its standard input to the end")
	errUnread = errors.New("it ended with status 0 and has not read all of the stream: a command has to read its standard input to the end")
)

// run is one run of the command.
type run struct {
	ctx    context.Context
	cmd    *exec.Cmd
	in     *os.File // our end of its standard input
	theirs *os.File // the other end: what is left in it was not read
	lines  *lines
	done   chan struct{} // closed when it has ended
	status error         // how, once done is closed
	unwake func() bool
}

// start runs the command.
func start(ctx context.Context, o Options, env []string, what string) (*run, error) {
	cmd := exec.Command(shell, "-c", o.Command)
	cmd.Env = append(append([]string(nil), o.Env...), env...)
	lines := &lines{log: o.Log, what: what}
	return startCommand(ctx, cmd, lines, lines, nil)
}

// startCommand runs a command as whoever is given; nil is the user of this process.
// What it prints as errors goes to the lines, and so may the rest.
func startCommand(ctx context.Context, cmd *exec.Cmd, out io.Writer, lines *lines, as *syscall.Credential) (*run, error) {
	theirs, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	r := &run{ctx: ctx, cmd: cmd, in: in, theirs: theirs, done: make(chan struct{}), lines: lines}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = theirs, out, lines
	r.cmd.WaitDelay = lingering
	// A session of its own: it can be ended with all that it has started, the
	// terminal's Ctrl-C is ours to act on, and a question at the terminal fails
	// where in the background it would stop the command for good.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: as}
	started := make(chan error, 1)
	go r.attend(started)
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("running %s: %w", cmd.Path, err), in.Close(), theirs.Close())
	}
	r.unwake = context.AfterFunc(ctx, r.wake)
	return r, nil
}

// attend starts the command and waits for it. It holds its thread meanwhile,
// since it is the thread's death that Pdeathsig is about.
func (r *run) attend(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := r.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = r.cmd.Wait()
	r.lines.end()
	if a, ok := r.cmd.Stdout.(*answer); ok {
		a.end()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status := &statusError{code: exit.ExitCode(), last: r.lines.last}
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			status.signal = ws.Signal()
		}
		err = status
	}
	if errors.Is(err, exec.ErrWaitDelay) { // it has left something running
		err = nil
	}
	r.status = err
	close(r.done)
	r.wake()
}

// wake ends a Write that waits for the command to read.
func (r *run) wake() { _ = r.in.SetWriteDeadline(time.Unix(1, 0)) }

// Write gives p to the command.
func (r *run) Write(p []byte) (int, error) {
	if r.ended() {
		return 0, r.early()
	}
	n, err := r.in.Write(p)
	switch {
	case err == nil:
		return n, nil
	case r.ended():
		return n, r.early()
	case r.ctx.Err() != nil:
		return n, context.Cause(r.ctx)
	}
	return n, fmt.Errorf("writing to it: %w", err)
}

// early is what is wrong with a command that has ended before the stream.
func (r *run) early() error {
	if r.status != nil {
		return r.status
	}
	return errEarly
}

// finish ends the command's input, and waits for it to end.
func (r *run) finish(ctx context.Context) error {
	if err := r.in.Close(); err != nil {
		return fmt.Errorf("ending its input: %w", err)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
	if r.status != nil {
		return r.status
	}
	// Nobody writes any more, so this does not wait.
	switch n, err := r.theirs.Read(make([]byte, 1)); {
	case n > 0:
		return errUnread
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("finding out whether it has read everything: %w", err)
	}
	return nil
}

// close lets go of the command; one that was not successful is ended first.
func (r *run) close(success bool) error {
	r.unwake()
	var err error
	if !success {
		err = r.end()
	}
	_ = r.in.Close() // finish may have done so
	return errors.Join(err, r.theirs.Close())
}

// end ends everything in the command's process group. Its input is still open:
// nothing of it may see an end there.
func (r *run) end() error {
	group := r.cmd.Process.Pid
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		err := syscall.Kill(-group, signal)
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending the command: %w", err)
		}
		limit := time.Now().Add(grace)
		for pause := time.Millisecond; time.Now().Before(limit); pause = min(2*pause, grace/20) {
			if r.ended() && !alive(group) {
				return nil
			}
			time.Sleep(pause)
		}
	}
	return fmt.Errorf("ending the command: something in the process group %d does not react to SIGKILL", group)
}

// ended reports whether the shell has ended.
func (r *run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}
