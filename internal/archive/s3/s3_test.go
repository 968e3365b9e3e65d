package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
)

// open opens a new bucket, or the one that is named, of a server, or of what is
// before it, and tries again at once where it would wait.
func open(t testing.TB, server *s3test.Server, o Options) *Bucket {
	t.Helper()
	if o.Bucket == "" {
		o.Bucket = server.Bucket(t)
	}
	if o.Getenv == nil {
		o.Getenv = environment(server.EnvAt(server.Endpoint))
	}
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b.retries = newRetries(attempts, time.Millisecond)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// environment looks variables up in a list.
func environment(env []string) func(string) string {
	return func(name string) string {
		for _, v := range env {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// content is bytes that depend on a seed.
func content(seed uint64, size int) []byte {
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(data)
	return data
}

func bodyOf(data []byte) archive.Body {
	return archive.Body{
		ReadSeeker: bytes.NewReader(data), Size: int64(len(data)),
		CRC32C: crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)),
	}
}

// begin uploads parts of an object and returns them.
func begin(t *testing.T, b *Bucket, key string, parts ...[]byte) (archive.Upload, []archive.Part) {
	t.Helper()
	u, err := b.Begin(t.Context(), key, archive.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return u, put(t, u, parts...)
}

func put(t *testing.T, u archive.Upload, parts ...[]byte) []archive.Part {
	t.Helper()
	var stored []archive.Part
	for i, data := range parts {
		p, err := u.Put(t.Context(), i+1, bodyOf(data))
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, p)
	}
	return stored
}

func get(t *testing.T, b *Bucket, key string, offset, length int64) []byte {
	t.Helper()
	in, err := b.Get(t.Context(), key, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keys(t *testing.T, b *Bucket, prefix string) []string {
	t.Helper()
	var all []string
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	slices.Sort(all)
	return all
}

// said is what is logged.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *said) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestObjects(t *testing.T) {
	b := open(t, s3test.Start(t), Options{})
	ctx := t.Context()

	if _, err := b.Stat(ctx, "none"); !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("Stat of nothing: %v", err)
	}
	for _, length := range []int64{0, 1} {
		if _, err := b.Get(ctx, "none", 0, length); !errors.Is(err, archive.ErrNoObject) {
			t.Errorf("Get of %d bytes of nothing: %v", length, err)
		}
	}
	if err := b.Delete(ctx, "none"); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	if err := b.Copy(ctx, "none", "other"); !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("Copy of nothing: %v", err)
	}

	data := content(1, 1000)
	if err := b.Put(ctx, "k", data, true); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(ctx, "k", data, true); !errors.Is(err, archive.ErrTaken) {
		t.Errorf("Put once more: %v", err)
	}
	for _, r := range []struct{ offset, length, from, to int64 }{
		{0, 1000, 0, 1000},
		{0, 5000, 0, 1000},
		{10, 1, 10, 11},
		{999, 1 << 62, 999, 1000},
		{1000, 1, 0, 0},
		{2000, 7, 0, 0},
		{5, 0, 0, 0},
	} {
		if got := get(t, b, "k", r.offset, r.length); !bytes.Equal(got, data[r.from:r.to]) {
			t.Errorf("%d bytes from %d on are %d bytes, of which some are others", r.length, r.offset, len(got))
		}
	}
	if err := b.Put(ctx, "k", nil, false); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k", 0, 10); len(got) != 0 {
		t.Errorf("an empty object has %d bytes", len(got))
	}
	o, err := b.Stat(ctx, "k")
	if err != nil || o.Key != "k" || o.Size != 0 || o.Tag == "" || o.Class != "" || o.Cold || time.Since(o.Modified) > time.Hour {
		t.Errorf("Stat: %+v, %v", o, err)
	}
	for listed, err := range b.List(ctx, "k") {
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, listed, cmp.Comparer(func(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second })); diff != "" {
			t.Errorf("Stat and List differ (-Stat +List):\n%s", diff)
		}
	}
}

// oddKeys are keys that get lost where somebody on the way does not escape them.
var oddKeys = []string{
	"a b/c+d", "per%cent/%41", "ünï/çödé 雪", "q?x=1&y#frag", "semi;colon,comma=eq", "quote\"'<>&amp;", "~tilde/(brackets)[x]{y}",
	"back\\slash", "new%0Aline", "at@dollar$star*bang!", "tab\tnewline\nhere", "trailing /dot.",
}

