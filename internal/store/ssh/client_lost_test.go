package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// play is a store behind a machine, with what calls need.
type play struct {
	inner *storetest.Memory
	fault *storetest.Fault
	m     *machine
	s     *Store
	a, b  snapshot.Snapshot
	raw   []byte // the stream of the snapshot "c" of another store
	c     snapshot.Snapshot
}

func newPlay(t testing.TB) *play {
	t.Helper()
	x := &play{inner: storetest.NewMemory("memory")}
	x.fault = storetest.NewFault(x.inner)
	x.a, x.b = x.inner.Add("home", 1, "a"), x.inner.Add("home", 2, "b")
	x.inner.AddPartial("p.part", true)
	x.m = newMachine(t, Write, func() store.Store { return x.fault })
	x.s = x.m.client(Write)
	if _, err := x.s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := storetest.NewMemory("from")
	from.SetBulk(100_000)
	x.c = from.Add("third", 1, "c")
	x.raw = streamOf(t, from, snapshot.Edge{To: x.c.ID})
	t.Cleanup(func() { idle(t, x.inner) })
	return x
}

func (x *play) want(path string) store.Want {
	return store.Want{Edge: snapshot.Edge{To: x.c.ID}, Transid: x.c.Transid, Path: path}
}

// put sends the stream of c.
func (x *play) put(ctx context.Context, path string) (err error) {
	w, err := x.s.Create(ctx, x.want(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	at := w.(store.Resumer).Resumed()
	if _, err := w.Write(x.raw[at.Offset:]); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// calls are all the calls that a server takes, with what they end in at the store
// there. Those that change nothing are made again by themselves.
var calls = map[string]struct {
	op    storetest.Op
	again bool
	do    func(ctx context.Context, x *play) error
}{
	"list":    {storetest.List, true, func(ctx context.Context, x *play) error { _, err := x.s.List(ctx); return err }},
	"inspect": {storetest.Inspect, true, func(ctx context.Context, x *play) error { _, err := x.s.Inspect(ctx, "a", "z"); return err }},
	"estimate": {storetest.Estimate, true, func(ctx context.Context, x *play) error {
		_, err := x.s.Estimate(ctx, store.Request{Edge: snapshot.Edge{To: x.b.ID, From: x.a.ID}})
		return err
	}},
	"measure": {storetest.Measure, true, func(ctx context.Context, x *play) error {
		_, err := x.s.Measure(ctx, store.Request{Edge: snapshot.Edge{To: x.b.ID}})
		return err
	}},
	"prove":       {storetest.Prove, true, func(ctx context.Context, x *play) error { _, err := x.s.Prove(ctx, x.a); return err }},
	"known sizes": {storetest.KnownSizes, true, func(ctx context.Context, x *play) error { _, err := x.s.KnownSizes(ctx); return err }},
	"open":        {storetest.Open, false, func(ctx context.Context, x *play) error { return x.read(ctx) }},
	"read":        {storetest.Read, false, func(ctx context.Context, x *play) error { return x.read(ctx) }},
	"create":      {storetest.Create, false, func(ctx context.Context, x *play) error { return x.put(ctx, "c") }},
	"write":       {storetest.Write, false, func(ctx context.Context, x *play) error { return x.put(ctx, "c") }},
	"commit":      {storetest.Commit, false, func(ctx context.Context, x *play) error { return x.put(ctx, "c") }},
	"copy": {storetest.Copy, false, func(ctx context.Context, x *play) error {
		return x.s.Copy(ctx, store.Want{Edge: snapshot.Edge{To: x.a.ID}, Path: "copied"})
	}},
	"remove": {storetest.Remove, false, func(ctx context.Context, x *play) error { return x.s.Remove(ctx, x.a) }},
	"remove partial": {storetest.RemovePartial, false, func(ctx context.Context, x *play) error {
		return x.s.RemovePartial(ctx, snapshot.Partial{Path: "p.part", Ours: true})
	}},
	"keep sizes": {storetest.KeepSizes, false, func(ctx context.Context, x *play) error {
		return x.s.KeepSizes(ctx, "a", map[snapshot.Edge]int64{{To: x.a.ID, From: x.b.ID}: 17})
	}},
	"lock": {storetest.Lock, false, func(ctx context.Context, x *play) error {
		unlock, err := x.s.Lock(ctx, "a run")
		if err == nil {
			err = unlock()
		}
		return err
	}},
}

func (x *play) read(ctx context.Context) error {
	in, err := x.s.Open(ctx, store.Request{Edge: snapshot.Edge{To: x.b.ID}})
	if err != nil {
		return err
	}
	_, err = io.ReadAll(in)
	return errors.Join(err, in.Close())
}

// TestLostInEveryCall breaks the connection while the server is in a call. What can
// be is made again; of the rest people are told that it may be made again, and it
// works then.
func TestLostInEveryCall(t *testing.T) {
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			x := newPlay(t)
			x.fault.On(c.op).Do(func(ctx context.Context) error {
				x.m.cut()
				<-time.After(time.Millisecond)
				return errors.New("nobody hears this")
			})
			err := c.do(t.Context(), x)
			switch {
			case c.again && err != nil:
				t.Errorf("it is not made again: %v", err)
			case !c.again && (!store.Temporary(err) || !strings.Contains(err.Error(), "far")):
				t.Errorf("the connection was lost, and the error is %v", err)
			}
			if err := c.do(t.Context(), x); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if n := x.m.dialled(); n != 2 {
				t.Errorf("%d connections were made, want 2", n)
			}
		})
	}
}

