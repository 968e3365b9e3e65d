package transfer

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// stalled returns when the run told of stalls, and what of.
func (b *bench) stalled() []string {
	var s []string
	for _, e := range b.events {
		if e.Kind == Stalled {
			s = append(s, fmt.Sprintf("%s %v %s", e.Path, e.Wait, e.Error))
		}
	}
	return s
}

// A stall is told of, ever more seldom, and then it just goes on.
func TestStalls(t *testing.T) {
	for _, c := range []struct {
		op   storetest.Op
		nth  int
		what string
	}{
		{storetest.Open, 0, source.String()},
		{storetest.Read, 1, source.String()},
		{storetest.Read, 3, source.String()},
		{storetest.Create, 0, destination.String()},
		{storetest.Write, 0, destination.String()},
		{storetest.Write, 2, destination.String()},
		{storetest.Commit, 0, commit.String()},
	} {
		t.Run(fmt.Sprint(c.op, c.nth), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.src.SetBulk(4 << 20)
				b.src.Add("a", 1, "a")
				for _, f := range []*storetest.Fault{b.faultySrc, b.faultyDst} {
					f.On(c.op).After(c.nth).Do(func(context.Context) error { time.Sleep(8 * time.Minute); return nil })
				}
				r := b.run(t.Context(), t, b.plan(t))
				if r.Err() != nil {
					t.Error(r.Err())
				}
				want := []string{"a 1m0s " + c.what, "a 2m0s " + c.what, "a 4m0s " + c.what}
				if got := b.stalled(); !slices.Equal(got[:min(3, len(got))], want) {
					t.Errorf("%q, want %q", got, want)
				}
			})
		})
	}
}

func TestCopyStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.Add("a", 1, "a")
		b.dst.AddOutside("a", 1, "/x/a")
		b.faultyDst.On(storetest.Copy).Do(func(context.Context) error { time.Sleep(90 * time.Second); return nil })
		b.run(t.Context(), t, b.plan(t))
		if got, want := b.stalled(), []string{"a 1m0s " + copying.String()}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// What moves, however slowly, does not stall; nor does a pause between tries.
func TestNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.SetBulk(1 << 20)
		b.src.Add("a", 1, "a")
		slow := func(context.Context) error { time.Sleep(59 * time.Second); return nil }
		b.faultySrc.On(storetest.Read).Always().Do(slow)
		b.faultyDst.On(storetest.Write).Always().Do(slow)
		b.faultyDst.On(storetest.Commit).Times(2).Return(errTemporary)
		begun := time.Now()
		if r := b.run(t.Context(), t, b.plan(t)); r.Err() != nil {
			t.Error(r.Err())
		}
		if got := b.stalled(); len(got) > 0 || time.Since(begun) < 20*time.Minute {
			t.Errorf("after %v: %q", time.Since(begun), got)
		}
	})
}

// After a movement the silence is counted anew.
func TestStallsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.SetBulk(8 << 20)
		b.src.Add("a", 1, "a")
		b.faultyDst.On(storetest.Write).After(1).Do(func(context.Context) error { time.Sleep(150 * time.Second); return nil })
		b.faultyDst.On(storetest.Write).After(3).Do(func(context.Context) error { time.Sleep(70 * time.Second); return nil })
		b.run(t.Context(), t, b.plan(t))
		what := destination.String()
		if got, want := b.stalled(), []string{"a 1m0s " + what, "a 2m0s " + what, "a 1m0s " + what}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// Each of several streams has a silence of its own.
func TestStallsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.parallel = 3
		for _, f := range []string{"a", "b", "c"} {
			b.src.Add(f, 1, f)
		}
		wait := func(d time.Duration) func(context.Context) error {
			return func(context.Context) error { time.Sleep(d); return nil }
		}
		b.faultyDst.On(storetest.Create).For(storetest.IDOf("a", 1)).Do(wait(3 * time.Minute))
		b.faultySrc.On(storetest.Open).For(storetest.IDOf("b", 1)).Do(wait(30 * time.Second))
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("b", 1)).Do(wait(100 * time.Second))
		b.run(t.Context(), t, sized(b.plan(t), snapshot.AboutSize(1000)))
		want := []string{"a 1m0s " + destination.String(), "b 1m0s " + commit.String(), "a 2m0s " + destination.String()}
		if got := b.stalled(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestStallAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.Add("a", 1, "a")
		b.faultyDst.On(storetest.Commit).Do(func(context.Context) error { time.Sleep(10 * time.Second); return nil })
		var waits []time.Duration
		Run(t.Context(), b.plan(t), Options{
			Source: b.src, Destination: b.faultyDst, StallAfter: 3 * time.Second,
			Events: func(e Event) {
				if e.Kind == Stalled {
					waits = append(waits, e.Wait)
				}
			},
		})
		if want := []time.Duration{3 * time.Second, 6 * time.Second}; !slices.Equal(waits, want) {
			t.Errorf("%v, want %v", waits, want)
		}
	})
}
