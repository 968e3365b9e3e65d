package sshtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// User is somebody who may log in, with a key of their own.
type User struct {
	Name string
	Home string // "/root" for root
	Key  string // the file of the private key, for the near side
	UID  int
	GID  int

	server *Server
}

// A UserOption changes what Server.User makes.
type UserOption func(*userOptions)

type userOptions struct{ shell string }

// Shell sets the login shell, which runs what ssh sends. The default is /bin/sh.
func Shell(program string) UserOption { return func(o *userOptions) { o.shell = program } }

// Ash puts busybox's shell into place as a login shell and returns its path.
func (s *Server) Ash() string {
	s.t.Helper()
	busybox, err := system("busybox")
	if err != nil {
		s.t.Fatal(err)
	}
	ash := s.file("bin/ash")
	if _, err := os.Lstat(ash); err == nil {
		return ash
	}
	if err := os.Symlink(busybox, ash); err != nil {
		s.t.Fatal(err)
	}
	return ash
}

// User makes a user with a home directory, who may do nothing with sudo and may
// run any command, until the test ends.
func (s *Server) User(opts ...UserOption) *User {
	s.t.Helper()
	o := userOptions{shell: "/bin/sh"}
	for _, opt := range opts {
		opt(&o)
	}
	u := &User{Name: "bst" + random(), server: s}
	u.Home = s.file("home/" + u.Name)
	if err := s.guard.owes(u.Name); err != nil {
		s.t.Fatal(err)
	}
	// A password that nothing matches; an account that is locked ("!") could not
	// log in with a key either (sshd(8), under "LOGIN PROCESS").
	s.run("flock", lockFile, "/usr/sbin/useradd", "--system", "--no-log-init", "--no-create-home", "--user-group",
		"--home-dir", u.Home, "--shell", o.shell, "--password", "*", u.Name)
	u.UID, u.GID = s.ids(u.Name)
	if err := os.Mkdir(u.Home, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(u.Home, u.UID, u.GID); err != nil {
		s.t.Fatal(err)
	}
	u.key()
	return u
}

// Root is the machine's root with a key for this server. Sessions have root's
// home directory and shell.
func (s *Server) Root() *User {
	s.t.Helper()
	u := &User{Name: "root", Home: "/root", server: s}
	u.key()
	return u
}

// ids looks a user up who was made a moment ago.
func (s *Server) ids(name string) (uid, gid int) {
	s.t.Helper()
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		field := strings.Split(line, ":")
		if field[0] != name {
			continue
		}
		uid, err1 := strconv.Atoi(field[2])
		gid, err2 := strconv.Atoi(field[3])
		if err1 != nil || err2 != nil {
			s.t.Fatalf("/etc/passwd has the line %q", line)
		}
		return uid, gid
	}
	s.t.Fatalf("user %s is not in /etc/passwd", name)
	return 0, 0
}

// key gives the user a new key that may do everything.
func (u *User) key() {
	s := u.server
	s.t.Helper()
	s.users++
	u.Key = s.file("keys/" + u.Name + strconv.Itoa(s.users))
	s.keygen(u.Key)
	u.ForceCommand("")
}

// ForceCommand makes the user's key run this command, and nothing else, whatever
// is asked for (it is in SSH_ORIGINAL_COMMAND then); "" allows everything again.
// More options of authorized_keys(5) may be given; "restrict" is among them.
func (u *User) ForceCommand(command string, more ...string) {
	s := u.server
	s.t.Helper()
	line := s.read(filepath.Join("keys", filepath.Base(u.Key)+".pub"))
	if command != "" {
		options := append([]string{"restrict", `command="` + strings.ReplaceAll(command, `"`, `\"`) + `"`}, more...)
		line = strings.Join(options, ",") + " " + line
	}
	s.write("auth/"+u.Name, line, 0o644)
}

// Sudoers sets the user's sudo rules, each what follows the name in sudoers(5),
// for instance "ALL=(root) NOPASSWD: ALL". What sudo starts has the PATH of the
// far side. Without rules, sudo refuses.
func (u *User) Sudoers(rules ...string) {
	s := u.server
	s.t.Helper()
	if u.Name == "root" {
		s.t.Fatal("the machine's sudo rules for root are not for tests to change")
	}
	file := "/etc/sudoers.d/" + u.Name
	if len(rules) == 0 {
		if err := os.RemoveAll(file); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	var b strings.Builder
	b.WriteString("Defaults:" + u.Name + " secure_path=\"" + s.Path() + "\", !syslog\n")
	for _, rule := range rules {
		b.WriteString(u.Name + " " + rule + "\n")
	}
	s.write("sudoers", b.String(), 0o440)
	s.run("visudo", "-q", "-c", "-f", s.file("sudoers")) // a mistake would lock everybody out of sudo
	// sudo passes over names with a dot: what is half there has no effect.
	text := []byte(b.String())
	if err := os.WriteFile(file+".new", text, 0o440); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		s.t.Fatal(err)
	}
}

// Options are what ssh has to be told with -o, each "Key=value", to log in as the
// user: their key and no other, and the server's host key, at whatever port it is
// reached. No configuration of the machine is needed. User and port are not among
// them.
func (u *User) Options() []string {
	return []string{
		"IdentityFile=" + u.Key, "IdentitiesOnly=yes", "IdentityAgent=none",
		"UserKnownHostsFile=" + u.server.KnownHosts(), "GlobalKnownHostsFile=none", "HostKeyAlias=" + u.server.alias,
		"StrictHostKeyChecking=yes", "UpdateHostKeys=no", "BatchMode=yes",
	}
}

// Args are arguments of ssh to log in as the user; the host (Host) and a command
// follow.
func (u *User) Args() []string {
	args := []string{"-F", "none", "-p", strconv.Itoa(u.server.Port), "-l", u.Name}
	for _, option := range u.Options() {
		args = append(args, "-o", option)
	}
	return args
}

// KnownHosts is the file that knows the server's host key, under HostAlias.
func (s *Server) KnownHosts() string { return s.file("keys/known_hosts") }

// HostAlias is the name that KnownHosts has the host key under.
func (s *Server) HostAlias() string { return s.alias }

// HostKey is the server's public key as it stands in known_hosts, after the name.
func (s *Server) HostKey() string {
	s.t.Helper()
	return strings.TrimSpace(s.read("keys/host.pub"))
}
