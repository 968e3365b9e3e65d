package transfer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// resumingBench has one snapshot of three megabytes to send, whose transfer can
// be carried on from every 200 kB.
func resumingBench() *bench {
	b := newBench()
	b.resuming = true
	b.dst.SetCheckpoints(200_000)
	b.src.SetBulk(3 << 20)
	b.src.Add("a", 1, "a")
	return b
}

// interrupted has the transfer broken off once, and returns the place from
// which it can be carried on.
func (b *bench) interrupted(t *testing.T) store.Mark {
	t.Helper()
	b.faultySrc.On(storetest.Open).Break(2<<20, errLasting)
	if r := b.run(t.Context(), t, b.plan(t)); r.Count(Failed) != 1 || r.Results[0].Resumed != 0 {
		t.Fatalf("%+v", r.Results)
	}
	mark, ok := b.dst.Checkpoint("a")
	if !ok || mark.Offset < 1<<20 || mark.Offset > 2<<20 {
		t.Fatalf("the checkpoint is %+v", mark)
	}
	return mark
}

// kinds returns what the events of the last run tell, Progress left out.
func (b *bench) kinds() []Kind {
	var kinds []Kind
	for _, e := range b.events {
		if e.Kind != Progress {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

func TestCarriesOn(t *testing.T) {
	b := resumingBench()
	mark := b.interrupted(t)
	r := b.run(t.Context(), t, b.plan(t))
	x := r.Results[0]
	if x.Outcome != Committed || x.Tries != 1 || x.Resumed != mark.Offset || x.Bytes < 3<<20 {
		t.Errorf("%+v", x)
	}
	if got, want := b.kinds(), []Kind{StepBegun, Resumed, Committed, Done}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, e := range b.events {
		if e.Kind == Resumed && e.Bytes != mark.Offset {
			t.Errorf("%+v", e)
		}
	}
	if inv, _ := b.dst.List(t.Context()); len(inv.Partials) > 0 {
		t.Errorf("left behind: %+v", inv.Partials)
	}
}

// A try carries on where the one before it in the same run has come to.
func TestTryCarriesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resumingBench()
		b.faultySrc.On(storetest.Open).Break(1<<20, errTemporary)
		b.faultySrc.On(storetest.Open).Break(2<<20, errTemporary)
		r := b.run(t.Context(), t, b.plan(t))
		if x := r.Results[0]; x.Outcome != Committed || x.Tries != 3 || x.Resumed < 1<<20 {
			t.Errorf("%+v", x)
		}
		if got, want := b.kinds(), []Kind{StepBegun, Retry, Resumed, Retry, Resumed, Committed, Done}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// All that was missing may be the commit.
func TestCarriesOnAtTheEnd(t *testing.T) {
	b := resumingBench()
	b.dst.SetCheckpoints(1)
	b.faultyDst.On(storetest.Commit).Return(errLasting)
	b.run(t.Context(), t, b.plan(t))
	r := b.run(t.Context(), t, b.plan(t))
	if x := r.Results[0]; x.Outcome != Committed || x.Resumed != x.Bytes {
		t.Errorf("%+v", x)
	}
}

// An increment is carried on like a full stream.
func TestIncrementCarriesOn(t *testing.T) {
	b := resumingBench()
	b.dst.SetBulk(3 << 20)
	b.dst.AddReceived("a", 1, "a")
	b.src.Add("a", 2, "b")
	b.faultySrc.On(storetest.Open).Break(2<<20, errLasting)
	b.run(t.Context(), t, b.plan(t))
	r := b.run(t.Context(), t, b.plan(t))
	if x := r.Results[0]; x.Step.Edge.IsFull() || x.Outcome != Committed || x.Resumed < 1<<20 {
		t.Errorf("%+v", x)
	}
}

// What does not fit is begun again, in the same try, and nothing of it is used.
func TestAnotherStream(t *testing.T) {
	for name, alter := range map[string]func(*store.Mark){
		"another digest":       func(m *store.Mark) { m.Digest[31] ^= 1 },
		"another count":        func(m *store.Mark) { m.Commands++ },
		"no command ends here": func(m *store.Mark) { m.Offset-- },
		"nor here":             func(m *store.Mark) { m.Offset++ },
		"in the header":        func(m *store.Mark) { m.Offset = 5 },
		"behind the end":       func(m *store.Mark) { m.Offset = 1 << 30 },
	} {
		t.Run(name, func(t *testing.T) {
			b := resumingBench()
			b.interrupted(t)
			b.dst.AlterCheckpoint("a", alter)
			r := b.run(t.Context(), t, b.plan(t))
			if x := r.Results[0]; x.Outcome != Committed || x.Tries != 1 || x.Resumed != 0 {
				t.Errorf("%+v", x)
			}
			if got, want := b.kinds(), []Kind{StepBegun, Retry, Committed, Done}; !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			for _, e := range b.events {
				if e.Kind == Retry && (e.Wait != 0 || e.Error != store.ErrAnother.Error()) {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// Beginning again counts as no try, and is not forgotten when what follows fails
// before it gets that far.
func TestAnotherStreamAndFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resumingBench()
		b.interrupted(t)
		b.dst.AlterCheckpoint("a", func(m *store.Mark) { m.Digest[0] ^= 1 })
		b.faultySrc.On(storetest.Open).After(1).Return(errTemporary)
		b.faultyDst.On(storetest.Create).After(1).Return(errTemporary)
		r := b.run(t.Context(), t, b.plan(t))
		if x := r.Results[0]; x.Outcome != Committed || x.Tries != 3 || x.Resumed != 0 {
			t.Errorf("%+v", x)
		}
		if got, want := b.kinds(), []Kind{StepBegun, Retry, Retry, Retry, Committed, Done}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// stubborn carries on even if it is asked not to.
type stubborn struct{ *storetest.Memory }

func (s stubborn) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	want.Fresh = false
	return s.Memory.Create(ctx, want)
}

func TestDestinationThatNeverBeginsAnew(t *testing.T) {
	b := resumingBench()
	b.interrupted(t)
	b.dst.AlterCheckpoint("a", func(m *store.Mark) { m.Digest[0] ^= 1 })
	b.faultyDst = storetest.NewFault(stubborn{b.dst})
	if r := b.run(t.Context(), t, b.plan(t)); r.Results[0].Outcome != Failed || r.Results[0].Tries != 1 {
		t.Errorf("%+v", r.Results[0])
	}
}

// Faults while comparing are those of a stream.
func TestFaultsWhileComparing(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(r *storetest.Rule)
		tries int
		want  Kind
	}{
		{"broken for now", func(r *storetest.Rule) { r.Break(1<<20, errTemporary) }, 2, Committed},
		{"broken", func(r *storetest.Rule) { r.Break(1<<20, errLasting) }, 1, Failed},
		{"cut", func(r *storetest.Rule) { r.Cut(1 << 20) }, 2, Committed},
		{"corrupt", func(r *storetest.Rule) { r.Corrupt(1 << 20) }, 2, Committed},
		{"restarted", func(r *storetest.Rule) { r.Restart(1 << 20) }, 2, Committed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := resumingBench()
				mark := b.interrupted(t)
				c.fault(b.faultySrc.On(storetest.Open))
				r := b.run(t.Context(), t, b.plan(t))
				if x := r.Results[0]; x.Outcome != c.want || x.Tries != c.tries || x.Outcome == Committed && x.Resumed != mark.Offset {
					t.Errorf("%+v", x)
				}
				// The checkpoint outlives what was none of its fault.
				if at, ok := b.dst.Checkpoint("a"); c.want == Failed && (!ok || at != mark) {
					t.Errorf("the checkpoint is %+v now, and was %+v", at, mark)
				}
			})
		})
	}
}

func TestCancelledWhileComparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resumingBench()
		mark := b.interrupted(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.faultySrc.On(storetest.Read).After(2).Block()
		r := b.run(ctx, t, b.plan(t))
		if x := r.Results[0]; x.Outcome != Interrupted || x.Resumed != 0 || !errors.Is(x.Err, context.DeadlineExceeded) {
			t.Errorf("%+v", x)
		}
		if at, ok := b.dst.Checkpoint("a"); !ok || at != mark {
			t.Errorf("the checkpoint is %+v now, and was %+v", at, mark)
		}
	})
}

// Whoever looks on sees that what goes through is only compared.
func TestProgressWhileComparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resumingBench()
		mark := b.interrupted(t)
		b.faultySrc.On(storetest.Read).Always().Do(func(context.Context) error { time.Sleep(300 * time.Millisecond); return nil })
		steps := sized(b.plan(t), snapshot.AboutSize(3<<20))
		b.run(t.Context(), t, steps)
		comparing, carrying := 0, 0
		for _, e := range b.events {
			switch {
			case e.Kind != Progress:
			case e.Comparing:
				comparing++
				if e.Bytes > mark.Offset {
					t.Errorf("still comparing: %+v", e)
				}
			default:
				carrying++
				if e.Bytes < mark.Offset {
					t.Errorf("not comparing: %+v", e)
				}
			}
		}
		if comparing < 2 || carrying < 1 {
			t.Errorf("%d times comparing, %d times not", comparing, carrying)
		}
	})
}
