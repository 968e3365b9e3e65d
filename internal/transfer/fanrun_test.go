package transfer

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// requests are those of the steps that send.
func requests(steps []plan.Step) []store.Request {
	var all []store.Request
	for _, s := range steps {
		if s.Action != plan.Send {
			continue
		}
		q := store.Request{Edge: s.Edge}
		for _, c := range s.Clones {
			q.Clones = append(q.Clones, c.ID)
		}
		all = append(all, q)
	}
	return all
}

// fanOut brings what the source has to several destinations at once.
func fanOut(f *Fan, src store.Store, to []*storetest.Fault, plans [][]plan.Step, contexts []context.Context, parallel int) []*Report {
	reports := make([]*Report, len(to))
	var runs []*FanRun
	for i := range to {
		runs = append(runs, f.Run())
		runs[i].Expect(requests(plans[i]))
	}
	var all sync.WaitGroup
	for i, r := range runs {
		all.Go(func() {
			defer r.Close()
			reports[i] = Run(contexts[i], plans[i], Options{Source: src, Destination: to[i], Streams: r, Parallel: parallel})
		})
	}
	all.Wait()
	return reports
}

func TestFanRuns(t *testing.T) {
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.family("a")
			b.family("b")
			steps := sized(b.plan(t), snapshot.AboutSize(1000))
			var to []*storetest.Fault
			var stores []*storetest.Memory
			for i := range 3 {
				m := storetest.NewMemory(fmt.Sprint("dst", i))
				stores = append(stores, m)
				to = append(to, storetest.NewFault(m))
			}
			to[1].On(storetest.Commit).Always().Do(func(context.Context) error { time.Sleep(3 * time.Second); return nil })
			to[2].On(storetest.Create).After(3).Always().Block()
			short, stop := context.WithTimeout(t.Context(), time.Hour)
			defer stop()
			f := NewFan(b.faultySrc)
			reports := fanOut(f, b.faultySrc, to, [][]plan.Step{steps, steps, steps}, []context.Context{t.Context(), t.Context(), short}, parallel)
			for i, r := range reports[:2] {
				if r.Err() != nil {
					t.Errorf("destination %d: %v", i, r.Err())
				}
				for _, s := range steps {
					if stores[i].Digest(s.Edge.To) != b.src.Digest(s.Edge.To) {
						t.Errorf("destination %d has another %s", i, s.Path)
					}
				}
			}
			if n := reports[2].Count(Committed); n != 3 {
				t.Errorf("%d steps to the bad destination were committed, want 3", n)
			}
			if n := b.faultySrc.Calls(storetest.Open); n != len(steps) {
				t.Errorf("%d streams were opened for %d steps, %d at a time", n, len(steps), parallel)
			}
			f.nothingLeft(t)
		})
	}
}

// Whatever happens at the source and at any destination, each has whole snapshots
// only, and another run brings what is missing.
func TestFanRunsWhateverHappens(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := newBench()
		b.family("a")
		if rapid.Bool().Draw(r, "another family") {
			b.family("b")
		}
		parallel := rapid.SampledFrom([]int{1, 4}).Draw(r, "parallel")
		every := rapid.SampledFrom([]int64{0, 1, 5000}).Draw(r, "checkpoints")
		var benches []*bench
		var to []*storetest.Fault
		var limits []time.Duration
		for i := range rapid.IntRange(2, 3).Draw(r, "destinations") {
			x := newBench()
			x.src, x.faultySrc = b.src, b.faultySrc
			x.dst = storetest.NewMemory(fmt.Sprint("dst", i))
			if every > 0 {
				x.dst.SetCheckpoints(every)
			}
			x.faultyDst = storetest.NewFault(x.dst)
			benches, to = append(benches, x), append(to, x.faultyDst)
			if rapid.Bool().Draw(r, "has one") {
				x.dst.AddReceived("a", 10, "a/0")
			}
			for range rapid.IntRange(0, 3).Draw(r, "faults") {
				inject(r, x, func() {})
			}
			limits = append(limits, time.Duration(rapid.IntRange(1, 100).Draw(r, "seconds"))*time.Second)
		}
		complaints := bubble(t, func(t tester) {
			var plans [][]plan.Step
			var contexts []context.Context
			for i, x := range benches {
				plans = append(plans, sized(x.plan(t), snapshot.AboutSize(1000)))
				ctx, stop := context.WithTimeout(context.Background(), limits[i])
				defer stop()
				contexts = append(contexts, ctx)
			}
			f := smallFan(b.faultySrc)
			f.chunk = 1000
			for range 2 {
				for i, report := range fanOut(f, b.faultySrc, to, plans, contexts, parallel) {
					inv, err := benches[i].dst.List(context.Background())
					if err != nil {
						t.Fatalf("%v", err)
					}
					for _, s := range inv.Snapshots {
						if want := b.src.Digest(s.ID); want != "" && benches[i].dst.Digest(s.ID) != want {
							t.Errorf("%s at destination %d differs from the source's", s.Path, i)
						}
					}
					for k, x := range report.Results {
						if s, ok := inv.Find(plans[i][k].Edge.To); ok != (x.Outcome == Committed) {
							t.Errorf("%s is reported as %s (%v), and there: %v", s.Path, x.Outcome, x.Err, ok)
						}
					}
				}
				f.nothingLeft(t)
				if n := b.src.Busy(); n > 0 {
					t.Errorf("%d streams are open", n)
				}
				b.faultySrc.Reset()
				for i, x := range benches {
					x.faultyDst.Reset()
					plans[i], contexts[i] = x.plan(t), context.Background()
				}
			}
			for i, x := range benches {
				if more := x.plan(t); len(more) > 0 {
					t.Errorf("there are %d steps more to do at destination %d", len(more), i)
				}
			}
		})
		for _, c := range complaints {
			r.Error(c)
		}
	})
}

