package btrfs

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestEstimateSend(t *testing.T) {
	bench := btrfstest.New(t, btrfstest.MountOptions("compress=zstd"), btrfstest.Size(1<<30))
	live := bench.Subvolume("live")
	rng := rand.New(rand.NewPCG(1, 2))
	fill := func(name string, size int, text bool) {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rng.Uint32())
			if text {
				data[i] = "etaoin shrdlu"[rng.IntN(13)]
			}
		}
		must(t, os.WriteFile(live+"/"+name, data, 0o644))
	}
	manyFiles(t, live, 1000)
	fill("noise", 8<<20, false)
	fill("text", 8<<20, true)
	// What is not sent, or once only.
	sparse, err := os.Create(live + "/sparse")
	must(t, err)
	must(t, sparse.Truncate(100<<20))
	sparse.Close()
	prealloc, err := os.Create(live + "/prealloc")
	must(t, err)
	must(t, unix.Fallocate(int(prealloc.Fd()), 0, 0, 20<<20))
	prealloc.Close()
	command(t, "cp", "--reflink=always", live+"/noise", live+"/shared")
	one := bench.Snapshot("live", "one", true)

	fill("more", 2<<20, false)
	fill("more text", 2<<20, true)
	must(t, os.Rename(live+"/0", live+"/moved"))
	two := bench.Snapshot("live", "two", true)

	check := func(what string, tolerance float64) {
		t.Helper()
		from := func(parent string) *os.File {
			if parent == "" {
				return nil
			}
			return opened(t, parent)
		}
		for _, c := range []struct {
			name, path, parent string
		}{{"full", one, ""}, {"increment", two, one}} {
			e, err := EstimateSend(t.Context(), opened(t, c.path), from(c.parent))
			must(t, err)
			var o SendOptions
			if c.parent != "" {
				o.Parent = info(t, c.parent).ID
			}
			plain := len(sendAll(t, c.path, o))
			o.Protocol, o.Compressed = 2, true
			compressed := len(sendAll(t, c.path, o))
			for _, n := range []struct {
				kind      string
				got, want int64
			}{{"plain", e.Plain, int64(plain)}, {"compressed", e.Compressed, int64(compressed)}} {
				off := float64(n.got)/float64(n.want) - 1
				t.Logf("%s, %s, %s: %d, in truth %d (%+.2f %%), %d inodes", what, c.name, n.kind, n.got, n.want, 100*off, e.Inodes)
				if math.Abs(off) > tolerance {
					t.Errorf("%s, %s, %s: off by %+.2f %%", what, c.name, n.kind, 100*off)
				}
			}
		}
	}
	check("as made", 0.03)
	command(t, "btrfs", "balance", "start", "--full-balance", bench.Dir)
	check("balanced", 0.03)

	// Nothing changed.
	three := bench.Snapshot("live", "three", true)
	e, err := EstimateSend(t.Context(), opened(t, three), opened(t, two))
	must(t, err)
	if e.Plain > 1000 || e.Inodes != 0 {
		t.Errorf("nothing changed, but %+v", e)
	}
}

