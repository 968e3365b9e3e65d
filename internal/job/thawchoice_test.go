package job

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// twoWays is an archive in which an increment leads to s2, which is cold, and a full
// stream, which is a little longer.
func twoWays() (src *storetest.Memory, shorter, longer snapshot.Edge) {
	src, chain := coldChain(2)
	shorter, longer = chain[1], snapshot.Edge{To: chain[1].To}
	src.SetArchive(chain[0], shorter, longer)
	src.Freeze("GLACIER", shorter)
	return src, shorter, longer
}

// TestThawTakesWhatIsThere: what can be read already, or has been asked for, is not
// asked for a second time by another way.
func TestThawTakesWhatIsThere(t *testing.T) {
	for _, asked := range []bool{false, true} {
		src, shorter, longer := twoWays()
		if asked {
			src.Freeze("GLACIER", longer)
			if _, err := src.Thaw(t.Context(), []snapshot.Edge{longer}, store.ThawOptions{Ask: true}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := (&Engine{}).Thaw(t.Context(), src, ThawOptions{})
		if src.Asks(shorter) > 0 || r == nil || r.Asked > 0 || is[*PendingError](err) != asked || !asked && err != nil {
			t.Errorf("asked %v: %+v, %v", asked, r, err)
		}
	}
}

// TestExplainKnowsWhatIsCold: what is explained is what is done, where what can be
// read decides that.
func TestExplainKnowsWhatIsCold(t *testing.T) {
	src, shorter, longer := twoWays()
	r, err := (&Engine{}).Sync(t.Context(), src, storetest.NewMemory("dst"), SyncOptions{DryRun: true})
	if err != nil || !slices.ContainsFunc(r.Outlook.Steps, func(s plan.Step) bool { return s.Edge == longer }) {
		t.Fatalf("%+v, %v", r, err)
	}
	x, err := (&Engine{}).Explain(t.Context(), src, storetest.NewMemory("dst"), "s2", SyncOptions{})
	if err != nil || x.Decision != plan.WillSend || !x.Parent.IsZero() {
		t.Fatalf("%+v, %v", x, err)
	}
	if i := slices.IndexFunc(x.Considered, func(c plan.Considered) bool { return c.ID == shorter.From }); i >= 0 && !strings.Contains(x.Considered[i].Why, "cold storage") {
		t.Errorf("%+v", x.Considered[i])
	}
}

// TestThawOfSome: what can be asked for is, and is told of with what cannot; what
// rests on that is not done.
func TestThawOfSome(t *testing.T) {
	src, edges := coldChain(4)
	src.Freeze("GLACIER", edges[0], edges[1], edges[3])
	src.Freeze("DEEP_ARCHIVE", edges[2])
	r, err := (&Engine{}).Thaw(t.Context(), src, ThawOptions{Thaw: store.ThawOptions{Tier: store.Expedited}})
	e, ok := err.(*IncompleteError)
	if !ok || e.Wanted != 4 || e.Done != 2 || len(e.Waiting) != 4 || len(e.Failures) != 1 || errors.Is(err, store.ErrCold) {
		t.Fatalf("%+v: %v, %+v", r, err, e)
	}
	if strings.Contains(err.Error(), "destination") {
		t.Errorf("there is no destination: %v", err)
	}
	if r.Asked != 3 {
		t.Errorf("%d are asked for", r.Asked)
	}
}
