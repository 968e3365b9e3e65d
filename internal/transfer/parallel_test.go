package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// sized gives all steps a size.
func sized(steps []plan.Step, size snapshot.Size) []plan.Step {
	for i := range steps {
		steps[i].Size = size
	}
	return steps
}

// slowly has every commit take a second of the bubble's time.
func (b *bench) slowly() {
	b.faultyDst.On(storetest.Commit).Always().Do(func(context.Context) error { time.Sleep(time.Second); return nil })
}

// Ten subvolumes with five snapshots each, where commits are all that takes
// time.
func TestSideBySide(t *testing.T) {
	for _, c := range []struct {
		parallel int
		size     snapshot.Size
		want     time.Duration
	}{
		{0, snapshot.AboutSize(1000), 50 * time.Second},
		{1, snapshot.AboutSize(1000), 50 * time.Second},
		{2, snapshot.AboutSize(small), 25 * time.Second},
		{10, snapshot.ExactSize(1000), 5 * time.Second},
		{100, snapshot.ExactSize(0), 5 * time.Second},
		{10, snapshot.Size{}, 50 * time.Second},
		{10, snapshot.AboutSize(small + 1), 50 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d of %+v", c.parallel, c.size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.parallel = c.parallel
				for i := range 10 {
					b.family(fmt.Sprint("f", i))
				}
				b.slowly()
				steps := sized(b.plan(t), c.size)
				begun := time.Now()
				if r := b.run(t.Context(), t, steps); r.Err() != nil {
					t.Error(r.Err())
				}
				if d := time.Since(begun); d != c.want {
					t.Errorf("it took %v, want %v", d, c.want)
				}
			})
		})
	}
}

// A large stream waits until it is alone, and what comes behind it in the plan
// does not overtake it.
func TestLargeOnesRunAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.parallel = 4
		for i := range 9 {
			b.src.Add(fmt.Sprint("f", i), 1, fmt.Sprint(i))
		}
		b.slowly()
		steps := sized(b.plan(t), snapshot.AboutSize(1000))
		steps[2].Size = snapshot.AboutSize(1 << 30)
		b.run(t.Context(), t, steps)
		var begun []string
		first := b.events[0].Time
		for _, e := range b.events {
			if e.Kind == StepBegun {
				begun = append(begun, fmt.Sprintf("%d at %v", e.Step, e.Time.Sub(first)))
			}
		}
		want := []string{"1 at 0s", "2 at 0s", "3 at 1s", "4 at 2s", "5 at 2s", "6 at 2s", "7 at 2s", "8 at 3s", "9 at 3s"}
		if !slices.Equal(begun, want) {
			t.Errorf("begun: %v, want %v", begun, want)
		}
	})
}

func TestOnlyFollowersAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.parallel = 10
		for _, f := range []string{"a", "b", "c"} {
			b.family(f)
		}
		b.slowly()
		steps := sized(b.plan(t), snapshot.AboutSize(1000))
		b.faultyDst.On(storetest.Create).For(storetest.IDOf("b", 11)).Return(errLasting)
		r := b.run(t.Context(), t, steps)
		const want = "committed committed committed committed committed" +
			" committed failed skipped skipped skipped" +
			" committed committed committed committed committed"
		if got := outcomes(r); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// When the context ends, all that run are abandoned at once.
func TestAllAreAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.parallel = 3
		for _, f := range []string{"a", "b", "c", "d"} {
			b.family(f)
		}
		why := errors.New("the user had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(why) })
		b.faultyDst.On(storetest.Write).For(storetest.IDOf("a", 10)).Always().Block()
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("b", 10)).Always().Block()
		b.faultySrc.On(storetest.Open).For(storetest.IDOf("c", 10)).Always().Return(errTemporary)
		begun := time.Now()
		r := b.run(ctx, t, sized(b.plan(t), snapshot.AboutSize(1000)))
		if d := time.Since(begun); d != 3*time.Second {
			t.Errorf("it took %v", d)
		}
		if r.Count(Interrupted) != 3 || r.Count(Skipped) != 17 || !errors.Is(r.Err(), why) {
			t.Errorf("%s: %v", outcomes(r), r.Err())
		}
	})
}

