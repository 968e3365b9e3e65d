package transfer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestWhateverHappens has any number of faults of any kind, and any end of the
// context, at any call. What holds then is said in bench.check; and one more
// run without faults brings what is missing.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := newBench()
		for f := range rapid.IntRange(1, 3).Draw(r, "families") {
			name := fmt.Sprint("family", f)
			for _, g := range rapid.SliceOfNDistinct(rapid.Uint64Range(1, 30), 1, 6, rapid.ID).Draw(r, "generations") {
				b.src.Add(name, g, fmt.Sprintf("%s/%d", name, g))
				switch rapid.IntRange(0, 8).Draw(r, "there") {
				case 0:
					b.dst.AddReceived(name, g, fmt.Sprintf("%s/%d", name, g))
				case 1:
					b.dst.AddOutside(name, g, fmt.Sprintf("/elsewhere/%s/%d", name, g))
				}
			}
		}
		b.parallel = rapid.SampledFrom([]int{1, 2, 10}).Draw(r, "parallel")
		if every := rapid.SampledFrom([]int64{0, 1, 5000, 50_000}).Draw(r, "checkpoints"); every > 0 {
			b.resuming = true
			b.dst.SetCheckpoints(every)
		}
		sizes := rapid.SliceOfN(rapid.SampledFrom([]snapshot.Size{{}, snapshot.AboutSize(1000), snapshot.ExactSize(50), snapshot.AboutSize(1 << 40)}), 1, 5).Draw(r, "sizes")
		planned := func(t tester) []plan.Step {
			steps := b.plan(t)
			for i := range steps {
				if steps[i].Action == plan.Send {
					steps[i].Size = sizes[i%len(sizes)]
				}
				if i >= 2 && i%3 == 0 {
					steps[i].Clones = []snapshot.Snapshot{steps[i-2].Snapshot}
				}
			}
			return steps
		}
		end := func() {}
		cancel := func() { end() }
		for range rapid.IntRange(0, 8).Draw(r, "faults") {
			inject(r, b, cancel)
		}
		timeout := time.Hour // what blocks, blocks until then
		if rapid.Bool().Draw(r, "timeout") {
			timeout = time.Duration(rapid.IntRange(0, 20).Draw(r, "seconds")) * time.Second
		}
		complaints := bubble(t, func(t tester) {
			ctx, stop := context.WithTimeout(context.Background(), timeout)
			defer stop()
			end = stop
			b.run(ctx, t, planned(t))

			b.faultySrc.Reset()
			b.faultyDst.Reset()
			if r := b.run(context.Background(), t, planned(t)); r.Err() != nil {
				t.Errorf("the next run: %v", r.Err())
			}
			if more := b.plan(t); len(more) > 0 {
				t.Errorf("there is more to do: %+v", more)
			}
			b.nothingLeft(t)
		})
		for _, c := range complaints {
			r.Error(c)
		}
	})
}

// bubble runs fn on a clock of its own, and returns its complaints: rapid and
// synctest cannot share a test.
func bubble(t *testing.T, fn func(t tester)) []string {
	r := &recorder{}
	synctest.Test(t, func(*testing.T) {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		fn(r)
	})
	return r.complaints
}

type recorder struct{ complaints []string }

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.complaints = append(r.complaints, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

// inject makes one fault.
func inject(t *rapid.T, b *bench, cancel func()) {
	on := func(f *storetest.Fault, ops ...storetest.Op) *storetest.Rule {
		r := f.On(rapid.SampledFrom(ops).Draw(t, "call")).After(rapid.IntRange(0, 12).Draw(t, "after"))
		if n := rapid.IntRange(1, 5).Draw(t, "times"); n < 5 {
			return r.Times(n)
		}
		return r.Always()
	}
	anywhere := func() *storetest.Rule {
		if rapid.Bool().Draw(t, "at the source") {
			return on(b.faultySrc, storetest.Open, storetest.Read, storetest.CloseStream)
		}
		return on(b.faultyDst, storetest.Create, storetest.Write, storetest.Commit, storetest.CloseWriter, storetest.Copy)
	}
	at := rapid.Int64Range(0, 80_000).Draw(t, "at")
	switch rapid.SampledFrom([]string{"fail", "fail for now", "cancel", "block", "cut", "break", "corrupt", "restart"}).Draw(t, "fault") {
	case "fail":
		anywhere().Return(errLasting)
	case "fail for now":
		anywhere().Return(errTemporary)
	case "cancel":
		anywhere().Do(func(context.Context) error { cancel(); return nil })
	case "block":
		anywhere().Do(func(ctx context.Context) error {
			if ctx.Done() == nil {
				return errors.New("nothing to wait for")
			}
			<-ctx.Done()
			return ctx.Err()
		})
	case "cut":
		on(b.faultySrc, storetest.Open).Cut(at)
	case "break":
		on(b.faultySrc, storetest.Open).Break(at, errTemporary)
	case "corrupt":
		on(b.faultySrc, storetest.Open).Corrupt(at)
	case "restart":
		on(b.faultySrc, storetest.Open).Restart(at)
	}
}
