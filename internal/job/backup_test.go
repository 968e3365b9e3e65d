package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/outstanding"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// night is when the first run of a test begins.
var night = time.Date(2026, 11, 20, 23, 14, 55, 0, time.UTC)

// nightly is a source with its clock.
type nightly struct {
	*Engine
	*storetest.Memory
	now time.Time
}

func newNightly(t testing.TB) *nightly {
	n := &nightly{Memory: storetest.NewMemory("home"), now: night}
	n.SetOrigin("home")
	n.Engine = &Engine{Now: func() time.Time { return n.now }}
	return n
}

// add adds a snapshot of so many days ago.
func (n *nightly) add(generation uint64, daysAgo int) snapshot.Snapshot {
	return n.Add("home", generation, schedule.Format("", n.now.AddDate(0, 0, -daysAgo)))
}

// to is a destination.
func to(name string, st store.Store) Destination {
	return Destination{Name: name, ID: "/mnt/" + name, Open: func(context.Context) (store.Store, error) { return st, nil }}
}

func last(n int) schedule.Rules { return schedule.Rules{Last: n} }

// utc are the options of a run with names in UTC.
func utc(all ...Destination) BackupOptions {
	return BackupOptions{Zone: time.UTC, Destinations: all, Who: "a test"}
}

// locks reads the record of unfinished transfers.
func locks(t testing.TB, m *storetest.Memory) *outstanding.Transfers {
	t.Helper()
	all, err := outstanding.Parse(m.Note(store.LocksNote))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lockedNames lists what is locked, as "name: sent to X, starts Y".
func lockedNames(t testing.TB, m *storetest.Memory) []string {
	t.Helper()
	all := locks(t, m)
	list := []string{}
	for _, name := range all.Names() {
		list = append(list, fmt.Sprintf("%s %v %v", name, all.Destinations(name, outstanding.Sent), all.Destinations(name, outstanding.Parent)))
	}
	return list
}

func TestBackup(t *testing.T) {
	src := newNightly(t)
	src.Ledger = mustLedger(t)
	a, b := storetest.NewMemory("a"), storetest.NewMemory("b")
	var taken []string
	var during []string
	o := utc(to("a", a), to("b", b))
	o.Prefix = "home-"
	o.Taken = func(s snapshot.Snapshot) { taken = append(taken, s.Path) }
	o.Event = func(name string, e transfer.Event) {
		if e.Kind == transfer.StepBegun {
			for _, locked := range locks(t, src.Memory).Destinations(e.Path, outstanding.Sent) {
				if locked == "/mnt/"+name {
					during = append(during, name+" "+e.Path)
				}
			}
		}
	}
	for range 3 {
		r, err := src.Backup(t.Context(), src.Memory, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Taken == nil || len(r.Destinations) != 2 || r.Destinations[0].Sync.Transferred != 1 || r.Source != nil {
			t.Errorf("%+v", r)
		}
		src.now = src.now.Add(time.Hour)
	}
	want := []string{"home-20261120-231455", "home-20261121-001455", "home-20261121-011455"}
	if diff := cmp.Diff(want, taken); diff != "" {
		t.Error(diff)
	}
	for _, m := range []*storetest.Memory{a, b} {
		if diff := cmp.Diff(want, held(t, m)); diff != "" {
			t.Error(diff)
		}
		if owed, err := src.Ledger.Unfinished(m.String()); err != nil || len(owed) != 0 {
			t.Errorf("owed: %v, %v", owed, err)
		}
		inv, err := src.Memory.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range inv.Snapshots {
			if src.Digest(s.ID) != m.Digest(s.ID) {
				t.Errorf("%s differs", s.Path)
			}
		}
	}
	slices.Sort(during)
	if len(during) != 6 || during[0] != "a "+want[0] || during[5] != "b "+want[2] {
		t.Errorf("locked when the transfer began: %q", during)
	}
	if got := string(src.Note(store.LocksNote)); got != "{}" {
		t.Errorf("what is unfinished afterwards: %s", got)
	}
	if n := src.Busy() + a.Busy() + b.Busy(); n != 0 {
		t.Errorf("%d streams or writers are open", n)
	}
}

// TestBackupPairs has the vectors of btrfs-backup 0.3.1: which snapshots it sends
// from which parents. The pairs are the same with ours, where nothing is known of
// sizes; the order is ours.
func TestBackupPairs(t *testing.T) {
	for _, test := range []struct {
		there []int
		keep  int
		want  string
	}{
		{nil, 0, "1-0 2-1 3-2 4-3 5-4 6-5 7-6 8-7"},
		{[]int{4}, 0, "1-2 2-3 3-4 5-4 6-5 7-6 8-7"},
		{[]int{1, 8}, 0, "2-1 3-2 4-3 5-4 6-5 7-6"},
		{nil, 3, "6-0 7-6 8-7"},
		{[]int{1}, 2, "7-1 8-7"},
		{[]int{3, 6}, 0, "1-2 2-3 4-3 5-4 7-6 8-7"},
	} {
		src, dst := newNightly(t), storetest.NewMemory("dst")
		number := map[snapshot.ID]int{}
		for i := 1; i <= 8; i++ {
			s := src.add(uint64(i), 9-i)
			number[s.ID] = i
			if slices.Contains(test.there, i) {
				dst.AddReceived("home", uint64(i), s.Path)
			}
		}
		o := utc(to("dst", dst))
		o.NoSnapshot = true
		o.Destinations[0].Rules.Last = test.keep
		var pairs []string
		o.Planned = func(_ string, p *Outlook) {
			for _, s := range p.Steps {
				pairs = append(pairs, fmt.Sprintf("%d-%d", number[s.Edge.To], number[s.Edge.From]))
			}
		}
		o.DryRun = true
		if _, err := src.Backup(t.Context(), unmeasured{src.Memory}, o); err != nil {
			t.Fatal(err)
		}
		slices.Sort(pairs)
		if got := strings.Join(pairs, " "); got != test.want {
			t.Errorf("with %v there and %d kept: %s, want %s", test.there, test.keep, got, test.want)
		}
	}
}

// unmeasured is a source that knows no sizes.
type unmeasured struct{ inner *storetest.Memory }

func (u unmeasured) String() string { return u.inner.String() }
func (u unmeasured) Close() error   { return u.inner.Close() }
func (u unmeasured) List(ctx context.Context) (*snapshot.Inventory, error) {
	return u.inner.List(ctx)
}

func TestBackupFull(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := 1; i <= 4; i++ {
		src.add(uint64(i), 9-i)
	}
	o := utc(to("dst", dst))
	o.NoSnapshot, o.Full = true, true
	var sent []string
	o.Event = func(_ string, e transfer.Event) {
		if e.Kind == transfer.StepBegun {
			sent = append(sent, e.Path)
			if !e.From.IsZero() {
				t.Errorf("%s is an increment", e.Path)
			}
		}
	}
	if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
		t.Fatal(err)
	}
	want := held(t, src.Memory)
	slices.Reverse(want)
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error(diff)
	}
}

