package transfer

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/store/storetest"
)

// While a step commits, the stream of the next one is opened, and no other.
func TestOpensOneAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.family("a")
		b.family("b")
		var seen []int
		commits := 0
		b.faultyDst.On(storetest.Commit).Always().Do(func(context.Context) error {
			synctest.Wait()
			commits++
			seen = append(seen, b.faultySrc.Calls(storetest.Open)-commits)
			if n := b.faultyDst.Calls(storetest.Create); n != commits {
				t.Errorf("%d writers in commit %d", n, commits)
			}
			return nil
		})
		b.run(t.Context(), t, b.plan(t))
		if want := []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 0}; !slices.Equal(seen, want) {
			t.Errorf("opened ahead: %v, want %v", seen, want)
		}
	})
}

// A source that is slow to open costs nothing while the destination commits.
func TestOpeningTakesNoTimeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.family("a")
		b.slowly()
		b.faultySrc.On(storetest.Open).Always().Do(func(context.Context) error { time.Sleep(700 * time.Millisecond); return nil })
		begun := time.Now()
		b.run(t.Context(), t, b.plan(t))
		if d := time.Since(begun); d != 5*time.Second+700*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

// What was opened for a step that is not tried is closed, when it is known, and
// a step behind it gets a stream of its own.
func TestOpenedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.family("a")
		b.family("b")
		var busy atomic.Int64
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("a", 11)).Do(func(context.Context) error {
			synctest.Wait()
			busy.Store(int64(b.src.Busy()))
			return errLasting
		})
		b.faultySrc.On(storetest.Open).For(storetest.IDOf("b", 10)).Do(func(context.Context) error {
			synctest.Wait()
			if n := b.src.Busy(); n != 0 {
				t.Errorf("%d streams are open when the next family begins", n)
			}
			return nil
		})
		r := b.run(t.Context(), t, b.plan(t))
		if r.Count(Committed) != 6 || r.Count(Skipped) != 3 || busy.Load() != 1 {
			t.Errorf("%s, %d streams were open in the commit that failed", outcomes(r), busy.Load())
		}
	})
}

// A fault in opening ahead is one of the step that it is for.
func TestFaultAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.family("a")
		b.faultySrc.On(storetest.Open).For(storetest.IDOf("a", 11)).Return(errTemporary)
		b.faultySrc.On(storetest.Open).For(storetest.IDOf("a", 13)).Block()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := b.run(ctx, t, b.plan(t))
		if got, want := outcomes(r), "committed committed committed interrupted skipped"; got != want || r.Results[1].Tries != 2 {
			t.Errorf("%s after %d tries of the second, want %s", got, r.Results[1].Tries, want)
		}
	})
}
