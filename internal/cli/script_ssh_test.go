package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/buttersink/buttersink/internal/sshtest"
)

// canSSH asks the bench, in a test of its own, whether it would skip.
func canSSH() bool {
	p := &probe{}
	done := make(chan struct{})
	go func() { // Require ends its goroutine when it skips
		defer close(done)
		sshtest.Require(p)
		p.ok = true
	}()
	<-done
	return p.ok
}

// cmdSSHD is: sshd NAME [root|SHELL]. It makes a user, whom ssh knows as the
// host NAME, at a server that lives as long as the script and has buttersink in
// its PATH. $SSH is the command that finds the host, $LOGIN the user's name and
// $PORT that of the server.
func cmdSSHD(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: sshd NAME [root|SHELL]")
	}
	b := benchOf(ts)
	config := ts.MkAbs("ssh_config")
	if b.sshd == nil {
		b.sshd = sshtest.Start(b.t)
		program, err := os.Executable()
		ts.Check(err)
		b.sshd.Install("buttersink", program) // what a test binary is depends on its name
		b.logins = map[string]*sshtest.User{}
		ts.Setenv("SSH", "ssh -F "+config)
		ts.Setenv("PORT", fmt.Sprint(b.sshd.Port))
	}
	var user *sshtest.User
	switch {
	case len(args) == 1:
		user = b.sshd.User()
	case args[1] == "root":
		user = b.sshd.Root()
	case args[1] == "ash":
		user = b.sshd.User(sshtest.Shell(b.sshd.Ash()))
	default:
		user = b.sshd.User(sshtest.Shell(args[1]))
	}
	b.logins[args[0]] = user
	ts.Setenv("LOGIN", user.Name)

	f, err := os.OpenFile(config, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer f.Close()
	fmt.Fprintf(f, "Host %s\n\tHostName %s\n\tPort %d\n\tUser %s\n", args[0], sshtest.Host, b.sshd.Port, user.Name)
	for _, option := range user.Options() {
		key, value, _ := strings.Cut(option, "=")
		fmt.Fprintf(f, "\t%s %s\n", key, value)
	}
	ts.Setenv("FAR_BIN", b.sshd.Bin)
	ts.Setenv("KEY", user.Key)
	ts.Setenv("KNOWN_HOSTS", b.sshd.KnownHosts())
	ts.Setenv("HOST_ALIAS", b.sshd.HostAlias())
}

// login is the user of a host that sshd has made.
func login(ts *testscript.TestScript, name string) *sshtest.User {
	user := benchOf(ts).logins[name]
	if user == nil {
		ts.Fatalf("there is no host %s", name)
	}
	return user
}

// cmdSudoers is: sudoers NAME RULE... The user may do these things with sudo.
func cmdSudoers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: sudoers NAME RULE...")
	}
	login(ts, args[0]).Sudoers(args[1:]...)
}

// cmdForced is: forced NAME COMMAND. The user's key runs this and nothing else;
// "" allows everything again.
func cmdForced(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: forced NAME COMMAND")
	}
	login(ts, args[0]).ForceCommand(args[1])
}

// cmdFar is: far PROGRAM FILE. It puts a program into the PATH of the far side,
// or, without FILE, takes it away there.
func cmdFar(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) < 1 || len(args) > 2 || b.sshd == nil {
		ts.Fatalf("usage: far PROGRAM [FILE], after sshd")
	}
	if len(args) == 1 {
		b.sshd.Uninstall(args[0])
		return
	}
	b.sshd.Script(args[0], ts.ReadFile(args[1]))
}
