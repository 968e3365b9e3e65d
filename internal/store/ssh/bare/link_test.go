package bare

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// hereLink runs the commands on this machine, with a shell of the test's choice in
// place of the login shell and of sh.
type hereLink struct {
	shellWords []string
	sudo       bool
	ran        func(words string) // is told what the far side would be given
	broken     func() error       // fails connections
	cut        func(process) process
}

// shells are those that the scripts are written for.
var shells = map[string][]string{"dash": {"dash"}, "busybox ash": {"busybox", "ash"}}

func (l *hereLink) start(ctx context.Context, words ...string) (process, error) {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = dial.Quote(w)
	}
	line := strings.Join(quoted, " ")
	if l.sudo {
		line = "sudo " + line
	}
	return l.run(ctx, line, "-c", line)
}

func (l *hereLink) shell(ctx context.Context) (process, error) { return l.run(ctx, "sh -s", "-s") }

func (l *hereLink) run(ctx context.Context, line string, args ...string) (process, error) {
	if l.ran != nil {
		l.ran(line)
	}
	if l.broken != nil {
		if err := l.broken(); err != nil {
			return nil, err
		}
	}
	words := append(append([]string(nil), l.shellWords...), args...)
	p := &hereProcess{cmd: exec.CommandContext(ctx, words[0], words[1:]...)}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	var err error
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.output, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if l.cut != nil {
		return l.cut(p), nil
	}
	return p, nil
}

type hereProcess struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output io.Reader
	stderr strings.Builder
	waited bool
	err    error
}

func (p *hereProcess) Input() io.WriteCloser { return p.input }
func (p *hereProcess) Output() io.Reader     { return p.output }

func (p *hereProcess) Wait() error {
	if !p.waited {
		p.waited = true
		if err := p.cmd.Wait(); err != nil {
			p.err = errors.Join(err, errors.New(p.stderr.String()))
		}
	}
	return p.err
}

func (p *hereProcess) Close() error {
	_ = p.input.Close()
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Cancel()
	}
	_ = p.Wait()
	return nil
}

func (p *hereProcess) Stderr() string { return p.stderr.String() }

// openHere opens a directory of this machine as if it were another's.
func openHere(t testing.TB, dir string, l *hereLink) *Store {
	t.Helper()
	if l == nil {
		l = &hereLink{shellWords: shells["dash"]}
	}
	s, err := open(Options{Dir: dir, Writes: true}, "here", l.sudo, l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
