package stream

import (
	"bytes"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// largeWrites returns a stream of n writes of 128 KiB.
func largeWrites(t testing.TB, n int) []byte {
	var b bytes.Buffer
	w := NewWriter(&b, 2)
	write(t, w, &Command{Kind: Subvol, Path: []byte("s"), UUID: UUID{1}, Transid: 1})
	data := make([]byte, 128<<10)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for i := range n {
		write(t, w, &Command{Kind: Write, Path: []byte("dir/file"), FileOffset: uint64(i * len(data)), Data: data})
	}
	write(t, w, &Command{Kind: End})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// smallCommands returns a stream of n commands without data.
func smallCommands(t testing.TB, n int) []byte {
	var b bytes.Buffer
	w := NewWriter(&b, 2)
	write(t, w, &Command{Kind: Subvol, Path: []byte("s"), UUID: UUID{1}, Transid: 1})
	for i := range n {
		write(t, w, &Command{Kind: Utimes, Path: []byte("dir/some/file"), Atime: Time{int64(i), 1}})
	}
	write(t, w, &Command{Kind: End})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, w *Writer, c *Command) {
	t.Helper()
	if err := w.Write(c); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkReader(b *testing.B) {
	for name, data := range map[string][]byte{"large": largeWrites(b, 512), "small": smallCommands(b, 100000)} {
		b.Run("Next/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			defer reportCPU(b, len(data))()
			for b.Loop() {
				r := NewReader(bytes.NewReader(data))
				for {
					if _, err := r.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run("NextRun/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			defer reportCPU(b, len(data))()
			for b.Loop() {
				r := NewReader(bytes.NewReader(data))
				for {
					if _, err := r.NextRun(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func TestNoAllocationPerCommand(t *testing.T) {
	for name, data := range map[string][]byte{"large": largeWrites(t, 64), "small": smallCommands(t, 20000)} {
		src := bytes.NewReader(data)
		var r *Reader
		start := func() {
			src.Reset(data)
			if r != nil {
				// What a Reader allocates once is not what is counted here.
				*r = Reader{src: src, buf: r.buf, path: r.path, birth: r.birth[:0], sum: r.sum, heads: r.heads}
			} else {
				r = NewReader(src)
			}
		}
		next := func() error { _, err := r.Next(); return err }
		run := func() error { _, err := r.NextRun(); return err }
		for i, read := range []func() error{next, run} {
			allocs := testing.AllocsPerRun(10, func() {
				start()
				for {
					if err := read(); err == io.EOF {
						return
					} else if err != nil {
						t.Fatal(err)
					}
				}
			})
			// The identity's name is a string.
			if allocs > 1 {
				t.Errorf("%s, way %d: %v allocations for a stream", name, i, allocs)
			}
		}
	}
}

// reportCPU reports bytes per second of processor time, which means something
// on a machine that is busy with other things, too.
func reportCPU(b *testing.B, size int) func() {
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := cpu()
	return func() {
		b.ReportMetric(float64(size)*float64(b.N)/1e6/(cpu()-before).Seconds(), "MB/cpu-s")
	}
}
