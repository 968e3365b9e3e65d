package stream

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// starts returns where the commands of a stream begin, and its length.
func starts(t testing.TB, data []byte) []int {
	t.Helper()
	r := NewReader(bytes.NewReader(data))
	var at []int
	for {
		c, err := r.Next()
		if err == io.EOF {
			return append(at, len(data))
		}
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, int(c.Offset))
	}
}

// numberAt returns the number of the command that covers a place in the
// stream; zero is the header.
func numberAt(starts []int, place int) int64 {
	n, found := slices.BinarySearch(starts, place)
	if found {
		n++
	}
	return int64(n)
}

// failure reads a stream in both ways and returns its error, which has to be
// the same, and to stay.
func failure(t testing.TB, data []byte) *Error {
	t.Helper()
	r := NewReader(bytes.NewReader(data))
	var err error
	for err == nil {
		_, err = r.Next()
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error %v of %T", err, err)
	}
	if _, again := r.Next(); again != err {
		t.Fatalf("first %v, then %v", err, again)
	}
	good, stats, err := readRuns(bytes.NewReader(data))
	if run, ok := errors.AsType[*Error](err); !ok || run.Error() != e.Error() || run.Offset != e.Offset {
		t.Fatalf("one by one %v, in runs %v", e, err)
	}
	if e.Number > 0 && (int64(len(good)) != e.Offset && e.Number > 1 || stats.Commands != e.Number-1) {
		t.Fatalf("%d bytes, %d commands before %v", len(good), stats.Commands, e)
	}
	return e
}

func TestDamage(t *testing.T) {
	for name, data := range corpus(t) {
		at := starts(t, data)
		step := max(1, len(data)/120)
		for i := 0; i < len(data); i += step {
			for _, bits := range []byte{1, 0x80, 0xff} {
				if i == len(magic) && data[i]^bits == 3 {
					continue // version 2 taken for 3 means the same
				}
				bad := bytes.Clone(data)
				bad[i] ^= bits
				e := failure(t, bad)
				want := numberAt(at, i)
				if i == len(magic) && data[i]^bits <= lastVersion {
					// The version is not summed; the first command that has
					// another form in the other one tells.
					if !errors.Is(e, ErrMalformed) {
						t.Errorf("%s, version %d: %v", name, bad[i], e)
					}
					continue
				}
				if e.Number != want || want > 0 && e.Offset != int64(at[want-1]) {
					t.Errorf("%s, byte %d ^ %#x, in command %d: %v", name, i, bits, want, e)
				}
			}
		}
	}
}

func TestTruncated(t *testing.T) {
	for name, data := range corpus(t) {
		at := starts(t, data)
		for i := 0; i < len(data); i += 1 + i/60 {
			e := failure(t, data[:i])
			want := numberAt(at, i)
			if i < headerSize {
				want = 0
			}
			if !errors.Is(e, ErrTruncated) || e.Number != want || want > 0 && e.Offset != int64(at[want-1]) {
				t.Errorf("%s cut at %d, in command %d: %v", name, i, want, e)
			}
		}
		for _, i := range at[:len(at)-1] {
			if e := failure(t, data[:i]); !errors.Is(e, ErrTruncated) {
				t.Errorf("%s cut at %d: %v", name, i, e)
			}
		}
	}
}

// A stream that begins again is recognised wherever the sender was, also if
// its first command was rewritten on the way, and with any reader.
func TestRestarted(t *testing.T) {
	for name, data := range corpus(t) {
		at := starts(t, data)
		head, err := RewriteHead(bytes.NewReader(data), Identity{UUID: UUID{7}, Transid: 77777})
		if err != nil {
			t.Fatal(err)
		}
		rewritten, err := io.ReadAll(head)
		if err != nil {
			t.Fatal(err)
		}
		for i := headerSize; i < len(data); i += 1 + i/30 {
			for _, first := range [][]byte{data, rewritten} {
				if i < at[1] && first[i] != data[i] {
					continue
				}
				both := slices.Concat(first[:i], data)
				e := failure(t, both)
				if want := numberAt(at, i); !errors.Is(e, ErrRestarted) || e.Number != want || e.Offset != int64(at[want-1]) {
					t.Fatalf("%s again after %d bytes, in command %d: %v", name, i, want, e)
				}
			}
		}
		for _, i := range at[:len(at)-1] {
			both := slices.Concat(data[:i], data)
			for _, n := range []int{1, 5, 10} {
				_, _, err := Verify(iotest.OneByteReader(bytes.NewReader(slices.Concat(data[:i+min(n, 9)], data))))
				if !errors.Is(err, ErrRestarted) {
					t.Fatalf("%s again after %d bytes, byte by byte: %v", name, i+n, err)
				}
			}
			if e := failure(t, both); !errors.Is(e, ErrRestarted) || e.Offset != int64(i) {
				t.Fatalf("%s again after %d bytes: %v", name, i, e)
			}
			if e := failure(t, both[:i+len(magic)]); !errors.Is(e, ErrRestarted) {
				t.Fatalf("%s again after %d bytes, and cut: %v", name, i, e)
			}
		}
	}
}

