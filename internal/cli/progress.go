package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

const (
	// plainEvery is the time between two lines about one step where nothing is
	// drawn.
	plainEvery = 30 * time.Second
	// paceOver is the time over which a rate is taken, and after which silence
	// is worth a word.
	paceOver = 10 * time.Second
)

// progress shows the events of a run to whoever looks on: drawn on a terminal,
// as a line now and then elsewhere, as JSON to programs, and not at all to
// those who want quiet.
type progress struct {
	env   *Env
	json  bool
	out   *records
	bars  *bars // nil unless drawn
	quiet bool

	mu   sync.Mutex // held while nothing is written
	view meter
}

// newProgress returns what shows a run; close has to be called when it is over.
func (env *Env) newProgress(asJSON bool) *progress {
	p := &progress{env: env, json: asJSON, out: newRecords(env.Stdout), quiet: env.quiet > 0}
	if !asJSON && !p.quiet && env.canDraw() {
		p.bars = newBars(p)
	}
	return p
}

// canDraw reports whether standard error is a screen on which lines can be
// overwritten.
func (env *Env) canDraw() bool {
	return env.StderrIsTerminal && env.Getenv("TERM") != "dumb" && env.Width() > 0
}

// expect says what is going to come, from the first step on.
func (p *progress) expect(o *job.Outlook) {
	sizes := make([]snapshot.Size, len(o.Steps))
	for i, s := range o.Steps {
		sizes[i] = s.Size
	}
	if p.bars != nil {
		p.bars.close()
		p.bars = newBars(p)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view = meter{expected: sizes}
}

// emit prints a record for programs. An error stays with standard output, where
// Main finds it.
func (p *progress) emit(record any) { p.out.put(record) }

// event shows one event. The line that says that a step begins is not its
// business.
func (p *progress) event(e transfer.Event) {
	if p.json {
		if e.Kind != transfer.Progress || !p.quiet {
			p.emit(e)
		}
		return
	}
	now := p.env.Now()
	p.mu.Lock()
	p.view.take(e, now)
	begun := p.view.begun
	line := ""
	if e.Kind == transfer.Progress && p.bars == nil && now.Sub(p.view.told) >= plainEvery {
		p.view.told = now
		line = p.view.line(now)
	}
	p.mu.Unlock()

	switch e.Kind {
	case transfer.StepBegun:
		p.bars.show()
	case transfer.Committed:
		line = fmt.Sprintf("%s: %s in %s", e.Path, humanSize(e.Bytes), durationText(now.Sub(begun)))
		if rate := rateText(e.Bytes, now.Sub(begun)); rate != "" {
			line += ", " + rate
		}
	case transfer.Retry:
		p.env.Log.Warn(fmt.Sprintf("%s: %s; trying again in %s", e.Path, e.Error, durationText(e.Wait)))
	case transfer.Failed:
		line = fmt.Sprintf("%s: failed: %s", e.Path, e.Error)
	case transfer.Skipped:
		line = fmt.Sprintf("%s: skipped: %s", e.Path, e.Error)
	case transfer.Warning:
		p.env.Log.Warn(fmt.Sprintf("%s: %s", e.Path, e.Error))
	case transfer.Done:
		p.bars.close()
	}
	if line != "" && !p.quiet {
		p.env.Log.Info(line)
	}
}

// close takes away what is drawn, and leaves the terminal as it was. It may be
// called more than once.
func (p *progress) close() { p.bars.close() }

// meter knows how far a run has come. It is not safe for concurrent use.
type meter struct {
	expected []snapshot.Size // of each step
	ended    int64           // bytes of the steps that are over
	over     map[int]bool    // the numbers of those

	now   transfer.Event // the last event of the step that is going on
	begun time.Time      // the step
	told  time.Time      // when a line about it was last printed
	moved time.Time      // when Bytes last changed
	marks []mark         // of the last paceOver, oldest first
}

// mark is how many bytes of a step had gone at a moment.
type mark struct {
	at    time.Time
	bytes int64
}

func (m *meter) take(e transfer.Event, now time.Time) {
	switch e.Kind {
	case transfer.StepBegun:
		m.begun, m.told, m.moved = now, now, now
		m.marks = []mark{{now, 0}}
		m.now = e
	case transfer.Retry:
		m.marks = []mark{{now, 0}}
		m.now = e
		m.now.Bytes = 0
	case transfer.Progress:
		if e.Bytes != m.now.Bytes {
			m.moved = now
		}
		m.now = e
		m.marks = append(m.marks, mark{now, e.Bytes})
		for len(m.marks) > 2 && now.Sub(m.marks[1].at) >= paceOver {
			m.marks = m.marks[1:]
		}
	case transfer.Committed, transfer.Failed, transfer.Skipped, transfer.Interrupted:
		if m.over == nil {
			m.over = map[int]bool{}
		}
		m.over[e.Step] = true
		m.ended += e.Bytes
		m.now = transfer.Event{Steps: e.Steps}
	}
}

// pace returns bytes per second, zero if nothing can be said yet.
func (m *meter) pace(now time.Time) float64 {
	if len(m.marks) == 0 {
		return 0
	}
	first := m.marks[0]
	took := now.Sub(first.at).Seconds()
	if took < 0.5 || m.now.Bytes <= first.bytes {
		return 0
	}
	return float64(m.now.Bytes-first.bytes) / took
}

// amount writes how much of a whole is done, and when the rest will be:
// "1.2 GiB of ~2.6 GiB (45%), 117.7 MiB/s, 0:00:12 left". A whole that turned
// out too small is not mentioned any more.
func amount(done int64, whole snapshot.Size, pace float64) string {
	text := humanSize(done)
	inTime := whole.Known && whole.Bytes > 0 && done <= whole.Bytes
	if inTime {
		text += fmt.Sprintf(" of %s (%d%%)", sizeText(whole), int64(100*float64(done)/float64(whole.Bytes)))
	}
	if pace > 0 {
		text += ", " + humanSize(pace) + "/s"
		if inTime {
			text += ", " + durationText(time.Duration(float64(whole.Bytes-done)/pace*float64(time.Second))) + " left"
		}
	}
	return text
}

// step says how far the step is that is going on.
func (m *meter) step(now time.Time) string {
	whole := snapshot.Size{Bytes: m.now.Expected, Known: m.now.Expected > 0, Exact: m.now.Exact}
	text := amount(m.now.Bytes, whole, m.pace(now))
	if still := now.Sub(m.moved); still >= paceOver {
		text += ", nothing moves since " + durationText(still)
	}
	return text
}

// all says how far the run is.
func (m *meter) all(now time.Time) string {
	done := m.ended + m.now.Bytes
	whole := snapshot.Size{Bytes: done, Known: true, Exact: true}
	for i, s := range m.expected {
		if m.over[i+1] {
			continue
		}
		whole.Known, whole.Exact = whole.Known && s.Known, whole.Exact && s.Exact
		whole.Bytes += s.Bytes
		if m.now.Step == i+1 {
			whole.Bytes -= min(m.now.Bytes, s.Bytes)
		}
	}
	return amount(done, whole, m.pace(now))
}

// line is the step in one line, for those who cannot be drawn to.
func (m *meter) line(now time.Time) string {
	return fmt.Sprintf("[%d/%d] %s: %s", m.now.Step, m.now.Steps, m.now.Path, m.step(now))
}
