package replay

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

var compareRuns = flag.Int("compare", 5, "how often BenchmarkAgainstReceive times each stream")

// BenchmarkAgainstReceive times us against btrfs receive, in turns, on fresh file systems.
// What we do includes writing everything to disk, as Commit does; btrfs receive
// is also timed with a sync after it.
func BenchmarkAgainstReceive(t *testing.B) {
	src := btrfstest.New(t, btrfstest.Size(4<<30))
	streams := t.TempDir()
	save := func(name, snapshot string, args ...string) string {
		path := filepath.Join(streams, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := src.SendTo(f, snapshot, args...); err != nil {
			t.Fatal(err)
		}
		return path
	}
	small := src.Subvolume("small")
	rng := rand.New(rand.NewPCG(1, 1))
	fill(t, rng, small, 20000, 33000)
	smallOne := src.Snapshot("small", "small1", true)
	for i := 0; i < 20000; i += 40 {
		path := fmt.Sprintf("%s/d%d/f%d", small, i%200, i)
		switch i / 40 % 4 {
		case 0:
			write(t, path, strings.Repeat("changed", rng.IntN(3000)))
		case 1:
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := os.Rename(path, path+".new"); err != nil {
				t.Fatal(err)
			}
		case 3:
			write(t, path+".more", strings.Repeat("more", rng.IntN(9000)))
		}
	}
	smallTwo := src.Snapshot("small", "small2", true)
	large := src.Subvolume("large")
	fill(t, rng, large, 4, 240<<20)
	largeOne := src.Snapshot("large", "large1", true)

	for _, c := range []struct{ name, before, stream string }{
		{"20,000 small files, v1", "", save("a", smallOne)},
		{"20,000 small files, v2", "", save("b", smallOne, "--proto", "2")},
		{"4 large files, v1", "", save("c", largeOne)},
		{"4 large files, v2", "", save("d", largeOne, "--proto", "2")},
		{"500 changes among 20,000", filepath.Join(streams, "a"), save("e", smallTwo, "-p", smallOne)},
	} {
		var ours, theirs, synced []float64
		for range *compareRuns {
			ours = append(ours, timeOurs(t, c.before, c.stream))
			wall, sync := timeTheirs(t, c.before, c.stream)
			theirs, synced = append(theirs, wall), append(synced, wall+sync)
		}
		size, err := os.Stat(c.stream)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-26s %4d MB: ours %.3f s, btrfs receive %.3f s, with sync %.3f s; ratio %.2f, %.2f with sync", c.name, size.Size()>>20,
			median(ours), median(theirs), median(synced), median(ours)/median(theirs), median(ours)/median(synced))
	}
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func fill(t testing.TB, rng *rand.Rand, dir string, files, size int) {
	t.Helper()
	buffer := make([]byte, size)
	for i := range buffer {
		buffer[i] = byte(rng.Uint32())
	}
	for i := range files {
		sub := fmt.Sprintf("%s/d%d", dir, i%200)
		mkdir(t, sub)
		write(t, fmt.Sprintf("%s/f%d", sub, i), string(buffer[:rng.IntN(size)]))
	}
}

func timeOurs(t testing.TB, before, path string) float64 {
	fs := btrfstest.New(t, btrfstest.Size(2<<30))
	b := newBench(t, fs, "in")
	defer func() { b.close(); fs.Unmount() }()
	receive := func(name, path string) {
		in := open(t, path)
		r := b.receiver(name)
		if err := r.Receive(context.Background(), stream.NewReader(in)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Commit(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if before != "" {
		receive("before", before)
		unix.Sync()
	}
	start := time.Now()
	receive("x", path)
	return time.Since(start).Seconds()
}

func timeTheirs(t testing.TB, before, path string) (wall, sync float64) {
	fs := btrfstest.New(t, btrfstest.Size(2<<30))
	defer fs.Unmount()
	if before != "" {
		if err := fs.Receive("", open(t, before)); err != nil {
			t.Fatal(err)
		}
		unix.Sync()
	}
	in := open(t, path)
	start := time.Now()
	if err := fs.Receive("", in); err != nil {
		t.Fatal(err)
	}
	wall = time.Since(start).Seconds()
	start = time.Now()
	dir := open(t, fs.Dir)
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		t.Fatal(err)
	}
	dir.Close()
	return wall, time.Since(start).Seconds()
}
