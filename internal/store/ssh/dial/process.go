package dial

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// grace is how long ssh may take to end when it is asked to, each of the two ways
// there are before it is killed.
const grace = 2 * time.Second

// ignoring runs a program with the signals of the terminal ignored, which stays so
// through exec. The program becomes the process that the shell was.
const ignoring = `trap '' HUP INT QUIT; exec "$@"`

// Process is an ssh that runs a command. Stdin and Stdout may be used by one
// goroutine each; the rest by any.
type Process struct {
	// Stdin is what the command reads. Closing it is the end of its input.
	Stdin io.WriteCloser
	// Stdout is what the command writes, up to its end or that of the connection.
	Stdout io.Reader

	cmd     *exec.Cmd
	stdout  *os.File
	stderr  *os.File
	target  Target
	command string
	program string
	sudo    bool
	said    tail

	ended  chan struct{} // closed once ssh has ended
	err    error         // how, as exec says it
	heard  chan struct{} // closed once all of stderr was read
	closed sync.Once
}

// Start runs a command on the far side: words, each quoted for its shell, with
// sudo before them where the target says so. That the far side can be reached is
// not known yet when it returns: errors are about what is here. When ctx ends, the
// process is Closed: who has something to say then gives a context that does not
// end with the work.
func Start(ctx context.Context, t Target, words ...string) (*Process, error) {
	sudo, err := t.Sudoes(ctx)
	if err != nil {
		return nil, err
	}
	all := words
	if sudo {
		all = append([]string{"sudo"}, words...)
	}
	command, err := line(all)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("no command to run on %s", t)
	}
	return start(ctx, t, &Process{command: command, program: words[0], sudo: sudo})
}

// StartScript is Start for a text that the remote shell is given as it is: made of
// words that were quoted, with sudo before them where Sudoes says so.
func StartScript(ctx context.Context, t Target, script string) (*Process, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if script == "" || strings.HasPrefix(script, "-") || strings.Contains(script, "\x00") {
		return nil, fmt.Errorf("%q is no script for the shell of %s", cut(script), t)
	}
	words := strings.Fields(script)
	p := &Process{command: script, program: words[0]}
	if p.sudo = words[0] == "sudo" && len(words) > 1; p.sudo {
		p.program = words[1]
	}
	return start(ctx, t, p)
}

func start(ctx context.Context, t Target, p *Process) (*Process, error) {
	if len(p.command) > longest {
		return nil, fmt.Errorf("a command of %d bytes for %s: a shell is given no more than %d", len(p.command), t, longest)
	}
	program, first, err := t.program()
	if err != nil {
		return nil, err
	}
	id, err := t.identity(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("reaching %s: %w", t, context.Cause(ctx))
	}
	args := append([]string{"-c", ignoring, "sh", program}, first...)
	args = append(args, t.base(append(t.ours(), id.options...))...)
	p.target = t
	p.cmd = exec.Command("/bin/sh", append(args, p.command)...)
	// The messages of the far side are read; its locale may be ours (SendEnv).
	p.cmd.Env = append(os.Environ(), "LC_ALL=C", "LANGUAGE=")
	if err := p.run(); err != nil {
		return nil, fmt.Errorf("running ssh to %s: %w", t, err)
	}
	go func() {
		select {
		case <-p.ended:
		case <-ctx.Done():
			_ = p.Close()
		}
	}()
	return p, nil
}

// run starts ssh. The pipes are our own: exec would take Stdout away as soon as ssh
// has ended, with what it wrote last.
func (p *Process) run() error {
	var ours, theirs [3]*os.File
	shut := func(files [3]*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			shut(ours)
			shut(theirs)
			return err
		}
		ours[i], theirs[i] = r, w
		if i == 0 {
			ours[i], theirs[i] = w, r
		}
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	err := p.cmd.Start()
	shut(theirs)
	if err != nil {
		shut(ours)
		return err
	}
	roomy(ours[0])
	roomy(ours[1])
	p.Stdin, p.Stdout, p.stdout, p.stderr = ours[0], ours[1], ours[1], ours[2]
	p.ended, p.heard = make(chan struct{}), make(chan struct{})
	go p.listen()
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// roomy lets a pipe hold more than its 64 KiB, where that is allowed: less waking of
// one another saves a tenth of the processor's time and more.
func roomy(f *os.File) {
	const setPipeSize, size = 1031, 256 << 10 // F_SETPIPE_SZ (linux/fcntl.h)
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, size) // it works without, too
	})
}

