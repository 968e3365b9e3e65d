package compose

import (
	"math/bits"
	"slices"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// shared finds data that a subvolume has in several places.
//
// To keep all extents in mind would take too much memory. So all are counted
// first, in a table of fixed size in which several can share a place, and then
// only those are kept whose place was hit more than once.
type shared struct {
	counts []uint64 // two bits each: 0, 1, more
	bits   int      // there are two to the power of that many
	extent map[uint64]*sent
	parts  int // in all of extent
}

const (
	minCountBits, maxCountBits = 16, 25 // 16 KiB to 8 MiB
	// maxParts bounds what is kept; one takes up to 120 bytes.
	maxParts = 256 << 10
)

// sent is an extent of which something has been sent. Beside its address, which
// could come to belong to another while we are at it, the rest has to agree too.
type sent struct {
	generation, stored, decoded uint64
	compression                 btrfs.Compression
	parts                       []part // in the order of begin, without overlap
}

// A part is where to find bytes of an extent.
type part struct {
	begin, end uint64 // in the decoded extent; ends within a sector only where the file ends
	ino        uint64
	offset     uint64 // in the file, of begin
}

// expect makes room for counting the extents of about so many files, which must
// be done first.
func (s *shared) expect(files uint64) {
	s.bits = min(max(bits.Len64(files)+4, minCountBits), maxCountBits)
	s.counts = make([]uint64, 1<<s.bits/32)
}

func (s *shared) place(start uint64) (word, shift uint64) {
	h := (start >> 12) * 0x9e3779b97f4a7c15 >> (64 - s.bits)
	return h / 32, h % 32 * 2
}

// count takes note of an extent, by its address.
func (s *shared) count(start uint64) {
	word, shift := s.place(start)
	if s.counts[word]>>shift&3 < 2 {
		s.counts[word] += 1 << shift
	}
}

// repeated reports whether an extent may have been counted more than once.
func (s *shared) repeated(start uint64) bool {
	word, shift := s.place(start)
	return s.counts[word]>>shift&3 > 1
}

// of returns what has been sent of an extent, or nil if that is not kept.
func (s *shared) of(x *btrfs.Extent) *sent {
	if !s.repeated(x.Start) {
		return nil
	}
	e := s.extent[x.Start]
	switch {
	case e == nil && s.parts < maxParts:
		if s.extent == nil {
			s.extent = make(map[uint64]*sent)
		}
		e = &sent{generation: x.Generation, stored: x.Stored, decoded: x.Decoded, compression: x.Compression}
		s.extent[x.Start] = e
	case e == nil:
	case e.generation != x.Generation || e.stored != x.Stored || e.decoded != x.Decoded || e.compression != x.Compression:
		return nil
	}
	return e
}

// find returns the part that has the byte at begin; if there is none, ok is
// false and p.begin is where the next one begins, or the largest number.
func (e *sent) find(begin uint64) (p part, ok bool) {
	i, found := slices.BinarySearchFunc(e.parts, begin, func(p part, at uint64) int {
		switch {
		case p.end <= at:
			return -1
		case p.begin > at:
			return 1
		}
		return 0
	})
	switch {
	case found:
		return e.parts[i], true
	case i < len(e.parts):
		return e.parts[i], false
	}
	return part{begin: ^uint64(0)}, false
}

// keep takes note of a part that has been sent and that find did not know.
func (s *shared) keep(e *sent, p part) {
	if s.parts >= maxParts {
		return
	}
	s.parts++
	i, _ := slices.BinarySearchFunc(e.parts, p.begin, func(p part, at uint64) int {
		if p.begin < at {
			return -1
		}
		return 1
	})
	e.parts = slices.Insert(e.parts, i, p)
}
