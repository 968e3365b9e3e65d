package archive

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Whatever the writes are, the sum is that of all of them, and a stream that is
// closed anywhere leaves nothing running.
func TestSideSum(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	data := make([]byte, 3*sideBlocks*sideBlock+17)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(data)
	for _, step := range []int{1000, sideBlock - 1, sideBlock, len(data)} {
		b := &sideSum{sum: sha256.New()}
		p := make([]byte, step)
		for at := 0; at < len(data); at += step {
			b.Write(p[:copy(p, data[at:])]) // p is written over by the next
		}
		b.end()
		b.end()
		if got := Hash(b.sum.Sum(nil)); got != sha256.Sum256(data) {
			t.Errorf("in writes of %d bytes: another sum", step)
		}
	}
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	stream := streamOf(t, edge, 900_000, 1)
	for name, sealing := range ways {
		f := openOn(t, newMemoryBucket(), nil, func(o *Options) { o.Seal, o.Keys = sealing, keys })
		if _, err := f.store(t.Context(), sized(edge, stream), runs(t, stream)); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 300_000, len(stream)} {
			in, err := f.Open(t.Context(), store.Request{Edge: edge})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(in, make([]byte, n)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := in.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
