package endurance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/stream"
	"github.com/buttersink/buttersink/internal/transfer"
)

// damages are what happens to a stream that lay somewhere or went through
// something. Each returns another stream of its own memory, about a place.
var damages = []struct {
	name string
	do   func(rng *rand.Rand, s []byte, at int) []byte
}{
	{"a bit turned over", func(rng *rand.Rand, s []byte, at int) []byte {
		s = slices.Clone(s)
		s[at] ^= 1 << rng.IntN(8)
		return s
	}},
	{"cut off", func(_ *rand.Rand, s []byte, at int) []byte { return slices.Clone(s[:at]) }},
	{"a block twice", func(rng *rand.Rand, s []byte, at int) []byte {
		return slices.Insert(slices.Clone(s), at, block(rng, s, at)...)
	}},
	{"a block missing", func(rng *rand.Rand, s []byte, at int) []byte {
		return slices.Delete(slices.Clone(s), at, at+len(block(rng, s, at)))
	}},
	{"a block from elsewhere", func(rng *rand.Rand, s []byte, at int) []byte {
		other := block(rng, s, rng.IntN(len(s)))
		s = slices.Clone(s)
		copy(s[at:], other)
		return s
	}},
	{"two blocks in each other's places", func(rng *rand.Rand, s []byte, at int) []byte {
		a := block(rng, s, at)
		other := rng.IntN(len(s) - len(a) + 1)
		swapped := slices.Clone(s)
		copy(swapped[at:], s[other:][:len(a)])
		copy(swapped[other:], a)
		return swapped
	}},
	{"a block of zeros", func(rng *rand.Rand, s []byte, at int) []byte {
		n := len(block(rng, s, at))
		s = slices.Clone(s)
		clear(s[at:][:n])
		return s
	}},
	{"begun again", func(_ *rand.Rand, s []byte, at int) []byte { return slices.Concat(s[:at], s) }},
}

// block returns what is at a place, of a length as disks, pipes and pages have
// it, or any.
func block(rng *rand.Rand, s []byte, at int) []byte {
	n := []int{512, 4096, 65536, 1 + rng.IntN(100), 1 + rng.IntN(100_000)}[rng.IntN(5)]
	return s[at:min(len(s), at+n)]
}

// place returns a place in a stream: as often at the very start or end, where
// the heads and the END are, as anywhere.
func place(rng *rand.Rand, length int) int {
	switch rng.IntN(8) {
	case 0:
		return rng.IntN(min(length, 200))
	case 1:
		return length - 1 - rng.IntN(min(length, 100))
	default:
		return rng.IntN(length)
	}
}

// damaged calls do with damaged forms of a stream. Some places in some streams
// cannot be damaged in some ways, such as what is all zeros by zeros.
func damaged(s []byte, count int, seed uint64, do func(name string, bad []byte)) {
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < count; {
		d, at := damages[i%len(damages)], place(rng, len(s))
		bad := d.do(rng, s, at)
		if bytes.Equal(bad, s) {
			continue
		}
		i++
		do(fmt.Sprintf("%s, at byte %d of %d", d.name, at, len(s)), bad)
	}
}

// TestDamagedStreams damages real streams, full and incremental and of both
// protocols, at a thousand places: the verdict is always that they are bad.
func TestDamagedStreams(t *testing.T) {
	fs := btrfstest.New(t)
	live := fs.Subvolume("live")
	tree := btrfstest.NewTree(t, live, 11, btrfstest.Extra(20), btrfstest.Without(btrfstest.BigFiles, btrfstest.ManyLinks))
	tree.Fill()
	one := fs.Snapshot("live", "one", true)
	tree.Mutate()
	two := fs.Snapshot("live", "two", true)
	for i, s := range [][]byte{
		fs.Send(one), fs.Send(two, "-p", one),
		fs.Send(one, "--proto", "2", "--compressed-data"), fs.Send(two, "-p", one, "--proto", "2"),
	} {
		if _, _, err := stream.Verify(bytes.NewReader(s)); err != nil {
			t.Fatalf("stream %d is bad to begin with: %v", i, err)
		}
		damaged(s, times(t, 250), uint64(i), func(name string, bad []byte) {
			if _, _, err := stream.Verify(bytes.NewReader(bad)); err == nil {
				t.Errorf("stream %d with %s is good", i, name)
			}
		})
	}
}

// shown is a source that gives what it is told instead of its streams.
type shown struct {
	store.Store
	stream []byte
}

func (s *shown) Open(context.Context, store.Request) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.stream)), nil
}

// TestDamagedTransfers sends damaged streams to a real destination. Nothing of
// them is ever published, and nothing is left.
func TestDamagedTransfers(t *testing.T) {
	s := plain(t, 2, 1<<20)
	src, dst := opened(t, s.from()), opened(t, s.to())
	have, err := src.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wish plan.Wish
	for _, snap := range have.Snapshots {
		if !snap.Outside {
			wish.Want = append(wish.Want, snap.ID)
		}
	}
	for step := range 2 { // the first in full, the second as an increment
		there, err := dst.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		steps := plan.Sync(have, there, wish, func(snapshot.Edge) snapshot.Size { return snapshot.Size{} }).Steps[:1]
		if steps[0].Edge.IsFull() != (step == 0) {
			t.Fatalf("step %d is %v", step, steps[0].Edge)
		}
		good := content(t, src, steps[0])
		damaged(good, times(t, 60), uint64(step), func(name string, bad []byte) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			report := transfer.Run(ctx, steps, transfer.Options{
				Source: &shown{src, bad}, Destination: dst,
				Events: func(e transfer.Event) {
					if e.Kind == transfer.Retry { // it would be the same again
						cancel()
					}
				},
			})
			if report.Results[0].Err == nil || s.published(steps[0].Path) {
				t.Fatalf("%s: %+v", name, report.Results[0])
			}
			if err := report.Results[0].Err; len(s.dst.Subvolumes()) != step {
				t.Fatalf("%s: %v; left behind: %q", name, err, s.dst.Subvolumes())
			}
		})
		if err := transfer.Run(t.Context(), steps, transfer.Options{Source: src, Destination: dst}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.complete()
}

// opened opens a store for the time of the test.
func opened(t *testing.T, dir string) *local.Store {
	t.Helper()
	st, err := local.Open(dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// content returns the stream of a step.
func content(t *testing.T, src store.Source, step plan.Step) []byte {
	t.Helper()
	r, err := src.Open(t.Context(), store.Request{Edge: step.Edge})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// published reports whether anything is at a path of the destination.
func (s *scene) published(path string) bool {
	_, err := os.Lstat(s.to() + path)
	return err == nil
}
