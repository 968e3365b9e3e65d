package replay

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestInlineTail: where an inline extent is followed by another, a stream with
// compressed data says nothing of the rest of the first sector. It reads as
// zeros at the source, whatever the parent had there.
func TestInlineTail(t *testing.T) {
	src := btrfstest.New(t, btrfstest.MountOptions("noatime,compress-force=zstd"))
	dst := btrfstest.New(t)
	live := src.Subvolume("live")
	file, other := live+"/file", live+"/other"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(other, bytes.Repeat([]byte("other "), 4096), 0o644))
	must(os.WriteFile(file, bytes.Repeat([]byte("old "), 4096), 0o644))
	src.Sync()
	src.Snapshot("live", "one", true)

	must(os.Truncate(file, 0))
	src.Sync()
	must(os.WriteFile(file, bytes.Repeat([]byte("a"), 1500), 0o644))
	src.Sync() // the inline extent is made when it is written out
	from, err := os.Open(other)
	must(err)
	defer from.Close()
	to, err := os.OpenFile(file, os.O_RDWR, 0)
	must(err)
	defer to.Close()
	must(unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{Src_fd: int64(from.Fd()), Src_length: 8192, Dest_offset: 4096}))
	src.Snapshot("live", "two", true)

	b := newBench(t, dst, ".")
	silent := false
	for _, args := range [][]string{{"--proto", "1"}, {"--proto", "2"}, {"--proto", "2", "--compressed-data"}} {
		for _, name := range []string{"one", "two"} {
			if _, err := os.Stat(dst.Path(name)); err == nil {
				dst.Delete(name)
			}
		}
		full := src.Send("one", args...)
		increment := src.Send("two", append([]string{"-p", src.Path("one")}, args...)...)
		b.must("one", full)
		b.must("two", increment)
		if diff := btrfstest.Diff(t, src.Path("two"), dst.Path("two")); diff != "" {
			t.Errorf("%v: %s", args, diff)
		}
		theirs := btrfstest.New(t)
		theirs.MustReceive(".", "one", full)
		theirs.MustReceive(".", "two", increment)
		silent = silent || btrfstest.Diff(t, src.Path("two"), theirs.Path("two"), btrfstest.WithoutRootTime()) != ""
	}
	t.Logf("btrfs receive keeps old data: %v", silent)
}

// TestGrownInlineExtent: where fallocate has made a file longer whose content
// is a compressed inline extent, a stream with compressed data, even a full one,
// says nothing of the new size (seen on Linux 6.18). No receiver can know it, so
// all that is tested is that we do what btrfs receive does, and that streams
// without compressed data are right.
func TestGrownInlineExtent(t *testing.T) {
	src := btrfstest.New(t, btrfstest.MountOptions("noatime,compress-force=zstd"))
	live := src.Subvolume("live")
	write(t, live+"/file", strings.Repeat("text to compress ", 80))
	src.Sync()
	f, err := os.OpenFile(live+"/file", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1614); err != nil {
		t.Fatal(err)
	}
	snapshot := src.Snapshot("live", "snapshot", true)

	dst := btrfstest.New(t)
	b := newBench(t, dst, "in")
	b.must("v1", src.Send(snapshot, "--proto", "1"))
	same(t, "version 1", snapshot, b.path("v1"))
	b.must("v2", src.Send(snapshot, "--proto", "2"))
	same(t, "version 2", snapshot, b.path("v2"))
	in := src.Send(snapshot, "--proto", "2", "--compressed-data")
	b.must("compressed", in)
	same(t, "compressed", dst.MustReceive("", "snapshot", in), b.path("compressed"))
	if btrfstest.Diff(t, snapshot, b.path("compressed")) != "" {
		t.Log("this kernel leaves the size out of streams with compressed data")
	}
}
