package outstanding

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Parse reads the file; empty or blank text is no transfers. An entry that is
// there twice is the two together. Anything that btrfs-backup would not take is
// refused, with its line and column.
func Parse(text []byte) (*Transfers, error) {
	t := &Transfers{entries: map[string]entry{}}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("invalid lock file format: it is longer than %d bytes", MaxSize)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return t, nil
	}
	p := &parser{text: text, seen: map[lock]bool{}}
	if err := p.file(t); err != nil {
		return nil, err
	}
	return t, nil
}

// lock is one id in one list.
type lock struct {
	name string
	kind Kind
	id   string
}

// parser reads JSON of this one shape. The standard library's reader takes
// strings apart that are not UTF-8, and tells no places.
type parser struct {
	text []byte
	at   int
	seen map[lock]bool
}

func (p *parser) file(t *Transfers) error {
	p.blanks()
	err := p.list('{', '}', "an object of snapshots", func() error {
		name, err := p.key("the name of a snapshot")
		if err != nil {
			return err
		}
		return p.entry(t, name)
	})
	if err != nil {
		return err
	}
	if p.at < len(p.text) {
		return p.wrong("nothing more")
	}
	return nil
}

func (p *parser) entry(t *Transfers, name string) error {
	return p.list('{', '}', `an object with "locks" and "parent_locks"`, func() error {
		start := p.at
		text, err := p.key(`"locks" or "parent_locks"`)
		if err != nil {
			return err
		}
		k := Kind(text)
		if k != Sent && k != Parent {
			p.at = start
			return p.wrong(`"locks" or "parent_locks"`)
		}
		return p.list('[', ']', "a list of destinations", func() error {
			id, err := p.string("the id of a destination")
			if err != nil {
				return err
			}
			if l := (lock{name, k, id}); !p.seen[l] {
				p.seen[l] = true
				t.take(l)
			}
			return nil
		})
	})
}

// take adds what was not there, at the end: the order of the file stays.
func (t *Transfers) take(l lock) {
	e, ok := t.entries[l.name]
	if !ok {
		e = entry{}
		t.entries[l.name] = e
		t.order = append(t.order, l.name)
	}
	e[l.kind] = append(e[l.kind], l.id)
}

// list reads things between two brackets, with commas between them.
func (p *parser) list(open, shut byte, what string, thing func() error) error {
	if !p.take(open) {
		return p.wrong(what)
	}
	if p.take(shut) {
		return nil
	}
	for {
		if err := thing(); err != nil {
			return err
		}
		if p.take(shut) {
			return nil
		}
		if !p.take(',') {
			return p.wrong(fmt.Sprintf("%q or %q", ",", string(shut)))
		}
	}
}

// key reads a string and the colon after it.
func (p *parser) key(what string) (string, error) {
	s, err := p.string(what)
	if err != nil {
		return "", err
	}
	if !p.take(':') {
		return "", p.wrong(`":"`)
	}
	return s, nil
}

func (p *parser) string(what string) (string, error) {
	if p.at >= len(p.text) || p.text[p.at] != '"' {
		return "", p.wrong(what + " in quotes")
	}
	p.at++
	var s []byte
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			p.blanks()
			return string(s), nil
		case c == '\\':
			var err error
			if s, err = p.escape(s); err != nil {
				return "", err
			}
		case c < ' ':
			return "", p.wrong("the end of the quoted text")
		default:
			s = append(s, c)
			p.at++
		}
	}
	return "", p.wrong("the end of the quoted text")
}

// escape reads a backslash and what belongs to it.
func (p *parser) escape(s []byte) ([]byte, error) {
	const letters, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if p.at+1 < len(p.text) {
		if i := strings.IndexByte(letters, p.text[p.at+1]); i >= 0 {
			p.at += 2
			return append(s, meant[i]), nil
		}
	}
	c, ok := p.unicode(p.at)
	if !ok {
		return nil, p.wrong("an escape that JSON has")
	}
	if low, ok := p.unicode(p.at + 6); ok {
		if whole := utf16.DecodeRune(c, low); whole != utf8.RuneError {
			p.at += 12
			return utf8.AppendRune(s, whole), nil
		}
	}
	switch {
	case c >= 0xdc80 && c <= 0xdcff:
		s = append(s, byte(c))
	case utf16.IsSurrogate(c):
		return nil, p.wrong("a whole character, not half of one")
	default:
		s = utf8.AppendRune(s, c)
	}
	p.at += 6
	return s, nil
}

// unicode returns the \uXXXX at a place.
func (p *parser) unicode(at int) (rune, bool) {
	if at+6 > len(p.text) || p.text[at] != '\\' || p.text[at+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.text[at+2:at+6]), 16, 16)
	return rune(n), err == nil
}

// take goes past a byte, and the blanks after it, if it is there.
func (p *parser) take(c byte) bool {
	if p.at >= len(p.text) || p.text[p.at] != c {
		return false
	}
	p.at++
	p.blanks()
	return true
}

func (p *parser) blanks() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// wrong says what is expected at the place that the parser has come to.
func (p *parser) wrong(expected string) error {
	before := p.text[:p.at]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	found := "the end of the file"
	if p.at < len(p.text) {
		c, size := utf8.DecodeRune(p.text[p.at:])
		if found = strconv.QuoteRune(c); c == utf8.RuneError && size == 1 {
			found = fmt.Sprintf("the byte %#02x", p.text[p.at])
		}
	}
	return fmt.Errorf("invalid lock file format: line %d, column %d: %s is expected, and there is %s; correct the file, or move it away if no transfer is unfinished",
		line, column, expected, found)
}
