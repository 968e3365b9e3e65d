package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// touch makes a subvolume writable behind everybody's back, changes it, and
// makes it read-only again.
func touch(t *testing.T, path string) {
	t.Helper()
	f := open(t, path)
	if err := btrfs.SetReadOnly(f, false); err != nil {
		t.Fatal(err)
	}
	write(t, path+"/touched", "x")
	if err := btrfs.SetReadOnly(f, true); err != nil {
		t.Fatal(err)
	}
}

func wantParentError(t *testing.T, err error, u btrfs.UUID, reason ParentReason, path string) {
	t.Helper()
	p, ok := errors.AsType[*ParentError](err)
	if !ok || p.UUID != u || p.Reason != reason || p.Path != path {
		t.Errorf("the error is %v, want parent %s at %q: %v", err, u, path, reason)
	}
}

func TestParents(t *testing.T) {
	src := btrfstest.New(t)
	live := src.Subvolume("live")
	write(t, live+"/f", strings.Repeat("one", 10000))
	one := src.Snapshot("live", "one", true)
	write(t, live+"/g", strings.Repeat("two", 10000))
	two := src.Snapshot("live", "two", true)
	full, next := src.Send(one), src.Send(two, "-p", one)
	id := infoOf(t, one).UUID

	fresh := func(t *testing.T) (*btrfstest.FS, *bench) {
		fs := btrfstest.New(t)
		return fs, newBench(t, fs, "in")
	}
	t.Run("missing", func(t *testing.T) {
		_, b := fresh(t)
		wantParentError(t, b.refuse("two", next), id, ParentMissing, "")
	})
	t.Run("received in part", func(t *testing.T) {
		_, b := fresh(t)
		r := b.receiver("one")
		defer r.Abandon()
		if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(full))); err != nil {
			t.Fatal(err)
		}
		wantParentError(t, b.refuse("two", next), id, ParentMissing, "")
	})
	t.Run("writable", func(t *testing.T) {
		_, b := fresh(t)
		b.must("one", full)
		if err := btrfs.SetReadOnly(open(t, b.path("one")), false); err != nil {
			t.Fatal(err)
		}
		wantParentError(t, b.refuse("two", next), id, ParentWritable, "in/one")
	})
	t.Run("changed", func(t *testing.T) {
		_, b := fresh(t)
		wantParentError(t, CheckParent(b.fs, id, 0), id, ParentMissing, "")
		b.must("one", full)
		if err := CheckParent(b.fs, id, 0); err != nil {
			t.Error(err)
		}
		touch(t, b.path("one"))
		wantParentError(t, b.refuse("two", next), id, ParentChanged, "in/one")
		wantParentError(t, CheckParent(b.fs, id, 0), id, ParentChanged, "in/one")
	})
	t.Run("flipped without a change", func(t *testing.T) {
		_, b := fresh(t)
		b.must("one", full)
		f := open(t, b.path("one"))
		for _, ro := range []bool{false, true} {
			if err := btrfs.SetReadOnly(f, ro); err != nil {
				t.Fatal(err)
			}
		}
		b.must("two", next)
		same(t, "increment", two, b.path("two"))
	})
	t.Run("received by btrfs receive", func(t *testing.T) {
		fs, b := fresh(t)
		fs.MustReceive("in", "one", full)
		b.must("two", next)
		same(t, "increment", two, b.path("two"))
	})
	t.Run("several", func(t *testing.T) {
		fs, b := fresh(t)
		b.must("one", full)
		// The first is changed, the newest as well; one in the middle is intact.
		fs.Snapshot(b.path("one"), b.path("good"), true)
		fs.Snapshot(b.path("one"), b.path("bad"), true)
		touch(t, b.path("bad"))
		touch(t, b.path("one"))
		b.must("two", next)
		same(t, "increment", two, b.path("two"))
		touch(t, b.path("good"))
		wantParentError(t, b.refuse("three", next), id, ParentChanged, "in/bad")
	})
	t.Run("changed meanwhile", func(t *testing.T) {
		_, b := fresh(t)
		b.must("one", full)
		r := b.receiver("two")
		defer r.Abandon()
		if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(next))); err != nil {
			t.Fatal(err)
		}
		touch(t, b.path("one"))
		_, err := r.Commit(context.Background())
		wantParentError(t, err, id, ParentChanged, "in/one")
		b.absent("two")
	})
	t.Run("the original", func(t *testing.T) {
		b := newBench(t, src, "in")
		b.must("two", next)
		same(t, "increment", two, b.path("two"))
		// It has never changed, so what the transid says is of no account.
		b.must("any", rewrite(t, next, stream.Identity{ParentTransid: 1 << 40}))
		same(t, "increment", two, b.path("any"))
	})
	t.Run("an original that was once writable", func(t *testing.T) {
		fs, b := fresh(t)
		live := fs.Subvolume("live")
		write(t, live+"/f", "old")
		fs.Snapshot("live", "was", false)
		was := fs.Path("was")
		fs.Sync()
		write(t, was+"/g", "new")
		fs.SetReadOnly("was", true)
		fs.Sync()
		info := infoOf(t, was)
		f := newForgedIncrement(t, 1, info.UUID, info.Ctransid).file("h")
		b.must("x", f.end())
		f = newForgedIncrement(t, 1, info.UUID, info.Ctransid-1).file("h")
		wantParentError(t, b.refuse("y", f.end()), info.UUID, ParentChanged, "was")
		touch(t, was)
		f = newForgedIncrement(t, 1, info.UUID, info.Ctransid).file("h")
		wantParentError(t, b.refuse("y", f.end()), info.UUID, ParentChanged, "was")
		fs.SetReadOnly("was", false)
		wantParentError(t, b.refuse("y", f.out.Bytes()), info.UUID, ParentWritable, "was")
	})
}

