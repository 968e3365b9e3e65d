package local

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

func mustOpen(t *testing.T, dir string, o ...Options) *Store {
	t.Helper()
	o = append(o, Options{})
	s, err := Open(dir, o[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustList(t *testing.T, s *Store) *snapshot.Inventory {
	t.Helper()
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func mustMkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// at returns the snapshot that is at a path of an inventory.
func at(t *testing.T, inv *snapshot.Inventory, path string) snapshot.Snapshot {
	t.Helper()
	for _, s := range inv.Snapshots {
		if s.Path == path {
			return s
		}
	}
	t.Fatalf("no snapshot at %q in %v", path, paths(inv))
	return snapshot.Snapshot{}
}

func paths(inv *snapshot.Inventory) []string {
	var all []string
	for _, s := range inv.Inside() {
		all = append(all, s.Path)
	}
	return all
}

func wantOf(inv *snapshot.Inventory, to, from snapshot.Snapshot) store.Want {
	return store.Want{Edge: snapshot.Edge{To: to.ID, From: from.ID}, Transid: to.Transid, FromTransid: from.Transid, Path: to.Path}
}

// carry sends a snapshot from one store to another.
func carry(ctx context.Context, src *Store, dst *Store, want store.Want) error {
	r, err := src.Open(ctx, store.Request{Edge: want.Edge})
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := dst.Create(ctx, want)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	return w.Commit(ctx)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "file"), "")
	for path, want := range map[string]error{
		filepath.Join(dir, "missing"): ErrNotDirectory,
		filepath.Join(dir, "file"):    ErrNotDirectory,
		"/proc":                       btrfs.ErrNotBtrfs,
	} {
		if s, err := Open(path, Options{}); !errors.Is(err, want) {
			t.Errorf("Open(%s) = %v, %v; want %v", path, s, err, want)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name %s: %v", path, err)
		}
	}
}

func TestList(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	mustMkdir(t, fs.Path("snaps/sub/x"))
	mustMkdir(t, fs.Path("snaps/12"))
	fs.Snapshot("live", "snaps/a", true)
	fs.Snapshot("live", "snaps/sub/x/b", true)
	fs.Snapshot("live", "snaps/12/snapshot", true)
	odd := "odd \\040 näme\nnewline"
	fs.Snapshot("live", "snaps/"+odd, true)
	fs.Snapshot("live", "snaps/writable", false)
	fs.Snapshot("live", "snaps/died.part", false)
	fs.Snapshot("live", "snaps/old_2026-11-20T23:05:45.498000.part", false)
	fs.Snapshot("live", "snaps/chapter.part", true) // somebody's snapshot, by an unlucky name
	fs.Snapshot("live", "elsewhere", true)
	mustMkdir(t, fs.Path("snapshots")) // not below snaps, though it begins like it
	fs.Snapshot("live", "snapshots/c", true)

	s := mustOpen(t, fs.Path("snaps"))
	inv := mustList(t, s)
	want := []string{"12/snapshot", "a", odd, "sub/x/b"}
	if diff := cmp.Diff(want, paths(inv)); diff != "" {
		t.Error(diff)
	}
	var outside []string
	for _, snap := range inv.Snapshots {
		if snap.Outside {
			outside = append(outside, snap.Path)
		}
	}
	slices.Sort(outside)
	if diff := cmp.Diff([]string{fs.Path("elsewhere"), fs.Path("snapshots/c")}, outside); diff != "" {
		t.Error(diff)
	}
	var partials []string
	for _, p := range inv.Partials {
		partials = append(partials, p.Path+map[bool]string{true: " ours", false: ""}[p.Ours])
		if p.Why == "" {
			t.Errorf("%s: no reason", p.Path)
		}
	}
	if diff := cmp.Diff([]string{"chapter.part", "died.part ours", "old_2026-11-20T23:05:45.498000.part ours", "writable"}, partials); diff != "" {
		t.Error(diff)
	}
	if len(inv.Warnings) != 1 || !strings.Contains(inv.Warnings[0], "chapter.part' is read-only") {
		t.Errorf("warnings %q", inv.Warnings)
	}
	a := at(t, inv, "a")
	show := fs.Show("snaps/a")
	if a.ID.String() != show["UUID"] || a.Parent.String() != show["Parent UUID"] || a.Received || a.Transid == 0 || !a.Pristine || a.Trust != snapshot.Intact {
		t.Errorf("a is listed as %+v, and btrfs shows %v", a, show)
	}
	if a.Size.Known {
		t.Errorf("a size without quotas: %+v", a.Size)
	}
	if inv.Where(a) != fs.Path("snaps/a") {
		t.Errorf("a is at %s", inv.Where(a))
	}
	if inv.Lineage[a.UUID] != a.Parent {
		t.Error("the lineage lacks a")
	}
}

// TestListThroughAnyMount: the same directory gives the same answers by
// whichever way it is named.
func TestListThroughAnyMount(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("@snaps")
	fs.Subvolume("live")
	mustMkdir(t, fs.Path("@snaps/d"))
	fs.Snapshot("live", "@snaps/a", true)
	fs.Snapshot("live", "@snaps/d/b", true)

	first := mustOpen(t, fs.Path("@snaps"))
	want := paths(mustList(t, first))
	if diff := cmp.Diff([]string{"a", "d/b"}, want); diff != "" {
		t.Fatal(diff)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(fs.Path("@snaps"), link); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"bind mount":      fs.Bind(fs.Path("@snaps")),
		"subvolume mount": fs.MountAgain("subvol=@snaps"),
		"second mount":    filepath.Join(fs.MountAgain(""), "@snaps"),
		"symbolic link":   link,
		"dots":            fs.Dir + "/live/../@snaps/.",
	} {
		s := mustOpen(t, dir)
		if diff := cmp.Diff(want, paths(mustList(t, s))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if s.Location() != first.Location() {
			t.Errorf("%s: location %s is not %s", name, s.Location(), first.Location())
		}
		if r, err := s.Open(t.Context(), store.Request{Edge: snapshot.Edge{To: at(t, mustList(t, s), "d/b").ID}}); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if _, _, err := stream.Verify(r); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	inner := mustOpen(t, fs.Path("@snaps/d"))
	if diff := cmp.Diff([]string{"b"}, paths(mustList(t, inner))); diff != "" {
		t.Error(diff)
	}
	if inner.Location() == first.Location() {
		t.Error("a directory and one in it have the same location")
	}
	// The snapshot itself as the store's directory holds nothing.
	if got := paths(mustList(t, mustOpen(t, fs.Path("@snaps/a")))); got != nil {
		t.Errorf("inside of a snapshot: %v", got)
	}
}

func TestListSizesFromQuota(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	mustWrite(t, fs.Path("live/f"), strings.Repeat("x", 1<<20))
	fs.Snapshot("live", "a", true)
	quota := func() bool {
		f, err := btrfs.Open(fs.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, on, err := f.Quota()
		if err != nil {
			t.Fatal(err)
		}
		return on
	}
	s := mustOpen(t, fs.Dir)
	mustList(t, s)
	if quota() {
		t.Fatal("listing has switched quotas on")
	}
	for _, args := range [][]string{{"quota", "enable", fs.Dir}, {"quota", "rescan", "-w", fs.Dir}} {
		if out, err := exec.Command(btrfstest.Program(t, "btrfs"), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if a := at(t, mustList(t, s), "a"); !a.Size.Known || a.Size.Bytes < 1<<20 || !a.Exclusive.Known {
		t.Errorf("with quotas: %+v %+v", a.Size, a.Exclusive)
	}
}

func TestDuplicates(t *testing.T) {
	src, dst := btrfstest.New(t), btrfstest.New(t)
	src.Subvolume("live")
	src.Snapshot("live", "a", true)
	dst.MustReceive(".", "a", src.Send("a"))
	mustMkdir(t, dst.Path("snaps"))
	dst.Snapshot("a", "snaps/copy", true) // keeps the received UUID
	s := mustOpen(t, dst.Path("snaps"))
	inv := mustList(t, s)
	// A copy inside of one outside is what Copy makes: not worth a warning.
	if len(inv.Snapshots) != 1 || len(inv.Warnings) != 0 {
		t.Fatalf("%d snapshots, warnings %q", len(inv.Snapshots), inv.Warnings)
	}
	got := inv.Snapshots[0]
	if got.Path != "copy" || got.Outside || len(got.Copies) != 1 || got.Copies[0].Path != dst.Path("a") || !got.Copies[0].Outside {
		t.Errorf("%+v", got)
	}

	dst.Snapshot("a", "snaps/again", true)
	inv = mustList(t, s)
	got = inv.Snapshots[0]
	if len(inv.Snapshots) != 1 || len(got.Copies) != 2 || len(inv.Warnings) != 1 || !strings.Contains(inv.Warnings[0], "Duplicate effective uuid "+got.ID.String()) {
		t.Errorf("%+v, warnings %q", got, inv.Warnings)
	}
}

func TestRemove(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	mustMkdir(t, fs.Path("snaps/1"))
	mustMkdir(t, fs.Path("snaps/2"))
	fs.Snapshot("live", "snaps/1/snapshot", true)
	fs.Snapshot("live", "snaps/2/snapshot", true)
	mustWrite(t, fs.Path("snaps/2/info.xml"), "")
	fs.Snapshot("live", "snaps/x.part", false)
	fs.Snapshot("live", "snaps/writable", false)
	fs.Snapshot("live", "outside", true)
	fs.Subvolume("snaps/.snapshots") // as snapper makes it: rmdir(2) would remove it
	mustMkdir(t, fs.Path("snaps/.snapshots/3"))
	fs.Snapshot("live", "snaps/.snapshots/3/snapshot", true)
	fs.Snapshot("live", "snaps/opened", true)
	s := mustOpen(t, fs.Path("snaps"))
	inv := mustList(t, s)
	one, two := at(t, inv, "1/snapshot"), at(t, inv, "2/snapshot")

	stale := one
	stale.Path = two.Path
	fs.SetReadOnly("snaps/opened", false)
	for name, snap := range map[string]snapshot.Snapshot{
		"made writable":        at(t, inv, "opened"),
		"another one is there": stale,
		"outside":              at(t, inv, fs.Path("outside")),
		"a way out":            {ID: one.ID, UUID: one.UUID, Path: "../live"},
	} {
		if err := s.Remove(t.Context(), snap); err == nil {
			t.Errorf("%s: removed", name)
		}
	}
	for _, p := range []snapshot.Partial{{Path: "writable"}, {Path: "writable", Ours: true}, {Path: "x.part"}, {Path: "../live.part", Ours: true}} {
		if err := s.RemovePartial(t.Context(), p); err == nil {
			t.Errorf("removed %+v", p)
		}
	}
	for _, snap := range []snapshot.Snapshot{one, two, at(t, inv, ".snapshots/3/snapshot")} {
		if err := s.Remove(t.Context(), snap); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(t.Context(), one); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removing twice: %v", err)
	}
	if _, err := os.Stat(fs.Path("snaps/1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty directory stays: %v", err)
	}
	for _, stays := range []string{"2/info.xml", ".snapshots", "opened"} {
		if _, err := os.Stat(fs.Path("snaps/" + stays)); err != nil {
			t.Error(err)
		}
	}
	if err := s.RemovePartial(t.Context(), snapshot.Partial{Path: "x.part", Ours: true}); err != nil {
		t.Error(err)
	}
	inv = mustList(t, s)
	if len(inv.Inside()) != 0 || len(inv.Partials) != 3 {
		t.Errorf("left: %v, %+v", paths(inv), inv.Partials)
	}
}

// TestMoved: the directory is the one that was opened, wherever it is now.
func TestMoved(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	mustMkdir(t, fs.Path("a/b"))
	fs.Snapshot("live", "a/b/one", true)
	s := mustOpen(t, fs.Path("a/b"))
	if err := os.Rename(fs.Path("a"), fs.Path("moved")); err != nil {
		t.Fatal(err)
	}
	mustMkdir(t, fs.Path("a/b"))
	fs.Snapshot("live", "a/b/another", true)
	inv := mustList(t, s)
	if diff := cmp.Diff([]string{"one"}, paths(inv)); diff != "" {
		t.Error(diff)
	}
	if err := s.Remove(t.Context(), at(t, inv, "one")); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	fs := btrfstest.New(t)
	mustMkdir(t, fs.Path("d"))
	mustMkdir(t, fs.Path("e"))
	first, second := mustOpen(t, fs.Path("d")), mustOpen(t, fs.Bind(fs.Path("d")))
	unlock, err := first.Lock(t.Context(), "buttersink sync /x /y")
	if err != nil {
		t.Fatal(err)
	}
	_, err = second.Lock(t.Context(), "the second")
	e, ok := errors.AsType[*store.LockedError](err)
	if !ok || !strings.Contains(e.Holder, "buttersink sync /x /y") || !strings.Contains(e.Holder, "process ") {
		t.Fatalf("the second lock: %v", err)
	}
	other, err := mustOpen(t, fs.Path("e")).Lock(t.Context(), "elsewhere")
	if err != nil {
		t.Errorf("another directory: %v", err)
	} else if err := other(); err != nil {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	unlock, err = second.Lock(t.Context(), "the second")
	if err != nil {
		t.Fatalf("after unlocking: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(first.lockNote()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the note stays: %v", err)
	}
	// A note that is no file of ours is neither read nor written through.
	if err := syscall.Mkfifo(first.lockNote(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := holder(first.lockNote()); got != "another process" {
		t.Errorf("a fifo says %q", got)
	}
	if unlock, err = first.Lock(t.Context(), "over a fifo"); err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

// TestUnlockWithCopy gives locks back while a child that has not come to its exec yet has
// a copy of what they are on.
func TestUnlockWithCopy(t *testing.T) {
	dir := btrfstest.New(t).Path("")
	first, second := mustOpen(t, dir), mustOpen(t, dir)
	for name, lock := range map[string]func(*Store) (func() error, error){
		"long":  func(s *Store) (func() error, error) { return s.Lock(t.Context(), "a run") },
		"short": func(s *Store) (func() error, error) { return s.LockTaking(t.Context(), "a run") },
	} {
		unlock, err := lock(first)
		if err != nil {
			t.Fatal(err)
		}
		copies := 0
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range open {
			if at, err := os.Readlink("/proc/self/fd/" + f.Name()); err != nil || at != first.path {
				continue
			}
			number, err := strconv.Atoi(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			number, err = syscall.Dup(number)
			if err != nil {
				t.Fatal(err)
			}
			defer syscall.Close(number)
			copies++
		}
		if copies == 0 {
			t.Fatalf("%s: nothing is open at %s", name, first.path)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
		if unlock, err = lock(second); err != nil {
			t.Errorf("%s: after unlocking: %v", name, err)
		} else if err := unlock(); err != nil {
			t.Error(err)
		}
	}
}
