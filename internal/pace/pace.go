// Package pace keeps a transfer below a rate of bytes a second. It knows readers,
// writers and connections, and nothing of what goes through them.
//
// A [Limiter] is shared by everything that is to stay below the rate together.
// Nil is no limit. A wait ends when the context does that the reader or writer
// was made with; that of a connection when the connection is closed. What has not
// been used is not saved up beyond a tenth of a second.
//
//	limit := pace.New(20 << 20)
//	w = limit.Writer(ctx, w)
package pace

import (
	"context"
	"io"
	"net"

	"golang.org/x/time/rate"
)

// largest is the most that goes through at once, so that a slow rate is a trickle
// and no series of gushes.
const largest = 256 << 10

// Limiter lets so many bytes through in a second. It is safe for concurrent use.
type Limiter struct {
	bucket *rate.Limiter
	piece  int
}

// New makes a limiter; nil, which is none, for 0 or less.
func New(bytesPerSecond int64) *Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	piece := int(min(max(bytesPerSecond/10, 1), largest))
	return &Limiter{rate.NewLimiter(rate.Limit(bytesPerSecond), piece), piece}
}

// Rate is how many bytes go through in a second; 0 for nil, which has no limit.
func (l *Limiter) Rate() int64 {
	if l == nil {
		return 0
	}
	return int64(l.bucket.Limit())
}

// wait waits until n bytes may go, of which there are no more than a piece.
func (l *Limiter) wait(ctx context.Context, n int) error {
	err := l.bucket.WaitN(ctx, n)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	// The bucket says so at once where the wait would be longer than the context.
	return context.DeadlineExceeded
}

// Reader reads no faster than the rate.
func (l *Limiter) Reader(ctx context.Context, r io.Reader) io.Reader {
	if l == nil {
		return r
	}
	return &reader{ctx, l, r}
}

// Writer writes no faster than the rate.
func (l *Limiter) Writer(ctx context.Context, w io.Writer) io.Writer {
	if l == nil {
		return w
	}
	return &writer{ctx, l, w}
}

// Conn reads and writes no faster than the rate, both directions together. Bytes
// that have come in count when they are read; what the system buffers comes in
// before.
func (l *Limiter) Conn(c net.Conn) net.Conn {
	if l == nil {
		return c
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &conn{c, l.Reader(ctx, c), l.Writer(ctx, c), cancel}
}

type reader struct {
	ctx   context.Context
	limit *Limiter
	r     io.Reader
}

// Read pays for what it has read before it hands it out, so that little asked for
// and little got costs little.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p[:min(len(p), r.limit.piece)])
	if n > 0 {
		if wait := r.limit.wait(r.ctx, n); wait != nil {
			return n, wait
		}
	}
	return n, err
}

type writer struct {
	ctx   context.Context
	limit *Limiter
	w     io.Writer
}

func (w *writer) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), w.limit.piece)]
		if err := w.limit.wait(w.ctx, len(part)); err != nil {
			return written, err
		}
		n, err := w.w.Write(part)
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

type conn struct {
	net.Conn
	r      io.Reader
	w      io.Writer
	cancel context.CancelCauseFunc
}

func (c *conn) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.w.Write(p) }

// Close also ends the waits.
func (c *conn) Close() error {
	c.cancel(net.ErrClosed)
	return c.Conn.Close()
}
