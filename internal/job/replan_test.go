package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// TestSyncPlansAnew: a snapshot that fails costs only itself. What was to start
// from it starts from something else.
func TestSyncPlansAnew(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	for i, p := range []string{"a", "b", "c", "d", "e"} {
		src.Add("f", uint64(i+1), p)
	}
	f := storetest.NewFault(src)
	f.On(storetest.Open).For(storetest.IDOf("f", 2)).Always().Return(errors.New("input/output error"))
	f.On(storetest.Open).For(storetest.IDOf("f", 4)).Always().Return(errors.New("input/output error"))
	var plans []string
	r, err := (&Engine{Ledger: mustLedger(t)}).Sync(t.Context(), f, dst, SyncOptions{Delete: true, Planned: func(o *Outlook) {
		var words []string
		for _, s := range o.Steps {
			words = append(words, s.Path+"<"+s.Parent.Path)
		}
		plans = append(plans, strings.Join(words, " "))
	}})
	e, ok := errors.AsType[*IncompleteError](err)
	if !ok || e.Wanted != 5 || e.Done != 3 || len(e.Failures) != 2 || e.Conflicts {
		t.Fatalf("%v", err)
	}
	if diff := cmp.Diff([]string{"a< b<a c<b d<c e<d", "c<a d<c e<d", "e<c"}, plans); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "c", "e"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
	if r.Transferred != 3 || r.Bytes == 0 {
		t.Errorf("%d transferred, %d bytes", r.Transferred, r.Bytes)
	}
}

// TestFailureIsRemembered: what failed and has gone from the source since is not
// forgotten, and nothing is removed.
func TestFailureIsRemembered(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	a := src.Add("f", 1, "a")
	b := src.Add("f", 2, "b")
	src.Add("f", 3, "c")
	dst.AddReceived("f", 9, "old")
	f := storetest.NewFault(src)
	f.On(storetest.Open).For(b.ID).Do(func(context.Context) error {
		if err := src.Remove(context.Background(), b); err != nil {
			t.Error(err)
		}
		return errors.New("it has been removed since it was listed")
	})
	dones := 0
	_, err := (&Engine{}).Sync(t.Context(), f, dst, SyncOptions{Delete: true, Event: func(e transfer.Event) {
		if e.Kind == transfer.Done {
			dones++
		}
	}})
	e, ok := errors.AsType[*IncompleteError](err)
	if !ok || e.Wanted != 3 || e.Done != 2 || len(e.Failures) != 1 {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"a", "c", "old"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
	if dones != 1 {
		t.Errorf("%d ends of one run", dones)
	}

	// Nothing is sent into a place that is only free because its holder failed.
	src, dst = storetest.NewMemory("src"), storetest.NewMemory("dst")
	a = src.Add("f", 1, "A")
	src.Add("g", 1, "A/B")
	src.Add("f", 2, "C")
	f = storetest.NewFault(src)
	f.On(storetest.Open).For(a.ID).Always().Return(errors.New("input/output error"))
	if _, err = (&Engine{}).Sync(t.Context(), f, dst, SyncOptions{}); !is[*IncompleteError](err) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"C"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
}

// TestNoHope: a destination that is full is not tried again for every snapshot,
// and one failure after the other does not go on for ever either.
func TestNoHope(t *testing.T) {
	for _, tt := range []struct {
		err   error
		tries int
	}{{fmt.Errorf("writing: %w", syscall.ENOSPC), 1}, {fmt.Errorf("writing: %w", syscall.EACCES), 1}, {errors.New("something"), hopeless}} {
		src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
		for i := range 2 * hopeless {
			src.Add("f", uint64(i+1), fmt.Sprint(i))
		}
		f := storetest.NewFault(dst)
		f.On(storetest.Create).Always().Return(tt.err)
		_, err := (&Engine{}).Sync(t.Context(), src, f, SyncOptions{})
		if e, ok := errors.AsType[*IncompleteError](err); !ok || e.Wanted != 2*hopeless || e.Done != 0 {
			t.Errorf("%v: %v", tt.err, err)
		}
		if n := f.Calls(storetest.Create); n != tt.tries {
			t.Errorf("%v: %d tries, want %d", tt.err, n, tt.tries)
		}
	}
}

// TestPlanningAnewFails: the reason is told with the rest.
func TestPlanningAnewFails(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	a := src.Add("f", 1, "a")
	src.Add("f", 2, "b")
	src.Add("g", 3, "g")
	f := storetest.NewFault(src)
	f.On(storetest.Open).For(a.ID).Return(errors.New("input/output error"))
	f.On(storetest.List).After(1).Return(errors.New("the listing broke"))
	_, err := (&Engine{}).Sync(t.Context(), f, dst, SyncOptions{})
	e, ok := errors.AsType[*IncompleteError](err)
	if !ok || e.Done != 1 || !strings.Contains(errors.Join(e.Failures...).Error(), "planning anew: the listing broke") {
		t.Errorf("%v", err)
	}
}

// TestInspectFails: that one path cannot be looked at is no reason not to try,
// and none to leave out the others.
func TestInspectFails(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	src.Add("f", 1, "a")
	src.Add("f", 2, "b")
	f := storetest.NewFault(dst)
	f.On(storetest.Inspect).Return(errors.New("operation not permitted"))
	log, lines := logged()
	if _, err := (&Engine{Log: log}).Sync(t.Context(), src, f, SyncOptions{}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(lines.String(), "operation not permitted") {
		t.Errorf("nothing is said: %s", lines)
	}
}

// TestSyncSelectsByPath: of a snapshot that the source has under several paths,
// the one that is meant decides where it goes.
func TestSyncSelectsByPath(t *testing.T) {
	src := storetest.NewMemory("src")
	src.AddReceived("f", 1, "arch/w1")
	src.AddReceived("f", 1, "weekly/w1")
	for _, tt := range []struct {
		selection Selection
		want      []string
	}{
		{Selection{}, []string{"arch/w1"}},
		{Selection{Exclude: expressions("arch")}, []string{"weekly/w1"}},
		{Selection{Exclude: expressions("weekly")}, []string{"arch/w1"}},
		{Selection{Exclude: expressions("weekly", "arch")}, []string{}},
	} {
		dst := storetest.NewMemory("dst")
		if _, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Selection: tt.selection}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tt.want, held(t, dst)); diff != "" {
			t.Errorf("%v:\n%s", tt.selection.Exclude, diff)
		}
	}
	l, err := (&Engine{}).List(t.Context(), src, ListOptions{})
	if err != nil || !cmp.Equal(listed(l), []string{"arch/w1", "weekly/w1"}) {
		t.Errorf("listed %v, %v", listed(l), err)
	}
}
