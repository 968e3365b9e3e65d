package dial

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestWhy has what other versions and languages say; what is installed here is
// asked itself in TestFailures.
func TestWhy(t *testing.T) {
	for _, test := range []struct {
		status int
		sudo   bool
		stderr string
		want   error
	}{
		{127, false, "bash: line 1: buttersink: command not found", ErrNoProgram},
		{127, false, "sh: 1: buttersink: not found", ErrNoProgram},
		{127, false, "bash: Zeile 1: buttersink: Kommando nicht gefunden.", ErrNoProgram},
		{127, false, "fish: Unknown command: buttersink", ErrNoProgram},
		{1, false, "buttersink: Command not found.\n", ErrNoProgram},
		{1, false, "snapshot: Command not found.\n", nil},
		{1, true, "sudo: buttersink: command not found", ErrNoProgram},
		{1, true, "sudo: buttersink: Befehl nicht gefunden", ErrNoProgram},
		{1, true, "sudo: unable to resolve host x: Name or service not known\nsudo: buttersink: command not found", ErrNoProgram},
		{1, true, "sudo-rs: 'buttersink': command not found", ErrNoProgram},
		{127, true, "sh: 1: sudo: not found", ErrSudo},
		{127, true, "bash: line 1: sudo: command not found", ErrSudo},
		{127, true, "ash: sudo: not found", ErrSudo},
		{1, true, "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper\nsudo: a password is required", ErrSudo},
		{1, true, "sudo: no tty present and no askpass program specified", ErrSudo},
		{1, true, "sudo: sorry, you must have a tty to run sudo", ErrSudo},
		{1, true, "Sorry, user joe is not allowed to execute '/usr/bin/buttersink' as root on host.", ErrSudo},
		{1, true, "joe is not in the sudoers file.", ErrSudo},
		{1, true, "sudo: Ein Passwort ist notwendig", ErrSudo},
		{1, true, "sudo-rs: A terminal is required to authenticate", ErrSudo},
		{1, true, "sudo: unable to resolve host x: Name or service not known\nERROR: /mnt/b is not a directory", nil},
		{1, true, "sudo: unable to resolve host x: Name or service not known", nil},
		{1, true, "ERROR: no such directory", nil},
		{1, false, "sudo: a password is required", nil}, // not ours
		{2, true, "usage", nil},
		{255, false, "ssh: connect to host x port 22: Connection refused", ErrUnreachable},
		{255, false, "ssh: Could not resolve hostname x: Temporary failure in name resolution", ErrUnreachable},
		{255, false, "kex_exchange_identification: read: Connection reset by peer", ErrUnreachable},
		{255, false, "Timeout, server x not responding.", ErrUnreachable},
		{255, false, "", ErrUnreachable},
		{255, false, "Host key verification failed.", ErrHostKey},
		{255, false, "No ED25519 host key is known for x and you have requested strict checking.\nHost key verification failed.", ErrHostKey},
		{255, false, "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.", ErrHostKey},
		{255, false, "joe@x: Permission denied (publickey,password).", ErrAuth},
		{255, false, "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\nDisconnected from 10.0.0.1 port 22", ErrAuth},
		{255, false, "command-line: line 0: Bad configuration option: foo", nil},
		{255, false, "/home/joe/.ssh/config: line 3: Bad configuration option: foo\n/home/joe/.ssh/config: terminating, 1 bad configuration options", nil},
		{255, false, "Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: ssh-rsa", nil},
		{-1, false, "", ErrUnreachable},
		{0, false, "", nil},
	} {
		e := &ExitError{Host: "h", Command: "buttersink --server", Status: test.status, Stderr: test.stderr, program: "buttersink", sudo: test.sudo, login: "ssh h"}
		e.Why = e.why()
		if !errors.Is(e.Why, test.want) || e.Why == nil != (test.want == nil) {
			t.Errorf("%d %q means %v, want %v", test.status, test.stderr, e.Why, test.want)
		}
		if text := e.Error(); !strings.HasPrefix(text, "h") && !strings.HasPrefix(text, "buttersink on h") || strings.Contains(text, "\n") {
			t.Errorf("%d %q: %q", test.status, test.stderr, text)
		}
	}
}

