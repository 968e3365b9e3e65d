package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/snapshot"
	contract "github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// policies are where docs/s3.md keeps its policies.
const policies = "../../../docs/policies"

// allowed reads what one of the policies allows.
func allowed(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(policies, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Statement []struct {
			Effect, Resource string
			Action           []string
		}
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range p.Statement {
		of := "arn:aws:s3:::BUCKET"
		for _, a := range s.Action {
			if !strings.HasPrefix(a, "s3:ListBucket") {
				of = "arn:aws:s3:::BUCKET/*"
			}
		}
		if s.Effect != "Allow" || s.Resource != of {
			t.Errorf("%s: %q of %s", name, s.Effect, s.Resource)
		}
		all = append(all, s.Action...)
	}
	return all
}

// visit is what a user does with an archive that holds a snapshot, and an upload
// that was begun, and an object in a cold class.
type visit struct {
	*testing.T
	b    *Bucket
	s    *archive.Store
	inv  *snapshot.Inventory
	data []byte // of an increment
}

var (
	visited = snapshot.Edge{To: snapshot.ID{1, 15: 1}}
	added   = snapshot.Edge{To: snapshot.ID{2, 15: 1}, From: visited.To}
)

// frozen is the key of the cold object.
const frozen = "frozen/object"

// deeds are all there is to do, in an order in which each can be done.
var deeds = []struct {
	name string
	do   func(*visit) error
}{
	{"restore", func(v *visit) error {
		in, err := v.s.Open(v.Context(), contract.Request{Edge: visited})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, in)
		return errors.Join(err, in.Close())
	}},
	{"verify", func(v *visit) error {
		got, err := v.s.Verify(v.Context(), contract.VerifyOptions{Data: true})
		if err == nil && (got.Streams[contract.Sound] == 0 || len(got.Streams) != 1) {
			err = fmt.Errorf("%v", got.Streams)
		}
		return err
	}},
	{"thaw", func(v *visit) error {
		got, err := v.b.Thaw(v.Context(), []string{frozen}, contract.ThawOptions{Ask: true})
		if err == nil && !got[0].Fresh {
			err = fmt.Errorf("%+v", got[0])
		}
		return err
	}},
	{"store", func(v *visit) error { return keep(v.Context(), v.s, added, v.data) }},
	{"see what is unfinished", func(v *visit) error {
		if len(v.inv.Partials) == 0 {
			return errors.New("nothing is seen")
		}
		return nil
	}},
	{"drop what is unfinished", func(v *visit) error {
		for _, p := range v.inv.Partials {
			if err := v.s.RemovePartial(v.Context(), p); err != nil {
				return err
			}
		}
		if len(v.inv.Partials) == 0 {
			return errors.New("there is nothing")
		}
		return nil
	}},
	{"remove", func(v *visit) error {
		inv, err := v.s.List(v.Context())
		if err != nil {
			return err
		}
		err = nil
		return errors.Join(err, v.s.Sweep(v.Context(), inv.Snapshots, func(_ snapshot.Snapshot, failed error) {
			err = errors.Join(err, failed)
		}), err)
	}},
	{"put back", func(v *visit) error {
		all, err := v.s.Trashed(v.Context())
		if err == nil && len(all) == 0 {
			err = errors.New("the trash is empty")
		}
		for _, one := range all {
			err = errors.Join(err, v.s.Untrash(v.Context(), one))
		}
		return err
	}},
}

// keep stores a stream, carrying on what was begun of it.
func keep(ctx context.Context, s *archive.Store, e snapshot.Edge, data []byte) error {
	w, err := s.Create(ctx, contract.Want{
		Edge: e, Path: "day" + string('0'+e.To[0]), Size: snapshot.ExactSize(int64(len(data))),
	})
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // what fails is told before
	for r := stream.NewReader(bytes.NewReader(data)); ; {
		run, err := r.NextRun()
		if err == io.EOF { //nolint:errorlint // Reader says io.EOF itself
			return w.Commit(ctx)
		}
		if err == nil {
			_, err = w.Write(run)
		}
		if err != nil {
			return err
		}
	}
}

