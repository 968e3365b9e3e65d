package job

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// TestSyncProvesEverything: what a plan rests on is looked at on both sides, and
// what is only kept too; a snapshot that cannot be looked at is not relied on.
func TestSyncProvesEverything(t *testing.T) {
	type world struct {
		src, dst *storetest.Memory
		a        snapshot.Snapshot
	}
	setup := func() world {
		w := world{src: storetest.NewMemory("src"), dst: storetest.NewMemory("dst")}
		w.a = w.src.AddReceived("f", 10, "a")
		w.dst.AddReceived("f", 10, "a")
		return w
	}
	failures := func(err error) string {
		e, ok := errors.AsType[*IncompleteError](err)
		if !ok {
			return ""
		}
		return errors.Join(e.Failures...).Error()
	}

	w := setup() // kept, and touched at the destination: the same answer every time
	w.dst.SetTrust(w.a.ID, snapshot.Doubtful, snapshot.Touched)
	for range 2 {
		_, err := (&Engine{}).Sync(t.Context(), w.src, w.dst, SyncOptions{})
		if e, ok := errors.AsType[*IncompleteError](err); !ok || !e.Conflicts || !strings.Contains(failures(err), "changed at the destination") {
			t.Errorf("a kept copy that was changed: %v", err)
		}
	}

	w = setup() // the parent was changed on the source
	w.src.AddReceived("f", 20, "b")
	w.src.SetTrust(w.a.ID, snapshot.Doubtful, snapshot.Touched)
	r, err := (&Engine{}).Sync(t.Context(), w.src, w.dst, SyncOptions{})
	if !strings.Contains(failures(err), "changed after it was received") || len(r.Outlook.Steps) != 1 || !r.Outlook.Steps[0].Edge.IsFull() {
		t.Errorf("a parent changed on the source: %+v, %v", r.Outlook.Steps, err)
	}

	w = setup() // what would be copied in was changed
	w.dst = storetest.NewMemory("dst")
	w.dst.AddOutside("f", 10, "/elsewhere")
	w.dst.SetTrust(w.a.ID, snapshot.Doubtful, snapshot.Touched)
	r, err = (&Engine{}).Sync(t.Context(), w.src, w.dst, SyncOptions{})
	if err != nil || len(r.Outlook.Steps) != 1 || r.Outlook.Steps[0].Action != "send" {
		t.Errorf("an original changed outside: %+v, %v", r.Outlook.Steps, err)
	}

	w = setup() // it cannot be looked at
	w.src.AddReceived("f", 20, "b")
	w.src.Add("g", 5, "other")
	w.dst.SetTrust(w.a.ID, snapshot.Doubtful, snapshot.Intact)
	f := storetest.NewFault(w.dst)
	f.On(storetest.Prove).Always().Return(errors.New("gone"))
	log, lines := logged()
	r, err = (&Engine{Log: log}).Sync(t.Context(), w.src, f, SyncOptions{})
	if err == nil || len(r.Outlook.Steps) != 2 || r.Transfer.Count(transfer.Committed) != 2 || !strings.Contains(lines.String(), "cannot be looked at") {
		t.Errorf("a parent that cannot be looked at: %+v, %v", r.Outlook.Steps, err)
	}
}

// TestSyncAroundObstacles: something in the way costs that snapshot, not those
// that come after it.
func TestSyncAroundObstacles(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	for i, p := range []string{"a", "b", "c"} {
		src.Add("f", uint64(i+1), p)
	}
	dst.Occupy("b", "a directory")
	for _, dry := range []bool{true, false} {
		_, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{DryRun: dry})
		e, ok := errors.AsType[*IncompleteError](err)
		if !ok || !e.Conflicts || e.DryRun != dry || e.Done != 2 || e.Wanted != 3 || len(e.Failures) != 1 {
			t.Fatalf("dry run %v: %v", dry, err)
		}
	}
	if diff := cmp.Diff([]string{"a", "c"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}

	// What appears in the way during the run is a conflict as well.
	dst = storetest.NewMemory("dst")
	f := storetest.NewFault(dst)
	f.On(storetest.Create).After(1).Return(&store.ExistsError{Path: "b", What: "a directory"})
	_, err := (&Engine{}).Sync(t.Context(), src, f, SyncOptions{})
	if e, ok := errors.AsType[*IncompleteError](err); !ok || !e.Conflicts || e.Done != 2 {
		t.Errorf("in the way during the run: %v", err)
	}
	// With a failure of another kind besides, it is not only a conflict.
	dst = storetest.NewMemory("dst")
	src.Add("g", 1, "g")
	f = storetest.NewFault(dst)
	f.On(storetest.Create).Return(&store.ExistsError{Path: "a", What: "a directory"})
	f.On(storetest.Commit).Always().Return(errors.New("disk on fire"))
	_, err = (&Engine{}).Sync(t.Context(), src, f, SyncOptions{})
	if e, ok := errors.AsType[*IncompleteError](err); !ok || e.Conflicts || e.Done != 0 {
		t.Errorf("in the way and another failure: %v", err)
	}
}

// TestRemoveLooksAgain: what the source has got (again) while the run went on
// is not removed; when that cannot be told, nothing is.
func TestRemoveLooksAgain(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	src.Add("f", 2, "b")
	dst.AddReceived("f", 1, "a")
	dst.AddReceived("f", 9, "old")
	_, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Delete: true, Planned: func(*Outlook) { src.AddReceived("f", 1, "a") }})
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}

	dst.AddReceived("f", 9, "old")
	f := storetest.NewFault(src)
	f.On(storetest.List).After(1).Return(errors.New("gone"))
	if _, err := (&Engine{}).Sync(t.Context(), f, dst, SyncOptions{Delete: true}); !is[*RemovalError](err) {
		t.Errorf("without having looked: %v", err)
	}
	if !slices.Contains(held(t, dst), "old") {
		t.Error("removed without having looked")
	}
	// A run that is cut between two removals does not go on.
	dst.AddReceived("f", 8, "older")
	ctx, cancel := context.WithCancel(t.Context())
	r, err := (&Engine{}).Sync(ctx, src, dst, SyncOptions{Delete: true, Removed: func(snapshot.Snapshot, error) { cancel() }})
	if !errors.Is(err, context.Canceled) || len(r.Removed) != 1 {
		t.Errorf("cut: %v, %+v", err, r)
	}
}

// TestCancelledLooking: a run that is cut while it only looks has not succeeded.
func TestCancelledLooking(t *testing.T) {
	m := storetest.NewMemory("m")
	m.Add("f", 1, "a")
	for _, op := range []storetest.Op{storetest.Estimate, storetest.Measure} {
		ctx, cancel := context.WithCancel(t.Context())
		f := storetest.NewFault(m)
		f.On(op).Do(func(context.Context) error { cancel(); return nil })
		if _, err := (&Engine{}).List(ctx, f, ListOptions{}); op == storetest.Estimate && !errors.Is(err, context.Canceled) {
			t.Errorf("a listing cut in %s: %v", op, err)
		}
		_, err := (&Engine{}).Sync(ctx, f, storetest.NewMemory("dst"), SyncOptions{DryRun: true})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a dry run cut in %s: %v", op, err)
		}
	}
}
