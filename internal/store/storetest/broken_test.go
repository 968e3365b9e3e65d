package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Stores that each break a promise.
type (
	listsNothing struct{ *Memory }
	listsTwice   struct{ *Memory }
	staleList    struct {
		*Memory
		first **snapshot.Inventory
	}
	ignoresContext struct{ *Memory }
	wrongStream    struct{ *Memory }
	shortStream    struct{ *Memory }
	noEnd          struct{ *Memory }
	vagueNotFound  struct{ *Memory }
	readsOn        struct{ *Memory }
	closesBadly    struct{ *Memory }
	believes       struct{ *Memory }
	overwrites     struct{ *Memory }
	commitsLate    struct{ *Memory }
	publishesEarly struct{ *Memory }
	keepsAbandoned struct{ *Memory }
	escapes        struct{ *Memory }
	orphans        struct{ *Memory }
	removesAny     struct{ *Memory }
	removesMore    struct{ *Memory }
	unlocked       struct{ *Memory }
	lockedForEver  struct{ *Memory }
	anonymousLock  struct{ *Memory }
	sameLocation   struct{ *Memory }
	badEstimate    struct{ *Memory }
	badMeasure     struct{ *Memory }
	neverProves    struct{ *Memory }
	copiesWrong    struct{ *Memory }
	leavesPartials struct{ *Memory }
)

func (s listsNothing) List(ctx context.Context) (*snapshot.Inventory, error) {
	return &snapshot.Inventory{}, ctx.Err()
}

func (s listsTwice) List(ctx context.Context) (*snapshot.Inventory, error) {
	s.AddPartial(fmt.Sprintf("%d.part", s.Busy()), false)
	return s.Memory.List(ctx)
}

func (s staleList) List(ctx context.Context) (*snapshot.Inventory, error) {
	if *s.first == nil {
		inv, err := s.Memory.List(ctx)
		*s.first = inv
		return inv, err
	}
	return *s.first, ctx.Err()
}

func (s ignoresContext) List(ctx context.Context) (*snapshot.Inventory, error) {
	return s.Memory.List(context.WithoutCancel(ctx))
}

func (s ignoresContext) Create(ctx context.Context, w store.Want) (store.Writer, error) {
	return s.Memory.Create(context.WithoutCancel(ctx), w)
}

func (s ignoresContext) Remove(ctx context.Context, x snapshot.Snapshot) error {
	return s.Memory.Remove(context.WithoutCancel(ctx), x)
}

func (s wrongStream) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	return s.Memory.Open(ctx, store.Request{Edge: snapshot.Edge{To: r.Edge.To}}) // always in full
}

func (s shortStream) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	f := NewFault(s.Memory)
	f.On(Open).Cut(60_000)
	return f.Open(ctx, r)
}

func (s noEnd) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return &addsEnd{Writer: w}, nil
}

// addsEnd commits whatever came.
type addsEnd struct {
	store.Writer
	last []byte
}

func (w *addsEnd) Write(p []byte) (int, error) {
	w.last = slices.Clone(p)
	return w.Writer.Write(p)
}

func (w *addsEnd) Commit(ctx context.Context) error {
	if len(w.last) < headLen || w.last[len(w.last)-headLen+4] != 21 {
		whole, err := encode(&held{Snapshot: snapshot.Snapshot{ID: snapshot.ID{1}, Path: "x"}}, nil)
		if err != nil {
			return err
		}
		w.Writer.Write(whole[len(whole)-headLen:])
	}
	return w.Writer.Commit(ctx)
}

func (s vagueNotFound) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	in, err := s.Memory.Open(ctx, r)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errors.New("no luck")
	}
	return in, err
}

func (s readsOn) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	in, err := s.Memory.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{in, io.NopCloser(nil)}, nil
}

func (s closesBadly) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	in, err := s.Memory.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	return &closeOnce{ReadCloser: in}, nil
}

type closeOnce struct {
	io.ReadCloser
	closed bool
}

func (c *closeOnce) Close() error {
	if c.closed {
		return errors.New("closed already")
	}
	c.closed = true
	return c.ReadCloser.Close()
}

