package wire

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// way is one direction of a network for tests: it holds so many bytes, hands them
// on in pieces of any size, after a while, and can be cut.
type way struct {
	mu       sync.Mutex
	bytes    []byte
	holds    int
	rnd      *rand.Rand    // nil: pieces are as large as can be
	delay    time.Duration // of each read
	cutAfter int           // bytes after which it breaks; negative: never
	broken   error         // what it breaks with
	swallow  bool          // what is written gets lost
	closed   bool
	err      error
	changed  chan struct{}
}

var errCut = errors.New("the network is cut")

func newWay(holds int) *way {
	return &way{holds: holds, cutAfter: -1, broken: errCut, changed: make(chan struct{})}
}

func (w *way) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Close is what the owner does: both ends get nothing more.
func (w *way) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		w.change()
	}
	return nil
}

func (w *way) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written := 0
	for written < len(p) {
		if w.closed {
			return written, io.ErrClosedPipe
		}
		if w.err != nil {
			return written, errCut
		}
		if w.swallow {
			return len(p), nil
		}
		n := min(len(p)-written, w.holds-len(w.bytes))
		if w.cutAfter >= 0 {
			n = min(n, w.cutAfter)
		}
		if n > 0 {
			w.bytes = append(w.bytes, p[written:written+n]...)
			written += n
			w.change()
		}
		if w.cutAfter >= 0 {
			if w.cutAfter -= n; w.cutAfter == 0 {
				w.cutAfter, w.err = -1, w.broken
				w.change()
				continue
			}
		}
		if written < len(p) {
			w.wait()
		}
	}
	return written, nil
}

func (w *way) wait() {
	changed := w.changed
	w.mu.Unlock()
	<-changed
	w.mu.Lock()
}

func (w *way) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.delay > 0 {
		w.mu.Unlock()
		time.Sleep(w.delay)
		w.mu.Lock()
	}
	for len(w.bytes) == 0 {
		if w.closed {
			return 0, io.ErrClosedPipe
		}
		if w.err != nil {
			return 0, w.err
		}
		w.wait()
	}
	n := min(len(p), len(w.bytes))
	if w.rnd != nil {
		n = 1 + w.rnd.IntN(n)
	}
	n = copy(p, w.bytes[:n])
	w.bytes = w.bytes[n:]
	w.change()
	return n, nil
}

// network is a client and a server with a way in each direction.
type network struct {
	cl, sv   *Conn
	up, down *way
}

func newNetwork(t testing.TB, up, down *way, client, server Options) *network {
	t.Helper()
	n := &network{up: up, down: down}
	n.cl, n.sv = NewClient(down, up, client), NewServer(up, down, server)
	t.Cleanup(n.end)
	return n
}

// end closes everything, as the owners of the reader and the writer do.
func (n *network) end() {
	_ = n.cl.Close()
	_ = n.sv.Close()
	_ = n.up.Close()
	_ = n.down.Close()
}

// plain is a network without faults.
func plain(t testing.TB, o Options) *network {
	return newNetwork(t, newWay(64<<10), newWay(64<<10), o, o)
}

// serve answers each call with a handler until the connection ends.
func (n *network) serve(t testing.TB, handle func(k *Call, request []byte)) {
	go func() {
		for {
			k, request, err := n.sv.Accept(t.Context())
			if err != nil {
				return
			}
			go handle(k, request)
		}
	}()
}
