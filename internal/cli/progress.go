package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/transfer"
)

// plainEvery is the time between two lines about a run where nothing is drawn.
const plainEvery = time.Minute

// progress shows the events of a run to whoever looks on: drawn on a terminal,
// as a line now and then elsewhere, as JSON to programs, and not at all to
// those who want quiet.
type progress struct {
	env   *Env
	json  bool
	out   *records
	bars  *bars // nil unless drawn
	quiet bool
	// destination is the one of several that it is about, and prefix what its lines
	// begin with; the bars are shared by all of them then. Both are "" otherwise.
	destination, prefix string

	mu   sync.Mutex // held while nothing is written
	view meter.Meter
	told time.Time // when the last line was about how far it is, or the first step began
}

// newProgress returns what shows a run; close has to be called when it is over.
func (env *Env) newProgress(asJSON bool) *progress {
	p := &progress{env: env, json: asJSON, out: newRecords(env.Stdout), quiet: env.quiet > 0}
	if !asJSON && !p.quiet && env.canDraw() {
		p.bars = newBars(env, p.rows)
	}
	return p
}

// canDraw reports whether standard error is a screen on which lines can be
// overwritten.
func (env *Env) canDraw() bool {
	return env.StderrIsTerminal && env.Getenv("TERM") != "dumb" && env.Width() > 0
}

// begin forgets what has been: the steps of another plan follow.
func (p *progress) begin() {
	if p.bars != nil && p.destination == "" {
		p.bars.close()
		p.bars = newBars(p.env, p.rows)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view, p.told = meter.Meter{}, time.Time{}
}

// emit prints a record for programs. An error stays with standard output, where
// Main finds it.
func (p *progress) emit(record any) { p.out.put(record) }

// event shows one event. The line that says that a step begins is not its
// business.
func (p *progress) event(e transfer.Event) {
	if p.json {
		if e.Kind != transfer.Progress || !p.quiet {
			if p.destination == "" {
				p.emit(e)
			} else {
				p.emit(destinationEvent{e, p.destination})
			}
		}
		p.note(e)
		return
	}
	now := p.env.Now()
	p.mu.Lock()
	f := p.view.Take(e, now)
	if e.Kind == transfer.StepBegun && p.told.IsZero() {
		p.told = now
	}
	line := ""
	if e.Kind == transfer.Progress && p.bars == nil && now.Sub(p.told) >= plainEvery {
		p.told = now
		line = p.view.Line(now)
	}
	took, carried := time.Duration(0), e.Bytes
	if f != nil {
		took, carried = now.Sub(f.Begun), e.Bytes-f.Spare
	}
	p.mu.Unlock()

	switch e.Kind {
	case transfer.StepBegun:
		p.bars.show()
	case transfer.Resumed:
		line = fmt.Sprintf("%s: carried on from its last checkpoint, after %s", e.Path, meter.Bytes(e.Bytes))
	case transfer.Stalled:
		line = fmt.Sprintf("%s: nothing has moved for %s: %s", e.Path, meter.Span(e.Wait), e.Error)
	case transfer.Committed:
		if e.Action == plan.Copy {
			line = fmt.Sprintf("%s: copied in %s", e.Path, meter.Took(took))
			break
		}
		line = fmt.Sprintf("%s: %s in %s", e.Path, meter.Bytes(e.Bytes), meter.Took(took))
		if rate := meter.Rate(carried, took); rate != "" {
			line += ", " + rate
		}
		line += meter.Skipped(e.Skipped)
	case transfer.Retry:
		p.env.Log.Warn(p.prefix + retryText(e))
	case transfer.Failed:
		line = fmt.Sprintf("%s: failed: %s", e.Path, e.Error)
	case transfer.Skipped:
		line = fmt.Sprintf("%s: skipped: %s", e.Path, e.Error)
	case transfer.Warning:
		p.env.Log.Warn(fmt.Sprintf("%s%s: %s", p.prefix, e.Path, e.Error))
	case transfer.Done:
		if p.destination == "" {
			p.bars.close()
		}
	}
	if line != "" && !p.quiet {
		p.env.Log.Info(p.prefix + line)
	}
}

// note writes to the log file what became of a step, where it is told to a
// program and not to people.
func (p *progress) note(e transfer.Event) {
	switch e.Kind {
	case transfer.Resumed, transfer.Retry, transfer.Committed, transfer.Failed, transfer.Skipped, transfer.Warning:
		about := []any{"snapshot", e.Path, "bytes", e.Bytes}
		if p.destination != "" {
			about = append(about, "destination", p.destination)
		}
		if e.Error != "" {
			about = append(about, "because", e.Error)
		}
		p.env.Log.Debug(string(e.Kind), about...)
	}
}

// close takes away what is drawn, and leaves the terminal as it was. It may be
// called more than once.
func (p *progress) close() { p.bars.close() }

// retryText says why a step begins again, and when.
func retryText(e transfer.Event) string {
	if e.Wait <= 0 {
		return fmt.Sprintf("%s: %s; it begins again", e.Path, e.Error)
	}
	return fmt.Sprintf("%s: %s; trying again in %s", e.Path, e.Error, meter.Duration(e.Wait))
}
