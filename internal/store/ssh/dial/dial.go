// Package dial runs commands on other machines with the system's ssh. It knows
// how words are quoted for a remote shell, when sudo is put before them, whose
// keys are offered, and what it means when ssh or the command fails. It does not
// know what the commands say to each other.
//
// What the far side sees is the words, quoted where a shell would take them apart,
// with "sudo" before them where that is due: `sudo buttersink --server --mode a
// /mnt/b/`. People have such lines in sudoers and authorized_keys, so nothing else
// is ever put there. Passwords are asked for by ssh itself, at the terminal, and
// never by sudo on the far side, which has none.
//
// Ctrl-C at the terminal goes to everything in the foreground there, and ssh has to
// be in the foreground to be able to ask. So it is started with the signals of the
// terminal ignored, which ssh respects (clientloop.c): it ends when whoever started
// it closes its input, Closes it, or is gone.
//
// Under sudo ssh is root's. Root's own keys come first, and those of whoever ran
// sudo are offered as well; see identity.go for what else is taken from them.
//
// Invariants. The arguments of ssh never come from a word, a user or a host that
// begins with "-". Only printable text of the far side reaches the log and errors.
// A Process that has been Closed, or whose context has ended, is gone within
// seconds, whatever the network and the far side do.
//
// Memory: 4 KiB of what a process says, and 256 KiB in each of its pipes.
//
//	p, err := dial.Start(ctx, dial.Target{User: "joe", Host: "backup"}, "buttersink", "--server", "--mode", "r", "/mnt/b/")
//	defer p.Close()
//	…p.Stdin, p.Stdout…
//	if err := p.Wait(); errors.Is(err, dial.ErrNoProgram) {…}
package dial

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Sudo says whether commands are run by sudo on the far side.
type Sudo int

// When there is a sudo.
const (
	// Auto is sudo for every user but root.
	Auto Sudo = iota
	Always
	Never
)

// Target is a machine, and how it is reached.
type Target struct {
	User string // "" is what ssh takes: its configuration's, or the local one
	Host string // a name, an alias of ssh's configuration, or an address, without brackets
	Port int    // 0 is what ssh takes
	Sudo Sudo
	// Options are for ssh, each "Key=value" as after its -o.
	Options []string
	// Command is a program and its first words in place of "ssh". It has to take the
	// options that ssh takes.
	Command []string
	// Batch says that there is nobody at a terminal: ssh fails where it would ask.
	Batch bool
	// Log is told what the far side and ssh say; nil is nobody.
	Log *slog.Logger
	// Getenv looks into the environment for who ran sudo; nil is os.Getenv. The
	// environment of ssh is always that of the process.
	Getenv func(string) string

	rootHome string // root's home directory, for tests; "" is the real one
}

// String is "user@host:port", without what is not set.
func (t Target) String() string {
	s := t.destination()
	if t.Port != 0 {
		if strings.Contains(t.Host, ":") {
			s = strings.TrimSuffix(s, t.Host) + "[" + t.Host + "]"
		}
		s += ":" + strconv.Itoa(t.Port)
	}
	return s
}

// destination is the machine as ssh's arguments have it.
func (t Target) destination() string {
	if t.User == "" {
		return t.Host
	}
	return t.User + "@" + t.Host
}

// check says what ssh would take for something else.
func (t Target) check() error {
	if t.Host == "" {
		return fmt.Errorf("an address without a host: want user@host")
	}
	if strings.HasPrefix(t.Host, "-") || strings.ContainsFunc(t.Host, unfit) || strings.Contains(t.Host, "@") {
		return fmt.Errorf("%q cannot be the name of a host", t.Host)
	}
	// Domains stand before a backslash in a name, and machines end in a dollar.
	plain := strings.NewReplacer(`\`, "", "$", "").Replace(t.User)
	if strings.HasPrefix(t.User, "-") || strings.HasSuffix(t.User, `\`) || strings.ContainsFunc(plain, unfit) {
		return fmt.Errorf("%q cannot be the name of a user", t.User)
	}
	if t.Port < 0 || t.Port > 65535 {
		return fmt.Errorf("%d is not a port: want 1 to 65535", t.Port)
	}
	for _, o := range t.Options {
		if key, _, ok := strings.Cut(o, "="); !ok || key == "" || strings.ContainsAny(o, "\n\x00") {
			return fmt.Errorf("an option for ssh is Key=value, not %q", o)
		}
	}
	return nil
}

// unfit reports whether a character can be in no name: one that a shell takes for
// something else, either, because a ProxyCommand may have the name in it (%h, %r).
// Newer versions of ssh refuse the same (ssh.c, valid_hostname and valid_ruser).
func unfit(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("'`\"$\\;&<>|(){}", r)
}

