package s3

import (
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/s3test"
)

func TestPathStyle(t *testing.T) {
	for _, c := range []struct {
		endpoint, bucket string
		want             bool
	}{
		{"", "backups", false},
		{"", "my.backups", true},
		{"", "My-Backups", true},
		{"", "under_score", true},
		{"", "-x-", true},
		{"", "ab", true},
		{"http://127.0.0.1:9000", "backups", true},
		{"http://[::1]:9000", "backups", true},
		{"http://localhost:9000", "backups", true},
		{"http://s3.localhost", "backups", true},
		{"http://minio:9000", "backups", true},
		{"https://minio.example.org:9000", "backups", false},
		{"https://minio.example.org", "my.backups", true},
		{"https://s3.eu-central-1.amazonaws.com", "backups", false},
	} {
		if got := pathStyle(c.endpoint, c.bucket); got != c.want {
			t.Errorf("pathStyle(%q, %q) = %v", c.endpoint, c.bucket, got)
		}
	}
}

func TestUnnamed(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&net.DNSError{IsNotFound: true, Name: "backups.minio.example.org"}, true},
		{&net.DNSError{IsNotFound: true, Name: "minio.example.org"}, false},
		{&net.DNSError{IsTemporary: true, Name: "backups.minio.example.org"}, false},
		{x509.HostnameError{Host: "backups.minio.example.org"}, true},
		{x509.HostnameError{Host: "minio.example.org"}, false},
		{errors.New("another"), false},
	} {
		if got := unnamed(c.err, "backups"); got != c.want {
			t.Errorf("unnamed(%v) = %v", c.err, got)
		}
	}
}

