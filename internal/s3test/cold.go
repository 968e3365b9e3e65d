package s3test

import (
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// How long a restore takes by the clock of a Cold: the longest that is called
// typical
// (docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html).
const (
	ExpeditedTime    = 5 * time.Minute
	StandardTime     = 5 * time.Hour  // of GLACIER, and ARCHIVE_ACCESS
	BulkTime         = 12 * time.Hour // of GLACIER, and ARCHIVE_ACCESS
	DeepStandardTime = 12 * time.Hour // of DEEP_ARCHIVE, and DEEP_ARCHIVE_ACCESS
	DeepBulkTime     = 48 * time.Hour // of DEEP_ARCHIVE, and DEEP_ARCHIVE_ACCESS
)

// Cold is a way to a server that has storage classes, and a clock that tests move.
// Everything but those is the server's: signatures, policies, checksums, the
// objects themselves. What classes they are of is in a file, and stays with it. An
// object that is replaced past it, at the server, keeps the class it had.
type Cold struct {
	Endpoint string // "http://" and Addr, to be used in place of the server's
	Addr     string // "127.0.0.1:23456"

	t      testing.TB
	server *Server
	file   string
	http   *http.Server
	calls  sync.RWMutex // held for reading by every call

	mu    sync.Mutex
	state *coldState
	asks  []Ask
}

// Ask is a request to restore an object.
type Ask struct {
	Bucket, Key, Version string
	Tier                 string // "Bulk", "Standard" or "Expedited"
	Days                 int    // 0 if none were named
	At                   time.Time
	// Status is what was answered: 202 where a restore was begun, 200 where a copy
	// that is there was prolonged; Code is that of an error.
	Status int
	Code   string
}

// Cold starts one before the server, until the test ends.
func (s *Server) Cold(t testing.TB) *Cold {
	t.Helper()
	return s.ColdIn(t, filepath.Join(t.TempDir(), "classes"))
}

// ColdIn is Cold with a file for the classes, which outlives the test and may be
// one of an earlier Cold before the same data.
func (s *Server) ColdIn(t testing.TB, file string) *Cold {
	t.Helper()
	c := &Cold{t: t, server: s, file: file, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))}
	c.Restart()
	t.Cleanup(c.Stop)
	return c
}

// Storm starts a Storm before it, until the test ends.
func (c *Cold) Storm(t testing.TB) *Storm {
	t.Helper()
	return (&Server{Endpoint: c.Endpoint}).Storm(t)
}

// Now is the time by its clock, which runs like any other between calls of
// Advance.
func (c *Cold) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.now()
}

// Advance moves its clock on.
func (c *Cold) Advance(d time.Duration) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.state.advance(d); err != nil {
		c.t.Fatalf("moving the clock of the cold storage: %v", err)
	}
}

// Class is the storage class of an object ("DEEP_ARCHIVE"), which is there.
func (c *Cold) Class(bucket, key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.find(bucket, key, "").class()
}

// Readable tells whether an object can be got now.
func (c *Cold) Readable(bucket, key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.find(bucket, key, "").readable(c.state.now())
}

// Move puts an object into another class, as a lifecycle rule of the bucket does.
func (c *Cold) Move(t testing.TB, bucket, key, class string) {
	t.Helper()
	if !classes[class] {
		t.Fatalf("%s is not a storage class", class)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.state.set(name(bucket, key, ""), &coldObject{Class: class}); err != nil {
		t.Fatalf("moving %s: %v", key, err)
	}
}

// Archive puts an object of INTELLIGENT_TIERING into an archive tier,
// "ARCHIVE_ACCESS" or "DEEP_ARCHIVE_ACCESS", as happens if it was not read for
// long.
func (c *Cold) Archive(t testing.TB, bucket, key, tier string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.state.find(bucket, key, ""); o.class() != tiering || tier != archiveAccess && tier != deepArchiveAccess {
		t.Fatalf("%s is of class %s and cannot get into %s", key, o.class(), tier)
	}
	if err := c.state.set(name(bucket, key, ""), &coldObject{Class: tiering, Archive: tier}); err != nil {
		t.Fatalf("moving %s: %v", key, err)
	}
}

// Asks returns all requests to restore something since it was started, those
// that failed included.
func (c *Cold) Asks() []Ask {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asks)
}

// Asked is how many restores of an object were ever begun.
func (c *Cold) Asked(bucket, key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Asked[name(bucket, key, "")]
}

// AskedAll is Asked of all objects that were, by "bucket/key".
func (c *Cold) AskedAll() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.state.Asked)
}

// Stop ends it at once; connections break.
func (c *Cold) Stop() {
	if c.http == nil {
		return
	}
	_ = c.http.Close() // the listener's error says that it is closed
	c.http = nil
	c.calls.Lock() // until the last call has noticed
	defer c.calls.Unlock()
	_ = c.state.journal.Close() // every line is written already
}

// Restart has it back after Stop, on the same port, with what is in its file.
func (c *Cold) Restart() {
	c.t.Helper()
	c.Stop()
	state, err := openCold(c.file)
	if err != nil {
		c.t.Fatalf("reading the classes of objects: %v", err)
	}
	c.calls.Lock()
	c.state = state
	c.calls.Unlock()
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		c.t.Fatalf("listening for the cold storage: %v", err)
	}
	c.Endpoint = "http://" + c.Addr
	c.http = &http.Server{Handler: c.handler(), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(l) }(c.http) // ends with Close, and says so
}

func (c *Cold) handler() http.Handler {
	c.t.Helper()
	target, err := url.Parse(c.server.Endpoint)
	if err != nil {
		c.t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	c.t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			// The signature covers the Host header, so that stays.
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		},
		ModifyResponse: c.answered,
		ErrorLog:       log.New(io.Discard, "", 0),
		FlushInterval:  -1,
		// What cannot be had of the server breaks here as well.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.calls.RLock()
		defer c.calls.RUnlock()
		r, refusal, err := c.asked(r)
		if err != nil {
			panic(http.ErrAbortHandler) // the client is gone
		}
		if refusal != nil {
			_, _ = io.Copy(io.Discard, r.Body) // so that the answer is read, and not a reset
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(refusal.status)
			if r.Method != http.MethodHead {
				_, _ = io.WriteString(w, refusal.xml())
			}
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// refusal is an error of S3's.
type refusal struct {
	status        int
	code, message string
	extra         string // XML
}

func (r *refusal) xml() string {
	return fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message>%s</Error>", r.code, r.message, r.extra)
}

// split names the bucket and the key of a path.
func split(path string) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return bucket, key
}

// name is what an object, or a version of it, is called in the state.
func name(bucket, key, version string) string {
	text := bucket + "/" + key
	if version != "" && version != "null" {
		text += "?" + version
	}
	return text
}
