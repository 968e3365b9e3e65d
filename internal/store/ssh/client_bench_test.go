package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// canned is a store that gives one stream, and takes any.
type canned struct {
	*storetest.Memory
	raw []byte
}

func (c *canned) Open(context.Context, store.Request) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(c.raw)), nil
}

func (c *canned) Create(context.Context, store.Want) (store.Writer, error) { return swallow{}, nil }

type swallow struct{}

func (swallow) Write(p []byte) (int, error)  { return len(p), nil }
func (swallow) Commit(context.Context) error { return nil }
func (swallow) Close() error                 { return nil }

// piped is a connection made of two pipes, as ssh has them.
type piped struct {
	io.Reader
	io.Writer
	close func() error
}

func (p *piped) Close() error { return p.close() }

// overPipes is a client of a store.
func overPipes(b *testing.B, st store.Store) *Store {
	b.Helper()
	done := make(chan error, 1)
	s, err := Open(context.Background(), Options{
		Target: dial.Target{Host: "far"}, Dir: testDir, Mode: Write,
		Dial: func(context.Context) (io.ReadWriteCloser, error) {
			in, theirOut, err1 := os.Pipe()
			theirIn, out, err2 := os.Pipe()
			go func() {
				done <- Serve(context.Background(), theirIn, theirOut, ServeOptions{
					Mode: Write, Dir: testDir, Log: slog.New(slog.DiscardHandler),
					Open: func(context.Context, Wishes) (store.Store, error) { return st, nil },
				})
				_ = theirOut.Close()
				_ = theirIn.Close()
			}()
			return &piped{in, out, func() error { return errors.Join(out.Close(), in.Close()) }}, errors.Join(err1, err2)
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = s.Close()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return s
}

func benchStore(b *testing.B) (*canned, snapshot.Snapshot) {
	m := storetest.NewMemory("memory")
	m.SetBulk(64 << 20)
	x := m.Add("home", 1, "a")
	return &canned{m, streamOf(b, m, snapshot.Edge{To: x.ID})}, x
}

func BenchmarkPull(b *testing.B) {
	st, x := benchStore(b)
	s := overPipes(b, st)
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(st.raw)))
	for b.Loop() {
		in, err := s.Open(b.Context(), store.Request{Edge: snapshot.Edge{To: x.ID}})
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = in.Read(buf)
		}
		if err != io.EOF { //nolint:errorlint // itself
			b.Fatal(err)
		}
		_ = in.Close()
	}
}

func BenchmarkPush(b *testing.B) {
	st, x := benchStore(b)
	s := overPipes(b, st)
	b.SetBytes(int64(len(st.raw)))
	for b.Loop() {
		w, err := s.Create(b.Context(), store.Want{Edge: snapshot.Edge{To: x.ID}, Transid: x.Transid, Path: "b"})
		if err != nil {
			b.Fatal(err)
		}
		for rest := st.raw; len(rest) > 0; {
			n := min(len(rest), 128<<10)
			if _, err := w.Write(rest[:n]); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
