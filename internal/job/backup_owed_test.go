package job

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/outstanding"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

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
		whole.Path + " [/mnt/elsewhere] [/mnt/dst]", // what cannot be settled may start from it
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

// TestBackupRegisterDamaged has a note on what is held that nobody can read:
// transfers go on, and nothing is removed.
func TestBackupRegisterDamaged(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := 1; i <= 3; i++ {
		src.add(uint64(i), 9-i)
	}
	src.SetNote(store.RetentionNote, []byte(`{"version": 99}`))
	o := utc(to("dst", dst))
	o.Rules, o.Force = schedule.Rules{Last: 1}, true
	r, err := src.Backup(t.Context(), src.Memory, o)
	e, ok := errors.AsType[*BackupError](err)
	if !ok || !e.Done || len(e.Failures) != 1 {
		t.Fatalf("%v", err)
	}
	if _, ok := errors.AsType[*RegisterError](err); !ok || r.Destinations[0].Err != nil {
		t.Errorf("%v, %+v", err, r)
	}
	if len(held(t, src.Memory)) != 4 || len(held(t, dst)) != 4 {
		t.Errorf("%v, %v", held(t, src.Memory), held(t, dst))
	}
	if got := string(src.Note(store.RetentionNote)); got != `{"version": 99}` {
		t.Errorf("the note is now %s", got)
	}
}

// TestOwedFails asserts that what could not be written down is not taken for
// written.
func TestOwedFails(t *testing.T) {
	m := storetest.NewMemory("home")
	f := storetest.NewFault(m)
	f.On(storetest.WriteNote).Times(1).Return(errors.New("read-only file system"))
	w, err := readOwed(t.Context(), f, false)
	if err != nil {
		t.Fatal(err)
	}
	add := func(all *outstanding.Transfers) bool { return all.Add("a", outstanding.Sent, "/mnt/dst") }
	if err := w.change(t.Context(), add); err == nil {
		t.Fatal("it was written")
	}
	if got := w.names("/mnt/dst", outstanding.Sent); len(got) > 0 {
		t.Errorf("it counts: %q", got)
	}
	if err := w.change(t.Context(), add); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a [/mnt/dst] []"}, lockedNames(t, m)); diff != "" {
		t.Error(diff)
	}
}

// TestBackupKeepsLocksOfOthers has a snapshot of another series be the parent of
// an unfinished transfer, and of one of this run.
func TestBackupKeepsLocksOfOthers(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	other := src.Add("home", 1, "www-20261119-231455")
	dst.AddReceived("home", 1, other.Path)
	src.SetNote(store.LocksNote, []byte(`{"www-20261119-231455": {"parent_locks": ["/mnt/dst"]}}`))
	var from []string
	o := utc(to("dst", dst))
	o.Prefix = "home-"
	o.Planned = func(_ string, p *Outlook) {
		for _, s := range p.Steps {
			from = append(from, s.Parent.Path)
		}
	}
	if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{other.Path}, from); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{other.Path + " [] [/mnt/dst]"}, lockedNames(t, src.Memory)); diff != "" {
		t.Error(diff)
	}
}