// TestCancelledInEveryCall ends the context while the server is in a call: the call
// ends then on both sides, and the connection is as good as before.
func TestCancelledInEveryCall(t *testing.T) {
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			x := newPlay(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			x.fault.On(c.op).Do(func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() })
			if err := c.do(ctx, x); !errors.Is(err, context.Canceled) || store.Temporary(err) {
				t.Errorf("it was cancelled, and the error is %v", err)
			}
			if err := c.do(ctx, x); !errors.Is(err, context.Canceled) {
				t.Errorf("it is cancelled from the start, and the error is %v", err)
			}
			if err := c.do(t.Context(), x); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if n := x.m.dialled(); n != 1 {
				t.Errorf("%d connections were made, want 1", n)
			}
		})
	}
}

// TestRefusedInEveryCall has the store there fail: the error arrives as what it is,
// and nothing is tried again.
func TestRefusedInEveryCall(t *testing.T) {
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			x := newPlay(t)
			before := x.fault.Calls(c.op)
			x.fault.On(c.op).Return(&store.ExistsError{Path: "/srv/snaps/q", What: "a cat"})
			err := c.do(t.Context(), x)
			e, ok := errors.AsType[*store.ExistsError](err)
			if !ok || e.What != "a cat" || e.Path != "far:/srv/snaps/q" || strings.Count(err.Error(), "far") != 1 || store.Temporary(err) {
				t.Errorf("the error is %v", err)
			}
			if c.op != storetest.Read && c.op != storetest.Write && x.fault.Calls(c.op) != before+1 {
				t.Errorf("it was called %d times", x.fault.Calls(c.op)-before)
			}
			if err := c.do(t.Context(), x); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestTemporary has an error of the store there say that it may go away.
func TestTemporary(t *testing.T) {
	x := newPlay(t)
	x.fault.On(storetest.Remove).Return(store.MarkTemporary(errors.New("not now")))
	if err := x.s.Remove(t.Context(), x.a); !store.Temporary(err) || !strings.Contains(err.Error(), "not now") {
		t.Errorf("the error is %v", err)
	}
	x.fault.On(storetest.Remove).Return(context.Canceled) // somebody ends the server
	if err := x.s.Remove(t.Context(), x.a); !store.Temporary(err) || errors.Is(err, context.Canceled) {
		t.Errorf("what was ended there is an end of ours: %v", err)
	}
}

// TestConnectsAgain breaks the connection between calls: the lock, the listing and
// what was chosen are there again.
func TestConnectsAgain(t *testing.T) {
	x := newPlay(t)
	x.inner.AddReceived("home", 1, "copy of a")
	if _, err := x.s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.s.Choose(x.a.ID, "copy of a"); err != nil {
		t.Fatal(err)
	}
	unlock, err := x.s.Lock(t.Context(), "a run")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x.m.cut()
		dialled, lists, locks := x.m.dialled(), x.fault.Calls(storetest.List), x.fault.Calls(storetest.Lock)
		if err := x.read(t.Context()); err != nil && !store.Temporary(err) {
			t.Fatal(err)
		}
		if err := x.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		dialled, lists, locks = x.m.dialled()-dialled, x.fault.Calls(storetest.List)-lists, x.fault.Calls(storetest.Lock)-locks
		if dialled != 1 || lists != 1 || locks < 1 {
			t.Errorf("%d connections were made, %d lists, %d locks", dialled, lists, locks)
		}
		_, err := x.m.client(Append).Lock(t.Context(), "another run")
		if e, ok := errors.AsType[*store.LockedError](err); !ok || e.Store != "ssh://far"+testDir {
			t.Errorf("another run locks: %v", err)
		}
		if in, err := x.s.Open(t.Context(), store.Request{Edge: snapshot.Edge{To: x.a.ID}}); err != nil {
			t.Error(err)
		} else {
			_ = in.Close()
		}
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	unlock, err = x.m.client(Append).Lock(t.Context(), "another run")
	if err != nil {
		t.Error(err)
	} else {
		_ = unlock()
	}
}

// TestBothLocksAfterLoss loses the connection with both locks in hand: the next one
// takes them again, the long one first, and what has been given back it does not.
func TestBothLocksAfterLoss(t *testing.T) {
	x := newPlay(t)
	var order []string
	short, err := x.s.LockTaking(t.Context(), "a run")
	if err != nil {
		t.Fatal(err)
	}
	long, err := x.s.Lock(t.Context(), "a run")
	if err != nil {
		t.Fatal(err)
	}
	notes := func(what string) func(context.Context) error {
		return func(context.Context) error { order = append(order, what); return nil }
	}
	lost := func() {
		t.Helper()
		x.fault.Reset()
		x.fault.On(storetest.Lock).Always().Do(notes("long"))
		x.fault.On(storetest.LockTaking).Always().Do(notes("short"))
		order = nil
		x.m.cut()
		if _, err := x.s.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	lost()
	if want := []string{"long", "short"}; !slices.Equal(order, want) {
		t.Errorf("taken again are %v, want %v", order, want)
	}
	if err := short(); err != nil {
		t.Error(err)
	}
	lost()
	if want := []string{"long"}; !slices.Equal(order, want) {
		t.Errorf("without the short one, taken again are %v, want %v", order, want)
	}
	if err := long(); err != nil {
		t.Error(err)
	}
	lost()
	if len(order) > 0 {
		t.Errorf("with none in hand, taken again are %v", order)
	}
}

// TestNoShortLock takes the short lock of a server that is older than it.
func TestNoShortLock(t *testing.T) {
	takes := services[callLockTaking]
	delete(services, callLockTaking)
	t.Cleanup(func() { services[callLockTaking] = takes }) // the last cleanup: no server is at work then
	x := newPlay(t)
	if _, err := x.s.LockTaking(t.Context(), "a run"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the error is %v", err)
	}
	unlock, err := x.s.Lock(t.Context(), "a run")
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

// TestUnlockAfterLoss gives a lock back whose connection is lost: it is not taken
// again.
func TestUnlockAfterLoss(t *testing.T) {
	x := newPlay(t)
	unlock, err := x.s.Lock(t.Context(), "a run")
	if err != nil {
		t.Fatal(err)
	}
	x.m.cut()
	for range 2 {
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}
	if _, err := x.s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := x.fault.Calls(storetest.Lock); n != 1 {
		t.Errorf("it was locked %d times", n)
	}
}

// TestLockOfBrokenSession has the lock be held on for a while by what is left of
// the broken connection, and then for ever by somebody else.
func TestLockOfBrokenSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlay(t)
		defer func() { _ = x.s.Close(); x.m.cut(); x.m.work.Wait() }()
		if _, err := x.s.Lock(t.Context(), "a run"); err != nil {
			t.Fatal(err)
		}
		held := &store.LockedError{Store: "memory", Holder: "what is left"}
		x.fault.On(storetest.Lock).Times(50).Return(held)
		x.m.cut()
		x.s.opt.waits.between = time.Second
		synctest.Wait()
		if _, err := x.s.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.fault.On(storetest.Lock).Always().Return(held)
		x.m.cut()
		synctest.Wait()
		_, err := x.s.List(t.Context())
		if e, ok := errors.AsType[*store.LockedError](err); !ok || e.Holder != "what is left" || store.Temporary(err) {
			t.Errorf("the lock cannot be had again, and the error is %v", err)
		}
	})
}

