package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// slow is a Memory of which each method waits, once it has begun, until its
// context ends or the gate opens.
type slow struct {
	*storetest.Memory
	begun chan string
	gate  chan struct{}
	lists bool // wait, too
}

func (s *slow) wait(ctx context.Context, what string) error {
	select {
	case s.begun <- what:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-s.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slow) List(ctx context.Context) (*snapshot.Inventory, error) {
	if s.lists {
		if err := s.wait(ctx, callList); err != nil {
			return nil, err
		}
	}
	return s.Memory.List(ctx)
}

func (s *slow) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	if err := s.wait(ctx, callInspect); err != nil {
		return nil, err
	}
	return s.Memory.Inspect(ctx, paths...)
}

func (s *slow) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	in, err := s.Memory.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	return &slowReader{in, s, ctx}, nil
}

type slowReader struct {
	io.ReadCloser
	s   *slow
	ctx context.Context
}

func (r *slowReader) Read(p []byte) (int, error) {
	if err := r.s.wait(r.ctx, callOpen); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}

func (s *slow) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return &slowWriter{w, s}, nil
}

type slowWriter struct {
	store.Writer
	s *slow
}

func (w *slowWriter) Commit(ctx context.Context) error {
	if err := w.s.wait(ctx, callCreate); err != nil {
		return err
	}
	return w.Writer.Commit(ctx)
}

func (s *slow) Copy(ctx context.Context, want store.Want) error {
	if err := s.wait(ctx, callCopy); err != nil {
		return err
	}
	return s.Memory.Copy(ctx, want)
}

func (s *slow) Estimate(ctx context.Context, r store.Request) (snapshot.Size, error) {
	if err := s.wait(ctx, callEstimate); err != nil {
		return snapshot.Size{}, err
	}
	return s.Memory.Estimate(ctx, r)
}

func (s *slow) Measure(ctx context.Context, r store.Request) (snapshot.Size, error) {
	if err := s.wait(ctx, callMeasure); err != nil {
		return snapshot.Size{}, err
	}
	return s.Memory.Measure(ctx, r)
}

func (s *slow) KnownSizes(ctx context.Context, paths ...string) (map[snapshot.Edge]int64, error) {
	if err := s.wait(ctx, callKnownSizes); err != nil {
		return nil, err
	}
	return s.Memory.KnownSizes(ctx, paths...)
}

func (s *slow) KeepSizes(ctx context.Context, p string, sizes map[snapshot.Edge]int64) error {
	if err := s.wait(ctx, callKeepSizes); err != nil {
		return err
	}
	return s.Memory.KeepSizes(ctx, p, sizes)
}

// midway are the calls in the middle of which a client can be gone.
var midway = []string{
	callList, callInspect, callOpen, callCreate, callCopy, callEstimate, callMeasure, callKnownSizes, callKeepSizes,
}

// TestVanishing has clients go while the store is at work for them: the line
// breaks, they say goodbye, or they give the call up.
func TestVanishing(t *testing.T) {
	goes := map[string]func(p *peer, call *wire.Call){
		"cut":       func(p *peer, _ *wire.Call) { _ = p.serving.ours.Close() },
		"goodbye":   func(p *peer, _ *wire.Call) { _ = p.conn.Close() },
		"cancelled": func(_ *peer, call *wire.Call) { call.Cancel() },
	}
	for way, gone := range goes {
		for _, call := range midway {
			t.Run(way+"/"+call, func(t *testing.T) {
				s := newScene(t)
				far := &slow{s.m, make(chan string), make(chan struct{}), call == callList}
				p := dialled(t, far, Write)
				q := s.requests()[call]
				q.Call = call
				before := s.state(t)
				begun := p.begin(q)
				if call == callCreate {
					p.hears(begun)
					for _, err := range []error{p.tells(begun, instruction{}), write(begun, s.stream), p.tells(begun, instruction{Commit: true})} {
						if err != nil {
							t.Fatal(err)
						}
					}
				}
				select {
				case got := <-far.begun:
					if got != call {
						t.Fatalf("%s has begun", got)
					}
				case <-time.After(patience):
					t.Fatal("the store is not asked")
				}
				gone(p, begun)
				if way != "cancelled" {
					if err := p.serving.wait(t); way == "goodbye" && err != nil {
						t.Errorf("after a goodbye: %v", err)
					}
				}
				idle(t, s.m)
				if after := s.state(t); after != before {
					t.Errorf("the store has changed:\n%s\n%s", before, after)
				}
				if way != "cancelled" {
					return
				}
				// The next call finds all settled, and the connection goes on.
				close(far.gate)
				go func() {
					for range far.begun { // until the test ends it
					}
				}()
				t.Cleanup(func() { _ = p.conn.Close(); p.serving.wait(t); close(far.begun) })
				if a := p.puts(s.want, s.stream); a.Error != nil {
					t.Errorf("afterwards: %s", a.Error.Text)
				}
			})
		}
	}
}

func write(call *wire.Call, raw []byte) error {
	_, err := call.Write(raw)
	return err
}

// TestVanishedLock has the holder of a lock go.
func TestVanishedLock(t *testing.T) {
	for _, way := range []string{"cut", "cancelled", "ended"} {
		m := storetest.NewMemory("far")
		p, other := dialled(t, m, Append), dialled(t, m, Append)
		call := p.begin(request{Call: callLock, Who: "the\x1b[31m first\n run"})
		if a := p.hears(call); a.Error != nil {
			t.Fatal(a.Error.Text)
		}
		a := other.ask(request{Call: callLock, Who: "the second"})
		if a.Error == nil || a.Error.Kind != kindLocked || a.Error.Holder != "the[31m first run" {
			t.Errorf("a second client is told %+v", a.Error)
		}
		switch way {
		case "cut":
			_ = p.serving.ours.Close()
			p.serving.wait(t)
		case "cancelled":
			call.Cancel()
		case "ended":
			_ = call.End(nil)
		}
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			if a := other.ask(request{Call: callLock, Who: "the second"}); a.Error == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s, and it is still locked", way)
			}
		}
	}
}

