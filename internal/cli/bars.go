package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// flowRows is how many streams have a row of their own.
const flowRows = 4

// bars draws rows on the last lines of a terminal, again and again; log lines
// appear above. A nil *bars draws nothing.
type bars struct {
	env  *Env
	rows func(width int) []string

	mu     sync.Mutex // guards what is below, never held by a drawing
	screen *mpb.Progress
	bar    *mpb.Bar
	closed bool
}

func newBars(env *Env, rows func(width int) []string) *bars { return &bars{env: env, rows: rows} }

// show begins to draw, unless it has begun.
func (b *bars) show() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.screen != nil || b.closed {
		return
	}
	b.screen = mpb.New(mpb.WithOutput(b.env.Stderr), mpb.WithRefreshRate(200*time.Millisecond))
	// The last row is the bar itself, which is asked first; those above it come and
	// go. A key that the terminal echoes moves the cursor, so each row begins with
	// a carriage return.
	var above []string
	last := func(w io.Writer, stat decor.Statistics) error {
		row := ""
		above = b.rows(stat.AvailableWidth)
		if n := len(above); n > 0 {
			above, row = above[:n-1], above[n-1]
		}
		_, err := io.WriteString(w, "\r"+row)
		return err
	}
	rest := func(w io.Writer, _ decor.Statistics) error {
		for _, row := range slices.Backward(above) { // from the bar upwards
			if _, err := io.WriteString(w, "\r"+row+"\n"); err != nil {
				return err
			}
		}
		return nil
	}
	b.bar = b.screen.MustAdd(0, mpb.BarFillerFunc(last), mpb.BarExtender(mpb.BarFillerFunc(rest), true), mpb.BarFillerTrim())
	b.env.console.draw(b.screen)
}

// close removes what is drawn.
func (b *bars) close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	if b.screen == nil {
		return
	}
	b.env.console.withdraw(func() {
		b.bar.Abort(true)
		b.screen.Wait()
	})
}

// rows returns what is to be drawn now.
func (p *progress) rows(width int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return meterRows(&p.view, p.env.Now(), width)
}

// meterRows is the state of a run in lines of a width: one for each stream that is
// going on, up to flowRows of them; where there is but one, the file that it is
// at; and where there is more than one step, the whole run.
func meterRows(m *meter.Meter, now time.Time, width int) []string {
	var rows []string
	for _, f := range m.Flows[:min(len(m.Flows), flowRows)] {
		rows = append(rows, flowRow(f, now, width))
	}
	if len(m.Flows) == 1 && m.Flows[0].Now.File != "" {
		rows = append(rows, "      "+cutLeft(printable(m.Flows[0].Now.File), width-6))
	}
	if m.Steps > 1 {
		rows = append(rows, runRow(m, now, width))
	}
	return rows
}

// flowRow is "[2/5] a/monday: 1.2 GiB of ~2.6 GiB (45%), 117.7 MiB/s, 0:00:12 left".
func flowRow(f *meter.Flow, now time.Time, width int) string {
	head := fmt.Sprintf("[%d/%d] ", f.Now.Step, f.Now.Steps)
	tail := ": " + f.Text(now)
	room := width - columns(head) - columns(tail)
	return cut(head+cutLeft(printable(f.Now.Path), max(room, 8))+tail, width)
}

// runRow is "all 5: 1.2 GiB of ~2.6 GiB (45%), 117.7 MiB/s, 0:00:12 left
// [=====>      ]", the bar where there is room for it.
func runRow(m *meter.Meter, now time.Time, width int) string {
	text := fmt.Sprintf("all %d: %s", m.Steps, m.All(now))
	if more := len(m.Flows) - flowRows; more > 0 {
		text += fmt.Sprintf(", %d more at work", more)
	}
	return withBar(text, m.Done, m.Whole, width)
}

// withBar draws a bar behind a text, where there is room for it and something to
// draw.
func withBar(text string, done int64, whole snapshot.Size, width int) string {
	room := min(width-columns(text)-3, 40)
	if room < 10 || !whole.Known || whole.Bytes <= 0 || done > whole.Bytes {
		return cut(text, width)
	}
	full := int(float64(done) / float64(whole.Bytes) * float64(room))
	bar := strings.Repeat("=", full)
	if full < room {
		bar += ">" + strings.Repeat(" ", room-full-1)
	}
	return text + " [" + bar + "]"
}

// columns is the width of a text on the screen, or a little more: wide
// characters begin somewhere beyond U+1100, and to take one for wide that is
// not only leaves a column empty.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if r >= 0x1100 {
		return 2
	}
	return 1
}

const gap = "..."

// cut takes from the end of a text what does not fit.
func cut(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	width = max(width-len(gap), 0)
	for columns(s) > width {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s + gap
}

// cutLeft takes from the beginning: the end of a path tells more.
func cutLeft(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	width = max(width-len(gap), 0)
	for columns(s) > width {
		_, n := utf8.DecodeRuneInString(s)
		s = s[n:]
	}
	return gap + strings.TrimLeft(s, " ")
}
