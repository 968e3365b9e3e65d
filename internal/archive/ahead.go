package archive

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/store"
)

const (
	// firstRange is how long the first range of an object is that is read; each one
	// after it is twice as long, up to longRange, or the length of parts where that
	// is less. So the beginning comes soon, and who stops early has read little.
	firstRange = 256 << 10
	longRange  = 8 << 20
	// rangesAhead is how many ranges of one object are read at a time.
	rangesAhead = 6
	// pauses of a range that makes no progress: the first one, the longest one,
	// and how many, two minutes in all.
	firstPause = 100 * time.Millisecond
	longPause  = 20 * time.Second
	tries      = 12
)

// pool bounds the memory that reading ahead takes, of all streams of a Store.
// Each stream may have one range beyond it: what is read first may be needed by
// whoever holds all the others.
type pool struct {
	mu   sync.Mutex
	left int64
	free [][]byte // of the longest length
}

func newPool(bound int64) *pool { return &pool{left: bound} }

// take takes n bytes out of the bound, if there are so many.
func (p *pool) take(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left < n {
		return false
	}
	p.left -= n
	return true
}

func (p *pool) give(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left += n
}

// buffer returns a buffer of n bytes; those of the usual length are used again.
func (p *pool) buffer(n, usual int64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := len(p.free); n > usual/2 && k > 0 && int64(cap(p.free[k-1])) >= n {
		b := p.free[k-1]
		p.free = p.free[:k-1]
		return b[:n]
	}
	if n > usual/2 {
		return make([]byte, n, usual)
	}
	return make([]byte, n)
}

func (p *pool) back(b []byte, usual int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int64(cap(b)) == usual && len(p.free) < rangesAhead {
		p.free = append(p.free, b)
	}
}

// changedError says that an object is not the one any more that was to be read.
type changedError struct{ key string }

func (e *changedError) Error() string {
	return fmt.Sprintf("%s has been changed while it was being read: list the archive again", printable(e.key))
}

// ahead reads an object in ranges, several at a time, and gives them in order.
// Nothing is read before the first Read.
type ahead struct {
	s    *Store
	ctx  context.Context
	stop context.CancelCauseFunc
	of   Object // what is to be read; without a tag, any
	long int64  // the length of ranges in the end
	// pause is the first one before a range is read again.
	pause time.Duration

	mu  sync.Mutex
	tag string // what the object was called when it was looked at first

	// reader is held by Read, and by Close as soon as Read has given up: what runs
	// gpg may still be reading when it is closed.
	reader sync.Mutex
	queue  []*stretch // that are being read, in order
	next   int64      // where the next one begins
	size   int64      // how long it is
	at     int        // in the first of the queue
	err    error
	under  sync.WaitGroup
	closed bool
	// last has it looked at again whether the object has changed when all of it has
	// been read, as nothing else would show it.
	last bool

	// sum is that of everything that has been read, where it is wanted: it is
	// computed beside the reading, and complete at io.EOF.
	sum  hash.Hash
	sums chan *stretch // in order; nil as long as there is none
}

// stretch is a range that is being read.
type stretch struct {
	offset int64
	buf    []byte
	own    bool // it is beyond the bound of the pool
	done   chan struct{}
	summed chan struct{} // closed when nobody sums it any more
	err    error
}

// raw reads an object as it is stored, size bytes from its beginning on. What
// breaks off is read on from there. It is an error if the object has another
// length, or changes meanwhile.
func (s *Store) raw(ctx context.Context, key string, size int64) io.ReadCloser {
	return s.rawOf(ctx, Object{Key: key, Size: size})
}

// rawOf is raw for an object of which the tag is known too.
func (s *Store) rawOf(ctx context.Context, o Object) *ahead {
	a := &ahead{s: s, of: o, tag: o.Tag, long: s.rangeSize(), pause: firstPause, size: firstRange}
	a.size = min(a.size, a.long)
	a.ctx, a.stop = context.WithCancelCause(ctx)
	return a
}

