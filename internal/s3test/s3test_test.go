package s3test_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/buttersink/buttersink/internal/s3test"
)

func client(endpoint, access, secret string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &endpoint, Region: s3test.Region, UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{}},
	})
}

func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

func put(c *s3.Client, bucket, key string, data []byte) error {
	_, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(data)})
	return err
}

func TestServerComesBackWithItsData(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	server.Put(t, bucket, "a/b", []byte("content"))
	server.Begin(t, bucket, "a/c", []byte("part"))

	server.Kill()
	if err := put(client(server.Endpoint, server.Access, server.Secret), bucket, "x", nil); err == nil {
		t.Fatal("a server that was killed still answers")
	}
	server.Restart()
	if got := server.Get(t, bucket, "a/b"); string(got) != "content" {
		t.Errorf("after the restart the object is %q", got)
	}
	if got := server.Keys(t, bucket); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("after the restart there are %q", got)
	}
	if got := server.Unfinished(t, bucket); !slices.Equal(got, []string{"a/c"}) {
		t.Errorf("after the restart the uploads are %q", got)
	}
}

func TestUserMayDoOnlySoMuch(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	writer, secret := server.User(t, bucket, "s3:PutObject")
	reader, other := server.User(t, bucket, "s3:GetObject", "s3:ListBucket")

	w := client(server.Endpoint, writer, secret)
	if err := put(w, bucket, "k", []byte("x")); err != nil {
		t.Errorf("who may put cannot: %v", err)
	}
	_, err := w.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k")})
	if code(err) != "AccessDenied" {
		t.Errorf("who may only put gets: %v", err)
	}
	r := client(server.Endpoint, reader, other)
	if _, err := r.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k")}); err != nil {
		t.Errorf("who may get cannot: %v", err)
	}
	if _, err := r.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket}); err != nil {
		t.Errorf("who may list cannot: %v", err)
	}
	if err := put(r, bucket, "k2", nil); code(err) != "AccessDenied" {
		t.Errorf("who may only get puts: %v", err)
	}
}

func TestProxyBreaksConnections(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	proxy := server.Proxy(t)
	c := client(proxy.Endpoint, server.Access, server.Secret)
	data := make([]byte, 2<<20)

	proxy.Cut(1<<20, s3test.Up)
	if err := put(c, bucket, "cut", data); err == nil {
		t.Error("a connection that is cut brings everything")
	}
	proxy.Heal()
	proxy.Reset()
	if err := put(c, bucket, "reset", data); err == nil {
		t.Error("a connection that is reset brings everything")
	}
	proxy.Heal()
	if err := put(c, bucket, "healed", data); err != nil {
		t.Errorf("after Heal: %v", err)
	}
	proxy.Drop()
	if err := put(c, bucket, "after", nil); err != nil {
		if err := put(c, bucket, "after", nil); err != nil { // the first may meet the dead connection
			t.Errorf("after Drop: %v", err)
		}
	}
	proxy.Cut(1<<20, s3test.Down)
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("healed")})
	if err == nil {
		_, err = io.Copy(io.Discard, out.Body)
		out.Body.Close()
	}
	if err == nil {
		t.Error("a connection that is cut gives everything")
	}
	proxy.Heal()
	proxy.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.ListBuckets(ctx, &s3.ListBucketsInput{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stalled connection answers: %v", err)
	}
	if got := server.Keys(t, bucket); !slices.Equal(got, []string{"after", "healed"}) {
		t.Errorf("there are %q", got)
	}
}

func TestStormAnswersAndWritesDown(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	storm := server.Storm(t)
	c := client(storm.Endpoint, server.Access, server.Secret)

	storm.KeepBodies()
	storm.Fail(1, 503, "SlowDown", "PutObject")
	if err := put(c, bucket, "a b+ü%41", []byte("content")); code(err) != "SlowDown" {
		t.Errorf("in the storm: %v", err)
	}
	if got := server.Keys(t, bucket); len(got) != 0 {
		t.Errorf("a request the storm answered came through: %q", got)
	}
	if err := put(c, bucket, "a b+ü%41", []byte("content")); err != nil {
		t.Errorf("after the storm: %v", err)
	}
	storm.Lose(1)
	if err := put(c, bucket, "lost", []byte("reply")); err == nil || code(err) != "" {
		t.Errorf("a lost reply is: %v", err)
	}
	if got := server.Keys(t, bucket); !slices.Equal(got, []string{"a b+ü%41", "lost"}) {
		t.Errorf("there are %q", got)
	}
	storm.FailShare(1, 403, "ExpiredToken")
	if _, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("lost")}); err == nil {
		t.Error("the expired token is accepted")
	}
	storm.Calm()
	if _, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("lost")}); err != nil {
		t.Errorf("after Calm: %v", err)
	}

	storm.FailAfter(1, 1, 500, "InternalError", "DeleteObject")
	for i, want := range []string{"", "InternalError", ""} {
		_, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("lost")})
		if code(err) != want {
			t.Errorf("request %d of a storm that comes after the first: %v", i+1, err)
		}
	}

	seen := storm.Requests("PutObject")
	if len(seen) != 3 || storm.Count("HeadObject") != 2 || storm.Count() != 8 {
		t.Fatalf("seen were %d PutObject, %d HeadObject of %d", len(seen), storm.Count("HeadObject"), storm.Count())
	}
	first, second := seen[0], seen[1]
	if first.Status != 503 || !first.Ours || second.Status != 200 || second.Ours {
		t.Errorf("noted were %+v and %+v", first, second)
	}
	if second.Bucket != bucket || second.Key != "a b+ü%41" || string(second.Body) != "content" || second.Sent != 7 {
		t.Errorf("noted was %+v", second)
	}
	if second.Header.Get("Authorization") == "" {
		t.Error("no headers were noted")
	}
}
