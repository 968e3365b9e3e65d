package job

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestSyncWaitsBesideAProblem: a snapshot that can never be had keeps no run from
// waiting for the others.
func TestSyncWaitsBesideAProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, edges := coldChain(3)
		src.SetClock(time.Now)
		src.SetArchive(edges[0], edges[2]) // what s3 starts from is gone
		src.Freeze("GLACIER", edges...)
		dst := storetest.NewMemory("dst")
		r, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Wait: true})
		e, ok := err.(*IncompleteError)
		if !ok || e.Done != 1 || e.Wanted != 2 || len(e.Waiting) > 0 || len(e.Failures) != 1 || r.Transferred != 1 {
			t.Errorf("%+v, %v: %+v", r, err, e)
		}
		if diff := cmp.Diff([]string{"s1"}, held(t, dst)); diff != "" || src.Asks(edges[0]) != 1 {
			t.Error(diff)
		}

		src.Advance(100 * 24 * time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		_, err = (&Engine{}).Sync(ctx, src, storetest.NewMemory("other"), SyncOptions{Wait: true})
		if e, ok := err.(*IncompleteError); !ok || !errors.Is(e.Interrupted, context.DeadlineExceeded) || len(e.Waiting) != 1 || len(e.Failures) != 1 {
			t.Errorf("interrupted: %v: %+v", err, e)
		}
	})
}

// TestColdBesideAConflict: where something has to be waited for, something in the way
// is not all that is missing.
func TestColdBesideAConflict(t *testing.T) {
	src, edges := coldChain(2)
	other := src.Add("g", 100, "other")
	src.SetArchive(append(edges, snapshot.Edge{To: other.ID})...)
	src.Freeze("GLACIER", edges...)
	dst := storetest.NewMemory("dst")
	dst.Add("h", 7, "other")
	_, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{})
	if e, ok := err.(*IncompleteError); !ok || e.Conflicts || len(e.Waiting) != 2 || len(e.Failures) != 1 {
		t.Errorf("%v: %+v", err, e)
	}
}
