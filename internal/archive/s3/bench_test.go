package s3

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
)

// BenchmarkParts tells what a GiB costs in processor time here, up and down, with
// and without a digest in the signature, with and without TLS. The checksum of
// the parts is made beforehand.
func BenchmarkParts(b *testing.B) {
	server := s3test.Start(b)
	data := make([]byte, 64<<20)
	if _, err := rand.Read(data); err != nil {
		b.Fatal(err)
	}
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	for _, unsigned := range []bool{false, true} {
		bucket := open(b, server, Options{})
		b.Run(fmt.Sprintf("up/unsigned=%v", unsigned), func(b *testing.B) {
			upload, err := bucket.Begin(b.Context(), "up", archive.UploadOptions{})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			before := processorTime(b)
			for b.Loop() {
				bucket.proven.Store(unsigned)
				if _, err := upload.Put(b.Context(), 1, archive.Body{ReadSeeker: bytes.NewReader(data), Size: int64(len(data)), CRC32C: sum}); err != nil {
					b.Fatal(err)
				}
			}
			perGiB(b, processorTime(b)-before, len(data))
		})
	}
	bucket := open(b, server, Options{})
	server.Put(b, bucket.o.Bucket, "down", data)
	b.Run("down", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		before := processorTime(b)
		for b.Loop() {
			in, err := bucket.Get(b.Context(), "down", 0, int64(len(data)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, in); err != nil {
				b.Fatal(err)
			}
			in.Close()
		}
		perGiB(b, processorTime(b)-before, len(data))
	})
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func perGiB(b *testing.B, used time.Duration, size int) {
	b.Helper()
	b.ReportMetric(used.Seconds()/float64(b.N)/float64(size)*(1<<30), "cpu-s/GiB")
}
