// Package s3test is the test bench for everything that needs a real S3 server.
//
// It knows how to start versitygw on a free port of the loopback device with
// data of its own, to kill it and to have it back, to make buckets and users who
// may do only so much, and to put two kinds of trouble between a program and the
// server: a Proxy (toxiproxy) that cuts, stalls and slows connections, and a
// Storm that answers in the server's place, loses replies, and writes down what
// was asked. And a Cold, that adds what no server in reach has: storage classes, in
// which objects have to be restored before they can be read. It knows nothing of the packages under test and imports none of
// them; every package's tests may import it, programs never do.
//
// Invariants. Nothing outlives a test binary, however it ends: the servers are
// killed by the kernel with it, and by Cleanup before. Helpers end the test with
// t.Fatal, so they must be called from the test's goroutine.
//
// Memory is bounded by what the caller asks for: Get returns a whole object, a
// Storm keeps one record per request, and bodies only if told to, a Cold keeps one
// per object.
//
//	server := s3test.Start(t)
//	bucket := server.Bucket(t)
//	cmd.Env = append(cmd.Environ(), server.Env()...)
package s3test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// RealEnv names the environment variable that turns "cannot run here" from a
// skip into a failure. The project's own test command sets it to 1.
const RealEnv = "BUTTERSINK_TEST_REAL"

// Region is what the servers call their region.
const Region = "us-east-1"

// Require returns if tests on a real S3 server can run here. Otherwise it skips
// the test, or fails it if RealEnv is set, and says what is missing.
func Require(t testing.TB) {
	t.Helper()
	if why := missing(); why != "" {
		if os.Getenv(RealEnv) == "1" {
			t.Fatalf("a test on a real S3 server cannot run: %s", why)
		}
		t.Skipf("needs a real S3 server: %s", why)
	}
}

// missing says why servers cannot run here, or "".
func missing() string {
	for _, name := range []string{"versitygw", "toxiproxy"} {
		if _, err := serverProgram(name); err != nil {
			return err.Error()
		}
	}
	// versitygw keeps what it knows of an object in attributes of its file.
	f, err := os.CreateTemp("", "s3test")
	if err != nil {
		return err.Error()
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := syscall.Setxattr(f.Name(), "user.s3test", []byte("x"), 0); err != nil {
		return fmt.Sprintf("no extended attributes in %s: %v", os.TempDir(), err)
	}
	return ""
}

// serverProgram finds a program that `make servers` builds.
func serverProgram(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/buttersink/buttersink\n") {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod of ours above the working directory")
		}
	}
	program := filepath.Join(dir, "bin", "servers", name)
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("%w: run make servers", err)
	}
	return program, nil
}

// Server is a running S3 server.
type Server struct {
	Endpoint string // "http://127.0.0.1:23456"
	Access   string // the key of a user who may do everything
	Secret   string
	Dir      string // where the buckets are, as directories

	t       testing.TB
	port    int
	args    []string
	process *process
	client  *s3.Client

	mu       sync.Mutex
	policies map[string][]statement // by bucket
}

// An Option changes what Start makes.
type Option func(*options)

type options struct{ versioning bool }

// Versioning makes a server whose buckets can be told to keep old versions.
func Versioning() Option { return func(o *options) { o.versioning = true } }

// Start starts a server with empty data, until the test ends. It calls Require.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	Require(t)
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	dir := t.TempDir()
	s := &Server{
		Access: "tester" + random(), Secret: rand.Text(), Dir: filepath.Join(dir, "data"),
		t: t, policies: map[string][]statement{},
	}
	// The versions may not be in a directory whose name begins like that of the
	// data: the server takes it for one inside.
	iam, old := filepath.Join(dir, "iam"), filepath.Join(dir, "old")
	for _, d := range []string{s.Dir, iam, old} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.args = []string{
		"--access", s.Access, "--secret", s.Secret, "--region", Region, "--quiet", "--keep-alive",
		"--iam-dir", iam, "--iam-cache-disable", "--port", "", "posix",
	}
	if o.versioning {
		s.args = append(s.args, "--versioning-dir", old)
	}
	s.args = append(s.args, s.Dir)

	const attempts = 5
	var err error
	for range attempts {
		s.port = freePort(t)
		s.args[portArg(s.args)] = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		s.Endpoint = "http://" + s.args[portArg(s.args)]
		s.client = s3.New(s3.Options{
			BaseEndpoint: aws.String(s.Endpoint), Region: Region, UsePathStyle: true,
			Credentials:      credentials.NewStaticCredentialsProvider(s.Access, s.Secret, ""),
			RetryMaxAttempts: 1,
		})
		if err = s.start(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("starting versitygw: %v", err)
	}
	t.Cleanup(func() { s.process.kill() })
	return s
}

