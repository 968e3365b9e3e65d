package dial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/sshtest"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// TestSharedConnection holds that a connection that stays for others after its first
// command (ControlPersist) does not keep the command's end from being seen.
func TestSharedConnection(t *testing.T) {
	server := sshtest.Start(t)
	user := server.User()
	target := to(server, user)
	target.Sudo = dial.Never
	way := filepath.Join(t.TempDir(), "way")
	target.Options = append([]string{"ControlMaster=auto", "ControlPersist=600", "ControlPath=" + way}, target.Options...)
	t.Cleanup(func() {
		if out, err := exec.Command("ssh", "-F", "none", "-o", "ControlPath="+way, "-O", "exit", sshtest.Host).CombinedOutput(); err != nil {
			t.Errorf("ending the connection: %v: %s", err, out)
		}
	})
	for range 2 {
		says(t, user.Name+"\n", target, "id", "-un")
	}
	fails(t, dial.ErrNoProgram, nil, target, "no-such-program")
	p := talk(t, t.Context(), target)
	p.Close()
	gone(t, server, "cat")
}

// talk starts a cat on the far side and exchanges a word with it.
func talk(t *testing.T, ctx context.Context, target dial.Target) *dial.Process {
	t.Helper()
	target.Sudo = dial.Never
	p, err := dial.Start(ctx, target, "cat")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := echo(p, "hello"); err != nil {
		t.Fatalf("%v: %v", err, p.Wait())
	}
	return p
}

func echo(p *dial.Process, text string) error {
	if _, err := io.WriteString(p.Stdin, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(p.Stdout, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("%q comes back as %q", text, got)
	}
	return nil
}

// sshOf finds the process of ssh, by what only its arguments have.
func sshOf(t *testing.T, mark string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(filepath.Base(string(bytes.SplitN(text, []byte{0}, 2)[0])), "ssh") || !bytes.Contains(text, []byte(mark)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatal("there is no ssh")
	return 0
}

// gone waits until nothing of the name runs on the far side.
func gone(t *testing.T, server *sshtest.Server, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); len(server.Pids(name)) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s still runs on the far side", name)
		}
	}
}

func TestEnds(t *testing.T) {
	server := sshtest.Start(t)
	user := server.User()
	target := to(server, user)

	t.Run("terminal", func(t *testing.T) {
		p := talk(t, t.Context(), target)
		pid := sshOf(t, user.Key)
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Fatal(err)
			}
			if err := echo(p, "still there"); err != nil {
				t.Fatalf("after %v: %v", sig, err)
			}
		}
		p.Stdin.Close()
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("close", func(t *testing.T) {
		p := talk(t, t.Context(), target)
		for range 2 {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		gone(t, server, "cat")
		if _, err := p.Stdin.Write([]byte("x")); err == nil {
			t.Error("what is closed can be written to")
		}
		p.Wait() // whichever way; it returns
	})
	t.Run("close with output that nobody reads", func(t *testing.T) {
		p, err := dial.StartScript(t.Context(), target, "exec cat /dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p.Stdout, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		p.Close()
		gone(t, server, "cat")
	})
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := talk(t, ctx, target)
		cancel()
		p.Wait()
		gone(t, server, "cat")
	})
	t.Run("ssh that does not listen", func(t *testing.T) {
		p := talk(t, t.Context(), target)
		if err := syscall.Kill(sshOf(t, user.Key), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		p.Close()
		if err := p.Wait(); !errors.Is(err, dial.ErrUnreachable) || !strings.Contains(err.Error(), "killed") {
			t.Errorf("ends with %v", err)
		}
		gone(t, server, "cat")
	})
	t.Run("ssh is killed", func(t *testing.T) {
		p := talk(t, t.Context(), target)
		if err := syscall.Kill(sshOf(t, user.Key), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); !errors.Is(err, dial.ErrUnreachable) {
			t.Errorf("ends with %v", err)
		}
		if _, err := p.Stdout.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the output ends with %v", err)
		}
	})
	t.Run("the command is killed", func(t *testing.T) {
		p := talk(t, t.Context(), target)
		server.Signal("cat", syscall.SIGKILL)
		var exit *dial.ExitError
		if err := p.Wait(); !errors.As(err, &exit) || exit.Status == 0 {
			t.Errorf("ends with %v", err)
		}
	})
	t.Run("the connection is cut", func(t *testing.T) {
		p := talk(t, t.Context(), target)
		server.Cut()
		if err := p.Wait(); !errors.Is(err, dial.ErrUnreachable) {
			t.Errorf("ends with %v", err)
		}
		gone(t, server, "cat")
	})
	t.Run("the network is silent", func(t *testing.T) {
		proxy := server.Proxy(t)
		far := target
		far.Port = proxy.Port
		far.Options = slices.Concat([]string{"ServerAliveInterval=1", "ServerAliveCountMax=1"}, target.Options)
		p := talk(t, t.Context(), far)
		proxy.Stall()
		if err := p.Wait(); !errors.Is(err, dial.ErrUnreachable) || !strings.Contains(err.Error(), "not responding") {
			t.Errorf("ends with %v", err)
		}
	})
	t.Run("the connection breaks in the middle", func(t *testing.T) {
		proxy := server.Proxy(t)
		proxy.Cut(1<<20, s3test.Down)
		far := target
		far.Port = proxy.Port
		p, err := dial.StartScript(t.Context(), far, "exec head -c 2M /dev/zero")
		out, err := outcome(t, p, err)
		if !errors.Is(err, dial.ErrUnreachable) || len(out) == 0 || len(out) >= 2<<20 {
			t.Errorf("ends with %v after %d bytes", err, len(out))
		}
	})
}

// TestFlood holds that a far side that says much does not fill the log.
func TestFlood(t *testing.T) {
	server := sshtest.Start(t)
	target := to(server, server.User())
	target.Sudo = dial.Never
	var log logged
	target.Log = slog.New(slog.NewTextHandler(&log, nil))
	p, err := dial.StartScript(t.Context(), target, "yes 'a line of much that is said' | head -c 3000000 >&2; echo 'the last one' >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	exit, ok := errors.AsType[*dial.ExitError](p.Wait())
	if !ok || exit.Status != 3 || !strings.HasSuffix(exit.Stderr, "the last one\n") || len(exit.Stderr) > 4096 {
		t.Errorf("it ended with %+v", exit)
	}
	if n := strings.Count(log.String(), "more than is shown"); n != 1 || len(log.String()) > 2<<20 || strings.Contains(log.String(), "the last one") {
		t.Errorf("the log has %d bytes, and says %d times that there is more", len(log.String()), n)
	}
}
