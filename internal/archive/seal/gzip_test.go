package seal

import (
	"bytes"
	"strings"
	"testing"
)

func gzipped(level int, to ...Recipient) Options {
	return Options{Compress: true, Gzip: true, Level: level, Recipients: to}
}

var gzipForm = Form{Compressed: true, Gzip: true}

// What is made is what gunzip reads, and what gzip makes is read.
func TestGzip(t *testing.T) {
	need(t, "gzip")
	for _, n := range []int{0, 1, 65, 64 << 10, 300_000} {
		for _, level := range []int{0, 1, 4, 9} {
			data := content(n, uint64(n))
			b := sealed(t, gzipped(level), nil, data, 7, 70_000)
			if got := run(t, b, "gzip", "-dc"); !bytes.Equal(got, data) {
				t.Errorf("gunzip makes something else of %d bytes at level %d", n, level)
			}
			if got, err := opened(bytes.NewReader(b), gzipForm, Keys{}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes at level %d are not read again: %v", n, level, err)
			}
			if bound := Bound(gzipped(level), int64(n)); int64(len(b)) > bound {
				t.Errorf("%d bytes at level %d become %d, and no more than %d was to be", n, level, len(b), bound)
			}
			if got, err := opened(bytes.NewReader(run(t, data, "gzip", "-4")), gzipForm, Keys{}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("what gzip makes of %d bytes is not read: %v", n, err)
			}
		}
	}
}

// What gzip makes in pieces, as pigz and some others do, is one stream.
func TestGzipMembers(t *testing.T) {
	need(t, "gzip")
	var all, data []byte
	for i := range 5 {
		some := content(10_000*i, uint64(i))
		data = append(data, some...)
		all = append(all, run(t, some, "gzip", "-9")...)
	}
	if got, err := opened(bytes.NewReader(all), gzipForm, Keys{}); err != nil || !bytes.Equal(got, data) {
		t.Errorf("five members: %v", err)
	}
}

// The beginnings of a stream are none, but where a member ends; and no bit may be
// wrong that is about content.
func TestGzipDamage(t *testing.T) {
	data := content(5_000, 1)
	b := sealed(t, gzipped(4), nil, data)
	for n := range b {
		if got, err := opened(bytes.NewReader(b[:n]), gzipForm, Keys{}); !isDamage(err) || len(got) > len(data) {
			t.Fatalf("cut off after %d of %d bytes: %v", n, len(b), err)
		}
	}
	for _, more := range []string{"x", "\x00", "\x1f\x8b", strings.Repeat("garbage", 100)} {
		if _, err := opened(bytes.NewReader(append(bytes.Clone(b), more...)), gzipForm, Keys{}); !isDamage(err) {
			t.Errorf("with %.10q behind its end: %v", more, err)
		}
	}
	const header = 10 // with fields that say nothing about the content
	for i := header; i < len(b); i++ {
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		if got, err := opened(bytes.NewReader(bad), gzipForm, Keys{}); err == nil && !bytes.Equal(got, data) {
			t.Fatalf("a bit of byte %d is wrong, and it reads as something else", i)
		}
	}
}

// Noise is what becomes longer.
func TestGzipBoundOfNoise(t *testing.T) {
	data := content(0, 0)
	for i := range uint64(3) {
		data = append(data, run(t, content(200_000, i), "gzip", "-9")...)
	}
	for level := 1; level <= MaxGzipLevel; level++ {
		if b := sealed(t, gzipped(level), nil, data); int64(len(b)) > Bound(gzipped(level), int64(len(data))) {
			t.Errorf("at level %d, %d bytes become %d", level, len(data), len(b))
		}
	}
}

// Gpg and gunzip read what is made, and what gzip and gpg make is read: btrsend's
// archives.
func TestGzipGPG(t *testing.T) {
	keyring(t)
	noProcesses(t)
	newKey(t, "Old Friend <old@example.org>", "")
	for _, name := range []string{"old@example.org", "Old Friend"} {
		to := gpgTo(t, name)
		data := content(1<<20, 3)
		b := sealed(t, gzipped(4, to...), nil, data, 100_000)
		if got := run(t, run(t, b, "gpg", "--batch", "-d"), "gzip", "-dc"); !bytes.Equal(got, data) {
			t.Errorf("for %s, gpg and gunzip make something else of it", name)
		}
		form := Form{Compressed: true, Gzip: true, Cipher: GPG}
		old := run(t, run(t, data, "gzip", "-4"), "gpg", "--batch", "--encrypt", "--recipient", name)
		for _, b := range [][]byte{b, old} {
			if got, err := opened(bytes.NewReader(b), form, Keys{}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("for %s, it is not read: %v", name, err)
			}
			if _, err := opened(bytes.NewReader(b[:len(b)-1]), form, Keys{}); !isDamage(err) {
				t.Errorf("for %s, without its last byte: %v", name, err)
			}
		}
	}
}

func TestGzipOptions(t *testing.T) {
	to, _ := keyPair(t)
	for _, o := range []Options{gzipped(10), gzipped(-1), gzipped(4, to...)} {
		if _, err := trySeal(t.Context(), o, nil, nil); err == nil {
			t.Errorf("%+v are taken", o)
		}
	}
	if f := gzipped(4).Form(); f != gzipForm || f.Suffix() != ".gz" || f.Plain() {
		t.Errorf("the form is %+v, %q", f, f.Suffix())
	}
	if f := (Options{Gzip: true}).Form(); !f.Plain() {
		t.Errorf("without compression the form is %+v", f)
	}
	if before, f := CutSuffix("home.gz"); before != "home.gz" || !f.Plain() {
		t.Errorf("a key that ends in .gz is cut: %q, %+v", before, f)
	}
	w, err := NewWriter(t.Context(), &bytes.Buffer{}, gzipped(4), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if w.Repeatable() || w.Secret() != nil {
		t.Error("it promises to make the same bytes again")
	}
}

// FuzzGzip: foreign bytes are refused as damaged, or read to their end.
func FuzzGzip(f *testing.F) {
	for _, n := range []int{0, 1, 300, 70_000} {
		f.Add(sealed(f, gzipped(4), nil, content(n, 1)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := opened(bytes.NewReader(b), gzipForm, Keys{}); err != nil && !isDamage(err) {
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}
