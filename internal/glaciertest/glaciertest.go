// Package glaciertest is the test bench for everything that needs a vault of the
// original Glacier API.
//
// Nobody can newly sign up for that service, and no emulator checks what counts,
// so this is one: a server on the loopback device that does what the API's
// documentation says (docs.aws.amazon.com/amazonglacier/latest/dev), as strictly as
// it says it, and where the documentation leaves a choice, what is least convenient
// for a program. It was never compared with the real service. It verifies
// signatures, both hashes of what is sent, the alignment of parts; has a clock that
// tests move; takes hours over retrievals, forgets their output after a day, and
// takes an inventory once a day, that is to be had a day later. On top of that it
// can answer badly, lose replies and cut connections, and it writes down what it
// was asked. It knows nothing of the packages under test and imports none of them;
// every package's tests may import it, programs never do.
//
// Invariants. What was answered is on the disk: a server that is stopped and
// started again, or another one on the same directory later, goes on where the
// first one was. Nothing outlives the test. Helpers end the test with t.Fatal, so
// they must be called from the test's goroutine.
//
// Memory is bounded by what is small: bodies go through files, and only records of
// archives, parts, jobs and requests are kept.
//
//	server := glaciertest.Start(t)
//	cmd.Env = append(cmd.Environ(), server.Env()...)
//	server.Advance(12 * time.Hour) // bulk retrievals are there
package glaciertest

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Region is where the vaults are said to be.
const Region = "us-east-1"

// Account is whose they are.
const Account = "111122223333"

// How long things take by the server's clock.
const (
	// ExpeditedTime, StandardTime and BulkTime are how long retrievals of archives
	// take: the longest that is called typical
	// (docs.aws.amazon.com/amazonglacier/latest/dev/downloading-an-archive-two-steps.html).
	ExpeditedTime = 5 * time.Minute
	StandardTime  = 5 * time.Hour
	BulkTime      = 12 * time.Hour
	// InventoryTime is how long retrievals of an inventory take, whatever the tier.
	InventoryTime = 5 * time.Hour
	// OutputKept is how long the output of a job can be had: what is promised.
	OutputKept = 24 * time.Hour
	// UploadKept is after how long without a request an upload is dropped.
	UploadKept = 24 * time.Hour
	// InventoryDelay is how long after it was taken an inventory can be had. It is
	// taken at midnight, UTC, if anything has changed since the last one.
	InventoryDelay = 24 * time.Hour
	// RepeatKept is how long a request to complete an upload can be repeated.
	RepeatKept = 15 * time.Minute
)

// Server is a vault service that runs.
type Server struct {
	Endpoint string // "http://127.0.0.1:23456"
	Access   string // the key of the account's owner
	Secret   string
	Dir      string // where its state is

	t    testing.TB
	addr string
	http *http.Server

	faults faults

	mu    sync.Mutex
	state *state
	calls sync.RWMutex // held for reading by every call
}

// An Option changes what Start makes.
type Option func(*Server)

// In has the state kept in a directory, which outlives the server and may hold the
// state of an earlier one, that had the same keys.
func In(dir string) Option { return func(s *Server) { s.Dir = dir } }

// Keys are those of the account's owner, in place of new ones: a program that uses
// this and an S3 server has one pair of them for both.
func Keys(access, secret string) Option {
	return func(s *Server) { s.Access, s.Secret = access, secret }
}

// At sets the clock of a server that has no state yet.
func At(now time.Time) Option {
	return func(s *Server) { s.state = &state{offset: time.Until(now)} }
}

// Start starts a server, until the test ends.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{
		Access: "AKIA" + rand.Text()[:16], Secret: rand.Text(), t: t,
		state: &state{},
	}
	for _, opt := range opts {
		opt(s)
	}
	if s.Dir == "" {
		s.Dir = filepath.Join(t.TempDir(), "vaults")
	}
	s.Restart()
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server at once; connections break.
func (s *Server) Stop() {
	if s.http == nil {
		return
	}
	_ = s.http.Close() // the listener's error says that it is closed
	s.http = nil
	s.calls.Lock() // until the last call has noticed
	defer s.calls.Unlock()
}

// Restart has a server that was stopped back, on the same port, with what is in
// its directory.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	loaded, err := load(s.Dir, s.state.offset)
	if err != nil {
		s.t.Fatalf("reading the state of the vaults: %v", err)
	}
	s.calls.Lock()
	s.state = loaded
	s.calls.Unlock()
	l, err := listen(s.addr)
	if err != nil {
		s.t.Fatalf("listening for the vaults: %v", err)
	}
	s.addr = l.Addr().String()
	s.Endpoint = "http://" + s.addr
	s.http = &http.Server{
		Handler: s.handler(), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return context.Background() },
	}
	go func(server *http.Server) { _ = server.Serve(l) }(s.http) // ends with Close, and says so
}

// listen listens on an address, or if it is empty on a free port, which is below
// those that the kernel gives to connections, so that it is free again later.
func listen(addr string) (l net.Listener, err error) {
	if addr != "" {
		return net.Listen("tcp", addr)
	}
	const first, count, attempts = 10000, 20000, 100
	for range attempts {
		port := strconv.Itoa(first + mathrand.IntN(count))
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			return l, nil
		}
	}
	return nil, err
}

// Addr is "127.0.0.1:23456", for a proxy before the server.
func (s *Server) Addr() string { return strings.TrimPrefix(s.Endpoint, "http://") }

// Env is what a program needs in its environment to use the server, as
// "KEY=value". What else there may be of such settings, of the machine or of its
// user, is made to have no effect; but what it says of S3 stays.
func (s *Server) Env() []string { return s.EnvAt(s.Endpoint) }

// EnvAt is Env for another endpoint, that of a proxy.
func (s *Server) EnvAt(endpoint string) []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.Access, "AWS_SECRET_ACCESS_KEY=" + s.Secret,
		"AWS_REGION=" + Region, "AWS_ENDPOINT_URL_GLACIER=" + endpoint,
		"AWS_SESSION_TOKEN=", "AWS_PROFILE=", "AWS_DEFAULT_PROFILE=", "AWS_DEFAULT_REGION=", "AWS_CA_BUNDLE=",
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=", "AWS_USE_DUALSTACK_ENDPOINT=", "AWS_USE_FIPS_ENDPOINT=",
		"AWS_ROLE_ARN=", "AWS_WEB_IDENTITY_TOKEN_FILE=", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=", "AWS_CONTAINER_CREDENTIALS_FULL_URI=",
		"AWS_MAX_ATTEMPTS=", "AWS_RETRY_MODE=",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
		"HTTP_PROXY=", "http_proxy=", "HTTPS_PROXY=", "https_proxy=", "ALL_PROXY=", "all_proxy=",
	}
}

// Now is the time by the server's clock. It runs like any other between calls of
// Advance; signatures are held against the real time.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.now()
}

// Advance moves the server's clock on.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.offset += d
	if err := s.state.saveClock(); err != nil {
		s.t.Fatalf("moving the clock of the vaults: %v", err)
	}
}