// A source that can leave out the beginning of a stream can do so in a fan, and no
// other can.
func TestFanLeaps(t *testing.T) {
	b := leapingBench()
	mark := b.interrupted(t)
	b.leaper.Fault = b.faultySrc
	f := NewFan(b.leaper)
	r := f.Run()
	defer r.Close()
	report := Run(t.Context(), b.plan(t), Options{Source: b.leaper, Destination: b.faultyDst, Streams: r})
	if x := report.Results[0]; x.Outcome != Committed || x.Resumed != mark.Offset || b.leaper.carried != x.Bytes-mark.Offset {
		t.Errorf("%d bytes were carried: %+v", b.leaper.carried, x)
	}
	if r.open != 0 {
		t.Errorf("%d streams are open", r.open)
	}
	if _, ok := NewFan(b.faultySrc).Run().source().(store.Continuer); ok {
		t.Error("a run can leave out beginnings, of a source that cannot")
	}
}

// TestRealFan reads real snapshots once for two file systems, the second of which
// cannot keep up the second time.
func TestRealFan(t *testing.T) {
	p := newRealPair(t, 1, 3, local.Options{})
	other := *p
	other.dst = btrfstest.New(t)
	if err := os.Mkdir(other.dst.Path("snaps"), 0o755); err != nil {
		t.Fatal(err)
	}
	other.to = other.open(t, other.dst, local.Options{Checkpoints: replay.Checkpoints{Bytes: 256 << 10}})
	src := storetest.NewFault(p.from)
	to := []*storetest.Fault{storetest.NewFault(p.to), storetest.NewFault(other.to)}
	both := []context.Context{t.Context(), t.Context()}
	for i, c := range []struct {
		steps int
		slow  bool
		opens int
	}{{1, false, 1}, {2, true, 4}} {
		f := NewFan(src)
		if c.slow {
			f.chunk, f.window, f.ahead = 16<<10, 8, 2
			to[1].On(storetest.Write).Always().Do(func(context.Context) error { time.Sleep(100 * time.Millisecond); return nil })
		}
		steps := p.plan(t)[:c.steps]
		before := src.Calls(storetest.Open)
		for k, r := range fanOut(f, src, to, [][]plan.Step{steps, steps}, both, 1) {
			if r.Err() != nil {
				t.Errorf("part %d, destination %d: %v", i, k, r.Err())
			}
		}
		if n := src.Calls(storetest.Open) - before; n != c.opens {
			t.Errorf("part %d: the source was read %d times for %d streams, want %d", i, n, c.steps, c.opens)
		}
		f.nothingLeft(t)
	}
	p.check(t)
	other.check(t)
}

// BenchmarkFan is a stream that several read, in memory.
func BenchmarkFan(b *testing.B) {
	for _, n := range []int{1, 2, 3} {
		b.Run(fmt.Sprint(n, " readers"), func(b *testing.B) {
			e := newEndless(b, 4_000) // 192 MB
			q := store.Request{Edge: snapshot.Edge{To: storetest.IDOf("a", 1)}}
			var size int64
			for b.Loop() {
				f := NewFan(e)
				var runs []*FanRun
				for range n {
					r := f.Run()
					r.Expect([]store.Request{q})
					runs = append(runs, r)
				}
				var all sync.WaitGroup
				for i, r := range runs {
					all.Go(func() {
						defer r.Close()
						in, err := r.Open(b.Context(), q)
						if err != nil {
							b.Error(err)
							return
						}
						defer in.Close()
						k, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{in}, make([]byte, 256<<10))
						if err != nil {
							b.Error(err)
						}
						if i == 0 {
							size = k
						}
					})
				}
				all.Wait()
			}
			b.SetBytes(size)
		})
	}
}