func TestBackupNameTaken(t *testing.T) {
	src := newNightly(t)
	src.Occupy("20261120-231455", "a file")
	src.Add("home", 1, "20261120-231456")
	r, err := src.Backup(t.Context(), src.Memory, utc())
	if err != nil || r.Taken.Path != "20261120-231457" {
		t.Errorf("%+v, %v", r, err)
	}
	for i := range tries {
		src.Occupy(schedule.Format("x", night.Add(time.Duration(i)*time.Second)), "a file")
	}
	o := utc()
	o.Prefix = "x"
	if _, err := src.Backup(t.Context(), src.Memory, o); err == nil {
		t.Error("the clock was left behind")
	} else if _, ok := errors.AsType[*store.ExistsError](err); !ok {
		t.Error(err)
	}
}

// TestBackupNameAgain has several runs in one second, of which none takes a name
// that another one has had.
func TestBackupNameAgain(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	names := map[string]bool{}
	for range 8 {
		o := utc(to("dst", dst))
		o.Rules, o.Force = last(2), true
		r, err := src.Backup(t.Context(), src.Memory, o)
		if err != nil {
			t.Fatal(err)
		}
		if names[r.Taken.Path] {
			t.Fatalf("%s again", r.Taken.Path)
		}
		names[r.Taken.Path] = true
	}
	if got := held(t, dst); len(got) != 8 {
		t.Errorf("%v", got)
	}
}