// has reports whether the caller has set an option, and to what.
func (t Target) has(key string) (string, bool) {
	for _, o := range t.Options {
		if k, v, _ := strings.Cut(o, "="); strings.EqualFold(strings.TrimSpace(k), key) {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// program is what is run in place of "ssh", found in PATH.
func (t Target) program() (string, []string, error) {
	words, hint := t.Command, ""
	if len(words) == 0 {
		words, hint = []string{"ssh"}, ": install openssh-client here"
	}
	file, err := exec.LookPath(words[0])
	if err != nil {
		return "", nil, fmt.Errorf("reaching %s: %w%s", t, err, hint)
	}
	return file, words[1:], nil
}

// base are the arguments of ssh that say where to and with what configuration, up
// to the host.
func (t Target) base(more []string) []string {
	var args []string
	if t.Port != 0 {
		args = append(args, "-p", strconv.Itoa(t.Port))
	}
	// What comes first counts, so the caller's do.
	for _, o := range t.Options {
		args = append(args, "-o", o)
	}
	for _, o := range more {
		args = append(args, "-o", o)
	}
	return append(args, t.destination())
}

// ours are the options that a command needs, whatever ssh's configuration says.
func (t Target) ours() []string {
	options := []string{
		// No terminal on the far side: it would change bytes.
		"RequestTTY=no",
		// A configuration for people may have these; the first would be run in place
		// of the command, the second fail where another connection has the port.
		"RemoteCommand=none", "ClearAllForwardings=yes",
		// A machine that says nothing for a minute is gone. Its sshd answers even
		// when the command is busy.
		"ServerAliveInterval=15", "ServerAliveCountMax=4",
	}
	if t.Batch {
		options = append(options, "BatchMode=yes")
	}
	return options
}

// Sudoes reports whether commands need a sudo before them, for callers that write
// scripts. It may ask ssh whom it would log in as; an error says that it could not
// be started.
func (t Target) Sudoes(ctx context.Context) (bool, error) {
	if err := t.check(); err != nil {
		return false, err
	}
	switch t.Sudo {
	case Always:
		return true, nil
	case Never:
		return false, nil
	}
	name := t.User
	if name == "" {
		id, err := t.identity(ctx)
		if err != nil {
			return false, err
		}
		name = id.user
	}
	if name == "" {
		conf, err := t.asks(ctx)
		if err != nil {
			return false, err
		}
		name = conf.first("user")
	}
	if name == "" { // what stands in for ssh cannot say
		me, err := user.Current()
		if err != nil {
			return false, fmt.Errorf("finding out who runs this: %w", err)
		}
		name = me.Username
	}
	return name != "root", nil
}

// settings is what `ssh -G` says: by keyword in lower case, in order.
type settings map[string][]string

func (s settings) first(key string) string {
	if len(s[key]) == 0 {
		return ""
	}
	return s[key][0]
}

// parseSettings reads "keyword value" lines.
func parseSettings(text string) settings {
	s := settings{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			key = strings.ToLower(key)
			s[key] = append(s[key], value)
		}
	}
	return s
}

// asks returns the settings that ssh has for the target; none if what is used in
// place of ssh does not say.
func (t Target) asks(ctx context.Context) (settings, error) {
	program, first, err := t.program()
	if err != nil {
		return nil, err
	}
	return t.query(ctx, exec.Command(program, append(append(first, "-G"), t.base(nil)...)...))
}

// query runs ssh -G, which only reads files, unless something else is in its place.
func (t Target) query(ctx context.Context, cmd *exec.Cmd) (settings, error) {
	const long = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	bounded := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	bounded.Env, bounded.Dir, bounded.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
	bounded.WaitDelay = time.Second
	out, err := bounded.Output()
	if context.Cause(ctx) != nil {
		return nil, fmt.Errorf("asking ssh for its settings for %s: %w", t, context.Cause(ctx))
	}
	if err != nil {
		t.log().Debug("ssh does not tell its settings", "host", t.Host, "error", err)
		return settings{}, nil
	}
	return parseSettings(string(out)), nil
}

func (t Target) log() *slog.Logger {
	if t.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return t.Log
}

func (t Target) getenv(key string) string {
	if t.Getenv == nil {
		return os.Getenv(key)
	}
	return t.Getenv(key)
}
