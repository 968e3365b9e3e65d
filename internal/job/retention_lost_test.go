package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// forgetful is a destination that lists nothing of what it has, and takes nothing.
type forgetful struct{ *storetest.Memory }

func (forgetful) List(context.Context) (*snapshot.Inventory, error) {
	return &snapshot.Inventory{}, nil
}

func (forgetful) Create(context.Context, store.Want) (store.Writer, error) {
	return nil, errors.New("input/output error")
}

// TestBackupEmptyListing: a destination that lists nothing where there was
// something has not said that it can do without it.
func TestBackupEmptyListing(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	now := store.Store(dst)
	d := to("dst", dst)
	d.Open = func(context.Context) (store.Store, error) { return now, nil }
	o := utc(d)
	o.Rules = last(2)
	night := func(fails bool) {
		t.Helper()
		if _, err := src.Backup(t.Context(), src.Memory, o); (err != nil) != fails {
			t.Fatal(err)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	night(false)
	now = forgetful{dst}
	for range 4 {
		night(true)
	}
	now = dst
	o.Planned = func(_ string, p *Outlook) {
		for _, s := range p.Steps {
			if s.Edge.IsFull() {
				t.Errorf("%s is sent in full", s.Path)
			}
		}
	}
	night(false)
}

// TestPruneOutside: what another directory of the same file system has is not
// there to stay, and so what is in the directory is needed as well.
func TestPruneOutside(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := 1; i <= 5; i++ {
		src.add(uint64(i), 9-i)
	}
	first, _ := inventory(t, src.Memory).Find(storetest.IDOf("home", 1))
	dst.AddReceived("home", 1, first.Path)
	dst.AddOutside("home", 4, "/elsewhere/4")
	r, err := src.Prune(t.Context(), src.Memory, PruneOptions{
		Rules: last(3), For: []Counterpart{{ID: "/bk", Has: inventory(t, dst)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if why := reasons(r.Verdicts)[first.Path]; why != "newest in common with /bk: the next increment starts from it" {
		t.Error(why)
	}
	b, err := src.newBackup(t.Context(), src.Memory, utc())
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := b.newestCommon(inventory(t, src.Memory), inventory(t, dst)); !ok || s.Path != first.Path {
		t.Errorf("claimed is %s, %t", s.Path, ok)
	}
}

// TestPruneHollow: what cannot be had back from an archive does not stand in for
// what can.
func TestPruneHollow(t *testing.T) {
	v := newVault()
	for i := byte(1); i <= 6; i++ {
		v.paths[snapshot.ID{i}] = day("", int(i))
	}
	// Of 1, 5 and 6 there are remains only: an empty object, an increment to a
	// snapshot that is lost, and one to that.
	v.edges = []snapshot.Edge{edgeOf(2, 0), edgeOf(3, 0), edgeOf(4, 0), edgeOf(5, 9), edgeOf(6, 5)}
	if _, err := updateRegister(t.Context(), v, func(r *register) { r.setHold(Hold{ID: snapshot.ID{4}, Since: pruner().Now(), Why: "it counts"}) }); err != nil {
		t.Fatal(err)
	}
	r, err := pruner().Prune(t.Context(), v, PruneOptions{Rules: last(2)})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		day("", 1): "- due: none of the rules keeps it, and it cannot be restored",
		day("", 2): "- due: none of the rules keeps it",
		day("", 3): "one of the newest (last 2 of 2)",
		day("", 4): "held since 2026-01-31: it counts",
		day("", 5): "/ " + lost,
		day("", 6): "/ " + lost,
	}
	if diff := cmp.Diff(want, reasons(r.Verdicts)); diff != "" {
		t.Error(diff)
	}
}

// TestPruneFull: where there is no space for notes, removing is what makes some.
func TestPruneFull(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		m := storetest.NewMemory("m")
		days(m.Add, "", 1, 2, 3, 4, 5)
		f := storetest.NewFault(m)
		f.On(storetest.WriteNote).Return(fmt.Errorf("writing: %w", full))
		r, err := pruner().Prune(t.Context(), f, PruneOptions{Rules: last(3)})
		if err != nil || len(r.Removed) != 2 {
			t.Errorf("%v: removed %d, %v", full, len(r.Removed), err)
		}
		if _, err := readRegister(t.Context(), m); err != nil {
			t.Error(err)
		}
	}
}

// TestBackupCutShort: nights that end before anything is removed do not make a
// removal of what has come together one that somebody has to allow.
func TestBackupCutShort(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	o := utc(to("dst", dst))
	o.Rules, o.Destinations[0].Rules = last(2), last(2)
	for i := range 8 {
		ctx, stop := context.WithCancel(t.Context())
		o.Ended = nil
		if i > 1 && i < 7 {
			o.Ended = func(string, *SyncReport, error) { stop() }
		}
		_, err := src.Backup(ctx, src.Memory, o)
		if stop(); (err != nil) != (o.Ended != nil) {
			t.Fatalf("night %d: %v", i, err)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	if here, there := held(t, src.Memory), held(t, dst); len(here) != 2 || len(there) != 2 {
		t.Errorf("%v and %v are left", here, there)
	}
}

// TestBackupFutureStays: one night with a wrong clock does not send what is not
// due to a destination.
func TestBackupFutureStays(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	o := utc(to("dst", dst))
	o.Destinations[0].Rules = last(2)
	night := func(want int) {
		t.Helper()
		sent := 0
		o.Planned = func(_ string, p *Outlook) { sent = len(p.Steps) }
		if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
			t.Fatal(err)
		}
		if sent != want {
			t.Errorf("sent %d", sent)
		}
	}
	for range 6 {
		night(1)
		src.now = src.now.AddDate(0, 0, 1)
	}
	right := src.now
	src.now = time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC)
	night(1)
	src.now = right
	night(1)
}

// overtaken is a store in which somebody else is faster once.
type overtaken struct {
	*storetest.Memory
	once func()
}

func (o *overtaken) WriteNote(ctx context.Context, name string, data, was []byte) error {
	if once := o.once; once != nil {
		o.once = nil
		once()
	}
	return o.Memory.WriteNote(ctx, name, data, was)
}

// TestPruneFamiliesOfOthers: what another machine has noted of its own snapshots
// meanwhile stays.
func TestPruneFamiliesOfOthers(t *testing.T) {
	m := storetest.NewMemory("m")
	for d := 1; d <= 6; d++ {
		m.AddReceived("a", uint64(d), day("", d))
	}
	there := storetest.NewMemory("a")
	for d := 4; d <= 6; d++ {
		there.Add("a", uint64(d), day("", d))
	}
	others := []snapshot.ID{storetest.IDOf("a", 1), storetest.IDOf("a", 2)}
	slices.SortFunc(others, compareIDs)
	c := &overtaken{Memory: m, once: func() {
		if _, err := updateRegister(t.Context(), m, func(r *register) { r.families = [][]snapshot.ID{others} }); err != nil {
			t.Error(err)
		}
	}}
	if _, err := pruner().Prune(t.Context(), c, PruneOptions{Rules: last(6), For: []Counterpart{{ID: "a", Has: inventory(t, there)}}}); err != nil {
		t.Fatal(err)
	}
	text := string(m.Note(store.RetentionNote))
	if !strings.Contains(text, others[0].String()) || !strings.Contains(text, storetest.IDOf("a", 5).String()) {
		t.Error(text)
	}
}

// TestBackupShared: two machines use one directory with the same names. What one
// has sent in full is not the other's, though nothing speaks against that yet.
func TestBackupShared(t *testing.T) {
	for name, rules := range map[string]int{"both with rules": 2, "the other without": 0} {
		t.Run(name, func(t *testing.T) {
			a, b, dst := newNightly(t), newNightly(t), storetest.NewMemory("dst")
			b.Memory = storetest.NewMemory("b")
			b.SetOrigin("b")
			b.now = a.now.Add(-time.Hour)
			oa, ob := utc(to("dst", dst)), utc(to("dst", dst))
			oa.Destinations[0].Rules, ob.Destinations[0].Rules = last(1), last(rules)
			oa.Full, ob.Full = true, true
			oa.Rules, ob.Rules = last(1), last(1)
			for i := range 6 {
				if _, err := b.Backup(t.Context(), b.Memory, ob); err != nil {
					t.Fatal(err)
				}
				if _, err := a.Backup(t.Context(), a.Memory, oa); err != nil {
					t.Fatal(err)
				}
				mine, others := 0, 0
				for _, s := range inventory(t, dst).Snapshots {
					if s.ID == storetest.IDOf("b", s.Transid) {
						others++
					} else {
						mine++
					}
				}
				if want := min(i+1, map[int]int{0: 100, 2: 2}[rules]); mine != 1 || others != want {
					t.Fatalf("night %d: %d and %d of the other machine, want %d", i, mine, others, want)
				}
				a.now, b.now = a.now.AddDate(0, 0, 1), b.now.AddDate(0, 0, 1)
			}
		})
	}
}

// TestBackupAdopts: what was sent in full by the old program, and is at the source
// no more, is not set aside for ever.
func TestBackupAdopts(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := 1; i <= 4; i++ {
		dst.AddReceived("home", uint64(i), schedule.Format("", src.now.AddDate(0, 0, i-9)))
	}
	src.add(4, 5)
	o := utc(to("dst", dst))
	o.Destinations[0].Rules, o.Rules, o.Full = last(3), last(1), true
	for range 4 {
		if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
			t.Fatal(err)
		}
		if n := len(held(t, dst)); n != 3 {
			t.Errorf("%d at the destination", n)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
}

// TestPruneHollowOfOthers: what is broken is not for that ours.
func TestPruneHollowOfOthers(t *testing.T) {
	v := newVault()
	for i := byte(1); i <= 4; i++ {
		v.paths[snapshot.ID{i}] = day("", int(i))
	}
	v.edges = []snapshot.Edge{edgeOf(1, 9), edgeOf(2, 0), edgeOf(3, 2), edgeOf(4, 3)}
	has := &snapshot.Inventory{Snapshots: []snapshot.Snapshot{{ID: snapshot.ID{4}, Path: day("", 4)}}}
	r, err := pruner().Prune(t.Context(), v, PruneOptions{Rules: last(3), For: []Counterpart{{ID: "a", Has: has}}})
	if err != nil {
		t.Fatal(err)
	}
	if why := reasons(r.Verdicts)[day("", 1)]; why != "/ nothing here shows that it has to do with a" {
		t.Error(why)
	}
}

// TestPruneHeldMeanwhile: a hold that comes while an archive is being swept is not
// lost without a word.
func TestPruneHeldMeanwhile(t *testing.T) {
	v := &sweptVault{vault: newVault()}
	for i := byte(1); i <= 4; i++ {
		v.paths[snapshot.ID{i}] = day("", int(i))
		v.edges = append(v.edges, edgeOf(i, 0))
	}
	v.before = func() {
		if _, err := pruner().Hold(t.Context(), v, day("", 2), "wanted"); err != nil {
			t.Error(err)
		}
	}
	_, err := pruner().Prune(t.Context(), v, PruneOptions{Rules: last(2)})
	e, ok := errors.AsType[*RemovalError](err)
	if !ok || len(e.Failures) != 1 || !strings.Contains(e.Failures[0].Error(), day("", 2)+" has been held") {
		t.Errorf("%v", err)
	}
}

// sweptVault is a vault in which something happens before it is swept.
type sweptVault struct {
	*vault
	before func()
}

func (v *sweptVault) Sweep(ctx context.Context, all []snapshot.Snapshot, removed func(snapshot.Snapshot, error)) error {
	v.before()
	for _, s := range all {
		removed(s, v.Remove(ctx, s))
	}
	return nil
}

// TestBackupClockForward: a clock that is wrong for one night ends no claim.
func TestBackupClockForward(t *testing.T) {
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
	o.Rules = last(2)
	night := func() {
		t.Helper()
		if _, err := src.Backup(t.Context(), src.Memory, o); (err != nil) != away {
			t.Fatal(err)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	night()
	away = true
	for range 3 {
		night()
	}
	right := src.now
	src.now = right.AddDate(10, 0, 0)
	night()
	src.now = right
	night()
	away = false
	o.Planned = func(_ string, p *Outlook) {
		for _, s := range p.Steps {
			if s.Edge.IsFull() {
				t.Errorf("%s is sent in full", s.Path)
			}
		}
	}
	night()
}

// TestBackupToCommandWithRules: rules say what a command is given. That it cannot
// take anything back is no failure, however long it goes on.
func TestBackupToCommandWithRules(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	o := utc(to("dst", struct {
		store.Store
		store.Sink
	}{dst, dst}))
	o.Rules, o.Destinations[0].Rules = last(3), last(2)
	for range 8 {
		if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
			t.Fatal(err)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
	if here, there := len(held(t, src.Memory)), len(held(t, dst)); here != 3 || there != 8 {
		t.Errorf("%d and %d", here, there)
	}
}

// TestBackupMistyped: a destination that was a mistake can be forgotten by the next
// run.
func TestBackupMistyped(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	wrong := to("wrong", nil)
	wrong.Open = func(context.Context) (store.Store, error) { return nil, errors.New("no such directory") }
	for i := range 4 {
		o := utc(to("dst", dst))
		o.Rules = last(1)
		switch i {
		case 2:
			o.Destinations = append(o.Destinations, wrong)
		case 3:
			o.StaleAfter = time.Hour
		}
		if _, err := src.Backup(t.Context(), src.Memory, o); (err != nil) != (i == 2) {
			t.Fatal(err)
		}
		if n, want := len(held(t, src.Memory)), []int{1, 1, 2, 1}[i]; n != want {
			t.Errorf("run %d: %d left, want %d", i, n, want)
		}
		src.now = src.now.Add(2 * time.Hour)
	}
}
