package stream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestBeforeEnd(t *testing.T) {
	first := &Command{Kind: Subvol, Path: []byte("s"), UUID: UUID{7}, Transid: 3}
	file := &Command{Kind: MkFile, Path: []byte("f"), Ino: 257}
	data := &Command{Kind: Write, Path: []byte("f"), Data: bytes.Repeat([]byte("data "), 9000)}
	more := []*Command{
		{Kind: Write, Path: []byte("f"), FileOffset: 5, Data: []byte("more")},
		{Kind: Utimes, Path: []byte("f"), Mtime: Time{Sec: 9}},
	}
	write := func(version uint32, commands ...*Command) []byte {
		t.Helper()
		var out bytes.Buffer
		w := NewWriter(&out, version)
		for _, c := range commands {
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	// inTurn hands out one command at a time.
	inTurn := func(commands []*Command) func() ([]*Command, error) {
		return func() ([]*Command, error) {
			n := min(1, len(commands))
			now := commands[:n]
			commands = commands[n:]
			return now, nil
		}
	}
	end := &Command{Kind: End}
	for _, version := range []uint32{1, 2} {
		plain := write(version, first, file, data, end)
		want := write(version, first, file, data, more[0], more[1], end)
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"as it is": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
			"in halves": iotest.HalfReader, "with its error": iotest.DataErrReader,
		} {
			r := BeforeEnd(wrap(bytes.NewReader(plain)), version, inTurn(more))
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("version %d, %s: %d bytes for %d, %v", version, name, len(got), len(want), err)
			}
			got, err = io.ReadAll(iotest.OneByteReader(BeforeEnd(wrap(bytes.NewReader(plain)), version, func() ([]*Command, error) { return nil, nil })))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("version %d, %s, nothing to add: %d bytes for %d, %v", version, name, len(got), len(plain), err)
			}
		}
		no := errors.New("no")
		got, err := io.ReadAll(BeforeEnd(bytes.NewReader(plain), version, func() ([]*Command, error) { return nil, no }))
		if !errors.Is(err, no) || !bytes.Equal(got, plain[:len(plain)-headSize]) {
			t.Errorf("an error: %d bytes, %v", len(got), err)
		}
		once := inTurn(more[:1])
		got, err = io.ReadAll(BeforeEnd(bytes.NewReader(plain), version, func() ([]*Command, error) {
			if commands, _ := once(); len(commands) > 0 {
				return commands, nil
			}
			return nil, no
		}))
		if one := write(version, first, file, data, more[0], end); !errors.Is(err, no) || !bytes.Equal(got, one[:len(one)-headSize]) {
			t.Errorf("an error after a command: %d bytes, %v", len(got), err)
		}
		for _, cut := range []int{0, 5, headSize, len(plain) - 1, len(plain) - headSize} {
			asked := false
			got, err := io.ReadAll(BeforeEnd(bytes.NewReader(plain[:cut]), version, func() ([]*Command, error) { asked = true; return more, nil }))
			if err != nil || asked || !bytes.Equal(got, plain[:cut]) {
				t.Errorf("cut at %d: %d bytes, asked %v, %v", cut, len(got), asked, err)
			}
		}
		got, err = io.ReadAll(BeforeEnd(io.MultiReader(bytes.NewReader(plain), iotest.ErrReader(no)), version, func() ([]*Command, error) { return more, nil }))
		if !errors.Is(err, no) || !bytes.Equal(got, plain) {
			t.Errorf("a read error after END: %d bytes, %v", len(got), err)
		}
	}
}
