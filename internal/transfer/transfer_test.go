package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAllGoesWell(t *testing.T) {
	b := newBench()
	b.family("a")
	b.family("b")
	b.dst.AddReceived("a", 10, "a/0")
	b.dst.AddOutside("b", 14, "/other/b")
	steps := b.plan(t)
	actions := map[plan.Action]int{}
	for _, s := range steps {
		actions[s.Action]++
	}
	if actions[plan.Send] != 8 || actions[plan.Copy] != 1 {
		t.Fatalf("planned %v", actions)
	}
	r := b.run(t.Context(), t, steps)
	if err := r.Err(); err != nil || r.Count(Committed) != 9 {
		t.Errorf("%s: %v", outcomes(r), err)
	}
	for _, x := range r.Results {
		if x.Tries != 1 || x.Ended.Before(x.Begun) || x.Begun.IsZero() {
			t.Errorf("%+v", x)
		}
	}
	if more := b.plan(t); len(more) > 0 {
		t.Errorf("there is more to do: %+v", more)
	}
}

func TestNothingToDo(t *testing.T) {
	b := newBench()
	if r := b.run(t.Context(), t, nil); r.Err() != nil || len(b.events) != 1 {
		t.Errorf("%v, %+v", r.Err(), b.events)
	}
	if r := Run(t.Context(), nil, Options{Source: b.src, Destination: b.dst}); r.Err() != nil {
		t.Error(r.Err())
	}
}

// liar gives the streams of other edges than it is asked for.
type liar struct {
	*storetest.Memory
	lie func(snapshot.Edge) snapshot.Edge
}

func (l liar) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	return l.Memory.Open(ctx, store.Request{Edge: l.lie(r.Edge)})
}

func TestIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		lie   func(snapshot.Edge) snapshot.Edge
		alter func(*plan.Step)
	}{
		"another snapshot":          {lie: func(e snapshot.Edge) snapshot.Edge { e.To = storetest.IDOf("a", 13); return e }},
		"another parent":            {lie: func(e snapshot.Edge) snapshot.Edge { e.From = storetest.IDOf("a", 13); return e }},
		"full":                      {lie: func(e snapshot.Edge) snapshot.Edge { e.From = snapshot.ID{}; return e }},
		"increment":                 {alter: func(s *plan.Step) { s.Edge.From = snapshot.ID{} }, lie: func(e snapshot.Edge) snapshot.Edge { e.From = storetest.IDOf("a", 10); return e }},
		"another state":             {alter: func(s *plan.Step) { s.Snapshot.Transid++ }},
		"another state of a parent": {alter: func(s *plan.Step) { s.Parent.Transid++ }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			b.family("a")
			b.dst.AddReceived("a", 10, "a/0")
			step := b.plan(t)[0]
			if c.alter != nil {
				c.alter(&step)
			}
			if c.lie == nil {
				c.lie = func(e snapshot.Edge) snapshot.Edge { return e }
			}
			b.faultySrc = storetest.NewFault(liar{b.src, c.lie})
			r := b.run(t.Context(), t, []plan.Step{step})
			if bad, ok := errors.AsType[*IdentityError](r.Err()); !ok || bad.Want == bad.Found || r.Results[0].Tries != 1 {
				t.Errorf("%v, want *IdentityError", r.Err())
			}
			if b.faultyDst.Calls(storetest.Create) != 0 {
				t.Error("the destination was asked to create something")
			}
			t.Log(r.Err())
		})
	}
}

// TestChangedParent: a source that does not know the transaction number of what was
// made there tells it only by the stream, and the destination may have an older state.
func TestChangedParent(t *testing.T) {
	for name, c := range map[string]struct {
		alter func(*plan.Step)
		fails bool
	}{
		"changed since it was sent":    {func(s *plan.Step) { s.Held.Transid-- }, true},
		"changed before it was sent":   {func(*plan.Step) {}, false},
		"never changed":                {func(s *plan.Step) { s.Parent.Generation++; s.Held.Transid-- }, false},
		"received":                     {func(s *plan.Step) { s.Parent.Received = true; s.Held.Transid-- }, false},
		"a number that nobody knows":   {func(s *plan.Step) { s.Held.Transid = 0 }, false},
		"made by an earlier step":      {func(s *plan.Step) { s.Held = snapshot.Snapshot{} }, false},
		"a source without generations": {func(s *plan.Step) { s.Parent.Generation = 0; s.Held.Transid-- }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			b.family("a")
			b.dst.AddReceived("a", 10, "a/0")
			step := b.plan(t)[0]
			if step.Edge.IsFull() || step.Held.ID != step.Edge.From || step.Held.Transid != step.Parent.Transid {
				t.Fatalf("planned %+v", step)
			}
			step.Parent.Transid, step.Parent.Received, step.Parent.Generation = 0, false, step.Held.Transid-1
			c.alter(&step)
			r := b.run(t.Context(), t, []plan.Step{step})
			if _, ok := errors.AsType[*store.ParentError](r.Err()); ok != c.fails || !ok && r.Err() != nil {
				t.Errorf("got %v", r.Err())
			}
			if c.fails && b.faultyDst.Calls(storetest.Create) != 0 {
				t.Error("the destination was asked to create something")
			}
		})
	}
}

