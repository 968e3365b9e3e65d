package wire

import (
	"encoding/binary"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The rule by which data are compressed.
//
// A full frame of data is compressed if that is expected to bring it across at
// least a quarter sooner: with w for how fast the way out takes bytes, c for how
// fast a level compresses and r for what it leaves of a byte, plain bytes leave at
// min(c, w/r) in place of w. Of the levels for which that holds, the one with the
// most is taken. It has to be twice as fast as the way, and above the first level
// twice as fast as what then leaves, since ssh, the other side and the store want
// the processor, too: where that is short, the way only looks slow.
//
// All three are measured as it goes: w as the time that writing has taken, r for
// each call by itself. Until something has been measured, a slow way and data
// that shrink are assumed, which costs little if it is wrong; what buffers on the way take in at
// once does not count as fast. While the data of a
// call do not shrink, one frame in eight is tried. A frame that did not shrink
// is sent as it was. A frame that is not full leaves while nothing else does; by
// the same rule it is compressed before, beside what the caller fills meanwhile,
// since it may take the way out longer than the next one takes to be filled.
const (
	gain       = 1.25
	reserve    = 2
	firstRatio = 0.5
	firstRate  = 32e6
	tryEvery   = 8
	// worthless is what has to be left of a frame for it to be sent as it was.
	worthless = 0.95
	// telling is what has to be written at once for the time to say something.
	telling = 4 << 10
	// absorbed is how much the pipes, ssh and the sockets on the way may take in at
	// once, so that a way says little about its speed before that.
	absorbed = 4 << 20
	// worthTrying is how long a frame is that leaves before it is full, and is
	// compressed all the same.
	worthTrying = 16 << 10
)

// press compresses what is sent.
type press struct {
	mu     sync.Mutex
	way    meter
	begun  int // bytes that the way has taken, as long as they are few
	levels [3]level
}

// level is a way of compressing.
type level struct {
	zstd  zstd.EncoderLevel
	speed meter
	// ratio is about what it leaves of what the first level leaves.
	ratio float64

	once sync.Once
	enc  *zstd.Encoder
}

func newPress() *press {
	const mega, little = 1e6, 128 << 10 // it does not outweigh what is measured
	return &press{
		way: meter{bytes: 512 << 10, seconds: (512 << 10) / firstRate},
		levels: [3]level{
			{zstd: zstd.SpeedFastest, speed: meter{little, little / (200 * mega)}, ratio: 1},
			{zstd: zstd.SpeedDefault, speed: meter{little, little / (80 * mega)}, ratio: 0.92},
			{zstd: zstd.SpeedBetterCompression, speed: meter{little, little / (30 * mega)}, ratio: 0.87},
		},
	}
}

// meter is a speed, of what was measured of late.
type meter struct{ bytes, seconds float64 }

func (m *meter) add(bytes int, took time.Duration) {
	const recent = 4 << 20
	m.bytes += float64(bytes)
	m.seconds += took.Seconds()
	if m.bytes > recent {
		m.bytes /= 2
		m.seconds /= 2
	}
}

func (m *meter) rate() float64 { return m.bytes / max(m.seconds, 1e-9) }

// sent notes how long the way out took.
func (p *press) sent(bytes int, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.way.add(bytes, took)
	if p.begun < absorbed {
		p.begun += bytes
	}
}

// choose answers the level for data of a ratio; nil to leave them as they are.
func (p *press) choose(ratio float64) *level {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.way.rate()
	if p.begun < absorbed {
		w = min(w, firstRate)
	}
	best, most := (*level)(nil), gain*w
	for i := range p.levels {
		l := &p.levels[i]
		c, leaves := l.speed.rate(), w/(ratio*l.ratio)
		if c < reserve*w || i > 0 && c < reserve*leaves {
			continue
		}
		if rate := min(c, leaves); rate >= most {
			best, most = l, rate
		}
	}
	return best
}

// shrink is what is known of the data of a call.
type shrink struct {
	ratio   float64 // as the first level does it; 0 is not known
	skipped int
}

// pack compresses a full frame where that pays, and answers what is to be sent.
func (c *Conn) pack(b *buffer, s *shrink) *buffer {
	if c.press == nil {
		return b
	}
	if s.ratio == 0 {
		s.ratio = firstRatio
	}
	l := c.press.choose(s.ratio)
	if l == nil {
		if s.skipped++; s.skipped < tryEvery {
			return b
		}
		s.skipped = 0
		if c.press.choose(firstRatio) == nil {
			return b
		}
		l = &c.press.levels[0]
		s.ratio = 0
	}
	plain := b.payload()
	small := c.pool.get(len(plain))
	start := time.Now()
	small.b = binary.LittleEndian.AppendUint32(small.b, uint32(len(plain)))
	small.b = l.encoder().EncodeAll(plain, small.b)
	took := time.Since(start)
	left := float64(len(small.b)-headerSize) / float64(len(plain))
	if s.ratio == 0 {
		s.ratio = left / l.ratio
	} else {
		s.ratio = (s.ratio + left/l.ratio) / 2
	}
	c.press.mu.Lock()
	l.speed.add(len(plain), took)
	c.press.mu.Unlock()
	if cap(small.b) > headerSize+1<<small.class {
		return b // it has grown, and is no longer what the pool has
	}
	if left > worthless {
		c.pool.put(small)
		return b
	}
	small.head = b.head
	small.head.flags = flagZstd
	c.pool.put(b)
	return small
}

func (l *level) encoder() *zstd.Encoder {
	l.once.Do(func() {
		// The options are constants, so there is no error.
		l.enc, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(l.zstd), zstd.WithWindowSize(MaxData),
			zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithLowerEncoderMem(true))
	})
	return l.enc
}

// unpress decompresses what comes in.
type unpress struct {
	once sync.Once
	dec  *zstd.Decoder
}

// unpack answers a frame with the plain data of a compressed one.
func (c *Conn) unpack(b *buffer) (*buffer, error) {
	u := &c.unpress
	u.once.Do(func() {
		u.dec, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxWindow(MaxData),
			zstd.WithDecoderMaxMemory(MaxData), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	})
	size := int(binary.LittleEndian.Uint32(b.payload()))
	plain := c.pool.get(size)
	out, err := u.dec.DecodeAll(b.payload()[4:], plain.b[headerSize:headerSize:headerSize+size])
	if err != nil {
		return nil, offence("compressed data for call %d that cannot be read: %v", b.head.call, err)
	}
	if len(out) != size {
		return nil, offence("compressed data for call %d of %d plain bytes, which were said to be %d", b.head.call, len(out), size)
	}
	plain.b = plain.b[:headerSize+size]
	plain.head = header{kind: typeData, call: b.head.call}
	return plain, nil
}
