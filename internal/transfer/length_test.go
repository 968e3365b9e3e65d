package transfer

import (
	"context"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// endless is a source of one stream that is made as it is read, and a
// destination that throws it away.
type endless struct {
	*storetest.Memory
	head, body, tail []byte
	times            int
}

func newEndless(tb testing.TB, times int) endless {
	m := storetest.NewMemory("endless")
	m.SetBulk(48 << 10)
	m.Add("a", 1, "a")
	in, err := m.Open(tb.Context(), store.Request{Edge: snapshot.Edge{To: storetest.IDOf("a", 1)}})
	if err != nil {
		tb.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		tb.Fatal(err)
	}
	// The bulk is the first file: subvol, mkfile, and one write.
	var at []int
	r := stream.NewReader(strings.NewReader(string(raw)))
	for {
		c, err := r.Next()
		if err != nil {
			break
		}
		at = append(at, int(c.Offset))
	}
	return endless{m, raw[:at[2]], raw[at[2]:at[3]], raw[at[3]:], times}
}

func (e endless) Open(context.Context, store.Request) (io.ReadCloser, error) {
	parts := []io.Reader{strings.NewReader(string(e.head))}
	return io.NopCloser(io.MultiReader(append(parts, &repeat{data: e.body, times: e.times}, strings.NewReader(string(e.tail)))...)), nil
}

type repeat struct {
	data  []byte
	at    int
	times int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	for r.times > 0 && n < len(p) {
		k := copy(p[n:], r.data[r.at:])
		n, r.at = n+k, r.at+k
		if r.at == len(r.data) {
			r.at, r.times = 0, r.times-1
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (e endless) Create(context.Context, store.Want) (store.Writer, error) {
	return discard{io.Discard}, nil
}

type discard struct{ io.Writer }

func (discard) Commit(context.Context) error { return nil }
func (discard) Close() error                 { return nil }

func (e endless) steps() []plan.Step {
	return []plan.Step{{Action: plan.Send, Edge: snapshot.Edge{To: storetest.IDOf("a", 1)}, Path: "a"}}
}

func TestMemoryIsBounded(t *testing.T) {
	e := newEndless(t, 10_000) // 480 MB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := Run(t.Context(), e.steps(), Options{Source: e, Destination: e})
	runtime.ReadMemStats(&after)
	if r.Err() != nil || r.Bytes() < 480_000_000 {
		t.Fatal(r.Bytes(), r.Err())
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated for a stream of %d", n, r.Bytes())
	}
}

func BenchmarkTransfer(b *testing.B) {
	e := newEndless(b, 10_000)
	var n int64
	for b.Loop() {
		r := Run(b.Context(), e.steps(), Options{Source: e, Destination: e})
		if r.Err() != nil {
			b.Fatal(r.Err())
		}
		n = r.Bytes()
	}
	b.SetBytes(n)
}
