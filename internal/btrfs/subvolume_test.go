package btrfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestMakeAndDelete(t *testing.T) {
	bench := btrfstest.New(t)
	top := opened(t, bench.Dir)
	must(t, CreateSubvolume(top, "live"))
	write(t, bench.Path("live/file"), "one")
	live := opened(t, bench.Path("live"))
	must(t, CreateSnapshot(top, "ro snap\n", live, true))
	must(t, CreateSnapshot(top, "rw", live, false))
	for path, want := range map[string]bool{"live": false, "ro snap\n": true, "rw": false} {
		if got, err := ReadOnly(opened(t, bench.Path(path))); got != want || err != nil {
			t.Errorf("%q is read-only: %v, %v", path, got, err)
		}
		if s := info(t, bench.Path(path)); s.ReadOnly != want {
			t.Errorf("%q: %+v", path, s)
		}
	}
	if data, err := os.ReadFile(bench.Path("ro snap\n/file")); string(data) != "one" || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
	if err := CreateSubvolume(top, "live"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("making what exists gives %v", err)
	}
	if err := CreateSnapshot(top, "rw", live, true); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a snapshot that exists gives %v", err)
	}
	if err := DeleteSubvolume(top, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleting nothing gives %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00b", strings.Repeat("x", 256)} {
		if err := CreateSubvolume(top, name); !errors.Is(err, errName) {
			t.Errorf("making %q gives %v", name, err)
		}
		if err := CreateSnapshot(top, name, live, true); !errors.Is(err, errName) {
			t.Errorf("making snapshot %q gives %v", name, err)
		}
		if err := DeleteSubvolume(top, name); !errors.Is(err, errName) {
			t.Errorf("deleting %q gives %v", name, err)
		}
	}
	longest := strings.Repeat("x", 255)
	must(t, CreateSubvolume(top, longest))
	must(t, CreateSubvolume(live, "in"))
	if err := DeleteSubvolume(top, "live"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("deleting what contains a subvolume gives %v", err)
	}
	must(t, DeleteSubvolume(live, "in"))
	for _, name := range []string{"live", "ro snap\n", "rw", longest} {
		if err := DeleteSubvolume(top, name); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(bench.Dir); len(entries) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestSetReceived(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("sub")
	sub := opened(t, bench.Path("sub"))
	uuid := UUID{1, 2, 3, 15: 4}
	before := time.Now().Add(-time.Second)
	rtransid, err := SetReceived(sub, uuid, 77)
	must(t, err)
	s := info(t, bench.Path("sub"))
	if s.ReceivedUUID != uuid || s.Stransid != 77 || s.Rtransid != rtransid || rtransid == 0 || s.Rtime.Before(before) {
		t.Errorf("got %+v, rtransid %d", s, rtransid)
	}
	must(t, SetReadOnly(sub, true))
	if _, err := SetReceived(sub, uuid, 78); !errors.Is(err, unix.EROFS) {
		t.Errorf("on a read-only one: %v", err)
	}
	generation := info(t, bench.Path("sub")).Generation
	must(t, SetReadOnly(sub, true))
	if got := info(t, bench.Path("sub")).Generation; got != generation {
		t.Errorf("making read-only what is read-only brought generation %d to %d", generation, got)
	}
	must(t, SetReadOnly(sub, false))
	if s := info(t, bench.Path("sub")); s.ReceivedUUID != uuid || s.ReadOnly {
		t.Errorf("writable again: %+v", s)
	}
	_, err = SetReceived(sub, UUID{}, 0)
	must(t, err)
	if s := info(t, bench.Path("sub")); !s.ReceivedUUID.IsZero() {
		t.Errorf("taken away: %+v", s)
	}
	must(t, Sync(sub))
}

func TestEncodedWrite(t *testing.T) {
	bench := btrfstest.New(t)
	want := []byte(strings.Repeat("all work and no play ", 128<<10/21+1))[:128<<10]
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(want)
	z.Close()
	path := bench.Path("file")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	e := EncodedExtent{Offset: 0, FileLen: 100_000, UnencodedLen: 128 << 10, UnencodedOffset: 4096, Compression: 1}
	must(t, EncodedWrite(int(f.Fd()), packed.Bytes(), e))
	f.Close()
	bench.Remount()
	got, err := os.ReadFile(path)
	if !bytes.Equal(got, want[4096:][:100_000]) || err != nil {
		t.Errorf("%d bytes of another content, %v", len(got), err)
	}
	e.Compression = 99
	g, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer g.Close()
	if err := EncodedWrite(int(g.Fd()), packed.Bytes(), e); !errors.Is(err, unix.EINVAL) {
		t.Errorf("an unknown compression gives %v", err)
	}
	if err := EncodedWrite(int(g.Fd()), nil, e); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no data give %v", err)
	}
}

