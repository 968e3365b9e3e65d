package dir

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestFullDisk fills a small file system, makes room, and goes on.
func TestFullDisk(t *testing.T) {
	btrfstest.Require(t)
	top := tmpfs(t, "1m")
	b, err := Open(top, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put(t, b, "kept", "x")
	if err := b.Put(t.Context(), "d/big", make([]byte, 2<<20), false); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "d/big") {
		t.Errorf("Put on a full disk: %v", err)
	}
	b.shares = false
	half := bytes.Repeat([]byte("half"), 150_000)
	if err := b.Put(t.Context(), "half", half, false); err != nil {
		t.Fatal(err)
	}
	if err := b.Copy(t.Context(), "half", "trash/half"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Copy on a full disk: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(top, Folder, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %q (%v)", left, err)
	}
	if got, want := listed(t, b, ""), []string{"half", "kept"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}

	u := begin(t, b, "o")
	var parts []archive.Part
	for number := 1; ; number++ {
		p, err := u.Put(t.Context(), number, body(partContent(number)))
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), fmt.Sprint("part ", number)) {
				t.Errorf("storing part %d on a full disk: %v", number, err)
			}
			break
		}
		parts = append(parts, p)
	}
	if err := b.Delete(t.Context(), "half"); err != nil {
		t.Fatalf("making room: %v", err)
	}
	if u, err = b.Continue(t.Context(), u.Unfinished()); err != nil {
		t.Fatal(err)
	}
	if got, err := u.Parts(t.Context()); err != nil || !slices.Equal(got, parts) {
		t.Errorf("after the disk was full the parts are %+v, want %+v (%v)", got, parts, err)
	}
	parts = append(parts, store(t, u, len(parts)+1))
	if _, err := u.Complete(t.Context(), parts); err != nil {
		t.Fatal(err)
	}
	holdsParts(t, b, "o", len(parts))
}

func TestReadOnly(t *testing.T) {
	btrfstest.Require(t)
	top := tmpfs(t, "4m")
	b, err := Open(top, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put(t, b, "d/o", "x")
	u := begin(t, b, "u")
	one := store(t, u, 1)
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", top, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	_, beginErr := b.Begin(t.Context(), "p", archive.UploadOptions{PartSize: 10})
	_, putErr := u.Put(t.Context(), 2, body([]byte("x")))
	_, completeErr := u.Complete(t.Context(), []archive.Part{one})
	for call, err := range map[string]error{
		"Begin": beginErr, "Put of a part": putErr, "Complete": completeErr, "Put": b.Put(t.Context(), "d/p", nil, false),
		"Copy": b.Copy(t.Context(), "d/o", "p"), "Delete": b.Delete(t.Context(), "d/o"), "Abort": u.Abort(t.Context()),
	} {
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), top) {
			t.Errorf("%s on what is read-only: %v", call, err)
		}
	}
	if got := listed(t, b, ""); !slices.Equal(got, []string{"d/o"}) {
		t.Errorf("listed %q", got)
	}
	if parts, err := u.Parts(t.Context()); err != nil || !slices.Equal(parts, []archive.Part{one}) {
		t.Errorf("the parts are %+v (%v)", parts, err)
	}
	remount(0)
	if _, err := u.Complete(t.Context(), []archive.Part{one}); err != nil {
		t.Fatal(err)
	}
	holdsParts(t, b, "u", 1)
}

