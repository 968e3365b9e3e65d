package archive

import (
	"context"
	"errors"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// cutAfter has the line cut after a number of parts, and returns the error of
// whoever stores them.
func cutAfter(t *testing.T, f *fixture, parts int, data []byte, e snapshot.Edge) {
	t.Helper()
	n := 0
	f.b.hook = func(op, _ string) error {
		if op == "Part" {
			f.b.mu.Lock()
			n++
			over := n > parts
			f.b.mu.Unlock()
			if over {
				return store.MarkTemporary(errors.New("the line is cut"))
			}
		}
		return nil
	}
	if _, err := f.store(t.Context(), sized(e, data), runs(t, data)); !store.Temporary(err) {
		t.Fatalf("the line was not cut: %v", err)
	}
	f.b.hook = nil
}

// An upload that is carried on stays for the next run, even if this one is over
// before it has come to the first part.
func TestCarriedOnInVain(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 900_000, 1)
	for name, sealing := range ways {
		b, notes := newMemoryBucket(), newNotes()
		open := func() *fixture {
			return openOn(t, b, notes, func(o *Options) { o.Seal, o.Keys = sealing, keys })
		}
		cutAfter(t, open(), 3, data, edge)
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			w, err := open().Create(ctx, sized(edge, data))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			cancel()
			if err := w.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		f := open()
		skipped, err := f.store(t.Context(), sized(edge, data), runs(t, data))
		if err != nil || skipped != 300_000 {
			t.Errorf("%s: skipped %d: %v", name, skipped, err)
		}
		f.settled(t)
	}
}
