package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// verified is an archive in a directory that is going to be verified.
type verified struct {
	dir string
	o   archive.Options
}

// ageKey is a key pair that opens nothing but what is stored here.
const (
	ageKey       = "AGE-SECRET-KEY-1GL2QMF942DAG7K2PDQZL5L2M4MCRQ6K04LRGTNY58C7KULEJWEXQVA62LD"
	ageRecipient = "age:age1kufsg64k4rajafa0uys8gud48mperg72vmmgsejuw8ep8yzkvsmqtlmn0g"
)

var none, zst, sealed = seal.Form{}, seal.Form{Compressed: true}, seal.Form{Compressed: true, Cipher: seal.Age}

func newVerified(t testing.TB) *verified {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(ageKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := seal.LoadKeys([]string{key})
	if err != nil {
		t.Fatal(err)
	}
	v := &verified{dir: t.TempDir(), o: archive.Options{Prefix: "pre", Keys: keys, PartSize: 100 << 10}}
	if err := v.open(t, none).Init(t.Context(), archive.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	return v
}

// open opens the archive to store in a form.
func (v *verified) open(t testing.TB, f seal.Form) *archive.Store {
	t.Helper()
	b, err := dir.Open(v.dir, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := v.o
	o.Seal.Compress = f.Compressed
	if f.Cipher == seal.Age {
		if o.Seal.Recipients, err = seal.ParseRecipients([]string{ageRecipient}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := archive.Open(context.Background(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func snap(n int) snapshot.ID { return snapshot.ID{0xab, byte(n), 15: 1} }

// put stores a stream of so many bytes, and returns the key of its object.
func (v *verified) put(t testing.TB, to, from, size int, f seal.Form) string {
	t.Helper()
	e := snapshot.Edge{To: snap(to)}
	if from > 0 {
		e.From = snap(from)
	}
	s := v.open(t, f)
	if _, err := s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(t.Context(), store.Want{Edge: e, Path: v.path(to), Transid: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r := stream.NewReader(bytes.NewReader(streamFor(t, e, size)))
	for {
		run, err := r.NextRun()
		if err == io.EOF {
			break
		}
		if err == nil {
			_, err = w.Write(run)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	name := e.To.String() + "_None"
	if from > 0 {
		name = e.To.String() + "_" + e.From.String()
	}
	return path.Join("pre", v.path(to), name+f.Suffix())
}

func (v *verified) path(n int) string { return fmt.Sprintf("home/day%d", n) }

func streamFor(t testing.TB, e snapshot.Edge, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stream.NewWriter(&b, 1)
	put := func(c *stream.Command) {
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	first := &stream.Command{Kind: stream.Subvol, Path: []byte("s"), UUID: e.To, Transid: 9}
	if !e.IsFull() {
		first.Kind, first.CloneUUID, first.CloneTransid = stream.Snapshot, e.From, 8
	}
	put(first)
	put(&stream.Command{Kind: stream.MkFile, Path: []byte("f"), Ino: 257})
	rng := rand.NewChaCha8([32]byte{e.To[1]})
	data := make([]byte, 20<<10)
	for at := 0; at < size; at += len(data) {
		chunk := data[:min(len(data), size-at)]
		_, _ = rng.Read(chunk[:len(chunk)/2])
		put(&stream.Command{Kind: stream.Write, Path: []byte("f"), FileOffset: uint64(at), Data: chunk})
	}
	put(&stream.Command{Kind: stream.End})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// findings verifies the archive, and checks that what is counted is what was told.
func (v *verified) findings(t *testing.T, s *archive.Store, o store.VerifyOptions) (*store.Verification, []store.Finding) {
	t.Helper()
	var all []store.Finding
	var read, of int64
	o.Found = func(f store.Finding) { all = append(all, f) }
	o.Progress = func(r, n int64) {
		if r < read || r > n {
			t.Errorf("progress goes from %d to %d of %d", read, r, n)
		}
		read, of = r, n
	}
	got, err := s.Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	counts := &store.Verification{
		Streams: map[store.Verdict]int{}, Snapshots: map[store.Verdict]int{}, ReadWhole: got.ReadWhole,
		Described: got.Described, Undescribed: got.Undescribed,
	}
	for _, f := range all {
		if (f.Why == "") != (f.Verdict == store.Sound) {
			t.Errorf("%+v has no reason, or one too many", f)
		}
		if f.Object == "" {
			counts.Snapshots[f.Verdict]++
			continue
		}
		counts.Streams[f.Verdict]++
		counts.Read += f.Read
	}
	// Snapshots that can be had back are not told of.
	for _, verdict := range []store.Verdict{store.Sound, store.Unchecked} {
		if n := got.Snapshots[verdict]; n > 0 {
			counts.Snapshots[verdict] = n
		}
	}
	if diff := cmp.Diff(counts, got); diff != "" {
		t.Errorf("told, and counted:\n%s", diff)
	}
	if o.Data && got.Read > 0 && (read != got.Read || of != got.Read) {
		t.Errorf("progress ends with %d of %d, and %d were read", read, of, got.Read)
	}
	return got, all
}

// check verifies with or without data, and returns verdicts by object or, of
// snapshots, path.
func (v *verified) check(t *testing.T, data bool) map[string]store.Verdict {
	t.Helper()
	_, all := v.findings(t, v.open(t, none), store.VerifyOptions{Data: data})
	verdicts := map[string]store.Verdict{}
	for _, f := range all {
		name := f.Object
		if name == "" {
			name = f.Path
		}
		if f.Verdict != store.Sound {
			t.Logf("%s is %s: %s", name, f.Verdict, f.Why)
		}
		verdicts[name] = f.Verdict
	}
	return verdicts
}

func (v *verified) file(key string) string { return filepath.Join(v.dir, filepath.FromSlash(key)) }

// alter changes the content of an object, in its file.
func (v *verified) alter(t testing.TB, key string, change func([]byte) []byte) {
	t.Helper()
	old, err := os.ReadFile(v.file(key))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.file(key), change(old), 0o600); err != nil {
		t.Fatal(err)
	}
}
