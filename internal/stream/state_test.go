package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The mark is what its documentation says, and the same by both ways of reading.
func TestMark(t *testing.T) {
	for name, data := range corpus(t) {
		one, runs := NewReader(bytes.NewReader(data)), NewReader(&slow{data: data, rng: rand.New(rand.NewPCG(1, 2))})
		if one.Mark() != (Mark{}) {
			t.Fatalf("%s: at the start: %+v", name, one.Mark())
		}
		marks := map[int64]Mark{}
		sum := sha256.New()
		sum.Write(data[:min(headerSize, len(data))])
		for {
			c, err := one.Next()
			if err != nil {
				break
			}
			sum.Write(c.Frame[:10])
			want := Mark{Offset: c.Offset + int64(len(c.Frame)), Commands: c.Number, Digest: [32]byte(sum.Sum(nil))}
			if got := one.Mark(); got != want {
				t.Fatalf("%s: %+v, want %+v", name, got, want)
			}
			marks[want.Offset] = want
		}
		for {
			if _, err := runs.NextRun(); err != nil {
				break
			}
			if m := runs.Mark(); m != marks[m.Offset] {
				t.Fatalf("%s: in runs %+v, one by one %+v", name, m, marks[m.Offset])
			}
		}
		if len(marks) > 0 && runs.Mark() != one.Mark() {
			t.Errorf("%s: in the end %+v and %+v", name, one.Mark(), runs.Mark())
		}
	}
}

// slow gives some bytes at a time.
type slow struct {
	data []byte
	rng  *rand.Rand
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:1+s.rng.IntN(min(len(p), 3000))], s.data)
	s.data = s.data[n:]
	return n, nil
}

// reading is all that a Reader says from some command on.
type reading struct {
	Frames   [][]byte
	Numbers  []int64
	Err      string
	EOF      bool
	Stats    Stats
	Identity Identity
	Version  uint32
	Path     string
	Mark     Mark
}

func readOn(r *Reader) reading {
	var got reading
	for {
		c, err := r.Next()
		if err != nil {
			got.Err, got.EOF = err.Error(), err == io.EOF
			break
		}
		got.Frames = append(got.Frames, bytes.Clone(c.Frame))
		got.Numbers = append(got.Numbers, c.Number, c.Offset)
	}
	got.Stats, got.Version, got.Path, got.Mark = r.Stats(), r.Version(), r.Path(), r.Mark()
	got.Identity, _ = r.Identity()
	return got
}

// Carried on from any command, good streams and bad ones read the same.
func TestContinue(t *testing.T) {
	for name, data := range corpus(t) {
		for at := 1; ; at += 1 + at/3 {
			whole := NewReader(bytes.NewReader(data))
			var err error
			for range at {
				if _, err = whole.Next(); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
			state, mark := whole.State(), whole.Mark()
			rest, err := Continue(bytes.NewReader(data[mark.Offset:]), state)
			if err != nil {
				t.Fatalf("%s: after %d commands: %v", name, at, err)
			}
			if rest.Mark() != mark || !bytes.Equal(rest.State(), state) {
				t.Fatalf("%s: after %d commands: %+v becomes %+v", name, at, mark, rest.Mark())
			}
			if diff := cmp.Diff(readOn(whole), readOn(rest)); diff != "" {
				t.Fatalf("%s: after %d commands (- at once, + carried on):\n%s", name, at, diff)
			}
		}
	}
}

func TestContinueInRuns(t *testing.T) {
	data := smallCommands(t, 20000)
	r := NewReader(bytes.NewReader(data))
	var got []byte
	for {
		run, err := r.NextRun()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got = append(got, run...)
		if r, err = Continue(bytes.NewReader(data[r.Mark().Offset:]), r.State()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, data) {
		t.Error("the runs are not the stream")
	}
}

func TestNoStateAtTheStart(t *testing.T) {
	if s := NewReader(bytes.NewReader(nil)).State(); s != nil {
		t.Errorf("%q", s)
	}
	if _, err := Continue(nil, nil); !errors.Is(err, ErrState) {
		t.Error(err)
	}
}

// Each bit of a state is looked at.
func TestDamagedState(t *testing.T) {
	r := NewReader(bytes.NewReader(smallCommands(t, 5)))
	for range 4 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	state := r.State()
	for i := range state {
		bad := bytes.Clone(state)
		bad[i] ^= 1 << (i % 8)
		if _, err := Continue(nil, bad); !errors.Is(err, ErrState) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := Continue(nil, state[:i]); !errors.Is(err, ErrState) {
			t.Errorf("cut off at %d: %v", i, err)
		}
	}
}

// A state from anywhere is refused, or makes a Reader that works.
func FuzzContinue(f *testing.F) {
	for _, data := range corpus(f) {
		r := NewReader(bytes.NewReader(data))
		if _, err := r.Next(); err == nil {
			s := r.State()
			f.Add(s[:len(s)-4], data[r.Mark().Offset:min(r.Mark().Offset+2000, int64(len(data)))])
		}
	}
	f.Fuzz(func(t *testing.T, state, rest []byte) {
		// With a good checksum, or nothing else would be tried.
		state = binary.LittleEndian.AppendUint32(bytes.Clone(state), crc32.Checksum(state, castagnoli))
		r, err := Continue(bytes.NewReader(rest), state)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatal(err)
			}
			return
		}
		// Other bytes can say the same: the hash has a buffer with an unused part.
		again, err := Continue(nil, r.State())
		if err != nil || again.Mark() != r.Mark() || !bytes.Equal(again.State(), r.State()) {
			t.Fatalf("%q becomes %q: %v", state, r.State(), err)
		}
		before := r.Mark()
		after := readOn(r)
		if after.Mark.Offset < before.Offset || after.Mark.Offset > before.Offset+int64(len(rest)) {
			t.Fatalf("from %d to %d with %d bytes", before.Offset, after.Mark.Offset, len(rest))
		}
	})
}
