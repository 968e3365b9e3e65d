package hook

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// longestLine is how many bytes of a line are shown.
	longestLine = 4 << 10
	// mostShown is how many bytes of all that a program prints are shown: more than
	// that fills logs, and is read by nobody.
	mostShown = 1 << 20
	// leastOfLine is how many bytes each line counts for at least: a log keeps the
	// time and the program with it.
	leastOfLine = 100
	// stars are shown in the place of a secret.
	stars = "***"
)

// lines hands what a program prints to a log, line by line.
type lines struct {
	log  *slog.Logger
	name string
	hide []string // longest first
	most int      // how long those are

	mu    sync.Mutex
	rest  []byte // the beginning of a line, with as much as shows a secret across the cut
	cut   bool   // there is more of it
	last  string // the last line that says anything
	shown int
}

func newLines(log *slog.Logger, name string, secrets []string) *lines {
	l := &lines{log: log, name: name, hide: hidden(secrets)}
	if len(l.hide) > 0 {
		l.most = len(l.hide[0])
	}
	return l
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		m, end := len(p), bytes.IndexByte(p, '\n')
		if end >= 0 {
			m = end
		}
		take := min(m, longestLine+l.most-len(l.rest))
		l.rest = append(l.rest, p[:take]...)
		l.cut = l.cut || take < m
		p = p[m:]
		if end >= 0 {
			l.end()
			p = p[1:]
		}
	}
	return n, nil
}

// close tells what was printed last.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}

// lastLine is the last line that says anything.
func (l *lines) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// end tells what has come of a line.
func (l *lines) end() {
	text := l.clean()
	l.rest, l.cut = l.rest[:0], false
	if text == "" {
		return
	}
	l.last = text
	switch {
	case l.shown < mostShown:
		l.log.Info(text, "program", l.name)
	case l.shown < mostShown+longestLine*2: // once
		l.log.Warn("it prints very much, and the rest of that is not shown", "program", l.name)
		l.shown += longestLine * 2
	}
	l.shown += max(len(text), leastOfLine)
}

// clean is what is shown of a line.
func (l *lines) clean() string {
	var b strings.Builder
	text := string(l.rest)
	i := 0
	for i < len(text) && i < longestLine {
		if n := secretAt(text[i:], l.hide); n > 0 {
			b.WriteString(stars)
			i += n
			continue
		}
		b.WriteByte(text[i])
		i++
	}
	shown := strings.TrimRight(b.String(), "\r \t")
	// Progress is drawn over itself: what stays of it is the last state.
	shown = strings.ReplaceAll(shown[strings.LastIndexByte(shown, '\r')+1:], "\t", " ")
	if l.cut || i < len(text) {
		shown += " ..."
	}
	return printable(shown)
}

// secretAt is how long the secret is that a text begins with; 0 if with none.
func secretAt(text string, hide []string) int {
	for _, s := range hide {
		if strings.HasPrefix(text, s) {
			return len(s)
		}
	}
	return 0
}

// splitLines returns the lines of a secret that have something in them.
func splitLines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
}

// printable shows foreign text so that terminals and logs survive it.
func printable(text string) string {
	for _, r := range text {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}
