package compose

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestDeduplicatedMeanwhile: the kernel allows deduplication of what is being
// sent, which changes how everything is stored. Trying again makes sense then.
func TestDeduplicatedMeanwhile(t *testing.T) {
	bench := btrfstest.New(t)
	live := bench.Subvolume("live")
	noise := make([]byte, 12<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(live+"/"+name, noise, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := bench.Snapshot("live", "snapshot", true)
	bench.Sync()
	in := sending1(t, context.Background(), snapshot)
	if _, err := io.CopyN(io.Discard, in, 1<<20); err != nil {
		t.Fatal(err)
	}
	from, to := opened(t, snapshot+"/a"), opened(t, snapshot+"/c")
	for off := uint64(0); off < uint64(len(noise)); off += 1 << 20 {
		args := unix.FileDedupeRange{Src_offset: off, Src_length: 1 << 20, Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(to.Fd()), Dest_offset: off}}}
		if err := unix.IoctlFileDedupeRange(int(from.Fd()), &args); err != nil || args.Info[0].Status != 0 {
			t.Fatalf("deduplicating: %v, %+v", err, args.Info)
		}
	}
	if _, err := io.Copy(io.Discard, in); !errors.Is(err, btrfs.ErrBusy) {
		t.Errorf("the stream ends with %v", err)
	}
	if again := composed(t, snapshot, Options{}); len(again) > 25<<20 {
		t.Errorf("once more, the stream has %d bytes", len(again))
	}
}

// TestBalancedMeanwhile: a balance moves all data and metadata, and makes no
// difference to a stream.
func TestBalancedMeanwhile(t *testing.T) {
	bench, snapshot := scene(t)
	want := composed(t, snapshot, Options{})
	in := sending1(t, context.Background(), snapshot)
	var got bytes.Buffer
	if _, err := io.CopyN(&got, in, 1<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("btrfs", "balance", "start", "-d", "-m", "-f", bench.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := io.Copy(&got, in); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes for %d, %v", got.Len(), len(want), err)
	}
}
