package bare

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// script is a text for the shell of another machine. What its commands print comes
// in sections, between lines that nobody there can know beforehand.
type script struct {
	text strings.Builder
	mark string // begins the lines between sections
	sudo string // stands before commands: "sudo ", or nothing
}

// section is what one command has printed, and how it has ended.
type section struct {
	out    string
	status int
}

// errCut says that a script's output does not go up to its end.
var errCut = errors.New("the script's output is cut off")

func (s *Store) script() *script {
	c := &script{mark: "-- " + rand.Text()}
	if s.sudo {
		c.sudo = "sudo "
	}
	return c
}

// line adds a line of the shell's.
func (c *script) line(text string) { c.text.WriteString(text + "\n") }

// words quotes words for the shell, with sudo before them.
func (c *script) words(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = dial.Quote(w)
	}
	return c.sudo + strings.Join(quoted, " ")
}

// has is a command that ends well if btrfs subvolume show, as given, tells that UUID
// of a subvolume.
func (c *script) has(uuid snapshot.ID, show ...string) string {
	own := "-"
	if !uuid.IsZero() {
		own = uuid.String()
	}
	return "{ " + c.words(show...) + ` | grep -q '^[[:blank:]]*UUID:[[:blank:]]*` + own + `[[:blank:]]*$'; }`
}

// section adds a command whose output is a section of that name, of which there
// may be several. Name and command are text for the shell: a name between double
// quotes.
func (c *script) section(name, command string) {
	c.line(fmt.Sprintf(`echo "%s + %s"`, c.mark, name))
	c.line(command)
	c.line(fmt.Sprintf(`status=$?; echo "%s = $status"`, c.mark))
}

// must adds a command as section does; where it fails, the script ends.
func (c *script) must(name, command string) {
	c.section(name, command)
	c.line(`[ $status = 0 ] || return 0`)
}

// whole is the script as the shell gets it. The function is read to its end before
// anything runs, so that no command can take the rest for its input, and nothing
// runs of a script that is cut.
func (c *script) whole() string {
	return "LC_ALL=C; export LC_ALL; unset QUOTING_STYLE\nbuttersink() {\n" + c.text.String() + "}\nbuttersink </dev/null\necho \"" + c.mark + " .\"\n"
}

// execute runs a script and returns its sections by their names. That a command has
// failed is no error; that the end of the script is missing is one.
func (s *Store) execute(ctx context.Context, c *script) (sections map[string]section, said string, err error) {
	p, err := s.link.shell(ctx)
	if err != nil {
		return nil, "", failed(ctx, err, nil)
	}
	// The other side may print before it has read everything.
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(p.Input(), c.whole())
		written <- errors.Join(err, p.Input().Close())
	}()
	out, err := readAll(p)
	err = errors.Join(err, p.Close())
	fed := <-written
	sections, whole := split(out, c.mark)
	switch {
	case err == nil && whole:
		return sections, p.Stderr(), nil
	case err == nil:
		err = errors.Join(errCut, fed)
		if ctx.Err() == nil {
			return nil, "", store.MarkTemporary(err)
		}
	}
	return nil, "", failed(ctx, err, p)
}

// split cuts a script's output into sections, and reports whether it is whole.
// What comes before the first one is what a login shell prints by itself. Of
// sections with one name the last one counts.
func split(out, mark string) (map[string]section, bool) {
	sections := map[string]section{}
	for {
		_, rest, ok := strings.Cut(out, mark+" ")
		if !ok {
			return sections, false
		}
		line, rest, ok := strings.Cut(rest, "\n")
		if !ok {
			return sections, false
		}
		if line == "." {
			return sections, true
		}
		name, ok := strings.CutPrefix(line, "+ ")
		if !ok {
			return sections, false
		}
		body, rest, ok := strings.Cut(rest, mark+" = ")
		if !ok {
			return sections, false
		}
		line, rest, ok = strings.Cut(rest, "\n")
		status, err := strconv.Atoi(line)
		if !ok || err != nil {
			return sections, false
		}
		sections[name] = section{body, status}
		out = rest
	}
}

// commandError says that a command of a script has failed.
type commandError struct {
	command string
	section section
	said    string // by all commands of the script
}

func (e *commandError) Error() string {
	text := fmt.Sprintf("%s: status %d", e.command, e.section.status)
	if said := lastLine(e.said); said != "" {
		text += ": " + said
	}
	program, _, _ := strings.Cut(e.command, " ")
	switch {
	case e.noProgram() && program == "btrfs":
		text += ": install btrfs-progs there"
	case e.noProgram():
		text += fmt.Sprintf(": there has to be a program %s there", program)
	case e.refused():
		text += fmt.Sprintf(": allow %s in the sudoers there, without a password (NOPASSWD), log in as root, or do without sudo", program)
	}
	return text
}

func (e *commandError) Unwrap() []error {
	var errs []error
	if errno := saidErrno(e.said); errno != 0 {
		errs = append(errs, errno)
	}
	switch {
	case e.noProgram():
		errs = append(errs, dial.ErrNoProgram)
	case e.refused():
		errs = append(errs, dial.ErrSudo)
	}
	return errs
}

// noProgram reports whether a shell, or sudo, has not found the program.
func (e *commandError) noProgram() bool {
	return e.section.status == notFound || e.section.status == 1 && strings.HasSuffix(lastLine(e.said), "command not found")
}

// refused reports whether sudo has the last word.
func (e *commandError) refused() bool {
	last := lastLine(e.said)
	return e.section.status == 1 && (strings.HasPrefix(last, "sudo") && strings.Contains(last, ": ") || strings.HasPrefix(last, "Sorry, user "))
}

// notFound is what a shell answers for a program that is not there (POSIX, 2.8.2).
const notFound = 127

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return clip(strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]))
}
