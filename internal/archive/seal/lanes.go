package seal

import (
	"context"
)

// lanes cuts what is written into blocks, has several of them worked on at a
// time, and puts the results out in order. Only the work is done elsewhere: put
// is called by whoever writes.
type lanes struct {
	ctx   context.Context
	size  int // of a block
	depth int // how many may be worked on or wait for it
	slots chan struct{}
	// work makes out of block number index, appending to out. last is set for the
	// one that ends the stream. It is called by several goroutines.
	work func(index uint64, last bool, in, out []byte) []byte
	// put takes what has been made of n bytes.
	put func(n int, out []byte) error

	current *lane
	queue   []*lane // worked on, the oldest first
	free    []*lane
	next    uint64
}

type lane struct {
	in, out []byte
	done    chan struct{}
}

func newLanes(ctx context.Context, workers, size int) *lanes {
	return &lanes{ctx: ctx, size: size, depth: workers + 1, slots: make(chan struct{}, workers)}
}

// Write takes bytes of the stream. A full block is only started when it is known
// that it is not the last.
func (l *lanes) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if l.current != nil && len(l.current.in) == l.size {
			l.start(false)
		}
		if l.current == nil {
			if l.current, err = l.take(); err != nil {
				return n, err
			}
		}
		b := l.current
		m := min(l.size-len(b.in), len(p)-n)
		b.in = append(b.in, p[n:n+m]...)
		n += m
	}
	return n, nil
}

// finish has the last block worked on and puts everything out. An empty stream
// has a last block too, if one is wanted.
func (l *lanes) finish(empty bool) (err error) {
	if l.current == nil && l.next == 0 && empty {
		if l.current, err = l.take(); err != nil {
			return err
		}
	}
	if l.current != nil {
		l.start(true)
	}
	for len(l.queue) > 0 {
		if err := l.drain(); err != nil {
			return err
		}
	}
	return nil
}

// start hands the current block to the workers.
func (l *lanes) start(last bool) {
	b, index := l.current, l.next
	l.current = nil
	l.next++
	l.queue = append(l.queue, b)
	go func() {
		l.slots <- struct{}{}
		b.out = l.work(index, last, b.in, b.out[:0])
		<-l.slots
		b.done <- struct{}{}
	}()
}

// take returns an empty block, after putting out what is ready, or what has to be
// ready first.
func (l *lanes) take() (*lane, error) {
	for len(l.queue) > 0 && (len(l.queue) >= l.depth || len(l.queue[0].done) > 0) {
		if err := l.drain(); err != nil {
			return nil, err
		}
	}
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b, nil
	}
	b := &lane{done: make(chan struct{}, 1)}
	if l.next > 0 { // the first grows, as it may be the only one
		b.in = make([]byte, 0, l.size)
	}
	return b, nil
}

// drain puts the oldest block out.
func (l *lanes) drain() error {
	b := l.queue[0]
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	select {
	case <-b.done:
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
	l.queue = append(l.queue[:0], l.queue[1:]...)
	if err := l.put(len(b.in), b.out); err != nil {
		return err
	}
	b.in = b.in[:0]
	l.free = append(l.free, b)
	return nil
}
