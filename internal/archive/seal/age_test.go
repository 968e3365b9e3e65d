package seal

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

// sshPair makes a key of ssh: the line of its public half, and the file of its
// secret one.
func sshPair(t testing.TB, public, secret any) (line string, text []byte) {
	t.Helper()
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(secret, "a comment")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))) + " a comment", pem.EncodeToMemory(block)
}

func ed25519Pair(t testing.TB) (string, []byte) {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, public, secret)
}

func rsaPair(t testing.TB) (string, []byte) {
	t.Helper()
	secret, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, &secret.PublicKey, secret)
}

// keyFile keeps a secret key the way it should be kept.
func keyFile(t testing.TB, text []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestAgeReads: the age of the system opens it with the key of any of several
// recipients, of all kinds it knows, and zstd reads what comes out.
func TestAgeReads(t *testing.T) {
	native := must(age.GenerateX25519Identity())
	ed, edText := ed25519Pair(t)
	rs, rsText := rsaPair(t)
	to, err := ParseRecipients([]string{"age:" + native.Recipient().String(), "age:" + ed, "age:" + rs})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"native":  keyFile(t, []byte(native.String()+"\n")),
		"ed25519": keyFile(t, edText),
		"rsa":     keyFile(t, rsText),
	}
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 4 * chunkSize, ageBlock * 3, 3<<20 + 17} {
		data := content(n, 3)
		plain := sealed(t, Options{Recipients: to}, nil, data)
		both := sealed(t, Options{Recipients: to, Compress: true}, nil, data)
		for kind, file := range files {
			if got := run(t, plain, "age", "-d", "-i", file); !bytes.Equal(got, data) {
				t.Errorf("%s: age makes %d bytes of %d", kind, len(got), n)
			}
			if got := run(t, run(t, both, "age", "-d", "-i", file), "zstd", "-d", "-q", "-c"); !bytes.Equal(got, data) {
				t.Errorf("%s: age and zstd make %d bytes of %d", kind, len(got), n)
			}
			keys, err := LoadKeys([]string{file})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := opened(bytes.NewReader(both), Form{Compressed: true, Cipher: Age}, keys); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes become %d, %v", kind, n, len(got), err)
			}
		}
	}
}

// TestAgeMakes: what the age of the system makes is opened.
func TestAgeMakes(t *testing.T) {
	to, keys := keyPair(t)
	for _, n := range []int{0, 1, chunkSize, 200_000} {
		data := content(n, 3)
		b := run(t, data, "age", "-r", strings.TrimPrefix(to[0].String(), "age:"))
		if got, err := opened(bytes.NewReader(b), Form{Cipher: Age}, keys); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes become %d, %v", n, len(got), err)
		}
	}
}

// TestAgeAsTheLibrary: given the same key and nonce the library makes the same
// payload.
func TestAgeAsTheLibrary(t *testing.T) {
	id := must(age.GenerateX25519Identity())
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, ageBlock, ageBlock + 1, 3 * ageBlock} {
		var e envelope
		var b bytes.Buffer
		w, err := age.Encrypt(&b, witness{id.Recipient(), &e.key})
		if err != nil {
			t.Fatal(err)
		}
		e.header = bytes.Clone(b.Bytes()[:b.Len()-nonceSize])
		copy(e.nonce[:], b.Bytes()[len(e.header):])
		data := content(n, 1)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		ours, err := newEncrypter(t.Context(), &got, &e, 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ours.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := ours.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), b.Bytes()) {
			t.Errorf("%d bytes become %d, and %d with the library", n, got.Len(), b.Len())
		}
	}
}

