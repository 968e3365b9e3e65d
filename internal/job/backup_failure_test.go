package job

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

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

// TestBackupUnmountedAtHome has the mount point on the file system of the source,
// which has all of the source's snapshots, outside of it.
func TestBackupUnmountedAtHome(t *testing.T) {
	src, disk, other := newNightly(t), storetest.NewMemory("disk"), storetest.NewMemory("other")
	run := func(st store.Store) error {
		t.Helper()
		_, err := src.Backup(t.Context(), src.Memory, utc(to("bk", st)))
		src.now = src.now.AddDate(0, 0, 1)
		return err
	}
	if err := run(disk); err != nil {
		t.Fatal(err)
	}
	// What is neither of the source's file system nor in the directory does count: it
	// is the right disk, and another directory.
	first := inventory(t, src.Memory).Inside()[0]
	other.AddOutside("home", first.Transid, "/bk/"+first.Path)
	same := sameDisk{storetest.NewMemory("point"), src.Memory}
	if _, ok := errors.AsType[*PlaceError](run(same)); !ok {
		t.Errorf("the mount point is taken for the disk")
	}
	if got := held(t, same.Memory); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if err := run(renumbered{other}); err != nil {
		t.Error(err)
	}

	// In the first run nobody knows better: it is said, once.
	for i, want := range []int{1, 0} {
		var log strings.Builder
		src.Log = slog.New(slog.NewTextHandler(&log, nil))
		_, _ = src.Backup(t.Context(), src.Memory, utc(to("new", same))) // it cannot copy from there
		if got := strings.Count(log.String(), "on the file system of the source"); got != want {
			t.Errorf("run %d: %s", i+1, &log)
		}
		src.now = src.now.AddDate(0, 0, 1)
	}
}

// sameDisk has what another directory has, outside.
type sameDisk struct {
	*storetest.Memory
	source store.Store
}

func (s sameDisk) List(ctx context.Context) (*snapshot.Inventory, error) {
	inv, err := s.Memory.List(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.source.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, snap := range all.Snapshots {
		snap.Outside = true
		inv.Snapshots = append(inv.Snapshots, snap)
	}
	return inv, nil
}

// renumbered has what is outside as copies, with UUIDs of their own.
type renumbered struct{ *storetest.Memory }

func (s renumbered) List(ctx context.Context) (*snapshot.Inventory, error) {
	inv, err := s.Memory.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range inv.Snapshots {
		if inv.Snapshots[i].Outside {
			inv.Snapshots[i].UUID = snapshot.ID{0xee, byte(i)}
		}
	}
	return inv, nil
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

// TestBackupHangs has a destination that never answers: the others have all they
// shall have when somebody ends the run.
func TestBackupHangs(t *testing.T) {
	src := newNightly(t)
	a, b, c := storetest.NewMemory("a"), storetest.NewFault(storetest.NewMemory("b")), storetest.NewMemory("c")
	b.On(storetest.Create).Block()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := utc(to("a", a), to("b", b), to("c", c))
	ended := 0
	o.Ended = func(name string, _ *SyncReport, err error) {
		if ended++; ended == 2 {
			cancel()
		}
		if (err != nil) != (name == "b") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := src.Backup(ctx, src.Memory, o)
	if e, ok := errors.AsType[*BackupError](err); !ok || !e.Done || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for i, missing := range []int{0, 1, 0} { // nothing was listed after the transfers
		s, newest := r.Destinations[i].Standing, ""
		if missing == 0 {
			newest = held(t, src.Memory)[0]
		}
		if s.Outstanding != missing || s.Newest != newest || s.Chain != 0 {
			t.Errorf("%s stands at %+v", r.Destinations[i].Name, s)
		}
	}
	for _, m := range []*storetest.Memory{a, c} {
		if diff := cmp.Diff(held(t, src.Memory), held(t, m)); diff != "" {
			t.Error(diff)
		}
	}
}
