package btrfs

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func isUntouched(t testing.TB, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	ok, err := Untouched(f)
	must(t, err)
	return ok
}

// received makes a snapshot that was received by btrfs receive, with data that
// came to the disk after the received UUID, as an increment on another one.
func received(t testing.TB, bench *btrfstest.FS) string {
	t.Helper()
	bench.Subvolume("live")
	bench.Subvolume("to")
	data := make([]byte, 4<<20)
	fill := func(name string) {
		rng := rand.New(rand.NewPCG(uint64(len(name)), 1))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		must(t, os.WriteFile(bench.Path("live/"+name), data, 0o644))
	}
	fill("old")
	must(t, os.Mkdir(bench.Path("live/dir"), 0o755))
	write(t, bench.Path("live/small"), "small")
	write(t, bench.Path("live/victim"), "victim")
	bench.Snapshot("live", "one", true)
	bench.MustReceive("to", "one", bench.Send("one"))
	time.Sleep(10 * time.Millisecond)
	fill("new data")
	write(t, bench.Path("live/old"), "changed")
	bench.Snapshot("live", "two", true)
	path := bench.MustReceive("to", "two", bench.Send("two", "-p", bench.Path("one")))
	bench.Sync()
	s := info(t, path)
	if s.Ctransid <= s.Rtransid {
		t.Logf("the receiver left nothing for later: ctransid %d, rtransid %d", s.Ctransid, s.Rtransid)
	}
	return path
}

func TestUntouchedAfterReceive(t *testing.T) {
	bench := btrfstest.New(t)
	path := received(t, bench)
	if s := info(t, path); s.Ctransid <= s.Rtransid {
		t.Errorf("this test is about data that come later, but ctransid is %d and rtransid %d", s.Ctransid, s.Rtransid)
	}
	if !isUntouched(t, path) {
		t.Error("touched by late data")
	}
	bench.Snapshot("to/two", "again", true)
	bench.Snapshot("to/two", "writable", false)
	bench.Sync()
	if !isUntouched(t, path) {
		t.Error("touched by being snapshotted")
	}
	if !isUntouched(t, bench.Path("again")) {
		t.Error("its read-only snapshot is touched")
	}
	if isUntouched(t, bench.Path("writable")) {
		t.Error("its writable snapshot is untouched, although it is not received")
	}
	if isUntouched(t, bench.Path("one")) {
		t.Error("the source is untouched, although it is not received")
	}
	command(t, "btrfs", "balance", "start", "--full-balance", bench.Dir)
	if !isUntouched(t, path) {
		t.Error("touched by a balance")
	}
	must(t, os.Rename(path, path+" renamed"))
	path += " renamed"
	bench.Sync()
	if !isUntouched(t, path) {
		t.Error("touched by being renamed")
	}
	sub, err := os.Open(path)
	must(t, err)
	must(t, SetReadOnly(sub, false))
	must(t, SetReadOnly(sub, true))
	sub.Close()
	if !isUntouched(t, path) {
		t.Error("touched by being writable for a moment")
	}
	bench.Remount()
	path = bench.Path("to/two renamed")
	if !isUntouched(t, path) {
		t.Error("touched by a remount")
	}
}

func TestUntouchedSeesChanges(t *testing.T) {
	bench := btrfstest.New(t)
	path := received(t, bench)
	// Every change gets a fresh snapshot, which keeps the received UUID.
	past := unix.NsecToTimeval(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	for _, c := range []struct {
		name   string
		change func(dir string) error
	}{
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
	} {
		t.Run(c.name, func(t *testing.T) {
			own := bench.Snapshot(path, "own", true)
			defer bench.Delete("own")
			sub := opened(t, own)
			must(t, SetReadOnly(sub, false))
			must(t, c.change(own))
			must(t, SetReadOnly(sub, true))
			if isUntouched(t, own) {
				t.Error("seen as untouched at once")
			}
			bench.Sync()
			if isUntouched(t, own) {
				s := info(t, own)
				t.Errorf("seen as untouched: ctransid %d, rtransid %d", s.Ctransid, s.Rtransid)
			}
			if c.name == "subvolume within" {
				must(t, SetReadOnly(sub, false))
				must(t, DeleteSubvolume(sub, "fresh"))
			}
		})
	}
}

// A receiver that synchronises first leaves nothing to look for.
func TestUntouchedAfterSync(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("sub")
	write(t, bench.Path("sub/file"), "content")
	sub := opened(t, bench.Path("sub"))
	must(t, Sync(sub))
	_, err := SetReceived(sub, UUID{1}, 5)
	must(t, err)
	must(t, SetReadOnly(sub, true))
	bench.Sync()
	if s := info(t, bench.Path("sub")); s.Ctransid > s.Rtransid || !isUntouched(t, bench.Path("sub")) {
		t.Errorf("touched: %+v", s)
	}
}

func TestReceivedAt(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	for _, c := range []struct {
		ctime, otime, rtime int64
		want                bool
	}{
		{150, 100, 200, true},
		{100, 100, 200, true},
		{200, 100, 200, true},
		{201, 100, 200, false},
		{99, 100, 200, false}, // the clock was set back
		{150, 300, 200, true}, // a snapshot of the received one
		{201, 300, 200, false},
	} {
		if got := receivedAt(at(c.ctime), Subvolume{Otime: at(c.otime), Rtime: at(c.rtime)}); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
