package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// keeper is a store that keeps sizes.
type keeper struct {
	*storetest.Memory
	mu   sync.Mutex
	kept map[snapshot.Edge]int64
}

func (k *keeper) KnownSizes(context.Context, ...string) (map[snapshot.Edge]int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.kept), nil
}

func (k *keeper) KeepSizes(_ context.Context, _ string, sizes map[snapshot.Edge]int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		k.kept = map[snapshot.Edge]int64{}
	}
	maps.Copy(k.kept, sizes)
	return nil
}

// TestKeptSizes: what is noted beside the source's snapshots counts in the plan,
// and goes with them.
func TestKeptSizes(t *testing.T) {
	src, dst := &keeper{Memory: storetest.NewMemory("src")}, &keeper{Memory: storetest.NewMemory("dst")}
	src.Add("f", 1, "a")
	src.Add("f", 2, "b")
	src.Add("f", 3, "c")
	src.Add("f", 4, "gone")
	a, b, c := storetest.IDOf("f", 1), storetest.IDOf("f", 2), storetest.IDOf("f", 3)
	src.kept = map[snapshot.Edge]int64{{To: b, From: a}: 1000, {To: c, From: b}: 4000, {To: c, From: a}: 10, {To: a, From: storetest.IDOf("f", 9)}: 5}
	_, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(src.kept, dst.kept); diff != "" {
		t.Error(diff)
	}
	src.kept, dst.kept = nil, nil
	dst.Memory = storetest.NewMemory("dst")
	if _, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(src.kept)+len(dst.kept) > 0 {
		t.Errorf("noted though nothing was measured: %v, %v", src.kept, dst.kept)
	}
}

// TestMaxFull: a full stream that is too long stops everything before it begins.
func TestMaxFull(t *testing.T) {
	src := storetest.NewMemory("src")
	src.SetBulk(48 << 10)
	src.Add("f", 1, "a")
	src.Add("f", 2, "b")
	for _, dry := range []bool{true, false} {
		dst := storetest.NewMemory("dst")
		r, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{DryRun: dry, MaxFull: 10 << 10})
		e, ok := errors.AsType[*FullError](err)
		if !ok || len(e.Steps) != 1 || !e.Steps[0].Edge.IsFull() || r == nil || r.Outlook == nil {
			t.Fatalf("%v", err)
		}
		if len(held(t, dst)) != 0 {
			t.Error("something was sent")
		}
	}
	// A size that cannot be had may be any.
	f := storetest.NewFault(src)
	f.On(storetest.Estimate).Always().Return(errors.New("no"))
	if _, err := (&Engine{}).Sync(t.Context(), f, storetest.NewMemory("dst"), SyncOptions{MaxFull: 1 << 40}); !is[*FullError](err) {
		t.Errorf("an unknown size: %v", err)
	}
	// An increment may be as long as it likes.
	dst := storetest.NewMemory("dst")
	if _, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Selection: Selection{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{MaxFull: 1}); err != nil {
		t.Errorf("an increment: %v", err)
	}
}

// TestSizesAreRemembered: what has been carried is known exactly the next time,
// without asking the source.
func TestSizesAreRemembered(t *testing.T) {
	src := storetest.NewMemory("src")
	src.Add("f", 1, "a")
	src.Add("f", 2, "b")
	e := &Engine{Ledger: mustLedger(t)}
	if _, err := e.Sync(t.Context(), src, storetest.NewMemory("one"), SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	f := storetest.NewFault(src)
	f.On(storetest.Measure).Always().Return(errors.New("asked"))
	r, err := e.Sync(t.Context(), f, storetest.NewMemory("two"), SyncOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Outlook.Steps {
		if !s.Size.Exact && len(s.Clones) == 0 {
			t.Errorf("%s: %+v", s.Path, s.Size)
		}
	}
	if n := f.Calls(storetest.Measure); n != 0 {
		t.Errorf("measured %d times", n)
	}
}

// TestEstimatesTakeSeconds: a source that is slow at estimating delays a run by
// some seconds, and no more; unless it is asked how long the full streams are.
func TestEstimatesTakeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := storetest.NewMemory("src")
		for g := range uint64(9) {
			src.Add("f", g+1, string('a'+rune(g)))
		}
		f := storetest.NewFault(src)
		f.On(storetest.Estimate).Always().Do(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Hour):
				return nil
			}
		})
		begun := time.Now()
		if _, err := (&Engine{}).Sync(t.Context(), f, storetest.NewMemory("dst"), SyncOptions{DryRun: true, Estimate: true}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > time.Minute {
			t.Errorf("it took %v", d)
		}
		r, err := (&Engine{}).Sync(t.Context(), f, storetest.NewMemory("dst"), SyncOptions{DryRun: true, Estimate: true, MaxFull: 1 << 20})
		if err != nil || !r.Outlook.Steps[0].Size.Known {
			t.Errorf("the length of the full stream is not known: %v", err)
		}

		// What there was no time for before is looked at once it is to be sent.
		var quick atomic.Bool
		f = storetest.NewFault(src)
		f.On(storetest.Estimate).Always().Do(func(ctx context.Context) error {
			if !quick.Load() {
				<-ctx.Done()
				quick.Store(true)
			}
			return ctx.Err()
		})
		if r, err = (&Engine{}).Sync(t.Context(), f, storetest.NewMemory("dst"), SyncOptions{DryRun: true, Estimate: true}); err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Outlook.Steps {
			if !s.Size.Known {
				t.Errorf("the length of %s is not known", s.Path)
			}
		}
	})
}

