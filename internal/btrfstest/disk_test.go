package btrfstest_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestMain(m *testing.M) {
	btrfstest.ServeDisks()
	os.Exit(m.Run())
}

// writeSynced writes a file and waits until it is on the disk.
func writeSynced(path string, content []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// syncfs writes out all of a file system.
func syncfs(t *testing.T, dir string) error {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// TestHealthyDisk: a tree on a healthy Disk is the tree that is anywhere else.
func TestHealthyDisk(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Faulty(), btrfstest.Devices(2), btrfstest.Size(256<<20))
	plain := btrfstest.New(t, btrfstest.Size(256<<20))
	var digests []string
	for _, f := range []*btrfstest.FS{fs, plain} {
		btrfstest.NewTree(t, f.Subvolume("tree"), 5).Fill()
		f.Remount()
		digests = append(digests, btrfstest.Digest(t, f.Path("tree")))
	}
	if digests[0] != digests[1] {
		t.Error("the trees differ")
	}
	if reads, writes := fs.Disks[1].Requests(); reads == 0 || writes == 0 {
		t.Errorf("the second disk has had %d reads and %d writes", reads, writes)
	}
}

// TestFailingDisk: writes fail after as many bytes as was said, the file system
// becomes read-only, and after Heal all that was written before is there.
func TestFailingDisk(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Faulty())
	if err := writeSynced(fs.Path("before"), []byte("before")); err != nil {
		t.Fatal(err)
	}
	fs.Disks[0].FailWrites(1 << 20)
	if err := writeSynced(fs.Path("after"), make([]byte, 4<<20)); !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing to the failed disk: %v", err)
	}
	fs.Disks[0].FailWrites(0)
	if err := syncfs(t, fs.Dir); err == nil {
		t.Error("all that was written is on the disk")
	}
	if !strings.HasSuffix(mounted(t, fs.Dir), ",ro") && !strings.Contains(mounted(t, fs.Dir), ",ro,") {
		t.Errorf("the file system is not read-only: %s", mounted(t, fs.Dir))
	}
	fs.Unmount()
	fs.Disks[0].Heal()
	fs.Mount()
	if b, err := os.ReadFile(fs.Path("before")); err != nil || string(b) != "before" {
		t.Errorf("%q, %v", b, err)
	}
	if err := writeSynced(fs.Path("healed"), []byte("healed")); err != nil {
		t.Error(err)
	}
}

// TestUnreadableDisk: reads fail where they are to, and only there.
func TestUnreadableDisk(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Faulty())
	marker := bytes.Repeat([]byte("an unreadable place; "), 900)
	if err := errors.Join(writeSynced(fs.Path("bad"), marker), writeSynced(fs.Path("good"), make([]byte, 100_000))); err != nil {
		t.Fatal(err)
	}
	fs.Unmount()
	fs.Disks[0].Bad(fs.Locate(marker[:4096]), 4096)
	fs.Mount()
	if _, err := os.ReadFile(fs.Path("bad")); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading the bad file: %v", err)
	}
	if _, err := os.ReadFile(fs.Path("good")); err != nil {
		t.Error(err)
	}
	fs.Disks[0].FailReads(0)
	if _, err := os.ReadFile(fs.Path("bad")); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading with no reads left: %v", err)
	}
}

// TestPowerOff: what was flushed survives, what was only written does not.
func TestPowerOff(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Faulty(), btrfstest.MountOptions("noatime,commit=300"))
	fs.Disks[0].Cached()
	for seed := range uint64(3) {
		kept, lost := fs.Path("kept"+string('0'+rune(seed))), fs.Path("lost"+string('0'+rune(seed)))
		if err := writeSynced(kept, []byte("kept")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(lost, bytes.Repeat([]byte("lost"), 1<<18), 0o644); err != nil {
			t.Fatal(err)
		}
		fs.PowerOff(seed)
		fs.PowerOn()
		if b, err := os.ReadFile(kept); err != nil || string(b) != "kept" {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := os.Stat(lost); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it was never synced, and still: %v", err)
		}
	}
}

// TestSlowDisk: a paused disk makes who reads wait, and lets them go on.
func TestSlowDisk(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Faulty())
	if err := writeSynced(fs.Path("file"), bytes.Repeat([]byte("slow"), 1000)); err != nil {
		t.Fatal(err)
	}
	fs.Remount()
	fs.Disks[0].Delay(time.Millisecond)
	fs.Disks[0].Pause()
	read := make(chan error)
	go func() {
		b, err := os.ReadFile(fs.Path("file"))
		if err == nil && !strings.HasPrefix(string(b), "slow") {
			err = errors.New("another content")
		}
		read <- err
	}()
	select {
	case err := <-read:
		t.Errorf("it does not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	fs.Disks[0].Heal()
	if err := <-read; err != nil {
		t.Error(err)
	}
}
