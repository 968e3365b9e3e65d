// Package sshtest is the test bench for everything that needs another machine
// behind ssh.
//
// It knows how to start Debian's sshd on the loopback interface with host and user
// keys of its own, how to make users with a login shell, sudo rules and forced
// commands, how to put programs into the PATH of the far side, and how to break
// all of this: sessions are cut, processes killed, the server goes and comes back,
// and a proxy stalls, slows and cuts the network. It knows nothing of the packages
// under test and imports none of them; every package's tests may import it,
// programs never do.
//
// Invariants. Nothing outlives a test binary, however it ends: sshd is the first
// process of a PID namespace that the kernel ends with it, so every session and
// what runs in it goes, too; users, sudo rules and the directory are removed by a
// guard, a process in a session of its own. Names of users are random, so packages
// that are tested at the same time do not meet. Helpers end the test with t.Fatal,
// so they must be called from the test's goroutine.
//
// Memory is bounded by what sshd says.
//
//	server := sshtest.Start(t)
//	server.Install("buttersink", program)
//	user := server.User(sshtest.Shell("/bin/dash"))
//	user.Sudoers("ALL=(root) NOPASSWD: ALL")
//	cmd := exec.Command("ssh", append(user.Args(), "127.0.0.1", "sudo buttersink --version")...)
package sshtest

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/s3test"
)

// RealEnv names the environment variable that turns "cannot run here" from a
// skip into a failure. The project's own test command sets it to 1.
const RealEnv = "BUTTERSINK_TEST_REAL"

// Host is where every server listens.
const Host = "127.0.0.1"

// Require returns if tests on a real sshd can run here. Otherwise it skips the
// test, or fails it if RealEnv is set, and says what is missing.
func Require(t testing.TB) {
	t.Helper()
	if why := missing(); why != "" {
		if os.Getenv(RealEnv) == "1" {
			t.Fatalf("a test on a real sshd cannot run: %s", why)
		}
		t.Skipf("needs a real sshd: %s", why)
	}
}

// missing says why sshd cannot run here, or "".
func missing() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	for _, name := range []string{"sshd", "ssh", "ssh-keygen", "sudo", "useradd", "userdel"} {
		if _, err := system(name); err != nil {
			return err.Error()
		}
	}
	return ""
}

// system finds a program of the system; PATH need not have the directories that
// are for root.
func system(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("no %s: run make deps", name)
}

// Server is a running sshd. It stands for another machine: its users see the same
// files, but have a PATH of their own.
type Server struct {
	Addr string // "127.0.0.1:23456"
	Port int
	Dir  string // others may read what is there; removed at the end
	Bin  string // the directory that comes first in the PATH of the far side

	t       testing.TB
	guard   *guard
	alias   string // what the host key is known as, wherever the server is reached
	config  string
	process *process
	users   int
}

// An Option changes what Start makes.
type Option func(*options)

type options struct {
	config []string
	env    []string
}

// Config adds lines to sshd_config.
func Config(lines ...string) Option {
	return func(o *options) { o.config = append(o.config, lines...) }
}

// Env adds "KEY=value" to the environment of every session. sudo keeps nothing of
// it unless a rule says so.
func Env(pairs ...string) Option { return func(o *options) { o.env = append(o.env, pairs...) } }