// Create believes whatever identity a stream claims: it is asked for that one.
func (s believes) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	want.Transid = 0
	return s.Memory.Create(ctx, want)
}

func (s overwrites) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if h := s.at(want.Path, false); h != nil {
		s.Memory.Remove(ctx, h.Snapshot)
	}
	return s.Memory.Create(ctx, want)
}

// writes wraps every writer.
func writes(m *Memory, ctx context.Context, want store.Want, wrap func(store.Writer) store.Writer) (store.Writer, error) {
	w, err := m.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return wrap(w), nil
}

type funcWriter struct {
	store.Writer
	commit func(ctx context.Context) error
	close  func() error
}

func (w funcWriter) Commit(ctx context.Context) error { return w.commit(ctx) }
func (w funcWriter) Close() error                     { return w.close() }

func (s commitsLate) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	return writes(s.Memory, ctx, want, func(w store.Writer) store.Writer {
		committed := false
		return funcWriter{w, func(context.Context) error { committed = true; return nil }, func() error {
			if committed {
				w.Commit(context.Background())
			}
			return w.Close()
		}}
	})
}

func (s publishesEarly) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	return writes(s.Memory, ctx, want, func(w store.Writer) store.Writer {
		s.mu.Lock()
		defer s.mu.Unlock()
		h := &held{Snapshot: snapshot.Snapshot{ID: want.Edge.To, Path: want.Path}}
		s.keep(h)
		drop := func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.held = slices.DeleteFunc(s.held, func(x *held) bool { return x == h })
		}
		return funcWriter{w, func(ctx context.Context) error { drop(); return w.Commit(ctx) }, func() error { drop(); return w.Close() }}
	})
}

func (s keepsAbandoned) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	return writes(s.Memory, ctx, want, func(w store.Writer) store.Writer {
		return funcWriter{w, w.Commit, func() error {
			w.Commit(context.Background())
			return w.Close()
		}}
	})
}

func (s leavesPartials) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	return writes(s.Memory, ctx, want, func(w store.Writer) store.Writer {
		committed := false
		return funcWriter{w, func(ctx context.Context) error { committed = true; return w.Commit(ctx) }, func() error {
			if !committed {
				s.AddPartial(want.Path+snapshot.PartSuffix, true)
			}
			return w.Close()
		}}
	})
}

func (s escapes) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	want.Path = strings.TrimPrefix(want.Path, "/")
	return s.Memory.Create(ctx, want)
}

func (s orphans) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	if _, ok := errors.AsType[*store.ParentError](err); ok {
		want.Edge.From = snapshot.ID{}
		return s.Memory.Create(ctx, want)
	}
	return w, err
}

func (s removesAny) Remove(ctx context.Context, x snapshot.Snapshot) error {
	if h := s.at(x.Path, false); h != nil {
		x = h.Snapshot
	}
	return s.Memory.Remove(ctx, x)
}

func (s removesMore) Remove(ctx context.Context, x snapshot.Snapshot) error {
	if err := s.Memory.Remove(ctx, x); err != nil {
		return err
	}
	s.held = nil
	return nil
}

func (s unlocked) Lock(ctx context.Context, who string) (func() error, error) {
	return func() error { return nil }, ctx.Err()
}

func (s lockedForEver) Lock(ctx context.Context, who string) (func() error, error) {
	_, err := s.Memory.Lock(ctx, who)
	return func() error { return nil }, err
}

func (s anonymousLock) Lock(ctx context.Context, who string) (func() error, error) {
	return s.Memory.Lock(ctx, "somebody")
}

func (s sameLocation) Location() string { return "here" }

func (s badEstimate) Estimate(ctx context.Context, r store.Request) (snapshot.Size, error) {
	return snapshot.AboutSize(1), ctx.Err()
}

func (s badMeasure) Measure(ctx context.Context, r store.Request) (snapshot.Size, error) {
	return s.Estimate(ctx, r)
}

func (s neverProves) Prove(ctx context.Context, x snapshot.Snapshot) (snapshot.Trust, error) {
	return snapshot.Doubtful, ctx.Err()
}

func (s copiesWrong) Copy(ctx context.Context, want store.Want) error {
	if err := s.Memory.Copy(ctx, want); err != nil {
		return err
	}
	s.at(want.Path, false).tree = tree{}
	return nil
}

