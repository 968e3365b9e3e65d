package dial_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/sshtest"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// to is the target that logs in as a user.
func to(s *sshtest.Server, u *sshtest.User) dial.Target {
	return dial.Target{User: u.Name, Host: sshtest.Host, Port: s.Port, Options: u.Options(), Batch: true, Getenv: func(string) string { return "" }}
}

// outcome runs a process to its end, without input.
func outcome(t *testing.T, p *dial.Process, err error) (string, error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Stdin.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), p.Wait()
}

// says fails the test unless a command writes this and ends well.
func says(t *testing.T, want string, target dial.Target, words ...string) {
	t.Helper()
	p, err := dial.Start(t.Context(), target, words...)
	got, err := outcome(t, p, err)
	if err != nil || got != want {
		t.Errorf("%q on %s says %q (%v), want %q", words, target, got, err, want)
	}
}

// fails fails the test unless a command fails like this, with a message that has
// all of the texts.
func fails(t *testing.T, why error, texts []string, target dial.Target, words ...string) *dial.ExitError {
	t.Helper()
	p, err := dial.Start(t.Context(), target, words...)
	_, err = outcome(t, p, err)
	exit, ok := errors.AsType[*dial.ExitError](err)
	if !ok {
		t.Fatalf("%q on %s ends with %v", words, target, err)
	}
	if why == nil && exit.Why != nil || why != nil && !errors.Is(err, why) {
		t.Errorf("%q on %s ends with %v, want %v", words, target, err, why)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q on %s: %v: does not say %q", words, target, err, text)
		}
	}
	return exit
}

// shows writes what it is started as: who, and each argument in brackets.
const shows = "#!/bin/sh\nid -un\nfor a; do printf '[%s]' \"$a\"; done\n"

