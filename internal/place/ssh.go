package place

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// Machine is another machine, as an ssh URL names it.
type Machine struct {
	User string // empty for what ssh's configuration says
	Host string // a name, an alias of ssh's configuration, or an address without brackets
	Port int    // 0 for what ssh's configuration says
}

// String is what stands between the scheme and the path of a URL.
func (m Machine) String() string {
	text := m.Host
	if strings.ContainsRune(text, ':') {
		text = "[" + text + "]"
	}
	if m.User != "" {
		text = m.User + "@" + text
	}
	if m.Port != 0 {
		text += ":" + strconv.Itoa(m.Port)
	}
	return text
}

// parseSSH reads what stands behind ssh:// or ssh+btrfs:// in an argument:
// [user@]host[:port]/path, as it was typed, without any escapes.
func parseSSH(arg, scheme, text string, destination bool) (Place, error) {
	p := Place{Arg: arg, Scheme: scheme}
	authority, dir, found := strings.Cut(text, "/")
	var err error
	if p.Machine, err = parseMachine(arg, scheme, authority); err != nil {
		return Place{}, err
	}
	if !found {
		return Place{}, fmt.Errorf("%q names no directory: want its full path there, as in %s://%s/mnt/snaps/", Redact(arg), scheme, p.Machine)
	}
	last := dir[strings.LastIndexByte(dir, '/')+1:]
	if !destination && last != "" && last != "." && last != ".." {
		p.Name, dir = last, dir[:len(dir)-len(last)]
	}
	p.Dir = path.Clean("/" + dir)
	return p, nil
}

// parseMachine reads [user@]host[:port]. What a configuration of ssh may hand to
// a shell, and what ssh would take for an option, is refused.
func parseMachine(arg, scheme, text string) (Machine, error) {
	var m Machine
	host := text
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		m.User, host = text[:i], text[i+1:]
		switch {
		case strings.ContainsRune(m.User, ':'):
			// Not shown, not even with stars: any of it may be the secret.
			return m, fmt.Errorf("a password does not belong into an %s:// URL: ssh finds keys in its agent and in ~/.ssh, and asks for the rest", scheme)
		case m.User == "":
			return m, fmt.Errorf("%q has an empty user name", arg)
		case m.User[0] == '-' || strings.ContainsFunc(m.User, badInUser):
			return m, fmt.Errorf("%q: the user name %q is none", arg, m.User)
		}
	}
	port, hasPort := "", false
	if inner, ok := strings.CutPrefix(host, "["); ok {
		var rest string
		if host, rest, ok = strings.Cut(inner, "]"); !ok {
			return m, fmt.Errorf("%q: a ']' is missing after the address", arg)
		}
		if _, err := netip.ParseAddr(host); err != nil || !strings.ContainsRune(host, ':') {
			return m, fmt.Errorf("%q: %q is no IPv6 address", arg, host)
		}
		if port, hasPort = strings.CutPrefix(rest, ":"); !hasPort && rest != "" {
			return m, fmt.Errorf("%q: want nothing or a port after the address, not %q", arg, rest)
		}
	} else {
		host, port, hasPort = strings.Cut(host, ":")
		if strings.ContainsRune(port, ':') {
			return m, fmt.Errorf("%q: write an IPv6 address in brackets, as in %s://[fe80::1]/mnt/snaps/", arg, scheme)
		}
	}
	switch {
	case host == "":
		return m, fmt.Errorf("%q names no machine: want %s://[USER@]HOST[:PORT]/PATH/", arg, scheme)
	case !startsHost(host[0]) || strings.ContainsFunc(host, badInHost):
		return m, fmt.Errorf("%q: %q is no name of a machine", arg, host)
	}
	m.Host = host
	if hasPort {
		if port == "" || strings.Trim(port, "0123456789") != "" {
			// Not shown: it may be the beginning of a password with a slash in it.
			return m, fmt.Errorf("want a number as the port: %s://[USER@]HOST[:PORT]/PATH/", scheme)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return m, fmt.Errorf("%q: %q is no port", arg, port)
		}
		m.Port = int(n)
	}
	return m, nil
}

func badInUser(r rune) bool {
	return r <= ' ' || r == 0x7f || r == '\uFFFD' || strings.ContainsRune("'`\"$;&<>|(){}/", r)
}

func startsHost(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == ':' || b == '_' || b >= 0x80
}

// badInHost leaves names, aliases, and addresses with the name of an interface.
func badInHost(r rune) bool {
	return r < 0x80 && !startsHost(byte(r)) && !strings.ContainsRune(".-%", r) || r == '\uFFFD'
}

// parseShell reads what stands behind shell:// in an argument.
func parseShell(arg, command string) (Place, error) {
	if strings.TrimSpace(command) == "" {
		return Place{}, errors.New("shell:// names no command: want shell://COMMAND, as in 'shell://cat > /mnt/usb/$BUTTERSINK_NAME.stream'")
	}
	return Place{Arg: arg, Scheme: "shell", Command: command}, nil
}

// FromRsync is the URL for what an argument names in rsync's form for another machine,
// HOST:PATH; false where it does not have it. The path is rsync's, which may be one
// below a home, and has to be a full one here.
func FromRsync(arg string) (string, bool) {
	host, dir, ok := strings.Cut(arg, ":")
	if !ok || host == "" || dir == "" || strings.ContainsRune(host, '/') || strings.HasPrefix(dir, "//") {
		return "", false
	}
	if host == "ssh" && dir[0] == '/' { // one slash is missing
		host, dir, _ = strings.Cut(dir[1:], "/")
	}
	return "ssh://" + host + "/" + strings.TrimLeft(dir, "/"), true
}
