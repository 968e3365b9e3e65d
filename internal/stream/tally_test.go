package stream

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// A Tally that is given what a Reader hands out comes to the same counts and the
// same verdict on the end.
func TestTally(t *testing.T) {
	for name, data := range corpus(t) {
		var tally Tally
		r := NewReader(bytes.NewReader(data))
		var err error
		for {
			var run []byte
			if run, err = r.NextRun(); err != nil {
				break
			}
			if n, err := tally.Write(run); err != nil || n != len(run) {
				t.Fatalf("%s: Write took %d of %d bytes: %v", name, n, len(run), err)
			}
			if got, want := tally.Stats(), r.Stats(); got != want {
				t.Fatalf("%s: counted %+v, want %+v", name, got, want)
			}
		}
		if r.Stats().Commands > 0 {
			want, _ := r.Identity()
			if got, ok := tally.Identity(); !ok || got != want || tally.Version() != r.Version() {
				t.Errorf("%s: identity %+v, %v, version %d; want %+v, %d", name, got, ok, tally.Version(), want, r.Version())
			}
		}
		if whole := tally.Whole(); (whole == nil) != errors.Is(err, io.EOF) && !errors.Is(err, ErrTrailing) {
			t.Errorf("%s: Whole says %v, the reader %v", name, whole, err)
		}
	}
}

func TestTallyRefuses(t *testing.T) {
	first := raw(Subvol, text(AttrPath, "s"), attr(AttrUUID, make([]byte, 16)...), num(AttrTransid, 7))
	begin, end := slices.Concat(AppendHeader(nil, 1), first), raw(End)
	mkfile := raw(MkFile, text(AttrPath, "f"), num(AttrIno, 300))
	long := bytes.Clone(mkfile)
	long[3] = 1
	for name, c := range map[string]struct {
		writes [][]byte
		want   error
	}{
		"empty":           {nil, ErrTruncated},
		"another thing":   {[][]byte{[]byte("not a stream at all, not even by far")}, ErrNotStream},
		"half a header":   {[][]byte{begin[:9]}, ErrNotStream},
		"version":         {[][]byte{AppendHeader(nil, 9)}, ErrVersion},
		"no subvol":       {[][]byte{slices.Concat(AppendHeader(nil, 1), mkfile)}, ErrMalformed},
		"two subvols":     {[][]byte{begin, first}, ErrMalformed},
		"no end":          {[][]byte{begin, mkfile}, ErrTruncated},
		"after the end":   {[][]byte{begin, end, mkfile}, ErrTrailing},
		"another stream":  {[][]byte{begin, end, begin}, ErrTrailing},
		"half a command":  {[][]byte{begin, mkfile[:len(mkfile)-1]}, ErrMalformed},
		"half a head":     {[][]byte{begin, mkfile[:5]}, ErrMalformed},
		"long command":    {[][]byte{begin, long}, ErrTooLong},
		"bad subvol":      {[][]byte{slices.Concat(AppendHeader(nil, 1), raw(Subvol, text(AttrPath, "s")))}, ErrMalformed},
		"write, no data":  {[][]byte{begin, raw(Write, text(AttrPath, "f"), num(AttrFileOffset, 0))}, ErrMalformed},
		"write, cut data": {[][]byte{begin, raw(Write, []byte{byte(AttrData), 0, 9, 0, 1})}, ErrMalformed},
	} {
		var tally Tally
		var err error
		for _, w := range c.writes {
			if _, err = tally.Write(w); err != nil {
				break
			}
		}
		if err == nil {
			err = tally.Whole()
		} else if again := tally.Whole(); !errors.Is(again, err) {
			t.Errorf("%s: Whole says %v after %v", name, again, err)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, again := tally.Write(end); tally.err != nil && !errors.Is(again, tally.err) {
			t.Errorf("%s: another Write after the error: %v", name, again)
		}
	}
}

func BenchmarkTally(b *testing.B) {
	for name, data := range map[string][]byte{"large": largeWrites(b, 512), "small": smallCommands(b, 100_000)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for range b.N {
				var tally Tally
				if _, err := tally.Write(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
