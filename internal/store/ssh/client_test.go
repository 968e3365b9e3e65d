package ssh

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// machine is another machine: it starts a server for each connection.
type machine struct {
	t    testing.TB
	opt  ServeOptions
	work sync.WaitGroup

	mu    sync.Mutex
	links []*link
}

// link is a connection to a machine.
type link struct {
	net.Conn
	theirs net.Conn
	ended  chan struct{}
	err    error // of Serve; behind ended
}

// Wait says why the server has ended.
func (l *link) Wait() error {
	<-l.ended
	return l.err
}

// newMachine returns a machine whose servers open what open returns.
func newMachine(t testing.TB, mode Mode, open func() store.Store) *machine {
	t.Helper()
	m := &machine{t: t, opt: ServeOptions{
		Mode: mode, Dir: testDir, Program: "test", Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context, Wishes) (store.Store, error) { return open(), nil },
	}}
	t.Cleanup(func() { m.cut(); m.work.Wait() })
	return m
}

// dial starts a server.
func (m *machine) dial(context.Context) (io.ReadWriteCloser, error) {
	ours, theirs := net.Pipe()
	l := &link{Conn: ours, theirs: theirs, ended: make(chan struct{})}
	m.mu.Lock()
	m.links = append(m.links, l)
	m.mu.Unlock()
	m.work.Go(func() {
		l.err = Serve(context.Background(), theirs, theirs, m.opt)
		_ = theirs.Close()
		close(l.ended)
	})
	return l, nil
}

// cut breaks all connections.
func (m *machine) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		_ = l.Conn.Close()
		_ = l.theirs.Close()
	}
}

// dialled is how often a connection was made.
func (m *machine) dialled() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.links)
}

// options are those of a client of a machine.
func (m *machine) options(mode Mode) Options {
	return Options{
		Target: dial.Target{Host: "far"}, Dir: testDir, Mode: mode, Program: "test", Dial: m.dial,
		waits: waits{between: time.Millisecond},
	}
}

// client connects to a machine.
func (m *machine) client(mode Mode) *Store {
	m.t.Helper()
	s, err := Open(m.t.Context(), m.options(mode))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = s.Close() })
	return s
}

// over puts a store behind a client and a server.
func over(t testing.TB, inner store.Store) (*Store, *machine) {
	t.Helper()
	m := newMachine(t, Write, func() store.Store { return inner })
	return m.client(Write), m
}

// TestContractOverWire holds the client with the server to the contract.
func TestContractOverWire(t *testing.T) {
	var mu sync.Mutex
	inner := map[*Store]*storetest.Memory{}
	machines := map[*Store]*machine{}
	trees := 0
	memory := func(s store.Store) *storetest.Memory {
		mu.Lock()
		defer mu.Unlock()
		return inner[s.(*Store)]
	}
	tree := func() string {
		mu.Lock()
		defer mu.Unlock()
		trees++
		return fmt.Sprintf("tree %d", trees)
	}
	for name, every := range map[string]int64{"from the start": 0, "resumes": 3000} {
		h := storetest.Harness{
			New: func(t testing.TB) store.Store {
				m := storetest.NewMemory("memory")
				if every > 0 {
					m.SetCheckpoints(every)
				}
				s, far := over(t, m)
				t.Cleanup(func() { idle(t, m) })
				mu.Lock()
				defer mu.Unlock()
				inner[s], machines[s] = m, far
				return s
			},
			Again: func(t testing.TB, s store.Store) store.Store {
				mu.Lock()
				far := machines[s.(*Store)]
				mu.Unlock()
				again := far.client(Write)
				mu.Lock()
				defer mu.Unlock()
				inner[again], machines[again] = inner[s.(*Store)], far
				return again
			},
			Populate: func(t testing.TB, s store.Store, paths ...string) {
				family := tree()
				for i, p := range paths {
					memory(s).Add(family, uint64(100+i), p)
				}
			},
			Origin: func(t testing.TB, s store.Store) (store.Store, func()) {
				mu.Lock()
				far := machines[s.(*Store)]
				mu.Unlock()
				memory(s).SetOrigin("origin")
				again := wanting(t, far, testOrigin)
				mu.Lock()
				defer mu.Unlock()
				inner[again], machines[again] = inner[s.(*Store)], far
				return again, func() {} // it changes by itself
			},
			Leftover: func(t testing.TB, s store.Store, path string) { memory(s).AddLeftover(path) },
			Digest:   func(t testing.TB, s store.Store, x snapshot.Snapshot) string { return memory(s).Digest(x.ID) },
			Leave:    func(t testing.TB, s store.Store, path string) { memory(s).AddPartial(path+snapshot.PartSuffix, true) },
		}
		t.Run(name, func(t *testing.T) { storetest.Run(t, h) })
	}
}

// trickle is a way to a machine on which nothing comes through any more, once it
// is stopped, until the next connection.
type trickle struct {
	mu      sync.Mutex
	stopped chan struct{}
}

func newTrickle() *trickle { return &trickle{stopped: make(chan struct{})} }

func (k *trickle) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.stopped)
}

func (k *trickle) dial(m *machine) func(context.Context) (io.ReadWriteCloser, error) {
	return func(ctx context.Context) (io.ReadWriteCloser, error) {
		l, err := m.dial(ctx)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.stopped = make(chan struct{})
		return &trickling{ReadWriteCloser: l, stopped: k.stopped, closed: make(chan struct{})}, nil
	}
}

type trickling struct {
	io.ReadWriteCloser
	stopped, closed chan struct{}
	once            sync.Once
}

func (k *trickling) Read(p []byte) (int, error) {
	n, err := k.ReadWriteCloser.Read(p)
	select {
	case <-k.stopped:
		<-k.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (k *trickling) Close() error {
	k.once.Do(func() { close(k.closed) })
	return k.ReadWriteCloser.Close()
}
