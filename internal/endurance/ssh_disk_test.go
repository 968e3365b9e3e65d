package endurance

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// remotely makes a remote scene on two file systems.
func remotely(t *testing.T, src, dst *btrfstest.FS) *remote {
	t.Helper()
	return reached(t, newScene(t, src, dst))
}

// finish syncs again, which has to complete what was begun.
func (m *remote) finish(d direction) {
	m.t.Helper()
	d.sync(m).fine()
	m.complete()
	m.deserted()
}

// TestSSHFull runs out of space on the far disk. What is whole stays, the cause
// is named, and after some space has been freed the next run completes the rest.
func TestSSHFull(t *testing.T) {
	t.Parallel()
	m := remotely(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(256<<20)))
	m.family("a", 6, 8<<20)
	fill(t, m.dst, "filler", 40<<20)
	r := m.push()
	r.unsuccessful("no space left on device")
	if n := m.whole(); n == len(m.wanted) {
		t.Error("everything had room; the test is of no use")
	}
	m.clean()
	if err := os.Remove(m.dst.Path("filler")); err != nil {
		t.Fatal(err)
	}
	m.dst.Sync()
	m.finish(pushing)
}

// TestSSHFarDiskDies: from some moment on the far disk cannot be written. What
// was reported as committed is there when it is well again.
func TestSSHFarDiskDies(t *testing.T) {
	t.Parallel()
	m := remotely(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)))
	m.family("a", 4, 4<<20)
	m.dst.Sync()
	for _, after := range []int64{0, 3 << 20, 10 << 20} {
		m.dst.Disks[0].FailWrites(after)
		r := m.push()
		if code := r.wait(); code != failed && code != partly {
			t.Errorf("after %d bytes it ends with %d:\n%s", after, code, r.story())
		}
		if text := r.err.String(); !strings.Contains(text, "input/output error") && !strings.Contains(text, "read-only file system") {
			t.Errorf("the cause is not named:\n%s", text)
		}
		m.deserted()
		m.dst.PowerOff(uint64(after))
		m.dst.PowerOn()
		clear(m.seen)
		m.whole()
		for _, path := range r.committed() {
			if !m.seen[path] {
				t.Errorf("%s was reported as committed, and is gone", path)
			}
		}
	}
	m.finish(pushing)
}

// TestSSHFarSourceDies: from some moment on the far source cannot be read.
func TestSSHFarSourceDies(t *testing.T) {
	t.Parallel()
	m := remotely(t, btrfstest.New(t, btrfstest.Faulty(), btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	m.family("a", 3, 6<<20)
	for _, after := range []int64{0, 9 << 20} {
		m.src.Remount()
		m.src.Disks[0].FailReads(after)
		m.pull().unsuccessful("input/output error")
		m.src.Disks[0].Heal()
		m.whole()
		m.clean()
		m.deserted()
	}
	m.src.Remount()
	m.finish(pulling)
}

// TestSSHFarPowerCut cuts the power of the far machine in the middle: its disk
// loses what was not flushed, nobody answers, and when it is back the next try or
// the next run carries on.
func TestSSHFarPowerCut(t *testing.T) {
	t.Parallel()
	m := reached(t, powered(t, 2, 16<<20))
	for _, back := range []time.Duration{0, 2 * time.Second} {
		r := m.push(often)
		m.checkpointed(r, 4)
		m.dst.PowerOff(uint64(back) + 1)
		m.server.Kill()
		m.dst.PowerOn()
		m.whole()
		held, begun := m.held(), r.starts()
		time.Sleep(back)
		m.server.Restart()
		if code := r.wait(); code != done {
			r = m.push(often).fine()
		}
		// What has failed for too long is planned anew: the other snapshot may have gone
		// over in full meanwhile, and this one then starts from there.
		for path, from := range r.starts() {
			if _, was := held[path]; was && from != begun[path] {
				t.Logf("%s starts from %q now, and not from %q", path, from, begun[path])
				delete(held, path)
			}
		}
		r.carriesOn(held)
		m.complete()
		m.deserted()
		m.empty()
		m.dst.Sync()
	}
}

// TestSSHFarReadOnly is mounted read-only at the far side: nothing is changed,
// and it can be read.
func TestSSHFarReadOnly(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 2, 300_000)
	if err := unix.Mount("", m.dst.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	m.push().fails(conflict, "read-only mount")
	if err := unix.Mount("", m.dst.Dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	m.clean()
	if err := unix.Mount("", m.src.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	m.finish(pulling)
}

// TestSSHFarDirectoryRemoved removes the far directory, with what is unfinished
// in it, while it is written to.
func TestSSHFarDirectoryRemoved(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 2, 48<<20)
	r := m.push()
	m.sending(r, 1)
	for {
		for _, path := range m.dst.Subvolumes() {
			_ = exec.Command("btrfs", "subvolume", "delete", m.dst.Path(path)).Run()
		}
		if err := os.Remove(m.dst.Path("snaps")); err == nil {
			break
		}
		if r.gone() {
			t.Fatalf("it cannot be removed:\n%s", r.story())
		}
	}
	r.unsuccessful("a0: ")
	m.deserted()
	if left := m.dst.Subvolumes(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := os.Mkdir(m.dst.Path("snaps"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.finish(pushing)
}

// TestSSHWrongPlace: a far directory that is not there, or is no btrfs, is named
// with its machine, and nothing is made.
func TestSSHWrongPlace(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 1, 0)
	elsewhere := t.TempDir()
	for _, test := range []struct {
		name, dir string
		says      []string
	}{
		{"missing", m.dst.Path("no/such/place") + "/", []string{"no/such/place"}},
		{"no btrfs", elsewhere + "/", []string{elsewhere, "btrfs"}},
		{"a file", m.src.Path("live-a/file") + "/", []string{"live-a/file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(m.src.Path("live-a/file"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			m.run("sync", "--json", m.from(), m.url(test.dir)).fails(failed, append(test.says, "127.0.0.1")...)
			m.run("list", m.url(test.dir)).fails(failed, append(test.says, "127.0.0.1")...)
		})
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
		t.Errorf("these were made: %v, %v", left, err)
	}
	m.clean()
}
