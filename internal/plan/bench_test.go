package plan

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// many makes a source of so many snapshots: families of every shape, from a
// single crowd of siblings to chains of received copies, and a destination that
// has some of them.
func many(n int, shape string) (src, dst *snapshot.Inventory) {
	src, dst = inventory(), inventory()
	src.Lineage = map[snapshot.ID]snapshot.ID{}
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range n {
		s := snap(fmt.Sprintf("s%06d", i), "x", uint64(10*i+r.IntN(10)))
		switch shape {
		case "crowd":
		case "families":
			s = snap(s.Path, fmt.Sprintf("f%d", i%100), s.Generation)
		case "received":
			s.UUID, s.Received = id("copy-"+s.Path), true
			s.Parent = snapshot.ID{}
			if i > 0 {
				s.Parent = src.Snapshots[i-1].UUID
			}
		case "clones": // every snapshot is of a subvolume of its own
			live := fmt.Sprintf("live%06d", i)
			s = snap(s.Path, live, s.Generation)
			src.Lineage[s.Parent] = id("base")
		}
		src.Snapshots = append(src.Snapshots, s)
		if i%10 == 0 && i < n/2 {
			dst.Snapshots = append(dst.Snapshots, copyOf(s, ""))
		}
	}
	return src, dst
}

// sized answers sizes that are a little different for every edge.
func sized(src *snapshot.Inventory) Sizes {
	return func(e snapshot.Edge) snapshot.Size {
		to, _ := src.Find(e.To)
		h := int64(e.To[5])*31 + int64(e.To[6])*17 + int64(e.From[6])*7
		if e.IsFull() {
			return snapshot.ExactSize(1e9 + int64(to.Generation)*1000 + h)
		}
		from, _ := src.Find(e.From)
		d := int64(to.Generation) - int64(from.Generation)
		return snapshot.ExactSize(max(d, -d/2)*1e5 + h)
	}
}

func benchmarkSync(b *testing.B, n int) {
	for _, shape := range []string{"crowd", "families", "received", "clones"} {
		for _, kind := range []string{"live", "live-sized", "archive"} {
			b.Run(shape+"/"+kind, func(b *testing.B) {
				src, dst := many(n, shape)
				var sizes Sizes
				if kind != "live" {
					sizes = sized(src)
				}
				if kind == "archive" {
					dst = archive()
				}
				w := Wish{Want: all(src)}
				b.ReportAllocs()
				for b.Loop() {
					c := Candidates(src, dst, w)
					p := Sync(src, dst, w, sizes)
					if len(p.Steps)+len(p.Keep) != n || len(c) == 0 {
						b.Fatalf("%d steps, %d kept, %d candidates", len(p.Steps), len(p.Keep), len(c))
					}
					b.ReportMetric(float64(p.Cost)/float64(max(p.Bound, 1)), "cost/bound")
					b.ReportMetric(float64(p.Cost)/float64(n)/1e9, "GB/snapshot")
				}
			})
		}
	}
}

func BenchmarkSync100(b *testing.B)   { benchmarkSync(b, 100) }
func BenchmarkSync1000(b *testing.B)  { benchmarkSync(b, 1000) }
func BenchmarkSync5000(b *testing.B)  { benchmarkSync(b, 5000) }
func BenchmarkSync20000(b *testing.B) { benchmarkSync(b, 20000) }

// BenchmarkRestore plans what a few and what many snapshots of an archive need.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{1000, 5000, 20000} {
		src, _ := many(n, "crowd")
		up := Sync(src, archive(), Wish{Want: all(src)}, sized(src))
		stored := archive()
		for _, s := range up.Steps {
			stored.Snapshots = append(stored.Snapshots, s.Snapshot)
			stored.Edges = append(stored.Edges, snapshot.Stored{Edge: s.Edge, Size: s.Size})
		}
		for _, part := range []int{n / 2, 100, 1} {
			b.Run(fmt.Sprintf("%d-of-%d", part, n), func(b *testing.B) {
				w := Wish{}
				for i := range part {
					w.Want = append(w.Want, stored.Snapshots[i*n/part].ID)
				}
				for b.Loop() {
					if p := Sync(stored, inventory(), w, nil); len(p.Problems) > 0 {
						b.Fatalf("%+v", p.Problems[0])
					}
				}
			})
		}
	}
}

// archive is an archive that holds some streams.
func archive(edges ...snapshot.Stored) *snapshot.Inventory {
	return &snapshot.Inventory{Archive: true, Edges: edges, Occupied: map[string]string{}}
}
