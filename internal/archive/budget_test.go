package archive

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// Eight uploads that all begin parts, of which many turn out longer than was
// reserved, come to their end with room for two.
func TestBudgetEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const part = 16
		b := newBudget(2 * part)
		seed := rapid.Uint64().Draw(t, "seed")
		var all sync.WaitGroup
		for i := range 8 {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			all.Go(func() {
				narrow := b.widen(part)
				defer narrow()
				for range 10 {
					n := 1 + rng.Int64N(part)
					r, err := b.reserve(context.Background(), n)
					for ; err == nil && n < part && rng.IntN(4) > 0; n++ {
						err = r.more(context.Background(), 1)
					}
					if err != nil {
						panic(err)
					}
					r.release(nil)
				}
			})
		}
		all.Wait()
		if b.used != 0 || b.beyond != nil || len(b.begin)+len(b.grow) > 0 || len(b.wide) > 0 {
			t.Fatalf("at the end: %+v", b)
		}
		if b.peak > 3*part {
			t.Fatalf("%d were reserved at a time", b.peak)
		}
	})
}

// What has the length that was announced never takes more than the bound.
func TestBudgetHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBudget(int64(rapid.IntRange(10, 40).Draw(t, "bound")))
		lengths := rapid.SliceOfN(rapid.Int64Range(1, 10), 1, 40).Draw(t, "lengths")
		var all sync.WaitGroup
		for _, n := range lengths {
			all.Go(func() {
				r, err := b.reserve(context.Background(), n)
				if err != nil {
					panic(err)
				}
				r.release(nil)
			})
		}
		all.Wait()
		if b.peak > b.base || b.used != 0 {
			t.Fatalf("peak %d of %d, %d left", b.peak, b.base, b.used)
		}
	})
}

func TestBudgetOrderAndCancel(t *testing.T) {
	b := newBudget(10)
	first, err := b.reserve(context.Background(), 8)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("no longer wanted")
	got := make(chan error)
	go func() {
		_, err := b.reserve(ctx, 8)
		got <- err
	}()
	cancel(why)
	if err := <-got; !errors.Is(err, why) {
		t.Errorf("waiting ended with %v", err)
	}
	if _, err := b.reserve(ctx, 1); !errors.Is(err, why) {
		t.Errorf("reserving after the end gives %v", err)
	}
	// One that is longer than all there is has its turn when nothing else is there.
	done := make(chan *reservation)
	go func() {
		r, err := b.reserve(context.Background(), 50)
		if err != nil {
			panic(err)
		}
		done <- r
	}()
	first.release(nil)
	(<-done).release(nil)
	if b.used != 0 {
		t.Errorf("%d are left reserved", b.used)
	}
}

func TestBudgetWidens(t *testing.T) {
	b := newBudget(10)
	narrow := b.widen(100)
	for range 2 {
		if _, err := b.reserve(context.Background(), 100); err != nil {
			t.Fatal(err)
		}
	}
	narrow()
	narrow()
	if got := b.bound(); got != 10 {
		t.Errorf("the bound is %d after all", got)
	}
}

func TestBlocksAreUsedAgain(t *testing.T) {
	b := newBudget(2 * blockSize)
	one := b.block()
	b.giveBack(one[:5])
	if again := b.block(); &again[0] != &one[0] || len(again) != blockSize {
		t.Error("a block that was given back is not used again")
	}
	for range 5 {
		b.giveBack(make([]byte, blockSize))
	}
	if len(b.free) != 2 {
		t.Errorf("%d blocks are kept", len(b.free))
	}
}
