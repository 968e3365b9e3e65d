package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"filippo.io/age"
)

// fuzzOptions are always the same, so that what is found can be tried again.
func fuzzOptions(t testing.TB) ([]Recipient, Keys) {
	t.Helper()
	id, err := age.ParseX25519Identity("AGE-SECRET-KEY-17PVUE6M5T0YFADHUSH8FY34AHGDDVZQLPF04LM564660REW0F2JQYK0R3L")
	if err != nil {
		t.Fatal(err)
	}
	to, err := ParseRecipients([]string{"age:" + id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	return to, Keys{age: []age.Identity{id}}
}

// FuzzReader: foreign bytes are refused as damaged, or read to their end.
func FuzzReader(f *testing.F) {
	to, keys := fuzzOptions(f)
	for _, n := range []int{0, 1, 300, 70_000} {
		for _, o := range forms(to) {
			f.Add(sealed(f, o, nil, content(n, 1)), o.Compress, len(o.Recipients) > 0)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, compressed, encrypted bool) {
		form := Form{Compressed: compressed}
		if encrypted {
			form.Cipher = Age
		}
		got, err := opened(bytes.NewReader(b), form, keys)
		var none *NoKeyError
		if err != nil && !isDamage(err) && !(encrypted && errors.As(err, &none)) {
			t.Fatalf("an error of no kind: %v", err)
		}
		if form.Plain() && (err != nil || !bytes.Equal(got, b)) {
			t.Fatalf("plain: %v", err)
		}
	})
}

// FuzzFrames puts foreign bytes in the place of a frame, with a checksum and a
// table that fit: what no checksum keeps away.
func FuzzFrames(f *testing.F) {
	for _, n := range []int{1, 300, 70_000} {
		b := sealed(f, Options{Compress: true}, nil, content(n, 1))
		f.Add(b[:len(b)-sumFrame-skipHeader-2*entrySize-footerSize], uint32(n), uint32(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, n, sum uint32) {
		c := &compressor{dst: new(bytes.Buffer), lanes: newLanes(t.Context(), 1, 1)}
		var all bytes.Buffer
		c.dst = &all
		if len(b) >= 4 {
			if err := c.frame(int(n), b); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := opened(&all, Form{Compressed: true}, Keys{})
		if err != nil && !isDamage(err) {
			t.Fatal(err)
		}
		if err == nil && len(b) >= 4 && len(got) != int(n) {
			t.Fatalf("%d bytes came out, and %d are in the table", len(got), n)
		}
	})
}

// FuzzSecret: a secret is refused with ErrSecret, or does its work.
func FuzzSecret(f *testing.F) {
	to, keys := fuzzOptions(f)
	for _, o := range forms(to) {
		w, err := NewWriter(f.Context(), io.Discard, o, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(w.Secret(), o.Compress, len(o.Recipients) > 0)
	}
	f.Fuzz(func(t *testing.T, secret []byte, compressed, encrypted bool) {
		o := Options{Compress: compressed, Workers: 1}
		if encrypted {
			o.Recipients = to
		}
		var b bytes.Buffer
		w, err := NewWriter(context.Background(), &b, o, secret)
		if err != nil {
			if !errors.Is(err, ErrSecret) {
				t.Fatal(err)
			}
			return
		}
		if len(secret) > 0 && !bytes.Equal(w.Secret(), secret) {
			t.Fatal("another secret came of it")
		}
		if _, err := w.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := opened(&b, o.Form(), keys); err != nil || string(got) != "abc" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

// FuzzRecipients: what is taken for recipients can be encrypted for.
func FuzzRecipients(f *testing.F) {
	to, _ := fuzzOptions(f)
	ed, _ := ed25519Pair(f)
	f.Add([]byte(to[0].name + "\n# a comment\n" + ed + "\n"))
	f.Add([]byte("age1pq1junk"))
	f.Add([]byte("AGE-SECRET-KEY-17PVUE6M5T0YFADHUSH8FY34AHGDDVZQLPF04LM564660REW0F2JQYK0R3L"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := readRecipients(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, r := range all {
			again, err := ageRecipient(r.name)
			if err != nil || again.name != r.name {
				t.Fatalf("%q: %v", r.name, err)
			}
			if e, err := newEnvelope([]Recipient{r}); err != nil || len(e.header) > maxStanza+256 {
				t.Fatalf("%q: %v", r.name, err)
			}
		}
	})
}

// FuzzKeys: files of keys never end in anything but an error that does not quote
// them, or keys.
func FuzzKeys(f *testing.F) {
	_, text := ed25519Pair(f)
	f.Add(text)
	f.Add([]byte("# x\nAGE-SECRET-KEY-17PVUE6M5T0YFADHUSH8FY34AHGDDVZQLPF04LM564660REW0F2JQYK0R3L\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ids, err := parseKeys(text)
		if (err == nil) != (len(ids) > 0) {
			t.Fatalf("%d keys, %v", len(ids), err)
		}
		if err != nil {
			quotes(t, err, string(text))
		}
	})
}
