package archive

import "hash"

const (
	// sideBlock is how much of a stream is handed on to be summed at a time, and
	// sideBlocks how many such blocks there are of a stream.
	sideBlock  = 256 << 10
	sideBlocks = 4
)

// sideSum sums what is written to it in a goroutine of its own, so that whoever
// reads a stream need not wait for that. It holds a MiB.
type sideSum struct {
	sum   hash.Hash
	to    chan []byte // nil before the first Write, and after end
	back  chan []byte
	done  chan struct{}
	block []byte // that is being filled
	made  int
}

// Write takes what is to be summed.
func (b *sideSum) Write(p []byte) {
	if len(p) > 0 && b.to == nil {
		b.to, b.back, b.done = make(chan []byte, sideBlocks), make(chan []byte, sideBlocks), make(chan struct{})
		go b.run(b.to)
	}
	for len(p) > 0 {
		switch {
		case b.block != nil:
		case b.made < sideBlocks:
			b.made++
			b.block = make([]byte, 0, sideBlock)
		default:
			b.block = (<-b.back)[:0]
		}
		n := min(len(p), sideBlock-len(b.block))
		b.block = append(b.block, p[:n]...)
		p = p[n:]
		if len(b.block) == sideBlock {
			b.to <- b.block // there is room for all blocks
			b.block = nil
		}
	}
}

func (b *sideSum) run(blocks <-chan []byte) {
	defer close(b.done)
	for block := range blocks {
		b.sum.Write(block) // hashes never fail
		b.back <- block
	}
}

// end waits until everything is summed. Nothing is written after it.
func (b *sideSum) end() {
	if b == nil || b.to == nil {
		return
	}
	if len(b.block) > 0 {
		b.to <- b.block
	}
	close(b.to)
	<-b.done
	b.to, b.block = nil, nil
}
