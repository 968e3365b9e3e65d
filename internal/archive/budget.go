package archive

import (
	"context"
	"slices"
	"sync"
)

// blockSize is the length of the blocks that parts are made of.
const blockSize = 1 << 20

// budget bounds the memory that the parts of all uploads of a Store take, and
// keeps the blocks they are made of for the next ones. Who begins a part
// reserves its whole length first, and holds no unfinished part while it waits;
// so whatever is reserved comes to its end and is given back.
//
// A part that turns out longer than what was reserved for it can grow. It goes
// before those that begin, and where nothing is left, one at a time may go
// beyond the bound: else two that wait for each other would wait for ever.
type budget struct {
	mu     sync.Mutex
	base   int64         // the bound, as long as all parts are small
	wide   map[int64]int // lengths of parts of uploads that go on, and how many
	used   int64         // reserved bytes
	peak   int64         // the most that was reserved at a time
	begin  []*claim      // who waits to begin a part, in order
	grow   []*claim      // who waits for more
	beyond *reservation  // who may go beyond the bound
	free   [][]byte      // blocks that are not in use
}

// reservation is what one part may take.
type reservation struct {
	b *budget
	n int64
}

// claim is a call that waits.
type claim struct {
	r       *reservation
	n       int64
	granted chan struct{}
}

func newBudget(bound int64) *budget {
	return &budget{base: bound, wide: map[int64]int{}}
}

// widen makes room for an upload with parts of a length: at least two of them,
// whatever the bound, or no part could be filled while another one is sent. The
// function that it returns takes that back.
func (b *budget) widen(part int64) (narrow func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wide[part]++
	b.grant()
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.wide[part]--; b.wide[part] == 0 {
			delete(b.wide, part)
		}
	})
}

// bound is how much may be reserved at a time.
func (b *budget) bound() int64 {
	most := b.base
	for part := range b.wide {
		most = max(most, 2*part)
	}
	return most
}

// reserve waits until n bytes are free and takes them for a part.
func (b *budget) reserve(ctx context.Context, n int64) (*reservation, error) {
	r := &reservation{b: b}
	if err := b.wait(ctx, &b.begin, &claim{r, n, make(chan struct{})}); err != nil {
		return nil, err
	}
	return r, nil
}

// more waits until the part may take n bytes more.
func (r *reservation) more(ctx context.Context, n int64) error {
	return r.b.wait(ctx, &r.b.grow, &claim{r, n, make(chan struct{})})
}

// release gives back what was reserved, and blocks.
func (r *reservation) release(blocks [][]byte) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, block := range blocks {
		b.put(block)
	}
	b.used -= r.n
	r.n = 0
	if b.beyond == r {
		b.beyond = nil
	}
	b.grant()
}

func (b *budget) wait(ctx context.Context, queue *[]*claim, c *claim) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	b.mu.Lock()
	*queue = append(*queue, c)
	b.grant()
	b.mu.Unlock()
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(*queue, c); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
		b.grant()
		return context.Cause(ctx)
	}
	return nil // it was granted at the same time
}

// grant lets those go on for whom there is room.
func (b *budget) grant() {
	bound := b.bound()
	for i := 0; i < len(b.grow); {
		c := b.grow[i]
		if b.used+c.n > bound {
			if b.beyond != nil && b.beyond != c.r {
				i++
				continue
			}
			b.beyond = c.r
		}
		b.grow = slices.Delete(b.grow, i, i+1)
		b.take(c)
	}
	if len(b.grow) > 0 {
		return
	}
	for len(b.begin) > 0 {
		c := b.begin[0]
		if b.used > 0 && b.used+c.n > bound {
			return
		}
		b.begin = b.begin[1:]
		b.take(c)
	}
}

func (b *budget) take(c *claim) {
	b.used += c.n
	b.peak = max(b.peak, b.used)
	c.r.n += c.n
	close(c.granted)
}

// block returns a block with anything in it.
func (b *budget) block() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		block := b.free[n-1]
		b.free[n-1], b.free = nil, b.free[:n-1]
		return block
	}
	return make([]byte, blockSize)
}

// giveBack takes back a block that is not part of a reservation.
func (b *budget) giveBack(block []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(block)
}

func (b *budget) put(block []byte) {
	if int64(len(b.free)) < (b.bound()+blockSize-1)/blockSize {
		b.free = append(b.free, block[:blockSize])
	}
}