// TestAnotherPlace has another file system be at the place of the directory when
// the connection is made again.
func TestAnotherPlace(t *testing.T) {
	var inner store.Store = storetest.NewMemory("one")
	m := newMachine(t, Write, func() store.Store { return inner })
	s := m.client(Write)
	inner = storetest.NewMemory("two")
	m.cut()
	if _, err := s.List(t.Context()); err == nil || !strings.Contains(err.Error(), "is it mounted?") {
		t.Errorf("the error is %v", err)
	}
}

// committing is a store that breaks the connection behind a commit.
type committing struct {
	*storetest.Memory
	cut func()
}

func (c *committing) Create(ctx context.Context, w store.Want) (store.Writer, error) {
	out, err := c.Memory.Create(ctx, w)
	if err != nil {
		return nil, err
	}
	return &committed{out, c.cut}, nil
}

type committed struct {
	store.Writer
	cut func()
}

func (c *committed) Commit(ctx context.Context) error {
	err := c.Writer.Commit(ctx)
	c.cut()
	return err
}

// TestLostAnswerOfCommit breaks the connection when a snapshot has been committed,
// and the client has not heard of it.
func TestLostAnswerOfCommit(t *testing.T) {
	x := newPlay(t)
	x.m.opt.Open = func(context.Context, Wishes) (store.Store, error) { return &committing{x.inner, x.m.cut}, nil }
	x.m.cut()
	for range 2 { // the first may still meet the connection that was broken
		if err := x.put(t.Context(), "c"); err == nil {
			break
		} else if !store.Temporary(err) {
			t.Fatal(err)
		}
	}
	if held := heldBy(t, x.inner); !slices.Contains(held, "c") || slices.Contains(held, "c.part") {
		t.Errorf("there is %q", held)
	}
}

