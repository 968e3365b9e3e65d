package meter

import "time"

const (
	// flowOver and runOver are the times over which the rates of a stream and of
	// a run are taken. A run pauses between its streams, so it takes longer.
	flowOver = 10 * time.Second
	runOver  = 30 * time.Second
	// rateAfter and restAfter are how long something has to be looked at before
	// its rate, and the time that the rest will take, are worth saying.
	rateAfter = 500 * time.Millisecond
	restAfter = 3 * time.Second
	// marksEvery keeps the marks of a rate few, however many streams there are.
	marksEvery = 100 * time.Millisecond
)

// Tempo is how fast something goes: the mean of the last while. Its zero value is
// ready. It is not safe for concurrent use.
type Tempo struct {
	over  time.Duration // which while; 0 is runOver
	begun time.Time
	moved int64  // bytes in all
	marks []mark // oldest first; the first is as old as over, or is the beginning
}

// mark is how many bytes had gone at a moment.
type mark struct {
	at    time.Time
	bytes int64
}

// Add notes that n bytes more have gone. The first call, which may be about none, is
// the beginning.
func (p *Tempo) Add(now time.Time, n int64) {
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
func (p *Tempo) restart(now time.Time) {
	p.begun, p.marks = now, []mark{{now, p.moved}}
}

// Rate returns bytes per second, zero if nothing can be said yet.
func (p *Tempo) Rate(now time.Time) float64 {
	if len(p.marks) == 0 {
		return 0
	}
	first := p.marks[0]
	if took := now.Sub(first.at); took >= rateAfter && p.moved > first.bytes {
		return float64(p.moved-first.bytes) / took.Seconds()
	}
	return 0
}

// Lasts reports whether the rate is worth a guess at the rest.
func (p *Tempo) Lasts(now time.Time) bool { return !p.begun.IsZero() && now.Sub(p.begun) >= restAfter }
