package stream

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// drawCommand draws a command of any kind that a stream of the version can
// have behind its first.
func drawCommand(t *rapid.T, version uint32, k Kind) *Command {
	c := &Command{Kind: k}
	name := rapid.StringMatching(`[^/\x00.][^/\x00]{0,20}`)
	path := rapid.Custom(func(t *rapid.T) []byte {
		b := []byte(name.Draw(t, "element"))
		for range rapid.IntRange(0, 3).Draw(t, "depth") {
			b = append(append(b, '/'), name.Draw(t, "element")...)
		}
		return b
	})
	small := rapid.Uint64Range(0, 1<<61)
	for _, a := range kinds[k].attrs {
		if a.since() > version || optional(k, a) && rapid.Bool().Draw(t, "without") {
			continue
		}
		c.has |= 1 << a
		switch v := c.field(a).(type) {
		case *[]byte:
			switch a {
			case AttrPath:
				if *v = path.Draw(t, a.String()); k == Subvol || k == Snapshot {
					*v = []byte(name.Draw(t, a.String()))
				} else if kinds[k].root && rapid.Bool().Draw(t, "root") {
					*v = []byte{}
				}
			case AttrPathTo, AttrPathLink, AttrClonePath, AttrXattrName:
				*v = path.Draw(t, a.String())
			default:
				*v = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, a.String())
			}
		case *uint64:
			*v = small.Draw(t, a.String())
		case *uint32:
			*v = rapid.Uint32().Draw(t, a.String())
		case *uint8:
			*v = rapid.Byte().Draw(t, a.String())
		case *Time:
			*v = Time{rapid.Int64().Draw(t, a.String()), rapid.Uint32().Draw(t, a.String())}
		case *UUID:
			*v = UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, a.String()))
		}
	}
	if k == EncodedWrite {
		c.UnencodedLen = rapid.Uint64Range(0, maxCommand).Draw(t, "len")
		c.UnencodedOffset = rapid.Uint64Range(0, c.UnencodedLen).Draw(t, "offset")
		c.UnencodedFileLen = rapid.Uint64Range(0, c.UnencodedLen-c.UnencodedOffset).Draw(t, "file len")
	}
	return c
}

// What is written is read back the same, whatever it is.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.Uint32Range(1, lastVersion).Draw(t, "version")
		var commands []*Command
		commands = append(commands, drawCommand(t, version, rapid.SampledFrom([]Kind{Subvol, Snapshot}).Draw(t, "first")))
		for range rapid.IntRange(0, 20).Draw(t, "commands") {
			k := rapid.Custom(func(t *rapid.T) Kind { return Kind(rapid.IntRange(int(MkFile), int(kindLast)).Draw(t, "kind")) }).
				Filter(func(k Kind) bool { return k != End && k.since() <= version }).Draw(t, "kind")
			commands = append(commands, drawCommand(t, version, k))
		}
		commands = append(commands, &Command{Kind: End})

		var b bytes.Buffer
		w := NewWriter(&b, version)
		for _, c := range commands {
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := NewReader(bytes.NewReader(b.Bytes()))
		for i, want := range commands {
			got, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(Command{}),
				cmpopts.IgnoreFields(Command{}, "Number", "Offset", "Frame")); diff != "" {
				t.Fatal(diff)
			}
			if got.Number != int64(i+1) || !bytes.Equal(got.Frame, b.Bytes()[got.Offset:][:len(got.Frame)]) {
				t.Fatalf("command %d says it is %d at %d", i+1, got.Number, got.Offset)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Fatal(err)
		}
	})
}

func TestWriterRefuses(t *testing.T) {
	first := &Command{Kind: Subvol, Path: []byte("s")}
	unlink := func(path string) *Command { return &Command{Kind: Unlink, Path: []byte(path)} }
	for name, test := range map[string]struct {
		version  uint32
		commands []*Command
		want     error
	}{
		"version 0":        {0, []*Command{first}, ErrVersion},
		"version 4":        {4, []*Command{first}, ErrVersion},
		"no first":         {1, []*Command{unlink("a")}, ErrMalformed},
		"first twice":      {1, []*Command{first, first}, ErrMalformed},
		"no kind":          {1, []*Command{first, {}}, ErrMalformed},
		"unknown kind":     {1, []*Command{first, {Kind: 99}}, ErrMalformed},
		"of version 2":     {1, []*Command{first, {Kind: FileAttr, Path: []byte("a")}}, ErrMalformed},
		"of version 3":     {2, []*Command{first, {Kind: EnableVerity, Path: []byte("a")}}, ErrMalformed},
		"no path":          {1, []*Command{first, unlink("")}, ErrMalformed},
		"unsafe":           {1, []*Command{first, unlink("../a")}, ErrUnsafePath},
		"data of 64 KiB":   {1, []*Command{first, {Kind: Write, Path: []byte("a"), Data: make([]byte, 1<<16)}}, ErrTooLong},
		"data of 1 MiB":    {2, []*Command{first, {Kind: Write, Path: []byte("a"), Data: make([]byte, 1<<20)}}, ErrTooLong},
		"behind END":       {1, []*Command{first, {Kind: End}, unlink("a")}, ErrTrailing},
		"END without head": {1, []*Command{{Kind: End}}, ErrMalformed},
	} {
		w := NewWriter(io.Discard, test.version)
		var err error
		for _, c := range test.commands {
			if err = w.Write(c); err != nil {
				break
			}
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%s: want %v, got %v", name, test.want, err)
		}
		if again := w.Write(first); again != err || w.Close() != err {
			t.Errorf("%s: first %v, then %v", name, err, again)
		}
	}
	full := errors.New("disk full")
	w := NewWriter(failing{full}, 1)
	write(t, w, first)
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("closing: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
