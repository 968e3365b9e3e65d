package wire

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"testing"
)

// BenchmarkData carries data of one call and of several, over pipes of Go's and of
// the kernel's.
func BenchmarkData(b *testing.B) {
	for _, kind := range []string{"io", "os"} {
		for _, calls := range []int{1, 4} {
			for _, size := range []int{100, 4 << 10, 64 << 10, 1 << 20} {
				b.Run(fmt.Sprintf("%s/calls=%d/write=%d", kind, calls, size), func(b *testing.B) { carry(b, kind, calls, size, Options{}) })
			}
		}
	}
}

// BenchmarkCompressed carries data that shrink, and such that do not, where the
// way is so fast that compressing does not pay.
func BenchmarkCompressed(b *testing.B) {
	b.Run("off", func(b *testing.B) { carry(b, "os", 1, 256<<10, Options{}) })
	b.Run("on", func(b *testing.B) { carry(b, "os", 1, 256<<10, Options{Compress: true}) })
}

func carry(b *testing.B, kind string, calls, size int, o Options) {
	cl, sv, closing := connect(b, kind, o)
	defer closing()
	go func() {
		for {
			k, _, err := sv.Accept(b.Context())
			if err != nil {
				return
			}
			go func() {
				_, err := io.Copy(io.Discard, k)
				if err == nil {
					_, _ = k.Receive(b.Context())
				}
				_ = k.End(nil)
			}()
		}
	}()
	data := make([]byte, size)
	if _, err := rand.Read(data[:size/2]); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	share := make(chan struct{}, 1024)
	done := make(chan error, calls)
	for range calls {
		go func() {
			k, err := cl.Call(b.Context(), []byte("put"))
			if err != nil {
				done <- err
				return
			}
			for range share {
				if _, err := k.Write(data); err != nil {
					done <- err
					return
				}
			}
			if err = k.End([]byte("all")); err == nil {
				if _, err = k.Receive(b.Context()); err == io.EOF {
					err = nil
				}
			}
			done <- err
		}()
	}
	for b.Loop() {
		share <- struct{}{}
	}
	close(share)
	for range calls {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCalls makes small calls, one after the other.
func BenchmarkCalls(b *testing.B) {
	cl, sv, closing := connect(b, "os", Options{})
	defer closing()
	go func() {
		for {
			k, request, err := sv.Accept(b.Context())
			if err != nil {
				return
			}
			_ = k.End(request)
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		k, err := cl.Call(b.Context(), []byte("echo"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := k.Receive(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// connect makes a client and a server that are connected by pipes.
func connect(t testing.TB, kind string, o Options) (cl, sv *Conn, closing func()) {
	t.Helper()
	var ends [4]io.Closer
	var r [2]io.Reader
	var w [2]io.Writer
	for i := range 2 {
		if kind == "os" {
			pr, pw, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r[i], w[i], ends[2*i], ends[2*i+1] = pr, pw, pr, pw
		} else {
			pr, pw := io.Pipe()
			r[i], w[i], ends[2*i], ends[2*i+1] = pr, pw, pr, pw
		}
	}
	cl, sv = NewClient(r[0], w[1], o), NewServer(r[1], w[0], o)
	return cl, sv, func() {
		_ = cl.Close()
		_ = sv.Close()
		for _, e := range ends {
			_ = e.Close()
		}
	}
}