// shown is how many bytes of what is said go to the log: a far side must not fill
// the disk here.
const shown = 256 << 10

// listen hands what ssh and the far side say to the log, line by line.
func (p *Process) listen() {
	defer close(p.heard)
	defer p.stderr.Close()
	log := p.target.log()
	left := shown
	hear(p.stderr, func(text string) {
		p.said.add(text)
		if left < 0 {
			return
		}
		if left -= len(text); left < 0 {
			text = "it says more than is shown"
		}
		log.Info(p.target.Host + ": " + text)
	})
}

// hear reads lines up to the end, or until the reader is closed, and hands on what
// is printable of them, without empty ones.
func hear(from io.Reader, each func(line string)) {
	const most = 4096 // of a line; the rest is another
	r := bufio.NewReaderSize(from, most)
	for {
		text, err := r.ReadSlice('\n')
		if text := strings.TrimRight(printable(strings.TrimRight(string(text), "\r\n")), " "); text != "" {
			each(text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// Stderr is the end of what ssh and the far side have said so far, at most 4 KiB:
// lines of printable text.
func (p *Process) Stderr() string { return p.said.String() }

// Wait waits until ssh has ended, and says how: nil if the command ended well, an
// *ExitError if not. Nothing on Stdout is lost by it; a command whose output nobody
// reads may not end. It may be called more than once.
func (p *Process) Wait() error {
	<-p.ended
	// Something that ssh has left behind, such as a connection that is shared, may
	// have the other end of the pipe, and keep it.
	select {
	case <-p.heard:
	case <-time.After(grace):
		p.stderr.Close()
	}
	if p.err == nil {
		return nil
	}
	exit, ok := errors.AsType[*exec.ExitError](p.err)
	if !ok {
		return fmt.Errorf("waiting for ssh to %s: %w", p.target, p.err)
	}
	e := &ExitError{
		Host: p.target.String(), Command: p.command, Status: exit.ExitCode(), Stderr: p.Stderr(),
		program: p.program, sudo: p.sudo, login: p.target.login(),
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.by = "signal " + status.Signal().String()
	}
	e.Why = e.why()
	return e
}

// Close gives the process up, if it has not ended: its input ends, its output goes
// nowhere, and if that is not enough it is terminated, and killed. It takes seconds
// at most, can be called at any time and more than once, and always returns nil:
// how the process ended is Wait's to say.
func (p *Process) Close() error {
	p.closed.Do(func() {
		p.Stdin.Close()
		p.stdout.Close()
		for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			select {
			case <-p.ended:
			case <-time.After(grace):
				_ = p.cmd.Process.Signal(sig) // only says that it has ended
			}
		}
	})
	<-p.ended
	return nil
}

// login is how a person would log in.
func (t Target) login() string {
	words := []string{"ssh"}
	if t.Port != 0 {
		words = append(words, "-p", strconv.Itoa(t.Port))
	}
	for _, o := range t.Options {
		if key, value, _ := strings.Cut(o, "="); strings.IndexFunc(key, special) < 0 {
			o = key + "=" // a sign that means nothing there
			if value != "" {
				o += Quote(value)
			}
		} else {
			o = Quote(o)
		}
		words = append(words, "-o", o)
	}
	return strings.Join(append(words, Quote(t.destination())), " ")
}

// tail keeps the last lines of what is said.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4096
	t.text = append(append(t.text, line...), '\n')
	if over := len(t.text) - most; over > 0 {
		for !utf8.RuneStart(t.text[over]) {
			over++
		}
		t.text = append([]byte(nil), t.text[over:]...)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
