package dial

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/sshtest"
)

// near is somebody on this side who runs sudo.
type near struct {
	t    *testing.T
	user *sshtest.User
	ssh  string // their ~/.ssh
	root string // the home directory that root has
}

func newNear(t *testing.T, server *sshtest.Server) *near {
	t.Helper()
	n := &near{t: t, user: server.User(), root: t.TempDir()}
	n.ssh = filepath.Join(n.user.Home, ".ssh")
	for _, dir := range []string{n.ssh, filepath.Join(n.root, ".ssh")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n.own(n.ssh)
	return n
}

func (n *near) own(file string) {
	n.t.Helper()
	if err := os.Chown(file, n.user.UID, n.user.GID); err != nil {
		n.t.Fatal(err)
	}
}

// write writes a file below ~/.ssh, of theirs.
func (n *near) write(name, text string) {
	n.t.Helper()
	file := filepath.Join(n.ssh, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.own(file)
}

// copies puts a file below ~/.ssh.
func (n *near) copies(from, name string) {
	n.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		n.t.Fatal(err)
	}
	n.write(name, string(text))
}

// target is what root uses under sudo, with no keys and known hosts of its own.
func (n *near) target(host string, port int) Target {
	return Target{
		Host: host, Port: port, Sudo: Never, Batch: true, rootHome: n.root,
		Options: []string{"IdentityAgent=none", "GlobalKnownHostsFile=none", "StrictHostKeyChecking=yes"},
		Getenv: func(key string) string {
			return map[string]string{"SUDO_USER": n.user.Name, "SUDO_UID": strconv.Itoa(n.user.UID)}[key]
		},
	}
}

// whoami is who the target logs in as.
func whoami(t *testing.T, target Target) (string, error) {
	t.Helper()
	p, err := Start(t.Context(), target, "id", "-un")
	if err != nil {
		return "", err
	}
	defer p.Close()
	out, err := io.ReadAll(p.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), p.Wait()
}

func TestIdentityUnderSudo(t *testing.T) {
	server := sshtest.Start(t)
	far := server.User()
	n := newNear(t, server)
	n.copies(far.Key, "id_ed25519")
	n.write("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s\n", server.Port, server.HostKey()))

	target := n.target(sshtest.Host, server.Port)
	target.User = far.Name
	if got, err := whoami(t, target); got != far.Name || err != nil {
		t.Errorf("with the default key of who ran sudo, it is %q, %v", got, err)
	}
	alone := target
	alone.Getenv = func(string) string { return "" }
	alone.Options = append(slices.Clone(target.Options), "UserKnownHostsFile="+server.KnownHosts(), "HostKeyAlias="+server.HostAlias())
	if _, err := whoami(t, alone); err == nil {
		t.Error("without sudo, somebody's key is offered")
	}
	// Root's own comes first, and is enough.
	other := server.User()
	text, err := os.ReadFile(other.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.root, ".ssh", "id_ed25519"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := whoami(t, target); got != far.Name || err != nil {
		t.Errorf("with a key of root's that is not good here, it is %q, %v", got, err)
	}
	target.User = other.Name
	if got, err := whoami(t, target); got != other.Name || err != nil {
		t.Errorf("with root's key it is %q, %v", got, err)
	}
}

func TestConfigurationUnderSudo(t *testing.T) {
	server := sshtest.Start(t)
	far := server.User()
	n := newNear(t, server)
	n.copies(far.Key, "a key") // a space, on purpose
	n.copies(server.KnownHosts(), "hosts")
	ran := filepath.Join(t.TempDir(), "ran")
	if err := os.Chmod(filepath.Dir(ran), 0o777); err != nil {
		t.Fatal(err)
	}
	n.write("config", fmt.Sprintf(`
Match originalhost depot exec "id -u >%s"
	HostName 127.0.0.1
Host depot
	Port %d
	User %s
	IdentityFile "~/.ssh/a key"
	HostKeyAlias %s
	UserKnownHostsFile ~/.ssh/hosts
Host tunnel
	HostName 127.0.0.1
	User %s
	ProxyCommand touch %s.proxy
`, ran, server.Port, far.Name, server.HostAlias(), far.Name, ran))
	if err := os.Chmod(filepath.Dir(filepath.Dir(ran)), 0o755); err != nil { // what t.TempDir makes is closed
		t.Fatal(err)
	}

	target := n.target("depot", 0)
	if got, err := whoami(t, target); got != far.Name || err != nil {
		t.Errorf("by an alias of who ran sudo, it is %q, %v", got, err)
	}
	if sudoes, err := (Target{Host: "depot", rootHome: n.root, Getenv: target.Getenv}).Sudoes(t.Context()); err != nil || !sudoes {
		t.Errorf("with a user from the alias, sudo is %t, %v", sudoes, err)
	}
	if uid, err := os.ReadFile(ran); err != nil || strings.TrimSpace(string(uid)) != strconv.Itoa(n.user.UID) {
		t.Errorf("what their configuration runs was run by %q, %v", uid, err)
	}

	// A command of theirs is never run as root, not even in vain.
	tunnel := n.target("tunnel", 1)
	if _, err := whoami(t, tunnel); err == nil {
		t.Error("a closed port lets us in")
	}
	if _, err := os.Lstat(ran + ".proxy"); err == nil {
		t.Error("root has run the ProxyCommand of who ran sudo")
	}

	// The caller's own word counts more.
	elsewhere := target
	elsewhere.Options = append(slices.Clone(target.Options), "HostName=127.0.0.1", "Port=1")
	if _, err := whoami(t, elsewhere); err == nil {
		t.Error("the port of an option is not used")
	}

	// Root's configuration takes the place of theirs.
	if err := os.WriteFile(filepath.Join(n.root, ".ssh", "config"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := target.identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range id.options {
		if key, _, _ := strings.Cut(o, "="); key != "IdentityFile" && key != "UserKnownHostsFile" {
			t.Errorf("%s is taken although root has a configuration", o)
		}
	}
	if id.user != "" || len(id.options) != 2 {
		t.Errorf("%q", id)
	}
}

// TestUserUnsaid holds that a login name is taken from a configuration only where
// that has one.
func TestUserUnsaid(t *testing.T) {
	sshtest.Require(t)
	server := sshtest.Start(t)
	n := newNear(t, server)
	n.write("config", "Host named\n\tUser "+n.user.Name+"\n")
	for host, want := range map[string]string{"named": n.user.Name, "nameless": ""} {
		id, err := n.target(host, 0).identity(t.Context())
		if err != nil || id.user != want {
			t.Errorf("%s: the user is %q, %v; want %q", host, id.user, err, want)
		}
	}
}

func TestLookupElsewhere(t *testing.T) {
	want, err := user.LookupId("0")
	if err != nil {
		t.Fatal(err)
	}
	got, err := lookupElsewhere("0")
	if err != nil || got.Username != want.Username || got.HomeDir != want.HomeDir || got.Gid != want.Gid {
		t.Errorf("root is %+v, %v", got, err)
	}
	for _, id := range []string{"4294967290", "root"} {
		if got, err := lookupElsewhere(id); err == nil {
			t.Errorf("%s is %+v", id, got)
		}
	}
}

func TestWhereabouts(t *testing.T) {
	theirs := parseSettings("hostname real.example\nport 2222\nhostkeyalias none\nidentitiesonly yes\nproxyjump gate\nuser x\n")
	for name, test := range map[string]struct {
		t    Target
		want []string
	}{
		"all":       {Target{Host: "h"}, []string{"HostName=real.example", "Port=2222", "IdentitiesOnly=yes", "ProxyJump=gate"}},
		"own port":  {Target{Host: "h", Port: 22}, []string{"HostName=real.example", "IdentitiesOnly=yes", "ProxyJump=gate"}},
		"own words": {Target{Host: "h", Options: []string{"hostname=x", "PORT=1", "proxycommand=nc %h %p"}}, []string{"IdentitiesOnly=yes"}},
		"same name": {Target{Host: "real.example", Port: 1, Options: []string{"ProxyJump=none"}}, []string{"IdentitiesOnly=yes"}},
	} {
		if diff := cmp.Diff(test.want, test.t.whereabouts(theirs)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestWhereaboutsDoNotRun holds that somebody's configuration cannot make root's
// ssh run something.
func TestWhereaboutsDoNotRun(t *testing.T) {
	for _, evil := range []string{"$(id)", "`id`", "a;id", "-oProxyCommand=id", "a b", "a|id", "a'b", `a"b`, "a\\b", "a&b", "a>b"} {
		for _, key := range []string{"hostname", "port", "hostkeyalias", "proxyjump"} {
			theirs := settings{"hostname": {"h"}, "port": {"22"}}
			theirs[key] = []string{evil}
			if got := (Target{Host: "h"}).whereabouts(theirs); len(got) > 0 {
				t.Errorf("%s %s becomes %q", key, evil, got)
			}
		}
	}
	if got := (Target{Host: "h"}).whereabouts(settings{"hostname": {"h"}, "proxyjump": {"joe@[fe80::1]:22,ssh://gate-2.example:2222"}}); len(got) != 1 {
		t.Errorf("a plain ProxyJump becomes %q", got)
	}
}

func TestOptionPaths(t *testing.T) {
	for file, want := range map[string]string{
		"~/.ssh/id": "/home/joe/.ssh/id", "%d/id": "/home/joe/id", "/a/b": "/a/b", "~bob/id": "", "/k/%h": "", "/a%%b": "/a%b", "id": "",
	} {
		if got := expand(file, "/home/joe"); got != want {
			t.Errorf("%s becomes %q, want %q", file, got, want)
		}
	}
	for file, want := range map[string]string{"/a/b": "/a/b", "/a b": `"/a b"`, `/a"b`: `"/a\"b"`, "/a%b": "/a%%b"} {
		if got := quoteOption(file); got != want {
			t.Errorf("%s becomes %s, want %s", file, got, want)
		}
	}
}
