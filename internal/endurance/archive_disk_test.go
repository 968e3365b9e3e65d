package endurance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A mounted depot is an archive in a directory of a file system that things
// happen to.
type mountedDepot struct {
	*depot
	fs *btrfstest.FS
}

// onDisk makes an empty archive on a file system.
func onDisk(t *testing.T, fs *btrfstest.FS) mountedDepot {
	t.Helper()
	path := fs.Path("archive")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	d := mountedDepot{dirDepot(t, path), fs}
	fs.Sync()
	return d
}

// completes stores again, which has to work now, and restores everything.
func (d mountedDepot) completes(s *scene) {
	d.t.Helper()
	s.store(d.depot).fine()
	d.sound(s)
	s.restore(d.depot).fine()
	s.complete()
}

// unsuccessful fails the test unless a run ends as one that has failed.
func (r *run) unsuccessful(says ...string) {
	r.t.Helper()
	if code := r.wait(); code != failed && code != partly {
		r.t.Errorf("%q ends with %d:\n%s", r.cmd.Args[1:], code, r.story())
	}
	r.says(says...)
}

// TestArchiveFull has no room for everything. What is stored is whole, and
// after some room has been made the next run completes the rest.
func TestArchiveFull(t *testing.T) {
	t.Parallel()
	d := onDisk(t, btrfstest.New(t, btrfstest.Size(256<<20)))
	s := pair(t, 5, 8<<20)
	fill(t, d.fs, "filler", 24<<20)
	s.store(d.depot).unsuccessful("no space left on device")
	objects := d.objects()
	if len(objects) == len(s.wanted) {
		t.Error("everything had room; the test is of no use")
	}
	for _, o := range objects {
		if d.has(o.key + ".json") {
			d.described(o)
		}
	}
	if err := os.Remove(d.fs.Path("filler")); err != nil {
		t.Fatal(err)
	}
	d.fs.Sync()
	d.completes(s)
}

// TestArchiveReadOnly is mounted read-only. Nothing can be stored, and
// everything can be restored.
func TestArchiveReadOnly(t *testing.T) {
	t.Parallel()
	d := onDisk(t, btrfstest.New(t))
	s := pair(t, 1, 300_000)
	s.store(d.depot).fine()
	s.snapshot("live-a", "a1")
	if err := unix.Mount("", d.fs.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s.store(d.depot).unsuccessful("read-only file system")
	d.run("list", d.url).fine()
	d.run("verify", "--data", d.url).fine()
	s.restoreTo(d.depot, "a0", s.to()).fine()
	if err := unix.Mount("", d.fs.Dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	d.completes(s)
}

// TestArchiveNotInitialised: a directory is no archive before it has been made
// one, so that a slip of the pen fills no file system.
func TestArchiveNotInitialised(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := &depot{t: t, url: "dir://" + root + "/", bucket: dirBucket{t, root}}
	s := pair(t, 1, 0)
	s.store(d).unsuccessful("buttersink init")
	if left, _ := filepath.Glob(root + "/*"); len(left) > 0 {
		t.Errorf("these were made: %q", left)
	}
	d.run("init", d.url).fine()
	s.store(d).fine()
	d.sound(s)
}

// TestArchiveUnmounted: the mount point of a disk that is not there is an empty
// directory, and stays one.
func TestArchiveUnmounted(t *testing.T) {
	t.Parallel()
	fs := btrfstest.New(t)
	d := mountedDepot{dirDepot(t, fs.Dir), fs}
	s := pair(t, 2, 300_000)
	s.store(d.depot).fine()
	fs.Unmount()
	s.snapshot("live-a", "a2")
	s.store(d.depot).unsuccessful("buttersink init")
	if left, err := os.ReadDir(fs.Dir); err != nil || len(left) > 0 {
		t.Errorf("the mount point has %q, %v", left, err)
	}
	if r := d.run("list", d.url); r.wait() == done && strings.Contains(r.out.String(), s.wanted["a0"].uuid) {
		t.Errorf("it lists what is not there:\n%s", r.story())
	}
	fs.Mount()
	s.store(d.depot).fine()
	d.sound(s)
	s.restore(d.depot).fine()
	s.complete()
}

// TestArchiveDiskDies takes the disk away after so many bytes. No run that this
// happens to is a success, what was reported as committed is there when the disk
// is back, and the next run completes the rest.
func TestArchiveDiskDies(t *testing.T) {
	t.Parallel()
	d := onDisk(t, btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)))
	s := pair(t, 4, 8<<20)
	for _, after := range []int64{0, 3 << 20, 12 << 20} {
		d.fs.Disks[0].FailWrites(after)
		r := s.store(d.depot)
		code := r.wait()
		if code != failed && code != partly {
			t.Errorf("after %d bytes it ends with %d:\n%s", after, code, r.story())
		}
		if text := r.err.String(); !strings.Contains(text, "input/output error") && !strings.Contains(text, "read-only file system") {
			t.Errorf("the cause is not named:\n%s", text)
		}
		d.fs.PowerOff(uint64(after))
		d.fs.PowerOn()
		there := map[string]bool{}
		for _, o := range d.objects() {
			there[o.path] = true
			if d.has(o.key + ".json") {
				d.described(o)
			}
		}
		for _, path := range r.committed() {
			if !there[path] {
				t.Errorf("%s was reported as committed, and is gone", path)
			}
		}
		t.Logf("after %d bytes: code %d, %d there", after, code, len(there))
	}
	d.completes(s)
}

// TestArchiveDiskVanishes takes the archive's disk away while it is restored
// from.
func TestArchiveDiskVanishes(t *testing.T) {
	t.Parallel()
	d := onDisk(t, btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)))
	s := pair(t, 3, 8<<20)
	s.store(d.depot).fine()
	d.fs.Remount() // nothing of it is in memory any more
	d.fs.Disks[0].FailReads(12 << 20)
	s.restore(d.depot).unsuccessful("input/output error")
	d.fs.Disks[0].Heal()
	s.whole()
	s.restore(d.depot).fine()
	s.complete()
}
