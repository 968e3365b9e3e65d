package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

func isChanged(t testing.TB, s *Store, since snapshot.Snapshot) bool {
	t.Helper()
	changed, err := s.Changed(t.Context(), since.ID)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func mustSnapshot(t testing.TB, s *Store, path string) snapshot.Snapshot {
	t.Helper()
	snap, err := s.Snapshot(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// What a run does beside the snapshots is no change of the subvolume that they lie
// in.
func TestChangedWithin(t *testing.T) {
	fs := btrfstest.New(t)
	live := fs.Subvolume("live")
	dir := filepath.Join(live, "snapshot")
	s := mustOpen(t, dir, Options{Origin: live, Make: true})
	old := mustSnapshot(t, s, "1")
	last := mustSnapshot(t, s, "2")
	if isChanged(t, s, last) || isChanged(t, s, old) {
		t.Error("changed by being snapshotted")
	}
	steps := []func() error{
		func() error { return s.WriteNote(t.Context(), store.RetentionNote, []byte("kept"), nil) },
		func() error { return s.WriteNote(t.Context(), store.LocksNote, []byte("locked"), nil) },
		func() error { return s.WriteNote(t.Context(), store.LocksNote, nil, []byte("locked")) },
		func() error {
			return s.KeepSizes(t.Context(), "2", map[snapshot.Edge]int64{{From: old.ID, To: last.ID}: 7})
		},
		func() error { return s.Remove(t.Context(), old) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if isChanged(t, s, last) {
			t.Errorf("changed by step %d of a run", i)
		}
	}
	mustWrite(t, filepath.Join(dir, "of the user"), "")
	if !isChanged(t, s, last) {
		t.Error("a file among the snapshots goes unseen")
	}
	again := mustSnapshot(t, s, "3")
	mustWrite(t, filepath.Join(live, "file"), "")
	if !isChanged(t, s, again) {
		t.Error("a file goes unseen")
	}
	// Whoever opens it later has to list first.
	other := mustOpen(t, dir, Options{Origin: live})
	if _, err := other.Changed(t.Context(), again.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unlisted: %v", err)
	}
	mustList(t, other)
	if !isChanged(t, other, again) {
		t.Error("a file goes unseen by another")
	}
	if err := s.Remove(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Changed(t.Context(), again.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
	if _, err := mustOpen(t, dir).Changed(t.Context(), last.ID); !errors.Is(err, store.ErrNoOrigin) {
		t.Errorf("of nothing: %v", err)
	}
}

// Snapshots of nested subvolumes may be kept beside those of the outer one.
func TestChangedSideBySide(t *testing.T) {
	fs := btrfstest.New(t)
	outer, inner := fs.Subvolume("outer"), fs.Subvolume("outer/inner")
	o := mustOpen(t, filepath.Join(outer, "all/outer"), Options{Origin: outer, Make: true})
	i := mustOpen(t, filepath.Join(outer, "all/inner"), Options{Origin: inner, Make: true})
	old := mustSnapshot(t, i, "1")
	if err := i.WriteNote(t.Context(), store.RetentionNote, []byte("kept"), nil); err != nil {
		t.Fatal(err)
	}
	snap := mustSnapshot(t, o, "1")
	mustSnapshot(t, i, "2")
	if err := i.WriteNote(t.Context(), store.LocksNote, []byte("locked"), nil); err != nil {
		t.Fatal(err)
	}
	if err := i.Remove(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(inner, "file"), "")
	if isChanged(t, o, snap) {
		t.Error("changed by snapshots of what lies in it")
	}
	mustWrite(t, filepath.Join(outer, "all/inner/of the user"), "")
	if !isChanged(t, o, snap) {
		t.Error("a file among the snapshots goes unseen")
	}
}

// Inode numbers mean nothing in another subvolume.
func TestChangedBeside(t *testing.T) {
	fs := btrfstest.New(t)
	live, pool := fs.Subvolume("live"), fs.Subvolume("pool")
	dir := mustMkdir(t, filepath.Join(pool, "snapshots"))
	file := filepath.Join(live, "file")
	mustWrite(t, file, "")
	inode := func(path string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	if inode(dir) != inode(file) {
		t.Fatal("they have different numbers: this tests nothing")
	}
	s := mustOpen(t, dir, Options{Origin: live})
	snap := mustSnapshot(t, s, "1")
	if isChanged(t, s, snap) {
		t.Error("changed by nothing")
	}
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !isChanged(t, s, snap) {
		t.Error("a write goes unseen")
	}
}

// What was received and made writable is snapshotted in another way, of which is
// not known whether it can be relied on: no change must go unseen.
func TestChangedReceived(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	fs.Snapshot("live", "snap", true)
	received := fs.MustReceive(mustMkdir(t, fs.Path("in")), "snap", fs.Send("snap"))
	f, err := os.Open(received)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := btrfs.SetReadOnly(f, false); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, mustMkdir(t, fs.Path("store")), Options{Origin: received})
	snap := mustSnapshot(t, s, "1")
	t.Logf("without a change: %v", isChanged(t, s, snap))
	mustWrite(t, filepath.Join(received, "file"), "")
	if !isChanged(t, s, snap) {
		t.Error("a write goes unseen")
	}
}
