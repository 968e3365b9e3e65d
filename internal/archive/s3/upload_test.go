package s3

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

func md5Of(data []byte) string {
	sum := md5.Sum(data)
	return hex.EncodeToString(sum[:])
}

func TestUpload(t *testing.T) {
	b := open(t, s3test.Start(t), Options{})
	ctx := t.Context()
	data := content(1, minPart+1000)
	parts := [][]byte{data[:minPart], data[minPart:]}

	u, stored := begin(t, b, "a/b", parts...)
	want := []archive.Part{{Number: 1, Size: minPart, Tag: md5Of(parts[0])}, {Number: 2, Size: 1000, Tag: md5Of(parts[1])}}
	if diff := cmp.Diff(want, stored); diff != "" {
		t.Errorf("parts as they were stored (-want +got):\n%s", diff)
	}
	if got := keys(t, b, ""); len(got) != 0 {
		t.Errorf("before it is complete there is %q", got)
	}
	listed, err := u.Parts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("parts as they are listed (-want +got):\n%s", diff)
	}
	o, err := u.Complete(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := b.Stat(ctx, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if o.Key != seen.Key || o.Size != int64(len(data)) || o.Size != seen.Size || o.Tag != seen.Tag || o.Tag != joinedTag(stored) {
		t.Errorf("Complete said %+v, and there is %+v", o, seen)
	}
	if got := get(t, b, "a/b", 0, o.Size); !bytes.Equal(got, data) {
		t.Error("the object is not what was stored")
	}
	if err := u.Abort(ctx); err != nil {
		t.Errorf("Abort after the end: %v", err)
	}
}

func TestUploadIsContinuedByAnother(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server, Options{})
	ctx := t.Context()
	data := content(2, minPart+10)
	first, _ := begin(t, b, "k", data[:minPart], []byte("to be replaced"), []byte("surplus"))

	again := open(t, server, Options{Bucket: b.o.Bucket})
	u, err := again.Continue(ctx, first.Unfinished())
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := u.Put(ctx, 2, bodyOf(data[minPart:]))
	if err != nil {
		t.Fatal(err)
	}
	listed, err := u.Parts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != 3 || listed[1] != replaced {
		t.Fatalf("parts are %+v", listed)
	}

	// A third knows nothing of the checksums yet that the server wants to be told.
	third := open(t, server, Options{Bucket: b.o.Bucket})
	if u, err = third.Continue(ctx, first.Unfinished()); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Complete(ctx, listed[:2]); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k", 0, int64(len(data))+100); !bytes.Equal(got, data) {
		t.Error("the object is not what its two parts are")
	}
	if got := server.Unfinished(t, b.o.Bucket); len(got) != 0 {
		t.Errorf("unfinished is %q", got)
	}
	if _, err := b.Continue(ctx, first.Unfinished()); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Continue of a complete upload: %v", err)
	}
}

func TestUploadOfAnOldProgramIsContinued(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint})
	ctx := t.Context()
	data := content(3, minPart+10)
	id := server.Begin(t, b.o.Bucket, "k", data[:minPart])

	u, err := b.Continue(ctx, archive.Unfinished{Key: "k", ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Put(ctx, 2, bodyOf(data[minPart:])); err != nil {
		t.Fatal(err)
	}
	if h := storm.Requests("UploadPart")[0].Header; h.Get("Content-Md5") == "" || h.Get("X-Amz-Checksum-Crc32c") != "" {
		t.Errorf("a part of an upload without checksums was sent with %v", h)
	}
	bad := bodyOf(data[:10])
	bad.ReadSeeker = bytes.NewReader(data[1:11])
	bad.Size = 11
	if _, err := u.Put(ctx, 3, bad); err == nil {
		t.Error("a part that is shorter than announced is stored")
	}
	parts, err := u.Parts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Complete(ctx, parts); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k", 0, int64(len(data))); !bytes.Equal(got, data) {
		t.Error("the object is not what was stored")
	}
}

func TestPartIsComparedWithItsChecksum(t *testing.T) {
	server := s3test.Start(t)
	for name, endpoint := range map[string]func() (string, string){
		"http":  func() (string, string) { return server.Storm(t).Endpoint, "" },
		"https": func() (string, string) { s := server.StormTLS(t); return s.Endpoint, s.CA },
	} {
		t.Run(name, func(t *testing.T) {
			url, ca := endpoint()
			b := open(t, server, Options{Endpoint: url, Getenv: environment(append([]string{"AWS_CA_BUNDLE=" + ca}, server.Env()...))})
			u, _ := begin(t, b, "k", []byte("a part"))
			body := bodyOf([]byte("another part"))
			body.CRC32C++
			if _, err := u.Put(t.Context(), 2, body); err == nil {
				t.Error("a part that is not what its checksum says is stored")
			}
			parts, err := u.Parts(t.Context())
			if err != nil || len(parts) != 1 {
				t.Errorf("stored are %+v, %v", parts, err)
			}
		})
	}
}

