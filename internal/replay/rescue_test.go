package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// broken reads up to an offset, and fails there.
func broken(in []byte, at int) io.Reader {
	return io.MultiReader(bytes.NewReader(in[:at]), readerFunc(func([]byte) (int, error) {
		return 0, errors.New("the connection is lost")
	}))
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// heavy is a stream of 17 MiB of data, and of small files in directories after it,
// made as the kernel makes them.
func heavy(t testing.TB) (in []byte, data int) {
	f := newForge(t, 2)
	f.file("big")
	for i := range 17 * 16 {
		f.add(stream.Command{Kind: stream.Write, Path: []byte("big"), FileOffset: uint64(i) << 16, Data: bytes.Repeat([]byte{byte(i), 1, 7, byte(i >> 4)}, 1<<14)})
	}
	data = f.out.Len()
	f.mkdir("o1").rename("o1", "dir")
	for i := range 60 {
		temporary, path := fmt.Sprintf("o%d-7-0", i), fmt.Sprintf("dir/f%d", i)
		f.file(temporary).rename(temporary, path).write(path, strings.Repeat(fmt.Sprint(i), 300)).chmod(path, 0o640)
	}
	return f.end(), data
}

// A receive whose stream is cut off, by its reader or by the context, goes on where
// that was, wherever it was.
func TestRescued(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	in, data := heavy(t)
	b.must("whole", in)
	rng := rand.New(rand.NewPCG(7, uint64(len(in))))
	for i := range 8 {
		name := fmt.Sprintf("x%d", i)
		cut := data + rng.IntN(len(in)-data-10)
		r := New(Options{Filesystem: b.fs, Dir: b.dir, Name: name})
		if err := r.Receive(context.Background(), stream.NewReader(broken(in, cut))); err == nil {
			t.Fatal("it is received")
		}
		if err := r.Abandon(); err != nil {
			t.Fatal(err)
		}
		from, err := b.attempt(name, in, -1, Checkpoints{})
		if err != nil {
			t.Fatal(err)
		}
		// No command of these is longer.
		if from.Offset > int64(cut) || from.Offset < int64(cut-70_000) {
			t.Errorf("cut off at %d, and carried on from %d", cut, from.Offset)
		}
		same(t, "carried on", b.path("whole"), b.path(name), btrfstest.WithoutTimes())
	}

	ctx, cancel := context.WithCancel(context.Background())
	some := bytes.NewReader(in)
	r := New(Options{Filesystem: b.fs, Dir: b.dir, Name: "y"})
	err := r.Receive(ctx, stream.NewReader(readerFunc(func(p []byte) (int, error) {
		if some.Len() < len(in)-data+200_000 {
			cancel()
		}
		return some.Read(p[:min(len(p), 100_000)])
	})))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if err := r.Abandon(); err != nil {
		t.Fatal(err)
	}
	if from, err := b.attempt("y", in, -1, Checkpoints{}); err != nil || from.Offset < 16<<20 {
		t.Errorf("carried on from %d: %v", from.Offset, err)
	}
	if left := b.parts(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What is not worth it, or not wanted, leaves nothing.
func TestNotRescued(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	in, data := heavy(t)
	for name, c := range map[string]struct {
		in    io.Reader
		every Checkpoints
	}{
		"little":     {broken(in, 15<<20), Checkpoints{}},
		"not wanted": {broken(in, data), Checkpoints{Bytes: -1, Every: -1}},
		"truncated":  {bytes.NewReader(in[:data]), Checkpoints{}},
	} {
		r := New(Options{Filesystem: b.fs, Dir: b.dir, Name: "x", Checkpoints: c.every})
		if err := r.Receive(context.Background(), stream.NewReader(c.in)); err == nil {
			t.Fatalf("%s: it is received", name)
		}
		if err := r.Abandon(); err != nil {
			t.Error(err)
		}
		if left := b.parts(); len(left) > 0 {
			t.Errorf("%s: left is %v", name, left)
		}
	}
}
