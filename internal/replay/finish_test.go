package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// After Commit everything survives a power cut, and the snapshot is provably
// untouched by the cheap rule.
func TestPowerCutAfterCommit(t *testing.T) {
	src := btrfstest.New(t, btrfstest.MountOptions("noatime,compress=zstd"))
	live := src.Subvolume("live")
	tree := btrfstest.NewTree(t, live, 5)
	tree.Fill()
	// Data that stay in memory for long if nobody writes them.
	write(t, live+"/big", strings.Repeat("not on disk yet\n", 4<<20/16))
	one := src.Snapshot("live", "one", true)
	tree.Mutate()
	two := src.Snapshot("live", "two", true)

	dst := btrfstest.New(t, btrfstest.MountOptions("noatime,commit=300"))
	b := newBench(t, dst, "in")
	for _, c := range []struct{ name, snapshot, parent string }{{"one", one, ""}, {"two", two, one}} {
		result := b.must(c.name, sendByProgram(src, shape{protocol: 2}, c.snapshot, c.parent))
		cut := dst.PowerCut()
		copied := cut.Path("in/" + c.name)
		same(t, "after the power cut", c.snapshot, copied)
		info := infoOf(t, copied)
		if info.ReceivedUUID != result.ReceivedUUID || !info.ReadOnly || info.Stransid != result.Stransid {
			t.Errorf("after the power cut: %+v", info)
		}
		for _, path := range []string{copied, b.path(c.name)} {
			info := infoOf(t, path)
			if info.Ctransid > info.Rtransid {
				t.Errorf("%s: changed in %d, received in %d", path, info.Ctransid, info.Rtransid)
			}
			if ok, err := btrfs.Untouched(open(t, path)); !ok || err != nil {
				t.Errorf("%s: untouched: %v, %v", path, ok, err)
			}
		}
	}
}

// A power cut before the end leaves nothing that looks whole.
func TestPowerCutBefore(t *testing.T) {
	dst := btrfstest.New(t, btrfstest.MountOptions("noatime,commit=300"))
	b := newBench(t, dst, "in")
	r := b.receiver("x")
	defer r.Abandon()
	in := newForge(t, 1).file("f").write("f", "data").end()
	if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(in))); err != nil {
		t.Fatal(err)
	}
	cut := dst.PowerCut()
	if _, err := os.Stat(cut.Path("in/x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("x: %v", err)
	}
	if _, err := os.Stat(cut.Path("in/x.part")); errors.Is(err, os.ErrNotExist) {
		return // it never reached the disk
	}
	if info := infoOf(t, cut.Path("in/x.part")); info.ReadOnly || !info.ReceivedUUID.IsZero() {
		t.Errorf("x.part looks whole: %+v", info)
	}
}

