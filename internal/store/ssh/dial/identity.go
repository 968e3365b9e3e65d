package dial

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Under sudo ssh runs as root, and the keys, the known hosts and the aliases that
// work for `ssh host` are somebody else's. So these are taken from whoever ran
// sudo: their keys and known hosts, after root's own; and, unless root has a
// ~/.ssh/config, what theirs says about where the host is and who logs in there.
// What their configuration would run (ProxyCommand, Match exec) is not run as root:
// it is read by an ssh that runs with their rights, and only plain settings are
// taken from it. A ProxyJump is among them; what the name of the jump host stands
// for is then looked up for root.
//
// Whoever may run buttersink with sudo so decides where it connects to. Where a
// sudo rule is meant to fix that, an empty ~/.ssh/config of root's does.

// keyNames are the files that ssh tries if its configuration names none
// (ssh_config(5), IdentityFile), in that order.
var keyNames = []string{"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"}

// unsaid is who would log in where the configuration does not say.
const unsaid = "buttersink-unsaid"

// identity is what the one who ran sudo adds.
type identity struct {
	options []string // for ssh, after the caller's own
	user    string   // who logs in; "" if that is not said
}

// person is a user of this machine.
type person struct {
	name     string
	home     string
	uid, gid uint32
}

// invoker returns who ran sudo, if somebody other than root did.
func (t Target) invoker() (person, bool) {
	id, name := t.getenv("SUDO_UID"), t.getenv("SUDO_USER")
	if os.Geteuid() != 0 || id == "" || id == "0" || name == "" {
		return person{}, false
	}
	u, err := user.LookupId(id)
	if err != nil {
		u, err = lookupElsewhere(id)
	}
	if err != nil || u.HomeDir == "" {
		t.log().Debug("who ran sudo is not known here", "uid", id, "error", err)
		return person{}, false
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return person{}, false
	}
	return person{name: u.Username, home: u.HomeDir, uid: uint32(uid), gid: uint32(gid)}, true
}

// lookupElsewhere finds a user who is not in /etc/passwd but in a directory that
// the machine asks (nsswitch.conf(5)), which takes the C library.
func lookupElsewhere(id string) (*user.User, error) {
	out, err := exec.Command("getent", "passwd", id).Output()
	if err != nil {
		return nil, fmt.Errorf("looking up user %s: %w", id, err)
	}
	field := strings.Split(strings.TrimSuffix(string(out), "\n"), ":")
	if len(field) != 7 || field[2] != id { // passwd(5)
		return nil, fmt.Errorf("looking up user %s: getent says %q", id, out)
	}
	return &user.User{Username: field[0], Uid: field[2], Gid: field[3], HomeDir: field[5]}, nil
}

// identity looks up what ssh is told of the one who ran sudo.
func (t Target) identity(ctx context.Context) (identity, error) {
	who, ok := t.invoker()
	if !ok {
		return identity{}, nil
	}
	rootHome := t.rootHome
	if rootHome == "" {
		root, err := user.LookupId("0")
		if err != nil {
			return identity{}, fmt.Errorf("finding root's home directory: %w", err)
		}
		rootHome = root.HomeDir
	}
	own, err := t.asks(ctx)
	if err != nil {
		return identity{}, err
	}
	theirs, err := t.asksAs(ctx, who)
	if err != nil {
		return identity{}, err
	}
	id := identity{options: t.keys(rootHome, own, who, theirs)}
	if _, err := os.Stat(filepath.Join(rootHome, ".ssh", "config")); err == nil {
		return id, nil
	}
	if name := theirs.first("user"); t.User == "" && name != "" && name != unsaid {
		if _, set := t.has("User"); !set && t.harmless("User", name) {
			id.user = name
			id.options = append(id.options, "User="+name)
		}
	}
	id.options = append(id.options, t.whereabouts(theirs)...)
	return id, nil
}

// keys are the options for the keys and the known hosts of both.
func (t Target) keys(rootHome string, own settings, who person, theirs settings) []string {
	var options []string
	if _, set := t.has("IdentityFile"); !set {
		// Once a file is named, the default ones are not tried any more.
		seen := map[string]bool{}
		for _, file := range append(keyFiles(rootHome, own), keyFiles(who.home, theirs)...) {
			if !seen[file] {
				seen[file] = true
				options = append(options, "IdentityFile="+quoteOption(file))
			}
		}
	}
	if _, set := t.has("UserKnownHostsFile"); !set {
		files := existing(knownHosts(who.home, theirs))
		if len(files) > 0 {
			// New keys go to the first.
			files = append(knownHosts(rootHome, own), files...)
			for i := range files {
				files[i] = quoteOption(files[i])
			}
			options = append(options, "UserKnownHostsFile="+strings.Join(files, " "))
		}
	}
	return options
}