// powerless runs do on a thread of root's that has no capabilities.
func powerless(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&header, &none[0])
		if err == nil {
			do()
		}
		done <- err
	}()
	must(t, <-done)
}

func TestMissingCapabilities(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	bench.Subvolume("foreign")
	must(t, os.Chown(bench.Path("foreign"), 65534, 65534))
	bench.Snapshot("live", "one", true)
	f := filesystem(t, bench.Dir)
	one, foreign := opened(t, bench.Path("one")), opened(t, bench.Path("foreign"))
	file, err := os.Create(bench.Path("file"))
	must(t, err)
	defer file.Close()
	id := info(t, bench.Path("one")).ID
	powerless(t, func() {
		for _, c := range []struct {
			name, capability string
			do               func() error
		}{
			{"Subvolumes", "CAP_SYS_ADMIN", func() error { _, err := f.Subvolumes(); return err }},
			{"ByUUID", "CAP_SYS_ADMIN", func() error { _, err := f.ByUUID(UUID{1}); return err }},
			{"Quota", "CAP_SYS_ADMIN", func() error { _, _, err := f.Quota(); return err }},
			{"Locate", "CAP_SYS_ADMIN", func() error { _, _, err := Locate(one); return err }},
			{"EstimateSend", "CAP_SYS_ADMIN", func() error { _, err := EstimateSend(t.Context(), one, nil); return err }},
			{"EncodedWrite", "CAP_SYS_ADMIN", func() error { return EncodedWrite(int(file.Fd()), []byte("x"), EncodedExtent{}) }},
			{"Send", "CAP_SYS_ADMIN", func() error { _, err := Send(t.Context(), one, SendOptions{}); return err }},
			{"OpenSubvolume", "CAP_DAC_READ_SEARCH", func() error { _, err := f.OpenSubvolume(id); return err }},
			{"CreateSnapshot", "CAP_FOWNER", func() error { return CreateSnapshot(f.Dir(), "x", foreign, true) }},
			{"SetReadOnly", "CAP_FOWNER", func() error { return SetReadOnly(foreign, true) }},
			{"SetReceived", "CAP_FOWNER", func() error { _, err := SetReceived(foreign, UUID{1}, 1); return err }},
			{"DeleteSubvolume", "CAP_SYS_ADMIN", func() error { return DeleteSubvolume(f.Dir(), "one") }},
			{"DeleteSubvolumeByID", "CAP_SYS_ADMIN", func() error { return DeleteSubvolumeByID(f.Dir(), id) }},
		} {
			err := c.do()
			denied, ok := errors.AsType[*PermissionError](err)
			if !ok || denied.Capability != c.capability || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), c.capability) {
				t.Errorf("%s gives %v, want something about %s", c.name, err, c.capability)
			}
		}
		if _, err := Info(one); err != nil {
			t.Errorf("Info needs no capability, but gives %v", err)
		}
		if _, err := ReadOnly(one); err != nil {
			t.Errorf("ReadOnly needs no capability, but gives %v", err)
		}
	})
}
