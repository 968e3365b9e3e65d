package bare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// link is how commands get to the other machine. Each costs a connection.
type link interface {
	// start runs one command, with sudo before it where that is due.
	start(ctx context.Context, words ...string) (process, error)
	// shell runs a POSIX shell, which reads what to do from its input.
	shell(ctx context.Context) (process, error)
}

// process is a command on the other machine.
type process interface {
	Input() io.WriteCloser
	Output() io.Reader
	// Wait waits for the end of the command, whose output has been read.
	Wait() error
	// Close ends it, if need be by force.
	Close() error
	// Stderr is the end of what it has said.
	Stderr() string
}

// sshLink runs commands with ssh.
type sshLink struct{ target dial.Target }

func (l sshLink) start(ctx context.Context, words ...string) (process, error) {
	return sshProcessOf(dial.Start(ctx, l.target, words...))
}

func (l sshLink) shell(ctx context.Context) (process, error) {
	return sshProcessOf(dial.StartScript(ctx, l.target, "sh -s"))
}

type sshProcess struct{ *dial.Process }

func sshProcessOf(p *dial.Process, err error) (process, error) {
	if err != nil {
		return nil, err
	}
	return sshProcess{p}, nil
}

func (p sshProcess) Input() io.WriteCloser { return p.Stdin }
func (p sshProcess) Output() io.Reader     { return p.Stdout }

// run runs one command to its end, and returns what it prints.
func (s *Store) run(ctx context.Context, words ...string) (string, error) {
	p, err := s.link.start(ctx, words...)
	if err != nil {
		return "", failed(ctx, err, nil)
	}
	_ = p.Input().Close()
	out, err := readAll(p)
	return out, failed(ctx, errors.Join(err, p.Close()), p)
}

// longestOutput bounds what is read of a command's output: a listing of some
// hundred thousand subvolumes.
const longestOutput = 64 << 20

// readAll reads what a command prints, and waits for its end. One that prints too
// much is ended first: nobody reads the rest.
func readAll(p process) (string, error) {
	var b strings.Builder
	n, err := io.Copy(&b, io.LimitReader(p.Output(), longestOutput))
	if err == nil && n == longestOutput {
		_ = p.Close()
		_ = p.Wait()
		return "", fmt.Errorf("it prints more than %d bytes", longestOutput)
	}
	return b.String(), errors.Join(p.Wait(), err)
}

// failed says what the end of a command means: a context that has ended comes
// first, a lost connection may go away, and a full disk can be told from others.
func failed(ctx context.Context, err error, p process) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, dial.ErrUnreachable):
		return store.MarkTemporary(err)
	case p != nil:
		if errno := saidErrno(p.Stderr()); errno != 0 && !errors.Is(err, errno) {
			return &errnoError{err, errno}
		}
	}
	return err
}

// errnoError is an error of the other machine's kernel, of which the text is in
// err already.
type errnoError struct {
	error
	errno syscall.Errno
}

func (e *errnoError) Unwrap() []error { return []error{e.error, e.errno} }

// saidErrno finds the error in what a program has said, in English as the programs
// of the scripts are asked to.
func saidErrno(said string) syscall.Errno {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.EPERM, syscall.EACCES} {
		if strings.Contains(strings.ToLower(said), errno.Error()) {
			return errno
		}
	}
	return 0
}
