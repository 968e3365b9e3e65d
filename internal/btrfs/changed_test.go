package btrfs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// change is one that people can see.
type change struct {
	name   string
	change func(dir string) error
}

// changes are some of each kind, in a directory that has the files "small", "old",
// "victim" and "new data", of 4 MiB, and the directory "dir".
func changes(t testing.TB) []change {
	past := unix.NsecToTimeval(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return []change{
		{"write", func(dir string) error {
			f, err := os.OpenFile(dir+"/small", os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("S")
			return err
		}},
		{"write into what came late", func(dir string) error {
			f, err := os.OpenFile(dir+"/new data", os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("S"), 1<<20)
			return err
		}},
		{"direct write", func(dir string) error {
			f, err := os.OpenFile(dir+"/new data", os.O_WRONLY|unix.O_DIRECT, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			defer unix.Munmap(page)
			_, err = f.WriteAt(page, 0)
			return err
		}},
		{"mmap", func(dir string) error {
			f, err := os.OpenFile(dir+"/new data", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			m[7] ^= 1
			return unix.Munmap(m)
		}},
		{"truncate", func(dir string) error { return os.Truncate(dir+"/old", 1) }},
		{"punch a hole", func(dir string) error {
			f, err := os.OpenFile(dir+"/new data", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		}},
		{"reflink", func(dir string) error {
			from, err := os.Open(dir + "/new data")
			if err != nil {
				return err
			}
			defer from.Close()
			to, err := os.OpenFile(dir+"/small", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer to.Close()
			return unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
		}},
		{"create", func(dir string) error { return os.WriteFile(dir+"/fresh", nil, 0o644) }},
		{"mkdir", func(dir string) error { return os.Mkdir(dir+"/fresh", 0o755) }},
		{"subvolume within", func(dir string) error { return CreateSubvolume(opened(t, dir), "fresh") }},
		{"chmod", func(dir string) error { return os.Chmod(dir+"/small", 0o600) }},
		{"chmod of the root", func(dir string) error { return os.Chmod(dir, 0o700) }},
		{"chown", func(dir string) error { return os.Chown(dir+"/dir", 1, 1) }},
		{"rename", func(dir string) error { return os.Rename(dir+"/small", dir+"/dir/large") }},
		{"exchange", func(dir string) error {
			return unix.Renameat2(unix.AT_FDCWD, dir+"/small", unix.AT_FDCWD, dir+"/victim", unix.RENAME_EXCHANGE)
		}},
		{"link", func(dir string) error { return os.Link(dir+"/small", dir+"/dir/link") }},
		{"unlink", func(dir string) error { return os.Remove(dir + "/victim") }},
		{"rmdir", func(dir string) error { return os.Remove(dir + "/dir") }},
		{"setxattr", func(dir string) error { return unix.Setxattr(dir+"/small", "user.x", []byte("y"), 0) }},
		{"property", func(dir string) error { return unix.Setxattr(dir+"/dir", "btrfs.compression", []byte("zstd"), 0) }},
		{"utimes into the past", func(dir string) error {
			if err := os.WriteFile(dir+"/small", []byte("other"), 0o644); err != nil {
				return err
			}
			return unix.Utimes(dir+"/small", []unix.Timeval{past, past})
		}},
		{"encoded write", func(dir string) error {
			f, err := os.OpenFile(dir+"/small", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			// A zstd frame of 4096 zeros.
			frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x03, 0x80, 0x00, 0x00}
			return EncodedWrite(int(f.Fd()), frame, EncodedExtent{FileLen: 4096, UnencodedLen: 4096, Compression: 2})
		}},
	}
}

func hasChanged(t testing.TB, origin, snapshot string, u Unwatched) bool {
	t.Helper()
	from, err := os.Open(origin)
	must(t, err)
	defer from.Close()
	to, err := os.Open(snapshot)
	must(t, err)
	defer to.Close()
	changed, err := ChangedSince(from, to, u)
	must(t, err)
	return changed
}

// noted watches neither a directory nor the file ".note" in it.
func noted(dir string) Unwatched {
	return Unwatched{
		Dir:  func(path string) (bool, error) { return path == dir, nil },
		File: func(name string) bool { return name == ".note" },
	}
}

// living makes a subvolume that has what changes asks for.
func living(t testing.TB, bench *btrfstest.FS) string {
	t.Helper()
	live := bench.Subvolume("live")
	must(t, os.Mkdir(live+"/dir", 0o755))
	for name, content := range map[string]string{"small": "small", "old": "old", "victim": "victim"} {
		write(t, filepath.Join(live, name), content)
	}
	must(t, os.WriteFile(live+"/new data", make([]byte, 4<<20), 0o644))
	return live
}

func TestChangedSinceSeesChanges(t *testing.T) {
	bench := btrfstest.New(t)
	origin := living(t, bench)
	for _, c := range append(changes(t),
		change{"hole at the end", func(dir string) error { return os.Truncate(dir+"/small", 1<<20) }},
		change{"preallocation", func(dir string) error { return unix.Fallocate(int(writable(t, dir+"/old").Fd()), 0, 0, 8192) }},
		change{"the same again", func(dir string) error { return os.WriteFile(dir+"/small", []byte("small"), 0o644) }},
		change{"flags", func(dir string) error {
			const nodump = 0x40
			return unix.IoctlSetPointerInt(int(opened(t, dir+"/small").Fd()), unix.FS_IOC_SETFLAGS, nodump)
		}},
		change{"note of another directory", func(dir string) error { return os.WriteFile(dir+"/dir/.note", nil, 0o644) }},
	) {
		t.Run(c.name, func(t *testing.T) {
			// Each change is made in what is as the others have found it.
			own := bench.Snapshot(origin, "own", false)
			defer bench.Delete("own")
			snap := bench.Snapshot(own, "snap", true)
			defer bench.Delete("snap")
			u := noted("snapshot")
			if hasChanged(t, own, snap, u) {
				t.Fatal("changed before anything was")
			}
			must(t, c.change(own))
			if !hasChanged(t, own, snap, u) {
				t.Error("it has gone unseen")
			}
			bench.Sync()
			if !hasChanged(t, own, snap, u) {
				t.Error("it has gone unseen once it is on the disk")
			}
			if c.name == "subvolume within" {
				bench.Delete("own/fresh")
			}
		})
	}
}

func writable(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestChangedSinceNothing(t *testing.T) {
	bench := btrfstest.New(t)
	origin := living(t, bench)
	must(t, os.Mkdir(origin+"/snapshot", 0o755))
	must(t, os.WriteFile(origin+"/snapshot/stranger", nil, 0o644))
	bench.Subvolume("live/inner")
	u := noted("snapshot")
	bench.Snapshot(origin, "live/snapshot/first", true)
	time.Sleep(1100 * time.Millisecond) // what was written before is older than the snapshot, by the clock of files
	snap := bench.Snapshot(origin, "live/snapshot/second", true)
	for _, c := range []change{
		{"nothing", func(string) error { return nil }},
		{"reading", func(dir string) error {
			_, err := os.ReadFile(dir + "/small")
			return err
		}},
		{"time of reading", func(dir string) error {
			var st unix.Stat_t
			if err := unix.Stat(dir+"/old", &st); err != nil {
				return err
			}
			bench.Remount("strictatime")
			_, err := os.ReadFile(dir + "/old")
			if err != nil {
				return err
			}
			before := st.Atim
			if err := unix.Stat(dir+"/old", &st); err != nil {
				return err
			}
			if before == st.Atim {
				t.Error("the time of reading is the same: this tests nothing")
			}
			return nil
		}},
		{"one more snapshot", func(string) error {
			bench.Snapshot(origin, "live/snapshot/third", true)
			return nil
		}},
		{"an older snapshot pruned", func(string) error {
			bench.Delete("live/snapshot/first")
			return nil
		}},
		{"a note", func(dir string) error { return os.WriteFile(dir+"/snapshot/.note", []byte("n"), 0o644) }},
		{"a note removed", func(dir string) error { return os.Remove(dir + "/snapshot/.note") }},
		{"another subvolume", func(dir string) error { return os.WriteFile(dir+"/inner/file", nil, 0o644) }},
		{"remount", func(string) error {
			bench.Remount()
			return nil
		}},
		{"balance", func(string) error {
			command(t, "btrfs", "balance", "start", "--full-balance", bench.Dir)
			return nil
		}},
	} {
		must(t, c.change(origin))
		if hasChanged(t, origin, snap, u) {
			t.Fatalf("%s: counts as a change", c.name)
		}
	}
	bench.Snapshot(origin, "live/snapshot/fourth", true)
	if !hasChanged(t, origin, bench.Path("live/inner"), u) || !hasChanged(t, origin, origin, u) {
		t.Error("what is no snapshot of it is the same")
	}
	// What lies in the directory counts but for the notes.
	for _, c := range []change{
		{"a file among the snapshots", func(dir string) error { return os.WriteFile(dir+"/snapshot/stranger", []byte("!"), 0o644) }},
		{"a note with a second name", func(dir string) error {
			if err := os.WriteFile(dir+"/snapshot/.note", []byte("n"), 0o644); err != nil {
				return err
			}
			return os.Link(dir+"/snapshot/.note", dir+"/mine")
		}},
	} {
		snap := bench.Snapshot(origin, "live/snapshot/"+c.name, true)
		must(t, c.change(origin))
		if !hasChanged(t, origin, snap, u) {
			t.Errorf("%s: goes unseen", c.name)
		}
	}
}

// TestChangedSinceSoon asserts that what is changed within the tick of the clock in
// which the snapshot was made is no less a change, and that what was changed just
// before it is no proof of anything.
func TestChangedSinceSoon(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Remount("strictatime")
	origin := living(t, bench)
	soon := 0
	for i := range 10 {
		must(t, os.WriteFile(origin+"/small", []byte{byte(i)}, 0o644))
		snap := bench.Snapshot(origin, "soon", true)
		var st unix.Stat_t
		must(t, unix.Stat(origin+"/small", &st))
		if made := info(t, snap).Otime; made.Sub(time.Unix(st.Ctim.Unix())) < time.Second { // not on a very slow machine
			soon++
			_, err := os.ReadFile(origin + "/small")
			must(t, err)
			if !hasChanged(t, origin, snap, Unwatched{}) {
				t.Errorf("%d: the clock was believed", i)
			}
		}
		must(t, os.WriteFile(origin+"/small", []byte{byte(i + 100)}, 0o644))
		if !hasChanged(t, origin, snap, Unwatched{}) {
			t.Errorf("change %d goes unseen", i)
		}
		bench.Delete("soon")
	}
	if soon == 0 {
		t.Error("no snapshot was made soon after a change: this tests nothing")
	}
}
