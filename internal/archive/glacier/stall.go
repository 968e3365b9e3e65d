package glacier

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/pace"
)

// errStalled is what became of a request on whose connection nothing has moved
// for too long.
var errStalled = errors.New("the connection has stalled: nothing has moved over it for too long")

// turnAfter is how long a connection that moves may seem to stand still where
// others share a limit with it: each may have a buffer to send before it.
func turnAfter(limit *pace.Limiter) time.Duration {
	const connections, buffer = 64, 64 << 10
	rate := limit.Rate()
	if rate == 0 {
		return 0
	}
	return time.Duration(float64(connections*buffer) / float64(rate) * float64(time.Second))
}

// newClient makes requests over a transport and cuts those that stall.
func newClient(t *http.Transport, after time.Duration) *http.Client {
	return &http.Client{
		Transport: &guard{transport: t, after: after},
		// A redirection is an answer: a signed request is not sent elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guard cuts requests that stall.
type guard struct {
	transport http.RoundTripper
	after     time.Duration
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{after: g.after, reply: replyAfter(r, g.after), cancel: cancel}
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
	resp.Body = &receiving{ReadCloser: resp.Body, watch: w, wait: max(w.after, workAfter(r, w.after)), ctx: ctx}
	return resp, nil
}

// replyAfter is how long a reply may take once a request has been sent. What
// machines on the way have taken of a body, they may take as long again to pass
// on; and where the server puts an archive together, it may be silent for as
// long as that takes.
func replyAfter(r *http.Request, after time.Duration) time.Duration {
	if work := workAfter(r, after); work > 0 {
		return work
	}
	if r.ContentLength > 0 {
		return 2 * after
	}
	return after
}

// workAfter is how long a server may be silent that puts an archive together,
// before its reply or in the middle of it; 0 for other requests.
func workAfter(r *http.Request, after time.Duration) time.Duration {
	const work = 15
	if r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/multipart-uploads/") {
		return work * after
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
		w.timer = time.AfterFunc(d, func() { w.cancel(errStalled) })
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
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
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
