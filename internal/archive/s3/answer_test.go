package s3

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

// replies opens a bucket of a server that is nothing but a function.
func replies(t *testing.T, o Options, serve http.HandlerFunc) *Bucket {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	o.Bucket, o.Endpoint = "bucket", server.URL
	o.Getenv = environment(s3test.EnvOf(server.URL, "access", "secret"))
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b.retries = newRetries(2, time.Millisecond)
	t.Cleanup(func() { b.Close() })
	return b
}

// TestCompleteIsAwaitedBehindItsHeader has a server that answers with a header at
// once, as AWS does, and takes its time for what follows.
func TestCompleteIsAwaitedBehindItsHeader(t *testing.T) {
	const after = 200 * time.Millisecond
	b := replies(t, Options{StallAfter: after}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		q := r.URL.Query()
		switch {
		case r.Method == http.MethodPost && q.Has("uploads"):
			fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPost:
			fmt.Fprint(w, `<?xml version="1.0"?>`)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(3 * after)
			fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>`)
		default:
			w.Header().Set("ETag", `"part"`)
		}
	})
	u, err := b.Begin(t.Context(), "k", archive.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := u.Put(t.Context(), 1, bodyOf([]byte("content")))
	if err != nil {
		t.Fatal(err)
	}
	if o, err := u.Complete(t.Context(), []archive.Part{p}); err != nil || o.Tag != "whole" {
		t.Errorf("completing gives %+v, %v", o, err)
	}
}

// TestCopyInPartsWhoseLastReplyIsLost finds what it has made itself.
func TestCopyInPartsWhoseLastReplyIsLost(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint})
	b.copyOver, b.copyPart = minPart, minPart
	data := content(7, minPart+1234)
	if err := b.Put(t.Context(), "from", data, false); err != nil {
		t.Fatal(err)
	}
	// This server would complete an upload twice; others know nothing of it any more.
	storm.Lose(1, "CompleteMultipartUpload")
	storm.Fail(1, 404, "NoSuchUpload", "CompleteMultipartUpload")
	if err := b.Copy(t.Context(), "from", "to"); err != nil {
		t.Error(err)
	}
	if got := server.Get(t, b.o.Bucket, "to"); !bytes.Equal(got, data) {
		t.Errorf("the copy has %d bytes that are not those of the source", len(got))
	}
	if left := server.Unfinished(t, b.o.Bucket); len(left) > 0 {
		t.Errorf("unfinished are %q", left)
	}
}

// TestCopyKeepsItsKey copies what is encrypted with a key of KMS's: without other
// wishes the copy is encrypted with the same.
func TestCopyKeepsItsKey(t *testing.T) {
	for wish, want := range map[string]string{"": "aws:kms mine", "AES256": "AES256 ", "none": " "} {
		var asked string
		b := replies(t, Options{SSE: wish}, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.Header().Set("ETag", `"tag"`)
				w.Header().Set("X-Amz-Server-Side-Encryption", "aws:kms")
				w.Header().Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "mine")
				return
			}
			asked = r.Header.Get("X-Amz-Server-Side-Encryption") + " " + r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id")
			fmt.Fprint(w, `<CopyObjectResult><ETag>"tag"</ETag></CopyObjectResult>`)
		})
		if err := b.Copy(t.Context(), "from", "to"); err != nil {
			t.Fatal(err)
		}
		if asked != want {
			t.Errorf("with sse=%s the copy is encrypted with %q, not %q", wish, asked, want)
		}
	}
}

// TestCertificatesOfTheProfile trusts what a profile says, as other programs do.
func TestCertificatesOfTheProfile(t *testing.T) {
	t.Setenv("AWS_CA_BUNDLE", "") // which counts more, and the SDK reads by itself
	server := s3test.Start(t)
	storm := server.StormTLS(t)
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte("[default]\nca_bundle = "+storm.CA+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append([]string{"AWS_CONFIG_FILE=" + config}, server.EnvAt(storm.Endpoint)...)
	b := open(t, server, Options{Endpoint: storm.Endpoint, Getenv: environment(env)})
	if err := b.Put(t.Context(), "k", nil, false); err != nil {
		t.Error(err)
	}
}

// TestOldFilesInPlaceOfAProfileAreTold has a profile that gives no credentials: it
// is not kept quiet that others are used.
func TestOldFilesInPlaceOfAProfileAreTold(t *testing.T) {
	server := s3test.Start(t)
	home := t.TempDir()
	config, boto := filepath.Join(home, "config"), filepath.Join(home, "boto")
	for file, text := range map[string]string{
		config: "[default]\ncredential_process = /bin/false\n",
		boto:   "[Credentials]\naws_access_key_id = " + server.Access + "\naws_secret_access_key = " + server.Secret + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := append([]string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_CONFIG_FILE=" + config, "BOTO_CONFIG=" + boto}, server.Env()...)
	said := &said{}
	b := open(t, server, Options{Getenv: environment(env), Log: said.log()})
	if err := b.Put(t.Context(), "k", nil, false); err != nil {
		t.Error(err)
	}
	if text := said.String(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, boto) || strings.Contains(text, server.Secret) {
		t.Errorf("the log says %q", text)
	}
}

// TestWrongCertificatesAreNoOutage asks once where asking again changes nothing.
func TestWrongCertificatesAreNoOutage(t *testing.T) {
	t.Setenv("AWS_CA_BUNDLE", "")
	var asked atomic.Int64
	count := func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			asked.Add(1)
		}
	}
	secured := httptest.NewUnstartedServer(http.NotFoundHandler())
	secured.Config.ConnState, secured.Config.ErrorLog = count, log.New(io.Discard, "", 0)
	secured.StartTLS()
	defer secured.Close()
	plain := httptest.NewUnstartedServer(http.NotFoundHandler())
	plain.Config.ConnState = count
	plain.Start()
	defer plain.Close()

	for endpoint, want := range map[string]string{
		secured.URL: "AWS_CA_BUNDLE",
		strings.Replace(plain.URL, "http:", "https:", 1): "HTTP response to HTTPS client",
	} {
		asked.Store(0)
		b, err := Open(t.Context(), Options{Bucket: "bucket", Endpoint: endpoint, Getenv: environment(s3test.EnvOf(endpoint, "access", "secret"))})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		b.retries = newRetries(attempts, time.Millisecond)
		err = b.Put(t.Context(), "k", nil, false)
		if err == nil || !strings.Contains(err.Error(), want) || contract.Temporary(err) {
			t.Errorf("%s: %v", endpoint, err)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%s: asked %d times", endpoint, n)
		}
	}
}

// TestCredentialsThatCannotBeHadForAWhile has what gives credentials fail when they
// are to be renewed, as it does while the network is away.
func TestCredentialsThatCannotBeHadForAWhile(t *testing.T) {
	server := s3test.Start(t)
	dir := t.TempDir()
	script, config := filepath.Join(dir, "script"), filepath.Join(dir, "config")
	// They have always expired, so that every request asks for them.
	for file, text := range map[string]string{
		script: fmt.Sprintf(`#!/bin/sh
n=$(cat %[1]s/n 2>/dev/null); echo $((n + 1)) >%[1]s/n
[ "${n:-0}" = 0 ] || [ "$n" -gt 4 ] || exit 1
echo '{"Version": 1, "AccessKeyId": "%[2]s", "SecretAccessKey": "%[3]s", "Expiration": "2020-01-01T00:00:00Z"}'
`, dir, server.Access, server.Secret),
		config: "[default]\ncredential_process = " + script + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env := append([]string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_CONFIG_FILE=" + config}, server.Env()...)
	b := open(t, server, Options{Getenv: environment(env)})
	if err := b.Put(t.Context(), "k", nil, false); err != nil {
		t.Error(err)
	}
	if n, err := os.ReadFile(filepath.Join(dir, "n")); err != nil || strings.TrimSpace(string(n)) < "6" {
		t.Errorf("credentials were asked for %s times, %v", n, err)
	}
}

// TestRepliesThatSayNothing has something that answers whatever is asked with a page
// or with nothing, and that it went well, as the port of a web console does.
func TestRepliesThatSayNothing(t *testing.T) {
	for _, page := range []string{"", "<html><body>please log in</body></html>"} {
		saying := "" // to which requests there is a real answer
		b := replies(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			q := r.URL.Query()
			switch {
			case saying != "" && r.Method == http.MethodHead:
				w.Header().Set("Content-Length", "7")
			case saying != "" && q.Has("uploads"):
				fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
			case saying == "parts" && r.Method == http.MethodPut:
				w.Header().Set("ETag", `"part"`)
			default:
				fmt.Fprint(w, page)
			}
		})
		ctx := t.Context()
		check := func(what string, err error) {
			t.Helper()
			if err == nil {
				t.Errorf("%q is taken for a reply to %s", page, what)
			}
		}
		for _, err := range b.List(ctx, "") {
			check("List", err)
			if err != nil {
				saying = "yes"
			}
		}
		if saying == "" {
			t.Errorf("%q is taken for an empty list", page)
		}
		check("Put", b.Put(ctx, "k", nil, false))
		check("Copy", b.Copy(ctx, "k", "l"))
		b.copyOver, b.copyPart = 5, 5
		check("Copy in parts", b.Copy(ctx, "k", "l"))
		_, err := b.Continue(ctx, archive.Unfinished{Key: "k", ID: "id"})
		check("Continue", err)
		u, err := b.Begin(ctx, "k", archive.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = u.Put(ctx, 1, bodyOf([]byte("content")))
		check("a part", err)
		saying = "parts"
		p, err := u.Put(ctx, 1, bodyOf([]byte("content")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = u.Complete(ctx, []archive.Part{p})
		check("Complete", err)
	}
}