// referring is a source whose streams are shorter with clone sources.
type referring struct {
	*storetest.Memory
	measured int
}

func (*referring) Form(r store.Request) string { return fmt.Sprintf("with %d", len(r.Clones)) }

func (m *referring) Measure(_ context.Context, r store.Request) (snapshot.Size, error) {
	m.measured++
	return snapshot.ExactSize(100 - 90*int64(min(len(r.Clones), 1))), nil
}

// TestSizesHaveForms: what has been measured or carried with clone sources is no
// exact size of the stream without them, nor of that with others.
func TestSizesHaveForms(t *testing.T) {
	src := &referring{Memory: storetest.NewMemory("src")}
	with := plan.Step{Action: plan.Send, Edge: snapshot.Edge{To: storetest.IDOf("f", 2), From: storetest.IDOf("f", 1)}, Clones: []snapshot.Snapshot{{ID: storetest.IDOf("f", 3)}}}
	without := with
	without.Clones = nil
	e := &Engine{Ledger: mustLedger(t)}
	z := e.newSizes(t.Context(), src, &world{holds: &snapshot.Inventory{}}, SyncOptions{DryRun: true})
	for range 2 { // plans are made again
		for _, tt := range []struct {
			step plan.Step
			want int64
		}{{with, 10}, {without, 100}} {
			if size := z.step(t.Context(), tt.step, true); size != snapshot.ExactSize(tt.want) {
				t.Errorf("with %d clone sources %+v, want %d", len(tt.step.Clones), size, tt.want)
			}
		}
	}
	if src.measured != 2 {
		t.Errorf("measured %d times", src.measured)
	}
	if size := z.of(with.Edge); size != snapshot.ExactSize(100) {
		t.Errorf("the planner is told %+v", size)
	}

	// A clone source that was not there any more was left out of the request.
	z.carried(transfer.Result{Step: with, Request: store.Request{Edge: with.Edge}, Bytes: 77})
	for clones, want := range map[int]snapshot.Size{0: snapshot.ExactSize(77), 1: {}} {
		r := store.Request{Edge: with.Edge, Clones: make([]snapshot.ID, clones)}
		if size, err := e.Ledger.Size(with.Edge, src.Form(r)); err != nil || size != want {
			t.Errorf("with %d clone sources %+v is remembered, want %+v; %v", clones, size, want, err)
		}
	}
}

// lengths are streams of which an archive says how long they are, sealed as they
// may be there.
type lengths struct {
	keeper
	inv *snapshot.Inventory
}

func (l *lengths) List(context.Context) (*snapshot.Inventory, error) { return l.inv, nil }
func (l *lengths) Estimate(context.Context) error                    { return nil }
func (l *lengths) Measure(context.Context) error                     { return nil }

// TestArchivesAreNotNoted: an archive that is read is left as it is. How long its
// objects are says nothing of streams that are sealed there.
func TestArchivesAreNotNoted(t *testing.T) {
	a, b := storetest.IDOf("f", 1), storetest.IDOf("f", 2)
	src := &lengths{keeper: keeper{Memory: storetest.NewMemory("src")}, inv: &snapshot.Inventory{
		Archive: true, Snapshots: []snapshot.Snapshot{{ID: a, Path: "a"}, {ID: b, Path: "b"}},
		Edges: []snapshot.Stored{{Edge: snapshot.Edge{To: a}, Size: snapshot.ExactSize(10)}, {Edge: snapshot.Edge{To: b, From: a}, Size: snapshot.ExactSize(5)}},
	}}
	dst := &lengths{keeper: keeper{Memory: storetest.NewMemory("dst")}, inv: &snapshot.Inventory{Archive: true}}
	planned := 0
	_, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Planned: func(o *Outlook) { planned = max(planned, len(o.Steps)) }})
	if planned != 2 {
		t.Fatalf("%d steps are planned: %v", planned, err)
	}
	if len(src.kept) > 0 {
		t.Errorf("the archive was told %v", src.kept)
	}
}
