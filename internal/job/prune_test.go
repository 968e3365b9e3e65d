package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// days adds a snapshot for each of some days of January 2026, of generations
// that are the days.
func days(add func(family string, generation uint64, path string) snapshot.Snapshot, prefix string, all ...int) {
	for _, d := range all {
		add("home", uint64(d), day(prefix, d))
	}
}

func day(prefix string, d int) string { return fmt.Sprintf("%s202601%02d-120000", prefix, d) }

// pruner is an engine at noon of 31 January 2026.
func pruner() *Engine {
	return &Engine{Now: func() time.Time { return time.Date(2026, 1, 31, 12, 0, 1, 0, time.UTC) }}
}

// reasons maps paths to verdicts: what goes is told as "-", what is aside as "/".
func reasons(all []Verdict) map[string]string {
	m := map[string]string{}
	for _, v := range all {
		switch {
		case v.Aside:
			m[v.Snapshot.Path] = "/ " + v.Reason
		case v.Keep:
			m[v.Snapshot.Path] = v.Reason
		default:
			m[v.Snapshot.Path] = "- " + v.Reason
		}
	}
	return m
}

func removedPaths(all []snapshot.Snapshot) []string {
	paths := []string{}
	for _, s := range all {
		paths = append(paths, s.Path)
	}
	return paths
}

func inventory(t testing.TB, st store.Store) *snapshot.Inventory {
	t.Helper()
	inv, err := st.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func TestPrune(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3, 4, 5)
	days(m.Add, "a/b-", 11, 12)
	m.Add("home", 20, "20260229-120000")
	m.Add("home", 21, "readme")
	m.Add("home", 22, "20270101-000000")
	var judged []Verdict
	var told []string
	r, err := pruner().Prune(t.Context(), m, PruneOptions{
		Rules: last(3), Reclaim: true, Who: "a test",
		Judged: func(all []Verdict) {
			judged = all
			if len(told) > 0 {
				t.Error("something was removed before it was judged")
			}
		},
		Removed: func(s snapshot.Snapshot, err error) { told = append(told, fmt.Sprint(s.Path, err)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		day("", 1):        "- due: none of the rules keeps it",
		day("", 2):        "- due: none of the rules keeps it",
		day("", 3):        "one of the newest (last 3 of 3)",
		day("", 4):        "one of the newest (last 2 of 3)",
		day("", 5):        "one of the newest (last 1 of 3)",
		day("a/b-", 11):   "one of the newest (last 2 of 3)",
		day("a/b-", 12):   "one of the newest (last 1 of 3)",
		"20260229-120000": "/ its name does not end in a date",
		"readme":          "/ its name does not end in a date",
		"20270101-000000": "/ in the future",
	}
	if diff := cmp.Diff(want, reasons(r.Verdicts)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(reasons(judged), reasons(r.Verdicts)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{day("", 1), day("", 2)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	if len(told) != 2 || len(held(t, m)) != 8 || m.Unreclaimed() != 0 {
		t.Errorf("told %q, left %q, %d to reclaim", told, held(t, m), m.Unreclaimed())
	}
	if got := r.Verdicts[0].Time; !got.Equal(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("the time of the first is %s", got)
	}
}

func TestPruneDryRun(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3)
	unlock, err := m.Lock(t.Context(), "another")
	if err != nil {
		t.Fatal(err)
	}
	r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(2), DryRun: true, For: []Counterpart{{ID: "/bk"}}})
	if err != nil || len(r.Removed) > 0 || len(held(t, m)) != 3 || len(m.Note(store.RetentionNote)) > 0 {
		t.Errorf("%+v, %v; note %s", r, err, m.Note(store.RetentionNote))
	}
	if _, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(2)}); err == nil {
		t.Error("removed without the lock")
	} else if _, ok := errors.AsType[*store.LockedError](err); !ok {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestPruneWithoutRules: without rules nothing goes.
func TestPruneWithoutRules(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3)
	if r, err := pruner().Prune(t.Context(), m, PruneOptions{Force: true}); err != nil || len(r.Removed) > 0 || len(held(t, m)) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPruneOnePrefix(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "home-", 1, 2, 3)
	days(m.Add, "", 11, 12, 13)
	days(m.Add, "home-x", 14)
	days(m.Add, "sub/home-", 15, 16)
	prefix := "home-"
	r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(2), Prefix: &prefix})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("home-", 1)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	for _, p := range []string{day("", 11), day("home-x", 14), day("sub/home-", 15)} {
		if why := reasons(r.Verdicts)[p]; why != "/ its name is not home-YYYYMMDD-HHMMSS" {
			t.Errorf("%s: %q", p, why)
		}
	}
}

