package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/buttersink/buttersink/internal/place"
)

// The files of btrsend, all in the working directory.
const (
	btrsendLog  = ".btrsend.log"
	btrsendHook = ".btrsend-post-hook"
)

// diary is btrsend's log: what programs that read it know has the form that it has
// always had, without times.
type diary struct {
	env  *Env
	file *os.File
	mu   sync.Mutex
	err  error // the first of writing
}

// openDiary opens btrsend's log, which gets all warnings from then on. Standard
// error keeps the errors: nobody else looks at it as a rule.
func (env *Env) openDiary() (*diary, error) {
	// Without waiting: a fifo that nobody reads is an error.
	f, err := os.OpenFile(btrsendLog, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	d := &diary{env: env, file: f}
	if env.Getenv("BUTTERSINK_DEBUG") == "" {
		env.sayFrom(slog.LevelError)
	}
	env.Log = slog.New(slog.NewMultiHandler(env.Log.Handler(), &lines{
		out: &lockedWriter{w: d}, level: slog.LevelWarn,
		format: func(_ slog.Record, text string) string { return "warning: " + text },
	}))
	return d, nil
}

// Write adds whole lines.
func (d *diary) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.file.Write(p)
	if d.err == nil {
		d.err = err
	}
	return n, err
}

// say writes a line.
func (d *diary) say(format string, args ...any) {
	fmt.Fprintln(d, printable(place.Redact(fmt.Sprintf(format, args...))))
}

// warn writes a line that something is not as it should be.
func (d *diary) warn(text string) { d.say("warning: %s", text) }

// failed writes down why the run has failed.
func (d *diary) failed(err error) {
	for _, e := range flatten(err) {
		d.say("Error: %s", strings.TrimSpace(e.Error()))
	}
}

// close ends the log.
func (d *diary) close() {
	if err := errors.Join(d.err, d.file.Close()); err != nil {
		d.env.Log.Error("The log "+btrsendLog+" is not complete", "error", err)
	}
}

// hook runs the user's program, if there is one, whatever has become of the run,
// unless it was interrupted. What it says goes to the log, and how it ends has never
// counted.
func (d *diary) hook(ctx context.Context) {
	if _, err := os.Stat(btrsendHook); err != nil || ctx.Err() != nil {
		return
	}
	d.say("Running %s...", btrsendHook)
	cmd := exec.CommandContext(ctx, "./"+btrsendHook)
	cmd.Stdout, cmd.Stderr = d.file, d.file // and not through us: it may leave something running
	if err := cmd.Run(); err != nil {
		d.warn(fmt.Sprintf("%s: %v", btrsendHook, err))
	}
}

// every is after how many bytes of the stream the log has a line.
const every = 16 << 20

// metered is a stream of which the log tells how it comes in.
type metered struct {
	in      io.Reader
	diary   *diary
	now     func() time.Time
	begun   time.Time
	n, said int64
}

// begin says that nothing has come yet.
func (m *metered) begin() {
	m.begun = m.now()
	m.say()
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.in.Read(p)
	m.n += int64(n)
	if m.n-m.said >= every {
		m.say()
	}
	return n, err
}

func (m *metered) say() {
	m.said = m.n - m.n%every
	rate := 0.0
	if s := m.now().Sub(m.begun).Seconds(); s > 0 {
		rate = float64(m.n) / s
	}
	m.diary.say("Transferred %s (%s/sec)", btrsendSize(float64(m.n)), btrsendSize(rate))
}

// btrsendSize writes a number of bytes as btrsend does: "  1.18 MB".
func btrsendSize(n float64) string {
	units := []string{" B", "KB", "MB", "GB", "TB", "PB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%6s %s", strconv.FormatFloat(math.Round(n*100)/100, 'f', -1, 64), units[i])
}