// What is cloned from has to be as sound as what is built upon.
func TestCloneSources(t *testing.T) {
	src := btrfstest.New(t)
	live := src.Subvolume("live")
	write(t, live+"/f", strings.Repeat("one", 100000))
	one := src.Snapshot("live", "one", true)
	other := src.Subvolume("other")
	reflink(t, live+"/f", other+"/copy")
	two := src.Snapshot("other", "two", true)
	full, cloning := src.Send(one), sendByIoctl(t, shape{protocol: 1}, two, "", one)
	id := infoOf(t, one).UUID
	if len(cloning) > len(full)/2 {
		t.Fatal("the kernel has not cloned")
	}

	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	wantParentError(t, b.refuse("two", cloning), id, ParentMissing, "")
	b.must("one", full)
	b.must("two", cloning)
	same(t, "clone", two, b.path("two"))
	touch(t, b.path("one"))
	wantParentError(t, b.refuse("three", cloning), id, ParentChanged, "in/one")
}

// A restore onto a file system on which files are not copied on write differs
// in nothing but sharing.
func TestCloneAcrossNoCow(t *testing.T) {
	src := btrfstest.New(t)
	live := src.Subvolume("live")
	write(t, live+"/f", strings.Repeat("one", 100000))
	one := src.Snapshot("live", "one", true)
	reflink(t, live+"/f", live+"/copy")
	two := src.Snapshot("live", "two", true)

	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	b.must("one", src.Send(one))
	b.close()
	fs.Remount("nodatacow")
	b = newBench(t, fs, "in")
	next := src.Send(two, "-p", one)
	if len(next) > 10000 {
		t.Fatal("the kernel has not cloned")
	}
	b.must("two", next)
	same(t, "clone", two, b.path("two"))
}

func reflink(t *testing.T, from, to string) {
	t.Helper()
	in := open(t, from)
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err != nil {
		t.Fatal(err)
	}
}

func rewrite(t *testing.T, in []byte, id stream.Identity) []byte {
	t.Helper()
	r, err := stream.RewriteHead(bytes.NewReader(in), id)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