// What failed before the context ended is in the error too, wherever it stands
// in the plan.
func TestErrNamesAllFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.parallel = 2
		b.family("a")
		b.family("b")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("a", 10)).Always().Block()
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("b", 10)).Return(errLasting)
		r := b.run(ctx, t, sized(b.plan(t), snapshot.AboutSize(1000)))
		if !errors.Is(r.Err(), errLasting) || !errors.Is(r.Err(), context.DeadlineExceeded) {
			t.Errorf("%s: %v", outcomes(r), r.Err())
		}
	})
}

// recording is a source that notes what it is asked for.
type recording struct {
	*storetest.Memory
	mu       sync.Mutex
	requests []store.Request
}

func (r *recording) Open(ctx context.Context, q store.Request) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, q)
	return r.Memory.Open(ctx, q)
}

// A clone source is waited for, and left out where it did not arrive.
func TestCloneSources(t *testing.T) {
	for _, c := range []struct {
		fails bool
		want  []snapshot.ID
	}{
		{false, []snapshot.ID{storetest.IDOf("old", 1), storetest.IDOf("a", 10), storetest.IDOf("a", 12)}},
		{true, []snapshot.ID{storetest.IDOf("old", 1), storetest.IDOf("a", 10)}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.parallel = 5
			b.src.Add("old", 1, "old")
			b.dst.AddReceived("old", 1, "old")
			b.family("a")
			b.src.Add("b", 10, "b")
			src := &recording{Memory: b.src}
			b.faultySrc = storetest.NewFault(src)
			b.slowly()
			if c.fails {
				b.faultyDst.Reset()
				b.faultyDst.On(storetest.Commit).For(storetest.IDOf("a", 12)).Do(func(context.Context) error {
					time.Sleep(10 * time.Second)
					return errLasting
				})
			}
			steps := sized(b.plan(t), snapshot.AboutSize(1000))
			last := &steps[len(steps)-1]
			if last.Path != "b" {
				t.Fatalf("the last step makes %s", last.Path)
			}
			for _, id := range []snapshot.ID{storetest.IDOf("old", 1), storetest.IDOf("a", 10), storetest.IDOf("a", 12)} {
				s, _ := b.list(t).Find(id)
				last.Clones = append(last.Clones, s)
			}
			r := b.run(t.Context(), t, steps)
			if x := r.Results[len(steps)-1]; x.Outcome != Committed || x.Begun.Before(r.Results[2].Ended) {
				t.Errorf("%s, begun %v, and its clone source ended %v", x.Outcome, x.Begun, r.Results[2].Ended)
			}
			q := src.requests[slices.IndexFunc(src.requests, func(q store.Request) bool { return q.Edge == last.Edge })]
			if n := len(src.requests) - 1; src.requests[n].Edge == last.Edge {
				q = src.requests[n]
			}
			if !slices.Equal(q.Clones, c.want) {
				t.Errorf("asked for clones from %v, want %v", q.Clones, c.want)
			}
			if said := r.Results[len(steps)-1].Request; !reflect.DeepEqual(said, q) {
				t.Errorf("reported that it asked for %v, not %v", said, q)
			}
		})
	}
}

// A copy is waited for by what starts from it, though it can fail.
func TestCopyIsWaitedFor(t *testing.T) {
	for _, fault := range []error{nil, errLasting} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.parallel = 5
			b.src.Add("a", 1, "1")
			b.src.Add("a", 2, "2")
			b.dst.AddOutside("a", 1, "/elsewhere/1")
			b.faultyDst.On(storetest.Copy).Do(func(context.Context) error { time.Sleep(time.Second); return fault })
			steps := sized(b.plan(t), snapshot.AboutSize(1000))
			r := b.run(t.Context(), t, steps)
			if steps[0].Action != plan.Copy || r.Results[1].Outcome != Committed || r.Results[1].Begun.Before(r.Results[0].Ended) {
				t.Errorf("%+v", r.Results)
			}
		})
	}
}

// A panic of who looks on leaves nothing behind.
func TestEventsPanic(t *testing.T) {
	for _, kind := range []Kind{StepBegun, Skipped, Committed, Failed, Done} {
		b := newBench()
		b.family("a")
		b.family("b")
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("b", 12)).Return(errLasting)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", kind)
				}
			}()
			Run(t.Context(), sized(b.plan(t), snapshot.AboutSize(1000)), Options{
				Source: b.src, Destination: b.faultyDst, Parallel: 2,
				Events: func(e Event) {
					if e.Kind == kind {
						panic("no more")
					}
				},
			})
		}()
		if n := b.src.Busy() + b.dst.Busy(); n > 0 {
			t.Errorf("%s: %d streams and writers are open", kind, n)
		}
	}
}
