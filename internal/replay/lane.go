package replay

import (
	"bytes"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/stream"
)

// What is done to an open regular file is done by one goroutine beside the one
// that reads the stream and makes names: writing, and setting what a file has
// besides its content. It does so in the order of the commands, in batches, since
// waking it costs as much as a small file. Names and contents do not depend on
// each other, so the receiver waits for it (drain) only where it looks at a
// regular file by another way than the descriptor at hand.
//
// An error of it is met a little later, and is blamed on the command that it is
// of; nothing is done to files after it.

// The bounds of a batch. Three are in use at most.
const (
	batchBytes   = 512 << 10
	batchFiles   = 32
	batchOps     = 512
	batchesInUse = 3
)

// op is one thing to do to an open file. Of the fields those are set that its
// kind needs.
type op struct {
	kind  stream.Kind // 0: close it
	fd    int
	place place
	fresh bool             // see openFile
	ts    [2]unix.Timespec // of Utimes
	mode  uint32           // of Chmod, Fallocate
	off   uint64           // FileOffset, or uid
	size  uint64           // or gid
	name  string           // of an attribute
	data  []byte
	whole *stream.Command // of EncodedWrite; Data is data
}

// laneError is an error with the command that it is of.
type laneError struct {
	place place
	err   error
}

func (e *laneError) Error() string { return e.err.Error() }
func (e *laneError) Unwrap() error { return e.err }

type batch struct {
	ops   []op
	files int
	buf   []byte
	done  chan<- struct{} // closed when all is done; may be nil
}

// lane is the goroutine and the way to it.
type lane struct {
	r    *Receiver
	fill *batch // what is being filled; nil: none
	made int    // batches
	free chan *batch
	work chan *batch // nil: not running
	over chan struct{}
	err  atomic.Pointer[laneError] // the first
	left atomic.Int32              // batches handed over and not done
}

// failed returns the error that has come up, or nil.
func (l *lane) failed() error {
	if e := l.err.Load(); e != nil {
		return e
	}
	return nil
}

// add puts an operation into the lane. Its path and data are copied.
func (l *lane) add(o op) error {
	if err := l.failed(); err != nil && o.kind != 0 {
		return err
	}
	need := len(o.data) + len(o.place.path)
	if b := l.fill; b != nil && (len(b.buf)+need > cap(b.buf) || len(b.ops) == cap(b.ops) || b.files >= batchFiles) {
		l.flush()
	}
	if l.fill == nil {
		l.fill = l.take()
	}
	b := l.fill
	if need > cap(b.buf) {
		o.data, o.place.path = bytes.Clone(o.data), bytes.Clone(o.place.path)
	} else {
		o.data, o.place.path = b.keep(o.data), b.keep(o.place.path)
	}
	if o.kind == 0 {
		b.files++
	}
	b.ops = append(b.ops, o)
	return nil
}

func (b *batch) keep(p []byte) []byte {
	at := len(b.buf)
	b.buf = append(b.buf, p...)
	return b.buf[at:]
}

// take returns an empty batch, when there is one.
func (l *lane) take() *batch {
	if l.work == nil {
		l.start()
	}
	if l.made < batchesInUse {
		select {
		case b := <-l.free:
			return b
		default:
		}
		l.made++
		return &batch{ops: make([]op, 0, batchOps), buf: make([]byte, 0, batchBytes)}
	}
	return <-l.free
}

func (l *lane) start() {
	l.work, l.over = make(chan *batch, batchesInUse), make(chan struct{})
	if l.free == nil {
		l.free = make(chan *batch, batchesInUse)
	}
	go l.run(l.work, l.over)
}

func (l *lane) run(work <-chan *batch, over chan<- struct{}) {
	defer close(over)
	for b := range work {
		for i := range b.ops {
			l.do(&b.ops[i])
		}
		clear(b.ops)
		done := b.done
		b.ops, b.buf, b.files, b.done = b.ops[:0], b.buf[:0], 0, nil
		l.left.Add(-1) // after err, for who sees this has to see that
		l.free <- b
		if done != nil {
			close(done)
		}
	}
}

func (l *lane) do(o *op) {
	if o.kind == 0 {
		// What could go wrong later is reported by syncfs.
		unix.Close(o.fd)
		return
	}
	if l.err.Load() != nil {
		return
	}
	if err := l.r.change(o); err != nil {
		p := o.place
		p.path = bytes.Clone(p.path)
		l.err.Store(&laneError{p, err})
	}
}

// flush hands over what has been gathered.
func (l *lane) flush() {
	if l.fill != nil {
		l.left.Add(1)
		l.work <- l.fill
		l.fill = nil
	}
}

// drain waits until all that was added is done, and returns what went wrong.
func (l *lane) drain() error {
	if l.work != nil && (l.fill != nil || l.left.Load() > 0) {
		done := make(chan struct{})
		if l.fill == nil {
			l.fill = l.take()
		}
		l.fill.done = done
		l.flush()
		<-done
	}
	return l.failed()
}

// stop does what is left to do and ends the goroutine. The lane can be used
// again.
func (l *lane) stop() {
	if l.work == nil {
		return
	}
	l.flush()
	close(l.work)
	<-l.over
	l.work = nil
}