func TestCommonUntil(t *testing.T) {
	bench := btrfstest.New(t)
	at := func(path string) (*os.File, Subvolume) {
		f := opened(t, path)
		info, err := Info(f)
		must(t, err)
		return f, info
	}
	bench.Subvolume("live")
	change := func(dir string) {
		must(t, os.WriteFile(filepath.Join(bench.Path(dir), "f"), []byte(time.Now().String()), 0o644))
	}
	change("live")
	bench.Snapshot("live", "a", true)
	change("live")
	bench.Snapshot("live", "b", true)
	bench.Snapshot("a", "branch", false)
	change("branch")
	bench.Snapshot("branch", "c", true)
	bench.Snapshot("branch", "d", false) // changed after it was made
	change("d")
	bench.Sync()
	bench.Subvolume("other")
	for _, tt := range []struct {
		child, parent string
		follows       bool
	}{
		{"b", "a", true},
		{"a", "b", false},
		{"branch", "a", true},
		{"c", "a", true},
		{"a", "c", false},
		{"c", "b", false},
		{"b", "c", false},
		{"d", "c", true},
		{"c", "d", false},
		{"other", "a", false},
	} {
		f, child := at(bench.Path(tt.child))
		_, parent := at(bench.Path(tt.parent))
		bound, ok, err := commonUntil(f, child, parent)
		must(t, err)
		if ok != tt.follows || ok && (bound < parent.Otransid || bound > child.Otransid) {
			t.Errorf("%s from %s: %d, %v", tt.child, tt.parent, bound, ok)
		}
	}
	if _, ok, err := commonUntil(nil, Subvolume{}, Subvolume{}); ok || err != nil {
		t.Errorf("of nothing: %v, %v", ok, err)
	}
}

// TestEstimateBackwards: what only the older of two snapshots has is what its
// stream carries.
func TestEstimateBackwards(t *testing.T) {
	bench := btrfstest.New(t)
	live := bench.Subvolume("live")
	noise := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	must(t, os.WriteFile(filepath.Join(live, "stays"), noise[:1<<20], 0o644))
	must(t, os.WriteFile(filepath.Join(live, "goes"), noise[1<<20:], 0o644))
	bench.Snapshot("live", "old", true)
	must(t, os.Remove(filepath.Join(live, "goes")))
	bench.Snapshot("live", "new", true)
	e, err := EstimateSend(t.Context(), opened(t, bench.Path("old")), opened(t, bench.Path("new")))
	must(t, err)
	if e.Plain < 2<<20 || e.Plain > 2<<20+64<<10 || e.Inodes > 2 {
		t.Errorf("old from new: %+v", e)
	}
	if e, err = EstimateSend(t.Context(), opened(t, bench.Path("new")), opened(t, bench.Path("old"))); err != nil || e.Plain > 1000 {
		t.Errorf("new from old: %+v, %v", e, err)
	}
}

func TestEstimateBoundsItsMemory(t *testing.T) {
	e := estimator{shared: make(map[uint64]struct{})}
	data := make([]byte, 53)
	data[20] = extentRegular
	disk.PutUint64(data[45:], 4096)
	for i := range uint64(estimateExtents + 10) {
		disk.PutUint64(data[21:], 4096+i)
		must(t, e.add(item{key: key{object: 257, kind: extentDataType}, data: data}))
	}
	if len(e.shared) > estimateExtents {
		t.Errorf("%d extents", len(e.shared))
	}
}

// Items as large as they come fit into a search.
func TestLargestItem(t *testing.T) {
	bench := btrfstest.New(t, btrfstest.Features("--nodesize", "65536"))
	live := bench.Subvolume("live")
	for _, name := range []string{"a", "b"} {
		write(t, live+"/"+name, "")
		size := 65_400 // more than fits
		for ; size > 65_000; size-- {
			if err := unix.Setxattr(live+"/"+name, "user.x", make([]byte, size), 0); err == nil {
				break
			}
		}
		t.Logf("xattr of %d bytes", size)
	}
	bench.Sync()
	e, err := EstimateSend(t.Context(), opened(t, live), nil)
	must(t, err)
	if e.Plain < 2*65_000 || e.Inodes != 3 {
		t.Errorf("got %+v", e)
	}
}

// TestEstimateEnds: nobody waits for an estimate that is not wanted any more,
// in full or on top of something that has to be read too.
func TestEstimateEnds(t *testing.T) {
	bench := btrfstest.New(t)
	live := bench.Subvolume("live")
	write(t, live+"/file", "content")
	other := bench.Subvolume("other")
	bench.Sync()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, parent := range []*os.File{nil, opened(t, other)} {
		if _, err := EstimateSend(ctx, opened(t, live), parent); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}
