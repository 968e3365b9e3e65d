package transfer

import (
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// total sums up the streams of a run.
type total struct {
	done     int64 // of the steps that are Committed
	expected int64 // of those, and of the steps that are to come
	unknown  int   // how many have no known size
	about    int   // how many sizes are estimates
}

// sizeOf is what a step is expected to carry.
func sizeOf(s plan.Step) snapshot.Size {
	if s.Action == plan.Copy {
		return snapshot.ExactSize(0)
	}
	return s.Size
}

func (t *total) add(s snapshot.Size)    { t.change(s, 1) }
func (t *total) remove(s snapshot.Size) { t.change(s, -1) }

func (t *total) change(s snapshot.Size, sign int) {
	switch {
	case !s.Known:
		t.unknown += sign
		return
	case !s.Exact:
		t.about += sign
	}
	t.expected += int64(sign) * s.Bytes
}

// with adds the steps that are on their way. One that has come further than was
// expected shows by how much the sum is too small.
func (t *total) with(active []*position) (done, expected int64, known, exact bool) {
	done, expected = t.done, t.expected
	for _, p := range active {
		at := p.place.Load()
		done += at
		if s := sizeOf(p.step); s.Known {
			expected += max(at-s.Bytes, 0)
		} else {
			expected += at
		}
	}
	return done, expected, t.unknown == 0, t.unknown == 0 && t.about == 0
}
