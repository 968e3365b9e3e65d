package dial

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Why a command did not do its work, as far as its status and what was said tell.
// What was said is believed: a far side that lies is taken at its word here, and
// nothing is decided by it but what is tried next.
var (
	// ErrNoProgram: the far side has no such program, or not where its shell or its
	// sudo looks. A caller may try another.
	ErrNoProgram = errors.New("there is no such program")
	// ErrUnreachable: ssh could not connect, or lost the connection. It may well
	// work later.
	ErrUnreachable = errors.New("it cannot be reached, or the connection is lost")
	// ErrHostKey: the machine is not the one that ssh knows, or ssh knows none.
	ErrHostKey = errors.New("its host key is not known here")
	// ErrAuth: the machine does not let the user in.
	ErrAuth = errors.New("it does not let us in")
	// ErrSudo: sudo is not there, or does not run the command without a password.
	ErrSudo = errors.New("its sudo refuses")
)

// ExitError says that ssh, or the command on the far side, did not end well.
type ExitError struct {
	Host    string // user@host:port, as far as given
	Command string // as the far side got it
	Status  int    // of the command, or 255 from ssh; -1 if ssh was killed
	Stderr  string // the end of what ssh and the far side said, printable
	Why     error  // one of the errors above, or nil

	program string // the word that sudo or the shell looks for
	sudo    bool   // whether that is sudo
	login   string // how to log in by hand
	by      string // what killed ssh
}

// Unwrap returns Why.
func (e *ExitError) Unwrap() error { return e.Why }

// Error names the machine, the cause, what was said, and what to do.
func (e *ExitError) Error() string {
	var text, hint string
	lines := 3
	switch e.Why {
	case ErrNoProgram:
		text = fmt.Sprintf("%s has no %s", e.Host, cut(e.program))
		hint = "install it there"
		switch {
		case strings.Contains(e.program, "/"):
		case e.sudo:
			text, hint = text+" where its sudo looks", hint+", or name it by its whole path"
		default:
			text, hint = text+" where its shell looks", hint+", or name it by its whole path"
		}
	case ErrUnreachable:
		text = fmt.Sprintf("%s: %v", e.Host, e.Why)
		if e.by != "" {
			text = fmt.Sprintf("%s: the connection is lost: ssh was ended by %s", e.Host, e.by)
		}
	case ErrHostKey:
		text = fmt.Sprintf("%s: %v", e.Host, e.Why)
		if keyChanged.MatchString(e.Stderr) {
			text = fmt.Sprintf("%s: its host key is another one than was noted here", e.Host)
		}
		// Above its last line, ssh says how to forget the key.
		lines = 1
		hint = fmt.Sprintf("compare it with the machine's, and log in once by hand: %s", e.login)
	case ErrAuth:
		text = fmt.Sprintf("%s: %v", e.Host, e.Why)
		hint = fmt.Sprintf("find out with %s, and name the key with the option IdentityFile, or give it to the machine with ssh-copy-id", e.login)
	case ErrSudo:
		text = fmt.Sprintf("%s: %v", e.Host, e.Why)
		hint = "allow the command in its sudoers, without a password (NOPASSWD), log in as root, or do without sudo: " + cut(e.Command)
	default:
		if e.Status == sshFailed {
			text = fmt.Sprintf("%s: ssh gives up", e.Host)
			break
		}
		text = fmt.Sprintf("%s on %s ended with status %d", cut(e.program), e.Host, e.Status)
	}
	if said := lastLines(e.Stderr, lines); said != "" {
		text += ": " + said
	}
	if text = strings.TrimSuffix(text, "."); hint != "" {
		text += ": " + hint
	}
	return text
}

// cut shortens a command for people.
func cut(text string) string {
	const most = 120
	text = printable(text)
	if len(text) <= most {
		return text
	}
	end := most
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// The statuses that mean something of their own.
const (
	notFound  = 127 // a shell found no such program (POSIX, 2.8.2)
	sshFailed = 255 // ssh(1), "EXIT STATUS"
)

var (
	// What ssh says before it ends with 255 (OpenSSH 7 to 10), of causes that do
	// not go away by themselves. What is none of these may.
	hostKeySays = regexp.MustCompile(`(?m)^Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|host key is known for`)
	keyChanged  = regexp.MustCompile(`REMOTE HOST IDENTIFICATION HAS CHANGED`)
	authSays    = regexp.MustCompile(`(?m)Permission denied \(|Too many authentication failures|No supported authentication methods`)
	setupSays   = regexp.MustCompile(`(?im)Bad configuration option|bad configuration options|Bad owner or permissions|^usage: ssh|unknown option --|illegal option --|unsupported option|Unable to negotiate|Can't open user config file|command-line.*line 0:|[Bb]ad port|invalid argument|hostname contains invalid characters|remote username contains invalid characters`)
	// sudo's own words, with which it ends with 1: sudo 1.8 and 1.9, and sudo-rs.
	sudoSays = regexp.MustCompile(`(?im)^sudo(-rs)?: .*(password is required|terminal is required|no tty present|must have a tty|authentication failed|effective uid is not 0|must be owned by|no valid sudoers|account validation|not allowed|may not run|not in the sudoers)|^Sorry, user .* (is not allowed|may not run)|is not in the sudoers file`)
	noSudo   = regexp.MustCompile(`(?m)\bsudo: (command )?not found`)
	// A warning of sudo's that comes with every command.
	sudoWarns = regexp.MustCompile(`^sudo(-rs)?: unable to resolve host`)
)

// why finds out what a status means, of a command that may be one for sudo.
func (e *ExitError) why() error {
	switch {
	case e.Status < 0:
		return ErrUnreachable // whoever killed it, it was not the far side
	case e.Status == sshFailed && hostKeySays.MatchString(e.Stderr):
		return ErrHostKey
	case e.Status == sshFailed && authSays.MatchString(e.Stderr):
		return ErrAuth
	case e.Status == sshFailed && setupSays.MatchString(e.Stderr):
		return nil
	case e.Status == sshFailed:
		return ErrUnreachable
	case e.Status == notFound && noSudo.MatchString(e.Stderr):
		return ErrSudo
	case e.Status == notFound:
		return ErrNoProgram
	}
	if e.Status == 1 && strings.Contains("\n"+e.Stderr, "\n"+printable(e.program)+": Command not found.\n") {
		return ErrNoProgram // csh and tcsh
	}
	if e.Status != 1 || !e.sudo {
		return nil
	}
	// "sudo: PROGRAM: command not found", in whatever language.
	for text := range strings.Lines(e.Stderr) {
		rest, ok := strings.CutPrefix(text, "sudo: ")
		if ok && strings.HasPrefix(rest, printable(e.program)+": ") {
			return ErrNoProgram
		}
		if strings.Contains(text, "'"+printable(e.program)+"': command not found") { // sudo-rs
			return ErrNoProgram
		}
	}
	if sudoSays.MatchString(e.Stderr) {
		return ErrSudo
	}
	// The last word is sudo's, and it is none that is known: another language.
	if last := lastLines(e.Stderr, 1); strings.HasPrefix(last, "sudo: ") && !sudoWarns.MatchString(last) {
		return ErrSudo
	}
	return nil
}

// lastLines are the last lines with something on them, joined to one.
func lastLines(text string, n int) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	kept := lines[:0]
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept[max(0, len(kept)-n):], "; ")
}

// printable makes text from elsewhere safe for a terminal and a log.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsPrint(r) && r != utf8.RuneError:
			return r
		}
		return '?'
	}, text)
}
