package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/store"
)

// TestCostOfTheTrash: that emptying the trash costs nothing is said only where there
// are prices.
func TestCostOfTheTrash(t *testing.T) {
	for currency, want := range map[string]string{"USD": "Estimate: emptying the trash costs nothing", "": "Estimate of emptying the trash: no prices are known"} {
		e := bill.Estimate{Currency: currency}
		text := costText(&job.CostReport{InTrash: []job.Kept{{Streams: 1}}, Keeping: e, Trash: e, Emptying: &job.Early{Estimate: e}})
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%q: %q", currency, text)
		}
	}
}

// TestItemsThatAreEmpty: what is stored is no request, even if it is empty.
func TestItemsThatAreEmpty(t *testing.T) {
	e := bill.Estimate{Currency: "USD", Lines: []bill.Line{
		{What: bill.Uploading, Class: "STANDARD", Count: 3}, {What: bill.Storage, Class: "DEEP_ARCHIVE", Count: 2, Monthly: true},
	}}
	want := []string{"  uploading  STANDARD      3 requests  0.00 USD", "  storage    DEEP_ARCHIVE  2 objects   0.00 USD a month"}
	if diff := cmp.Diff(want, itemLines(e)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestPendingBesideFailures: machines are told what is pending, and until when, also
// where something has failed; what was not asked for is not pending.
func TestPendingBesideFailures(t *testing.T) {
	due := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	waiting := []job.Waiting{
		{Thawing: store.Thawing{State: store.Pending}, Due: due},
		{Thawing: store.Thawing{State: store.Cold}, Due: due.Add(time.Hour)},
	}
	type result struct {
		Exit, Pending int
		Due           time.Time
	}
	for name, tt := range map[string]struct {
		err  error
		want result
	}{
		"pending":            {&job.PendingError{Waiting: waiting[:1]}, result{exitPending, 1, due}},
		"pending and failed": {&job.IncompleteError{Wanted: 2, Done: 1, Waiting: waiting, Failures: []error{errors.New("no")}}, result{exitPartly, 1, due}},
		"failed":             {&job.IncompleteError{Wanted: 2, Waiting: waiting[1:], Failures: []error{errors.New("no")}}, result{exitFailed, 0, time.Time{}}},
	} {
		err := explainSync(tt.err, "buttersink", &opened{}, "", "")
		env, stdout, _ := testEnv(t, "buttersink")
		o := &syncOptions{json: true}
		view := newSyncView(env, o)
		view.result(nil, err)
		var thawed bytes.Buffer
		(&thawView{env: env, o: &thawOptions{json: true}, out: newRecords(&thawed)}).result(nil, err)
		for _, text := range []*bytes.Buffer{stdout, &thawed} {
			var got result
			if err := json.Unmarshal(text.Bytes(), &got); err != nil {
				t.Fatalf("%s: %q: %v", name, text, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: %s: -want +got:\n%s", name, text, diff)
			}
		}
	}
}

// TestRestoringOfWhatIsNotKnown: what is cold is not said to be readable at once where
// a table does not say how long it takes.
func TestRestoringOfWhatIsNotKnown(t *testing.T) {
	r := &job.Restoring{Streams: 1, Bytes: 1, Cold: 1, Tiers: map[store.Tier]job.TierCost{store.Bulk: {Estimate: bill.Estimate{Currency: "USD", Once: 2}, Unpriced: true}}}
	want := []string{"x: 1 stream, 1 bytes, 1 of them cold:", "  bulk       2.00 USD once, and what thawing costs  readable at a time that is not known", "  standard   not possible for all of them", "  expedited  not possible for all of them"}
	if diff := cmp.Diff(want, restoringLines("x", r)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestCostIsPrintable: what a server calls its classes cannot write to a terminal.
func TestCostIsPrintable(t *testing.T) {
	text := costText(&job.CostReport{
		Store: "s3://b", Kept: []job.Kept{{Class: "A\u009b31m"}},
		Keeping: bill.Estimate{Lines: []bill.Line{{What: bill.Storage, Class: "B\x1b[2J", Bytes: 1}}, Assumptions: []string{"C\a"}},
	})
	if strings.ContainsAny(text, "\u009b\x1b\a") || strings.Count(text, "\n") < 5 {
		t.Errorf("%q", text)
	}
}
