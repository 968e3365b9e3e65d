package local

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

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

	mustMkdir(t, dst.Path("again"))
	if err := unix.Mount(dst.Path("dir"), dst.Path("again"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dst.Path("again"), unix.MNT_DETACH) })
	dst.Snapshot("subvolume", "read-only", true)
	dst.Snapshot("subvolume", "somebody's.part", true)
	mustMkdir(t, dst.Path("taken.part"))
	long := strings.Repeat("x", 251)

	for _, path := range []string{"", ".", "..", "../x", "/etc/x", "x/../y", "a//b", "x.part"} {
		w := wantOf(inv, a, snapshot.Snapshot{})
		w.Path = path
		if got, err := to.Create(t.Context(), w); err == nil {
			t.Errorf("Create at %q went well", path)
			_ = got.Close()
		}
		if ways, err := to.Inspect(t.Context(), path); err != nil || ways[path] == "" {
			t.Errorf("Inspect at %q: %q, %v", path, ways[path], err)
		}
	}
	for path, what := range map[string]string{
		"dir": "a directory that is no subvolume", "file": "neither a subvolume nor a directory", "subvolume": "writable subvolume",
		"leaving": "neither a subvolume nor a directory", "leaving/x": "leaving, which is not a directory", "file/x": "file, which is not a directory",
		"somebody's": "a snapshot that is called like an unfinished receive",
		"taken":      "taken.part, which is not a subvolume", long: "the length of its name",
		"mounted/x": "mounted at ", "mounted/y/x": "mounted at ", "again/x": "mounted at ", "read-only/x": "a read-only directory", "read-only/y/x": "a read-only directory",
	} {
		w := wantOf(inv, a, snapshot.Snapshot{})
		w.Path = path
		_, err := to.Create(t.Context(), w)
		if e, ok := errors.AsType[*store.ExistsError](err); !ok || !strings.Contains(e.What, what) || e.Path != dst.Path(path) {
			t.Errorf("Create at %q: %v", path, err)
		}
		// What is not made yet can only be in the way once it is.
		if ways, err := to.Inspect(t.Context(), path); err != nil || !strings.Contains(ways[path], what) && path != "read-only/y/x" {
			t.Errorf("Inspect at %q: %q, %v", path, ways, err)
		}
	}
	for _, free := range []string{"new", "new/er/x", "dir/x"} {
		if ways, err := to.Inspect(t.Context(), free); err != nil || ways[free] != "" {
			t.Errorf("Inspect at %q: %q, %v", free, ways[free], err)
		}
	}
	for _, untouched := range []string{"new", "mounted/y"} {
		if _, err := os.Lstat(dst.Path(untouched)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made: %v", untouched, err)
		}
	}
	_, err := to.Create(t.Context(), wantOf(inv, b, a))
	if e, ok := errors.AsType[*store.ParentError](err); !ok || e.ID != a.ID {
		t.Errorf("Create without the parent: %v", err)
	}
}