// portArg is the index of the argument that says where to listen.
func portArg(args []string) int {
	for i, arg := range args {
		if arg == "--port" {
			return i + 1
		}
	}
	panic("no --port among the arguments of the server")
}

// start runs the server and waits until it knows us.
func (s *Server) start() error {
	program, err := serverProgram("versitygw")
	if err != nil {
		return err
	}
	s.process, err = spawn(program, s.args...)
	if err != nil {
		return err
	}
	err = s.process.ready(func(ctx context.Context) error {
		// Only ours knows the key that was made up for it: what else may listen on
		// the port does not.
		_, err := s.client.ListBuckets(ctx, &s3.ListBucketsInput{})
		return err
	})
	if err != nil {
		s.process.kill()
	}
	return err
}

// Kill ends the server as if by a crash (SIGKILL). Its data stays.
func (s *Server) Kill() {
	s.t.Helper()
	s.process.kill()
}

// Restart has a server that was killed back, on the same port and data.
func (s *Server) Restart() {
	s.t.Helper()
	s.process.kill()
	if err := s.start(); err != nil {
		s.t.Fatalf("starting versitygw again: %v", err)
	}
}

// Env is what a program needs in its environment to use the server, as
// "KEY=value". What else there may be of such settings, of the machine or of its
// user, is made to have no effect.
func (s *Server) Env() []string { return s.EnvAt(s.Endpoint) }

// EnvAt is Env for another endpoint, that of a Proxy or a Storm.
func (s *Server) EnvAt(endpoint string) []string { return EnvOf(endpoint, s.Access, s.Secret) }

// EnvOf is Env for another endpoint and user.
func EnvOf(endpoint, access, secret string) []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + secret,
		"AWS_REGION=" + Region, "AWS_ENDPOINT_URL=" + endpoint,
		"AWS_SESSION_TOKEN=", "AWS_PROFILE=", "AWS_DEFAULT_PROFILE=", "AWS_DEFAULT_REGION=", "AWS_CA_BUNDLE=",
		"AWS_ENDPOINT_URL_S3=", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=", "AWS_USE_DUALSTACK_ENDPOINT=", "AWS_USE_FIPS_ENDPOINT=",
		"AWS_ROLE_ARN=", "AWS_WEB_IDENTITY_TOKEN_FILE=", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=", "AWS_CONTAINER_CREDENTIALS_FULL_URI=",
		"AWS_MAX_ATTEMPTS=", "AWS_RETRY_MODE=", "AWS_REQUEST_CHECKSUM_CALCULATION=", "AWS_RESPONSE_CHECKSUM_VALIDATION=",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
		"BOTO_CONFIG=/dev/null",
		"HTTP_PROXY=", "http_proxy=", "HTTPS_PROXY=", "https_proxy=", "ALL_PROXY=", "all_proxy=",
	}
}

// freePort returns a port of the loopback device that is free, below those that
// the kernel gives to connections, so that a server that is restarted finds its
// port free again.
func freePort(t testing.TB) int {
	t.Helper()
	const first, count, attempts = 10000, 20000, 100
	for range attempts {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		port := first + (int(b[0])<<8|int(b[1]))%count
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

// random is a short name that nothing else has, for buckets too.
func random() string { return strings.ToLower(rand.Text()[:12]) }

// soon bounds what a helper waits for a server on the same machine.
func soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}
