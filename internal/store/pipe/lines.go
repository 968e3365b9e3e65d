package pipe

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// longest is how many bytes of a line are shown at a time.
const longest = 4 << 10

// lines hands what a command prints to a log, line by line. Each of its outputs
// needs one of its own.
type lines struct {
	log   *slog.Logger
	what  string     // the snapshot
	rest  []byte     // the beginning of a line
	last  string     // the last line that says anything
	share *allowance // nil if all of it is shown
}

// allowance is how much of what a command prints is still shown, in bytes.
type allowance struct {
	mu   sync.Mutex
	left int
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		m := min(len(p), longest-len(l.rest))
		end := bytes.IndexByte(p[:m], '\n')
		if end >= 0 {
			m = end
		}
		l.rest = append(l.rest, p[:m]...)
		p = p[m:]
		if end >= 0 {
			p = p[1:]
		}
		if end >= 0 || len(l.rest) == longest {
			l.end()
		}
	}
	return n, nil
}

// end tells what has come of a line.
func (l *lines) end() {
	text := strings.TrimRight(string(l.rest), "\r \t")
	l.rest = l.rest[:0]
	// Progress is drawn over itself: what stays of it is the last state.
	text = strings.ReplaceAll(text[strings.LastIndexByte(text, '\r')+1:], "\t", " ")
	if text == "" {
		return
	}
	l.last = printable(text)
	l.show()
}

func (l *lines) show() {
	if l.share == nil {
		l.log.Info(l.last, "snapshot", l.what)
		return
	}
	l.share.mu.Lock()
	defer l.share.mu.Unlock()
	if l.share.left <= 0 {
		return
	}
	l.log.Info(l.last, "snapshot", l.what)
	if l.share.left -= len(l.last); l.share.left <= 0 {
		l.log.Warn("it prints very much, and the rest of that is not shown", "snapshot", l.what)
	}
}

// printable shows foreign text so that terminals survive it.
func printable(text string) string {
	for _, r := range text {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}
