package job

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestPruneOrigin: names do not make a snapshot one of ours.
func TestPruneOrigin(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3)
	m.Add("other", 4, day("", 4))
	m.AddReceived("home", 5, day("", 5))
	m.SetOrigin("home")
	origin, err := m.Origin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := pruner().Prune(t.Context(), m, PruneOptions{Rules: last(2), Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{day("", 1)}, removedPaths(r.Removed)); diff != "" {
		t.Error(diff)
	}
	for _, d := range []int{4, 5} {
		if why := reasons(r.Verdicts)[day("", d)]; why != "/ it is not a snapshot of what is backed up" {
			t.Errorf("%d: %q", d, why)
		}
	}
	if note := m.Note(store.RetentionNote); len(note) > 0 {
		t.Errorf("what the store itself says is noted: %s", note)
	}
}

// TestPruneKin: several machines may share a destination, and what one has sent
// stays known when the file system has forgotten where it came from.
func TestPruneKin(t *testing.T) {
	a, b, dst := storetest.NewMemory("a"), storetest.NewMemory("b"), storetest.NewMemory("dst")
	e := pruner()
	send := func(src *storetest.Memory) {
		t.Helper()
		if _, err := e.Sync(t.Context(), src, dst, SyncOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	prune := func(src *storetest.Memory, rules schedule.Rules) map[string]string {
		t.Helper()
		r, err := e.Prune(t.Context(), dst, PruneOptions{Rules: rules, For: []Counterpart{{ID: src.String(), Has: inventory(t, src)}}})
		if err != nil {
			t.Fatal(err)
		}
		return reasons(r.Verdicts)
	}
	for d := 1; d <= 9; d += 2 {
		a.Add("a", uint64(d), day("", d))
		b.Add("b", uint64(d), day("", d+1))
		send(a)
		send(b)
	}
	dst.Add("local", 1, day("", 30)) // not sent by anybody
	// Only every other one stays of a's, so that nothing ties them together but the
	// note, and then a forgets all but the last.
	if _, err := updateRegister(t.Context(), dst, func(r *register) {
		r.setHold(Hold{ID: storetest.IDOf("a", 1), Since: someDay})
		r.setHold(Hold{ID: storetest.IDOf("a", 5), Since: someDay})
	}); err != nil {
		t.Fatal(err)
	}
	got := prune(a, last(3))
	for _, d := range []int{2, 4, 6, 8, 10, 30} {
		if why := got[day("", d)]; why != "/ nothing here shows that it has to do with memory a" {
			t.Errorf("%d: %q", d, why)
		}
	}
	if why := got[day("", 3)]; why != "- due: none of the rules keeps it" {
		t.Error(why)
	}
	inv := inventory(t, a)
	for d := 1; d <= 7; d += 2 {
		s, _ := inv.Find(storetest.IDOf("a", uint64(d)))
		if err := a.Remove(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Release(t.Context(), dst, day("", 1)); err != nil {
		t.Fatal(err)
	}
	got = prune(a, last(3))
	if why := got[day("", 1)]; why != "- due: none of the rules keeps it" {
		t.Errorf("what was recognised once: %q", why)
	}
	if got = prune(b, last(4)); got[day("", 2)] != "- due: none of the rules keeps it" || got[day("", 9)][0] != '/' {
		t.Errorf("%v", got)
	}
}

// TestPruneLocalCopies: what somebody has made at a destination is nobody else's.
func TestPruneLocalCopies(t *testing.T) {
	received, other := snapshot.ID{1}, snapshot.ID{2}
	inv := &snapshot.Inventory{
		Snapshots: []snapshot.Snapshot{
			{ID: received, UUID: snapshot.ID{11}, Received: true, Path: day("", 1), Copies: []snapshot.Snapshot{
				{ID: received, UUID: snapshot.ID{12}, Parent: snapshot.ID{11}, Received: true, Path: day("", 2)},
			}},
			{ID: other, UUID: snapshot.ID{13}, Parent: snapshot.ID{11}, Received: true, Path: day("", 3)},
			{ID: snapshot.ID{14}, UUID: snapshot.ID{14}, Parent: snapshot.ID{13}, Path: day("", 4)},
		},
		Lineage: map[snapshot.ID]snapshot.ID{{12}: {11}, {13}: {11}, {14}: {13}},
	}
	there := &snapshot.Inventory{Snapshots: []snapshot.Snapshot{{ID: other, Path: day("", 3)}}}
	o := &PruneOptions{Rules: last(1), For: []Counterpart{{ID: "src", Has: there}}}
	ev := &evidence{now: pruner().Now(), inv: inv, register: &register{}, options: o}
	want := map[string]string{
		day("", 1): "- due: none of the rules keeps it",
		day("", 2): "/ it was made here, from " + day("", 1),
		day("", 3): "newest in common with src: the next increment starts from it",
		day("", 4): "/ it was made here, from " + day("", 3),
	}
	if diff := cmp.Diff(want, reasons(ev.judge().verdicts())); diff != "" {
		t.Error(diff)
	}
}

// TestPruneRestored: a subvolume that was put back from one of its snapshots has
// the same past.
func TestPruneRestored(t *testing.T) {
	before, restored := snapshot.ID{90}, snapshot.ID{91}
	of := func(n byte, parent snapshot.ID) snapshot.Snapshot {
		return snapshot.Snapshot{ID: snapshot.ID{n}, UUID: snapshot.ID{n}, Parent: parent, Path: day("", int(n))}
	}
	inv := &snapshot.Inventory{
		Snapshots: []snapshot.Snapshot{of(1, before), of(2, before), of(3, restored), of(4, restored), of(5, snapshot.ID{92})},
		Lineage:   map[snapshot.ID]snapshot.ID{{1}: before, {2}: before, restored: {2}, {3}: restored, {4}: restored, {5}: {92}, {92}: {2}},
	}
	ev := &evidence{now: pruner().Now(), inv: inv, register: &register{}, options: &PruneOptions{Rules: last(3), Origin: restored}}
	j := ev.judge()
	got := reasons(j.verdicts())
	if got[day("", 1)] != "- due: none of the rules keeps it" || got[day("", 5)] != "/ it is not a snapshot of what is backed up" || !j.worth {
		t.Errorf("%v", got)
	}
	// The snapshot that it was restored from is gone, and with it what tied the
	// first one to it.
	inv.Snapshots = slices.Delete(inv.Snapshots, 1, 2)
	delete(inv.Lineage, snapshot.ID{2})
	ev = &evidence{now: ev.now, inv: inv, register: &register{families: j.families(inv, nil)}, options: &PruneOptions{Rules: last(2), Origin: restored}}
	if got = reasons(ev.judge().verdicts()); got[day("", 1)] != "- due: none of the rules keeps it" {
		t.Errorf("%v", got)
	}
}