func TestWordsThroughLoginShells(t *testing.T) {
	server := sshtest.Start(t)
	words := []string{
		"", " a  b ", "a\nb", "'", `'\''`, `"`, `\`, `a\`, `\n`, "$HOME", "$(id)", "`id`", "*", "?", "[a]", "{a,b}", "~", "!", "!!", "#", "&", "|",
		";", "(", ")", "<", ">", "=ls", "A=b", "%", "-", "--", "-n", "-oProxyCommand=id", "é", "\xff", "\x01", "\x1b[31m", "\r", "日本", "/mnt/b c/",
	}
	for name, shell := range map[string]string{"dash": "/bin/dash", "bash": "/bin/bash", "ash": server.Ash()} {
		t.Run(name, func(t *testing.T) {
			target := to(server, server.User(sshtest.Shell(shell)))
			target.Sudo = dial.Never
			p, err := dial.Start(t.Context(), target, append([]string{"printf", `%s\0`}, words...)...)
			out, err := outcome(t, p, err)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(words, strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")); diff != "" {
				t.Errorf("what was said and what arrived:\n%s", diff)
			}
			p, err = dial.StartScript(t.Context(), target, "for a in 1 2; do echo $a "+dial.Quote("it's")+"; done")
			if out, err := outcome(t, p, err); err != nil || out != "1 it's\n2 it's\n" {
				t.Errorf("a script says %q, %v", out, err)
			}
		})
	}
}

func TestSudo(t *testing.T) {
	server := sshtest.Start(t)
	server.Script("buttersink", shows)
	user, root := server.User(), server.Root()
	target, asRoot := to(server, user), to(server, root)

	user.Sudoers("ALL=(root) NOPASSWD: " + server.Bin + `/buttersink --server --mode a /mnt/with\ space/`)
	pinned := []string{"buttersink", "--server", "--mode", "a", "/mnt/with space/"}
	says(t, "root\n[--server][--mode][a][/mnt/with space/]", target, pinned...)
	fails(t, dial.ErrSudo, []string{user.Name + "@127.0.0.1", "NOPASSWD", "buttersink --server --mode w"}, target, "buttersink", "--server", "--mode", "w", "/mnt/")
	says(t, "root\n", asRoot, "buttersink")

	target.Sudo = dial.Never
	says(t, user.Name+"\n[x]", target, "buttersink", "x")
	asRoot.Sudo = dial.Always
	says(t, "root 0", asRoot, "sh", "-c", "printf '%s %s' \"$SUDO_USER\" \"$(id -u)\"") // root's sudo has a PATH of the machine

	// Whom ssh itself would log in as.
	for _, name := range []string{"root", user.Name} {
		anybody := dial.Target{Host: "h", Options: []string{"User=" + name}, Getenv: func(string) string { return "" }}
		if sudoes, err := anybody.Sudoes(t.Context()); err != nil || sudoes != (name != "root") {
			t.Errorf("ssh as %s takes sudo: %t, %v", name, sudoes, err)
		}
	}
	// Something that is no ssh says nothing: it is whoever this runs as.
	other := dial.Target{Host: "h", Command: []string{"false"}, Getenv: func(string) string { return "" }}
	if sudoes, err := other.Sudoes(t.Context()); err != nil || sudoes {
		t.Errorf("root, and not with ssh, takes sudo: %t, %v", sudoes, err)
	}
}

func TestForcedCommand(t *testing.T) {
	server := sshtest.Start(t)
	user := server.User()
	user.ForceCommand(`printf '%s' "$SSH_ORIGINAL_COMMAND"`)
	says(t, "sudo buttersink --server --mode r /mnt/b/", to(server, user), "buttersink", "--server", "--mode", "r", "/mnt/b/")
	says(t, `sudo btrfs receive '/mnt/b c/it'\''s'`, to(server, user), "btrfs", "receive", "/mnt/b c/it's")
}

func TestFailures(t *testing.T) {
	server := sshtest.Start(t)
	user, stranger := server.User(), server.User()
	user.Sudoers("ALL=(root) NOPASSWD: ALL")
	target := to(server, user)

	t.Run("no program", func(t *testing.T) {
		for name, shell := range map[string]string{"dash": "/bin/dash", "bash": "/bin/bash", "ash": server.Ash()} {
			u := server.User(sshtest.Shell(shell))
			plain := to(server, u)
			plain.Sudo = dial.Never
			fails(t, dial.ErrNoProgram, []string{"no buttersink-there where its shell", "install it"}, plain, "buttersink-there", "--server")
			if name != "dash" {
				continue
			}
			fails(t, dial.ErrNoProgram, []string{"no /opt/my prog"}, plain, "/opt/my prog")
			fails(t, dial.ErrSudo, nil, to(server, u), "buttersink-there") // it asks for a password first
			p, err := dial.StartScript(t.Context(), plain, "buttersink-there || exit")
			if _, err := outcome(t, p, err); !errors.Is(err, dial.ErrNoProgram) {
				t.Errorf("%s: a script ends with %v", name, err)
			}
		}
		fails(t, dial.ErrNoProgram, []string{"no buttersink-there where its sudo", "install it"}, target, "buttersink-there", "--server")
		fails(t, dial.ErrNoProgram, []string{"no /opt/my prog"}, target, "/opt/my prog")
	})
	t.Run("no sudo", func(t *testing.T) {
		bare := sshtest.Start(t, sshtest.Config("SetEnv PATH=/nonexistent"))
		for _, shell := range []string{"/bin/dash", "/bin/bash", server.Ash()} {
			fails(t, dial.ErrSudo, []string{"root"}, to(bare, bare.User(sshtest.Shell(shell))), "buttersink")
		}
	})
	t.Run("status", func(t *testing.T) {
		exit := fails(t, nil, []string{"sh on " + user.Name + "@127.0.0.1", "status 7", "oh"}, target, "sh", "-c", "echo oh >&2; exit 7")
		if exit.Status != 7 || exit.Stderr != "oh\n" || exit.Command != "sudo sh -c 'echo oh >&2; exit 7'" {
			t.Errorf("%#v", exit)
		}
		fails(t, nil, nil, target, "sh", "-c", "exit 1")
	})
	t.Run("key", func(t *testing.T) {
		wrong := target
		wrong.Options = stranger.Options()
		fails(t, dial.ErrAuth, []string{"Permission denied (publickey)", "IdentityFile"}, wrong, "true")
	})
	t.Run("host key", func(t *testing.T) {
		unknown := target
		unknown.Options = append([]string{"HostKeyAlias=somebody-else"}, user.Options()...)
		fails(t, dial.ErrHostKey, []string{"Host key verification failed", "ssh -p"}, unknown, "true")

		other := sshtest.Start(t)
		changed := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(changed, []byte(server.HostAlias()+" "+other.HostKey()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		unknown.Options = append([]string{"UserKnownHostsFile=" + changed}, user.Options()...)
		fails(t, dial.ErrHostKey, nil, unknown, "true")
	})
	t.Run("unreachable", func(t *testing.T) {
		away := sshtest.Start(t)
		u := away.User()
		away.Kill()
		fails(t, dial.ErrUnreachable, []string{"Connection refused"}, to(away, u), "true")
		nowhere := target
		nowhere.Host = "nowhere.invalid"
		fails(t, dial.ErrUnreachable, []string{"nowhere.invalid"}, nowhere, "true")
	})
	t.Run("options", func(t *testing.T) {
		odd := target
		odd.Options = append([]string{"NoSuchThing=1"}, odd.Options...)
		fails(t, nil, []string{"Bad configuration option"}, odd, "true")
	})
}

func TestRefusedHere(t *testing.T) {
	good := dial.Target{User: "joe", Host: "h", Sudo: dial.Never}
	for name, target := range map[string]dial.Target{
		"no host":          {},
		"option as host":   {Host: "-oProxyCommand=id"},
		"option as user":   {Host: "h", User: "-oProxyCommand=id"},
		"space in host":    {Host: "a b"},
		"command as host":  {Host: "$(id)"},
		"command as user":  {Host: "h", User: "`id`"},
		"user in host":     {Host: "a@b"},
		"newline in user":  {Host: "h", User: "a\nb"},
		"port":             {Host: "h", Port: 65536},
		"option":           {Host: "h", Options: []string{"-v"}},
		"option of lines":  {Host: "h", Options: []string{"A=b\nProxyCommand=id"}},
		"program not here": {Host: "h", User: "joe", Command: []string{"no-such-ssh"}},
	} {
		if p, err := dial.Start(t.Context(), target, "true"); err == nil {
			p.Close()
			t.Errorf("%s: started", name)
		}
	}
	for name, words := range map[string][]string{"nothing": {}, "NUL": {"a\x00b"}, "too long": {strings.Repeat("a", 128<<10)}} {
		if p, err := dial.Start(t.Context(), good, words...); err == nil {
			p.Close()
			t.Errorf("%s: started", name)
		}
	}
	for _, script := range []string{"", "-v", "a\x00b"} {
		if p, err := dial.StartScript(t.Context(), good, script); err == nil {
			p.Close()
			t.Errorf("the script %q is started", script)
		}
	}
	ended, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := dial.Start(ended, good, "true"); !errors.Is(err, enough) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestTargetString(t *testing.T) {
	for want, target := range map[string]dial.Target{
		"h": {Host: "h"}, "joe@h:22": {User: "joe", Host: "h", Port: 22}, "joe@::1": {User: "joe", Host: "::1"}, "[::1]:22": {Host: "::1", Port: 22},
	} {
		if got := target.String(); got != want {
			t.Errorf("%#v is %q, want %q", target, got, want)
		}
	}
}

// logged collects what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestWhatTheFarSideSays holds that stdout is untouched by what else is said, and
// what becomes of that.
func TestWhatTheFarSideSays(t *testing.T) {
	banner := filepath.Join(t.TempDir(), "banner")
	if err := os.WriteFile(banner, []byte("Authorised \x1b[31musers\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := sshtest.Start(t, sshtest.Config("Banner "+banner))
	target := to(server, server.User())
	target.Sudo = dial.Never
	var log logged
	target.Log = slog.New(slog.NewJSONHandler(&log, nil))

	p, err := dial.StartScript(t.Context(), target, `echo out; printf 'one\n\n\033[2Jtwo\r\n' >&2; head -c 100k /dev/zero | tr '\0' x >&2; echo >&2; echo end >&2`)
	if err != nil {
		t.Fatal(err)
	}
	// What was written is there after the end, too.
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(p.Stdout); err != nil || string(out) != "out\n" {
		t.Errorf("the output is %q, %v", out, err)
	}
	for _, want := range []string{"127.0.0.1: one", "127.0.0.1: ?[2Jtwo\"", "127.0.0.1: Authorised ", "127.0.0.1: end"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if said := p.Stderr(); len(said) != 4096 || !strings.HasSuffix(said, "x\nend\n") {
		t.Errorf("%d bytes were said at the end: …%q", len(said), said[max(0, len(said)-20):])
	}
}
