package transfer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// realPair is two file systems, of which the first has some subvolumes with
// some snapshots each, 6 MB in full and 2 MB in an increment.
type realPair struct {
	src, dst   *btrfstest.FS
	from, to   *local.Store
	subvolumes int
	snapshots  int
}

func newRealPair(t testing.TB, subvolumes, snapshots int, from local.Options) *realPair {
	p := &realPair{src: btrfstest.New(t), dst: btrfstest.New(t), subvolumes: subvolumes, snapshots: snapshots}
	rng := rand.NewChaCha8([32]byte{byte(subvolumes)})
	for _, fs := range []*btrfstest.FS{p.src, p.dst} {
		if err := os.Mkdir(fs.Path("snaps"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for n := range subvolumes {
		live := fmt.Sprint("live", n)
		dir := p.src.Subvolume(live)
		for k := range snapshots {
			for i := range 6 {
				if k > 0 && i >= 2 {
					break
				}
				data := make([]byte, 1<<20)
				_, _ = rng.Read(data)
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			p.src.Snapshot(live, fmt.Sprintf("snaps/%d.%d", n, k), true)
		}
	}
	p.from = p.open(t, p.src, from)
	p.to = p.open(t, p.dst, local.Options{Checkpoints: replay.Checkpoints{Bytes: 256 << 10}})
	return p
}

func (p *realPair) open(t testing.TB, fs *btrfstest.FS, o local.Options) *local.Store {
	s, err := local.Open(fs.Path("snaps"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// plan plans all that is missing, as small steps.
func (p *realPair) plan(t testing.TB) []plan.Step {
	here, err := p.from.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there, err := p.to.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var w plan.Wish
	for _, s := range here.Inside() {
		w.Want = append(w.Want, s.ID)
	}
	return sized(plan.Sync(here, there, w, func(snapshot.Edge) snapshot.Size { return snapshot.AboutSize(1 << 20) }).Steps, snapshot.AboutSize(1<<20))
}

// check expects equal trees on both sides, and nothing else at the destination.
func (p *realPair) check(t testing.TB) {
	for n := range p.subvolumes {
		for k := range p.snapshots {
			path := fmt.Sprintf("snaps/%d.%d", n, k)
			if d := btrfstest.Diff(t, p.src.Path(path), p.dst.Path(path)); d != "" {
				t.Errorf("%s: %s", path, d)
			}
		}
	}
	inv, err := p.to.List(t.Context())
	if err != nil || len(inv.Partials) > 0 || len(inv.Snapshots) != p.subvolumes*p.snapshots {
		t.Errorf("%d snapshots, unfinished %+v, %v", len(inv.Snapshots), inv.Partials, err)
	}
}

// TestRealCarriesOn breaks off the streams of a full snapshot and of an
// increment, and carries them on.
func TestRealCarriesOn(t *testing.T) {
	for name, o := range map[string]local.Options{
		"composed": {}, "by the kernel": {KernelSend: true}, "by the kernel in protocol 1": {KernelSend: true, Protocol: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRealPair(t, 1, 2, o)
			for i, at := range []int64{4 << 20, 3 << 19} {
				f := storetest.NewFault(p.from)
				steps := p.plan(t)[:1]
				f.On(storetest.Open).Break(at, errLasting)
				if r := Run(t.Context(), steps, Options{Source: f, Destination: p.to}); r.Count(Failed) != 1 {
					t.Fatalf("step %d: %s", i, outcomes(r))
				}
				r := Run(t.Context(), p.plan(t)[:1], Options{Source: f, Destination: p.to})
				if x := r.Results[0]; x.Outcome != Committed || x.Resumed < 1<<20 || x.Resumed > at {
					t.Errorf("step %d: %s (%v), resumed at byte %d of %d", i, x.Outcome, x.Err, x.Resumed, x.Bytes)
				}
			}
			p.check(t)
		})
	}
}

// TestRealSideBySide carries several subvolumes at a time.
func TestRealSideBySide(t *testing.T) {
	p := newRealPair(t, 4, 3, local.Options{})
	r := Run(t.Context(), p.plan(t), Options{Source: p.from, Destination: p.to, Parallel: 4})
	if r.Err() != nil {
		t.Error(r.Err())
	}
	p.check(t)
}