// Start starts a server without users, until the test ends. It calls Require.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	Require(t)
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	g, err := startGuard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	s := &Server{Dir: g.dir, Bin: filepath.Join(g.dir, "bin"), t: t, guard: g, alias: "sshtest-" + random()}
	for _, dir := range []string{s.Bin, s.file("auth"), s.file("home"), s.file("keys")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Where sshd puts the processes that have not been told yet who it is.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	s.keygen(s.file("keys/host"))
	s.write("keys/known_hosts", s.alias+" "+s.read("keys/host.pub"), 0o644)
	s.configure(o)

	const attempts = 5
	for range attempts {
		s.Port = freePort(t)
		s.Addr = net.JoinHostPort(Host, strconv.Itoa(s.Port))
		if err = s.start(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("starting sshd: %v", err)
	}
	t.Cleanup(func() {
		s.process.kill()
		if t.Failed() {
			t.Logf("sshd says:\n%s", s.process.said)
		}
	})
	return s
}

// configure writes sshd_config; the port is an argument.
func (s *Server) configure(o options) {
	s.t.Helper()
	// Debian's bash reads ~/.bashrc for what sshd starts, unless a shell is around it
	// already; what that has in it, and how long it takes, is no affair of tests.
	env := append([]string{"PATH=" + s.Path(), "SHLVL=1"}, o.env...)
	lines := []string{
		"HostKey " + s.file("keys/host"),
		"AuthorizedKeysFile " + s.file("auth/%u"),
		"PidFile " + s.file("pid"),
		"StrictModes no", "UsePAM no", "UseDNS no", "PrintMotd no", "PrintLastLog no",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password",
		"MaxStartups 100", "MaxSessions 100", "LoginGraceTime 60",
		"KexAlgorithms curve25519-sha256", // a third faster than the default
	}
	for i, pair := range env {
		env[i] = `"` + strings.ReplaceAll(pair, `"`, `\"`) + `"`
	}
	// Only the first SetEnv counts; what the caller says comes before the rest.
	lines = append(append(o.config, "SetEnv "+strings.Join(env, " ")), lines...)
	s.config = s.file("sshd_config")
	s.write("sshd_config", strings.Join(lines, "\n")+"\n", 0o644)
	sshd, err := system("sshd")
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command(sshd, "-T", "-f", s.config).CombinedOutput()
	if err != nil {
		s.t.Fatalf("checking sshd_config: %v: %s", err, out)
	}
	if strings.Contains(string(out), "persourcepenalties ") {
		// Newer servers keep a client away that was refused: here, all tests.
		lines = append(lines, "PerSourcePenalties no")
		s.write("sshd_config", strings.Join(lines, "\n")+"\n", 0o644)
	}
}

// start runs sshd and waits until it listens.
func (s *Server) start() error {
	sshd, err := system("sshd")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.file("pid")); err != nil {
		return err
	}
	s.process, err = spawn(sshd, "-D", "-e", "-f", s.config, "-o", "ListenAddress="+s.Addr)
	if err != nil {
		return err
	}
	// The file is written once the port is bound (sshd.c, main).
	err = s.process.ready(func() bool {
		text, err := os.ReadFile(s.file("pid"))
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	if err != nil {
		s.process.kill()
	}
	return err
}

// Path is the PATH of the far side.
func (s *Server) Path() string {
	return s.Bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// Install puts a copy of a program into the PATH of the far side.
func (s *Server) Install(name, program string) {
	s.t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Script(name, string(text))
}

// Script puts a program into the PATH of the far side, for instance a shell script
// with "#!/bin/sh" as its first line, in place of any there is.
func (s *Server) Script(name, text string) {
	s.t.Helper()
	// A program that runs cannot be written to; it can be replaced.
	s.write("bin/."+name, text, 0o755)
	if err := os.Rename(s.file("bin/."+name), s.file("bin/"+name)); err != nil {
		s.t.Fatal(err)
	}
}

// Uninstall takes away what Install or Script put there.
func (s *Server) Uninstall(name string) {
	s.t.Helper()
	if err := os.Remove(s.file("bin/" + name)); err != nil {
		s.t.Fatal(err)
	}
}

// Proxy starts a proxy before the server, until the test ends. The options of a
// User are good for its port, too: see s3test.Proxy.Port.
func (s *Server) Proxy(t testing.TB) *s3test.Proxy {
	t.Helper()
	return s3test.ProxyTo(t, s.Addr)
}

func (s *Server) file(name string) string { return filepath.Join(s.Dir, name) }

func (s *Server) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *Server) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(s.file(name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	// The umask may have taken something away.
	if err := os.Chmod(s.file(name), mode); err != nil {
		s.t.Fatal(err)
	}
}

// keygen makes a key pair, file and file.pub.
func (s *Server) keygen(file string) {
	s.t.Helper()
	s.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)
}

// run runs a program of the system.
func (s *Server) run(name string, args ...string) {
	s.t.Helper()
	program, err := system(name)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("running %s: %v: %s", name, err, out)
	}
}

// freePort returns a port of the loopback device that is free, below those that
// the kernel gives to connections, so that a server that is restarted finds its
// port free again.
func freePort(t testing.TB) int {
	t.Helper()
	const first, count, attempts = 10000, 20000, 100
	for range attempts {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		port := first + (int(b[0])<<8|int(b[1]))%count
		l, err := net.Listen("tcp", net.JoinHostPort(Host, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port on " + Host)
	return 0
}

// random is a short name that nothing else has, for users too.
func random() string { return strings.ToLower(rand.Text()[:10]) }
