package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// ErrState says that bytes are no state of a Reader that this program can carry
// on from.
var ErrState = errors.New("not the state of a stream's reader")

// What a state consists of, integers in little endian: stateMagic with the
// number of the format; the version of the stream; commands, bytes of data,
// files, directories and clones so far, and the offset; one byte that is 1 after
// END; then, each after its length in four bytes, the beginning of the stream
// that a restart repeats, the last path, the snapshot's name and the hash; its
// UUIDs and transaction numbers, the parent's behind a byte that is 1 if there is
// one; and the CRC-32C of all that.
const stateMagic = "btrfs stream state 1\n"

// maxState bounds the length of a state.
const maxState = 64 << 10

// State returns what [Continue] needs to read on in the same stream, elsewhere
// and later, from the place of [Reader.Mark]. It is nil at the start. The bytes
// are checked when they are used, and only ever understood by programs that know
// their format.
func (r *Reader) State() []byte {
	if r.stats.Commands == 0 {
		return nil
	}
	r.hashHeads()
	sum, err := r.sum.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil // crypto/sha256 promises that it can
	}
	s := r.stats
	b := binary.LittleEndian.AppendUint32([]byte(stateMagic), r.version)
	for _, n := range []int64{s.Commands, s.DataBytes, s.Files, s.Dirs, s.Clones, s.Bytes} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	b = appendFlag(b, r.ended)
	for _, part := range [][]byte{r.birth, r.path, []byte(r.identity.Path), sum} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	id := r.identity
	b = binary.LittleEndian.AppendUint64(append(b, id.UUID[:]...), id.Transid)
	b = appendFlag(b, id.HasParent)
	b = binary.LittleEndian.AppendUint64(append(b, id.Parent[:]...), id.ParentTransid)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, 1)
	}
	return append(b, 0)
}

// Continue returns a Reader of the rest of a stream whose beginning was read
// elsewhere: in gives what follows the place at which state was taken. Identity,
// version, counts, marks and the places in errors are those of the whole stream.
// What is no state gives an error that is [ErrState].
func Continue(in io.Reader, state []byte) (*Reader, error) {
	r := &Reader{src: in, buf: make([]byte, smallBuffer), sum: sha256.New()}
	if err := r.restore(state); err != nil {
		return nil, fmt.Errorf("continuing a stream: %w: %w", ErrState, err)
	}
	return r, nil
}

func (r *Reader) restore(state []byte) error {
	body, ok := bytes.CutPrefix(state, []byte(stateMagic))
	if !ok || len(state) > maxState || len(body) < 4 {
		return errors.New("of another format")
	}
	at := len(state) - 4
	if crc32.Checksum(state[:at], castagnoli) != binary.LittleEndian.Uint32(state[at:]) {
		return ErrChecksum
	}
	f := fields{rest: body[:len(body)-4]}
	r.version = uint32(f.number(4))
	s := &r.stats
	for _, n := range []*int64{&s.Commands, &s.DataBytes, &s.Files, &s.Dirs, &s.Clones, &s.Bytes} {
		*n = int64(f.number(8))
	}
	r.offset = s.Bytes
	r.ended = f.flag()
	r.birth, r.path = f.text(), f.text()
	r.identity.Path = string(f.text())
	sum := f.text()
	id := &r.identity
	id.UUID, id.Transid = UUID(f.take(16)), f.number(8)
	id.HasParent = f.flag()
	id.Parent, id.ParentTransid = UUID(f.take(16)), f.number(8)
	if f.bad || len(f.rest) > 0 || !r.plausible() {
		return errors.New("it makes no sense")
	}
	return r.sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(sum)
}

// plausible reports whether a restored Reader can be one that has read a stream.
func (r *Reader) plausible() bool {
	s := r.stats
	counts := []int64{s.DataBytes, s.Files, s.Dirs, s.Clones}
	parent := r.identity.HasParent || r.identity.Parent == UUID{} && r.identity.ParentTransid == 0
	return r.version >= 1 && r.version <= lastVersion && parent &&
		s.Commands >= 1 && s.Commands <= (s.Bytes-int64(headerSize))/int64(headSize) &&
		slices.Min(counts) >= 0 && slices.Max(counts) <= s.Bytes &&
		len(r.birth) >= headerSize+headSize && string(r.birth[:len(magic)]) == magic
}

// fields takes a state apart. After a field that is not whole, bad is set and
// all is zero.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n < 0 || n > len(f.rest) {
		f.bad = true
		return make([]byte, min(max(n, 0), 16))
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) number(size int) uint64 {
	var b [8]byte
	copy(b[:], f.take(size))
	return binary.LittleEndian.Uint64(b[:])
}

func (f *fields) flag() bool {
	n := f.number(1)
	f.bad = f.bad || n > 1
	return n == 1
}

func (f *fields) text() []byte { return bytes.Clone(f.take(int(f.number(4)))) }
