package job

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/store/storetest"
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
