package stream

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// unhex reads hexadecimal digits with spaces between.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors were observed of ButterSink, whose rewritten streams are in its
// users' buckets.
func TestRewriteHead(t *testing.T) {
	const (
		header   = "62747266732d73747265616d0001000000 "
		subvol   = header + "250000000100bb764f68 0f00010041 01001000ea7c1d34c782584b8144845760163ea1 020008000700000000000000"
		snapshot = header + "450000000200bb8a7e22 0f00010042 010010006dc79d558f46da4fa5a3f63b54ac3ad8 020008000900000000000000 " +
			"14001000ea7c1d34c782584b8144845760163ea1 150008000700000000000000"
	)
	id := Identity{
		UUID: UUID(unhex(t, "11111111222233334444555555555555")), Transid: 77,
		Parent: UUID(unhex(t, "aaaaaaaabbbbccccddddeeeeeeeeeeee")), ParentTransid: 66,
	}
	for name, test := range map[string]struct {
		in, out string
		id      Identity
	}{
		"nothing": {subvol, subvol, Identity{}},
		"name": {
			subvol, header + "29000000010026d7ad98 0f0005006f74686572 01001000ea7c1d34c782584b8144845760163ea1 020008000700000000000000",
			Identity{Path: "other"},
		},
		"subvol": {
			subvol, header + "250000000100fa15a8cd 0f00010041 0100100011111111222233334444555555555555 020008004d00000000000000", id,
		},
		"subvol, transid unknown": {
			subvol, header + "2500000001005c20eb07 0f00010041 0100100011111111222233334444555555555555 020008000700000000000000",
			Identity{UUID: id.UUID},
		},
		"snapshot": {
			snapshot, header + "450000000200ee25d7a1 0f00010042 0100100011111111222233334444555555555555 020008004d00000000000000 " +
				"14001000aaaaaaaabbbbccccddddeeeeeeeeeeee 150008004200000000000000", id,
		},
	} {
		const rest = "whatever follows"
		for _, src := range []io.Reader{
			bytes.NewReader(append(unhex(t, test.in), rest...)),
			iotest.OneByteReader(bytes.NewReader(append(unhex(t, test.in), rest...))),
		} {
			r, err := RewriteHead(src, test.id)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := io.ReadAll(r)
			if want := string(unhex(t, test.out)) + rest; err != nil || string(got) != want {
				t.Errorf("%s: got  %x\nwant %x\n%v", name, got, want, err)
			}
		}
	}
}

func TestRewriteHeadOfStreams(t *testing.T) {
	for name, data := range corpus(t) {
		id := Identity{UUID: UUID{1}, Transid: 2, Parent: UUID{3}, ParentTransid: 4}
		r, err := RewriteHead(bytes.NewReader(data), id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || len(got) != len(data) {
			t.Fatalf("%s: %d bytes, %v", name, len(got), err)
		}
		_, after, err := Verify(bytes.NewReader(got))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if after.UUID != id.UUID || after.Transid != 2 || after.HasParent && (after.Parent != id.Parent || after.ParentTransid != 4) {
			t.Errorf("%s: %+v", name, after)
		}
		second := starts(t, data)[1]
		if !bytes.Equal(got[second:], data[second:]) {
			t.Errorf("%s: what follows the first command differs", name)
		}
	}
}

// Damage is not covered up, and errors of the reader come through, also late.
func TestRewriteHeadErrors(t *testing.T) {
	data := corpus(t)["v1-metadata"]
	bad := bytes.Clone(data)
	bad[headerSize+headSize+20] ^= 1
	if _, err := RewriteHead(bytes.NewReader(bad), Identity{}); !errors.Is(err, ErrChecksum) {
		t.Error(err)
	}
	broken := errors.New("the line is down")
	for _, i := range []int{0, 5, 30, 200, len(data)} {
		for _, src := range []io.Reader{
			io.MultiReader(bytes.NewReader(data[:i]), iotest.ErrReader(broken)),
			iotest.DataErrReader(io.MultiReader(bytes.NewReader(data[:i]), iotest.ErrReader(broken))),
		} {
			r, err := RewriteHead(src, Identity{Transid: 9})
			if i < 200 {
				if _, ok := errors.AsType[*ReadError](err); !ok {
					t.Errorf("after %d bytes: %v", i, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("after %d bytes: %v", i, err)
			}
			if got, err := io.ReadAll(r); err != broken || len(got) != i {
				t.Errorf("after %d bytes: %d bytes, %v", i, len(got), err)
			}
		}
	}
}