func TestOddKeysSurvive(t *testing.T) {
	b := open(t, s3test.Start(t), Options{})
	ctx := t.Context()
	for _, key := range oddKeys {
		if err := b.CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q): %v", key, err)
		}
		u, parts := begin(t, b, key, []byte(key))
		for begun, err := range b.Uploads(ctx, key) {
			if err != nil {
				t.Fatal(err)
			}
			if begun.Key != key || begun.ID != u.Unfinished().ID {
				t.Errorf("the upload of %q is listed as %+v", key, begun)
			}
		}
		if _, err := u.Complete(ctx, parts); err != nil {
			t.Fatal(err)
		}
		if err := b.Copy(ctx, key, "copy/"+key); err != nil {
			t.Errorf("Copy of %q: %v", key, err)
		}
		if got := get(t, b, "copy/"+key, 0, 1000); string(got) != key {
			t.Errorf("the copy of %q has %q", key, got)
		}
		if got := keys(t, b, key); !slices.Equal(got, []string{key}) {
			t.Errorf("%q is listed as %q", key, got)
		}
	}
	want := slices.Sorted(slices.Values(oddKeys))
	var copies []string
	for _, key := range keys(t, b, "copy/") {
		copies = append(copies, strings.TrimPrefix(key, "copy/"))
	}
	if diff := cmp.Diff(want, copies); diff != "" {
		t.Errorf("copies differ (-made +listed):\n%s", diff)
	}
	for _, key := range oddKeys {
		if err := b.Delete(ctx, key); err != nil {
			t.Errorf("Delete of %q: %v", key, err)
		}
	}
	if got := keys(t, b, ""); len(got) != len(oddKeys) {
		t.Errorf("after Delete there are %d objects, and not the %d copies", len(got), len(oddKeys))
	}
}

// TestLostKeys: what cannot be listed is not stored, or it would never be found again.
func TestLostKeys(t *testing.T) {
	b := open(t, s3test.Start(t), Options{})
	for _, key := range []string{"a\x1b[1mb/c", "a/\x01", "a\ufffeb"} {
		if err := b.CheckKey(key); err == nil || !strings.Contains(err.Error(), "control character") {
			t.Errorf("CheckKey(%q): %v", key, err)
		}
		if err := b.Put(t.Context(), key, nil, false); err == nil && slices.Contains(keys(t, b, ""), key) {
			t.Errorf("%q could be stored, and is refused", key)
		}
	}
}

func TestListInPages(t *testing.T) {
	b := open(t, s3test.Start(t), Options{})
	b.page = 7
	var want []string
	for i := range 50 {
		key := fmt.Sprintf("p/%02d", i)
		want = append(want, key)
		if err := b.Put(t.Context(), key, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(t.Context(), "other", nil, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, keys(t, b, "p/")); diff != "" {
		t.Errorf("listed (-made +listed):\n%s", diff)
	}
	for range b.List(t.Context(), "p/") {
		break // an early end has to be possible
	}

	var begun, listed []string
	for i := range 20 {
		u, err := b.Begin(t.Context(), fmt.Sprintf("u/%d", i/4), archive.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, u.Unfinished().Key+" "+u.Unfinished().ID)
	}
	if _, err := b.Begin(t.Context(), "v", archive.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	for u, err := range b.Uploads(t.Context(), "u/") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, u.Key+" "+u.ID)
	}
	slices.Sort(begun)
	slices.Sort(listed)
	if diff := cmp.Diff(begun, listed); diff != "" {
		t.Errorf("uploads (-begun +listed):\n%s", diff)
	}

	u, err := b.Begin(t.Context(), "parts", archive.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var made []archive.Part
	for i := range 20 {
		p, err := u.Put(t.Context(), 2*i+1, bodyOf([]byte{byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, p)
	}
	parts, err := u.Parts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, parts); diff != "" {
		t.Errorf("parts (-made +listed):\n%s", diff)
	}
}

func TestListEndsWithItsError(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs := 0
	for _, err := range b.List(ctx, "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("List that is cancelled: %v", err)
		}
		errs++
	}
	if errs != 1 {
		t.Errorf("List gave %d errors", errs)
	}
}