// wholeStream makes a stream with so much data.
func wholeStream(t testing.TB, e snapshot.Edge, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stream.NewWriter(&b, 1)
	all := []*stream.Command{{Kind: stream.Subvol, Path: []byte("s"), UUID: e.To, Transid: 1}}
	if !e.IsFull() {
		all[0].Kind, all[0].CloneUUID, all[0].CloneTransid = stream.Snapshot, e.From, 1
	}
	all = append(all, &stream.Command{Kind: stream.MkFile, Path: []byte("f"), Ino: 257})
	data := content(uint64(e.To[0]), 32<<10)
	for at := 0; at < size; at += len(data) {
		all = append(all, &stream.Command{Kind: stream.Write, Path: []byte("f"), FileOffset: uint64(at), Data: data})
	}
	for _, c := range append(all, &stream.Command{Kind: stream.End}) {
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archiveOn opens the archive in a bucket.
func archiveOn(t *testing.T, b *Bucket) *archive.Store {
	t.Helper()
	s, err := archive.Open(t.Context(), b, archive.Options{Prefix: "pre", PartSize: minPart})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// done tells which deeds a user can do who may do some things.
func done(t *testing.T, server *s3test.Server, actions []string) map[string]bool {
	t.Helper()
	bucket := server.Bucket(t)
	root := archiveOn(t, open(t, server, Options{Bucket: bucket}))
	if err := keep(t.Context(), root, visited, wholeStream(t, visited, 100)); err != nil {
		t.Fatal(err)
	}
	data := wholeStream(t, added, 6<<20)
	server.Begin(t, bucket, fmt.Sprintf("pre/day2/%s_%s", added.To, added.From), data[:minPart])
	server.Begin(t, bucket, fmt.Sprintf("pre/day3/%s_None", snapshot.ID{3}), data[:minPart])
	before := server.Get(t, bucket, fmt.Sprintf("pre/day1/%s_None", visited.To))

	server.Put(t, bucket, frozen, []byte("frozen"))
	cold := server.Cold(t)
	cold.Move(t, bucket, frozen, "GLACIER")

	access, secret := server.User(t, bucket, actions...)
	b := open(t, server, Options{Bucket: bucket, Getenv: environment(s3test.EnvOf(cold.Endpoint, access, secret))})
	v := &visit{T: t, b: b, s: archiveOn(t, b), data: data}
	can := map[string]bool{}
	var err error
	if v.inv, err = v.s.List(t.Context()); err != nil {
		v.inv = &snapshot.Inventory{}
	}
	can["list"] = err == nil
	for _, d := range deeds {
		if err := d.do(v); err == nil {
			can[d.name] = true
		}
	}
	if after := server.Get(t, bucket, fmt.Sprintf("pre/day1/%s_None", visited.To)); !bytes.Equal(before, after) {
		t.Error("an object has changed")
	}
	return can
}

// TestPolicies: each policy of docs/s3.md allows what it is for and nothing else,
// and needs all of its actions.
func TestPolicies(t *testing.T) {
	server := s3test.Start(t)
	reading := []string{"list", "restore", "thaw", "verify", "see what is unfinished"}
	adding := slices.Concat(reading, []string{"store", "drop what is unfinished"})
	for name, for_ := range map[string][]string{
		"read-only": reading, "append-only": adding, "full": slices.Concat(adding, []string{"remove", "put back"}),
	} {
		t.Run(name, func(t *testing.T) {
			actions := allowed(t, name)
			can := slices.Sorted(maps.Keys(done(t, server, actions)))
			slices.Sort(for_)
			if diff := cmp.Diff(for_, can); diff != "" {
				t.Errorf("what it is for, and what can be done:\n%s", diff)
			}
			for i, a := range actions {
				less := slices.Delete(slices.Clone(actions), i, i+1)
				if can := done(t, server, less); len(can) >= len(for_) {
					t.Errorf("%s is not needed", a)
				}
			}
		})
	}
}

// TestAppendOnly: who may only add can neither remove nor, with this program,
// write over what is there.
func TestAppendOnly(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	b := asUser(t, server, bucket, allowed(t, "append-only")...)
	s := archiveOn(t, b)
	if err := keep(t.Context(), s, visited, wholeStream(t, visited, 100)); err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprintf("pre/day1/%s_None", visited.To)
	was := server.Get(t, bucket, key)
	var denied *archive.DeniedError
	if err := b.Delete(t.Context(), key); !errors.As(err, &denied) || denied.Action != "s3:DeleteObject" {
		t.Errorf("deleting: %v", err)
	}
	if err := b.Put(t.Context(), key, []byte("other"), true); !errors.Is(err, archive.ErrTaken) {
		t.Errorf("putting another in its place: %v", err)
	}
	if err := keep(t.Context(), archiveOn(t, b), visited, wholeStream(t, visited, 40<<10)); err == nil {
		t.Error("another stream is stored in its place")
	}
	if got := server.Get(t, bucket, key); !bytes.Equal(got, was) {
		t.Error("it is not what it was")
	}
}

// TestOtherPolicies: the other files beside them can be read.
func TestOtherPolicies(t *testing.T) {
	for _, name := range []string{"no-overwriting", "lifecycle"} {
		text, err := os.ReadFile(filepath.Join(policies, name+".json"))
		if err != nil || !json.Valid(text) {
			t.Errorf("%s: %v, %s", name, err, text)
		}
	}
}

// TestWhatIsAskedFor: the requests of the table in docs/s3.md.
func TestWhatIsAskedFor(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	bucket := server.Bucket(t)
	v := &visit{T: t}
	again := func() error {
		v.s = archiveOn(t, open(t, server, Options{Bucket: bucket, Getenv: environment(server.EnvAt(storm.Endpoint))}))
		_, err := v.s.List(t.Context())
		return err
	}
	type counts map[string]int
	for _, tt := range []struct {
		name string
		do   func() error
		want counts
	}{
		{"list what is empty", again, counts{"ListObjectsV2": 1, "ListMultipartUploads": 1}},
		{"store in full, first", func() error {
			return keep(t.Context(), v.s, visited, wholeStream(t, visited, 100))
		}, counts{
			"GetObject":  1, // the marker
			"HeadObject": 2, "ListMultipartUploads": 2, "CreateMultipartUpload": 1, "UploadPart": 1, "CompleteMultipartUpload": 1, "PutObject": 1,
		}},
		{"store an increment of three parts", func() error {
			return keep(t.Context(), v.s, added, wholeStream(t, added, 12<<20))
		}, counts{
			"HeadObject": 3, "ListMultipartUploads": 2, "CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1, "PutObject": 1,
		}},
		{"list", again, counts{"ListObjectsV2": 1, "ListMultipartUploads": 1}},
		{"restore", func() error { return deeds[0].do(v) }, counts{"HeadObject": 1, "GetObject": 2}},
		{"verify", func() error {
			_, err := v.s.Verify(t.Context(), contract.VerifyOptions{})
			return err
		}, counts{"ListObjectsV2": 2, "ListMultipartUploads": 1, "GetObject": 2}},
	} {
		storm.Forget()
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := counts{}
		for _, r := range storm.Requests() {
			got[r.Op]++
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
	}
}
