package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

const (
	// flowOver and runOver are the times over which the rates of a stream and of
	// a run are taken. A run pauses between its streams, so it takes longer.
	flowOver = 10 * time.Second
	runOver  = 30 * time.Second
	// rateAfter and restAfter are how long something has to be looked at before
	// its rate, and the time that the rest will take, are worth saying.
	rateAfter = 500 * time.Millisecond
	restAfter = 3 * time.Second
	// silence is the time after which it is worth saying that nothing moves.
	silence = 10 * time.Second
	// marksEvery keeps the marks of a rate few, however many streams there are.
	marksEvery = 100 * time.Millisecond
)

// meter knows how far a run has come. It is not safe for concurrent use.
type meter struct {
	steps int          // of the plan
	ended map[int]bool // the numbers of those that have
	done  int64        // bytes
	whole snapshot.Size

	flows []*flow // the steps that are going on, in the order in which they began
	pace  tempo   // of all of them
	told  time.Time
}

// flow is a step that is going on.
type flow struct {
	now   transfer.Event // the last event
	begun time.Time
	moved time.Time // when Bytes last changed
	pace  tempo
	spare int64  // bytes that an earlier transfer has carried
	waits string // what it waits for, if nothing moves
}

// take notes an event. It returns the flow that the event is about, also if it
// has ended with it, or nil.
func (m *meter) take(e transfer.Event, now time.Time) *flow {
	m.steps, m.done = e.Steps, e.TotalBytes
	m.whole = snapshot.Size{Bytes: e.TotalExpected, Known: e.TotalKnown, Exact: e.TotalExact}
	i := slices.IndexFunc(m.flows, func(f *flow) bool { return f.now.Step == e.Step })
	if e.Kind == transfer.StepBegun && i < 0 {
		if m.told.IsZero() {
			m.told = now
		}
		m.pace.add(now, 0)
		f := &flow{now: e, begun: now, moved: now}
		f.pace.over = flowOver
		f.pace.add(now, 0)
		m.flows = append(m.flows, f)
		return f
	}
	var f *flow
	if i >= 0 {
		f = m.flows[i]
	}
	switch e.Kind {
	case transfer.Progress:
		if f == nil {
			return nil
		}
		n := e.Bytes - f.now.Bytes
		if n != 0 {
			f.moved, f.waits = now, ""
		}
		if e.Comparing {
			n = 0 // nothing is carried
		}
		f.pace.add(now, max(n, 0))
		m.pace.add(now, max(n, 0))
		f.now = e
	case transfer.Resumed:
		if f != nil {
			f.now, f.moved, f.waits, f.spare = e, now, "", e.Bytes
			f.pace.restart(now)
		}
	case transfer.Retry:
		if f != nil {
			f.now, f.now.Bytes, f.now.File = e, 0, ""
			f.moved, f.waits, f.spare = now, "", 0
			f.pace.restart(now)
		}
	case transfer.Stalled:
		if f != nil {
			f.waits = e.Error
		}
	case transfer.Committed, transfer.Failed, transfer.Skipped, transfer.Interrupted:
		if m.ended == nil {
			m.ended = map[int]bool{}
		}
		m.ended[e.Step] = true
		if f != nil {
			m.flows = slices.Delete(m.flows, i, i+1)
		}
	}
	return f
}

// all says how far the run is.
func (m *meter) all(now time.Time) string {
	rate := m.pace.rate(now)
	if len(m.flows) > 0 && !slices.ContainsFunc(m.flows, func(f *flow) bool { return now.Sub(f.moved) < silence }) {
		rate = 0
	}
	return amount(m.done, m.whole, rate, m.pace.lasts(now))
}

// line is the run in one line, for those who cannot be drawn to.
func (m *meter) line(now time.Time) string {
	if m.steps < 2 && len(m.flows) == 1 {
		return m.flows[0].now.Path + ": " + m.flows[0].text(now)
	}
	return fmt.Sprintf("%d of %d done, %s", len(m.ended), m.steps, m.all(now))
}

// text says how far the step is.
func (f *flow) text(now time.Time) string {
	whole := snapshot.Size{Bytes: f.now.Expected, Known: f.now.Expected > 0, Exact: f.now.Exact}
	still := now.Sub(f.moved)
	if f.now.Comparing && f.now.Kind == transfer.Progress {
		return amount(f.now.Bytes, whole, 0, false) + ", comparing with what has arrived"
	}
	if still < silence {
		return amount(f.now.Bytes, whole, f.pace.rate(now), f.pace.lasts(now)) + skippedText(f.now.Skipped)
	}
	text := amount(f.now.Bytes, whole, 0, false) + ", nothing has moved for " + spanText(still)
	if f.waits != "" {
		text += ": " + f.waits
	}
	return text
}

// amount writes how much of a whole is done, and, if rest is set, when the rest
// will be: "1.2 GiB of ~2.6 GiB (45%), 117.7 MiB/s, 0:00:12 left". A whole that
// turned out too small is not mentioned any more.
func amount(done int64, whole snapshot.Size, rate float64, rest bool) string {
	text := humanSize(done)
	inTime := whole.Known && whole.Bytes > 0 && done <= whole.Bytes
	if inTime {
		text += fmt.Sprintf(" of %s (%d%%)", sizeText(whole), int64(100*float64(done)/float64(whole.Bytes)))
	}
	if rate > 0 {
		text += ", " + humanSize(rate) + "/s"
		if left := float64(whole.Bytes-done) / rate; inTime && rest && left >= 1 {
			text += ", " + durationText(time.Duration(left*float64(time.Second))) + " left"
		}
	}
	return text
}

// tempo is how fast something goes: the mean of the last while.
type tempo struct {
	over  time.Duration
	begun time.Time
	moved int64  // bytes in all
	marks []mark // oldest first; the first is as old as over, or is the beginning
}

// mark is how many bytes had gone at a moment.
type mark struct {
	at    time.Time
	bytes int64
}

func (p *tempo) add(now time.Time, n int64) {
	if p.begun.IsZero() {
		p.restart(now)
	}
	p.moved += n
	if last := &p.marks[len(p.marks)-1]; len(p.marks) > 1 && now.Sub(last.at) < marksEvery {
		last.bytes = p.moved
		return
	}
	p.marks = append(p.marks, mark{now, p.moved})
	over := p.over
	if over == 0 {
		over = runOver
	}
	for len(p.marks) > 2 && now.Sub(p.marks[1].at) >= over {
		p.marks = p.marks[1:]
	}
}

// restart forgets how fast it was.
func (p *tempo) restart(now time.Time) {
	p.begun, p.marks = now, []mark{{now, p.moved}}
}

// rate returns bytes per second, zero if nothing can be said yet.
func (p *tempo) rate(now time.Time) float64 {
	if len(p.marks) == 0 {
		return 0
	}
	first := p.marks[0]
	if took := now.Sub(first.at); took >= rateAfter && p.moved > first.bytes {
		return float64(p.moved-first.bytes) / took.Seconds()
	}
	return 0
}

// lasts reports whether the rate is worth a guess at the rest.
func (p *tempo) lasts(now time.Time) bool { return !p.begun.IsZero() && now.Sub(p.begun) >= restAfter }
