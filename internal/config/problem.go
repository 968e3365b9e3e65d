package config

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is something wrong in a configuration.
type Problem struct {
	File string
	// At is zero where the file as a whole is meant.
	At Position
	// Message says what it is, in the middle of a sentence. Excerpt is the line, with
	// a mark below; it is empty where there is none to show. Fix says what to do, in
	// whole sentences; it may be empty where the message does.
	Message, Excerpt, Fix string
}

// Place is the position in the form that editors follow: FILE:LINE:COLUMN.
func (p *Problem) Place() string {
	if p.At == (Position{}) {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.At.Line, p.At.Column)
}

func (p *Problem) Error() string {
	lines := []string{p.Place() + ": " + p.Message + "."}
	for _, more := range []string{p.Excerpt, p.Fix} {
		if more != "" {
			lines = append(lines, more)
		}
	}
	return strings.Join(lines, "\n")
}

// Error says what is wrong with a configuration: at least one problem, in order of
// their positions.
type Error struct{ Problems []Problem }

func (e *Error) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap returns each of the problems.
func (e *Error) Unwrap() []error {
	var all []error
	for i := range e.Problems {
		all = append(all, &e.Problems[i])
	}
	return all
}

// maxProblems is how many are told of at most: in a file that is no configuration
// at all, every line is one.
const maxProblems = 100

// document is the text of a configuration.
type document struct {
	path  string
	data  []byte
	lines []int // where each begins
	found []located
	told  map[int]bool // where something is wrong already
	// secret are parts that are never shown.
	secret []span
}

// located is a problem that has not been shown yet.
type located struct {
	span
	message, fix string
}

// span is a part of a document, in bytes.
type span struct{ start, end int }

// nowhere is the span of the file as a whole.
var nowhere = span{-1, -1}

