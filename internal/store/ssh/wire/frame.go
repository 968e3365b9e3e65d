package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
)

// The frames of docs/protocol.md, "Frames".
const (
	typeRequest = 1 + iota
	typeMessage
	typeData
	typeEnd
	typeCancel
	typeWindow
	typePing
	typePong
	typeGoodbye
	typeLimit // no type
)

var typeNames = [typeLimit]string{"", "REQUEST", "MESSAGE", "DATA", "END", "CANCEL", "WINDOW", "PING", "PONG", "GOODBYE"}

// shapes says of each type how long its payload may be, and whether it belongs to
// a call.
var shapes = [typeLimit]struct {
	least, most int
	call        bool
}{
	typeRequest: {0, MaxRequest, true},
	typeMessage: {0, MaxMessage, true},
	typeData:    {1, MaxData, true},
	typeEnd:     {0, MaxRequest, true},
	typeCancel:  {0, 0, true},
	typeWindow:  {4, 4, true},
	typePing:    {8, 8, false},
	typePong:    {8, 8, false},
	typeGoodbye: {0, maxReason, false},
}

const (
	// flagZstd says of DATA that it is a plain length, 32 bits, and a zstd frame.
	flagZstd = 1

	headerSize = 12
	maxReason  = 1024
)

// header is what a frame begins with: type and flags of 8 bits, 16 bits of zero,
// the number of the call and the length of the payload of 32 bits each.
type header struct {
	kind, flags byte
	call        uint32
	length      int
}

func (h header) put(b []byte) {
	b[0], b[1], b[2], b[3] = h.kind, h.flags, 0, 0
	binary.LittleEndian.PutUint32(b[4:], h.call)
	binary.LittleEndian.PutUint32(b[8:], uint32(h.length))
}

// parseHeader reads a header and checks all that can be checked without knowing
// the calls.
func parseHeader(b *[headerSize]byte) (header, error) {
	h := header{kind: b[0], flags: b[1], call: binary.LittleEndian.Uint32(b[4:])}
	if h.kind == 0 || h.kind >= typeLimit {
		return h, offence("a frame of type %d", h.kind)
	}
	if b[2] != 0 || b[3] != 0 {
		return h, offence("a %s frame whose reserved bytes are set", h)
	}
	if h.flags != 0 && (h.kind != typeData || h.flags != flagZstd) {
		return h, offence("a %s frame with flags %#x", h, h.flags)
	}
	shape := shapes[h.kind]
	if shape.call != (h.call != 0) {
		return h, offence("a %s frame for call %d", h, h.call)
	}
	length := binary.LittleEndian.Uint32(b[8:])
	least := shape.least
	if h.flags&flagZstd != 0 {
		least = 5
	}
	if length < uint32(least) || length > uint32(shape.most) {
		return h, offence("a %s frame of %d bytes: from %d to %d are allowed", h, length, least, shape.most)
	}
	h.length = int(length)
	return h, nil
}

func (h header) String() string {
	if h.kind > 0 && h.kind < typeLimit {
		return typeNames[h.kind]
	}
	return fmt.Sprintf("type %d", h.kind)
}

// buffer holds a frame: room for the header, then the payload.
type buffer struct {
	b     []byte // from the header on
	head  header
	read  int // how much of the payload has been read
	class int
}

// payload is what follows the header and has not been read.
func (b *buffer) payload() []byte { return b.b[headerSize+b.read:] }

// room is how much the buffer takes without growing.
func (b *buffer) room() int { return cap(b.b) - len(b.b) }

// The sizes of buffers are powers of two, so that a queue of small frames does not
// hold much more than what they take of a window.
const (
	smallest = 6  // 64 bytes: see frameCost
	largest  = 20 // 1 MiB: a request
)

// pool keeps buffers that are not in use.
type pool [largest + 1]sync.Pool

// get answers a buffer for a payload of up to n bytes, empty.
func (p *pool) get(n int) *buffer {
	class := smallest
	if n > 1<<smallest {
		class = bits.Len(uint(n - 1))
	}
	if b, ok := p[class].Get().(*buffer); ok {
		b.b, b.read = b.b[:headerSize], 0
		return b
	}
	return &buffer{b: make([]byte, headerSize, headerSize+1<<class), class: class}
}

// put takes a buffer that nobody uses any more.
func (p *pool) put(b *buffer) {
	if b != nil {
		p[b.class].Put(b)
	}
}

// frame is a frame with a copy of the payload.
func (c *Conn) frame(kind byte, call uint32, payload []byte) *buffer {
	b := c.pool.get(len(payload))
	b.b = append(b.b, payload...)
	b.head = header{kind: kind, call: call}
	return b
}
