package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// hooked calls back once, when at bytes have been read.
type hooked struct {
	in   *bytes.Reader
	at   int64
	call func()
}

func (h *hooked) Read(p []byte) (int, error) {
	done := h.in.Size() - int64(h.in.Len())
	if h.call == nil {
		return h.in.Read(p)
	}
	if left := h.at - done; left > 0 {
		return h.in.Read(p[:min(int64(len(p)), left)])
	}
	h.call()
	h.call = nil
	return h.in.Read(p)
}

// The kernel tells nobody but who synchronises that data did not get to the
// disk; a snapshot of what lacks them is made all the same. No such checkpoint is
// carried on from.
func TestLostWriteBeforeCheckpoint(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Faulty(), btrfstest.MountOptions("noatime,commit=300"))
	b := newBench(t, fs, "in")
	in := manyFiles(t)
	b.must("whole", in)
	if err := btrfs.Sync(b.dir); err != nil {
		t.Fatal(err)
	}
	every := Checkpoints{Bytes: int64(len(in)) / 2, Every: -1}
	r := New(Options{Filesystem: b.fs, Dir: b.dir, Name: "x", Checkpoints: every})
	source := &hooked{in: bytes.NewReader(in), at: int64(len(in)) / 3, call: func() {
		if err := r.lane.drain(); err != nil {
			t.Fatal(err)
		}
		fs.Disks[0].FailWrites(0)
		defer fs.Disks[0].Heal()
		f, err := os.Open(filepath.Join(b.path("x.part"), "f3"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// Data alone are written, so that nothing else notices.
		err = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		if !errors.Is(err, unix.EIO) {
			t.Errorf("the disk does not fail: %v", err)
		}
	}}
	err := r.Receive(context.Background(), stream.NewReader(source))
	if err == nil {
		_, err = r.Commit(context.Background())
	}
	if !errors.Is(err, unix.EIO) {
		t.Errorf("data are lost, and it ends with %v", err)
	}
	if err := r.Abandon(); err != nil {
		t.Error(err)
	}
	again := newBench(t, fs, "in") // who has the directory open hears of the loss once more
	from, err := again.attempt("x", in, -1, every)
	if err != nil {
		t.Fatal(err)
	}
	if from.Offset != 0 {
		t.Errorf("it is carried on from %d", from.Offset)
	}
	same(t, "received again", b.path("whole"), b.path("x"), btrfstest.WithoutTimes())
}
