package transfer

import (
	"io"
	"time"
)

// party is whom a step waits for.
type party int32

const (
	nobody party = iota // it pauses
	source
	destination
	commit
	copying
	abandoning
)

// String says what is waited for, as a Stalled event does.
func (w party) String() string {
	switch w {
	case source:
		return "waiting for the source to send"
	case destination:
		return "waiting for the destination to take what was sent"
	case commit:
		return "waiting for the destination to make the snapshot durable"
	case copying:
		return "waiting for the destination to copy the snapshot"
	case abandoning:
		return "waiting for the destination to abandon what was written"
	}
	return "pausing"
}

// await notes whom the step waits for from now on. The time comes first: who is
// waited for has not been silent since before.
func (p *position) await(w party) {
	p.touch()
	p.party.Store(int32(w))
}

// touch notes that something has moved.
func (p *position) touch() { p.moved.Store(int64(time.Since(p.run.begun))) }

// stalls sends an event about each step in which nothing has moved for too
// long, and returns after what time to look again.
func (r *run) stalls() time.Duration {
	again := r.StallAfter
	for _, p := range r.active {
		w, moved := party(p.party.Load()), time.Duration(p.moved.Load())
		if w == nobody {
			continue
		}
		if moved != p.silentSince || p.due == 0 {
			p.silentSince, p.due = moved, r.StallAfter
		}
		silent := time.Since(r.begun) - moved
		if silent >= p.due {
			for p.due <= silent {
				p.due *= 2
			}
			p.tell(Event{Kind: Stalled, Wait: silent, Error: w.String()})
		}
		again = min(again, p.due-silent)
	}
	return again
}

// watched is a source's stream whose every byte counts as movement.
type watched struct {
	io.ReadCloser
	p *position
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	if n > 0 {
		w.p.touch()
	}
	return n, err
}
