package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/outstanding"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// TestBackupSparesWhatIsNew makes snapshots while a run sends: no destination has been
// offered them, and so its rules do not remove them at the source.
func TestBackupSparesWhatIsNew(t *testing.T) {
	src := newNightly(t)
	src.add(1, 1)
	dst := storetest.NewMemory("dst")
	o := utc(to("dst", dst))
	o.NoSnapshot, o.Rules, o.Force = true, last(1), true // it is meant that so much goes
	o.Event = func(_ string, e transfer.Event) {
		if e.Kind != transfer.StepBegun {
			return
		}
		for range 3 {
			if _, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC}); err != nil {
				t.Error(err)
			}
		}
	}
	r, err := src.Backup(t.Context(), src.Memory, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(held(t, src.Memory)); n != 4 || r.Source == nil || len(r.Source.Removed) != 0 {
		t.Errorf("%d snapshots stay, want 4: %+v", n, r.Source)
	}
	o.Event = nil
	if r, err = src.Backup(t.Context(), src.Memory, o); err != nil {
		t.Fatal(err)
	}
	if n := len(held(t, dst)); n != 4 {
		t.Errorf("%d snapshots were sent, want 4", n)
	}
	if n := len(held(t, src.Memory)); n != 1 || len(r.Source.Removed) != 3 {
		t.Errorf("%d snapshots stay, want 1: %+v", n, r.Source)
	}
}

