package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bars draws a progress on the last lines of a terminal: the step, the file it
// is at, and, where there is more than one step, the whole run. Log lines
// appear above. A nil *bars draws nothing.
type bars struct {
	progress *progress

	mu     sync.Mutex // guards what is below, never held by a drawing
	screen *mpb.Progress
	rows   []*mpb.Bar
	closed bool
}

func newBars(p *progress) *bars { return &bars{progress: p} }

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
	b.screen = mpb.New(mpb.WithOutput(b.progress.env.Stderr), mpb.WithRefreshRate(200*time.Millisecond))
	for i, row := range []func(*meter, time.Time, int) string{stepRow, fileRow, runRow} {
		draw := func(w io.Writer, stat decor.Statistics) error {
			// A key that the terminal echoes moves the cursor; the row begins
			// at the left all the same.
			_, err := io.WriteString(w, "\r"+b.progress.row(row, stat.AvailableWidth))
			return err
		}
		bar := b.screen.MustAdd(0, mpb.BarFillerFunc(draw), mpb.BarPriority(i), mpb.BarFillerTrim())
		b.rows = append(b.rows, bar)
	}
	b.progress.env.console.draw(b.screen)
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
	b.progress.env.console.withdraw(func() {
		for _, row := range b.rows {
			row.Abort(true)
		}
		b.screen.Wait()
	})
}

func (p *progress) row(row func(*meter, time.Time, int) string, width int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return row(&p.view, p.env.Now(), width)
}

// stepRow is "[2/5] a/monday: 1.2 GiB of ~2.6 GiB (45%), 117.7 MiB/s, 0:00:12 left".
func stepRow(m *meter, now time.Time, width int) string {
	if m.now.Step == 0 {
		return ""
	}
	head := fmt.Sprintf("[%d/%d] ", m.now.Step, m.now.Steps)
	tail := ": " + m.step(now)
	room := width - columns(head) - columns(tail)
	return cut(head+cutLeft(printable(m.now.Path), max(room, 8))+tail, width)
}

func fileRow(m *meter, _ time.Time, width int) string {
	if m.now.File == "" {
		return ""
	}
	return "      " + cutLeft(printable(m.now.File), width-6)
}

func runRow(m *meter, now time.Time, width int) string {
	if m.now.Steps < 2 {
		return ""
	}
	return cut(fmt.Sprintf("all %d: %s", m.now.Steps, m.all(now)), width)
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
