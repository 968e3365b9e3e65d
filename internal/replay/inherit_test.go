package replay

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// Each case prepares a directory that gives something to what is created in it,
// fills it with every kind of object that has nothing of it, or something else,
// and lets it be sent.
func TestNothingIsInherited(t *testing.T) {
	src := btrfstest.New(t)
	dst := btrfstest.New(t)
	b := newBench(t, dst, "in")

	// prepare is done before the directory is filled, strip for each object in
	// it afterwards.
	cases := map[string]struct {
		dir     string
		prepare func(t *testing.T, dir string)
		strip   bool
	}{
		"acl":           {"d", func(t *testing.T, dir string) { setxattr(t, dir, aclDefault, defaultACL) }, true},
		"acl kept":      {"d", func(t *testing.T, dir string) { setxattr(t, dir, aclDefault, defaultACL) }, false},
		"acl of root":   {"", func(t *testing.T, dir string) { setxattr(t, dir, aclDefault, defaultACL) }, true},
		"property":      {"d", func(t *testing.T, dir string) { setxattr(t, dir, compression, []byte("zstd")) }, true},
		"property kept": {"d", func(t *testing.T, dir string) { setxattr(t, dir, compression, []byte("zlib")) }, false},
		"property root": {"", func(t *testing.T, dir string) { setxattr(t, dir, compression, []byte("lzo")) }, true},
		"setgid":        {"d", setgid, true},
		"setgid kept":   {"d", setgid, false},
		"setgid root":   {"", setgid, true},
		"all of them": {"d", func(t *testing.T, dir string) {
			setgid(t, dir)
			setxattr(t, dir, aclDefault, defaultACL)
			setxattr(t, dir, compression, []byte("zstd"))
		}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			live := src.Subvolume("live " + name)
			dir := live + "/" + c.dir
			mkdir(t, dir)
			c.prepare(t, dir)
			populate(t, dir, c.strip)
			full := src.Snapshot(live, name, true)
			b.must(name, src.Send(full))
			same(t, "full", full, b.path(name))

			// The same in a directory that is there already, and in one that
			// begins to give, or stops, within the increment.
			populate(t, dir+"/dir", c.strip)
			late := live + "/late"
			mkdir(t, late)
			populate(t, late, false)
			mkdir(t, late+"/more")
			c.prepare(t, late)
			populate(t, late+"/more", c.strip)
			next := src.Snapshot(live, name+" next", true)
			b.must(name+" next", src.Send(next, "-p", full))
			same(t, "increment", next, b.path(name+" next"))
		})
	}
}

func setgid(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chown(dir, 7, 4321); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(dir, 0o2775); err != nil {
		t.Fatal(err)
	}
}

