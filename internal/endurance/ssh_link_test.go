package endurance

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A link is the network between the program and an sshd: bytes are counted on
// it, and it breaks when a test wants it to.
type link struct {
	t        *testing.T
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	up, down way
	broken   atomic.Bool // no connection gets through any more

	mu      sync.Mutex
	conns   map[*net.TCPConn]bool
	opened  int
	stalled chan struct{} // closed when bytes go through again; nil while they do
	closed  bool
}

// A way is one of the two directions of a link.
type way struct {
	bytes atomic.Int64 // that have been let through, of all connections
	cut   atomic.Int64 // every connection breaks once bytes gets there; 0 for never
}

// newLink makes a way to an address, for as long as the test takes.
func newLink(t *testing.T, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{t: t, listener: listener, to: to, conns: map[*net.TCPConn]bool{}}
	l.wg.Go(l.serve)
	t.Cleanup(l.close)
	return l
}

// port is where the link begins, on the loopback interface.
func (l *link) port() int { return l.listener.Addr().(*net.TCPAddr).Port }

func (l *link) close() {
	l.listener.Close()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.heal()
	l.drop()
	l.wg.Wait()
}

func (l *link) serve() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		if l.broken.Load() {
			near.Close()
			continue
		}
		far, err := net.Dial("tcp", l.to)
		if err != nil {
			near.Close()
			continue
		}
		a, b := near.(*net.TCPConn), far.(*net.TCPConn)
		l.mu.Lock()
		l.conns[a], l.conns[b] = true, true
		l.opened++
		late := l.closed
		l.mu.Unlock()
		if late {
			l.drop()
		}
		l.wg.Go(func() { l.carry(b, a, &l.up) })
		l.wg.Go(func() { l.carry(a, b, &l.down) })
	}
}

// carry copies from one end of a connection to the other.
func (l *link) carry(dst, src *net.TCPConn, w *way) {
	block := make([]byte, 32<<10)
	for {
		n, err := src.Read(block)
		l.hold()
		if _, werr := dst.Write(block[:n]); werr != nil {
			src.Close()
			return
		}
		total := w.bytes.Add(int64(n))
		if cut := w.cut.Load(); cut > 0 && total >= cut && w.cut.CompareAndSwap(cut, 0) {
			l.drop()
			return
		}
		if errors.Is(err, io.EOF) {
			_ = dst.CloseWrite()
			return
		}
		if err != nil {
			dst.Close()
			return
		}
	}
}

// hold waits while the link is stalled.
func (l *link) hold() {
	l.mu.Lock()
	stalled := l.stalled
	l.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
}

// stall lets nothing through any more, and closes nothing.
func (l *link) stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled == nil {
		l.stalled = make(chan struct{})
	}
}

// heal ends a stall.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled != nil {
		close(l.stalled)
		l.stalled = nil
	}
}

// drop breaks all connections there are with a reset, and lets new ones through.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.SetLinger(0)
		c.Close()
		delete(l.conns, c)
	}
}

// forget begins to count anew.
func (l *link) forget() {
	l.up.bytes.Store(0)
	l.down.bytes.Store(0)
	l.mu.Lock()
	l.opened = 0
	l.mu.Unlock()
}

// connections returns how many there have been.
func (l *link) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}
