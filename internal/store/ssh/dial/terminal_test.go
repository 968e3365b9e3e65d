package dial_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/sshtest"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// TestTerminal holds that ssh can ask at the terminal, and that Ctrl-C there is
// for us to act on, not for ssh.
func TestTerminal(t *testing.T) {
	const env = "DIAL_TERMINAL"
	if text := os.Getenv(env); text != "" {
		atTerminal(t, strings.Split(text, "\n"))
		return
	}
	server := sshtest.Start(t)
	user := server.User()
	for _, args := range [][]string{
		{"ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", user.Key},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := append([]string{user.Name, fmt.Sprint(server.Port)}, slices.DeleteFunc(user.Options(), func(o string) bool { return o == "BatchMode=yes" })...)
	cmd := exec.Command("script", "-q", "-e", "-c", "exec "+dial.Quote(self)+" -test.run='^TestTerminal$' -test.v", "/dev/null")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "SSH_ASKPASS") || strings.HasPrefix(s, "DISPLAY=") }), env+"="+strings.Join(words, "\n"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var said bytes.Buffer
	for _, step := range []struct{ after, typed string }{
		{"passphrase for key", "open sesame\n"},
		{"TALKING", "\x03"},
		{"INTERRUPTED", ""},
	} {
		for b := make([]byte, 1); !strings.Contains(said.String(), step.after); {
			if _, err := out.Read(b); err != nil {
				t.Fatalf("waiting for %q: %v: %s", step.after, err, &said)
			}
			said.Write(b)
		}
		if _, err := io.WriteString(in, step.typed); err != nil {
			t.Fatal(err)
		}
	}
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s%s", err, &said, rest)
	}
}

// atTerminal is what runs at the terminal of TestTerminal.
func atTerminal(t *testing.T, words []string) {
	t.Helper()
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	defer signal.Stop(interrupts)
	target := dial.Target{User: words[0], Host: sshtest.Host, Options: words[2:], Sudo: dial.Never}
	if _, err := fmt.Sscan(words[1], &target.Port); err != nil {
		t.Fatal(err)
	}
	p, err := dial.Start(t.Context(), target, "cat")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := echo(p, "before"); err != nil {
		t.Fatalf("%v: %v", err, p.Wait())
	}
	fmt.Println("TALKING")
	<-interrupts
	if err := echo(p, "after"); err != nil {
		t.Fatalf("%v: %v", err, p.Wait())
	}
	p.Stdin.Close()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("INTERRUPTED")
}