// TestPruneZone: names are of one zone, and days may be of another.
func TestPruneZone(t *testing.T) {
	east := time.FixedZone("east", 14*3600)
	m := storetest.NewMemory("m")
	for g, name := range []string{"20260110-010000", "20260110-090000", "20260110-230000"} { // 9 January 11:00, 19:00, 10 January 9:00
		m.Add("home", uint64(g+1), name)
	}
	r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: schedule.Rules{Daily: 9}, Zone: east})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"20260110-010000"}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	if at := r.Verdicts[0].Time.UTC(); !at.Equal(time.Date(2026, 1, 9, 11, 0, 0, 0, time.UTC)) {
		t.Error(at)
	}
}

// TestPruneNewestCommon: what the next increment starts from stays, here and
// there, unless it has been changed.
func TestPruneNewestCommon(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	days(src.Add, "", 1, 2, 3, 4, 5)
	days(dst.AddReceived, "", 1, 2, 3)
	dst.SetTrust(storetest.IDOf("home", 3), snapshot.Touched, snapshot.Touched)
	o := PruneOptions{Rules: last(3), For: []Counterpart{{ID: "/bk", Has: inventory(t, dst)}}}
	r, err := pruner().Prune(t.Context(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 1)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	if why := reasons(r.Verdicts)[day("", 2)]; why != "newest in common with /bk: the next increment starts from it" {
		t.Error(why)
	}

	// One that is doubtful stays, and so does the one before it.
	dst.SetTrust(storetest.IDOf("home", 3), snapshot.Doubtful, snapshot.Intact)
	o.Rules, o.Force, o.For[0].Has = last(1), true, inventory(t, dst)
	if r, err = pruner().Prune(t.Context(), src, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 4)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	dst.SetTrust(storetest.IDOf("home", 3), snapshot.Intact, snapshot.Intact)

	// The other way round.
	days(dst.AddReceived, "", 6, 7)
	if _, err = pruner().Prune(t.Context(), dst, PruneOptions{Rules: last(2), Force: true, For: []Counterpart{{ID: "/home", Has: inventory(t, src)}}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 3), day("", 6), day("", 7)}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
}

// TestPruneClaims: a disk in the drawer keeps what it needs, for a time.
func TestPruneClaims(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3, 4)
	_, err := updateRegister(t.Context(), m, func(r *register) {
		r.setClaim(claim{destination: "/bk", id: storetest.IDOf("home", 1), path: day("", 1), seen: time.Date(2026, 1, 1, 13, 0, 0, 0, time.UTC)})
	})
	if err != nil {
		t.Fatal(err)
	}
	e := pruner()
	var log *strings.Builder
	e.Log, log = logged()
	r, err := e.Prune(t.Context(), m, PruneOptions{Rules: last(2), For: []Counterpart{{ID: "/bk"}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 2)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	want := "newest in common with /bk, last seen on 2026-01-01: the next increment starts from it; it waits until 2026-04-01"
	if why := reasons(r.Verdicts)[day("", 1)]; why != want || log.Len() > 0 {
		t.Error(why, log)
	}
	// A destination that this run is not about claims all the same.
	if r, err = e.Prune(t.Context(), m, PruneOptions{Rules: last(2)}); err != nil || len(r.Removed) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = e.Prune(t.Context(), m, PruneOptions{Rules: last(2), StaleAfter: 20 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 1)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(log.String(), "WARN") || !strings.Contains(log.String(), "/bk has not been seen since 2026-01-01, and its claim to "+day("", 1)+" has lapsed") {
		t.Errorf("it has lapsed silently: %s", log)
	}
}

// TestPruneUnseen: of a destination that has never been seen nobody knows what it
// needs: an old one that is not connected today, say.
func TestPruneUnseen(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3, 4)
	e := pruner()
	o := PruneOptions{Rules: last(2), For: []Counterpart{{ID: "/bk"}}}
	for range 2 {
		if r, err := e.Prune(t.Context(), m, o); err != nil || len(r.Removed) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	o.StaleAfter = 24 * time.Hour
	now := e.Now()
	e.Now = func() time.Time { return now.Add(25 * time.Hour) }
	r, err := e.Prune(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 1), day("", 2)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
}

func TestPruneLocked(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3, 4, 5, 6)
	m.SetNote(store.LocksNote, fmt.Appendf(nil, `{%q:{"parent_locks":["/bk"]},%q:{"locks":["/bk","shell://x"]}}`, day("", 1), day("", 2)))
	r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(3), Locked: map[string]string{day("", 3): "because"}})
	if err != nil {
		t.Fatal(err)
	}
	got := reasons(r.Verdicts)
	for d, want := range map[int]string{
		1: "locked: an unfinished transfer to /bk starts from it",
		2: "locked: an unfinished transfer to /bk, shell://x",
		3: "because",
	} {
		if got[day("", d)] != want || len(r.Removed) > 0 {
			t.Errorf("%d: %q", d, got[day("", d)])
		}
	}
	m.SetNote(store.LocksNote, []byte(`{"`))
	if _, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(3)}); err == nil || len(held(t, m)) != 6 {
		t.Errorf("locks that cannot be read: %v", err)
	}
}

