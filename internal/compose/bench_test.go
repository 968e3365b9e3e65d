package compose

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

// small fills a directory with files of up to 32 KiB, half of which is text.
func small(b *testing.B, dir string, files int) {
	rng := rand.New(rand.NewPCG(1, 1))
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog; "), 1<<10)
	buf := make([]byte, 32<<10)
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/100))
		if i%100 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		data := buf[:rng.IntN(len(buf))]
		if i%5 < 3 {
			copy(data, text[rng.IntN(64):])
		} else {
			for j := range data {
				data[j] = byte(rng.Uint32())
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%05d", i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

func large(b *testing.B, dir string, files int) {
	rng := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, 1<<20)
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("large%d", i)))
		if err != nil {
			b.Fatal(err)
		}
		for j := range 120 {
			for k := 0; k < len(buf)/2; k++ {
				buf[k] = byte(rng.Uint32())
			}
			buf[0] = byte(j)
			if _, err := f.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
	}
}

func cpuSeconds(b *testing.B) float64 {
	sum := 0.0
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			b.Fatal(err)
		}
		for _, t := range []unix.Timeval{r.Utime, r.Stime} {
			sum += float64(t.Sec) + float64(t.Usec)/1e6
		}
	}
	return sum
}

// BenchmarkSend makes full streams with nothing in the page cache, in turn with
// btrfs send and with the kernel's send as package btrfs calls it. The ratios to
// the first are what can be compared.
func BenchmarkSend(b *testing.B) {
	sets := []struct {
		name string
		make func(*testing.B, string, int)
		n    int
	}{{"small", small, 20_000}, {"large", large, 4}}
	for _, set := range sets {
		for _, mount := range []string{"noatime", "noatime,compress=zstd"} {
			form := all[0]
			if mount != "noatime" {
				form = all[2]
			}
			b.Run(set.name+" "+form.name, func(b *testing.B) {
				fs := btrfstest.New(b, btrfstest.MountOptions(mount), btrfstest.Size(4<<30))
				set.make(b, fs.Subvolume("live"), set.n)
				snapshot := fs.Snapshot("live", "snapshot", true)
				fs.Sync()
				drain := func(in io.ReadCloser, err error) {
					if err != nil {
						b.Fatal(err)
					}
					buf := make([]byte, 1<<20)
					for err == nil {
						_, err = in.Read(buf)
					}
					if err != io.EOF {
						b.Fatal(err)
					}
					in.Close()
				}
				ways := []struct {
					name string
					run  func()
				}{
					{"btrfs-send", func() {
						c := exec.Command("sh", "-c", `btrfs -q send "$@" | cat >/dev/null`, "sh")
						c.Args = append(append(c.Args, form.send...), snapshot)
						if out, err := c.CombinedOutput(); err != nil {
							b.Fatalf("%v: %s", err, out)
						}
					}},
					{"kernel", func() {
						f := opened(b, snapshot)
						defer f.Close()
						drain(btrfs.Send(context.Background(), f, btrfs.SendOptions{Protocol: form.o.Protocol, Compressed: form.o.Compressed}))
					}},
					{"composed", func() {
						f := opened(b, snapshot)
						defer f.Close()
						drain(Send(context.Background(), f, form.o))
					}},
					{"measured", func() {
						f := opened(b, snapshot)
						defer f.Close()
						if _, err := Measure(context.Background(), f, form.o); err != nil {
							b.Fatal(err)
						}
					}},
				}
				times, cpu := map[string][]float64{}, map[string][]float64{}
				for b.Loop() {
					for range 5 {
						for _, w := range ways {
							fs.Remount()
							begin, used := time.Now(), cpuSeconds(b)
							w.run()
							times[w.name] = append(times[w.name], time.Since(begin).Seconds())
							cpu[w.name] = append(cpu[w.name], cpuSeconds(b)-used)
						}
					}
				}
				median := func(of []float64) float64 {
					slices.Sort(of)
					return of[len(of)/2]
				}
				first := ways[0].name
				for _, w := range ways {
					b.ReportMetric(1000*median(times[w.name]), w.name+"-ms")
					b.ReportMetric(median(times[w.name])/median(times[first]), w.name+"-ratio")
					b.ReportMetric(median(cpu[w.name])/median(cpu[first]), w.name+"-cpu-ratio")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