// File contents may be a stream. A damaged command that holds one is damaged,
// not restarted.
func TestStreamInsideStream(t *testing.T) {
	inner := corpus(t)["v1-incremental"]
	var b bytes.Buffer
	w := NewWriter(&b, 2)
	write(t, w, &Command{Kind: Subvol, Path: []byte("s"), UUID: UUID{1}, Transid: 1})
	write(t, w, &Command{Kind: Write, Path: []byte("backup"), Data: inner})
	write(t, w, &Command{Kind: End})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	if _, _, err := Verify(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	data[len(data)-20] ^= 1
	if e := failure(t, data); !errors.Is(e, ErrChecksum) || e.Number != 2 || e.Kind != Write {
		t.Fatal(e)
	}
}

func TestTrailing(t *testing.T) {
	data := corpus(t)["v2-incremental"]
	last := int64(len(starts(t, data)))
	for _, more := range [][]byte{{0}, data[:9], data[headerSize:], data, bytes.Repeat([]byte{0}, 3<<20)} {
		e := failure(t, slices.Concat(data, more))
		if !errors.Is(e, ErrTrailing) || e.Number != last || e.Offset != int64(len(data)) {
			t.Errorf("%d bytes more: %v", len(more), e)
		}
		if another := strings.Contains(e.Error(), "another stream"); another != bytes.HasPrefix(more, []byte(magic)) {
			t.Error(e)
		}
	}
}

func TestNotStream(t *testing.T) {
	for text, want := range map[string]error{
		"": ErrTruncated, "btrfs-": ErrTruncated, magic: ErrTruncated, magic + "\x01\x00\x00": ErrTruncated,
		"x": ErrNotStream, "ERROR: cannot open": ErrNotStream, "btrfs-stream\n\x01\x00\x00\x00": ErrNotStream,
		magic + "\x00\x00\x00\x00": ErrVersion, magic + "\x04\x00\x00\x00": ErrVersion, magic + "\x01\x00\x00\x01": ErrVersion,
	} {
		if e := failure(t, []byte(text)); !errors.Is(e, want) || e.Number != 0 || e.Offset != 0 {
			t.Errorf("%q: %v", text, e)
		}
		if _, err := NewReader(strings.NewReader(text)).Identity(); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := RewriteHead(strings.NewReader(text), Identity{}); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A reader's own error is no verdict on the stream, wherever it comes.
func TestReadError(t *testing.T) {
	data := corpus(t)["v2-zstd-incremental"]
	broken := errors.New("the line is down")
	for i := 0; i <= len(data); i += 1 + i/100 {
		src := io.MultiReader(bytes.NewReader(data[:i]), iotest.ErrReader(broken))
		if i%2 == 0 {
			src = iotest.DataErrReader(src)
		}
		_, _, err := Verify(src)
		e, ok := errors.AsType[*ReadError](err)
		if !ok || !errors.Is(err, broken) || e.Offset != int64(i) {
			t.Fatalf("after %d bytes: %v", i, err)
		}
	}
	if _, _, err := Verify(idle{}); err == nil {
		t.Fatal("no error of a reader that does nothing")
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// However the bytes come, the stream is the same.
func TestReaders(t *testing.T) {
	for name, data := range corpus(t) {
		for _, src := range []io.Reader{
			iotest.OneByteReader(bytes.NewReader(data)),
			iotest.HalfReader(bytes.NewReader(data)),
			iotest.DataErrReader(bytes.NewReader(data)),
		} {
			got, stats, err := readRuns(src)
			if err != nil || !bytes.Equal(got, data) || stats.Bytes != int64(len(data)) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