func TestPruneGuard(t *testing.T) {
	setup := func() *storetest.Memory {
		m := storetest.NewMemory("m")
		days(m.Add, "", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		return m
	}
	m := setup()
	for _, dry := range []bool{true, false} {
		r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(4), DryRun: dry})
		f, ok := errors.AsType[*ForceError](err)
		if !ok || f.Going != 6 || f.Of != 10 || len(r.Verdicts) != 10 || len(held(t, m)) != 10 {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(5)}); err != nil || len(r.Removed) != 5 {
		t.Errorf("half: %+v, %v", r, err)
	}
	m = setup()
	if r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(1), Force: true}); err != nil || len(r.Removed) != 9 {
		t.Errorf("forced: %+v, %v", r, err)
	}

	// What the rules have let go before, and what has only waited, is no surprise.
	m = setup()
	o := PruneOptions{Rules: last(5), Locked: map[string]string{}}
	for d := 1; d <= 10; d++ {
		o.Locked[day("", d)] = "locked"
	}
	if r, err := pruner().Prune(t.Context(), m, o); err != nil || len(r.Removed) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	days(m.Add, "", 11)
	o.Locked = nil
	other := o
	other.Rules = schedule.Rules{Last: 4, Daily: 4}
	if _, err := pruner().Prune(t.Context(), m, other); err == nil {
		t.Error("other rules were not asked about")
	}
	if r, err := pruner().Prune(t.Context(), m, o); err != nil || len(r.Removed) != 6 {
		t.Errorf("after waiting: %+v, %v", r, err)
	}

	// A destination at which something fails, night after night.
	m = storetest.NewMemory("m")
	for d := 1; d <= 9; d++ {
		days(m.Add, "", d)
		if r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(1), Postpone: true}); err != nil || len(r.Removed) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(1)}); err != nil || len(r.Removed) != 8 {
		t.Errorf("after failures: %+v, %v", r, err)
	}
}

// fickle is a store in which something happens while a run is at work.
type fickle struct {
	*storetest.Memory
	lists   int
	meddle  func(list int)
	refuses map[string]error // to remove
}