func TestNames(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	in := newForge(t, 1).file("f").write("f", "data").end()

	t.Run("taken", func(t *testing.T) {
		for name, occupy := range occupants(t, fs) {
			occupy(b.path("taken"))
			before := btrfstest.Digest(t, b.dir.Name())
			if err := b.refuse("taken", in); !errors.Is(err, ErrExists) {
				t.Errorf("%s: %v", name, err)
			}
			if btrfstest.Digest(t, b.dir.Name()) != before {
				t.Errorf("%s: something was made or removed", name)
			}
			clearAway(t, b.path("taken"))
		}
	})
	t.Run("taken meanwhile", func(t *testing.T) {
		r := b.receiver("meanwhile")
		if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(in))); err != nil {
			t.Fatal(err)
		}
		write(t, b.path("meanwhile"), "I was here")
		if _, err := r.Commit(context.Background()); !errors.Is(err, ErrExists) {
			t.Errorf("committing: %v", err)
		}
		if _, err := r.Commit(context.Background()); err == nil {
			t.Error("committing again worked")
		}
		if err := r.Abandon(); err != nil {
			t.Error(err)
		}
		b.absent("meanwhile.part")
		if got, err := os.ReadFile(b.path("meanwhile")); string(got) != "I was here" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("part removed", func(t *testing.T) {
		r := b.receiver("removed")
		if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(in))); err != nil {
			t.Fatal(err)
		}
		fs.Delete(b.path("removed.part"))
		if _, err := r.Commit(context.Background()); err == nil || !strings.Contains(err.Error(), "it has been removed while it was being received (removed.part)") {
			t.Errorf("committing: %v", err)
		}
		if err := r.Abandon(); err != nil {
			t.Error(err)
		}
		b.absent("removed")
	})
	t.Run("part taken", func(t *testing.T) {
		for name, occupy := range occupants(t, fs) {
			if strings.Contains(name, "subvolume") {
				continue
			}
			occupy(b.path("p.part"))
			before := btrfstest.Digest(t, b.dir.Name())
			r := b.receiver("p")
			if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(in))); !errors.Is(err, ErrExists) {
				t.Errorf("%s: %v", name, err)
			}
			if err := r.Abandon(); err != nil {
				t.Error(err)
			}
			if btrfstest.Digest(t, b.dir.Name()) != before {
				t.Errorf("%s: something was made or removed", name)
			}
			clearAway(t, b.path("p.part"))
		}
	})
	t.Run("remainder", func(t *testing.T) {
		old := fs.Subvolume(b.path("r.part"))
		write(t, old+"/old", "old")
		b.must("r", in)
		if entries, _ := os.ReadDir(b.path("r")); len(entries) != 1 || entries[0].Name() != "f" {
			t.Errorf("there is %v in it", entries)
		}
		fs.Delete(b.path("r"))
	})
	t.Run("not a name", func(t *testing.T) {
		for _, name := range []string{"", ".", "..", "a/b", "/a", "a\x00b", "a.part", strings.Repeat("x", 251)} {
			r := b.receiver(name)
			if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(in))); err == nil {
				t.Errorf("%q was received", name)
			}
			if err := r.Abandon(); err != nil {
				t.Error(err)
			}
		}
		b.must(strings.Repeat("x", 250), in)
	})
}

// occupants are things that can be in the way.
func occupants(t *testing.T, fs *btrfstest.FS) map[string]func(path string) {
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	return map[string]func(path string){
		"file":                 func(path string) { write(t, path, "x") },
		"directory":            func(path string) { mkdir(t, path+"/sub") },
		"dangling symlink":     func(path string) { must(os.Symlink("nowhere", path)) },
		"fifo":                 func(path string) { must(unix.Mkfifo(path, 0o600)) },
		"subvolume":            func(path string) { fs.Subvolume(path) },
		"symlink to subvolume": func(path string) { must(os.Symlink(fs.Dir, path)) },
	}
}