// rangeSize is how long ranges get. Where parts are to be short, memory is.
func (s *Store) rangeSize() int64 { return min(longRange, max(s.o.PartSize, 64<<10)) }

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	a.reader.Lock()
	defer a.reader.Unlock()
	if a.err != nil {
		return 0, a.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	a.start()
	if len(a.queue) == 0 {
		a.err = io.EOF
		if a.last {
			if err := a.check(); err != nil {
				a.err = a.explain(err)
			}
		}
		return 0, a.err
	}
	first := a.queue[0]
	select {
	case <-first.done:
	case <-a.ctx.Done():
		a.err = a.explain(context.Cause(a.ctx))
		return 0, a.err
	}
	if first.err != nil {
		a.err = a.explain(first.err)
		a.stop(a.err)
		return 0, a.err
	}
	n := copy(p, first.buf[a.at:])
	if a.at += n; a.at == len(first.buf) {
		a.release(first)
		a.queue = append(a.queue[:0], a.queue[1:]...)
		a.at = 0
		a.start()
	}
	return n, nil
}

// start has as much read as there is room for.
func (a *ahead) start() {
	for a.next < a.of.Size && len(a.queue) < rangesAhead {
		n := min(a.size, a.of.Size-a.next)
		own := len(a.queue) == 0
		if !own && !a.s.reading.take(n) {
			return
		}
		x := &stretch{
			offset: a.next, buf: a.s.reading.buffer(n, a.long), own: own,
			done: make(chan struct{}), summed: make(chan struct{}),
		}
		a.queue = append(a.queue, x)
		a.addUp(x)
		a.next += n
		a.size = min(2*a.size, a.long)
		a.under.Go(func() {
			defer close(x.done)
			x.err = a.fetch(x)
		})
	}
}

// addUp has a range summed when it has been read.
func (a *ahead) addUp(x *stretch) {
	if a.sum == nil {
		close(x.summed)
		return
	}
	if a.sums == nil {
		sums := make(chan *stretch, rangesAhead)
		a.sums = sums
		a.under.Go(func() {
			good := true
			for x := range sums {
				<-x.done
				if good = good && x.err == nil; good {
					a.sum.Write(x.buf) // hashes never fail
				}
				close(x.summed)
			}
		})
	}
	a.sums <- x // there is room for all that are read at a time
}

func (a *ahead) release(x *stretch) {
	<-x.summed
	if !x.own {
		a.s.reading.give(int64(len(x.buf)))
	}
	a.s.reading.back(x.buf, a.long)
}

// fetch reads one range, however often it breaks off, as long as it comes on.
func (a *ahead) fetch(x *stretch) error {
	got, failed, pause := 0, 0, a.pause
	for {
		n, err := a.get(x.offset+int64(got), x.buf[got:])
		if got += n; got == len(x.buf) {
			return nil
		}
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		if n > 0 {
			failed, pause = 0, a.pause
		}
		if err == nil || errors.Is(err, ErrNoObject) {
			if changed := a.check(); changed != nil {
				return changed
			}
		}
		if err == nil {
			err = store.MarkTemporary(fmt.Errorf("%d bytes are missing at %d", len(x.buf)-got, x.offset+int64(got)))
		}
		if failed++; !store.Temporary(err) || failed > tries {
			return err
		}
		a.s.log.Debug("a range is read again", "object", printable(a.of.Key), "from", x.offset+int64(got), "error", err)
		select {
		case <-time.After(pause):
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
		pause = min(2*pause, longPause)
		if err := a.check(); err != nil && !store.Temporary(err) {
			return err
		}
	}
}

// get reads as much as comes.
func (a *ahead) get(offset int64, buf []byte) (n int, err error) {
	r, err := a.s.bucket.Get(a.ctx, a.of.Key, offset, int64(len(buf)))
	if err != nil {
		return 0, err
	}
	defer r.Close() //nolint:errcheck // what was read has been read
	n, err = io.ReadFull(r, buf)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// check looks whether the object is still the one that is being read.
func (a *ahead) check() error {
	o, err := a.s.bucket.Stat(a.ctx, a.of.Key)
	if errors.Is(err, ErrNoObject) {
		return err
	}
	if err != nil {
		return store.MarkTemporary(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.Size != a.of.Size || a.tag != "" && o.Tag != "" && o.Tag != a.tag {
		return &changedError{a.of.Key}
	}
	a.tag = o.Tag
	return nil
}

func (a *ahead) explain(err error) error {
	return fmt.Errorf("reading %s: %w", printable(a.of.Key), err)
}

// Close stops reading.
func (a *ahead) Close() error {
	a.stop(errClosed)
	a.reader.Lock()
	defer a.reader.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	if a.err == nil {
		a.err = errClosed
	}
	if a.sums != nil {
		close(a.sums)
	}
	a.under.Wait()
	for _, x := range a.queue {
		a.release(x)
	}
	a.queue = nil
	return nil
}

var errClosed = errors.New("it is closed")