func (f *fickle) List(ctx context.Context) (*snapshot.Inventory, error) {
	f.lists++
	if f.meddle != nil {
		f.meddle(f.lists)
	}
	return f.Memory.List(ctx)
}

func (f *fickle) Remove(ctx context.Context, s snapshot.Snapshot) error {
	if err := f.refuses[s.Path]; err != nil {
		return err
	}
	return f.Memory.Remove(ctx, s)
}

// TestPruneLooksAgain: between deciding and doing, the world may change.
func TestPruneLooksAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		meddle func(src, dst *storetest.Memory)
		want   []string
	}{
		"nothing": {func(_, _ *storetest.Memory) {}, []string{day("", 1), day("", 3)}},
		"the newest common one is gone there": {func(_, dst *storetest.Memory) {
			inv, _ := dst.List(context.Background())
			s, _ := inv.Find(storetest.IDOf("home", 2))
			if err := dst.Remove(context.Background(), s); err != nil {
				panic(err)
			}
		}, []string{day("", 3)}},
		"somebody holds one": {func(src, _ *storetest.Memory) {
			if _, err := (&Engine{}).Hold(context.Background(), src, day("", 3), "wait"); err != nil {
				panic(err)
			}
		}, []string{day("", 1)}},
		"another is at that path": {func(src, _ *storetest.Memory) {
			inv, _ := src.List(context.Background())
			s, _ := inv.Find(storetest.IDOf("home", 3))
			if err := src.Remove(context.Background(), s); err != nil {
				panic(err)
			}
			src.Add("home", 99, day("", 3))
		}, []string{day("", 1)}},
		"a newer one has come": {func(src, _ *storetest.Memory) {
			days(src.Add, "", 9)
		}, []string{day("", 1), day("", 3)}},
	} {
		src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
		days(src.Add, "", 1, 2, 3, 4, 5, 6)
		days(dst.AddReceived, "", 1, 2)
		done := false
		f := &fickle{Memory: src}
		f.meddle = func(list int) {
			if list == 2 && !done {
				done = true
				tt.meddle(src, dst)
			}
		}
		r, err := pruner().Prune(t.Context(), f, PruneOptions{Rules: last(3), For: []Counterpart{{ID: "/bk", Has: inventory(t, dst), Look: dst.List}}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, removedPaths(r.Removed)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestPruneHoldsInTheLastMoment: a hold counts even while snapshots are removed.
func TestPruneHoldsInTheLastMoment(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3, 4, 5, 6)
	r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(3), Removed: func(s snapshot.Snapshot, _ error) {
		if s.Path == day("", 1) {
			if _, err := pruner().Hold(t.Context(), m, day("", 3), "look at this"); err != nil {
				t.Error(err)
			}
			if _, err := pruner().Hold(t.Context(), m, day("", 1), "too late"); !errors.Is(err, store.ErrNotFound) {
				t.Error(err)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 1), day("", 2)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
}

func TestPruneRemovalFails(t *testing.T) {
	f := &fickle{Memory: storetest.NewMemory("m"), refuses: map[string]error{day("", 1): errors.New("no")}}
	days(f.Add, "", 1, 2, 3, 4)
	r, err := pruner().Prune(t.Context(), f, PruneOptions{Rules: last(2)})
	if e, ok := errors.AsType[*RemovalError](err); !ok || len(e.Failures) != 1 || len(r.Removed) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("that is enough")
	f.meddle = func(int) { cancel(why) }
	if _, err := pruner().Prune(ctx, f, PruneOptions{Rules: last(1)}); err == nil || len(held(t, f.Memory)) != 3 {
		t.Errorf("cancelled: %v", err)
	}
	bare := noteless{f.Memory}
	if _, err := pruner().Prune(t.Context(), bare, PruneOptions{Rules: last(2)}); err == nil {
		t.Error("a store that cannot remove has pruned")
	} else if _, ok := errors.AsType[*UnableError](err); !ok {
		t.Error(err)
	}
}