func clearAway(t *testing.T, path string) {
	t.Helper()
	// Delete works on subvolumes only, RemoveAll on all but those.
	dir := open(t, filepath.Dir(path))
	if err := btrfs.DeleteSubvolume(dir, filepath.Base(path)); err != nil {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOrderOfCalls(t *testing.T) {
	b := newBench(t, btrfstest.New(t), "in")
	ctx := context.Background()
	whole := newForge(t, 1).file("f").write("f", "data").end()
	reader := func(in []byte) *stream.Reader { return stream.NewReader(bytes.NewReader(in)) }

	r := b.receiver("x")
	if _, err := r.Commit(ctx); err == nil {
		t.Error("committed nothing")
	}
	if err := r.Receive(ctx, reader(whole)); err != nil {
		t.Fatal(err)
	}
	if err := r.Receive(ctx, reader(whole)); err == nil {
		t.Error("received twice")
	}
	if _, err := r.Commit(ctx); err != nil {
		t.Error(err)
	}
	if _, err := r.Commit(ctx); err == nil {
		t.Error("committed twice")
	}
	for range 2 {
		if err := r.Abandon(); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.ReadFile(b.path("x/f")); string(got) != "data" {
		t.Errorf("after abandoning what was committed: %q, %v", got, err)
	}

	r = b.receiver("y")
	if err := r.Receive(ctx, reader(newForge(t, 1).file("f").cut())); err == nil {
		t.Error("received a stream without end")
	}
	if _, err := r.Commit(ctx); err == nil {
		t.Error("committed half a snapshot")
	}
	for range 2 {
		if err := r.Abandon(); err != nil {
			t.Error(err)
		}
	}
	if err := r.Receive(ctx, reader(whole)); err == nil {
		t.Error("received after abandoning")
	}
	b.absent("y")
	b.absent("y.part")

	stopped, stop := context.WithCancel(ctx)
	stop()
	r = b.receiver("z")
	if err := r.Receive(stopped, reader(whole)); !errors.Is(err, context.Canceled) {
		t.Errorf("receiving after a stop: %v", err)
	}
	r.Abandon()
	r = b.receiver("z")
	if err := r.Receive(ctx, reader(whole)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("committing after a stop: %v", err)
	}
	r.Abandon()
	b.absent("z")
	b.absent("z.part")
}

// A full disk is an error at once, and leaves nothing.
func TestNoSpace(t *testing.T) {
	b := newBench(t, btrfstest.New(t, btrfstest.Size(128<<20)), "in")
	f := newForge(t, 2).file("f")
	noise := make([]byte, 128<<10)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	for i := range 1200 {
		f.add(stream.Command{Kind: stream.Write, Path: []byte("f"), FileOffset: uint64(i * len(noise)), Data: noise})
	}
	if err := b.refuse("x", f.end()); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the error is %v", err)
	}
}

// Finish also takes the last steps of a copy that was made without a stream.
func TestFinish(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	b.must("first", newForge(t, 1).file("f").write("f", "data").end())
	id := btrfs.UUID(forgedUUID)
	for i, readOnly := range []bool{false, true} {
		name := string(rune('a' + i))
		if err := btrfs.CreateSnapshot(b.dir, name+".part", open(t, b.path("first")), readOnly); err != nil {
			t.Fatal(err)
		}
		result, err := Finish(b.fs, b.dir, name+".part", name, id, 7)
		if err != nil {
			t.Fatal(err)
		}
		info := b.info(name)
		if info.ReceivedUUID != id || !info.ReadOnly || info.Stransid != 7 || info.UUID != result.UUID || info.Ctransid > result.Rtransid {
			t.Errorf("%+v, %+v", info, result)
		}
		same(t, "copy", b.path("first"), b.path(name))
		b.absent(name + ".part")
	}
	mkdir(t, b.path("dir.part"))
	for _, c := range [][2]string{{"dir.part", "dir"}, {"none.part", "none"}, {"a", "b"}, {"a", "."}, {"a", "x.part"}} {
		if _, err := Finish(b.fs, b.dir, c[0], c[1], id, 7); err == nil {
			t.Errorf("finished %s as %s", c[0], c[1])
		}
	}
	if err := btrfs.CreateSubvolume(b.dir, "n.part"); err != nil {
		t.Fatal(err)
	}
	if _, err := Finish(b.fs, b.dir, "n.part", "n", btrfs.UUID{}, 7); err == nil {
		t.Error("finished without a UUID")
	}
}

// No descriptor stays open, however a receive ends.
func TestDescriptors(t *testing.T) {
	b := newBench(t, btrfstest.New(t), "in")
	f := newForge(t, 2)
	for i := range min(3*dirsHeld(), 6000) {
		dir := "d" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		f.mkdir(dir).file(dir+"/f").write(dir+"/f", strings.Repeat("y", 4096))
	}
	f.file("c").add(stream.Command{Kind: stream.Clone, Path: []byte("c"), ClonePath: []byte("da/f"), CloneUUID: forgedUUID, CloneLen: 4096})
	good := bytes.Clone(f.end())
	bad := good[:len(good)-10]
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	b.refuse("x", bad)
	before := count()
	for range 3 {
		b.refuse("x", bad)
		b.must("x", good)
		if err := btrfs.DeleteSubvolume(b.dir, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

// TestNotARemainder: a read-only snapshot that was not received is somebody's,
// whatever it is called.
func TestNotARemainder(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, ".")
	fs.Subvolume("live")
	fs.Snapshot("live", "x.part", true)
	if removed, err := RemoveRemainder(b.dir, "x.part"); removed || !errors.Is(err, ErrExists) {
		t.Errorf("removed %v, %v", removed, err)
	}
	fs.Snapshot("live", "y.part", false)
	if removed, err := RemoveRemainder(b.dir, "y.part"); !removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	if removed, err := RemoveRemainder(b.dir, "z.part"); removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
}
