package archive

import (
	"fmt"
	"strconv"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// unknownRoom is for how much there is room at least where nothing is known of a
// stream's length.
const unknownRoom = 1 << 40

// tooLargeError says that no object holds a stream.
type tooLargeError struct {
	where       string
	size, most  int64
	approximate bool
}

func (e *tooLargeError) Error() string {
	about := ""
	if e.approximate {
		about = "about "
	}
	return fmt.Sprintf("the stream has %s%s, and one object in %s holds %s at most: send an increment in place of the full stream, split the subvolume, or keep it in an archive in a directory",
		about, amount(e.size), e.where, amount(e.most))
}

// shape is how an object is going to be cut.
type shape struct {
	part int64 // bytes of each part but the last
	// expect is how long the object gets, or a bound of that; negative if nothing is
	// known.
	expect int64
}

// holds is how long an object with parts of a length can be.
func (l Limits) holds(part int64) int64 {
	parts := int64(l.Parts)
	if parts <= 0 || part > l.Object/parts {
		return l.Object
	}
	return part * parts
}

// shape chooses the length of parts: as it was asked for, unless the bucket wants
// them longer, or the object needs so. An estimate may be wrong by a factor of
// two.
func (s *Store) shape(size snapshot.Size) (shape, error) {
	l := s.bucket.Limits()
	sh := shape{part: s.partSize(), expect: -1}
	need := int64(unknownRoom)
	if size.Known && size.Bytes >= 0 {
		sh.expect = seal.Bound(s.o.Seal, size.Bytes)
		if sh.expect > l.holds(l.MaxPart) {
			return shape{}, &tooLargeError{s.bucket.String(), size.Bytes, l.holds(l.MaxPart), !size.Exact}
		}
		need = sh.expect
		if !size.Exact {
			need += need
		}
	}
	need = min(need, l.holds(l.MaxPart))
	if l.holds(sh.part) < need {
		const round = 1 << 20
		part := (need + int64(l.Parts) - 1) / int64(l.Parts)
		sh.part = l.rounded((part + round - 1) / round * round)
	}
	return sh, nil
}

// partSize is how long parts are, unless the object needs longer ones.
func (s *Store) partSize() int64 {
	return s.bucket.Limits().rounded(s.o.PartSize)
}

// rounded is the least length of parts that the bucket takes and that is not
// shorter than one, if there is such a length.
func (l Limits) rounded(part int64) int64 {
	least := max(l.MinPart, 1)
	part = min(max(part, least), l.MaxPart)
	if !l.PowersOfTwo {
		return part
	}
	size := least
	for size < part && size <= l.MaxPart/2 {
		size *= 2
	}
	return size
}

// surely is how long an object gets at most, as far as that can be told; 0 if
// nothing is known. An estimate may be wrong by a factor of two.
func (sh shape) surely(size snapshot.Size) int64 {
	switch {
	case sh.expect < 0:
		return 0
	case size.Exact:
		return sh.expect
	}
	return 2 * sh.expect
}

// amount writes a number of bytes for people.
func amount(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 4 {
		f /= 1024
		unit++
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + " " + [...]string{"bytes", "KiB", "MiB", "GiB", "TiB"}[unit]
}
