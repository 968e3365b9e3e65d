package seal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func isDamage(err error) bool {
	var damage *DamagedError
	return errors.As(err, &damage)
}

// found reports whether reading b ends in an error that says what it is: damage,
// or, where the header of age names other keys now, that there is none for it.
func found(b []byte, f Form, k Keys) bool {
	_, err := opened(bytes.NewReader(b), f, k)
	var none *NoKeyError
	return isDamage(err) || f.Cipher != None && errors.As(err, &none)
}

// TestFlippedBits: one wrong bit, wherever it is, is found.
func TestFlippedBits(t *testing.T) {
	to, keys := keyPair(t)
	r := rand.New(rand.NewPCG(7, 7))
	for _, o := range forms(to)[1:] {
		b := sealed(t, o, nil, content(900_000, 5))
		for range 300 {
			at, bit := r.IntN(len(b)), byte(1)<<r.IntN(8)
			b[at] ^= bit
			if !found(b, o.Form(), keys) {
				t.Errorf("%+v: a wrong bit at %d of %d is not found", o.Form(), at, len(b))
			}
			b[at] ^= bit
		}
	}
}

// TestEveryFlippedBit goes through all the bits of something short; where a key
// has to be worked with each time, through two or three of each byte.
func TestEveryFlippedBit(t *testing.T) {
	to, keys := keyPair(t)
	for _, o := range forms(to)[1:] {
		step := 1
		if len(o.Recipients) > 0 {
			step = 3
		}
		for _, data := range [][]byte{nil, content(600, 5)[450:]} {
			b := sealed(t, o, nil, data)
			for i := 0; i < len(b)*8; i += step {
				b[i/8] ^= 1 << (i % 8)
				if !found(b, o.Form(), keys) {
					t.Errorf("%+v: bit %d of byte %d of %d is wrong, and that is not found", o.Form(), i%8, i/8, len(b))
				}
				b[i/8] ^= 1 << (i % 8)
			}
		}
	}
}

// TestTruncated: an end that comes too early is found, wherever it is.
func TestTruncated(t *testing.T) {
	to, keys := keyPair(t)
	r := rand.New(rand.NewPCG(8, 8))
	for _, o := range forms(to)[1:] {
		short := sealed(t, o, nil, content(500, 5))
		for n := range short {
			if !found(short[:n], o.Form(), keys) {
				t.Errorf("%+v: %d of %d bytes pass for all", o.Form(), n, len(short))
			}
		}
		long := sealed(t, o, nil, content(2*FrameSize+5, 5))
		var at []int
		for n := range 3 { // the end of a chunk of age, where it is not compressed
			at = append(at, len(long)-(5+16)-n*sealedChunk)
		}
		for range 40 {
			at = append(at, r.IntN(len(long)))
		}
		for _, n := range at {
			if !found(long[:n], o.Form(), keys) {
				t.Errorf("%+v: %d of %d bytes pass for all", o.Form(), n, len(long))
			}
		}
	}
}

// TestFramesMissing: no whole frame can be taken out, doubled or moved.
func TestFramesMissing(t *testing.T) {
	data := content(3*FrameSize, 1)
	b := sealed(t, Options{Compress: true}, nil, data)
	var ends []int
	for i := range 3 {
		part := sealed(t, Options{Compress: true}, nil, data[i*FrameSize:(i+1)*FrameSize])
		n := len(part) - sumFrame - skipHeader - 2*entrySize - footerSize
		at := 0
		if i > 0 {
			at = ends[i-1]
		}
		if !bytes.Equal(b[at:at+n], part[:n]) {
			t.Fatal("the frames are not independent of each other")
		}
		ends = append(ends, at+n)
	}
	first, second, rest := b[:ends[0]], b[ends[0]:ends[1]], b[ends[1]:]
	for name, parts := range map[string][][]byte{
		"the first is missing":  {second, rest},
		"the second is missing": {first, rest},
		"the first is doubled":  {first, first, second, rest},
		"two are exchanged":     {second, first, rest},
		"the end is missing":    {first, second, b[ends[1]:ends[2]]},
		"the table is missing":  {first, second, b[ends[1] : ends[2]+sumFrame]},
	} {
		if _, err := opened(bytes.NewReader(bytes.Join(parts, nil)), Form{Compressed: true}, Keys{}); !isDamage(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTrailing: nothing may follow the end.
func TestTrailing(t *testing.T) {
	to, keys := keyPair(t)
	for _, o := range forms(to)[1:] {
		for _, n := range []int{0, 100, chunkSize, FrameSize} {
			b := sealed(t, o, nil, content(n, 5))
			for _, more := range [][]byte{{0}, b, make([]byte, 100_000)} {
				if !found(append(bytes.Clone(b), more...), o.Form(), keys) {
					t.Errorf("%+v: %d bytes behind the end are not found", o.Form(), len(more))
				}
			}
		}
	}
}

// TestRightUntilWrong: what is read before damage is found is what was sealed.
func TestRightUntilWrong(t *testing.T) {
	to, keys := keyPair(t)
	data := content(5*FrameSize/2, 2)
	for _, o := range forms(to)[1:] {
		b := sealed(t, o, nil, data)
		b[len(b)*3/4] ^= 1
		r, err := NewReader(t.Context(), bytes.NewReader(b), o.Form(), keys)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if !isDamage(err) || !bytes.HasPrefix(data, got) || len(got) < len(data)/4 {
			t.Errorf("%+v: %d bytes, then %v", o.Form(), len(got), err)
		}
		if _, again := r.Read(make([]byte, 10)); !errors.Is(again, err) {
			t.Errorf("%+v: the error is forgotten: %v", o.Form(), again)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
