package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// toolError says that gpg could not be run as it has to be.
type toolError struct{ err error }

func (e *toolError) Error() string { return e.err.Error() }
func (e *toolError) Unwrap() error { return e.err }

// toolBuffer is how much goes to and from gpg at a time, in bytes.
const toolBuffer = 64 << 10

// tool is a running gpg. What it says comes through outs, a piece at a time;
// each has to be given back. When outs is closed, the process has ended, has been
// waited for, and what follows below is there to be read.
type tool struct {
	feed chan []byte // its input; closed at the end of it
	fed  chan error  // how each piece of input was taken
	outs chan []byte
	back chan []byte

	stop context.CancelFunc // kills it
	done chan struct{}      // closed after outs

	err    error // nil if it says that all went well
	status status
	stderr tail
}

// runGPG starts gpg. It is killed when ctx ends.
func runGPG(ctx context.Context, args ...string) (*tool, error) {
	// What it says is for programs on one channel and for people on the other:
	// what is in a message can then not pass for the former.
	args = append([]string{"--batch", "--no-tty", "--pinentry-mode", "error", "--no-auto-key-locate", "--status-fd", "3"}, args...)
	ctx, cancel := context.WithCancel(ctx)
	t := &tool{
		feed: make(chan []byte), fed: make(chan error, 1),
		outs: make(chan []byte), back: make(chan []byte, 4),
		stop: cancel, done: make(chan struct{}),
	}
	cmd := exec.CommandContext(ctx, "gpg", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stderr = &t.stderr
	cmd.WaitDelay = 5 * time.Second
	// The keyboard's interrupt is for us; we end it then.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := t.start(ctx, cmd); err != nil {
		cause := context.Cause(ctx)
		cancel()
		if cause != nil {
			return nil, cause
		}
		if errors.Is(err, exec.ErrNotFound) {
			err = errors.New("gpg is not installed (its package is called gnupg)")
		}
		return nil, &toolError{fmt.Errorf("running gpg: %w", err)}
	}
	for range cap(t.back) {
		t.back <- make([]byte, toolBuffer)
	}
	return t, nil
}

func (t *tool) start(ctx context.Context, cmd *exec.Cmd) error {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	go t.write(ctx, stdin)
	said := make(chan struct{})
	go func() {
		defer close(said)
		t.status.read(r)
	}()
	go func() {
		t.read(ctx, stdout)
		t.err = cmd.Wait()
		_ = r.SetReadDeadline(time.Now().Add(cmd.WaitDelay)) // someone else may hold the other end
		<-said
		r.Close()
		t.stop()
		close(t.outs)
		close(t.done)
	}()
	return nil
}

// write passes the input on.
func (t *tool) write(ctx context.Context, stdin io.WriteCloser) {
	defer stdin.Close()
	for {
		select {
		case p, ok := <-t.feed:
			if !ok {
				return
			}
			_, err := stdin.Write(p)
			t.fed <- err
		case <-ctx.Done():
			return
		}
	}
}

// read passes the output on, until it ends or nobody wants it any more.
func (t *tool) read(ctx context.Context, stdout io.Reader) {
	for {
		var b []byte
		select {
		case b = <-t.back:
		case <-ctx.Done():
			return
		}
		n, err := stdout.Read(b[:toolBuffer])
		if n == 0 {
			t.back <- b
		} else {
			select {
			case t.outs <- b[:n]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// end kills it if it still runs, and waits.
func (t *tool) end() {
	t.stop()
	<-t.done
}

// words is what it said to people, in one line.
func (t *tool) words() string {
	var lines []string
	for line := range strings.Lines(string(t.stderr.b)) {
		line = strings.TrimSpace(strings.Map(printable, line))
		if line != "" {
			lines = append(lines, strings.TrimPrefix(line, "gpg: "))
		}
	}
	if len(lines) == 0 {
		if t.err != nil {
			return t.err.Error()
		}
		return "it does not say why"
	}
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

// status is what gpg said to programs: doc/DETAILS in its sources.
type status struct {
	okay, intact, manipulated bool // DECRYPTION_OKAY, GOODMDC, BADMDC
	begun, plain              bool // BEGIN_DECRYPTION, PLAINTEXT
	exposed                   bool // BEGIN_ENCRYPTION without anything that shows changes
	noData, noKey, locked     bool
	expired, revoked          bool
	reason                    string // of INV_RECP
}

// read takes in lines until there are no more. It keeps a bounded amount.
func (s *status) read(r io.Reader) {
	const longest = 1 << 10
	var line []byte
	b := make([]byte, 4<<10)
	for {
		n, err := r.Read(b)
		for _, c := range b[:n] {
			switch {
			case c == '\n':
				s.line(line)
				line = line[:0]
			case len(line) < longest:
				line = append(line, c)
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *status) line(b []byte) {
	rest, ok := bytes.CutPrefix(b, []byte("[GNUPG:] "))
	if !ok {
		return
	}
	f := strings.Fields(string(rest))
	if len(f) == 0 {
		return
	}
	switch f[0] {
	case "DECRYPTION_OKAY":
		s.okay = true
	case "GOODMDC":
		s.intact = true
	case "BADMDC":
		s.manipulated = true
	case "BEGIN_DECRYPTION":
		s.begun = true
	case "BEGIN_ENCRYPTION": // the kind of MDC, the cipher, the kind of AEAD if there is one
		s.exposed = len(f) > 1 && f[1] == "0" && (len(f) < 4 || f[3] == "0")
	case "PLAINTEXT":
		s.plain = true
	case "NO_SECKEY":
		s.noKey = true
	case "NODATA":
		s.noData = true
	case "ERROR":
		if len(f) > 2 && f[1] == "pkdecrypt_failed" {
			s.locked = isLocked(f[2])
		}
	case "KEYEXPIRED":
		s.expired = true
	case "KEYREVOKED":
		s.revoked = true
	case "INV_RECP":
		if len(f) > 1 {
			s.reason = f[1]
		}
	}
}

// isLocked tells errors that mean that the passphrase of a key is wanting from
// others: err-codes.h in the sources of libgpg-error.
func isLocked(number string) bool {
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return false
	}
	switch n & 0xFFFF {
	case 11, 85, 86, 99, 177: // BAD_PASSPHRASE, NO_PIN_ENTRY, PIN_ENTRY, CANCELED, NO_PASSPHRASE
		return true
	}
	return false
}

// tail keeps the end of a text that may be long.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 1 << 10
	t.b = append(t.b, p[max(0, len(p)-most):]...)
	if over := len(t.b) - most; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}