// TestPostQuantum: hybrid keys work, and are not mixed with others.
func TestPostQuantum(t *testing.T) {
	id := must(age.GenerateHybridIdentity())
	to, err := ParseRecipients([]string{"age:" + id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := LoadKeys([]string{keyFile(t, []byte(id.String()))})
	if err != nil {
		t.Fatal(err)
	}
	data := content(100_000, 1)
	b := sealed(t, Options{Recipients: to}, nil, data)
	if n := int64(len(b)); n > Bound(Options{Recipients: to}, int64(len(data))) {
		t.Errorf("%d bytes are beyond the bound", n)
	}
	if got, err := opened(bytes.NewReader(b), Form{Cipher: Age}, keys); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	other, _ := keyPair(t)
	if _, err := ParseRecipients([]string{to[0].String(), other[0].String()}); err == nil || !strings.Contains(err.Error(), "post-quantum") {
		t.Errorf("mixed: %v", err)
	}
}

func TestNoKey(t *testing.T) {
	to, _ := keyPair(t)
	_, other := keyPair(t)
	form := Form{Compressed: true, Cipher: Age}
	b := sealed(t, Options{Recipients: to, Compress: true}, nil, []byte("abc"))
	for name, k := range map[string]Keys{"none": {}, "another": other} {
		_, err := NewReader(t.Context(), bytes.NewReader(b), form, k)
		var none *NoKeyError
		if !errors.As(err, &none) || none.Form != form || none.Given != (name == "another") || !strings.Contains(err.Error(), "--identity FILE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHeaderIsBounded: a header that never ends is given up.
func TestHeaderIsBounded(t *testing.T) {
	_, keys := keyPair(t)
	endless := io.MultiReader(strings.NewReader("age-encryption.org/v1\n"), &repeating{[]byte("-> x y\n\n")})
	counted := &counting{r: endless}
	if _, err := NewReader(t.Context(), counted, Form{Cipher: Age}, keys); !isDamage(err) {
		t.Error(err)
	}
	if counted.n > 4<<20 {
		t.Errorf("%d bytes of it were read", counted.n)
	}
}

type repeating struct{ text []byte }

func (r *repeating) Read(p []byte) (int, error) { return copy(p, r.text), nil }

type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestSecretIsTied: a secret is taken only for what it was made for.
func TestSecretIsTied(t *testing.T) {
	to, _ := keyPair(t)
	other, _ := keyPair(t)
	options := map[string]Options{
		"plain":      {},
		"zstd":       {Compress: true},
		"zstd 7":     {Compress: true, Level: 7},
		"age":        {Recipients: to},
		"age other":  {Recipients: other},
		"age both":   {Recipients: append(to[:1:1], other...)},
		"zstd age":   {Compress: true, Recipients: to},
		"zstd 7 age": {Compress: true, Level: 7, Recipients: to},
	}
	for from, a := range options {
		w, err := NewWriter(t.Context(), io.Discard, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		secret := w.Secret()
		w.Abort()
		if (secret == nil) != (from == "plain") {
			t.Errorf("%s: the secret has %d bytes", from, len(secret))
		}
		if secret == nil {
			continue
		}
		for what, b := range options {
			_, err := NewWriter(t.Context(), io.Discard, b, secret)
			if what == from && err != nil || what != from && !errors.Is(err, ErrSecret) {
				t.Errorf("the secret of %s for %s: %v", from, what, err)
			}
		}
		for i := range secret {
			bad := bytes.Clone(secret)
			bad[i] ^= 1
			if _, err := NewWriter(t.Context(), io.Discard, a, bad); !errors.Is(err, ErrSecret) {
				t.Errorf("%s: byte %d of the secret is wrong: %v", from, i, err)
			}
			if _, err := NewWriter(t.Context(), io.Discard, a, secret[:i]); i > 0 && !errors.Is(err, ErrSecret) {
				t.Errorf("%s: %d bytes of the secret pass for all: %v", from, i, err)
			}
		}
	}
	// The order in which recipients are named means nothing.
	w, err := NewWriter(t.Context(), io.Discard, options["age both"], nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewWriter(t.Context(), io.Discard, Options{Recipients: append(other[:1:1], to...)}, w.Secret()); err != nil {
		t.Error(err)
	}
}

// TestSecretIsNeverTheSame: two streams never share their keys.
func TestSecretIsNeverTheSame(t *testing.T) {
	to, _ := keyPair(t)
	seen := map[string]bool{}
	for range 50 {
		w, err := NewWriter(t.Context(), io.Discard, Options{Recipients: to}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{string(w.envelope.key[:]), string(w.envelope.nonce[:])} {
			if seen[part] {
				t.Fatal("a key comes twice")
			}
			seen[part] = true
		}
		if !bytes.Contains(w.Secret(), w.envelope.key[:]) || w.envelope.key == [fileKeySize]byte{} {
			t.Fatal("the secret has no key")
		}
	}
}

// TestSecretIsWiped: when a writer is done, it keeps no keys.
func TestSecretIsWiped(t *testing.T) {
	to, _ := keyPair(t)
	for name, end := range map[string]func(*Writer){
		"close":   func(w *Writer) { _ = w.Close() },
		"abort":   func(w *Writer) { w.Abort() },
		"failure": func(w *Writer) { w.top = &failing{err: io.ErrClosedPipe}; _, _ = w.Write([]byte("a")) },
	} {
		w, err := NewWriter(context.Background(), io.Discard, Options{Recipients: to}, nil)
		if err != nil {
			t.Fatal(err)
		}
		e, secret := w.envelope, w.secret
		end(w)
		if e.key != [fileKeySize]byte{} || !bytes.Equal(secret, make([]byte, len(secret))) || w.Secret() != nil {
			t.Errorf("%s: there is still a key", name)
		}
	}
}
