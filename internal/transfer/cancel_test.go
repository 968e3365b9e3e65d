package transfer

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestCancelledAtEveryCall ends the context in the middle of every call that a
// run makes.
func TestCancelledAtEveryCall(t *testing.T) {
	why := errors.New("the user had enough")
	for _, op := range []storetest.Op{storetest.Open, storetest.Read, storetest.Create, storetest.Write, storetest.Commit, storetest.CloseStream, storetest.CloseWriter} {
		for i, n := range []int{0, 1, 2, 5, 9} {
			for _, how := range []string{"and goes on", "and blocks"} {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					b := newBench()
					b.parallel = 1 + i%3
					b.family("a")
					b.family("b")
					for _, f := range []*storetest.Fault{b.faultySrc, b.faultyDst} {
						f.On(op).After(n).Do(func(ctx context.Context) error {
							cancel(why)
							if ctx.Done() == nil && op != storetest.CloseStream && op != storetest.CloseWriter {
								t.Errorf("%s has a context that never ends", op)
							}
							if how == "and blocks" && ctx.Done() != nil {
								<-ctx.Done()
								return ctx.Err()
							}
							return nil
						})
					}
					steps := sized(b.plan(t), snapshot.AboutSize(1000))
					r := b.run(ctx, t, steps)
					if ctx.Err() == nil {
						return // there are not as many calls
					}
					if r.Count(Committed) == len(steps) {
						if r.Err() != nil {
							t.Error(r.Err())
						}
					} else if !errors.Is(r.Err(), why) {
						t.Errorf("%v, want the context's cause", r.Err())
					}
					if n := r.Count(Failed); n > 0 {
						t.Errorf("%d steps failed", n)
					}
					if n := r.Count(Interrupted); n > b.parallel {
						t.Errorf("%d steps were interrupted", n)
					}
					b.faultySrc.Reset()
					b.faultyDst.Reset()
					b.run(t.Context(), t, b.plan(t))
					if more := b.plan(t); len(more) > 0 {
						t.Errorf("there is more to do: %+v", more)
					}
				})
			}
		}
	}
}

func TestCancelledBefore(t *testing.T) {
	b := newBench()
	b.family("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := b.run(ctx, t, b.plan(t)); r.Count(Skipped) != 5 || !errors.Is(r.Err(), context.Canceled) || len(b.events) != 1 {
		t.Errorf("%s: %v, %+v", outcomes(r), r.Err(), b.events)
	}
}

func TestCancelledInAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		b := newBench()
		b.family("a")
		b.faultySrc.On(storetest.Open).Always().Return(errTemporary)
		begun := time.Now()
		r := b.run(ctx, t, b.plan(t))
		if d := time.Since(begun); d != 100*time.Millisecond || r.Results[0].Outcome != Interrupted || !errors.Is(r.Err(), context.DeadlineExceeded) {
			t.Errorf("after %v: %s, %v", d, outcomes(r), r.Err())
		}
	})
}

// TestCancelledAtAnyTime is for the race detector.
func TestCancelledAtAnyTime(t *testing.T) {
	b := newBench()
	b.src.SetBulk(300 << 10)
	b.family("a")
	b.family("b")
	b.resuming = true
	b.dst.SetCheckpoints(100 << 10)
	for i := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
		b.parallel = i % 3
		b.run(ctx, t, sized(b.plan(t), snapshot.AboutSize(1000)))
		cancel()
	}
	b.run(t.Context(), t, b.plan(t))
	if more := b.plan(t); len(more) > 0 {
		t.Errorf("there is more to do: %+v", more)
	}
}
