package btrfs

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

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
	for _, c := range changes(t) {
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
