package s3test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Request is what a Storm has seen of one request.
type Request struct {
	// Op is what S3 calls it: "UploadPart", "ListObjectsV2".
	Op          string
	Bucket, Key string
	Query       url.Values
	Header      http.Header
	// Sent is how many bytes its body had, and Body is the body if the Storm was
	// told to keep them.
	Sent int64
	Body []byte
	// Status is what was answered; 0 if nothing was.
	Status int
	// Ours is set where the Storm answered, or lost the reply, and not the
	// server.
	Ours bool
}

// Storm is a way to a server that sometimes answers in its place, and writes
// down what it was asked. Everything else goes through unchanged.
type Storm struct {
	Endpoint string // to be used in place of the server's
	CA       string // for TLS: the file of the certificate to trust

	mu    sync.Mutex
	rules []*rule
	seen  []*Request
	keep  bool
}

// rule is when a Storm does not just pass a request on.
type rule struct {
	ops    []string // empty for all
	skip   int      // how many times it is passed over first
	left   int      // how many more times; below 0 for ever
	share  float64
	status int // 0 loses the reply
	code   string
	region string // where the bucket is said to be; empty for nothing
}

// Storm starts one before the server, until the test ends.
func (s *Server) Storm(t testing.TB) *Storm {
	t.Helper()
	storm := &Storm{}
	server := httptest.NewServer(storm.handler(t, s))
	t.Cleanup(server.Close)
	storm.Endpoint = server.URL
	return storm
}

// StormTLS is Storm, spoken to with https.
func (s *Server) StormTLS(t testing.TB) *Storm {
	t.Helper()
	storm := &Storm{CA: filepath.Join(t.TempDir(), "ca.pem")}
	server := httptest.NewTLSServer(storm.handler(t, s))
	t.Cleanup(server.Close)
	storm.Endpoint = server.URL
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(storm.CA, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return storm
}

// Fail answers the next n requests with an error of S3's: a status (503) and a
// code ("SlowDown"). Ops name the operations that are meant; none means all.
func (s *Storm) Fail(n, status int, code string, ops ...string) {
	s.add(&rule{ops: ops, left: n, share: 1, status: status, code: code})
}

// FailAfter is Fail for n requests after some that go through.
func (s *Storm) FailAfter(through, n, status int, code string, ops ...string) {
	s.add(&rule{ops: ops, skip: through, left: n, share: 1, status: status, code: code})
}

// FailShare answers a share of all requests, from 0 to 1, with an error, until
// Calm.
func (s *Storm) FailShare(share float64, status int, code string, ops ...string) {
	s.add(&rule{ops: ops, left: -1, share: share, status: status, code: code})
}

// Redirect answers the next n requests as AWS does where the bucket is in another
// region.
func (s *Storm) Redirect(n int, region string, ops ...string) {
	s.add(&rule{ops: ops, left: n, share: 1, status: http.StatusMovedPermanently, code: "PermanentRedirect", region: region})
}

// Lose lets the next n requests through to the server and breaks the connection
// instead of passing on its reply.
func (s *Storm) Lose(n int, ops ...string) { s.add(&rule{ops: ops, left: n, share: 1}) }

// Calm takes away all trouble.
func (s *Storm) Calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

// KeepBodies keeps the bodies of the requests that follow.
func (s *Storm) KeepBodies() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = true
}

// Requests returns what was seen so far, of some operations or of all, in order.
func (s *Storm) Requests(ops ...string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seen []Request
	for _, r := range s.seen {
		if len(ops) == 0 || slices.Contains(ops, r.Op) {
			seen = append(seen, *r)
		}
	}
	return seen
}

// Count is how many requests were seen, of some operations or of all.
func (s *Storm) Count(ops ...string) int { return len(s.Requests(ops...)) }

// Forget begins the list of requests anew.
func (s *Storm) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = nil
}

func (s *Storm) add(r *rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, r)
}