// populate makes one object of every kind in dir, and takes from them what they
// inherited if strip is set.
func populate(t *testing.T, dir string, strip bool) {
	t.Helper()
	write(t, dir+"/empty", "")
	write(t, dir+"/file", "some content")
	mkdir(t, dir+"/dir")
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "sock": unix.S_IFSOCK, "chr": unix.S_IFCHR, "blk": unix.S_IFBLK} {
		if err := unix.Mknod(dir+"/"+name, mode|0o640, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"empty", "file", "dir", "fifo", "sock", "chr", "blk"}
	if strip {
		for _, name := range names {
			for _, attr := range []string{aclAccess, aclDefault, compression} {
				_ = unix.Lremovexattr(dir+"/"+name, attr)
			}
			if err := unix.Chmod(dir+"/"+name, 0o751); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink("nowhere", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if strip {
		for _, name := range append(names, "link") {
			if err := os.Lchown(dir+"/"+name, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The directory in which snapshots are received may hand something down, too.
func TestNothingIsInheritedFromOutside(t *testing.T) {
	src := btrfstest.New(t)
	dst := btrfstest.New(t)
	live := src.Subvolume("live")
	populate(t, live, false)
	one := src.Snapshot("live", "one", true)
	mkdir(t, live+"/more")
	two := src.Snapshot("live", "two", true)
	// A new subvolume gets its compression from the root of the one it is in.
	b := newBench(t, dst, "")
	setgid(t, b.dir.Name())
	setxattr(t, b.dir.Name(), aclDefault, defaultACL)
	setxattr(t, b.dir.Name(), compression, []byte("zstd"))
	b.must("one", src.Send(one))
	same(t, "full", one, b.path("one"))
	b.must("two", src.Send(two, "-p", one))
	same(t, "increment", two, b.path("two"))
}

// A stream need not say owner and mode of what it makes. What it leaves out is
// the same whether an object is created at its final path or renamed to it.
func TestFusedAndNotAreTheSame(t *testing.T) {
	b := newBench(t, btrfstest.New(t), "in")
	make := func(fused bool) []byte {
		f := newForge(t, 1).mkdir("d").
			add(stream.Command{Kind: stream.Chown, Path: []byte("d"), UID: 5, GID: 99}).
			chmod("d", 0o2777).
			xattr("d", aclDefault, string(defaultACL)).
			xattr("d", compression, "zstd")
		kinds := []stream.Command{
			{Kind: stream.MkFile},
			{Kind: stream.MkDir},
			{Kind: stream.MkFifo},
			{Kind: stream.MkSock},
			{Kind: stream.MkNod, Mode: unix.S_IFCHR | 0o666, Rdev: 0x103},
			{Kind: stream.MkNod, Mode: unix.S_IFBLK | 0o600, Rdev: 0x0ff0_0801},
			{Kind: stream.Symlink, PathLink: []byte("to")},
		}
		for i, c := range kinds {
			name := string(rune('a' + i))
			c.Path = []byte("o" + name)
			f.add(c)
			if !fused {
				f.chmod("", 0o755) // anything that comes between
			}
			f.rename("o"+name, "d/"+name)
		}
		if fused {
			f.chmod("", 0o755)
		}
		f.file("otwo").rename("otwo", "d/a") // what is in the way is replaced
		for i := range kinds {
			f.add(stream.Command{Kind: stream.Utimes, Path: []byte("d/" + string(rune('a'+i))), Mtime: stream.Time{Sec: 5}})
		}
		f.add(stream.Command{Kind: stream.Utimes, Path: []byte("d"), Mtime: stream.Time{Sec: 6}})
		f.add(stream.Command{Kind: stream.Utimes, Mtime: stream.Time{Sec: 7}})
		return f.end()
	}
	b.must("fused", make(true))
	b.must("not", make(false))
	same(t, "with and without fusion", b.path("fused"), b.path("not"))
}

// A file that gets another owner and keeps its set-user-ID bit is sent as one
// that gets another owner, and changing the owner takes the bit away.
func TestOwnerChangesAlone(t *testing.T) {
	src := btrfstest.New(t)
	dst := btrfstest.New(t)
	live := src.Subvolume("live")
	paths := []string{live + "/file", live + "/dir"}
	write(t, paths[0], "content")
	mkdir(t, paths[1])
	mode := func(bits uint32) {
		for _, p := range paths {
			if err := unix.Chmod(p, bits); err != nil {
				t.Fatal(err)
			}
		}
	}
	mode(0o6755)
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_net_bind_service=p
	setxattr(t, paths[0], "security.capability", capability)
	one := src.Snapshot("live", "one", true)
	for _, p := range paths {
		if err := os.Chown(p, 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	mode(0o6755)
	setxattr(t, paths[0], "security.capability", capability)
	two := src.Snapshot("live", "two", true)
	mode(0o755)
	three := src.Snapshot("live", "three", true)

	b := newBench(t, dst, "in")
	b.must("one", src.Send(one))
	same(t, "full", one, b.path("one"))
	b.must("two", src.Send(two, "-p", one))
	same(t, "another owner", two, b.path("two"))
	b.must("three", src.Send(three, "-p", one))
	same(t, "another owner and mode", three, b.path("three"))
}