// TestBackupNamesAreNew has runs within one second, and a source that keeps less
// than the destination: no name is given twice.
func TestBackupNamesAreNew(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	twice := time.Date(2026, 10, 25, 1, 10, 0, 0, time.UTC) // 02:10, for the second time
	for _, begin := range []time.Time{night, twice} {
		src, dst := newNightly(t), storetest.NewMemory("dst")
		src.now = begin.Add(-40 * time.Minute)
		o := utc(to("dst", dst))
		o.Zone, o.Rules, o.Force = zone, last(2), true
		last := ""
		for i := range 8 {
			r, err := src.Backup(t.Context(), src.Memory, o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Taken.Path <= last {
				t.Errorf("%s after %s", r.Taken.Path, last)
			}
			last = r.Taken.Path
			src.now = begin.Add(-time.Duration(i%3) * time.Second)
		}
		if n := len(held(t, dst)); n != 8 {
			t.Errorf("%d snapshots", n)
		}
	}
}

func TestBackupZone(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	src := newNightly(t)
	o := utc()
	o.Zone = zone
	r, err := src.Backup(t.Context(), src.Memory, o)
	if err != nil || r.Taken.Path != "20261121-001455" {
		t.Errorf("%+v, %v", r, err)
	}
	// Days may begin elsewhere than where names are read: nothing is in the future.
	o.Rules = schedule.Rules{Last: 1, Zone: time.UTC}
	for range 2 {
		src.now = src.now.Add(time.Minute)
		if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"20261121-001655"}, held(t, src.Memory)); diff != "" {
		t.Error(diff)
	}
}

func TestBackupDryRun(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := 1; i <= 3; i++ {
		src.add(uint64(i), 9-i)
	}
	before := held(t, src.Memory)
	f, g := storetest.NewFault(src.Memory), storetest.NewFault(dst)
	for _, fault := range []*storetest.Fault{f, g} {
		for _, op := range []storetest.Op{storetest.Lock, storetest.Create, storetest.Remove, storetest.WriteNote, storetest.Snapshot, storetest.Open} {
			fault.On(op).Always().Return(fmt.Errorf("%s was called in a dry run", op))
		}
	}
	o := utc(to("dst", g))
	o.DryRun = true
	o.Rules, o.Destinations[0].Rules = last(2), last(2)
	planned := 0
	o.Planned = func(_ string, p *Outlook) { planned += len(p.Steps) }
	if _, err := src.Backup(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	if planned != 2 {
		t.Errorf("%d steps", planned)
	}
	if diff := cmp.Diff(before, held(t, src.Memory)); diff != "" {
		t.Error(diff)
	}
}

// TestBackupUnaided asserts that several destinations are asked for the same
// streams.
func TestBackupUnaided(t *testing.T) {
	src := newNightly(t)
	a, b := storetest.NewMemory("a"), storetest.NewMemory("b")
	for i := 1; i <= 4; i++ {
		s := src.add(uint64(i), 9-i)
		a.AddReceived("home", uint64(i), s.Path)
		if i == 4 {
			b.AddReceived("home", uint64(i), s.Path)
		}
	}
	f := storetest.NewFault(src.Memory)
	o := utc(to("a", a), to("b", b))
	o.Destinations[1].Rules = last(2)
	o.Planned = func(name string, p *Outlook) {
		for _, s := range p.Steps {
			if len(s.Clones) > 0 || s.Action != plan.Send {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
	if _, err := src.Backup(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	if n := f.Calls(storetest.Open); n != 1 {
		t.Errorf("the source was opened %d times", n)
	}
}