func TestMessages(t *testing.T) {
	for _, test := range []struct {
		e    ExitError
		want string
	}{
		{
			ExitError{Status: 127, Stderr: "sh: 1: buttersink: not found\n", Why: ErrNoProgram},
			"joe@h has no buttersink where its shell looks: sh: 1: buttersink: not found: install it there, or name it by its whole path",
		},
		{
			ExitError{Status: 255, Stderr: "joe@h: Permission denied (publickey).\n", Why: ErrAuth},
			"joe@h: it does not let us in: joe@h: Permission denied (publickey): find out with ssh joe@h, and name the key with the option IdentityFile, or give it to the machine with ssh-copy-id",
		},
		{
			ExitError{Status: 127, Stderr: "sh: 1: /opt/x: not found\n", Why: ErrNoProgram, program: "/opt/x"},
			"joe@h has no /opt/x: sh: 1: /opt/x: not found: install it there",
		},
		{
			ExitError{Status: 255, Stderr: "Host key verification failed.\n", Why: ErrHostKey},
			"joe@h: its host key is not known here: Host key verification failed: compare it with the machine's, and log in once by hand: ssh joe@h",
		},
		{
			ExitError{Status: 255, Stderr: "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n  ssh-keygen -R h\nHost key verification failed.\n", Why: ErrHostKey},
			"joe@h: its host key is another one than was noted here: Host key verification failed: compare it with the machine's, and log in once by hand: ssh joe@h",
		},
		{
			ExitError{Status: 255, Stderr: "command-line: line 0: Bad configuration option: foo\n"},
			"joe@h: ssh gives up: command-line: line 0: Bad configuration option: foo",
		},
		{ExitError{Status: -1, Why: ErrUnreachable, by: "signal killed"}, "joe@h: the connection is lost: ssh was ended by signal killed"},
		{ExitError{Status: 3, Stderr: "one\n\n two\nthree\nfour\n"}, "buttersink on joe@h ended with status 3: two; three; four"},
	} {
		e := test.e
		e.Host, e.Command, e.program, e.login = "joe@h", "buttersink --server", cmp.Or(e.program, "buttersink"), "ssh joe@h"
		if got := fmt.Sprint(&e); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// FuzzSaid holds that whatever a far side says, what is kept and shown of it is
// short, of lines, and printable.
func FuzzSaid(f *testing.F) {
	f.Add([]byte("sudo: x: command not found\r\n\x1b[31m\n\xff\n"), 1)
	f.Add(bytes.Repeat([]byte("日本"), 2000), 255)
	f.Add([]byte("Permission denied (publickey).\n\u202e\n\n"), 255)
	f.Fuzz(func(t *testing.T, text []byte, status int) {
		var said tail
		hear(bytes.NewReader(text), func(line string) {
			if line == "" || strings.ContainsFunc(line, unshown) || !utf8.ValidString(line) {
				t.Errorf("the line %q", line)
			}
			said.add(line)
		})
		e := &ExitError{Host: "h", Command: "sudo x", Status: status, Stderr: said.String(), program: "x", sudo: true, login: "ssh h"}
		e.Why = e.why()
		if len(e.Stderr) > 4096 || strings.ContainsFunc(strings.ReplaceAll(e.Stderr, "\n", ""), unshown) || !utf8.ValidString(e.Stderr) {
			t.Errorf("kept: %q", e.Stderr)
		}
		if message := e.Error(); strings.ContainsFunc(message, unshown) || !utf8.ValidString(message) {
			t.Errorf("the message %q", message)
		}
	})
}

func unshown(r rune) bool { return !unicode.IsPrint(r) }

func TestLogin(t *testing.T) {
	target := Target{User: "joe", Host: "h", Port: 22, Options: []string{"IdentityFile=/a b", "IdentitiesOnly=yes", "X=", "Odd Key=1"}}
	if got, want := target.login(), "ssh -p 22 -o IdentityFile='/a b' -o IdentitiesOnly=yes -o X= -o 'Odd Key=1' joe@h"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 日本": "plain é 日本", "\x1b[31mred\a": "?[31mred?", "a\tb": "a b", "\xff\xfe": "??", "\u202egnp": "?gnp",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if got := cut(strings.Repeat("é", 100)); len(got) > 125 || !strings.HasSuffix(got, "é…") {
		t.Errorf("cut leaves %q", got)
	}
}