func TestLocation(t *testing.T) {
	same := [][]string{
		{location("", "b"), location("https://s3.amazonaws.com", "b"), location("https://s3.eu-west-1.amazonaws.com", "b")},
		{location("https://minio.example.org", "b"), location("https://MINIO.example.org:443", "b")},
		{location("http://minio.example.org", "b"), location("http://minio.example.org:80", "b")},
		{location("http://[::1]:9000", "b")},
		{location("http://[::1]:9000", "c")},
		{location("https://minio.example.org/tenant", "b")},
	}
	seen := map[string]int{}
	for i, group := range same {
		for _, l := range group {
			if j, ok := seen[l]; ok && j != i {
				t.Errorf("%q stands for two", l)
			}
			seen[l] = i
			if l != group[0] {
				t.Errorf("%q and %q are one", l, group[0])
			}
		}
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	env := environment(s3test.EnvOf("http://127.0.0.1:1", "a", "s"))
	for name, o := range map[string]Options{
		"no bucket":         {},
		"unknown sse":       {Bucket: "b", SSE: "rot13"},
		"key without kms":   {Bucket: "b", KMSKey: "alias/k"},
		"bad endpoint":      {Bucket: "b", Endpoint: "ftp://h"},
		"no such profile":   {Bucket: "b", Getenv: environment([]string{"AWS_PROFILE=none", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null"})},
		"no such authority": {Bucket: "b", Getenv: environment([]string{"AWS_CA_BUNDLE=/nonexistent"})},
	} {
		if o.Getenv == nil {
			o.Getenv = env
		}
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// headers are what the requests of some operations said in a header, each once.
func headers(storm *s3test.Storm, header string, ops ...string) map[string]string {
	said := map[string]string{}
	for _, r := range storm.Requests(ops...) {
		said[r.Op+" "+r.Key] = r.Header.Get(header)
	}
	return said
}

func TestEncryptionAndClassAreAskedFor(t *testing.T) {
	server := s3test.Start(t)
	for name, c := range map[string]struct {
		o              Options
		sse, key, part string
	}{
		"default": {Options{}, "AES256", "", ""},
		"AES256":  {Options{SSE: "AES256", Class: "STANDARD_IA"}, "AES256", "", "STANDARD_IA"},
		"none":    {Options{SSE: "none"}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			storm := server.Storm(t)
			c.o.Endpoint = storm.Endpoint
			b := open(t, server, c.o)
			b.copyOver, b.copyPart = 4, minPart
			if err := everything(t.Context(), b, content(1, 100)); err != nil {
				t.Fatal(err)
			}
			if err := b.Copy(t.Context(), "small", "copy by parts"); err != nil {
				t.Fatal(err)
			}
			b.copyOver = maxCopy
			if err := b.Copy(t.Context(), "small", "copy"); err != nil {
				t.Fatal(err)
			}
			for op, sse := range headers(storm, "X-Amz-Server-Side-Encryption", "PutObject", "CreateMultipartUpload", "CopyObject") {
				if sse != c.sse {
					t.Errorf("%s asked for %q, not for %q", op, sse, c.sse)
				}
			}
			class := headers(storm, "X-Amz-Storage-Class", "PutObject", "CreateMultipartUpload")
			if class["CreateMultipartUpload big"] != c.part || class["PutObject small"] != "" {
				t.Errorf("classes asked for were %v", class)
			}
		})
	}
}

func TestKMSIsAskedFor(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint, SSE: "aws:kms", KMSKey: "alias/backups"})
	_ = b.Put(t.Context(), "k", nil, false) // whatever the server makes of it
	h := storm.Requests("PutObject")[0].Header
	if h.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "alias/backups" {
		t.Errorf("asked for was %v", h)
	}
}

// TestServersThatKnowLess has a server which says that it does not know
// encryption, as MinIO does without keys, or conditional writes.
func TestServersThatKnowLess(t *testing.T) {
	server := s3test.Start(t)
	t.Run("encryption", func(t *testing.T) {
		storm, log := server.Storm(t), &said{}
		b := open(t, server, Options{Endpoint: storm.Endpoint, Log: log.log()})
		storm.Fail(1, 501, "NotImplemented", "CreateMultipartUpload")
		for range 2 {
			if err := everything(t.Context(), b, content(1, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "cannot encrypt") {
			t.Errorf("%d warnings:\n%s", n, log)
		}
		for op, sse := range headers(storm, "X-Amz-Server-Side-Encryption", "CopyObject") {
			if sse != "" {
				t.Errorf("%s still asks for %q", op, sse)
			}
		}
	})
	t.Run("encryption that was asked for", func(t *testing.T) {
		storm := server.Storm(t)
		b := open(t, server, Options{Endpoint: storm.Endpoint, SSE: "AES256"})
		storm.Fail(1, 501, "NotImplemented", "PutObject")
		if err := b.Put(t.Context(), "k", nil, false); err == nil {
			t.Error("what was asked for is left out")
		}
	})
	t.Run("conditions", func(t *testing.T) {
		storm, log := server.Storm(t), &said{}
		b := open(t, server, Options{Endpoint: storm.Endpoint, Log: log.log()})
		storm.Fail(1, 501, "NotImplemented", "CompleteMultipartUpload")
		if err := everything(t.Context(), b, content(1, 100)); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "conditional") {
			t.Errorf("%d warnings:\n%s", n, log)
		}
		if err := b.Put(t.Context(), "taken", nil, false); err != nil {
			t.Fatal(err)
		}
		storm.Forget()
		if err := b.Put(t.Context(), "taken", []byte("x"), true); err == nil {
			t.Error("without conditions, what is there is replaced")
		}
		if n := storm.Count("PutObject"); n != 0 {
			t.Errorf("%d PutObject were sent", n)
		}
	})
	t.Run("conditions of small objects", func(t *testing.T) {
		storm, log := server.Storm(t), &said{}
		b := open(t, server, Options{Endpoint: storm.Endpoint, Log: log.log()})
		storm.Fail(2, 501, "NotImplemented", "PutObject") // with, and then without encryption
		if err := b.Put(t.Context(), "k", nil, true); err != nil {
			t.Fatal(err)
		}
		if b.lacks.sse || !b.lacks.once {
			t.Errorf("what the server lacks was taken for %+v", b.lacks)
		}
	})
}
