package archive

import (
	"errors"
	"testing"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// What is left of a stream beside its manifest is no success of somebody else.
func TestLostToRemains(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 300_000, 1)
	for _, left := range []int{0, 1000} {
		b := newMemoryBucket()
		f := openOn(t, b, nil, nil)
		want := sized(edge, data)
		if _, err := f.store(t.Context(), want, runs(t, data)); err != nil {
			t.Fatal(err)
		}
		key := streamKey(f.o.Prefix, want.Path, edge, seal.Form{})
		o := b.objects[key]
		o.data = o.data[:left]
		b.objects[key] = o
		again := openOn(t, b, nil, nil)
		if w, err := again.Create(t.Context(), want); left == 0 && err == nil {
			t.Errorf("the stream is made, for nothing: %v", w.Close())
		} else if err == nil {
			_ = w.Close()
		}
		_, err := again.store(t.Context(), sized(edge, data), runs(t, data))
		if _, ok := errors.AsType[*store.ExistsError](err); !ok {
			t.Errorf("over %d bytes of %d: %v", left, len(data), err)
		}
	}
}