func TestSuiteCatchesBrokenStores(t *testing.T) {
	catches(t, []brokenStore{
		{func(m *Memory) store.Store { return &listsNothing{m} }, "list/what is there"},
		{func(m *Memory) store.Store { return &listsTwice{m} }, "list/changes nothing"},
		{func(m *Memory) store.Store { return &staleList{m, new(*snapshot.Inventory)} }, "list/sees what came later"},
		{func(m *Memory) store.Store { return &ignoresContext{m} }, "create/cancelled before"},
		{func(m *Memory) store.Store { return &ignoresContext{m} }, "remove/cancelled"},
		{func(m *Memory) store.Store { return &ignoresContext{m} }, "cancelled/list and measure"},
		{func(m *Memory) store.Store { return &wrongStream{m} }, "open/increment"},
		{func(m *Memory) store.Store { return &shortStream{m} }, "open/full"},
		{func(m *Memory) store.Store { return &shortStream{m} }, "measure/exact"},
		{func(m *Memory) store.Store { return &noEnd{m} }, "refuse/no END"},
		{func(m *Memory) store.Store { return &noEnd{m} }, "refuse/no END of an increment"},
		{func(m *Memory) store.Store { return &vagueNotFound{m} }, "open/not there"},
		{func(m *Memory) store.Store { return &readsOn{m} }, "open/close early"},
		{func(m *Memory) store.Store { return &closesBadly{m} }, "open/close early"},
		{func(m *Memory) store.Store { return &believes{m} }, "refuse/another state"},
		{func(m *Memory) store.Store { return &overwrites{m} }, "create/taken"},
		{func(m *Memory) store.Store { return &commitsLate{m} }, "commit/nothing shows before"},
		{func(m *Memory) store.Store { return &commitsLate{m} }, "refuse/no END"},
		{func(m *Memory) store.Store { return &publishesEarly{m} }, "commit/nothing shows before"},
		{func(m *Memory) store.Store { return &keepsAbandoned{m} }, "close/abandons"},
		{func(m *Memory) store.Store { return &keepsAbandoned{m} }, "commit/cancelled before"},
		{func(m *Memory) store.Store { return &leavesPartials{m} }, "close/abandons"},
		{func(m *Memory) store.Store { return &escapes{m} }, "create/outside of the directory"},
		{func(m *Memory) store.Store { return &orphans{m} }, "create/parent missing"},
		{func(m *Memory) store.Store { return &removesAny{m} }, "remove/another one by now"},
		{func(m *Memory) store.Store { return &removesMore{m} }, "remove/only that"},
		{func(m *Memory) store.Store { return &unlocked{m} }, "lock/one at a time"},
		{func(m *Memory) store.Store { return &lockedForEver{m} }, "lock/one at a time"},
		{func(m *Memory) store.Store { return &anonymousLock{m} }, "lock/one at a time"},
		{func(m *Memory) store.Store { return &sameLocation{m} }, "location"},
		{func(m *Memory) store.Store { return &badEstimate{m} }, "measure/estimate"},
		{func(m *Memory) store.Store { return &badMeasure{m} }, "measure/exact"},
		{func(m *Memory) store.Store { return &neverProves{m} }, "prove"},
		{func(m *Memory) store.Store { return &copiesWrong{m} }, "copy"},
	})
}

type brokenStore struct {
	wrap func(m *Memory) store.Store
	by   string // a case that has to fail
}

func catches(t *testing.T, broken []brokenStore) {
	for _, b := range broken {
		name := strings.TrimPrefix(fmt.Sprintf("%T", b.wrap(NewMemory(""))), "*storetest.")
		t.Run(name+"/"+b.by, func(t *testing.T) {
			i := slices.IndexFunc(Cases(), func(c Case) bool { return c.Name == b.by })
			if i < 0 {
				t.Fatalf("there is no case %q", b.by)
			}
			complaints := verdict(t, Cases()[i], memoryHarness(b.wrap))
			if len(complaints) == 0 {
				t.Fatalf("a store that is %s passes the case %q", name, b.by)
			}
			t.Logf("%s", complaints[0])
		})
	}
}