// closing is a Memory whose writers take their time to close.
type closing struct {
	*storetest.Memory
	begun, gate chan struct{}
}

func (s *closing) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return &closingWriter{w, s}, nil
}

type closingWriter struct {
	store.Writer
	s *closing
}

func (w *closingWriter) Close() error {
	close(w.s.begun)
	<-w.s.gate
	return w.Writer.Close()
}

// TestLockedUntilSettled has a client go that holds the lock and is in the middle
// of a stream: the lock is held until nothing is left of that.
func TestLockedUntilSettled(t *testing.T) {
	s := newScene(t)
	far := &closing{s.m, make(chan struct{}), make(chan struct{})}
	p := dialled(t, far, Append)
	p.hears(p.begin(request{Call: callLock, Who: "a run"}))
	p.hears(p.begin(request{Call: callCreate, Want: wantOf(s.want)}))
	_ = p.serving.ours.Close()
	<-far.begun
	other := dialled(t, s.m, Append)
	if a := other.ask(request{Call: callLock, Who: "another"}); a.Error == nil || a.Error.Kind != kindLocked {
		t.Errorf("the lock is free while a stream is being abandoned: %+v", a.Error)
	}
	close(far.gate)
	p.serving.wait(t)
	if a := other.ask(request{Call: callLock, Who: "another"}); a.Error != nil {
		t.Errorf("afterwards: %s", a.Error.Text)
	}
}

// TestVanishedUpload cuts the line in the middle of a stream: what is durable of
// it stays, and the next client carries on there.
func TestVanishedUpload(t *testing.T) {
	s := newScene(t)
	s.m.SetCheckpoints(1)
	ends := commandEnds(s.stream)
	half := ends[len(ends)/2]
	p := dialled(t, s.m, Append)
	call := p.begin(request{Call: callCreate, Want: wantOf(s.want)})
	p.hears(call)
	for _, err := range []error{p.tells(call, instruction{}), write(call, s.stream[:half+5])} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if m, ok := s.m.Checkpoint("new"); ok && m.Offset == int64(half) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the store is not given the commands that are whole")
		}
	}
	_ = p.serving.ours.Close()
	p.serving.wait(t)
	if n := s.m.Busy(); n != 0 {
		t.Fatalf("%d writers are open", n)
	}
	next := dialled(t, s.m, Append)
	call = next.begin(request{Call: callCreate, Want: wantOf(s.want)})
	m, err := next.hears(call).Mark.mark()
	if err != nil || m.Offset != int64(half) {
		t.Errorf("it is carried on from %+v, %v", m, err)
	}
	call.Cancel()
	if a := next.puts(s.want, s.stream); a.Error != nil {
		t.Error(a.Error.Text)
	}
	fresh := s.want
	fresh.Path, fresh.Fresh = "again", true
	if a := next.puts(fresh, s.stream); a.Error != nil {
		t.Error(a.Error.Text)
	}
}

// TestTwoClients has two of them make the same snapshot, and each other's paths.
func TestTwoClients(t *testing.T) {
	s := newScene(t)
	one, two := dialled(t, s.m, Write), dialled(t, s.m, Write)
	call := one.begin(request{Call: callCreate, Want: wantOf(s.want)})
	if a := one.hears(call); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	if a := two.puts(s.want, s.stream); a.Error == nil || a.Error.Kind != kindExists {
		t.Errorf("the second client makes what the first one is making: %+v", a.Error)
	}
	call.Cancel()
	// A call waits for those that its own client has given up, not for others'.
	if a := one.puts(s.want, s.stream); a.Error != nil {
		t.Error(a.Error.Text)
	}
	if a := two.puts(s.want, s.stream); a.Error == nil || a.Error.Kind != kindExists {
		t.Errorf("the second client makes what is there: %+v", a.Error)
	}
	// Who has not listed since finds what the other has made.
	inv, err := s.m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x, _ := inv.Find(s.want.Edge.To)
	l := listedOf(x)
	if a := two.ask(request{Call: callRemove, Snapshot: &l}); a.Error != nil {
		t.Error(a.Error.Text)
	}
	if a := one.ask(request{Call: callRemove, Snapshot: &l}); a.Error == nil || a.Error.Kind != "not_found" {
		t.Errorf("it is removed twice: %+v", a.Error)
	}
}

// TestManyCalls has a client make as many calls at once as it may.
func TestManyCalls(t *testing.T) {
	s := newScene(t)
	p := dialled(t, s.m, Read)
	errs := make(chan error)
	const calls = 200
	for range calls {
		go func() {
			raw, _ := json.Marshal(request{Call: callOpen, Edge: edge{To: s.b.ID}})
			call, err := p.conn.Call(p.ctx(), raw)
			if err == nil {
				defer call.Cancel()
				_, err = call.Receive(p.ctx())
			}
			if err == nil {
				_, err = io.Copy(io.Discard, call)
			}
			if err == nil {
				var last answer
				raw, err = call.Receive(p.ctx())
				if err = errors.Join(err, json.Unmarshal(raw, &last)); err == nil && last.Error != nil {
					err = errors.New(last.Error.Text)
				}
			}
			errs <- err
		}()
	}
	for range calls {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	idle(t, s.m)
}