// bare is a store that can do nothing but list.
type bare struct{ store.Store }

func TestAbilities(t *testing.T) {
	b := newBench()
	b.src.Add("a", 1, "a")
	steps := b.plan(t)
	for _, o := range []Options{
		{Source: bare{b.src}, Destination: b.dst},
		{Source: b.src, Destination: bare{b.dst}},
	} {
		if r := Run(t.Context(), steps, o); r.Results[0].Outcome != Failed {
			t.Errorf("%+v", r.Results[0])
		}
	}
	steps[0].Action = plan.Copy
	if r := Run(t.Context(), steps, Options{Source: b.src, Destination: bare{b.dst}}); r.Results[0].Outcome != Failed {
		t.Errorf("%+v", r.Results[0])
	}
	steps[0].Action = "dance"
	if r := Run(t.Context(), steps, Options{Source: b.src, Destination: b.dst}); r.Results[0].Outcome != Failed {
		t.Errorf("%+v", r.Results[0])
	}
}

// lazy takes less than it is given, and says nothing.
type lazy struct{ *storetest.Memory }

func (l lazy) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := l.Memory.Create(ctx, want)
	return lazyWriter{w}, err
}

type lazyWriter struct{ store.Writer }

func (w lazyWriter) Write(p []byte) (int, error) { return w.Writer.Write(p[:len(p)/2]) }

func TestShortWrite(t *testing.T) {
	b := newBench()
	b.src.Add("a", 1, "a")
	b.faultyDst = storetest.NewFault(lazy{b.dst})
	if r := b.run(t.Context(), t, b.plan(t)); !errors.Is(r.Err(), io.ErrShortWrite) {
		t.Errorf("%v", r.Err())
	}
}

func TestLedgerThatFails(t *testing.T) {
	b := newBench()
	b.family("a")
	b.book.err = errLasting
	if r := b.run(t.Context(), t, b.plan(t)); r.Err() != nil {
		t.Error(r.Err())
	}
	n := 0
	for _, e := range b.events {
		if e.Kind == Warning && e.Error != "" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
}

func TestRealLedger(t *testing.T) {
	l, err := ledger.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := newBench()
	b.family("a")
	b.faultyDst.On(storetest.Commit).After(2).Do(func(context.Context) error {
		if open, err := l.Unfinished("memory dst"); err != nil || len(open) != 1 || open[0].Path != "a/2" {
			t.Errorf("while it goes on: %+v, %v", open, err)
		}
		return errLasting
	})
	if r := Run(t.Context(), b.plan(t), Options{Source: b.src, Destination: b.faultyDst, Ledger: l}); r.Count(Committed) != 2 {
		t.Error(r.Err())
	}
	if open, err := l.Unfinished("memory dst"); err != nil || len(open) != 0 {
		t.Errorf("afterwards: %+v, %v", open, err)
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.SetBulk(8 << 20)
		b.src.Add("a", 1, "a")
		b.faultyDst.On(storetest.Write).Always().Do(func(context.Context) error { time.Sleep(70 * time.Millisecond); return nil })
		steps := b.plan(t)
		steps[0].Size = snapshot.AboutSize(8 << 20)
		b.run(t.Context(), t, steps)
		var last time.Time
		n := 0
		for _, e := range b.events {
			if e.Kind != Progress {
				continue
			}
			n++
			if d := e.Time.Sub(last); d < 200*time.Millisecond {
				t.Errorf("progress after %v", d)
			}
			last = e.Time
			if e.File == "" || e.Expected != 8<<20 || e.Exact {
				t.Errorf("%+v", e)
			}
		}
		if n < 3 {
			t.Errorf("%d times progress", n)
		}
	})
}

func TestEventJSON(t *testing.T) {
	got, err := json.Marshal(Event{
		Kind: Retry, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Step: 2, Steps: 3, Action: plan.Send, To: storetest.IDOf("a", 1),
		Path: "a", Bytes: 5, Expected: 7, Exact: true, File: "dir/f", Try: 1, Wait: time.Second, Error: "no luck", Reason: "why not",
	})
	const want = `{"event":"retry","time":"2026-01-02T03:04:05Z","step":2,"steps":3,"action":"send","to":"%s","path":"a","bytes":5,"expected":7,"exact":true,"file":"dir/f","try":1,"wait_ns":1000000000,"error":"no luck","reason":"why not"}`
	if want := fmt.Sprintf(want, storetest.IDOf("a", 1)); err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
}
