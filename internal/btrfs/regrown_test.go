package btrfs

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A file that has not changed is left alone, though it shares the block of one
// that has grown again, and stands in a leaf that has changed.
func TestRegrownLeavesTheUnchanged(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	create := func(name string, size int64) *os.File {
		t.Helper()
		f, err := os.Create(fs.Path("live/" + name))
		if err == nil {
			err = f.Truncate(size)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	clone := func(to, from *os.File, at, offset, n uint64) {
		t.Helper()
		err := unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{
			Src_fd: int64(from.Fd()), Src_offset: offset, Src_length: n, Dest_offset: at,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const size, cut, refs = 200 << 10, 103_000, 2000
	whole, again, sparse := create("whole", 0), create("again", 0), create("sparse", 1<<30)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i>>8 + i)
	}
	if _, err := whole.Write(data); err != nil {
		t.Fatal(err)
	}
	clone(again, whole, 0, 0, size)
	// Each has more extents than fit into a leaf, so that the beginning of the one
	// and the end of the other change, and what is between does not.
	for i := range uint64(refs) {
		clone(sparse, whole, i*(8<<10), 0, 4<<10)
	}
	unchanged := create("unchanged", 0)
	for i := range uint64(refs) {
		clone(unchanged, whole, i*(8<<10), 96<<10, 8<<10)
	}
	next := create("next", 1)
	fs.Sync()
	if err := again.Truncate(cut); err != nil {
		t.Fatal(err)
	}
	fs.Snapshot("live", "short", true)
	clone(again, whole, 0, 0, size)
	for _, f := range []*os.File{sparse, next} {
		if err := f.Chmod(0o600); err != nil {
			t.Fatal(err)
		}
	}
	changed := create("changed", 0)
	clone(changed, whole, 0, 96<<10, 8<<10)
	fs.Snapshot("live", "long", true)

	found, err := RegrownFiles(t.Context(), opened(t, fs.Path("long")), opened(t, fs.Path("short")))
	if err != nil {
		t.Fatal(err)
	}
	const block = 4 << 10
	want := map[string][2]uint64{
		"again":   {cut, (cut + block) / block * block},
		"changed": {cut - 96<<10, (cut - 96<<10 + block) / block * block},
	}
	for _, f := range found {
		if want[f.Path] != [2]uint64{f.From, f.To} {
			t.Errorf("%s from %d to %d", f.Path, f.From, f.To)
		}
		delete(want, f.Path)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

// A file that has been removed while it is open stands in a subvolume that is made
// read-only then, without a name. No stream has it.
func TestRegrownWithoutName(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	const size, cut = 20_000, 9_000
	if err := os.WriteFile(fs.Path("live/whole"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	fs.Sync()
	f, err := os.OpenFile(fs.Path("live/whole"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fs.Snapshot("live", "before", true)
	if err := f.Truncate(cut); err != nil {
		t.Fatal(err)
	}
	fs.Snapshot("live", "short", true)
	before := opened(t, fs.Path("before/whole"))
	err = unix.IoctlFileCloneRange(int(f.Fd()), &unix.FileCloneRange{Src_fd: int64(before.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(fs.Path("live/whole")); err != nil {
		t.Fatal(err)
	}
	fs.SetReadOnly("live", true)
	found, err := RegrownFiles(t.Context(), opened(t, fs.Path("live")), opened(t, fs.Path("short")))
	if err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
}
