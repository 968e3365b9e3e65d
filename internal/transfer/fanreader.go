package transfer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// fanReader is a shared stream as one run reads it.
type fanReader struct {
	run    *FanRun
	ctx    context.Context
	unbind func() bool
	length snapshot.Size

	in      *shared
	at      int64 // how far it has read that
	waiting bool  // for more
	using   bool  // what is in the window at that place
	left    bool  // it does not read any more
	closed  bool
	err     error // what Read returns from now on

	// After it was cut loose: what it has still to give out of the stream before,
	// the stream with which it goes on, and what the beginning of that has to be.
	rest   []byte
	next   *shared
	before int64
	want   [sha256.Size]byte
	sum    hash.Hash
}

// newFanReader returns a reader of a stream from its start.
func newFanReader(ctx context.Context, run *FanRun, s *shared) *fanReader {
	r := &fanReader{run: run, ctx: ctx, in: s}
	s.join(r)
	r.unbind = context.AfterFunc(ctx, func() {
		run.fan.mu.Lock()
		defer run.fan.mu.Unlock()
		r.end(fmt.Errorf("reading a shared stream: %w", context.Cause(ctx)))
	})
	return r
}

// opened waits until the stream has been opened.
func (r *fanReader) opened() error {
	for r.err == nil && !r.in.opened {
		if r.in.err != nil {
			return r.in.err
		}
		r.in.changed.Wait()
	}
	r.length = r.in.length
	return r.err
}

// Length implements store.Lengthy.
func (r *fanReader) Length() snapshot.Size { return r.length }

// Read implements io.Reader.
func (r *fanReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.run.fan.mu.Lock()
	defer r.run.fan.mu.Unlock()
	for r.err == nil {
		if len(r.rest) > 0 {
			n := copy(p, r.rest)
			r.rest = r.rest[n:]
			return n, nil
		}
		if r.next != nil {
			r.follow()
		}
		data := r.wait()
		if len(data) == 0 {
			continue
		}
		if r.at < r.before {
			data = data[:min(int64(len(data)), r.before-r.at)]
			r.use(len(data), func() { r.sum.Write(data) })
			r.compare()
			continue
		}
		n := min(len(p), len(data))
		r.use(n, func() { copy(p, data[:n]) })
		return n, nil
	}
	return 0, r.err
}

// wait waits for more of the stream, and returns what there is; nothing if
// something has happened to the reader.
func (r *fanReader) wait() []byte {
	for r.err == nil && r.next == nil {
		if c, from := r.in.chunkAt(r.at); c != nil && int64(len(c.data)) > from {
			return c.data[from:]
		}
		if err := r.in.err; err != nil {
			r.finish(err)
			return nil
		}
		r.waiting = true
		r.in.assess()
		r.in.changed.Wait()
		r.waiting = false
		r.in.assess()
	}
	return nil
}

// finish notes how the stream has ended.
func (r *fanReader) finish(err error) {
	switch {
	case err != io.EOF:
	case r.at < r.before:
		err = r.another()
	default:
		r.in.proven = true
		r.run.has(r.in.key)
	}
	r.end(err)
}

// use does something with the next n bytes of the window without holding up
// others, and goes on to what is behind them.
func (r *fanReader) use(n int, do func()) {
	r.using = true
	r.run.fan.mu.Unlock()
	do()
	r.run.fan.mu.Lock()
	r.using = false
	switch {
	case r.err != nil:
		r.leave()
	case r.next == nil:
		size := int64(r.run.fan.chunk)
		before := r.at / size
		if r.at += int64(n); r.at/size != before {
			r.in.changed.Broadcast()
		}
	case len(r.rest) > 0:
		r.rest = r.rest[n:]
	}
}

// cutLoose has the reader go on with another stream when it has read the chunk
// that it is in. If it is comparing, it does that again.
func (r *fanReader) cutLoose(heir *shared) {
	if r.at >= r.before {
		c, from := r.in.chunkAt(r.at)
		c.kept = true
		r.rest = c.data[from:]
		r.before, r.want = r.at-from+int64(len(c.data)), c.digest
	}
	r.next = heir
	heir.due[r] = true
}

// follow begins with the stream that takes the place of the one before.
func (r *fanReader) follow() {
	s := r.next
	if !s.listed { // others have been faster
		s.leave(r)
		if s = r.run.fan.joinable(r.run, r.in.key); s == nil {
			s = r.run.fan.share(r.ctx, r.in.request)
		}
	}
	r.in, r.next, r.at, r.sum = s, nil, 0, sha256.New()
	s.join(r)
}

// compare looks whether the new stream is the old one, when it has come so far.
func (r *fanReader) compare() {
	if r.err == nil && r.next == nil && r.at == r.before && [sha256.Size]byte(r.sum.Sum(nil)) != r.want {
		r.end(r.another())
	}
}

func (r *fanReader) another() error {
	return fmt.Errorf("going on with a stream of its own, which does not begin with the same %d bytes: %w", r.before, store.ErrAnother)
}

// end has Read return an error from now on. The first one counts.
func (r *fanReader) end(err error) {
	if r.err == nil {
		r.err, r.rest = err, nil
		r.leave()
	}
}

// leave takes the reader out of the stream.
func (r *fanReader) leave() {
	if r.using || r.left {
		return
	}
	r.left = true
	if r.next != nil {
		r.in = r.next
	}
	r.in.leave(r)
}

// Close implements io.Closer. Whoever closes last waits until the source's stream
// is closed.
func (r *fanReader) Close() error {
	r.run.fan.mu.Lock()
	first := !r.closed
	if first {
		r.closed = true
		r.end(os.ErrClosed)
		r.run.ends()
	}
	r.err = os.ErrClosed
	s := r.in
	over := first && r.left && s.retired && s.started
	r.run.fan.mu.Unlock()
	r.unbind()
	if !over {
		return nil
	}
	<-s.ended
	return s.closing
}
