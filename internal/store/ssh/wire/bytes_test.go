package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

// frames are bytes as docs/protocol.md has them.
func frames(t *testing.T, lines ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(strings.Join(lines, "")), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBytes holds both sides to the bytes of the protocol.
func TestBytes(t *testing.T) {
	request := frames(t, "01 00 0000 01000000 03000000 616263")
	data := frames(t, "03 00 0000 01000000 02000000 6465")
	message := frames(t, "02 00 0000 01000000 01000000 66")
	end := frames(t, "04 00 0000 01000000 02000000 6768")
	window := frames(t, "06 00 0000 01000000 04000000 00000100")
	compressed := frames(t, "03 01 0000 01000000 17000000 e8030000", // 1000 times 'A'
		"28b52ffd 60e802 4d00001041410100e32b8005")
	cancel := frames(t, "05 00 0000 02000000 00000000")
	ping := frames(t, "07 00 0000 00000000 08000000 0102030405060708")
	pong := frames(t, "08 00 0000 00000000 08000000 0102030405060708")
	goodbye := frames(t, "09 00 0000 00000000 00000000")

	t.Run("server", func(t *testing.T) {
		in, feed := io.Pipe()
		var out bytes.Buffer
		conn := NewServer(in, &out, Options{})
		go func() {
			_, _ = feed.Write(bytes.Join([][]byte{request, data, compressed, message, window, end}, nil))
		}()
		k, got, err := conn.Accept(t.Context())
		if err != nil || string(got) != "abc" {
			t.Fatalf("request %q: %v", got, err)
		}
		if got, err := io.ReadAll(k); err != nil || string(got) != "de"+strings.Repeat("A", 1000) {
			t.Errorf("data %q: %v", got, err)
		}
		for _, want := range []string{"f", "gh"} {
			if got, err := k.Receive(t.Context()); err != nil || string(got) != want {
				t.Errorf("message %q: %v", got, err)
			}
		}
		if err := k.End([]byte("gh")); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if want := append(bytes.Clone(end), goodbye...); !bytes.Equal(out.Bytes(), want) {
			t.Errorf("sent %x, want %x", out.Bytes(), want)
		}
		feed.Close()
	})
	t.Run("client", func(t *testing.T) {
		in, feed := io.Pipe()
		sent, out := io.Pipe()
		conn := NewClient(in, out, Options{})
		expect := func(want []byte) {
			t.Helper()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(sent, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("sent %x, want %x: %v", got, want, err)
			}
		}
		k, err := conn.Call(t.Context(), []byte("abc"))
		if err != nil {
			t.Fatal(err)
		}
		expect(request)
		if _, err := k.Write([]byte("de")); err != nil {
			t.Fatal(err)
		}
		expect(data)
		if err := k.Send(t.Context(), []byte("f")); err != nil {
			t.Fatal(err)
		}
		expect(message)
		if _, err := feed.Write(ping); err != nil {
			t.Fatal(err)
		}
		expect(pong)
		if _, err := feed.Write(end); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Receive(t.Context()); err != nil || string(got) != "gh" {
			t.Errorf("answer %q: %v", got, err)
		}
		if k, err = conn.Call(t.Context(), []byte("abc")); err != nil {
			t.Fatal(err)
		}
		request[4] = 2
		expect(request)
		k.Cancel()
		expect(cancel)
		go func() { _ = conn.Close() }()
		expect(goodbye)
		<-conn.gone
		feed.Close()
	})
}

// TestEndOfInput tells the end between two frames from one in the middle.
func TestEndOfInput(t *testing.T) {
	whole := raw(typeRequest, 0, 1, []byte("request"))
	for _, c := range []struct {
		name  string
		input io.Reader
		want  error
	}{
		{"none", strings.NewReader(""), ErrHungUp},
		{"after a frame", bytes.NewReader(whole), ErrHungUp},
		{"in a header", bytes.NewReader(whole[:7]), io.ErrUnexpectedEOF},
		{"behind a header", bytes.NewReader(whole[:headerSize]), io.ErrUnexpectedEOF},
		{"in a payload", bytes.NewReader(whole[:len(whole)-1]), io.ErrUnexpectedEOF},
		{"an error", io.MultiReader(bytes.NewReader(whole), failingReader{}), errCut},
	} {
		conn := NewServer(c.input, io.Discard, Options{})
		<-conn.Done()
		if err := conn.Err(); !errors.Is(err, c.want) || errors.Is(err, ErrHungUp) != (c.want == ErrHungUp) {
			t.Errorf("%s: ended with %v, want %v", c.name, err, c.want)
		}
		<-conn.gone
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errCut }