// TestBodiesAreSentAsTheyAre proves that parts go in one piece, under a checksum,
// and when they need no digest in the signature.
func TestBodiesAreSentAsTheyAre(t *testing.T) {
	server := s3test.Start(t)
	plain, tls := server.Storm(t), server.StormTLS(t)
	digests := func(storm *s3test.Storm, op string) (signed []bool) {
		t.Helper()
		for _, r := range storm.Requests(op) {
			if r.Header.Get("X-Amz-Checksum-Crc32c") == "" || strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") ||
				r.Header.Get("X-Amz-Trailer") != "" || r.Header.Get("Content-Length") == "" {
				t.Errorf("%s was sent with %v", op, r.Header)
			}
			signed = append(signed, r.Header.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD")
		}
		return signed
	}
	for storm, want := range map[*s3test.Storm][]bool{plain: {true, false, false}, tls: {false, false, false}} {
		b := open(t, server, Options{Endpoint: storm.Endpoint, Getenv: environment(append([]string{"AWS_CA_BUNDLE=" + storm.CA}, server.Env()...))})
		u, parts := begin(t, b, "k", content(1, minPart), content(2, minPart), []byte("end"))
		if _, err := u.Complete(t.Context(), parts); err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), "small", []byte("small"), false); err != nil {
			t.Fatal(err)
		}
		if got := digests(storm, "UploadPart"); !slices.Equal(got, want) {
			t.Errorf("parts to %s were signed with a digest: %v, want %v", storm.Endpoint, got, want)
		}
		if got := digests(storm, "PutObject"); !slices.Equal(got, []bool{storm == plain}) {
			t.Errorf("small objects to %s were signed with a digest: %v", storm.Endpoint, got)
		}
	}
}

func TestCompleteLeavesAnObjectThatHasComeSince(t *testing.T) {
	b := open(t, s3test.Start(t), Options{})
	one, first := begin(t, b, "k", []byte("the winner"))
	two, second := begin(t, b, "k", []byte("the loser"))
	if _, err := one.Complete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Complete(t.Context(), second); !errors.Is(err, archive.ErrTaken) {
		t.Errorf("the second Complete: %v", err)
	}
	if got := get(t, b, "k", 0, 100); string(got) != "the winner" {
		t.Errorf("the object is %q", got)
	}
	if err := two.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := two.Abort(t.Context()); err != nil {
		t.Errorf("Abort once more: %v", err)
	}
}

func TestCompleteRefusesPartsThatWereReplaced(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server, Options{})
	u, parts := begin(t, b, "k", []byte("mine"))
	other := open(t, server, Options{Bucket: b.o.Bucket})
	o, err := other.Continue(t.Context(), u.Unfinished())
	if err != nil {
		t.Fatal(err)
	}
	put(t, o, []byte("theirs"))
	if _, err := u.Complete(t.Context(), parts); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Complete with a part that others have replaced: %v", err)
	}
	// The one who looks at the parts again sees it before it asks.
	if _, err := u.Parts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Complete(t.Context(), parts); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Complete with a part that is known to be another: %v", err)
	}
	if got := keys(t, b, ""); len(got) != 0 {
		t.Errorf("there is %q", got)
	}
}

func TestWhatDoesNotFitIsRefusedBeforeItIsSent(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint})
	ctx := t.Context()
	for name, o := range map[string]archive.UploadOptions{
		"small parts":    {PartSize: minPart - 1},
		"big parts":      {PartSize: maxPart + 1},
		"big object":     {Size: maxObject + 1},
		"too many parts": {PartSize: minPart, Size: minPart*maxParts + 1},
	} {
		if _, err := b.Begin(ctx, "k", o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, key := range []string{"", strings.Repeat("k", 1025), "a/../b", "./a", "a\xff"} {
		if _, err := b.Begin(ctx, key, archive.UploadOptions{}); err == nil {
			t.Errorf("Begin(%q): no error", key)
		}
		if err := b.Put(ctx, key, nil, false); err == nil {
			t.Errorf("Put(%q): no error", key)
		}
	}
	if n := storm.Count(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	u, err := b.Begin(ctx, strings.Repeat("k/", 512), archive.UploadOptions{PartSize: minPart, Size: minPart * maxParts})
	if err == nil {
		_, err = u.Put(ctx, 0, bodyOf(nil))
		if err == nil {
			t.Error("a part 0 is stored")
		}
	}
}

func TestCopyInParts(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint})
	b.copyOver, b.copyPart = minPart, minPart
	data := content(4, 2*minPart+77)
	server.Put(t, b.o.Bucket, "a b+c", data)
	server.Put(t, b.o.Bucket, "to", []byte("to be replaced"))
	if err := b.Copy(t.Context(), "a b+c", "to"); err != nil {
		t.Fatal(err)
	}
	if n := storm.Count("UploadPartCopy"); n != 3 {
		t.Errorf("%d parts were copied", n)
	}
	if got := get(t, b, "to", 0, int64(len(data))+1); !bytes.Equal(got, data) {
		t.Error("the copy is not what the source is")
	}
	if n := storm.Count("CopyObject", "UploadPart", "PutObject"); n != 0 {
		t.Errorf("%d other requests were sent", n)
	}

	// What comes to the place of the source does not become a part of the copy.
	for _, over := range []int64{minPart, maxCopy} {
		b.copyOver = over
		storm.Fail(1, 412, "PreconditionFailed", "UploadPartCopy", "CopyObject")
		err := b.Copy(t.Context(), "a b+c", "other")
		if err == nil || errors.Is(err, archive.ErrTaken) || !contract.Temporary(err) {
			t.Errorf("a copy of which the source was replaced: %v", err)
		}
	}
	b.copyOver = minPart
	// A copy that fails leaves nothing behind.
	storm.Fail(1, 403, "AccessDenied", "UploadPartCopy")
	if err := b.Copy(t.Context(), "a b+c", "other"); err == nil {
		t.Error("a copy of which a part failed is no error")
	}
	if got := server.Unfinished(t, b.o.Bucket); len(got) != 0 {
		t.Errorf("unfinished is %q", got)
	}
	if got := server.Keys(t, b.o.Bucket); !slices.Equal(got, []string{"a b+c", "to"}) {
		t.Errorf("there are %q", got)
	}
}