// whereabouts are the plain settings of somebody's configuration that say what a
// name stands for, as far as the caller has not said it.
func (t Target) whereabouts(theirs settings) []string {
	var options []string
	take := func(key, value string) {
		if _, set := t.has(key); !set && value != "" && !strings.EqualFold(value, "none") && t.harmless(key, value) {
			options = append(options, key+"="+value)
		}
	}
	if name := theirs.first("hostname"); name != t.Host {
		take("HostName", name)
	}
	if port := theirs.first("port"); t.Port == 0 && port != "22" {
		take("Port", port)
	}
	take("HostKeyAlias", theirs.first("hostkeyalias"))
	if only := theirs.first("identitiesonly"); only == "yes" {
		take("IdentitiesOnly", only)
	}
	_, jump := t.has("ProxyJump")
	_, command := t.has("ProxyCommand")
	if !jump && !command {
		take("ProxyJump", theirs.first("proxyjump"))
		if text := theirs.first("proxycommand"); text != "" && text != "none" {
			t.log().Warn("a ProxyCommand is not taken from the ssh configuration of whoever ran sudo, because it would run as root; --ssh-opt ProxyCommand=… says that it may", "host", t.Host)
		}
	}
	return options
}

// harmless reports whether a setting of somebody else may be handed to root's ssh.
// It runs a shell for a ProxyJump, and for a ProxyCommand of the machine, with names
// in the command as they stand.
func (t Target) harmless(key, value string) bool {
	if !strings.HasPrefix(value, "-") && strings.IndexFunc(value, func(r rune) bool { return special(r) && r != '[' && r != ']' }) < 0 {
		return true
	}
	t.log().Warn("a setting is not taken from the ssh configuration of whoever ran sudo, because it has characters that a shell takes for something else", "host", t.Host, "key", key)
	return false
}

// asksAs returns the settings that ssh has for the target when somebody runs it,
// with the user as unsaid if no configuration says one. What the configuration
// runs, runs with their rights.
func (t Target) asksAs(ctx context.Context, who person) (settings, error) {
	if len(t.Command) > 0 {
		return settings{}, nil // whatever that does, it was meant for us
	}
	program, _, err := t.program()
	if err != nil {
		return nil, err
	}
	// Theirs, then the machine's: as ssh does it. A file that is named takes the
	// place of both.
	f, err := os.CreateTemp("", "buttersink-ssh-")
	if err != nil {
		return nil, fmt.Errorf("asking ssh for the settings of %s: %w", who.name, err)
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\nHost *\n\tUser %s\n", unsaid)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("asking ssh for the settings of %s: %w", who.name, err)
	}
	cmd := exec.Command(program, append([]string{"-F", f.Name(), "-G"}, t.base(nil)...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + who.home, "USER=" + who.name, "LOGNAME=" + who.name}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: []uint32{who.gid}},
		Setsid:     true, // nothing of theirs gets hold of the terminal
	}
	return t.query(ctx, cmd)
}

// keyFiles are the keys that somebody has and that their ssh would offer.
func keyFiles(home string, conf settings) []string {
	files := conf["identityfile"]
	if len(files) == 0 {
		for _, name := range keyNames {
			files = append(files, "~/.ssh/"+name)
		}
	}
	var out []string
	for _, f := range files {
		out = append(out, expand(f, home))
	}
	return existing(out)
}

// knownHosts are the files with the host keys that somebody trusts.
func knownHosts(home string, conf settings) []string {
	text := conf.first("userknownhostsfile")
	if text == "" || strings.Contains(home, " ") { // ssh prints them without quotes
		text = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
	}
	var out []string
	for _, f := range strings.Fields(text) {
		if f != "none" && f != "/dev/null" {
			out = append(out, expand(f, home))
		}
	}
	return out
}

// expand puts somebody's home directory into a path as ssh does; "" if the path has
// something else to be put in.
func expand(file, home string) string {
	if rest, ok := strings.CutPrefix(file, "~/"); ok {
		file = filepath.Join(home, rest)
	}
	file = strings.NewReplacer("%%", "\x00", "%d", home).Replace(file)
	if strings.Contains(file, "%") || !filepath.IsAbs(file) {
		return ""
	}
	return strings.ReplaceAll(file, "\x00", "%")
}

func existing(files []string) []string {
	var out []string
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			out = append(out, f)
		}
	}
	return out
}

// quoteOption writes a path as the value of an option: ssh takes the value apart at
// spaces, and replaces what stands after a percent sign.
func quoteOption(file string) string {
	file = strings.ReplaceAll(file, "%", "%%")
	if !strings.ContainsAny(file, " \t'\"\\#") {
		return file
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(file) + `"`
}