// TestUnmounted has the file system taken away from under the path: the handle
// stays with what was opened, and nothing is written to what is there instead.
func TestUnmounted(t *testing.T) {
	btrfstest.Require(t)
	top := t.TempDir()
	if err := unix.Mount("tmpfs", top, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	b, err := Open(top, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put(t, b, "d/o", "x")
	if err := unix.Unmount(top, 0); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmounting what is open: %v", err)
	}
	if err := unix.Unmount(top, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	put(t, b, "d/p", "x")
	if got := listed(t, b, ""); !slices.Equal(got, []string{"d/o", "d/p"}) {
		t.Errorf("listed %q", got)
	}
	if found, err := os.ReadDir(top); err != nil || len(found) > 0 {
		t.Errorf("in the mount point there is %v (%v)", found, err)
	}
}

// TestPowerCut looks at what a disk has when the calls have returned, and in the
// middle of an upload.
func TestPowerCut(t *testing.T) {
	btrfstest.Require(t)
	// No commit but those that are asked for.
	fs := btrfstest.New(t, btrfstest.MountOptions("commit=300"))
	b, err := Open(fs.Path("."), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put(t, b, "a/b/o", "old")
	put(t, b, "a/b/o", "new")
	if err := b.Copy(t.Context(), "a/b/o", "trash/deep/o"); err != nil {
		t.Fatal(err)
	}
	u := begin(t, b, "c/d/u")
	if _, err := u.Complete(t.Context(), []archive.Part{store(t, u, 1), store(t, u, 2)}); err != nil {
		t.Fatal(err)
	}
	unfinished := begin(t, b, "c/v")
	parts := []archive.Part{store(t, unfinished, 1), store(t, unfinished, 2), store(t, unfinished, 3)}

	after, err := Open(fs.PowerCut().Path("."), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if got, want := listed(t, after, ""), []string{"a/b/o", "c/d/u", "trash/deep/o"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	for _, key := range []string{"a/b/o", "trash/deep/o"} {
		in, err := after.Get(t.Context(), key, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 10)
		if n, _ := in.Read(text); string(text[:n]) != "new" {
			t.Errorf("%q is %q", key, text[:n])
		}
		in.Close()
	}
	holdsParts(t, after, "c/d/u", 2)
	for un, err := range after.Uploads(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		carried, err := after.Continue(t.Context(), un)
		if err != nil {
			t.Fatal(err)
		}
		there, err := carried.Parts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range there {
			if p != parts[p.Number-1] {
				t.Errorf("part %+v has become %+v", parts[p.Number-1], p)
			}
		}
		for i := range parts {
			parts[i] = store(t, carried, i+1)
		}
		if _, err := carried.Complete(t.Context(), parts); err != nil {
			t.Fatal(err)
		}
		holdsParts(t, after, "c/v", 3)
	}
}

// TestFailingDisk has writes fail below the file system.
func TestFailingDisk(t *testing.T) {
	btrfstest.Require(t)
	fs := btrfstest.New(t, btrfstest.Faulty())
	b, err := Open(fs.Path("."), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	put(t, b, "o", "x")
	u := begin(t, b, "u")
	one := store(t, u, 1)
	fs.Disks[0].FailWrites(0)
	_, putErr := u.Put(t.Context(), 2, body(partContent(2)))
	_, completeErr := u.Complete(t.Context(), []archive.Part{one})
	if completeErr == nil {
		t.Error("an object was made on a disk that takes nothing")
	}
	for call, err := range map[string]error{"storing a part": putErr, "Complete": completeErr, "Put": b.Put(t.Context(), "p", make([]byte, 100_000), false)} {
		if err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
			t.Errorf("%s on a failing disk: %v", call, err)
		}
	}
	for o, err := range b.List(t.Context(), "") {
		if err != nil && !errors.Is(err, unix.EIO) || err == nil && o.Key != "o" {
			t.Errorf("listed %q, %v", o.Key, err)
		}
	}
	fs.Disks[0].Heal()
}

// BenchmarkList walks many objects, two in a directory as archives have them.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			top := b.TempDir()
			for i := range n / 2 {
				dir := filepath.Join(top, fmt.Sprintf("host/%d/%d", i/500, i))
				if err := os.MkdirAll(dir, 0o700); err != nil {
					b.Fatal(err)
				}
				for _, name := range []string{"object", "object.json"} {
					if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
						b.Fatal(err)
					}
				}
			}
			bucket := open(b, top)
			b.ReportAllocs()
			for b.Loop() {
				count := 0
				for _, err := range bucket.List(b.Context(), "") {
					if err != nil {
						b.Fatal(err)
					}
					count++
				}
				if count != n {
					b.Fatalf("listed %d of %d", count, n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/object")
		})
	}
}