func TestBackupRetains(t *testing.T) {
	src := newNightly(t)
	a, b := storetest.NewMemory("a"), storetest.NewMemory("b")
	o := utc(to("a", a), to("b", b))
	o.Rules, o.Destinations[0].Rules, o.Destinations[1].Rules = last(2), last(3), last(4)
	o.Reclaim = true
	judged := map[string]int{}
	o.Judged = func(place string, all []Verdict) { judged[place] += len(all) }
	removed := map[string]int{}
	o.Removed = func(place string, _ snapshot.Snapshot, err error) {
		if err != nil {
			t.Errorf("%s: %v", place, err)
		}
		removed[place]++
	}
	for range 6 {
		r, err := src.Backup(t.Context(), src.Memory, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Source == nil || r.Destinations[0].Prune == nil || r.Destinations[1].Prune == nil {
			t.Errorf("%+v", r)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	for i, m := range []*storetest.Memory{src.Memory, a, b} {
		if n := len(held(t, m)); n != i+2 {
			t.Errorf("%s has %d", m, n)
		}
		if m.Unreclaimed() > 0 {
			t.Errorf("%s has space to reclaim", m)
		}
	}
	if diff := cmp.Diff(map[string]int{"memory home": 4, "a": 3, "b": 2}, removed); diff != "" {
		t.Error(diff)
	}
	if judged["memory home"] == 0 || judged["a"] == 0 || judged["b"] == 0 {
		t.Errorf("judged: %v", judged)
	}
}

// TestBackupAway has a destination that is away for nights: what the next
// increment to it starts from stays, until it has been away for too long.
func TestBackupAway(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	away := false
	d := to("dst", dst)
	d.Open = func(context.Context) (store.Store, error) {
		if away {
			return nil, errors.New("no route to host")
		}
		return dst, nil
	}
	o := utc(d)
	o.Rules, o.StaleAfter = last(3), 30*24*time.Hour
	var full, increments int
	o.Planned = func(_ string, p *Outlook) {
		for _, s := range p.Steps {
			if s.Edge.IsFull() {
				full++
			} else {
				increments++
			}
		}
	}
	night := func() {
		if _, err := src.Backup(t.Context(), src.Memory, o); (err != nil) != away {
			t.Fatal(err)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	night()
	night()
	away = true
	for range 20 {
		night()
	}
	if n := len(held(t, src.Memory)); n != 4 {
		t.Errorf("%d snapshots at the source", n)
	}
	away = false
	night()
	if full != 1 || increments != 5 { // four of them in the last night
		t.Errorf("%d in full, %d increments", full, increments)
	}
	away = true
	for range 40 {
		night()
	}
	if n := len(held(t, src.Memory)); n != 3 {
		t.Errorf("%d snapshots at the source when the claim has lapsed", n)
	}
	away = false
	night()
	if full != 2 {
		t.Errorf("%d in full", full)
	}
}

func TestBackupFailedIsNotPruned(t *testing.T) {
	src, good, bad := newNightly(t), storetest.NewMemory("good"), storetest.NewMemory("bad")
	f := storetest.NewFault(bad)
	o := utc(to("good", good), to("bad", f))
	o.Destinations[0].Rules, o.Destinations[1].Rules = last(1), last(1)
	for i := range 3 {
		if i == 2 {
			f.On(storetest.Commit).Always().Return(errors.New("the disk is full"))
		}
		if _, err := src.Backup(t.Context(), src.Memory, o); (err != nil) != (i == 2) {
			t.Fatal(err)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	if diff := cmp.Diff([]string{"20261122-231455"}, held(t, good)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"20261121-231455"}, held(t, bad)); diff != "" {
		t.Error(diff)
	}
}

// TestBackupGuard has rules by which nearly everything would go at once.
func TestBackupGuard(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := 1; i <= 8; i++ {
		s := src.add(uint64(i), 9-i)
		dst.AddReceived("home", uint64(i), s.Path)
	}
	o := utc(to("dst", dst))
	o.Rules, o.Destinations[0].Rules = last(2), last(2)
	_, err := src.Backup(t.Context(), src.Memory, o)
	e, ok := errors.AsType[*BackupError](err)
	if !ok || !e.Done || len(e.Failures) != 2 {
		t.Fatalf("%v", err)
	}
	for _, err := range e.Failures {
		if _, ok := errors.AsType[*ForceError](err); !ok {
			t.Errorf("%v", err)
		}
	}
	if len(held(t, src.Memory)) != 9 || len(held(t, dst)) != 9 {
		t.Error("something is gone")
	}
	o.Force, src.now = true, src.now.AddDate(0, 0, 1)
	if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
		t.Fatal(err)
	}
	if len(held(t, src.Memory)) != 2 || len(held(t, dst)) != 2 {
		t.Errorf("%v, %v", held(t, src.Memory), held(t, dst))
	}
}

func TestBackupNoTransfer(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := 1; i <= 3; i++ {
		s := src.add(uint64(i), 9-i)
		dst.AddReceived("home", uint64(i), s.Path)
	}
	never := to("never", nil)
	never.Open = func(context.Context) (store.Store, error) { panic("nobody has anything to do there") }
	o := utc(to("dst", dst), never)
	o.NoTransfer, o.Destinations[0].Rules = true, last(2)
	if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
		t.Fatal(err)
	}
	if len(held(t, src.Memory)) != 4 || len(held(t, dst)) != 2 {
		t.Errorf("%v, %v", held(t, src.Memory), held(t, dst))
	}
}

// TestBackupClockBack asserts that what a run has made is sent and stays, even
// where the clock has been put back a little.
func TestBackupClockBack(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	o := utc(to("dst", dst))
	o.Rules, o.Destinations[0].Rules = last(1), last(1)
	for range 2 {
		r, err := src.Backup(t.Context(), src.Memory, o)
		if err != nil {
			t.Fatal(err)
		}
		if src.Digest(r.Taken.ID) == "" || dst.Digest(r.Taken.ID) == "" {
			t.Errorf("%s is not there: %v, %v", r.Taken.Path, held(t, src.Memory), held(t, dst))
		}
		src.now = src.now.Add(-time.Minute)
	}
}

// TestBackupStrangers has snapshots of something else under names of the series.
func TestBackupStrangers(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	src.Add("strange", 1, "20261101-000000")
	log, text := logged()
	src.Log = log
	o := utc(to("dst", dst))
	o.Rules = last(1)
	for range 3 {
		if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
			t.Fatal(err)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	if diff := cmp.Diff([]string{"20261101-000000", "20261122-231455"}, held(t, src.Memory)); diff != "" {
		t.Error(diff)
	}
	if n := len(held(t, dst)); n != 3 {
		t.Errorf("%v", held(t, dst))
	}
	if n := strings.Count(text.String(), "of something else"); n != 3 {
		t.Errorf("said %d times:\n%s", n, text)
	}

	// Where nothing is made, a directory that others send to is a source too.
	relay, far := newNightly(t), storetest.NewMemory("far")
	relay.AddReceived("strange", 1, "20261101-000000")
	o = utc(to("far", far))
	o.NoSnapshot = true
	if _, err := relay.Backup(t.Context(), relay.Memory, o); err != nil || len(held(t, far)) != 1 {
		t.Errorf("%v, %v", held(t, far), err)
	}
}

// TestBackupLife runs for weeks with destinations that fail in any way at any
// time, and looks after each run that nothing is lost: what is anywhere has its
// content, what is unfinished is locked and there, and the next increment is
// possible.
func TestBackupLife(t *testing.T) {
	ops := []storetest.Op{
		storetest.Lock, storetest.List, storetest.Create, storetest.Write, storetest.Commit, storetest.Remove,
		storetest.ReadNote, storetest.WriteNote, storetest.RemoveLeftover,
	}
	atSource := []storetest.Op{storetest.Snapshot, storetest.List, storetest.Open, storetest.Read, storetest.WriteNote, storetest.Remove}
	rapid.Check(t, func(t *rapid.T) {
		src := &nightly{Memory: storetest.NewMemory("home"), now: night}
		src.SetOrigin("home")
		src.Engine = &Engine{Now: func() time.Time { return src.now }}
		rules := rapid.SampledFrom([]schedule.Rules{{}, last(1), last(3), {Last: 1, Daily: 3, Weekly: 2}})
		var stores []*storetest.Memory
		var faults []*storetest.Fault
		o := utc()
		o.Rules = rules.Draw(t, "rules of the source")
		for i := range rapid.IntRange(1, 3).Draw(t, "destinations") {
			m := storetest.NewMemory(fmt.Sprint("d", i))
			f := storetest.NewFault(m)
			d := to(fmt.Sprint("d", i), f)
			d.Rules = rules.Draw(t, "rules")
			stores, faults, o.Destinations = append(stores, m), append(faults, f), append(o.Destinations, d)
		}
		for range rapid.IntRange(3, 15).Draw(t, "runs") {
			own := storetest.NewFault(src.Memory)
			if rapid.IntRange(0, 5).Draw(t, "fault at the source") == 0 {
				own.On(rapid.SampledFrom(atSource).Draw(t, "op")).After(rapid.IntRange(0, 6).Draw(t, "after")).Return(errors.New("bad luck at home"))
			}
			for _, f := range faults {
				f.Reset()
				if rapid.IntRange(0, 2).Draw(t, "fault") == 0 {
					rule := f.On(rapid.SampledFrom(ops).Draw(t, "op")).After(rapid.IntRange(0, 4).Draw(t, "after"))
					if rapid.Bool().Draw(t, "for ever") {
						rule = rule.Always()
					}
					rule.Return(errors.New("bad luck"))
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			if rapid.IntRange(0, 7).Draw(t, "cut short") == 0 {
				op := rapid.SampledFrom([]storetest.Op{storetest.WriteNote, storetest.Open, storetest.Read, storetest.List, storetest.Remove}).Draw(t, "at")
				own.On(op).After(rapid.IntRange(0, 4).Draw(t, "after")).Do(func(context.Context) error { cancel(); return nil })
			}
			_, err := src.Backup(ctx, own, o)
			cancel()
			if _, force := errors.AsType[*ForceError](err); force {
				o := o
				o.Force = true
				_, _ = src.Backup(t.Context(), own, o) // it may fail for another reason
			}
			check(t, src, stores)
			src.now = src.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "hours")) * time.Hour)
		}
		for _, f := range faults {
			f.Reset()
		}
		o.Force = true
		if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
			t.Fatalf("when all is well again: %v", err)
		}
		check(t, src, stores)
		if got := src.Note(store.LocksNote); len(got) > 0 && string(got) != "{}" {
			t.Fatalf("still locked: %s", got)
		}
		for _, m := range stores {
			inv, _ := m.List(t.Context())
			holds, _ := src.Memory.List(t.Context())
			all := inv.Inside()
			if newest := holds.Inside()[len(holds.Inside())-1]; len(all) == 0 || all[len(all)-1].ID != newest.ID {
				t.Fatalf("%s has not got the newest", m)
			}
		}
	})
}

// check looks at everything between two runs.
func check(t *rapid.T, src *nightly, stores []*storetest.Memory) {
	t.Helper()
	holds, err := src.Memory.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	here := topmost(holds)
	all, err := outstanding.Parse(src.Note(store.LocksNote))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all.Names() {
		if _, ok := here[name]; !ok {
			t.Fatalf("%s is locked, and gone", name)
		}
	}
	for _, m := range stores {
		has, err := m.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range has.Inside() {
			want := ""
			for g := uint64(1); g < 200 && want == ""; g++ {
				if storetest.IDOf("home", g) == s.ID {
					want = digestOf(g)
				}
			}
			if m.Digest(s.ID) != want {
				t.Fatalf("%s in %s has another content", s.Path, m)
			}
		}
		if len(has.Inside()) == 0 || len(holds.Inside()) == 0 {
			continue
		}
		var want []snapshot.ID
		for _, s := range holds.Inside() {
			want = append(want, s.ID)
		}
		for _, step := range plan.Sync(holds, has, plan.Wish{Want: want}, func(snapshot.Edge) snapshot.Size { return snapshot.Size{} }).Steps {
			if step.Edge.IsFull() {
				t.Fatalf("the next transfer to %s is not an increment", m)
			}
		}
		if m.Busy() > 0 {
			t.Fatalf("%s has open writers", m)
		}
	}
	if src.Busy() > 0 {
		t.Fatal("streams are open")
	}
}

// digestOf is the content that a state of the source has everywhere.
func digestOf(generation uint64) string {
	m := storetest.NewMemory("reference")
	return m.Digest(m.Add("home", generation, "it").ID)
}
