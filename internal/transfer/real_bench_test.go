package transfer

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
)

var turns = flag.Int("turns", 5, "how often BenchmarkIncrements times each way")

// BenchmarkIncrements times increments between two real file systems, the ways
// in turns: nothing at the same time, the next stream opened while one commits,
// and several side by side. It reports medians, and their ratio to the first
// way.
func BenchmarkIncrements(b *testing.B) {
	chain := []way{{"in-turn", 1, false}, {"ahead", 1, true}}
	b.Run("12 of 1", func(b *testing.B) { increments(b, 1, 12, 600, 20, chain) })
	b.Run("10 of 10", func(b *testing.B) {
		increments(b, 10, 10, 600, 20, append(chain, way{"4-at-once", 4, true}, way{"8-at-once", 8, true}))
	})
}

// way is how increments are carried.
type way struct {
	name     string
	parallel int
	ahead    bool
}

func increments(b *testing.B, subvolumes, count, files, changes int, ways []way) {
	src, dst := btrfstest.New(b, btrfstest.Size(2<<30)), btrfstest.New(b, btrfstest.Size(2<<30))
	rng := rand.New(rand.NewPCG(1, 2))
	write := func(dir string, i int) {
		data := make([]byte, 1000+rng.IntN(30_000))
		for j := range data[:len(data)/2] {
			data[j] = byte(rng.Uint32())
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, fs := range []*btrfstest.FS{src, dst} {
		if err := os.Mkdir(fs.Path("snaps"), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for n := range subvolumes {
		live := fmt.Sprint("live", n)
		dir := src.Subvolume(live)
		for i := range files {
			write(dir, i)
		}
		for k := range count + 1 {
			for range changes {
				write(dir, rng.IntN(files))
			}
			src.Snapshot(live, fmt.Sprintf("snaps/%d.%02d", n, k), true)
		}
	}
	took := make([][]time.Duration, len(ways))
	carry := func(want func(s snapshot.Snapshot) bool, parallel int, ahead bool) time.Duration {
		src.Remount()
		dst.Remount()
		from, to := openLocal(b, src), openLocal(b, dst)
		defer from.Close()
		defer to.Close()
		here, there := listed(b, from), listed(b, to)
		var wish plan.Wish
		for _, s := range here.Inside() {
			if want(s) {
				wish.Want = append(wish.Want, s.ID)
			}
		}
		p := plan.Sync(here, there, wish, func(snapshot.Edge) snapshot.Size { return snapshot.AboutSize(1 << 20) })
		o := Options{Source: from, Destination: to, Parallel: parallel}
		if !ahead {
			gate := &sync.RWMutex{}
			o.Source, o.Destination = gatedSource{from, gate}, gatedSink{to, gate}
		}
		begun := time.Now()
		r := Run(b.Context(), sized(p.Steps, snapshot.AboutSize(1<<20)), o)
		if r.Err() != nil || len(r.Results) == 0 {
			b.Fatal(r.Err(), p.Problems)
		}
		return time.Since(begun)
	}
	first := func(s snapshot.Snapshot) bool { return filepath.Ext(s.Path) == ".00" }
	carry(first, 1, true)
	for range *turns {
		for i, w := range ways {
			took[i] = append(took[i], carry(func(s snapshot.Snapshot) bool { return !first(s) }, w.parallel, w.ahead))
			for n := range subvolumes {
				for k := range count {
					dst.Delete(fmt.Sprintf("snaps/%d.%02d", n, k+1))
				}
			}
			dst.Sync()
		}
	}
	var base time.Duration
	for i, w := range ways {
		slices.Sort(took[i])
		median := took[i][len(took[i])/2]
		if i == 0 {
			base = median
		}
		b.ReportMetric(median.Seconds(), w.name+"-s")
		b.ReportMetric(median.Seconds()/base.Seconds(), w.name+"-ratio")
	}
}

func openLocal(b *testing.B, fs *btrfstest.FS) *local.Store {
	s, err := local.Open(fs.Path("snaps"), local.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func listed(b *testing.B, s store.Store) *snapshot.Inventory {
	inv, err := s.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return inv
}

// gatedSource and gatedSink let nothing be opened while something commits.
type gatedSource struct {
	*local.Store
	gate *sync.RWMutex
}

func (s gatedSource) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.Store.Open(ctx, r)
}

type gatedSink struct {
	*local.Store
	gate *sync.RWMutex
}

func (s gatedSink) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Store.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return gatedWriter{w, s.gate}, nil
}

type gatedWriter struct {
	store.Writer
	gate *sync.RWMutex
}

func (w gatedWriter) Commit(ctx context.Context) error {
	w.gate.Lock()
	defer w.gate.Unlock()
	return w.Writer.Commit(ctx)
}
