package archive

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

func TestShape(t *testing.T) {
	const mib = 1 << 20
	s3 := Limits{Small: 5 << 30, MinPart: 5 * mib, MaxPart: 5 << 30, Parts: 10_000, Object: 5 << 40}
	for _, c := range []struct {
		partSize int64
		size     snapshot.Size
		want     int64 // MiB
	}{
		{100 * mib, snapshot.ExactSize(1 << 30), 100},
		{100 * mib, snapshot.Size{}, 105},
		{5 * mib, snapshot.Size{}, 105},
		{5 * mib, snapshot.AboutSize(10 << 30), 5},
		{1 * mib, snapshot.ExactSize(0), 5},
		{5 * mib, snapshot.ExactSize(50_000 * mib), 5},
		{5 * mib, snapshot.ExactSize(50_000*mib + 1), 6},
		{5 * mib, snapshot.AboutSize(50_000 * mib), 10},
		{100 * mib, snapshot.AboutSize(4 << 40), 525}, // twice that would not fit at all
		{100 * mib, snapshot.ExactSize(5 << 40), 525},
	} {
		b := newMemoryBucket()
		b.limits = s3
		f := openOn(t, b, nil, func(o *Options) { o.PartSize = c.partSize })
		if got, err := f.shape(c.size); err != nil || got.part != c.want*mib {
			t.Errorf("%d MiB for %+v: %d bytes, want %d MiB: %v", c.partSize/mib, c.size, got.part, c.want, err)
		}
	}
}

// Where parts have to be powers of two, they are, and as short as will do.
func TestShapeOfVaults(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		partSize int64
		size     snapshot.Size
		want     int64 // MiB
	}{
		{100 * mib, snapshot.ExactSize(1 << 30), 128},
		{100 * mib, snapshot.Size{}, 128},
		{1, snapshot.ExactSize(1000), 1},
		{16 * mib, snapshot.ExactSize(10), 16},
		{1 * mib, snapshot.ExactSize(10_000 * mib), 1},
		{1 * mib, snapshot.ExactSize(10_001 * mib), 2},
		{1 * mib, snapshot.AboutSize(10_001 * mib), 4},
		{100 * mib, snapshot.ExactSize(39 << 40), 4096},
		{9 << 30, snapshot.ExactSize(1), 4096},
	} {
		b := newMemoryBucket()
		b.limits = Limits{Small: 64 << 10, MinPart: mib, MaxPart: 4 << 30, Parts: 10_000, Object: 10_000 * (4 << 30), PowersOfTwo: true}
		f := openOn(t, b, nil, func(o *Options) { o.PartSize = c.partSize })
		if got, err := f.shape(c.size); err != nil || got.part != c.want*mib {
			t.Errorf("%d MiB for %+v: %d bytes, want %d MiB: %v", c.partSize/mib, c.size, got.part, c.want, err)
		}
	}
}

// Whatever the bucket, parts are as it wants them, and hold what was announced,
// twice that where it was an estimate.
func TestShapeHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{MinPart: rapid.Int64Range(0, 10<<20).Draw(t, "least"), Parts: rapid.IntRange(1, 20_000).Draw(t, "parts")}
		l.MaxPart = rapid.Int64Range(max(l.MinPart, 1), 5<<30).Draw(t, "most")
		l.Object = rapid.Int64Range(l.MaxPart, 50<<40).Draw(t, "object")
		b := newMemoryBucket()
		b.limits = l
		f := openOn(t, b, nil, func(o *Options) { o.PartSize = rapid.Int64Range(1, 1<<30).Draw(t, "part size") })
		n := rapid.Int64Range(0, 60<<40).Draw(t, "size")
		size := snapshot.Size{Bytes: n, Known: true, Exact: rapid.Bool().Draw(t, "exact")}
		most := l.holds(l.MaxPart)
		sh, err := f.shape(size)
		if _, large := errors.AsType[*tooLargeError](err); large != (n > most) || err != nil && !large {
			t.Fatalf("%d bytes of %d: %v", n, most, err)
		}
		if err != nil {
			return
		}
		need := n
		if !size.Exact {
			need = min(2*n, most)
		}
		if sh.part < l.MinPart || sh.part > l.MaxPart || l.holds(sh.part) < need {
			t.Fatalf("parts of %d, which hold %d, for %d", sh.part, l.holds(sh.part), need)
		}
	})
}

// A stream that does not fit into what was begun for it fails, and is not carried
// on; where longer parts would do, the next try has them.
func TestOutgrown(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 950_000, 1)
	ways, keys := sealings(t)
	for name, sealing := range ways {
		b := newMemoryBucket()
		b.limits.Parts = 3
		f := openOn(t, b, newNotes(), func(o *Options) { o.Seal, o.Keys = sealing, keys })
		_, err := f.store(t.Context(), store.Want{Edge: edge, Path: "a", Size: snapshot.AboutSize(100_000)}, runs(t, data))
		if _, ok := errors.AsType[*outgrownError](err); !ok || store.Temporary(err) || !strings.Contains(err.Error(), "293 KiB") {
			t.Errorf("%s: %v", name, err)
		}
		f.settled(t)
		if len(b.objects) > 0 {
			t.Errorf("%s: something is stored", name)
		}
	}
	// An upload of somebody who made shorter parts.
	b := newMemoryBucket()
	b.limits.Parts = 3
	begun(t, b, "pre/fix/a/"+edgeName(edge, seal.Form{}), chunks(data, 100_000)[:2]...)
	f := openOn(t, b, newNotes(), nil)
	want := store.Want{Edge: edge, Path: "a"}
	if _, err := f.store(t.Context(), want, runs(t, data)); !store.Temporary(err) || !errors.Is(err, errAgain) {
		t.Errorf("carrying on with parts that are too short: %v", err)
	}
	f.settled(t)
	if _, err := f.store(t.Context(), want, runs(t, data)); err != nil {
		t.Errorf("again: %v", err)
	}
	f.settled(t)
}
