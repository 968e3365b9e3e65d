package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// TestFaults has one fault at each step in turn.
func TestFaults(t *testing.T) {
	const (
		heals = "committed after 2 tries"
		fails = "failed after 1 try"
		lasts = "failed after 3 tries"
		noop  = "committed after 1 try"
	)
	for _, c := range []struct {
		name  string
		fault func(b *bench, id snapshot.ID)
		want  string
		is    error
	}{
		{"open", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Return(errLasting) }, fails, errLasting},
		{"open once", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Return(errTemporary) }, heals, nil},
		{"open twice", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Times(3).Return(errTemporary) }, lasts, errTemporary},
		{"open not found", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Return(store.ErrNotFound) }, fails, store.ErrNotFound},
		{"read", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Read).For(id).Return(errLasting) }, fails, errLasting},
		{"read once", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Read).For(id).Return(errTemporary) }, heals, nil},
		{"break", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Break(500, errLasting) }, fails, errLasting},
		{"break once", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Break(500, errTemporary) }, heals, nil},
		{"empty", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(0) }, heals, nil},
		{"cut in the header", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(10) }, heals, nil},
		{"cut in the first command", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(30) }, heals, nil},
		{"cut in the middle", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(130) }, heals, nil},
		{"always cut", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Always().Cut(130) }, lasts, stream.ErrTruncated},
		{"restart", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Restart(100) }, heals, nil},
		{"always restart", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Times(5).Restart(100) }, lasts, stream.ErrRestarted},
		{"corrupt data", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Times(2).Corrupt(60) }, "committed after 3 tries", nil},
		{"always corrupt", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Always().Corrupt(60) }, lasts, stream.ErrChecksum},
		{"corrupt header", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Corrupt(3) }, fails, stream.ErrNotStream},
		{"corrupt version", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Corrupt(14) }, fails, stream.ErrVersion},
		{"close stream", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.CloseStream).For(id).Return(errLasting) }, noop, nil},
		{"create", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Create).For(id).Return(errLasting) }, fails, errLasting},
		{"create once", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Create).For(id).Return(errTemporary) }, heals, nil},
		{"create exists", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Create).For(id).Return(&store.ExistsError{}) }, fails, nil},
		{"write", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Write).For(id).Return(errLasting) }, fails, errLasting},
		{"write once", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Write).For(id).Return(errTemporary) }, heals, nil},
		{"write complains of the stream", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Write).For(id).Return(stream.ErrChecksum) }, fails, stream.ErrChecksum},
		{"commit", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Commit).For(id).Return(errLasting) }, fails, errLasting},
		{"commit once", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Commit).For(id).Return(errTemporary) }, heals, nil},
		{"commit complains of the stream", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Commit).For(id).Return(stream.ErrTruncated) }, fails, stream.ErrTruncated},
		{"close writer", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.CloseWriter).For(id).Return(errLasting) }, noop, nil},
		{"commit and close writer", func(b *bench, id snapshot.ID) {
			b.faultyDst.On(storetest.Commit).For(id).Return(io.ErrUnexpectedEOF)
			b.faultyDst.On(storetest.CloseWriter).For(id).Return(errLasting)
		}, fails, errLasting},
		{"three different ones", func(b *bench, id snapshot.ID) {
			b.faultySrc.On(storetest.Open).For(id).Return(errTemporary)
			b.faultySrc.On(storetest.Open).For(id).Restart(50)
			b.faultyDst.On(storetest.Commit).For(id).Return(errTemporary)
		}, lasts, errTemporary},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{0, 1, 4, 6} {
				synctest.Test(t, func(t *testing.T) {
					b := newBench()
					b.family("a")
					b.family("b")
					steps := b.plan(t)
					at := steps[step]
					c.fault(b, at.Edge.To)
					r := b.run(t.Context(), t, steps)
					x := r.Results[step]
					got := fmt.Sprintf("%s after %d tries", x.Outcome, x.Tries)
					if got = strings.Replace(got, "1 tries", "1 try", 1); got != c.want {
						t.Fatalf("step %d: %s, want %s: %v", step+1, got, c.want, x.Err)
					}
					if c.is != nil && !errors.Is(x.Err, c.is) {
						t.Errorf("step %d: %v, want %v", step+1, x.Err, c.is)
					}
					for i, y := range r.Results {
						want := Committed
						switch {
						case x.Outcome == Failed && i > step && path.Dir(y.Step.Path) == path.Dir(at.Path):
							want = Skipped // every step starts from the one before
							if d, ok := errors.AsType[*DependencyError](y.Err); !ok || d.Path != r.Results[i-1].Step.Path {
								t.Errorf("step %d was skipped for %v", i+1, y.Err)
							}
						case i == step:
							continue
						}
						if y.Outcome != want {
							t.Errorf("step %d: %s (%v), want %s", i+1, y.Outcome, y.Err, want)
						}
					}
					if x.Outcome == Failed && (r.Err() == nil || !strings.Contains(r.Err().Error(), at.Path)) {
						t.Errorf("the error of the whole is %v", r.Err())
					}
					// The next run does the rest.
					b.faultySrc.Reset()
					b.faultyDst.Reset()
					b.run(t.Context(), t, b.plan(t))
					if more := b.plan(t); len(more) > 0 {
						t.Errorf("there is more to do: %+v", more)
					}
				})
			}
		})
	}
}

func TestCopyFaults(t *testing.T) {
	for want, err := range map[string]error{"committed 2": errTemporary, "failed 1": errLasting} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.src.Add("a", 1, "a")
			b.dst.AddOutside("a", 1, "/x/a")
			b.faultyDst.On(storetest.Copy).Return(err)
			r := b.run(t.Context(), t, b.plan(t))
			if got := fmt.Sprint(r.Results[0].Outcome, " ", r.Results[0].Tries); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.Add("a", 1, "a")
		b.faultySrc.On(storetest.Open).Times(3).Return(errTemporary)
		begun := time.Now()
		b.run(t.Context(), t, b.plan(t))
		var waits []time.Duration
		for _, e := range b.events {
			if e.Kind == Retry {
				waits = append(waits, e.Wait)
			}
		}
		if len(waits) != 2 || waits[0] < 500*time.Millisecond || waits[0] > 1500*time.Millisecond || waits[1] < 2*time.Second || waits[1] > 6*time.Second {
			t.Errorf("waited %v", waits)
		}
		if d := time.Since(begun); d != waits[0]+waits[1] {
			t.Errorf("it took %v", d)
		}
	})
}

// A stream of hours is tried again too.
func TestLongTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.Add("a", 1, "a")
		b.faultyDst.On(storetest.Commit).Times(2).Do(func(context.Context) error { time.Sleep(30 * time.Hour); return errTemporary })
		if r := b.run(t.Context(), t, b.plan(t)); r.Err() != nil {
			t.Error(r.Err())
		}
	})
}

// TestWrappedEOF: a source that fails with somebody else's end of file has not come
// to its own.
func TestWrappedEOF(t *testing.T) {
	b := newBench()
	b.src.Add("a", 10, "a")
	b.faultySrc.On(storetest.Open).Always().Break(150, fmt.Errorf("a server hung up: %w", io.EOF))
	r := b.run(t.Context(), t, b.plan(t))
	if r.Results[0].Outcome != Failed || b.faultyDst.Calls(storetest.Commit) != 0 {
		t.Errorf("%s: %v", r.Results[0].Outcome, r.Results[0].Err)
	}
}
