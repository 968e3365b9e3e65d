package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// TestBackupDestinationFails has one of three destinations fail in every way.
func TestBackupDestinationFails(t *testing.T) {
	broken := errors.New("the disk is on fire")
	for name, test := range map[string]struct {
		fail func(f *storetest.Fault, d *Destination)
		// locked: what the run had begun there stays locked.
		locked bool
	}{
		"cannot be opened": {func(_ *storetest.Fault, d *Destination) {
			d.Open = func(context.Context) (store.Store, error) { return nil, broken }
		}, false},
		"cannot be locked":              {func(f *storetest.Fault, _ *Destination) { f.On(storetest.Lock).Always().Return(broken) }, false},
		"dies while listing":            {func(f *storetest.Fault, _ *Destination) { f.On(storetest.List).Always().Return(broken) }, false},
		"dies when listed for the plan": {func(f *storetest.Fault, _ *Destination) { f.On(storetest.List).After(1).Always().Return(broken) }, false},
		"takes nothing":                 {func(f *storetest.Fault, _ *Destination) { f.On(storetest.Create).Always().Return(broken) }, true},
		"dies in the stream":            {func(f *storetest.Fault, _ *Destination) { f.On(storetest.Write).After(1).Always().Return(broken) }, true},
		"dies in the commit":            {func(f *storetest.Fault, _ *Destination) { f.On(storetest.Commit).Always().Return(broken) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			src := newNightly(t)
			for i := 1; i <= 3; i++ {
				src.add(uint64(i), 9-i)
			}
			a, b, c := storetest.NewMemory("a"), storetest.NewMemory("b"), storetest.NewMemory("c")
			faulty := storetest.NewFault(b)
			bad := to("b", faulty)
			test.fail(faulty, &bad)
			o := utc(to("a", a), bad, to("c", c))
			ended := map[string]error{}
			o.Ended = func(name string, _ *SyncReport, err error) { ended[name] = err }
			r, err := src.Backup(t.Context(), src.Memory, o)
			failed, ok := errors.AsType[*BackupError](err)
			if !ok || !failed.Done || len(failed.Failures) != 1 || !strings.HasPrefix(failed.Failures[0].Error(), "b: ") || !errors.Is(err, broken) {
				t.Fatalf("%v, %+v", err, failed)
			}
			if r.Destinations[1].Err == nil || r.Destinations[0].Err != nil || r.Destinations[2].Err != nil {
				t.Errorf("%+v", r.Destinations)
			}
			if len(ended) != 3 || ended["b"] == nil || ended["a"] != nil {
				t.Errorf("ended: %v", ended)
			}
			for _, m := range []*storetest.Memory{a, c} {
				if diff := cmp.Diff(held(t, src.Memory), held(t, m)); diff != "" {
					t.Error(diff)
				}
			}
			if got := len(lockedNames(t, src.Memory)) > 0; got != test.locked {
				t.Errorf("locked: %q", lockedNames(t, src.Memory))
			}
			for _, text := range lockedNames(t, src.Memory) {
				if strings.Contains(text, "/mnt/a") || strings.Contains(text, "/mnt/c") {
					t.Errorf("locked: %s", text)
				}
			}

			// The next night it works again.
			src.now = src.now.AddDate(0, 0, 1)
			if _, err := src.Backup(t.Context(), src.Memory, utc(to("a", a), to("b", b), to("c", c))); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(held(t, src.Memory), held(t, b)); diff != "" {
				t.Error(diff)
			}
			if got := lockedNames(t, src.Memory); len(got) > 0 {
				t.Errorf("still locked: %q", got)
			}
		})
	}
}