// TestCompressedSource: what streams with compressed extents lose arrives all
// the same, because the store does not make such streams.
func TestCompressedSource(t *testing.T) {
	options := btrfstest.MountOptions("noatime,compress-force=zstd")
	src, dst := btrfstest.New(t, options), btrfstest.New(t, options)
	live := src.Subvolume("live")
	mustWrite(t, filepath.Join(live, "grown"), strings.Repeat("text to compress ", 80))
	mustWrite(t, filepath.Join(live, "large"), strings.Repeat("compressible ", 100_000))
	src.Sync() // an extent is inline once it is written out
	f, err := os.OpenFile(filepath.Join(live, "grown"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1614); err != nil {
		t.Fatal(err)
	}
	src.Snapshot("live", "a", true)
	from, to := mustOpen(t, src.Dir), mustOpen(t, dst.Dir)
	inv := mustList(t, from)
	if err := carry(t.Context(), from, to, wantOf(inv, at(t, inv, "a"), snapshot.Snapshot{})); err != nil {
		t.Fatal(err)
	}
	if diff := btrfstest.Diff(t, src.Path("a"), dst.Path("a")); diff != "" {
		t.Error(diff)
	}
}

// TestChoose: of several copies the one that was chosen is the one that is sent:
// the other may have been changed.
func TestChoose(t *testing.T) {
	src, mid, dst := btrfstest.New(t), btrfstest.New(t), btrfstest.New(t)
	live := src.Subvolume("live")
	mustWrite(t, filepath.Join(live, "f"), "good")
	src.Snapshot("live", "x", true)
	mid.MustReceive(".", "x", src.Send("x"))
	mid.Snapshot("x", "keep", true)
	f, err := os.Open(mid.Path("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := btrfs.SetReadOnly(f, false); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, mid.Path("x/f"), "evil")
	if err := btrfs.SetReadOnly(f, true); err != nil {
		t.Fatal(err)
	}
	from, to := mustOpen(t, mid.Dir), mustOpen(t, dst.Dir)
	inv := mustList(t, from)
	if len(inv.Snapshots) != 1 || len(inv.Snapshots[0].Copies) != 1 {
		t.Fatalf("listed as %+v", inv.Snapshots)
	}
	id := inv.Snapshots[0].ID
	if err := from.Choose(id, "nosuch"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("choosing what is not there: %v", err)
	}
	for _, path := range []string{"x", "keep"} {
		if err := from.Choose(id, path); err != nil && path == "keep" {
			t.Fatal(err)
		}
	}
	inv = mustList(t, from) // a new listing forgets it
	if err := from.Choose(id, "keep"); err != nil {
		t.Fatal(err)
	}
	inv.Prefer(id, "keep")
	if err := carry(t.Context(), from, to, wantOf(inv, at(t, inv, "keep"), snapshot.Snapshot{})); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(dst.Path("keep/f")); err != nil || string(text) != "good" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestUnsettled: a subvolume that was made read-only with data in memory keeps
// its identity when these are written out.
func TestUnsettled(t *testing.T) {
	src, dst := btrfstest.New(t), btrfstest.New(t)
	sub := src.Subvolume("imp")
	src.Sync()
	mustWrite(t, filepath.Join(sub, "f"), strings.Repeat("data", 1<<20))
	src.SetReadOnly("imp", true)
	from, to := mustOpen(t, src.Dir), mustOpen(t, dst.Dir)
	inv := mustList(t, from)
	if err := carry(t.Context(), from, to, wantOf(inv, at(t, inv, "imp"), snapshot.Snapshot{})); err != nil {
		t.Fatal(err)
	}
	here, there := at(t, mustList(t, from), "imp"), at(t, mustList(t, to), "imp")
	if here.Transid != there.Transid {
		t.Errorf("sent as of transaction %d, and it is %d now", there.Transid, here.Transid)
	}
}

// TestPartSuffix: two rooms that do not know each other mean the same.
func TestPartSuffix(t *testing.T) {
	if replay.PartSuffix != snapshot.PartSuffix {
		t.Errorf("%q is not %q", replay.PartSuffix, snapshot.PartSuffix)
	}
}

// TestBeingReceived: what somebody receives at this moment is no remainder, also
// for those who hold the lock of a directory above.
func TestBeingReceived(t *testing.T) {
	src, dst := btrfstest.New(t), btrfstest.New(t)
	src.Subvolume("live")
	src.Snapshot("live", "a", true)
	mustMkdir(t, dst.Path("in"))
	from, to, above := mustOpen(t, src.Dir), mustOpen(t, dst.Path("in")), mustOpen(t, dst.Dir)
	inv := mustList(t, from)
	want := wantOf(inv, at(t, inv, "a"), snapshot.Snapshot{})
	r, err := from.Open(t.Context(), store.Request{Edge: want.Edge})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	w, err := to.Create(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	// All but the END: the first command has been carried out when this returns,
	// or will be before the next byte is taken.
	for _, part := range [][]byte{raw[:len(raw)-10], raw[len(raw)-10 : len(raw)-5]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	p := snapshot.Partial{Path: "in/a.part", Ours: true}
	if err := above.RemovePartial(t.Context(), p); !errors.Is(err, replay.ErrInUse) {
		t.Errorf("removing what is being received: %v", err)
	}
	if _, err := w.Write(raw[len(raw)-5:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Error(err)
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
			r, err := s.Open(t.Context(), store.Request{Edge: e})
			if err != nil {
				t.Fatal(err)
			}
			sent, err := io.Copy(io.Discard, r)
			if err = errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			size, err := s.Measure(t.Context(), store.Request{Edge: e})
			if err != nil {
				t.Fatal(err)
			}
			if !size.Exact || size.Bytes != sent {
				t.Errorf("%s: measured %+v, sent %d", options, size, sent)
			}
			about, err := s.Estimate(t.Context(), store.Request{Edge: e})
			if err != nil || !about.Known || about.Exact || about.Bytes <= 0 {
				t.Errorf("%s: estimate %+v, %v", options, about, err)
			}
			t.Logf("%s: sent %d, measured %+v, estimated %d", options, sent, size, about.Bytes)
		}
	}
}
