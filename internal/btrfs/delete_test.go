package btrfs

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestDeleteSubvolumeByID(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("one")
	bench.Subvolume("apart")
	bench.Subvolume("apart/deep")
	outside := opened(t, bench.MountAgain("subvol=apart")) // shows none of the others
	id := info(t, bench.Path("one")).ID
	must(t, os.Rename(bench.Path("one"), bench.Path("other")))
	bench.Subvolume("one") // another one has its name
	heir := info(t, bench.Path("one")).ID
	must(t, DeleteSubvolumeByID(outside, id))
	if _, err := os.Stat(bench.Path("other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if got := info(t, bench.Path("one")).ID; got != heir {
		t.Errorf("its old name has %d, want %d", got, heir)
	}
	for _, id := range []uint64{id, 99999} {
		if err := DeleteSubvolumeByID(outside, id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("deleting %d, which is none, gives %v", id, err)
		}
	}
	bench.Snapshot("one", "shown", true)
	must(t, DeleteSubvolumeByID(opened(t, bench.Dir), info(t, bench.Path("shown")).ID))
	must(t, DeleteSubvolumeByID(opened(t, bench.Path("one")), info(t, bench.Path("apart/deep")).ID))
	bench.Subvolume("one/nested")
	if err := DeleteSubvolumeByID(outside, heir); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("with another one in it: %v", err)
	}
}

// What can be no subvolume is refused without the kernel: the descriptor is of
// no use to ask it.
func TestDeleteSubvolumeByIDRefuses(t *testing.T) {
	proc := opened(t, "/proc")
	for _, id := range []uint64{0, rootTree, TopLevel, firstInode - 1, lastInode + 1, math.MaxUint64} {
		if err := DeleteSubvolumeByID(proc, id); !errors.Is(err, unix.EINVAL) {
			t.Errorf("deleting %d gives %v", id, err)
		}
	}
	if err := DeleteSubvolumeByID(proc, 256); !errors.Is(err, ErrNotBtrfs) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("outside of btrfs: %v", err)
	}
	// What a kernel says that does not know the request.
	if err := explainDelete("deleting", unix.ENOTTY); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("before Linux 5.7: %v", err)
	}
}

func TestDeleteSubvolumeByIDWhileSent(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	write(t, bench.Path("live/file"), string(make([]byte, 4<<20)))
	bench.Snapshot("live", "one", true)
	bench.Sync()
	one := opened(t, bench.Path("one"))
	s, err := Send(t.Context(), one, SendOptions{})
	must(t, err)
	defer s.Close()
	_, err = s.Read(make([]byte, 1)) // it has begun, and waits for a reader of the rest
	must(t, err)
	byID := DeleteSubvolumeByID(opened(t, bench.Dir), info(t, bench.Path("one")).ID)
	byName := DeleteSubvolume(opened(t, bench.Dir), "one")
	for _, err := range []error{byID, byName} {
		_, missing := errors.AsType[*PermissionError](err)
		if !errors.Is(err, unix.EPERM) || missing {
			t.Errorf("got %v", err)
		}
	}
}

// Another name every moment: that may be more than the kernel can follow, but
// nobody is told that there is no such subvolume.
func TestDeleteSubvolumeByIDWhileRenamed(t *testing.T) {
	bench := btrfstest.New(t)
	top := opened(t, bench.Dir)
	times, later := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); times++ {
		must(t, CreateSubvolume(top, "x"))
		id := info(t, bench.Path("x")).ID
		stop := renaming(bench.Path("x"), bench.Path("y"))
		time.Sleep(time.Millisecond)
		err := DeleteSubvolumeByID(top, id)
		stop()
		if errors.Is(err, errUnplaced) {
			later++
			err = DeleteSubvolumeByID(top, id)
		}
		if err != nil {
			t.Fatalf("after %d: %v", times, err)
		}
	}
	t.Logf("%d deleted, %d of them only when left in peace", times, later)
}

// Two exchange their names all the time: whatever the kernel deletes, nothing
// is said to be done that is not.
func TestDeleteSubvolumeByIDWhileExchanged(t *testing.T) {
	bench := btrfstest.New(t)
	top := opened(t, bench.Dir)
	times, wrong := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); times++ {
		must(t, CreateSubvolume(top, "x"))
		must(t, CreateSubvolume(top, "y"))
		meant, other := info(t, bench.Path("x")).ID, info(t, bench.Path("y")).ID
		stop := repeatedly(func() {
			_ = unix.Renameat2(unix.AT_FDCWD, bench.Path("x"), unix.AT_FDCWD, bench.Path("y"), unix.RENAME_EXCHANGE)
		})
		time.Sleep(time.Millisecond)
		err := DeleteSubvolumeByID(top, meant)
		stop()
		meantGone, lookup := deleted(top, meant)
		must(t, lookup)
		otherGone, lookup := deleted(top, other)
		must(t, lookup)
		if meantGone != (err == nil) || otherGone != errors.Is(err, ErrWrongDeleted) {
			t.Fatalf("%v, but gone are: %v, and the other: %v", err, meantGone, otherGone)
		}
		if otherGone {
			wrong++
		}
		_ = DeleteSubvolume(top, "x")
		_ = DeleteSubvolume(top, "y")
	}
	t.Logf("%d deleted, %d of them wrong", times, wrong)
}
