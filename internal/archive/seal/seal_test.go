package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"
)

// realEnv turns what a test lacks from a reason to skip it into a failure.
const realEnv = "BUTTERSINK_TEST_REAL"

// need returns the path of a command of Debian.
func need(t testing.TB, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv(realEnv) != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return file
}

// content is data of which about half can be compressed away.
func content(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i < n; i += 512 {
		piece := b[i:min(i+512, n)]
		if r.IntN(2) == 0 {
			for j := range piece {
				piece[j] = byte(r.Uint32())
			}
			continue
		}
		for j := range piece {
			piece[j] = "the quick brown fox jumps "[(i/512+j)%26]
		}
	}
	return b
}

// keyPair is a native key of age.
func keyPair(t testing.TB) ([]Recipient, Keys) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := ParseRecipients([]string{"age:" + id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	return to, Keys{age: []age.Identity{id}}
}

// forms are the options for all forms that need no gpg.
func forms(to []Recipient) []Options {
	return []Options{{}, {Compress: true}, {Recipients: to}, {Compress: true, Recipients: to}}
}

// sealed seals data, written in pieces of the given sizes, over and over.
func sealed(t testing.TB, o Options, secret, data []byte, sizes ...int) []byte {
	t.Helper()
	b, err := trySeal(t.Context(), o, secret, data, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func trySeal(ctx context.Context, o Options, secret, data []byte, sizes ...int) ([]byte, error) {
	var b bytes.Buffer
	w, err := NewWriter(ctx, &b, o, secret)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if len(sizes) == 0 {
		sizes = []int{len(data)}
	}
	for i := 0; len(data) > 0; i++ {
		n := min(len(data), max(1, sizes[i%len(sizes)]))
		if m, err := w.Write(data[:n]); err != nil {
			return nil, err
		} else if m != n {
			return nil, io.ErrShortWrite
		}
		data = data[n:]
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// opened opens what was sealed.
func opened(src io.Reader, f Form, k Keys) ([]byte, error) {
	r, err := NewReader(context.Background(), src, f, k)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestSuffix(t *testing.T) {
	for _, want := range []struct {
		f      Form
		suffix string
	}{
		{Form{}, ""},
		{Form{Compressed: true}, ".zst"},
		{Form{Cipher: Age}, ".age"},
		{Form{Compressed: true, Cipher: Age}, ".zst.age"},
		{Form{Cipher: GPG}, ".gpg"},
		{Form{Compressed: true, Cipher: GPG}, ".zst.gpg"},
	} {
		if got := want.f.Suffix(); got != want.suffix {
			t.Errorf("%+v: suffix %q, want %q", want.f, got, want.suffix)
		}
		before, f := CutSuffix("a/b_c" + want.suffix)
		if before != "a/b_c" || f != want.f {
			t.Errorf("cutting %q: %q, %+v", want.suffix, before, f)
		}
	}
}

func TestParseCompress(t *testing.T) {
	for text, want := range map[string]int{"zstd": 0, "zstd:1": 1, "zstd:19": 19} {
		if got, err := ParseCompress(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "gzip", "zstd:", "zstd:0", "zstd:20", "zstd:-3", "zstd:x", "ZSTD"} {
		if _, err := ParseCompress(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	to, _ := keyPair(t)
	for name, o := range map[string]Options{
		"level":   {Compress: true, Level: 20},
		"empty":   {Recipients: []Recipient{{}}},
		"ciphers": {Recipients: append(to, Recipient{cipher: GPG, name: "a"})},
	} {
		if _, err := NewWriter(t.Context(), io.Discard, o, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRoundTrip: what is sealed is opened again, is the same whatever the writes
// and the workers are, and is never longer than its bound.
func TestRoundTrip(t *testing.T) {
	to, keys := keyPair(t)
	all := forms(to)
	edges := []int{0, 1, 255, 256, 65535, 65536, 65537, 2 * 65536, ageBlock, ageBlock + 1, FrameSize - 1, FrameSize, FrameSize + 1, 2 * FrameSize}
	rapid.Check(t, func(t *rapid.T) {
		o := rapid.SampledFrom(all).Draw(t, "options")
		o.Level = rapid.SampledFrom([]int{0, 0, 0, 1, 7}).Draw(t, "level")
		o.Workers = rapid.IntRange(1, 4).Draw(t, "workers")
		n := rapid.OneOf(rapid.SampledFrom(edges), rapid.IntRange(0, 5<<20)).Draw(t, "length")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 3<<20), 1, 5).Draw(t, "writes")
		data := content(n, rapid.Uint64().Draw(t, "seed"))
		ctx := context.Background()
		first, err := NewWriter(ctx, io.Discard, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		secret := first.Secret()
		first.Abort()
		got, err := trySeal(ctx, o, secret, data, sizes...)
		if err != nil {
			t.Fatal(err)
		}
		if bound := Bound(o, int64(n)); int64(len(got)) > bound {
			t.Errorf("%d bytes became %d, and the bound is %d", n, len(got), bound)
		}
		back, err := opened(bytes.NewReader(got), o.Form(), keys)
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("opened: %d of %d bytes, %v", len(back), n, err)
		}
		o.Workers = rapid.IntRange(1, 4).Draw(t, "workers again")
		again, err := trySeal(ctx, o, secret, data)
		if err != nil || !bytes.Equal(got, again) {
			t.Fatalf("sealed again it is not the same: %v", err)
		}
	})
}

// TestBoundOfNoise: what cannot be compressed is not longer than its bound.
func TestBoundOfNoise(t *testing.T) {
	to, _ := keyPair(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 200, 256, 100_000, 65536, FrameSize, FrameSize + 1} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		for _, o := range forms(to) {
			for _, o.Level = range []int{1, 3, 6, 10} {
				if got, bound := int64(len(sealed(t, o, nil, data))), Bound(o, int64(n)); got > bound {
					t.Errorf("%+v: %d bytes became %d, and the bound is %d", o.Form(), n, got, bound)
				} else if slack := bound - got; slack > 8<<10 {
					t.Errorf("%+v: %d bytes became %d, and the bound is %d, which is no use", o.Form(), n, got, bound)
				}
			}
		}
	}
}

func TestPlainIsNotTouched(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(t.Context(), &b, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if b.String() != "abc" || w.Secret() != nil || !w.Repeatable() {
		t.Errorf("put out %q, secret %v, repeatable %v", &b, w.Secret(), w.Repeatable())
	}
	if err := w.Close(); err != nil || b.String() != "abc" {
		t.Errorf("closed: %q, %v", &b, err)
	}
}

// TestWriterEnds: after an error, Abort, Close or the end of its context nothing
// more is put out, and all calls say why.
func TestWriterEnds(t *testing.T) {
	to, _ := keyPair(t)
	data := content(5<<20, 1)
	for _, o := range forms(to) {
		cause := errors.New("had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var b bytes.Buffer
		w, err := NewWriter(ctx, &b, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b.Len() > 0 {
			t.Errorf("%+v: %d bytes before the first write", o.Form(), b.Len())
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		n := b.Len()
		if _, err := w.Write(data); !errors.Is(err, cause) {
			t.Errorf("%+v: writing after the end: %v", o.Form(), err)
		}
		if err := w.Close(); !errors.Is(err, cause) {
			t.Errorf("%+v: closing after the end: %v", o.Form(), err)
		}
		if b.Len() != n {
			t.Errorf("%+v: %d bytes after the end", o.Form(), b.Len()-n)
		}

		w, err = NewWriter(t.Context(), &b, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		if _, err := w.Write(data); err == nil || w.Close() == nil || b.Len() != n {
			t.Errorf("%+v: given up, it goes on", o.Form())
		}

		w, err = NewWriter(t.Context(), &failing{left: 3 << 20, err: cause}, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			_, err = w.Write(data)
		}
		if !errors.Is(err, cause) || !errors.Is(w.Close(), cause) {
			t.Errorf("%+v: the error of the destination is lost: %v", o.Form(), err)
		}
		if w.Secret() != nil {
			t.Errorf("%+v: the secret outlives the writer", o.Form())
		}

		w, err = NewWriter(t.Context(), io.Discard, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err == nil || w.Close() == nil {
			t.Errorf("%+v: closed, it goes on", o.Form())
		}
	}
}

// failing takes some bytes and then fails.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// TestReaderKeepsSourceErrors: what the source says comes through as it is, so
// that it can be told from damage.
func TestReaderKeepsSourceErrors(t *testing.T) {
	to, keys := keyPair(t)
	cut := errors.New("connection cut")
	data := content(5<<20, 3)
	for _, o := range forms(to) {
		b := sealed(t, o, nil, data)
		for _, at := range []int{0, 10, 300, 70_000, len(b) / 2, len(b) - 5, len(b)} {
			for _, err := range []error{cut, io.ErrUnexpectedEOF} {
				_, got := opened(io.MultiReader(bytes.NewReader(b[:at]), &broken{err}), o.Form(), keys)
				var damage *DamagedError
				if !errors.Is(got, err) || errors.As(got, &damage) {
					t.Errorf("%+v cut at %d of %d: %v", o.Form(), at, len(b), got)
				}
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		r, err := NewReader(ctx, bytes.NewReader(b), o.Form(), keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		cancel(cut)
		if _, err := io.ReadAll(r); !errors.Is(err, cut) {
			t.Errorf("%+v: after the end of the context: %v", o.Form(), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

type broken struct{ err error }

func (b *broken) Read([]byte) (int, error) { return 0, b.err }

// run runs a command with some input and returns its output.
func run(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), need(t, name), args...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, &stderr)
	}
	return out
}
