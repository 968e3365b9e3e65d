package endurance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestFull runs out of space in the middle. What is whole stays, and after some
// space has been freed the next run completes the rest.
func TestFull(t *testing.T) {
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(256<<20)))
	s.family("a", 6, 8<<20)
	fill(t, s.dst, "filler", 40<<20)
	r := s.sync()
	if code := r.wait(); code != partly && code != failed {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	r.says("no space left on device")
	if n := s.whole(); n == len(s.wanted) {
		t.Error("everything had room; the test is of no use")
	} else {
		t.Logf("%d of %d had room", n, len(s.wanted))
	}
	s.clean()
	if err := os.Remove(s.dst.Path("filler")); err != nil {
		t.Fatal(err)
	}
	s.dst.Sync()
	s.finish()
}

// fill writes a file that leaves only so many bytes free.
func fill(t *testing.T, fs *btrfstest.FS, name string, leave int64) {
	t.Helper()
	f, err := os.Create(fs.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	written := int64(0)
	for ; err == nil; _, err = f.Write(block) {
		written += int64(len(block))
	}
	if err := f.Truncate(max(0, written-leave)); err != nil {
		t.Fatal(err)
	}
	fs.Sync()
}

// TestUnreadableSector: a sector of the source cannot be read. The snapshot it
// belongs to is named and not published, the others are sent.
func TestUnreadableSector(t *testing.T) {
	s := newScene(t, btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	s.family("a", 2, 1<<20)
	live := s.src.Subvolume("live-b")
	var bad []byte
	for i := range 3 {
		block := make([]byte, 3<<20)
		_, _ = rand.NewChaCha8([32]byte{0xbd, byte(i)}).Read(block)
		if err := os.WriteFile(live+"/file", block, 0o644); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			bad = block[1<<20:][:4096]
		}
		s.snapshot(live, fmt.Sprintf("b%d", i))
	}
	s.src.Remount() // nothing is in memory any more
	s.src.Disks[0].Bad(s.src.Locate(bad), 4096)
	r := s.sync()
	if code := r.wait(); code != partly {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	r.says("b1: ", "input/output error")
	if n := s.whole(); n != 4 || s.seen["b1"] {
		t.Errorf("%d snapshots are at the destination:\n%s", n, r.story())
	}
	s.clean()
	s.src.Disks[0].Heal()
	s.finish()
}

// TestSourceDies: from some moment on nothing of the source can be read.
func TestSourceDies(t *testing.T) {
	s := newScene(t, btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	s.family("a", 4, 6<<20)
	for _, after := range []int64{0, 2 << 20, 10 << 20, 6 << 20} {
		s.src.Remount()
		s.src.Disks[0].FailReads(after)
		r := s.sync()
		code := r.wait()
		n := s.whole()
		t.Logf("after %d bytes: code %d, %d whole", after, code, n)
		if code != failed && code != partly {
			t.Errorf("it ends with %d:\n%s", code, r.story())
		}
		r.says("input/output error")
		s.src.Disks[0].Heal()
		s.clean()
	}
	s.src.Remount()
	s.finish()
}

// TestDestinationDies: from some moment on the destination cannot be written, so
// that the kernel makes it read-only. What was reported as committed is there
// when the disk is well again.
func TestDestinationDies(t *testing.T) {
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)))
	s.family("a", 5, 4<<20)
	s.dst.Sync()
	for _, after := range []int64{0, 1 << 20, 10 << 20, 6 << 20} {
		s.dst.Disks[0].FailWrites(after)
		r := s.sync()
		code := r.wait()
		if code != failed && code != partly {
			t.Errorf("after %d bytes it ends with %d:\n%s", after, code, r.story())
		}
		if text := r.err.String(); !strings.Contains(text, "input/output error") && !strings.Contains(text, "read-only file system") {
			t.Errorf("the cause is not named:\n%s", text)
		}
		s.dst.PowerOff(0)
		s.dst.PowerOn()
		clear(s.seen)
		n := s.whole()
		for _, path := range r.committed() {
			if !s.seen[path] {
				t.Errorf("%s was reported as committed, and is gone", path)
			}
		}
		t.Logf("after %d bytes: code %d, %d whole", after, code, n)
	}
	s.finish()
}

// TestDestinationUnreadable: from some moment on nothing of the destination can
// be read, while it can be written.
func TestDestinationUnreadable(t *testing.T) {
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)))
	s.family("a", 2, 4<<20)
	s.finish()
	s.family("b", 3, 1<<20)
	s.snapshot("live-a", "a2")
	s.dst.Remount()
	s.dst.Disks[0].FailReads(0)
	r := s.sync()
	code := r.wait()
	t.Logf("code %d", code)
	s.dst.Disks[0].Heal()
	s.dst.Remount()
	n := s.whole()
	if code == done && n != len(s.wanted) {
		t.Errorf("a false success:\n%s", r.story())
	}
	if code != done {
		r.says("input/output error")
	}
	s.finish()
}

// TestSlowDisks: neither a pause of seconds nor a disk that takes its time for
// every request ends a transfer that is well otherwise.
func TestSlowDisks(t *testing.T) {
	s := newScene(t,
		btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)))
	s.family("a", 2, 30<<20)
	s.src.Remount()
	s.src.Disks[0].Delay(2 * time.Millisecond)
	s.dst.Disks[0].Delay(time.Millisecond)
	r := s.sync()
	if !r.await(`"event":"step-begun"`, 1) {
		t.Fatalf("it ends before it begins:\n%s", r.story())
	}
	for _, disk := range []*btrfstest.Disk{s.src.Disks[0], s.dst.Disks[0]} {
		disk.Pause()
		time.Sleep(3 * time.Second)
		disk.Heal()
	}
	if code := r.wait(); code != done || strings.Contains(r.out.String(), `"event":"retry"`) {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	s.complete()
}
