package local

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

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
	r, err := src.Open(ctx, want.Edge)
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
	fs.Snapshot("live", "snaps/old_2026-11-20T23:05:45.498000.part", true)
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
	if diff := cmp.Diff([]string{"died.part ours", "old_2026-11-20T23:05:45.498000.part ours", "writable"}, partials); diff != "" {
		t.Error(diff)
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
		if r, err := s.Open(t.Context(), snapshot.Edge{To: at(t, mustList(t, s), "d/b").ID}); err != nil {
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
	if len(inv.Snapshots) != 1 || len(inv.Warnings) != 1 {
		t.Fatalf("%d snapshots, warnings %q", len(inv.Snapshots), inv.Warnings)
	}
	got := inv.Snapshots[0]
	if got.Path != "copy" || got.Outside || !cmp.Equal(got.AlsoAt, []string{dst.Path("a")}) {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(inv.Warnings[0], "Duplicate effective uuid "+got.ID.String()) {
		t.Errorf("warning %q", inv.Warnings[0])
	}
}

func TestCarry(t *testing.T) {
	src, dst := btrfstest.New(t), btrfstest.New(t, btrfstest.MountOptions("compress=zstd"))
	live := src.Subvolume("live")
	tree := btrfstest.NewTree(t, live, 7)
	tree.Fill()
	mustMkdir(t, src.Path("snaps/deep/er"))
	src.Snapshot("live", "snaps/a", true)
	tree.Mutate()
	src.Snapshot("live", "snaps/deep/er/b", true)
	mustMkdir(t, dst.Path("snaps"))

	from, to := mustOpen(t, src.Path("snaps")), mustOpen(t, dst.Path("snaps"))
	inv := mustList(t, from)
	a, b := at(t, inv, "a"), at(t, inv, "deep/er/b")
	mustList(t, to)
	for _, want := range []store.Want{wantOf(inv, a, snapshot.Snapshot{}), wantOf(inv, b, a)} {
		if err := carry(t.Context(), from, to, want); err != nil {
			t.Fatal(err)
		}
		if diff := btrfstest.Diff(t, src.Path("snaps/"+want.Path), dst.Path("snaps/"+want.Path)); diff != "" {
			t.Fatal(diff)
		}
	}
	got := mustList(t, to)
	for _, s := range []snapshot.Snapshot{a, b} {
		c := at(t, got, s.Path)
		if c.ID != s.ID || c.Transid != s.Transid || !c.Received || c.Trust != snapshot.Intact {
			t.Errorf("%s arrived as %+v", s.Path, c)
		}
	}

	// A copy of the copy has the identity of the first, transids included.
	third := btrfstest.New(t)
	onward := mustOpen(t, third.Dir)
	mustList(t, onward)
	for _, want := range []store.Want{wantOf(got, at(t, got, "a"), snapshot.Snapshot{}), wantOf(got, at(t, got, "deep/er/b"), at(t, got, "a"))} {
		if err := carry(t.Context(), to, onward, want); err != nil {
			t.Fatal(err)
		}
	}
	if c := at(t, mustList(t, onward), "deep/er/b"); c.ID != b.ID || c.Transid != b.Transid {
		t.Errorf("the copy of the copy is %+v, the original %+v", c, b)
	}
	if diff := btrfstest.Diff(t, src.Path("snaps/deep/er/b"), third.Path("deep/er/b")); diff != "" {
		t.Error(diff)
	}
}

func TestCreateRefuses(t *testing.T) {
	src, dst := btrfstest.New(t), btrfstest.New(t)
	src.Subvolume("live")
	src.Snapshot("live", "a", true)
	src.Snapshot("live", "b", true)
	from, to := mustOpen(t, src.Dir), mustOpen(t, dst.Dir)
	inv := mustList(t, from)
	mustList(t, to)
	a, b := at(t, inv, "a"), at(t, inv, "b")

	mustMkdir(t, dst.Path("dir"))
	mustWrite(t, dst.Path("file"), "")
	dst.Subvolume("subvolume")
	if err := os.Symlink("/etc", dst.Path("leaving")); err != nil {
		t.Fatal(err)
	}
	elsewhere := btrfstest.New(t)
	mustMkdir(t, dst.Path("mounted"))
	if err := unix.Mount(elsewhere.Dir, dst.Path("mounted"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dst.Path("mounted"), unix.MNT_DETACH) })

	for _, path := range []string{"", ".", "..", "../x", "/etc/x", "x/../y", "a//b", "x.part", "leaving/x", "mounted/x"} {
		w := wantOf(inv, a, snapshot.Snapshot{})
		w.Path = path
		if got, err := to.Create(t.Context(), w); err == nil {
			t.Errorf("Create at %q went well", path)
			_ = got.Close()
		}
	}
	for path, what := range map[string]string{"dir": "directory", "file": "not a subvolume", "subvolume": "writable subvolume", "leaving": "not a subvolume"} {
		w := wantOf(inv, a, snapshot.Snapshot{})
		w.Path = path
		_, err := to.Create(t.Context(), w)
		if e, ok := errors.AsType[*store.ExistsError](err); !ok || !strings.Contains(e.What, what) || e.Path != dst.Path(path) {
			t.Errorf("Create at %q: %v", path, err)
		}
	}
	_, err := to.Create(t.Context(), wantOf(inv, b, a))
	if e, ok := errors.AsType[*store.ParentError](err); !ok || e.ID != a.ID {
		t.Errorf("Create without the parent: %v", err)
	}
}

// TestTouchedParent: what was made writable and changed is no parent, whatever
// its UUID says; what a receiver without sync left behind is one.
func TestTouchedParent(t *testing.T) {
	src, dst := btrfstest.New(t), btrfstest.New(t)
	live := src.Subvolume("live")
	mustWrite(t, filepath.Join(live, "f"), strings.Repeat("data", 100_000))
	src.Snapshot("live", "a", true)
	mustWrite(t, filepath.Join(live, "g"), "more")
	src.Snapshot("live", "b", true)
	dst.MustReceive(".", "a", src.Send("a"))
	dst.Sync() // the late data goes to disk, in a later transaction than the receive

	from, to := mustOpen(t, src.Dir), mustOpen(t, dst.Dir)
	inv := mustList(t, from)
	a, b := at(t, inv, "a"), at(t, inv, "b")
	there := at(t, mustList(t, to), "a")
	if trust, err := to.Prove(t.Context(), there); err != nil || trust != snapshot.Intact {
		t.Errorf("after btrfs receive: listed as %v, proven %v, %v", there.Trust, trust, err)
	}
	if err := carry(t.Context(), from, to, wantOf(inv, b, a)); err != nil {
		t.Fatalf("an increment on what btrfs receive made: %v", err)
	}
	if diff := btrfstest.Diff(t, src.Path("b"), dst.Path("b")); diff != "" {
		t.Error(diff)
	}
	dst.Delete("b")

	setReadOnly := func(ro bool) {
		f, err := os.Open(dst.Path("a"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := btrfs.SetReadOnly(f, ro); err != nil {
			t.Fatal(err)
		}
	}
	setReadOnly(false)
	mustWrite(t, dst.Path("a/f"), "changed")
	setReadOnly(true)
	there = at(t, mustList(t, to), "a")
	if trust, err := to.Prove(t.Context(), there); err != nil || trust != snapshot.Touched {
		t.Errorf("after a change: listed as %v, proven %v, %v", there.Trust, trust, err)
	}
	_, err := to.Create(t.Context(), wantOf(inv, b, a))
	if e, ok := errors.AsType[*store.ParentError](err); !ok || !strings.Contains(e.Why, "changed") {
		t.Errorf("an increment on a changed parent: %v", err)
	}
}

func TestCopy(t *testing.T) {
	src, dst := btrfstest.New(t), btrfstest.New(t)
	live := src.Subvolume("live")
	mustWrite(t, filepath.Join(live, "f"), "data")
	src.Snapshot("live", "a", true)
	mustMkdir(t, dst.Path("in"))
	dst.MustReceive(".", "a", src.Send("a"))
	own := dst.Subvolume("own")
	mustWrite(t, filepath.Join(own, "g"), "data")
	dst.Snapshot("own", "original", true)
	dst.Snapshot("own", "in/original.part", false) // what a dead run left

	s := mustOpen(t, dst.Path("in"))
	inv := mustList(t, s)
	for _, name := range []string{"a", "original"} {
		snap := at(t, inv, dst.Path(name))
		w := store.Want{Edge: snapshot.Edge{To: snap.ID}, Transid: snap.Transid, Path: "kept/" + name}
		if name == "original" {
			w.Path = name
		}
		if err := s.Copy(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		c := at(t, mustList(t, s), w.Path)
		if c.ID != snap.ID || c.Transid != snap.Transid || c.Outside || c.UUID == snap.UUID || c.Trust != snapshot.Intact {
			t.Errorf("%s was copied as %+v", name, c)
		}
		if diff := btrfstest.Diff(t, dst.Path(name), dst.Path("in/"+w.Path)); diff != "" {
			t.Error(diff)
		}
		if _, ok := errors.AsType[*store.ExistsError](s.Copy(t.Context(), w)); !ok {
			t.Error("a second copy to the same path does not fail with ExistsError")
		}
	}
	if p := mustList(t, s).Partials; len(p) != 0 {
		t.Errorf("left behind: %+v", p)
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
	s := mustOpen(t, fs.Path("snaps"))
	inv := mustList(t, s)
	one, two := at(t, inv, "1/snapshot"), at(t, inv, "2/snapshot")

	stale := one
	stale.Path = two.Path
	for name, snap := range map[string]snapshot.Snapshot{
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
	for _, snap := range []snapshot.Snapshot{one, two} {
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
	if _, err := os.Stat(fs.Path("snaps/2/info.xml")); err != nil {
		t.Error(err)
	}
	if err := s.RemovePartial(t.Context(), snapshot.Partial{Path: "x.part", Ours: true}); err != nil {
		t.Error(err)
	}
	inv = mustList(t, s)
	if len(inv.Inside()) != 0 || len(inv.Partials) != 1 || inv.Partials[0].Path != "writable" {
		t.Errorf("left: %v, %+v", paths(inv), inv.Partials)
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

func TestMeasure(t *testing.T) {
	for _, options := range []string{"noatime", "compress=zstd"} {
		fs := btrfstest.New(t, btrfstest.MountOptions(options))
		tree := btrfstest.NewTree(t, fs.Subvolume("live"), 11)
		tree.Fill()
		fs.Snapshot("live", "a", true)
		tree.Mutate()
		fs.Snapshot("live", "b", true)
		fs.Sync()
		s := mustOpen(t, fs.Dir)
		inv := mustList(t, s)
		a, b := at(t, inv, "a"), at(t, inv, "b")
		for _, e := range []snapshot.Edge{{To: a.ID}, {To: b.ID, From: a.ID}} {
			r, err := s.Open(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := io.Copy(io.Discard, r)
			if err = errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			size, err := s.Measure(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			if size.Exact && size.Bytes != sent {
				t.Errorf("%s: measured %d, sent %d", options, size.Bytes, sent)
			}
			if !size.Exact && (size.Bytes < sent*95/100 || size.Bytes > sent*105/100) {
				t.Errorf("%s: measured about %d, sent %d", options, size.Bytes, sent)
			}
			about, err := s.Estimate(t.Context(), e)
			if err != nil || !about.Known || about.Exact || about.Bytes <= 0 {
				t.Errorf("%s: estimate %+v, %v", options, about, err)
			}
			t.Logf("%s: sent %d, measured %+v, estimated %d", options, sent, size, about.Bytes)
		}
	}
}
