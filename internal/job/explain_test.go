package job

import (
	"context"
	"testing"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// longer is a source whose streams turn out a little longer than thought.
type longer struct{ *storetest.Memory }

func (longer) Measure(context.Context, store.Request) (snapshot.Size, error) {
	return snapshot.ExactSize(110), nil
}

// TestExplainIsWhatIsDone: what is explained is the plan of a sync, with the
// sizes that decided; what a step is measured at afterwards decides nothing.
func TestExplainIsWhatIsDone(t *testing.T) {
	src, dst := longer{storetest.NewMemory("src")}, storetest.NewMemory("dst")
	a, b, c := src.Add("f", 1, "a"), src.Add("f", 2, "b"), src.Add("f", 3, "c")
	dst.AddReceived("f", 1, "a")
	dst.AddReceived("f", 2, "b")
	if err := src.KeepSizes(t.Context(), "c", map[snapshot.Edge]int64{{To: c.ID, From: a.ID}: 100, {To: c.ID, From: b.ID}: 105}); err != nil {
		t.Fatal(err)
	}
	r, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{DryRun: true})
	if err != nil || len(r.Outlook.Steps) != 1 || r.Outlook.Steps[0].Edge.From != a.ID {
		t.Fatalf("%+v, %v", r.Outlook.Steps, err)
	}
	x, err := (&Engine{}).Explain(t.Context(), src, dst, "c", SyncOptions{})
	if err != nil || x.Decision != plan.WillSend || x.Parent != a.ID {
		t.Errorf("%+v, %v", x, err)
	}
}
