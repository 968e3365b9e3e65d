package reach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/pace"
)

// ErrStalled is what became of a request on whose connection nothing has moved
// for too long.
var ErrStalled = errors.New("the connection has stalled: nothing has moved over it for too long")

// TurnAfter is how long a connection that moves may seem to stand still where
// others share a limit with it: each may have a buffer to send before it.
func TurnAfter(limit *pace.Limiter) time.Duration {
	const connections, buffer = 64, 64 << 10
	rate := limit.Rate()
	if rate == 0 {
		return 0
	}
	return time.Duration(float64(connections*buffer) / float64(rate) * float64(time.Second))
}

// NewClient makes requests over a transport and cuts those over whose connection
// nothing has moved for a time. Works says of a request that the server works on
// it for long, and may be silent for fifteen times as long, before its reply or in
// the middle of it.
func NewClient(t *http.Transport, after time.Duration, works func(*http.Request) bool) *http.Client {
	return &http.Client{
		Transport: &guard{transport: t, after: after, works: works},
		// A redirection is an answer: a signed request is not sent elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guard cuts requests that stall.
type guard struct {
	transport http.RoundTripper
	after     time.Duration
	works     func(*http.Request) bool
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{after: g.after, reply: g.replyAfter(r), cancel: cancel}
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &sending{ReadCloser: r.Body, watch: w, left: r.ContentLength}
		w.arm(w.after)
	} else {
		w.arm(w.reply)
	}
	resp, err := g.transport.RoundTrip(r)
	w.disarm()
	if err != nil {
		err = w.name(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &receiving{ReadCloser: resp.Body, watch: w, wait: max(w.after, g.workAfter(r)), ctx: ctx}
	return resp, nil
}

// replyAfter is how long a reply may take once a request has been sent. What
// machines on the way have taken of a body, they may take as long again to pass
// on.
func (g *guard) replyAfter(r *http.Request) time.Duration {
	if work := g.workAfter(r); work > 0 {
		return work
	}
	if r.ContentLength > 0 {
		return 2 * g.after
	}
	return g.after
}

// workAfter is how long a server may be silent that works on a request; 0 for
// requests that take no work.
func (g *guard) workAfter(r *http.Request) time.Duration {
	const work = 15
	if g.works(r) {
		return work * g.after
	}
	return 0
}

// watch cancels a request when nothing has moved for a time.
type watch struct {
	after, reply time.Duration
	cancel       context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	off   bool
}

// arm begins the time anew.
func (w *watch) arm(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = false
	w.set(d)
}

func (w *watch) set(d time.Duration) {
	if w.timer == nil {
		w.timer = time.AfterFunc(d, func() { w.cancel(ErrStalled) })
		return
	}
	w.timer.Reset(d)
}

// beat begins the time anew if it runs.
func (w *watch) beat(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.off {
		w.set(d)
	}
}

// disarm stops the time.
func (w *watch) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// name gives an error that comes of the watch its name.
func (w *watch) name(ctx context.Context, err error) error {
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(ctx), ErrStalled) {
		return ErrStalled
	}
	return err
}

// sending is a body that is sent. It is read as fast as the connection takes it.
type sending struct {
	io.ReadCloser
	watch *watch
	left  int64
}

func (s *sending) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.left -= int64(n)
	if s.left <= 0 || err != nil {
		s.watch.beat(s.watch.reply)
	} else {
		s.watch.beat(s.watch.after)
	}
	return n, err
}

// receiving is a body that is received. Its time runs only while somebody waits
// for it: a reader who is slow does not make it stall.
type receiving struct {
	io.ReadCloser
	watch *watch
	wait  time.Duration   // for some of it
	ctx   context.Context //nolint:containedctx // of the one request that this is the body of
}

func (r *receiving) Read(b []byte) (int, error) {
	r.watch.arm(r.wait)
	n, err := r.ReadCloser.Read(b)
	r.watch.disarm()
	return n, r.watch.name(r.ctx, err)
}

func (r *receiving) Close() error {
	r.watch.disarm()
	err := r.ReadCloser.Close()
	r.watch.cancel(nil)
	return err
}
