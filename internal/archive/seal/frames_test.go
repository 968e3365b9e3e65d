package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"testing"

	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"
)

// TestZstdReads: the zstd of the system takes it and gives it back, with every
// kind of work behind the levels.
func TestZstdReads(t *testing.T) {
	for _, n := range []int{0, 1, 1000, FrameSize + 1000} {
		for _, level := range []int{1, 3, 6, 10} {
			data := content(n, 1)
			b := sealed(t, Options{Compress: true, Level: level}, nil, data)
			run(t, b, "zstd", "-t", "-q")
			if got := run(t, b, "zstd", "-d", "-q", "-c"); !bytes.Equal(got, data) {
				t.Errorf("%d bytes at level %d: zstd gives %d others", n, level, len(got))
			}
		}
	}
}

// TestSeekable: another reader of the format finds what it looks for.
func TestSeekable(t *testing.T) {
	data := content(5*FrameSize/2, 1)
	b := sealed(t, Options{Compress: true}, nil, data)
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	r, err := seekable.NewReader(bytes.NewReader(b), dec)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := r.Seek(0, io.SeekEnd); err != nil || n != int64(len(data)) {
		t.Errorf("its end is at %d, %v", n, err)
	}
	for _, at := range []int64{0, 1, FrameSize - 5, FrameSize, 2*FrameSize + 77, int64(len(data)) - 100} {
		got := make([]byte, 100)
		if _, err := r.ReadAt(got, at); err != nil || !bytes.Equal(got, data[at:at+100]) {
			t.Errorf("at %d there is something else, %v", at, err)
		}
	}
}

// TestRecipe fails when the same stream makes other bytes than it did. Uploads
// that an earlier version began cannot be carried on then: recipe has to go up,
// and the digests here are the new ones.
func TestRecipe(t *testing.T) {
	if recipe != 1 {
		t.Fatal("the digests below are those of recipe 1")
	}
	data := content(FrameSize+500_000, 9)
	for level, want := range map[int]string{
		1:  "0b8b434ad0df8fe8",
		3:  "97ef69ad54e4e20a",
		6:  "bb965772bf61c925",
		10: "c65c644e4abb4427",
	} {
		sum := sha256.Sum256(sealed(t, Options{Compress: true, Level: level}, nil, data))
		if got := hex.EncodeToString(sum[:8]); got != want {
			t.Errorf("level %d makes something with the digest %s, and it was %s", level, got, want)
		}
	}
}

// TestLevelsDiffer: higher levels compress more, those of one kind the same.
func TestLevelsDiffer(t *testing.T) {
	data := content(1<<20, 4)
	of := func(level int) []byte { return sealed(t, Options{Compress: true, Level: level}, nil, data) }
	for _, same := range [][]int{{1, 2}, {3, 5, 0}, {6, 9}, {10, 19}} {
		for _, level := range same[1:] {
			if !bytes.Equal(of(same[0]), of(level)) {
				t.Errorf("levels %d and %d differ", same[0], level)
			}
		}
	}
	if a, b := len(of(1)), len(of(19)); b >= a {
		t.Errorf("level 1 makes %d bytes, level 19 %d", a, b)
	}
}

// stock is what the zstd library makes of data by itself, which is not the form
// of this package.
func stock(t *testing.T, data []byte, o ...zstd.EOption) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, o...)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(data, nil)
}

// TestForeignFrames: what zstd takes and this package does not make is refused.
func TestForeignFrames(t *testing.T) {
	data := content(300_000, 1)
	good := sealed(t, Options{Compress: true}, nil, data)
	var empty bytes.Buffer
	w, err := seekable.NewWriter(&empty, must(zstd.NewWriter(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	skip := append([]byte{0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0}, "abc"...)
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"a frame alone":   stock(t, data, zstd.WithSingleSegment(true)),
		"no checksum":     stock(t, data, zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false)),
		"a window":        stock(t, data, zstd.WithSingleSegment(false)),
		"a big frame":     stock(t, make([]byte, maxFrame+1), zstd.WithSingleSegment(true)),
		"a table alone":   empty.Bytes(),
		"skipped before":  append(bytes.Clone(skip), good...),
		"skipped behind":  append(bytes.Clone(good), skip...),
		"a frame behind":  append(bytes.Clone(good), stock(t, data)...),
		"twice":           append(bytes.Clone(good), good...),
		"a byte behind":   append(bytes.Clone(good), 0),
		"a small frame 1": append(stock(t, data[:10], zstd.WithSingleSegment(true)), good...),
		"not compressed":  data,
	} {
		if got, err := opened(bytes.NewReader(b), Form{Compressed: true}, Keys{}); !isDamage(err) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestOtherFrameSizes: frames may hold more than those made here, to a limit.
func TestOtherFrameSizes(t *testing.T) {
	for size, ok := range map[int]bool{1000: true, FrameSize + 1: true, maxFrame: true, maxFrame + 1: false} {
		data := content(2*size+size/2, 1)
		var b bytes.Buffer
		c := &compressor{dst: &b, lanes: newLanes(t.Context(), 1, 1)}
		for piece := range slices.Chunk(data, size) {
			if err := c.frame(len(piece), stock(t, piece, zstd.WithSingleSegment(true))); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := opened(&b, Form{Compressed: true}, Keys{})
		if (err == nil) != ok || !ok && !isDamage(err) || ok && !bytes.Equal(got, data) {
			t.Errorf("frames of %d bytes: %d of %d bytes, %v", size, len(got), len(data), err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return v
}

// TestFrameWithoutEnd: a frame of empty blocks without number is given up.
func TestFrameWithoutEnd(t *testing.T) {
	b := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x24 | 2<<6, 0, 0, 0x10, 0}
	endless := io.MultiReader(bytes.NewReader(b), zeros{})
	if _, err := opened(endless, Form{Compressed: true}, Keys{}); !isDamage(err) {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
