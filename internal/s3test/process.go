package s3test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a server that runs.
type process struct {
	cmd  *exec.Cmd
	said *tail
	done chan struct{} // closed once it has ended
	err  error         // how it ended
}

// spawn starts a program that dies with this one, with nothing in its
// environment.
func spawn(program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), said: &tail{}, done: make(chan struct{})}
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal comes with the end of the thread that made the process, not of
		// the whole program (prctl(2), PR_SET_PDEATHSIG): so the thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// ready waits until probe succeeds.
func (p *process) ready(probe func(context.Context) error) error {
	ctx, cancel := soon()
	defer cancel()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%w: %s", p.err, p.said)
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", err, p.said)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// kill ends the process and waits for it. It may have ended already.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // only says that it has ended
	<-p.done
}

// tail keeps the end of what a server says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const most = 4096
	w.text = append(w.text, b...)
	if over := len(w.text) - most; over > 0 {
		w.text = bytes.Clone(w.text[over:])
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.text))
}
