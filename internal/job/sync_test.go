package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustLedger opens a ledger that lives as long as the test.
func mustLedger(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// held lists what a store holds in its directory, for tests of either kind.
func held(t interface{ Fatal(args ...any) }, s store.Store) []string {
	inv, err := s.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, snap := range inv.Inside() {
		all = append(all, snap.Path)
	}
	return all
}

// logged is a logger that keeps its lines.
func logged() (*slog.Logger, *strings.Builder) {
	var b strings.Builder
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

func TestSync(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	for g, p := range []string{"a", "sub/b", "c"} {
		src.Add("f", uint64(10*g+10), p)
	}
	l := mustLedger(t)
	e := &Engine{Ledger: l}
	var planned []string
	var kinds []transfer.Kind
	r, err := e.Sync(t.Context(), src, dst, SyncOptions{
		Who: "a test",
		Planned: func(o *Outlook) {
			for _, s := range o.Steps {
				planned = append(planned, s.Path)
				if !s.Size.Known || s.Size.Exact {
					t.Errorf("%s has the size %+v", s.Path, s.Size)
				}
			}
			if len(kinds) > 0 {
				t.Error("something was done before the plan was told")
			}
		},
		Event: func(e transfer.Event) { kinds = append(kinds, e.Kind) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "sub/b", "c"}, planned); diff != "" {
		t.Error(diff)
	}
	if n := r.Transfer.Count(transfer.Committed); n != 3 {
		t.Errorf("%d committed", n)
	}
	if diff := cmp.Diff(held(t, src), held(t, dst)); diff != "" {
		t.Error(diff)
	}
	for _, s := range r.Outlook.Steps {
		if src.Digest(s.Edge.To) != dst.Digest(s.Edge.To) {
			t.Errorf("%s differs", s.Path)
		}
		size, err := l.Size(s.Edge, src.Form(store.Request{Edge: s.Edge}))
		if err != nil || !size.Exact {
			t.Errorf("the length of %s is remembered as %+v, %v", s.Path, size, err)
		}
	}
	if owed, err := l.Unfinished(dst.String()); err != nil || len(owed) != 0 {
		t.Errorf("owed: %v, %v", owed, err)
	}
	if src.Busy()+dst.Busy() != 0 {
		t.Error("streams or writers are left open")
	}

	r, err = e.Sync(t.Context(), src, dst, SyncOptions{})
	if err != nil || len(r.Outlook.Steps) != 0 || len(r.Outlook.Keep) != 3 {
		t.Errorf("a second run: %+v, %v", r, err)
	}
}

func TestSyncDryRun(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	src.Add("f", 10, "a")
	src.Add("f", 20, "b")
	dst.Add("g", 1, "foreign")
	for _, op := range []storetest.Op{storetest.Lock, storetest.Create, storetest.Remove, storetest.Copy} {
		f := storetest.NewFault(dst)
		f.On(op).Always().Return(fmt.Errorf("%s was called in a dry run", op))
		var sizes []snapshot.Size
		measured := 0
		r, err := (&Engine{}).Sync(t.Context(), src, f, SyncOptions{
			DryRun: true, Delete: true,
			Measuring: func(plan.Step) { measured++ },
			Planned: func(o *Outlook) {
				for _, s := range o.Steps {
					sizes = append(sizes, s.Size)
				}
			},
		})
		if err != nil || r.Transfer != nil || len(r.Outlook.Remove) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if measured != 2 || len(sizes) != 2 || !sizes[0].Exact || !sizes[1].Exact {
			t.Errorf("measured %d steps: %+v", measured, sizes)
		}
	}
	r, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{DryRun: true, Estimate: true})
	if err != nil || r.Outlook.Steps[0].Size.Exact {
		t.Errorf("with estimates only: %+v, %v", r, err)
	}
	if diff := cmp.Diff([]string{"foreign"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
}

func TestSyncRefuses(t *testing.T) {
	src, dst, empty := storetest.NewMemory("src"), storetest.NewMemory("dst"), storetest.NewMemory("empty")
	src.Add("f", 10, "a")
	src.AddOutside("f", 5, "/elsewhere")
	empty.AddOutside("f", 5, "/elsewhere")
	e := &Engine{}
	if _, err := e.Sync(t.Context(), src, src, SyncOptions{}); !is[*SamePlaceError](err) {
		t.Errorf("onto itself: %v", err)
	}
	if _, err := e.Sync(t.Context(), empty, dst, SyncOptions{}); !is[*NoSnapshotsError](err) {
		t.Errorf("from nothing: %v", err)
	}
	_, err := e.Sync(t.Context(), src, dst, SyncOptions{Selection: Selection{Name: "nosuch"}})
	if n, ok := errors.AsType[*NoSnapshotsError](err); !ok || !n.Named {
		t.Errorf("one that is not there: %v", err)
	}
	unlock, err := dst.Lock(t.Context(), "the other run")
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Sync(t.Context(), src, dst, SyncOptions{})
	if l, ok := errors.AsType[*store.LockedError](err); !ok || l.Holder != "the other run" {
		t.Errorf("while locked: %v", err)
	}
	if _, err := e.Sync(t.Context(), src, dst, SyncOptions{DryRun: true}); err != nil {
		t.Errorf("a dry run while locked: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Sync(t.Context(), src, dst, SyncOptions{}); err != nil {
		t.Errorf("after unlocking: %v", err)
	}
	// Sync has let go of the lock.
	if unlock, err = dst.Lock(t.Context(), "again"); err != nil {
		t.Error(err)
	} else if err := unlock(); err != nil {
		t.Error(err)
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func expressions(texts ...string) []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, t := range texts {
		all = append(all, regexp.MustCompile(t))
	}
	return all
}

func TestSyncSelects(t *testing.T) {
	src := storetest.NewMemory("src")
	for g, p := range []string{"day1", "week1", "x/day1", "x/day2"} {
		src.Add("f", uint64(g+1), p)
	}
	for _, tt := range []struct {
		selection Selection
		want      []string
	}{
		{Selection{}, []string{"day1", "week1", "x/day1", "x/day2"}},
		{Selection{Name: "day1"}, []string{"day1", "x/day1"}},
		{Selection{Exclude: []*regexp.Regexp{regexp.MustCompile(`x/`)}}, []string{"day1", "week1"}},
		{Selection{Exclude: []*regexp.Regexp{regexp.MustCompile(`day`)}}, []string{"week1", "x/day1", "x/day2"}},
		{Selection{Exclude: []*regexp.Regexp{regexp.MustCompile(`.*day1|week`)}}, []string{"x/day2"}},
		{Selection{Exclude: []*regexp.Regexp{regexp.MustCompile(``)}}, []string{}},
	} {
		dst := storetest.NewMemory("dst")
		if _, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Selection: tt.selection}); err != nil {
			t.Errorf("%+v: %v", tt.selection, err)
		}
		if diff := cmp.Diff(tt.want, held(t, dst)); diff != "" {
			t.Errorf("%+v:\n%s", tt.selection, diff)
		}
	}
}

// TestSyncProves: a doubtful parent is looked at before anything rests on it.
func TestSyncProves(t *testing.T) {
	for _, proven := range []snapshot.Trust{snapshot.Intact, snapshot.Touched} {
		src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
		a := src.Add("f", 10, "a")
		b := src.Add("f", 20, "b")
		dst.AddReceived("f", 10, "a")
		dst.SetTrust(a.ID, snapshot.Doubtful, proven)
		log, lines := logged()
		r, err := (&Engine{Log: log}).Sync(t.Context(), src, dst, SyncOptions{})
		if proven == snapshot.Intact {
			if err != nil || r.Outlook.Steps[0].Edge.From != a.ID {
				t.Errorf("proven intact: %+v, %v", r.Outlook.Steps, err)
			}
			continue
		}
		// b goes in full; a is reported as not being there any more.
		if e, ok := errors.AsType[*IncompleteError](err); !ok || !e.Conflicts || e.Done != 1 || e.Wanted != 2 {
			t.Errorf("proven touched: %v", err)
		}
		if len(r.Outlook.Steps) != 1 || !r.Outlook.Steps[0].Edge.IsFull() || dst.Digest(b.ID) != src.Digest(b.ID) {
			t.Errorf("proven touched: %+v", r.Outlook.Steps)
		}
		if !strings.Contains(lines.String(), "was made writable and changed") {
			t.Errorf("nothing is said: %s", lines)
		}
	}

	// A snapshot that was changed on the source is not sent under its name.
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	a := src.AddReceived("f", 10, "a")
	src.SetTrust(a.ID, snapshot.Doubtful, snapshot.Touched)
	_, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{})
	if e, ok := errors.AsType[*IncompleteError](err); !ok || e.Conflicts || len(held(t, dst)) != 0 {
		t.Errorf("changed on the source: %v, %v", err, held(t, dst))
	}
}

func TestSyncDelete(t *testing.T) {
	setup := func() (*storetest.Memory, *storetest.Memory) {
		src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
		src.Add("f", 10, "a")
		src.Add("f", 20, "b")
		dst.AddReceived("f", 10, "a")
		dst.AddReceived("f", 5, "old")
		dst.AddOutside("g", 5, "/elsewhere")
		return src, dst
	}
	src, dst := setup()
	var removed []string
	r, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Delete: true, Removed: func(s snapshot.Snapshot, err error) {
		removed = append(removed, fmt.Sprint(s.Path, err))
	}})
	if err != nil || len(r.Removed) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if diff := cmp.Diff([]string{"old<nil>"}, removed); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}

	// A transfer that fails keeps everything.
	src, dst = setup()
	f := storetest.NewFault(dst)
	f.On(storetest.Commit).Return(errors.New("disk on fire"))
	log, lines := logged()
	_, err = (&Engine{Log: log}).Sync(t.Context(), src, f, SyncOptions{Delete: true})
	if e, ok := errors.AsType[*IncompleteError](err); !ok || e.Done != 1 || len(e.Failures) != 1 || !strings.Contains(e.Failures[0].Error(), "disk on fire") {
		t.Errorf("after a failure: %v", err)
	}
	if diff := cmp.Diff([]string{"a", "old"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(lines.String(), "Nothing is removed") {
		t.Errorf("nothing is said: %s", lines)
	}

	// A removal that fails is a failure, and the others are removed.
	src, dst = setup()
	dst.AddReceived("f", 6, "older")
	f = storetest.NewFault(dst)
	f.On(storetest.Remove).Return(errors.New("busy"))
	r, err = (&Engine{}).Sync(t.Context(), src, f, SyncOptions{Delete: true})
	if e, ok := errors.AsType[*RemovalError](err); !ok || len(e.Failures) != 1 || len(r.Removed) != 1 {
		t.Errorf("after a failed removal: %+v, %v", r, err)
	}
}

// TestSyncLedger: a receipt that a dead run left is closed and mentioned; a
// ledger that fails stops nothing.
func TestSyncLedger(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	a := src.Add("f", 10, "a")
	l := mustLedger(t)
	if _, err := l.Begin(ledger.Receipt{Source: src.String(), Destination: dst.String(), Edge: snapshot.Edge{To: a.ID}, Path: "a"}); err != nil {
		t.Fatal(err)
	}
	log, lines := logged()
	if _, err := (&Engine{Ledger: l, Log: log}).Sync(t.Context(), src, dst, SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	if owed, err := l.Unfinished(dst.String()); err != nil || len(owed) != 0 {
		t.Errorf("owed: %v, %v", owed, err)
	}
	if !strings.Contains(lines.String(), "An earlier run was cut while it transferred a") {
		t.Errorf("nothing is said: %s", lines)
	}

	broken, err := ledger.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	src.Add("f", 20, "b")
	if _, err := (&Engine{Ledger: broken}).Sync(t.Context(), src, dst, SyncOptions{}); err != nil {
		t.Errorf("with a broken ledger: %v", err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
}

func TestSyncInterrupted(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	src.SetBulk(1 << 20)
	for g := range 4 {
		src.Add("f", uint64(g+1), fmt.Sprint(g))
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := (&Engine{Ledger: mustLedger(t)}).Sync(ctx, src, dst, SyncOptions{Event: func(e transfer.Event) {
		if e.Kind == transfer.StepBegun && e.Step == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if got := held(t, dst); len(got) != 2 {
		t.Errorf("after the third step was interrupted there are %v", got)
	}
	if dst.Busy()+src.Busy() != 0 {
		t.Error("something is left open")
	}
	if _, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(held(t, src), held(t, dst)); diff != "" {
		t.Error(diff)
	}
}

// TestSyncAnyWorld: from whatever two stores hold, a sync that says it is done
// leaves the destination with all that was wanted and equal to the source, and
// one that does not say so leaves nothing that differs.
func TestSyncAnyWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
		for i := range rapid.IntRange(1, 8).Draw(t, "snapshots") {
			family := rapid.SampledFrom([]string{"f", "g"}).Draw(t, "family")
			path, generation := fmt.Sprint(i), uint64(i+1)
			var s snapshot.Snapshot
			switch rapid.IntRange(0, 3).Draw(t, "in the source") {
			case 0, 1:
				s = src.Add(family, generation, path)
			case 2:
				s = src.AddReceived(family, generation, path)
			default:
				s = src.AddOutside(family, generation, "/"+path)
			}
			switch rapid.IntRange(0, 4).Draw(t, "at the destination") {
			case 0:
				dst.AddReceived(family, generation, path)
				dst.SetTrust(s.ID, snapshot.Doubtful, snapshot.Trust(2*rapid.IntRange(0, 1).Draw(t, "touched")))
			case 1:
				dst.AddOutside(family, generation, "/"+path)
			case 2:
				dst.Add("other", generation, path)
			}
		}
		before := held(t, dst)
		f := storetest.NewFault(dst)
		for range rapid.IntRange(0, 2).Draw(t, "faults") {
			op := rapid.SampledFrom([]storetest.Op{storetest.Create, storetest.Write, storetest.Commit, storetest.Copy, storetest.Remove}).Draw(t, "op")
			f.On(op).After(rapid.IntRange(0, 4).Draw(t, "after")).Return(errors.New("injected"))
		}
		del := rapid.Bool().Draw(t, "delete")
		r, err := (&Engine{}).Sync(context.Background(), src, f, SyncOptions{Delete: del})
		if is[*NoSnapshotsError](err) {
			return
		}
		inv, lerr := dst.List(context.Background())
		if lerr != nil {
			t.Fatal(lerr)
		}
		for _, s := range inv.Inside() {
			if src.Digest(s.ID) != "" && src.Digest(s.ID) != dst.Digest(s.ID) {
				t.Fatalf("%s differs", s.Path)
			}
		}
		if err != nil {
			if !del || r == nil || len(r.Removed) == 0 {
				for _, p := range before {
					if !slices.Contains(held(t, dst), p) {
						t.Fatalf("%s is gone after a failure", p)
					}
				}
			}
			return
		}
		holds, _ := src.List(context.Background())
		for _, s := range holds.Inside() {
			if there, ok := inv.Find(s.ID); !ok || there.Outside {
				t.Fatalf("success, but %s is not there", s.Path)
			}
		}
		for _, s := range inv.Inside() {
			if here, ok := holds.Find(s.ID); del && (!ok || here.Outside) {
				t.Fatalf("success, but %s is still there", s.Path)
			}
		}
	})
}
