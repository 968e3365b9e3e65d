package cli

import (
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/store/ssh"
)

// TestServerCommandLine: sudoers and authorized_keys files name the command line
// of the server, so it means one thing only.
func TestServerCommandLine(t *testing.T) {
	for mode, want := range map[string]ssh.Mode{"r": ssh.Read, "a": ssh.Append, "w": ssh.Write} {
		for _, dir := range []string{"/mnt/b/", "/mnt/b", "/", "/with blank/"} {
			if got, err := (&serverFlags{server: true, mode: mode}).check([]string{dir}); err != nil || got != want {
				t.Errorf("--mode %s %s: %q, %v", mode, dir, got, err)
			}
		}
	}
	for _, tt := range []struct {
		mode  string
		args  []string
		wrong string
	}{
		{"", []string{"/b/"}, "--mode r, a or w"},
		{"x", []string{"/b/"}, `mode "x" is not known`},
		{"rw", []string{"/b/"}, `mode "rw" is not known`},
		{"r", nil, "one directory, got 0"},
		{"r", []string{"/b/", "/c/"}, "one directory, got 2"},
		{"r", []string{"b/"}, "full path"},
		{"r", []string{""}, "full path"},
		{"r", []string{"/b/../c/"}, "as /c/, not as /b/../c/"},
		{"r", []string{"/b/./c"}, "as /b/c/"},
		{"r", []string{"//b/"}, "as /b/"},
		{"r", []string{"/b//"}, "as /b/"},
	} {
		_, err := (&serverFlags{server: true, mode: tt.mode}).check(tt.args)
		if err == nil || !strings.Contains(err.Error(), tt.wrong) || judge(err).code != exitUsage {
			t.Errorf("--mode %q %q: %v, want %q", tt.mode, tt.args, err, tt.wrong)
		}
	}
	for _, tt := range []struct {
		flags serverFlags
		wrong string
	}{
		{serverFlags{mode: "w", of: "/home", makeDir: true, makeWritable: true}, ""},
		{serverFlags{mode: "r", of: "/home/"}, ""},
		{serverFlags{mode: "a", of: "/", makeDir: true}, ""},
		{serverFlags{mode: "r", makeDir: true}, "--make-dir goes with --mode a or w"},
		{serverFlags{mode: "a", makeWritable: true}, "--convert-rw goes with --mode w"},
		{serverFlags{mode: "a", of: "home"}, "full path of the subvolume"},
		{serverFlags{mode: "a", of: "/home/../root"}, "as /root/, not as"},
	} {
		if _, err := tt.flags.check([]string{"/b/"}); (err == nil) != (tt.wrong == "") || err != nil && (!strings.Contains(err.Error(), tt.wrong) || judge(err).code != exitUsage) {
			t.Errorf("%+v: %v, want %q", tt.flags, err, tt.wrong)
		}
	}
	for _, args := range [][]string{
		{"--server"},
		{"--mode", "r", "/a/"},
		{"--of", "/a", "/a/"},
		{"--make-dir", "/a/", "/b/"},
		{"--convert-rw", "/a/"},
		{"--server", "--mode", "r"},
		{"--server", "--mode", "q", "/a/"},
		{"--server", "--mode", "r", "--make-dir", "/a/"},
	} {
		env, _, stderr := testEnv(t, "buttersink")
		if code := Main(args, env); code != exitUsage {
			t.Errorf("%q: exit code %d\n%s", args, code, stderr)
		}
	}
	// What somebody writes into a forced command, and would have no effect there.
	for _, flag := range []string{"--limit=5M", "-n", "--exclude=x", "--checkpoint=1G", "--json", "--ssh-sudo"} {
		env, _, stderr := testEnv(t, "buttersink")
		if code := Main([]string{"--server", "--mode", "r", flag, "/a/"}, env); code != exitUsage || !strings.Contains(stderr.String(), "has no effect there") || !strings.Contains(stderr.String(), "help server") {
			t.Errorf("%s: exit code %d\n%s", flag, code, stderr)
		}
	}
}

// TestServerAtATerminal: nothing is there that could greet, so nothing is waited
// for.
func TestServerAtATerminal(t *testing.T) {
	env, _, stderr := testEnv(t, "buttersink")
	env.StdinIsTerminal = true
	if code := Main([]string{"--server", "--mode", "r", "/a/"}, env); code != exitUsage || !strings.Contains(stderr.String(), "from a terminal") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
