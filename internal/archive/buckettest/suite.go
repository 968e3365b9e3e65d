// Package buckettest holds buckets to their contract. It has a suite that every
// bucket passes ([Run]), and a decorator in which things go wrong to order
// ([Fault]).
//
// Only tests import it. It knows the contract of archive.Bucket, and no bucket of
// its own: what the suite needs done besides, a [Harness] does. It needs a few MiB
// for a case, or some parts of the least size where that is more.
//
//	func TestContract(t *testing.T) {
//		buckettest.Run(t, buckettest.Harness{New: ..., Again: ...})
//	}
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
)

// Harness does to a kind of bucket what its interface cannot. Every function fails
// the test where it does not succeed.
type Harness struct {
	// New makes a bucket that is empty, and that nobody else uses. It cleans up
	// with t.Cleanup.
	New func(t testing.TB) archive.Bucket
	// Again opens the place of b once more, as a second process would.
	Again func(t testing.TB, b archive.Bucket) archive.Bucket
}

// Run runs the contract's cases on a kind of bucket, each on buckets of its own.
func Run(t *testing.T, h Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
	}
}

// Case is one clause of the contract.
type Case struct {
	Name string
	Run  func(t testing.TB, h Harness)
}

// Cases returns the contract, for a test that wants to run its cases by itself.
func Cases() []Case {
	return slices.Concat(placeCases, listCases, getCases, putCases, copyCases, uploadCases, unfinishedCases)
}

// content makes bytes that differ for every seed.
func content(seed uint64, size int64) []byte {
	raw := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(raw)
	return raw
}

func put(t testing.TB, b archive.Bucket, key string, data []byte) {
	t.Helper()
	if err := b.Put(t.Context(), key, data, false); err != nil {
		t.Fatalf("Put %q: %v", key, err)
	}
}

// holds expects an object to have some content, by all that the bucket says of it.
func holds(t testing.TB, b archive.Bucket, key string, want []byte) {
	t.Helper()
	o, err := b.Stat(t.Context(), key)
	if err != nil {
		t.Errorf("Stat %q: %v", key, err)
		return
	}
	if o.Key != key || o.Size != int64(len(want)) || o.Modified.IsZero() {
		t.Errorf("Stat %q: %+v, want %d bytes", key, o, len(want))
	}
	if got := read(t, b, key, 0, int64(len(want))+1); !bytes.Equal(got, want) {
		t.Errorf("%q has %d bytes %s, want %d bytes %s", key, len(got), sample(got), len(want), sample(want))
	}
}

func sample(raw []byte) string { return fmt.Sprintf("%.8x…", raw[:min(len(raw), 8)]) }

func read(t testing.TB, b archive.Bucket, key string, offset, length int64) []byte {
	t.Helper()
	r, err := b.Get(t.Context(), key, offset, length)
	if err != nil {
		t.Errorf("Get %q: %v", key, err)
		return nil
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("reading %q: %v", key, err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closing %q: %v", key, err)
	}
	return raw
}

// absent expects that there is no object with a key.
func absent(t testing.TB, b archive.Bucket, key string) {
	t.Helper()
	if o, err := b.Stat(t.Context(), key); !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("Stat %q: %+v, %v, want ErrNoObject", key, o, err)
	}
	r, err := b.Get(t.Context(), key, 0, 10)
	if err == nil { // some find out only when they are asked for bytes
		_, err = io.ReadAll(r)
		r.Close()
	}
	if !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("Get %q: %v, want ErrNoObject", key, err)
	}
	if slices.Contains(keys(t, b, ""), key) {
		t.Errorf("%q is listed", key)
	}
}

// keys returns what is listed below a prefix, sorted.
func keys(t testing.TB, b archive.Bucket, prefix string) []string {
	t.Helper()
	all := []string{}
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("listing %q: %v", prefix, err)
		}
		all = append(all, o.Key)
	}
	slices.Sort(all)
	return all
}

func lists(t testing.TB, b archive.Bucket, prefix string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := keys(t, b, prefix); !slices.Equal(got, want) {
		t.Errorf("below %q are listed %q, want %q", prefix, got, want)
	}
}

// partSize is the length of parts in uploads here.
func partSize(b archive.Bucket) int64 { return max(b.Limits().MinPart, 3000) }

func begin(t testing.TB, b archive.Bucket, key string) archive.Upload {
	t.Helper()
	u, err := b.Begin(t.Context(), key, archive.UploadOptions{PartSize: partSize(b)})
	if err != nil {
		t.Fatalf("Begin %q: %v", key, err)
	}
	if un := u.Unfinished(); un.Key != key || un.ID == "" {
		t.Errorf("an upload of %q is named %+v", key, un)
	}
	return u
}

func body(data []byte) archive.Body {
	return archive.Body{
		ReadSeeker: bytes.NewReader(data), Size: int64(len(data)),
		CRC32C: crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)),
	}
}

func putPart(t testing.TB, u archive.Upload, number int, data []byte) archive.Part {
	t.Helper()
	p, err := u.Put(t.Context(), number, body(data))
	if err != nil {
		t.Fatalf("storing part %d: %v", number, err)
	}
	if p.Number != number || p.Size != int64(len(data)) || p.Tag == "" {
		t.Errorf("part %d with %d bytes is %+v", number, len(data), p)
	}
	return p
}

func complete(t testing.TB, u archive.Upload, parts ...archive.Part) archive.Object {
	t.Helper()
	o, err := u.Complete(t.Context(), parts)
	if err != nil {
		t.Fatalf("completing %q: %v", u.Unfinished().Key, err)
	}
	size := int64(0)
	for _, p := range parts {
		size += p.Size
	}
	if o.Key != u.Unfinished().Key || o.Size != size {
		t.Errorf("completing %q with %d bytes gave %+v", u.Unfinished().Key, size, o)
	}
	return o
}

// stored expects exactly these parts.
func stored(t testing.TB, u archive.Upload, want ...archive.Part) {
	t.Helper()
	got, err := u.Parts(t.Context())
	if err != nil {
		t.Fatalf("listing the parts: %v", err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the parts are %+v, want %+v", got, want)
	}
}

// uploads returns what is unfinished.
func uploads(t testing.TB, b archive.Bucket, prefix string) []archive.Unfinished {
	t.Helper()
	var all []archive.Unfinished
	for u, err := range b.Uploads(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("listing uploads of %q: %v", prefix, err)
		}
		all = append(all, u)
	}
	return all
}

// unfinished expects uploads of exactly these keys.
func unfinished(t testing.TB, b archive.Bucket, prefix string, want ...string) {
	t.Helper()
	got := []string{}
	for _, u := range uploads(t, b, prefix) {
		got = append(got, u.Key)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("below %q there are uploads of %q, want %q", prefix, got, want)
	}
}

// noUpload expects an error that says that an upload is gone.
func noUpload(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("%s: %v, want ErrNoUpload", what, err)
	}
}

// canceled expects an error that comes from a context that ended.
func canceled(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%s with a cancelled context: %v, want context.Canceled", what, err)
	}
}

// gone returns a context that is cancelled already.
func gone(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
