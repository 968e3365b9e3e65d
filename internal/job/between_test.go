package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// between makes a source with two wanted snapshots, x/n and y/n, that are best
// sent from h, which is not wanted.
func between() (src *keeper, h snapshot.ID) {
	src = &keeper{Memory: storetest.NewMemory("src")}
	src.SetBulk(48 << 10)
	src.Add("f", 1, "h")
	src.Add("f", 2, "x/n")
	src.Add("f", 3, "y/n")
	h, x, y := storetest.IDOf("f", 1), storetest.IDOf("f", 2), storetest.IDOf("f", 3)
	src.kept = map[snapshot.Edge]int64{{To: x, From: h}: 10, {To: y, From: h}: 10, {To: y, From: x}: 1 << 30, {To: x, From: y}: 1 << 30}
	return src, h
}

// TestIntermediateIsNotCounted: what is sent only for others to start from is
// none of those that were asked for.
func TestIntermediateIsNotCounted(t *testing.T) {
	src, h := between()
	dst := storetest.NewMemory("dst")
	f := storetest.NewFault(dst)
	f.On(storetest.Create).For(storetest.IDOf("f", 3)).Always().Return(errors.New("no"))
	r, err := (&Engine{}).Sync(t.Context(), src, f, SyncOptions{Selection: Selection{Name: "n"}})
	if len(r.Outlook.Steps) != 3 || r.Outlook.Steps[0].Edge.To != h {
		t.Fatalf("h is not sent: %+v", r.Outlook.Steps)
	}
	if e, ok := errors.AsType[*IncompleteError](err); !ok || e.Wanted != 2 || e.Done != 1 {
		t.Errorf("%v", err)
	}
	src, _ = between()
	if _, err := (&Engine{}).Sync(t.Context(), src, storetest.NewMemory("dst"), SyncOptions{Selection: Selection{Name: "n"}, DryRun: true, Estimate: true}); err != nil {
		t.Error(err)
	}
}

// TestIntermediateFails: where what was wanted has come without it, nothing is
// missing; but nothing is removed either.
func TestIntermediateFails(t *testing.T) {
	for _, remove := range []bool{false, true} {
		src, h := between()
		dst := storetest.NewMemory("dst")
		dst.AddReceived("f", 9, "old")
		dst.SetTrust(storetest.IDOf("f", 9), snapshot.Touched, snapshot.Touched)
		f := storetest.NewFault(src)
		f.On(storetest.Open).For(h).Always().Return(errors.New("input/output error"))
		failed := 0
		r, err := (&Engine{}).Sync(t.Context(), f, dst, SyncOptions{Selection: Selection{Name: "n"}, Delete: remove, Event: func(e transfer.Event) {
			if e.Kind == transfer.Failed {
				failed++
			}
		}})
		if failed != 1 {
			t.Fatalf("%d steps failed", failed)
		}
		e, refused := errors.AsType[*RemovalError](err)
		if !remove && err != nil || remove && (!refused || len(e.Failures) != 1 || !strings.Contains(e.Failures[0].Error(), "h: ")) {
			t.Errorf("%v", err)
		}
		if len(r.Removed) > 0 {
			t.Error("something was removed")
		}
		if diff := cmp.Diff([]string{"old", "x/n", "y/n"}, held(t, dst)); diff != "" {
			t.Error(diff)
		}
	}
}

// TestIntermediatesFail: however many intermediates fail, what is wanted is sent
// without them.
func TestIntermediatesFail(t *testing.T) {
	src, dst := &keeper{Memory: storetest.NewMemory("src"), kept: map[snapshot.Edge]int64{}}, storetest.NewMemory("dst")
	src.SetBulk(48 << 10)
	x, y := src.Add("f", 6, "x/n").ID, src.Add("f", 7, "y/n").ID
	src.kept[snapshot.Edge{To: y, From: x}], src.kept[snapshot.Edge{To: x, From: y}] = 1<<30, 1<<30
	f := storetest.NewFault(src)
	for g := range uint64(4) {
		h := src.Add("f", g+1, fmt.Sprint("h", g)).ID
		src.kept[snapshot.Edge{To: x, From: h}], src.kept[snapshot.Edge{To: y, From: h}] = 10, 10
		f.On(storetest.Open).For(h).Always().Return(errors.New("input/output error"))
	}
	failed := 0
	_, err := (&Engine{}).Sync(t.Context(), f, dst, SyncOptions{Selection: Selection{Name: "n"}, Event: func(e transfer.Event) {
		if e.Kind == transfer.Failed {
			failed++
		}
	}})
	if diff := cmp.Diff([]string{"x/n", "y/n"}, held(t, dst)); err != nil || diff != "" || failed < 3 {
		t.Errorf("%d steps failed: %v\n%s", failed, err, diff)
	}
}

// archive is a destination that has the streams by which x/n and y/n are made
// from h, and not h.
type archive struct{ *storetest.Fault }

func (archive) List(context.Context) (*snapshot.Inventory, error) {
	inv := &snapshot.Inventory{Archive: true}
	for g, path := range []string{"x/n", "y/n"} {
		id := storetest.IDOf("f", uint64(g)+2)
		inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{ID: id, Path: path, Received: true, Transid: uint64(g) + 2})
		inv.Edges = append(inv.Edges, snapshot.Stored{Edge: snapshot.Edge{To: id, From: storetest.IDOf("f", 1)}, Size: snapshot.ExactSize(10)})
	}
	return inv, nil
}

// TestIntermediateOfArchiveFails: what an archive holds is of no use without
// what it starts from. It is sent in another way, or is missing.
func TestIntermediateOfArchiveFails(t *testing.T) {
	for name, fault := range map[string]error{"full": syscall.ENOSPC, "broken": errors.New("no"), "ended": context.Canceled} {
		src, h := between()
		dst := storetest.NewMemory("dst")
		f := storetest.NewFault(dst)
		ctx, cancel := context.WithCancel(t.Context())
		f.On(storetest.Create).For(h).Always().Do(func(context.Context) error {
			if name == "ended" {
				cancel()
			}
			return fault
		})
		r, err := (&Engine{}).Sync(ctx, src, archive{f}, SyncOptions{Selection: Selection{Name: "n"}})
		cancel()
		if f.Calls(storetest.Create) == 0 {
			t.Fatalf("%s: h is not sent: %+v", name, r.Outlook.Steps)
		}
		if name == "broken" {
			if diff := cmp.Diff([]string{"x/n", "y/n"}, held(t, dst)); err != nil || diff != "" {
				t.Errorf("%s: %v\n%s", name, err, diff)
			}
			continue
		}
		if e, ok := errors.AsType[*IncompleteError](err); !ok || e.Wanted != 2 || e.Done >= 2 || (e.Interrupted == nil) != (len(e.Failures) > 0) {
			t.Errorf("%s: %v, %+v", name, err, e)
		}
	}
}
