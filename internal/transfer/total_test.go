package transfer

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// The totals follow what becomes of the steps.
func TestTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.SetBulk(1 << 20)
		b.dst.SetBulk(1 << 20)
		b.family("a")
		b.src.Add("b", 1, "b")
		b.dst.AddOutside("b", 1, "/x/b")
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("a", 13)).Return(errLasting)
		b.faultyDst.On(storetest.Commit).For(storetest.IDOf("a", 11)).Return(errTemporary)
		steps := b.plan(t)
		whole := make([]int64, len(steps))
		for i := range steps {
			if steps[i].Action == plan.Copy {
				continue
			}
			size, err := b.src.Measure(t.Context(), requestOf(steps[i]))
			if err != nil {
				t.Fatal(err)
			}
			whole[i] = size.Bytes
			steps[i].Size = snapshot.AboutSize(2 * size.Bytes)
		}
		if steps[0].Action != plan.Copy || len(steps) != 6 {
			t.Fatalf("%+v", steps)
		}
		steps[1].Size = snapshot.ExactSize(whole[1] / 2) // longer than it is said to be
		steps[5].Size = snapshot.Size{}
		b.run(t.Context(), t, steps)
		at := func(kind Kind, step int) Event {
			i := slices.IndexFunc(b.events, func(e Event) bool { return e.Kind == kind && e.Step == step })
			if i < 0 {
				t.Fatalf("no %s of step %d", kind, step)
			}
			return b.events[i]
		}
		rest := 2 * (whole[2] + whole[3] + whole[4])
		for _, c := range []struct {
			e              Event
			done, expected int64
			known          bool
		}{
			{at(StepBegun, 1), 0, whole[1]/2 + rest, false},
			{at(Committed, 1), 0, whole[1]/2 + rest, false},
			{at(Committed, 2), whole[1], whole[1] + rest, false},
			{at(Retry, 3), whole[1] + whole[2], whole[1] + rest, false},
			{at(Committed, 3), whole[1] + whole[2], whole[1] + rest - whole[2], false},
			{at(Committed, 4), whole[1] + whole[2] + whole[3], whole[1] + whole[2] + whole[3] + 2*whole[4], false},
			{at(Failed, 5), whole[1] + whole[2] + whole[3], whole[1] + whole[2] + whole[3], false},
			{at(Skipped, 6), whole[1] + whole[2] + whole[3], whole[1] + whole[2] + whole[3], true},
		} {
			if c.e.TotalBytes != c.done || c.e.TotalExpected != c.expected || c.e.TotalKnown != c.known || c.e.TotalExact != c.known {
				t.Errorf("%s of step %d: %d of %d, known %v, exact %v, want %d of %d, %v", c.e.Kind, c.e.Step,
					c.e.TotalBytes, c.e.TotalExpected, c.e.TotalKnown, c.e.TotalExact, c.done, c.expected, c.known)
			}
		}
	})
}