// match writes a request down, and returns the rule for it, or nil.
func (s *Storm) match(r *Request) *rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r)
	for _, rule := range s.rules {
		if len(rule.ops) > 0 && !slices.Contains(rule.ops, r.Op) || rule.left == 0 || rand.Float64() >= rule.share {
			continue
		}
		if rule.skip > 0 {
			rule.skip--
			continue
		}
		if rule.left > 0 {
			rule.left--
		}
		r.Ours = true
		return rule
	}
	return nil
}

func (s *Storm) handler(t testing.TB, server *Server) http.Handler {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			// The signature covers the Host header, so that stays.
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		},
		ErrorLog: log.New(io.Discard, "", 0),
		// What cannot be had of the server breaks here as well.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := describe(r)
		rule := s.match(seen)
		body := &counter{ReadCloser: r.Body, storm: s, seen: seen}
		r.Body = body
		switch {
		case rule == nil:
			proxy.ServeHTTP(&statusWriter{ResponseWriter: w, storm: s, seen: seen}, r)
		case rule.status == 0:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.Copy(io.Discard, body) // so that the answer is read, and not a reset
			s.status(seen, rule.status)
			w.Header().Set("Content-Type", "application/xml")
			if rule.region != "" {
				w.Header().Set("X-Amz-Bucket-Region", rule.region)
			}
			w.WriteHeader(rule.status)
			if r.Method != http.MethodHead {
				_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>a storm</Message></Error>", rule.code)
			}
		}
	})
}

func (s *Storm) status(r *Request, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Status = status
}

// describe says what a request asks for, addressed by path.
func describe(r *http.Request) *Request {
	q := r.URL.Query()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return &Request{Op: operation(r, q, bucket, key), Bucket: bucket, Key: key, Query: q, Header: r.Header.Clone()}
}

// operation names what a request asks for, as in
// docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
func operation(r *http.Request, q url.Values, bucket, key string) string {
	var (
		copied = r.Header.Get("X-Amz-Copy-Source") != ""
		upload = q.Has("uploadId")
	)
	switch {
	case bucket == "":
		return "ListBuckets"
	case key == "" && q.Has("uploads"):
		return "ListMultipartUploads"
	case key == "" && q.Get("list-type") == "2":
		return "ListObjectsV2"
	case key == "" && q.Has("location"):
		return "GetBucketLocation"
	case key == "" && r.Method == http.MethodHead:
		return "HeadBucket"
	case key == "":
		return r.Method + " bucket?" + r.URL.RawQuery
	case r.Method == http.MethodPost && q.Has("restore"):
		return "RestoreObject"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && upload:
		return "CompleteMultipartUpload"
	case r.Method == http.MethodPut && upload && copied:
		return "UploadPartCopy"
	case r.Method == http.MethodPut && upload:
		return "UploadPart"
	case r.Method == http.MethodPut && copied:
		return "CopyObject"
	case r.Method == http.MethodPut:
		return "PutObject"
	case r.Method == http.MethodDelete && upload:
		return "AbortMultipartUpload"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	case r.Method == http.MethodGet && upload:
		return "ListParts"
	case r.Method == http.MethodGet:
		return "GetObject"
	case r.Method == http.MethodHead:
		return "HeadObject"
	}
	return r.Method + " object?" + r.URL.RawQuery
}

// counter counts a body, and keeps it if that is wanted.
type counter struct {
	io.ReadCloser
	storm *Storm
	seen  *Request
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.storm.mu.Lock()
	defer c.storm.mu.Unlock()
	c.seen.Sent += int64(n)
	if c.storm.keep {
		c.seen.Body = append(c.seen.Body, bytes.Clone(b[:n])...)
	}
	return n, err
}

// statusWriter notes what the server answers.
type statusWriter struct {
	http.ResponseWriter
	storm *Storm
	seen  *Request
}

func (w *statusWriter) WriteHeader(status int) {
	w.storm.status(w.seen, status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
