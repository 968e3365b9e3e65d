package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/buttersink/buttersink/internal/place"
)

// console is standard error. Lines and drawn progress share it: while bars are
// on the screen, lines are given to their owner, who puts them above.
type console struct {
	mu    sync.Mutex
	w     io.Writer
	above io.Writer // nil while nothing is drawn
}

// Write writes one or more whole lines.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.above != nil {
		if _, err := c.above.Write(append([]byte("\r"), p...)); err == nil {
			return len(p), nil
		}
	}
	return c.w.Write(p)
}

// draw gives the lines to w from now on. A key that the terminal echoes moves
// the cursor, so they begin with a carriage return.
func (c *console) draw(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.above = w
}

// withdraw ends a drawing by calling end, before which and after which no line
// gets lost.
func (c *console) withdraw(end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end()
	c.above = nil
}

// startLog makes env.Log ready: for the console as quiet and the environment
// say, and, with everything, for the end of the named file unless that is "".
func (env *Env) startLog(quiet int, file string) error {
	env.quiet = quiet
	level := slog.LevelInfo
	switch {
	case env.Getenv("BUTTERSINK_DEBUG") != "":
		level = slog.LevelDebug
	case quiet == 1:
		level = slog.LevelWarn
	case quiet > 1:
		level = slog.LevelError
	}
	env.level.Set(level)
	var handler slog.Handler = &lines{out: &lockedWriter{w: env.console}, level: &env.level, format: env.consoleLine}
	if file != "" {
		// Without waiting: a fifo that nobody reads is an error.
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o644)
		if err != nil {
			return fmt.Errorf("opening the log file: %w", err)
		}
		if info, err := f.Stat(); err == nil && info.IsDir() {
			f.Close()
			return fmt.Errorf("opening the log file: %s is a directory", file)
		}
		env.closers = append(env.closers, f)
		env.file = &lines{out: &lockedWriter{w: f}, level: slog.LevelDebug, format: fileLine}
		handler = slog.NewMultiHandler(handler, env.file)
	}
	env.Log = slog.New(handler)
	return nil
}

// sayFrom has the console show what is of a level or worse.
func (env *Env) sayFrom(level slog.Level) { env.level.Set(level) }

// lines is a slog handler that writes each record as one line of text. Nothing
// in a record can make it two, or reach the terminal as a command.
type lines struct {
	out    *lockedWriter
	level  slog.Leveler
	format func(r slog.Record, text string) string
	prefix string // the names of the open groups, each with a dot
	attrs  string // already written, each with a space before it
	about  string // of what each line is, where there are several at a time
}

type lockedWriter struct {
	mu  sync.Mutex
	w   io.Writer
	err error // the first
}

// logFailure returns the first error of writing the log file.
func (env *Env) logFailure() error {
	if env.file == nil {
		return nil
	}
	env.file.out.mu.Lock()
	defer env.file.out.mu.Unlock()
	return env.file.out.err
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level.Level() }

func (l *lines) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	with := *l
	with.prefix += name + "."
	return &with
}

func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *l
	for _, a := range attrs {
		if a.Key == "destination" && l.prefix == "" { // as all that is said of one
			with.about = a.Value.String() + ": "
			continue
		}
		with.attrs += attrText(l.prefix, a)
	}
	return &with
}

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	message := r.Message
	if !strings.HasPrefix(message, l.about) {
		message = l.about + message
	}
	text := printable(place.Redact(message)) + l.attrs
	r.Attrs(func(a slog.Attr) bool {
		text += attrText(l.prefix, a)
		return true
	})
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	_, err := io.WriteString(l.out.w, l.format(r, text)+"\n")
	if l.out.err == nil {
		l.out.err = err
	}
	return err
}

// attrText writes an attribute as " name=value".
func attrText(prefix string, a slog.Attr) string {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		text := ""
		for _, member := range v.Group() {
			text += attrText(prefix, member)
		}
		return text
	}
	if a.Key == "" {
		return ""
	}
	value := place.Redact(v.String())
	if value == "" || strings.ContainsAny(value, " =\"\\") || printable(value) != value {
		value = strconv.Quote(value)
	}
	return " " + printable(prefix+a.Key) + "=" + value
}

// levelName names a level as ButterSink's log files do.
func levelName(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "ERROR"
	case level >= slog.LevelWarn:
		return "WARNING"
	case level >= slog.LevelInfo:
		return "INFO"
	}
	return "DEBUG"
}

// fileLine writes a line of a log file:
//
//	2026-11-20 23:05:45,498:    INFO:sync.go[347]: message
func fileLine(r slog.Record, text string) string {
	source := "?[0]"
	if r.PC != 0 {
		frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		source = fmt.Sprintf("%s[%d]", filepath.Base(frame.File), frame.Line)
	}
	t := r.Time
	if t.IsZero() {
		t = time.Now()
	}
	t = t.Local()
	return fmt.Sprintf("%s,%03d: %7s:%s: %s",
		t.Format("2006-01-02 15:04:05"), t.Nanosecond()/1e6, levelName(r.Level), source, text)
}

// consoleLine writes a line for people: two spaces, and the level where it is
// more or less than information.
func (env *Env) consoleLine(r slog.Record, text string) string {
	if name := levelName(r.Level); name != "INFO" {
		text = paint(env, r.Level, name+":") + " " + text
	}
	return "  " + text
}

// paint colours a word by level on a terminal, unless NO_COLOR is set.
func paint(env *Env, level slog.Level, word string) string {
	if !env.StderrIsTerminal || env.Getenv("NO_COLOR") != "" || env.Getenv("TERM") == "dumb" {
		return word
	}
	switch {
	case level >= slog.LevelError:
		return "\x1b[31m" + word + "\x1b[0m"
	case level >= slog.LevelWarn:
		return "\x1b[33m" + word + "\x1b[0m"
	}
	return "\x1b[2m" + word + "\x1b[0m"
}