// TestCommitBeforeAnOutage loses the connection behind a commit, and the other machine
// cannot be reached for a while.
func TestCommitBeforeAnOutage(t *testing.T) {
	x := newPlay(t)
	var outage atomic.Int32
	x.m.opt.Open = func(context.Context, Wishes) (store.Store, error) {
		return &committing{x.inner, func() { outage.Store(20); x.m.cut() }}, nil
	}
	x.s.opt.Dial = func(ctx context.Context) (io.ReadWriteCloser, error) {
		if outage.Add(-1) >= 0 {
			return nil, fmt.Errorf("an outage: %w", dial.ErrUnreachable)
		}
		return x.m.dial(ctx)
	}
	x.m.cut()
	_, _ = x.s.List(t.Context())
	if err := x.put(t.Context(), "c"); err != nil {
		t.Error(err)
	}
}

// TestLateCommit gives a commit up which has been carried out, while the server takes
// its time to say that it is done with it.
func TestLateCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlay(t)
		defer func() { _ = x.s.Close(); x.m.cut(); x.m.work.Wait() }()
		ctx, cancel := context.WithCancel(t.Context())
		x.m.opt.Open = func(context.Context, Wishes) (store.Store, error) {
			return &committing{x.inner, func() { cancel(); time.Sleep(20 * time.Second) }}, nil
		}
		x.m.cut()
		_, _ = x.s.List(t.Context())
		if err := x.put(ctx, "c"); err != nil {
			t.Errorf("it has been committed, and the error is %v", err)
		}
	})
}

// TestChosenIsGone connects again when the copy that was chosen is there no more.
func TestChosenIsGone(t *testing.T) {
	x := newPlay(t)
	x.inner.AddReceived("home", 1, "copy of a")
	inv, err := x.s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := x.s.Choose(x.a.ID, "copy of a"); err != nil {
		t.Fatal(err)
	}
	a, _ := inv.Find(x.a.ID)
	gone, _ := a.Preferring("copy of a")
	if err := x.inner.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	x.m.cut()
	if _, err := x.s.Estimate(t.Context(), store.Request{Edge: snapshot.Edge{To: x.b.ID}}); err != nil {
		t.Error(err)
	}
}

// TestLostWhileLocking has the connection be lost, and another one be there, before
// the store knows of its lock.
func TestLostWhileLocking(t *testing.T) {
	x := newPlay(t)
	n, err := x.s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := &lock{by: callLock, who: "a run"}
	if err := x.s.take(t.Context(), n, held); err != nil {
		t.Fatal(err)
	}
	x.m.cut()
	<-n.conn.Done()
	if _, err := x.s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.s.hold(held); !store.Temporary(err) {
		t.Errorf("the lock is taken for held, which has been lost: %v", err)
	}
}

// TestSilence has the other side go silent in the middle of a call: it ends, and
// the next one has a connection that works.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlay(t)
		defer func() { _ = x.s.Close(); x.m.cut(); x.m.work.Wait() }()
		far := newTrickle()
		o := x.m.options(Read)
		o.Dial = far.dial(x.m)
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		far.stop()
		begun := time.Now()
		_, err = s.List(t.Context())
		if err != nil {
			t.Errorf("it is not made again: %v", err)
		}
		if d := time.Since(begun); d < time.Minute || d > 2*time.Minute {
			t.Errorf("the silence lasted %s", d)
		}
	})
}
