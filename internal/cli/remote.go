package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// machine is another machine, as an ssh URL names it.
type machine struct {
	user string // empty for what ssh's configuration says
	host string // a name, an alias of ssh's configuration, or an address without brackets
	port int    // 0 for what ssh's configuration says
}

// String is what stands between the scheme and the path of a URL.
func (m machine) String() string {
	text := m.host
	if strings.ContainsRune(text, ':') {
		text = "[" + text + "]"
	}
	if m.user != "" {
		text = m.user + "@" + text
	}
	if m.port != 0 {
		text += ":" + strconv.Itoa(m.port)
	}
	return text
}

// overSSH reports whether the place is a btrfs directory of another machine.
func (p place) overSSH() bool { return p.scheme == "ssh" || p.scheme == "ssh+btrfs" }

// ours reports whether the place is a btrfs directory on a machine that has
// buttersink.
func (p place) ours() bool { return !p.archive() && p.scheme != "ssh+btrfs" && p.scheme != "shell" }

// keepsStreams reports whether what is sent there stays a stream, which is
// carried out only when it is restored.
func (p place) keepsStreams() bool { return p.archive() || p.scheme == "shell" }

// parseSSH reads what stands behind ssh:// or ssh+btrfs:// in an argument:
// [user@]host[:port]/path, as it was typed, without any escapes.
func parseSSH(arg, scheme, text string, destination bool) (place, error) {
	p := place{arg: arg, scheme: scheme}
	authority, dir, found := strings.Cut(text, "/")
	var err error
	if p.machine, err = parseMachine(arg, scheme, authority); err != nil {
		return place{}, err
	}
	if !found {
		return place{}, fmt.Errorf("%q names no directory: want its full path there, as in %s://%s/mnt/snaps/", redact(arg), scheme, p.machine)
	}
	last := dir[strings.LastIndexByte(dir, '/')+1:]
	if !destination && last != "" && last != "." && last != ".." {
		p.name, dir = last, dir[:len(dir)-len(last)]
	}
	p.dir = path.Clean("/" + dir)
	return p, nil
}

// parseMachine reads [user@]host[:port]. What a configuration of ssh may hand to
// a shell, and what ssh would take for an option, is refused.
func parseMachine(arg, scheme, text string) (machine, error) {
	var m machine
	host := text
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		m.user, host = text[:i], text[i+1:]
		switch {
		case strings.ContainsRune(m.user, ':'):
			// Not shown, not even with stars: any of it may be the secret.
			return m, fmt.Errorf("a password does not belong into an %s:// URL: ssh finds keys in its agent and in ~/.ssh, and asks for the rest", scheme)
		case m.user == "":
			return m, fmt.Errorf("%q has an empty user name", arg)
		case m.user[0] == '-' || strings.ContainsFunc(m.user, badInUser):
			return m, fmt.Errorf("%q: the user name %q is none", arg, m.user)
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
	m.host = host
	if hasPort {
		if port == "" || strings.Trim(port, "0123456789") != "" {
			// Not shown: it may be the beginning of a password with a slash in it.
			return m, fmt.Errorf("want a number as the port: %s://[USER@]HOST[:PORT]/PATH/", scheme)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return m, fmt.Errorf("%q: %q is no port", arg, port)
		}
		m.port = int(n)
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
func parseShell(arg, command string) (place, error) {
	if strings.TrimSpace(command) == "" {
		return place{}, errors.New("shell:// names no command: want shell://COMMAND, as in 'shell://cat > /mnt/usb/$BUTTERSINK_NAME.stream'")
	}
	return place{arg: arg, scheme: "shell", command: command}, nil
}

// splitWords cuts a line into words as a shell does, without running one:
// quotes and backslashes hold words together, and nothing else means anything.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
			continue
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a closing ' is missing")
			}
			word.WriteString(line[i+1 : i+1+end])
			i += end + 1
		case '"':
			for i++; ; i++ {
				if i >= len(line) {
					return nil, errors.New(`a closing " is missing`)
				}
				if line[i] == '"' {
					break
				}
				if line[i] == '\\' && i+1 < len(line) && strings.IndexByte("$`\"\\\n", line[i+1]) >= 0 {
					if i++; line[i] == '\n' {
						continue
					}
				}
				word.WriteByte(line[i])
			}
		case '\\':
			if i++; i >= len(line) {
				return nil, errors.New(`there is nothing behind the last \`)
			}
			if line[i] == '\n' {
				continue
			}
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
		}
		begun = true
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}
