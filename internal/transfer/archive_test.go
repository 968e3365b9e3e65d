package transfer

import (
	"context"
	"io"
	"testing"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// telling is a source that knows how long its streams are, as archives do.
type telling struct {
	*storetest.Memory
	length snapshot.Size
}

func (s telling) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	in, err := s.Memory.Open(ctx, r)
	return lengthy{in, s.length}, err
}

type lengthy struct {
	io.ReadCloser
	length snapshot.Size
}

func (l lengthy) Length() snapshot.Size { return l.length }

// sparing is a destination that has the first half of everything already.
type sparing struct{ *storetest.Memory }

func (s sparing) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	return &skipping{Writer: w}, err
}

type skipping struct {
	store.Writer
	n int64
}

func (w *skipping) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.n += int64(n) / 2
	return n, err
}

func (w *skipping) Skipped() int64 { return w.n }

// What the source says when a stream is opened counts more than the plan, and
// what the destination has not had to store again is told.
func TestLengthAndSkipped(t *testing.T) {
	b := newBench()
	b.src.SetBulk(1 << 20)
	b.src.Add("a", 1, "a")
	steps := b.plan(t)
	if len(steps) != 1 || steps[0].Action != plan.Send {
		t.Fatalf("%+v", steps)
	}
	whole, err := b.src.Measure(t.Context(), requestOf(steps[0]))
	if err != nil {
		t.Fatal(err)
	}
	steps[0].Size = snapshot.ExactSize(10) // as it is stored
	var last Event
	r := Run(t.Context(), steps, Options{
		Source: telling{b.src, whole}, Destination: sparing{b.dst},
		Events: func(e Event) {
			if e.Kind == Committed {
				last = e
			}
		},
	})
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	if last.Expected != whole.Bytes || last.TotalExpected != whole.Bytes || !last.TotalExact {
		t.Errorf("expected are %d of %d bytes, with %d in all", last.Expected, whole.Bytes, last.TotalExpected)
	}
	if x := r.Results[0]; x.Skipped < whole.Bytes/2-100 || x.Skipped > whole.Bytes/2 || last.Skipped != x.Skipped || x.Bytes != whole.Bytes {
		t.Errorf("%d of %d bytes skipped, and %d by the event", x.Skipped, x.Bytes, last.Skipped)
	}
}
