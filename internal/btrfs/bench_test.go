package btrfs

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// cpuSeconds is the processor time of this process and its children so far.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	sum := 0.0
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		must(b, unix.Getrusage(who, &r))
		for _, t := range []unix.Timeval{r.Utime, r.Stime} {
			sum += float64(t.Sec) + float64(t.Usec)/1e6
		}
	}
	return sum
}

// compare runs the contenders in turn, in several rounds, and reports the
// median of each and its ratio to the first, of time and of processor time.
// Other things run on the machine: the ratios are what can be compared.
func compare(b *testing.B, rounds int, prepare func(), names []string, run func(name string)) {
	b.Helper()
	times, cpu := make(map[string][]float64), make(map[string][]float64)
	for b.Loop() {
		for range rounds {
			for _, name := range names {
				if prepare != nil {
					prepare()
				}
				start, used := time.Now(), cpuSeconds(b)
				run(name)
				times[name] = append(times[name], time.Since(start).Seconds())
				cpu[name] = append(cpu[name], cpuSeconds(b)-used)
			}
		}
	}
	median := func(of []float64) float64 {
		slices.Sort(of)
		return of[len(of)/2]
	}
	first := names[0]
	for _, name := range names {
		b.ReportMetric(1000*median(times[name]), name+"-ms")
		b.ReportMetric(median(times[name])/median(times[first]), name+"-ratio")
		b.ReportMetric(median(cpu[name])/median(cpu[first]), name+"-cpu-ratio")
	}
	b.ReportMetric(0, "ns/op")
}

// Listing many snapshots, against btrfs subvolume list.
func BenchmarkSubvolumes(b *testing.B) {
	const snapshots = 5000
	bench := btrfstest.New(b, btrfstest.Size(4<<30))
	must(b, os.Mkdir(bench.Path("snaps"), 0o755))
	bench.Subvolume("live")
	into, live := opened(b, bench.Path("snaps")), opened(b, bench.Path("live"))
	start := time.Now()
	for i := range snapshots {
		must(b, CreateSnapshot(into, strconv.Itoa(i), live, true))
	}
	b.Logf("making %d snapshots took %v", snapshots, time.Since(start))
	f := filesystem(b, bench.Dir)
	compare(b, 7, nil, []string{"btrfs", "ours", "ours-with-paths"}, func(name string) {
		switch name {
		case "btrfs":
			command(b, "btrfs", "subvolume", "list", "-puqR", bench.Dir)
		case "ours", "ours-with-paths":
			all, err := f.Subvolumes()
			must(b, err)
			if len(all) != snapshots+2 {
				b.Fatalf("%d subvolumes", len(all))
			}
			if name == "ours-with-paths" {
				mounts, err := f.Mounts()
				must(b, err)
				if paths := f.LinuxPaths(all, mounts); len(paths) != len(all) {
					b.Fatalf("%d have paths", len(paths))
				}
			}
		}
	})
}

// Sending from a disk whose page cache is cold, against btrfs send.
func BenchmarkSend(b *testing.B) {
	b.Run("small", func(b *testing.B) {
		benchmarkSend(b, func(dir string) { manyFiles(b, dir, 20_000) })
	})
	b.Run("large", func(b *testing.B) {
		benchmarkSend(b, func(dir string) {
			data := make([]byte, 128<<20)
			for i := range data {
				data[i] = byte(i >> 9)
			}
			for i := range 3 {
				must(b, os.WriteFile(dir+"/"+strconv.Itoa(i), data, 0o644))
			}
		})
	})
}

func benchmarkSend(b *testing.B, fill func(dir string)) {
	bench := btrfstest.New(b, btrfstest.Size(2<<30))
	bench.Subvolume("live")
	fill(bench.Path("live"))
	bench.Snapshot("live", "one", true)
	send := func(o SendOptions) {
		f, err := os.Open(bench.Path("one"))
		must(b, err)
		defer f.Close()
		s, err := Send(b.Context(), f, o)
		must(b, err)
		defer s.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, 1<<20))
		must(b, err)
	}
	compare(b, 5, func() { bench.Remount() }, []string{"btrfs", "plain", "ahead"}, func(name string) {
		switch name {
		case "btrfs":
			must(b, exec.Command("sh", "-c", `btrfs send -q "$0" | cat >/dev/null`, bench.Path("one")).Run())
		case "plain":
			send(SendOptions{NoPrefetch: true})
		case "ahead":
			send(SendOptions{})
		}
	})
}