func TestBackupSnapshotFails(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	old := src.add(1, 3)
	f := storetest.NewFault(src.Memory)
	f.On(storetest.Snapshot).Always().Return(errors.New("no space left"))
	if _, err := src.Backup(t.Context(), f, utc(to("dst", dst))); err == nil || !strings.Contains(err.Error(), "20261120-231455") {
		t.Errorf("%v", err)
	}
	if got := held(t, dst); len(got) > 0 {
		t.Errorf("sent: %v", got)
	}
	o := utc(to("dst", dst))
	o.NoSnapshot = true
	if _, err := src.Backup(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{old.Path}, held(t, dst)); diff != "" {
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
	for i := range 9 {
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
}

// TestBackupSettles carries on what btrfs-backup has left.
func TestBackupSettles(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	whole, left, gone, other := src.add(1, 9), src.add(2, 8), src.add(3, 7), src.add(4, 6)
	dst.AddReceived("home", 1, whole.Path)
	dst.AddLeftover(left.Path)
	dst.AddReceived("strange", 1, other.Path)
	text := fmt.Sprintf(`{
    "%s": {"locks": ["/mnt/dst", "/mnt/elsewhere"], "parent_locks": ["/mnt/dst"]},
    "%s": {"locks": ["/mnt/dst"]},
    "%s": {"locks": ["/mnt/dst"]},
    "%s": {"locks": ["/mnt/dst"]},
    "other-20261120-231455": {"locks": ["/mnt/dst"]}
}`, whole.Path, left.Path, gone.Path, other.Path)
	src.SetNote(store.LocksNote, []byte(text))
	_, err := src.Backup(t.Context(), src.Memory, utc(to("dst", dst)))
	incomplete, ok := errors.AsType[*IncompleteError](err)
	if !ok || !incomplete.Conflicts {
		t.Fatalf("%v", err)
	}
	if diff := cmp.Diff(held(t, src.Memory), held(t, dst)); diff != "" { // the names, one of them is another
		t.Error(diff)
	}
	for _, s := range []snapshot.Snapshot{whole, left, gone} {
		if dst.Digest(s.ID) != src.Digest(s.ID) {
			t.Errorf("%s is not there", s.Path)
		}
	}
	want := []string{
		whole.Path + " [/mnt/elsewhere] []",
		other.Path + " [/mnt/dst] []",
		"other-20261120-231455 [/mnt/dst] []",
	}
	if diff := cmp.Diff(want, lockedNames(t, src.Memory)); diff != "" {
		t.Error(diff)
	}
}

// TestBackupKeepsWhatIsInUse asserts that nothing is taken for a leftover of which
// no lock says so.
func TestBackupKeepsWhatIsInUse(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	s := src.add(1, 9)
	dst.AddLeftover(s.Path)
	for range 2 {
		if _, err := src.Backup(t.Context(), src.Memory, utc(to("dst", dst))); err == nil {
			t.Error("there was room")
		}
		src.now = src.now.Add(time.Hour)
	}
	inv, err := dst.List(t.Context())
	if err != nil || inv.Occupied[s.Path] == "" {
		t.Errorf("it is gone: %v", err)
	}
	if got := lockedNames(t, src.Memory); len(got) > 0 {
		t.Errorf("locked: %v", got)
	}
}

func TestBackupLockedDestinations(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	s := src.add(1, 9)
	src.SetNote(store.LocksNote, fmt.Appendf(nil, `{"%s": {"locks": ["/mnt/dst", "/mnt/nowhere"]}}`, s.Path))
	o := utc()
	o.LockedDestination = func(id string) (Destination, error) {
		if id == "/mnt/dst" {
			return to("dst", dst), nil
		}
		return Destination{}, errors.New("no such thing")
	}
	r, err := src.Backup(t.Context(), src.Memory, o)
	if len(r.Destinations) != 2 || r.Destinations[0].Err != nil || r.Destinations[1].Err == nil || err == nil {
		t.Errorf("%+v, %v", r, err)
	}
	if diff := cmp.Diff([]string{s.Path + " [/mnt/nowhere] []"}, lockedNames(t, src.Memory)); diff != "" {
		t.Error(diff)
	}
	var unlocked []string
	o.RemoveLocks = true
	o.Unlocked = func(name, destination string, parent bool) {
		unlocked = append(unlocked, fmt.Sprint(name, destination, parent))
	}
	src.now = src.now.Add(time.Hour)
	if _, err := src.Backup(t.Context(), src.Memory, o); err == nil {
		t.Error("it has become a place")
	}
	if diff := cmp.Diff([]string{fmt.Sprint(s.Path, "/mnt/nowhere", false)}, unlocked); diff != "" {
		t.Error(diff)
	}
	if got := lockedNames(t, src.Memory); len(got) > 0 {
		t.Errorf("locked: %v", got)
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

func TestBackupTwoAtOnce(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	unlock, err := src.Lock(t.Context(), "somebody")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Backup(t.Context(), src.Memory, utc(to("dst", dst))); err == nil {
		t.Error("two at once")
	} else if _, ok := errors.AsType[*store.LockedError](err); !ok {
		t.Error(err)
	}
	o := utc(to("dst", dst))
	o.Wait = true
	time.AfterFunc(10*time.Millisecond, func() { unlock() })
	if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
		t.Error(err)
	}
}

// TestBackupCancelled cancels a run while one destination is in the middle of a
// stream and another one hangs.
func TestBackupCancelled(t *testing.T) {
	src := newNightly(t)
	a, b := storetest.NewFault(storetest.NewMemory("a")), storetest.NewFault(storetest.NewMemory("b"))
	a.On(storetest.Write).Block()
	b.On(storetest.List).Block()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	o := utc(to("a", a), to("b", b))
	o.Event = func(_ string, e transfer.Event) {
		if e.Kind == transfer.StepBegun {
			time.AfterFunc(20*time.Millisecond, func() { cancel(enough) })
		}
	}
	_, err := src.Backup(ctx, src.Memory, o)
	if !errors.Is(err, enough) && !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := lockedNames(t, src.Memory); len(got) != 1 || !strings.Contains(got[0], "[/mnt/a] []") {
		t.Errorf("locked: %q", got)
	}
}

// TestBackupUnmounted has a destination that is suddenly another place.
func TestBackupUnmounted(t *testing.T) {
	src, disk, empty, second := newNightly(t), storetest.NewMemory("disk"), storetest.NewMemory("empty"), storetest.NewMemory("second")
	run := func(st store.Store, force bool) error {
		t.Helper()
		o := utc(to("bk", st))
		o.Force = force
		_, err := src.Backup(t.Context(), src.Memory, o)
		src.now = src.now.AddDate(0, 0, 1)
		return err
	}
	if err := run(disk, false); err != nil {
		t.Fatal(err)
	}
	err := run(empty, false)
	if p, ok := errors.AsType[*PlaceError](err); !ok || p.Place != empty.Location() || p.Last != disk.Location() {
		t.Fatalf("%v", err)
	}
	if got := held(t, empty); len(got) > 0 {
		t.Errorf("%v", got)
	}
	// Another disk is taken on purpose, and from then on the two take turns.
	if err := run(second, true); err != nil {
		t.Fatal(err)
	}
	for _, st := range []store.Store{disk, second, disk} {
		if err := run(st, false); err != nil {
			t.Fatal(err)
		}
	}
	r, err := readRegister(t.Context(), src.Memory)
	if err != nil {
		t.Fatal(err)
	}
	var claims []string
	for _, c := range r.claims {
		claims = append(claims, c.destination+" "+c.path)
	}
	slices.Sort(claims)
	names := held(t, src.Memory)
	want := []string{"/mnt/bk " + names[len(names)-1], "/mnt/bk at " + second.Location() + " " + names[len(names)-2]}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
}

func TestBackupSamePlace(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	x, y := to("x", dst), to("y", dst)
	r, err := src.Backup(t.Context(), src.Memory, utc(x, y, to("self", src.Memory)))
	if err == nil || (r.Destinations[0].Err == nil) == (r.Destinations[1].Err == nil) || r.Destinations[2].Err == nil {
		t.Errorf("%+v, %v", r, err)
	}
	if got := held(t, dst); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestBackupNotes has the file with the locks damaged, and changed by others.
func TestBackupNotes(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	src.SetNote(store.LocksNote, []byte(`{"20261120-231455": 7}`))
	if _, err := src.Backup(t.Context(), src.Memory, utc(to("dst", dst))); err == nil || !strings.Contains(err.Error(), store.LocksNote) {
		t.Errorf("%v", err)
	}
	src.SetNote(store.LocksNote, nil)
	var once sync.Once
	o := utc(to("dst", dst))
	o.Planned = func(string, *Outlook) {
		once.Do(func() { src.SetNote(store.LocksNote, []byte(`{"20200101-000000": {"locks": ["/mnt/old"]}}`)) })
	}
	if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"20200101-000000 [/mnt/old] []"}, lockedNames(t, src.Memory)); diff != "" {
		t.Error(diff)
	}

	// What cannot be noted is not begun.
	src.now = src.now.Add(time.Hour)
	f := storetest.NewFault(src.Memory)
	f.On(storetest.WriteNote).Always().Return(errors.New("read-only file system"))
	n := len(held(t, dst))
	if _, err := src.Backup(t.Context(), f, utc(to("dst", dst))); err == nil || len(held(t, dst)) != n {
		t.Errorf("%v, %v", held(t, dst), err)
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
