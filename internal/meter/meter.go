// Package meter says how much there is, how far a run is, how fast it goes and how long
// the rest will take, in the words in which people are told. It knows the events of a
// transfer and the clock that it is given, and nothing of terminals, logs and flags:
// what is drawn where, and how often, is its callers' affair.
//
// A [Meter] follows a run by its events, a [Tempo] anything that moves. A rate is that of
// the last while and not of the whole, and what an earlier transfer has carried is no
// part of it. Nothing is said too early: no rate in the first half second, no rest in
// the first three, and none of a whole that has turned out too small.
//
// Sizes are written as ButterSink writes them, with four digits and powers of 1024, since
// people's scripts read them; [ParseBytes] reads those, and what else people write.
//
//	m.Take(event, now)
//	fmt.Println(m.Line(now)) // 2 of 5 done, 1.2 GiB of ~2.6 GiB (45%), 117.7 MiB/s, 0:00:12 left
package meter

import (
	"fmt"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// silence is the time after which it is worth saying that nothing moves.
const silence = 10 * time.Second

// Meter knows how far a run has come. Its zero value is ready. It is not safe for
// concurrent use. The fields are for reading.
type Meter struct {
	Steps int           // of the plan
	Done  int64         // bytes, of all steps
	Whole snapshot.Size // what they will be at the end
	Flows []*Flow       // the steps that are going on, in the order in which they began

	ended map[int]bool // the numbers of the steps that have
	pace  Tempo        // of all of them
}

// Flow is a step that is going on. The fields are for reading.
type Flow struct {
	Now   transfer.Event // the last event
	Begun time.Time
	Spare int64 // bytes that an earlier transfer has carried

	moved time.Time // when Bytes last changed
	pace  Tempo
	waits string // what it waits for, if nothing moves
}

// Take notes an event. It returns the flow that the event is about, also if it
// has ended with it, or nil.
func (m *Meter) Take(e transfer.Event, now time.Time) *Flow {
	m.Steps, m.Done = e.Steps, e.TotalBytes
	m.Whole = snapshot.Size{Bytes: e.TotalExpected, Known: e.TotalKnown, Exact: e.TotalExact}
	i := slices.IndexFunc(m.Flows, func(f *Flow) bool { return f.Now.Step == e.Step })
	if e.Kind == transfer.StepBegun && i < 0 {
		m.pace.Add(now, 0)
		f := &Flow{Now: e, Begun: now, moved: now}
		f.pace.over = flowOver
		f.pace.Add(now, 0)
		m.Flows = append(m.Flows, f)
		return f
	}
	var f *Flow
	if i >= 0 {
		f = m.Flows[i]
	}
	switch e.Kind {
	case transfer.Progress:
		if f == nil {
			return nil
		}
		n := e.Bytes - f.Now.Bytes
		if n != 0 {
			f.moved, f.waits = now, ""
		}
		if e.Comparing {
			n = 0 // nothing is carried
		}
		f.pace.Add(now, max(n, 0))
		m.pace.Add(now, max(n, 0))
		f.Now = e
	case transfer.Resumed:
		if f != nil {
			f.Now, f.moved, f.waits, f.Spare = e, now, "", e.Bytes
			f.pace.restart(now)
		}
	case transfer.Retry:
		if f != nil {
			f.Now, f.Now.Bytes, f.Now.File = e, 0, ""
			f.moved, f.waits, f.Spare = now, "", 0
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
			m.Flows = slices.Delete(m.Flows, i, i+1)
		}
	}
	return f
}

// Ended is how many steps have ended, well or not.
func (m *Meter) Ended() int { return len(m.ended) }

// All says how far the run is.
func (m *Meter) All(now time.Time) string {
	rate := m.pace.Rate(now)
	if len(m.Flows) > 0 && !slices.ContainsFunc(m.Flows, func(f *Flow) bool { return now.Sub(f.moved) < silence }) {
		rate = 0
	}
	return Amount(m.Done, m.Whole, rate, m.pace.Lasts(now))
}

// Line is the run in one line, for those who cannot be drawn to.
func (m *Meter) Line(now time.Time) string {
	if m.Steps < 2 && len(m.Flows) == 1 {
		return m.Flows[0].Now.Path + ": " + m.Flows[0].Text(now)
	}
	return fmt.Sprintf("%d of %d done, %s", len(m.ended), m.Steps, m.All(now))
}

// Text says how far the step is.
func (f *Flow) Text(now time.Time) string {
	whole := snapshot.Size{Bytes: f.Now.Expected, Known: f.Now.Expected > 0, Exact: f.Now.Exact}
	still := now.Sub(f.moved)
	if f.Now.Comparing && f.Now.Kind == transfer.Progress {
		return Amount(f.Now.Bytes, whole, 0, false) + ", comparing with what has arrived"
	}
	if still < silence {
		return Amount(f.Now.Bytes, whole, f.pace.Rate(now), f.pace.Lasts(now)) + Skipped(f.Now.Skipped)
	}
	text := Amount(f.Now.Bytes, whole, 0, false) + ", nothing has moved for " + Span(still)
	if f.waits != "" {
		text += ": " + f.waits
	}
	return text
}
