package replay

import (
	"bytes"
	"os"
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
