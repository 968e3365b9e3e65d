package archive

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// perGiB reports the processor time that goes into a GiB of streams.
func perGiB(b *testing.B, size int) func() {
	b.Helper()
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.GC()
	begun := cpu()
	return func() {
		b.ReportMetric((cpu()-begun).Seconds()/float64(b.N)/float64(size)*(1<<30), "cpu-s/GiB")
	}
}

func BenchmarkStore(b *testing.B) {
	ways, keys := sealings(b)
	e := snapshot.Edge{To: id(1)}
	data := streamOf(b, e, 256<<20, 1)
	all := runs(b, data)
	for _, name := range []string{"plain", "zstd", "age", "zstd and age"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			done := perGiB(b, len(data))
			for range b.N {
				f := openOn(b, newMemoryBucket(), nil, func(o *Options) { o.Seal, o.Keys, o.PartSize = ways[name], keys, 16<<20 })
				f.bucket = voidBucket{f.b}
				w, err := f.Create(b.Context(), sized(e, data))
				if err != nil {
					b.Fatal(err)
				}
				for _, run := range all {
					if _, err := w.Write(run); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.(*writer).finish(); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			done()
		})
	}
}

func BenchmarkRead(b *testing.B) {
	ways, keys := sealings(b)
	e := snapshot.Edge{To: id(1)}
	data := streamOf(b, e, 256<<20, 1)
	for _, name := range []string{"plain", "zstd", "age", "zstd and age"} {
		b.Run(name, func(b *testing.B) {
			f := openOn(b, newMemoryBucket(), nil, func(o *Options) { o.Seal, o.Keys, o.PartSize = ways[name], keys, 16<<20 })
			if _, err := f.store(b.Context(), sized(e, data), runs(b, data)); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			done := perGiB(b, len(data))
			for range b.N {
				in, err := f.Open(b.Context(), store.Request{Edge: e})
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, in); n != int64(len(data)) || err != nil {
					b.Fatal(fmt.Errorf("read %d bytes: %w", n, err))
				}
				if err := in.Close(); err != nil {
					b.Fatal(err)
				}
			}
			done()
		})
	}
}

// voidBucket keeps nothing of parts.
type voidBucket struct{ *memoryBucket }

type voidUpload struct{ Upload }

func (b voidBucket) Begin(ctx context.Context, key string, o UploadOptions) (Upload, error) {
	u, err := b.memoryBucket.Begin(ctx, key, o)
	return voidUpload{u}, err
}

func (voidUpload) Put(_ context.Context, n int, body Body) (Part, error) {
	size, err := io.Copy(io.Discard, body)
	return Part{Number: n, Size: size}, err
}
