package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// free returns how many bytes the file system has left.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	return int64(st.Bfree) * st.Bsize
}

// Half of the space is taken, given back, and taken again.
func TestAwaitCleaned(t *testing.T) {
	bench := btrfstest.New(t)
	f := filesystem(t, bench.Dir)
	if err := f.AwaitCleaned(t.Context(), nil); err != nil {
		t.Errorf("with nothing deleted: %v", err)
	}
	const size = 200 << 20
	before := free(t, bench.Dir)
	dir := bench.Subvolume("large")
	noise := make([]byte, 1<<20)
	file, err := os.Create(dir + "/file")
	must(t, err)
	for i := range size / len(noise) {
		noise[i] ^= 0xff
		_, err := file.Write(noise)
		must(t, err)
	}
	must(t, file.Close())
	bench.Sync()
	if now := free(t, bench.Dir); now > before-size/2 {
		t.Fatalf("%d bytes were free, now %d: too much for this test", before, now)
	}
	other := bench.Subvolume("other")
	id, otherID := info(t, dir).ID, info(t, other).ID
	must(t, DeleteSubvolumeByID(f.Dir(), id))
	// The second one is deleted by another program; the third is not there at all,
	// and the fourth is not deleted.
	bench.Delete("other")
	kept := info(t, bench.Subvolume("kept")).ID
	if err := f.AwaitCleaned(t.Context(), []uint64{id, otherID, 99_999, kept}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint64{id, otherID} {
		if here, err := f.beingCleaned(id); err != nil || here {
			t.Errorf("subvolume %d is being cleaned up: %v, %v", id, here, err)
		}
	}
	if now := free(t, bench.Dir); now < before-size/10 {
		t.Errorf("%d bytes were free before, and %d are in the end", before, now)
	}
}

// While a file of it is open, nothing of a subvolume is cleaned up.
func TestAwaitCleanedEnds(t *testing.T) {
	bench := btrfstest.New(t)
	f := filesystem(t, bench.Dir)
	dir := bench.Subvolume("held")
	must(t, os.WriteFile(dir+"/file", []byte("text"), 0o644))
	id := info(t, dir).ID
	held, err := os.Open(dir + "/file")
	must(t, err)
	must(t, DeleteSubvolumeByID(f.Dir(), id))
	cause := errors.New("enough")
	for _, c := range []struct {
		name string
		wait func(ctx context.Context) error
	}{
		{"search", func(ctx context.Context) error { return f.AwaitCleaned(ctx, []uint64{id}) }},
		{"request", func(ctx context.Context) error { return awaitOne(ctx, f.Dir(), id) }},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
		if err := c.wait(ctx); !errors.Is(err, cause) {
			t.Errorf("%s: %v, want that it was ended", c.name, err)
		}
		timer.Stop()
		cancel(nil)
	}
	// The call that was left behind ends too: TestMain looks.
	must(t, held.Close())
	if err := f.AwaitCleaned(t.Context(), []uint64{id}); err != nil {
		t.Error(err)
	}
	if err := awaitOne(t.Context(), f.Dir(), id); err != nil {
		t.Error(err)
	}
}

// What an ordinary user is shown is what root sees, at paths from the directory.
func TestBelow(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("top")
	must(t, os.MkdirAll(bench.Path("top/a/b/c"), 0o755))
	bench.Subvolume("top/a/b/c/one")
	must(t, os.MkdirAll(bench.Path("top/a/b/c/one/d d/\u00fc"), 0o755))
	bench.Subvolume("top/a/b/c/one/d d/\u00fc/two")
	bench.Subvolume("top/a/three")
	bench.Snapshot("top/a/b/c/one", "top/a/b/c/snap", true)
	bench.Subvolume("top/elsewhere")
	bench.Subvolume("other")
	many := opened(t, bench.Path("top/a/three"))
	const siblings = 260 // the kernel tells of 255 at a time
	for i := range siblings {
		must(t, CreateSubvolume(many, fmt.Sprint("n", i)))
	}
	bench.Sync() // the listing of root shows what is committed
	all, err := filesystem(t, bench.Dir).Subvolumes()
	must(t, err)
	for _, dir := range []string{"", "top", "top/a", "top/a/b", "top/a/b/c/one", "top/elsewhere"} {
		want := map[string]Subvolume{}
		for _, s := range all {
			if rel, ok := below(s.Path, dir); ok && rel != "" {
				s.Path, s.Level = rel[1:], 0
				want[s.Path] = s
			}
		}
		got, err := Below(opened(t, bench.Path(dir)))
		must(t, err)
		for _, s := range got {
			w, ok := want[s.Path]
			if !ok || w != s {
				t.Fatalf("below %q: %+v, want %+v, %v", dir, s, w, ok)
			}
			delete(want, s.Path)
		}
		for p := range want {
			t.Errorf("below %q: %q is missing", dir, p)
		}
	}
	if _, err := Below(opened(t, "/proc")); !errors.Is(err, ErrNotBtrfs) {
		t.Errorf("outside of btrfs: %v", err)
	}
}