func newDocument(path string, data []byte) *document {
	d := &document{path: path, data: data, lines: []int{0}, told: map[int]bool{}}
	for i, c := range data {
		if c == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	return d
}

// wrong notes a problem. One place has one: what follows from the first is none.
func (d *document) wrong(where span, message, fix string) {
	if where == nowhere || !d.told[where.start] {
		d.told[where.start] = true
		d.lacks(where, message, fix)
	}
}

// lacks notes that something is missing in what is at a place; several things may
// be.
func (d *document) lacks(where span, message, fix string) {
	d.found = append(d.found, located{where, message, fix})
}

// advices are how messages go on that say what is to be done, and how a sentence
// begins that says the same.
var advices = []struct{ after, sentence string }{
	{": want ", "It takes "},
	{"; write ", "Write "},
	{": write ", "Write "},
	{"; leave ", "Leave "},
	{": it is ", "It is "},
	{"; there are ", "There are "},
	{": install ", "Install "},
	{": chmod ", "chmod "},
}

// taken notes what a check has said about a value, and what is to be done: what the
// message says itself, or else the given.
func (d *document) taken(where span, err error, fix string) {
	message, fix := d.advised(where, err, fix)
	d.wrong(where, message, fix)
}

// advised are the message and the advice in what a check has said about a value.
func (d *document) advised(where span, err error, fix string) (string, string) {
	message := err.Error()
	if wanted, ok := strings.CutPrefix(message, "want "); ok {
		message = cover(string(d.data[where.start:where.end])) + " is not possible here: want " + wanted
	}
	for _, a := range advices {
		if i := strings.LastIndex(message, a.after); i >= 0 {
			message, fix = message[:i], a.sentence+message[i+len(a.after):]+"."
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		fix = "Make it, or correct its path."
	}
	return message, fix
}

// problem is what has been found, as it is told.
func (d *document) problem(l located) Problem {
	at, excerpt := d.show(l.span)
	return Problem{File: d.path, At: at, Message: brief(l.message), Excerpt: excerpt, Fix: brief(l.fix)}
}

// err is all of what has been found; nil if nothing is.
func (d *document) err() error {
	slices.SortStableFunc(d.found, func(a, b located) int { return a.start - b.start })
	return asError(len(d.found), func(i int) Problem { return d.problem(d.found[i]) })
}

// asError is the error that tells of so many problems; nil if there are none.
func asError(n int, problem func(i int) Problem) error {
	if n == 0 {
		return nil
	}
	e := &Error{}
	for i := range min(n, maxProblems+1) {
		p := problem(i)
		if i == maxProblems {
			p.Message, p.Fix = fmt.Sprintf("from here on there are %d more problems", n-i), "Begin with those above."
		}
		e.Problems = append(e.Problems, p)
	}
	return e
}

// brief is a text of a length that somebody reads.
func brief(text string) string {
	const most = 500
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// position is where a byte is.
func (d *document) position(offset int) Position {
	line := sort.SearchInts(d.lines, offset+1) - 1
	return Position{Line: line + 1, Column: utf8.RuneCount(d.data[d.lines[line]:offset]) + 1}
}

// columns is how much of a line is shown, and nearby how many bytes of it are looked
// at on either side of a place.
const (
	columns = 100
	nearby  = 4096
)

// show is where a part of the document is, and what it looks like: the line, and
// below it a mark. What may be secret is covered.
func (d *document) show(where span) (Position, string) {
	if where == nowhere {
		return Position{}, ""
	}
	at := d.position(where.start)
	end := len(d.data)
	if at.Line < len(d.lines) {
		end = d.lines[at.Line] - 1
	}
	end = min(end, where.start+nearby)
	begin := max(d.lines[at.Line-1], where.start-nearby)
	marked := max(1, utf8.RuneCount(d.data[where.start:min(max(where.end, where.start), max(end, where.start))]))
	text := []rune(cover(strings.TrimRight(d.shown(begin, end), "\r")))
	before := utf8.RuneCount(d.data[begin:where.start])
	if cut := before - columns/2; len(text) > columns && cut > 0 {
		text = append([]rune("... "), text[min(cut, len(text)):]...)
		before += 4 - cut
	}
	if len(text) > columns {
		text = append(text[:columns:columns], []rune(" ...")...)
	}
	marked = max(1, min(marked, len(text)-before))
	number := fmt.Sprintf("%5d", at.Line)
	return at, fmt.Sprintf("%s | %s\n%s | %s%s", number, string(text),
		strings.Repeat(" ", len(number)), strings.Repeat(" ", before), strings.Repeat("^", marked))
}

// shown is a part of the document as it may be shown, one character for each.
func (d *document) shown(begin, end int) string {
	var b strings.Builder
	for i, c := range string(d.data[begin:end]) {
		switch at := begin + i; {
		case slices.ContainsFunc(d.secret, func(s span) bool { return s.start <= at && at < s.end }):
			c = '*'
		case c == '\t':
			c = ' '
		case !strconv.IsPrint(c) && c != '\r':
			c = utf8.RuneError
		}
		b.WriteRune(c)
	}
	return b.String()
}

// The parts of URLs that may be secret: a password, and whatever is behind the host
// of a web page that is told how a job went. And what a key is given that says so of
// itself; there is none of that kind, but somebody may write one.
var (
	password = regexp.MustCompile(`(://[^/\s:@"']*:)([^\s"']+)(@)`)
	page     = regexp.MustCompile(`(?i)(https?://[^/\s"']+/)([^\s"']+)()`)
	ageKey   = regexp.MustCompile(`(?i)(AGE-SECRET-KEY-[A-Z0-9-]*1)([A-Z0-9]+)()`)
	option   = regexp.MustCompile(`(?i)([?&][^=&\s"']*(?:secret|passw|token)[^=&\s"']*=)([^&\s"']+)()`)
	named    = regexp.MustCompile(`(?i)((?:secret|passw|token)[\w-]*\s*=\s*["'])([^"']+)()`)
)

// cover puts stars in the place of what may be secret in a line, as many as there
// were characters.
func cover(line string) string {
	for _, form := range []*regexp.Regexp{password, page, ageKey, option, named} {
		line = form.ReplaceAllStringFunc(line, func(found string) string {
			parts := form.FindStringSubmatch(found)
			return parts[1] + strings.Repeat("*", utf8.RuneCountInString(parts[2])) + parts[3]
		})
	}
	return line
}
