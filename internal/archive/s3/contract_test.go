package s3

import (
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/buckettest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// TestContract holds the bucket to what every bucket promises, on a real server.
func TestContract(t *testing.T) {
	server := s3test.Start(t)
	buckettest.Run(t, harness(server, server.Env()))
}

// TestContractOverTLS does so for what is done otherwise there: all that sends
// bodies.
func TestContractOverTLS(t *testing.T) {
	server := s3test.Start(t)
	h := harness(server, overTLS(t, server))
	for _, c := range buckettest.Cases() {
		if kind, _, _ := strings.Cut(c.Name, "/"); kind == "upload" || kind == "put" {
			t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
		}
	}
}

// TestContractElsewhere does so on another kind of server, for who names one.
func TestContractElsewhere(t *testing.T) {
	server, ok := s3test.Elsewhere(t)
	if !ok {
		t.Logf("%s names no other server", s3test.ElsewhereEnv)
		return
	}
	buckettest.Run(t, harness(server, server.Env()))
}

func harness(server *s3test.Server, env []string) buckettest.Harness {
	return buckettest.Harness{
		New: func(t testing.TB) archive.Bucket {
			return open(t, server, Options{Getenv: environment(env)})
		},
		Again: func(t testing.TB, b archive.Bucket) archive.Bucket {
			return open(t, server, Options{Getenv: environment(env), Bucket: b.(*Bucket).o.Bucket})
		},
	}
}

// overTLS is an environment in which a server is asked by https.
func overTLS(t *testing.T, server *s3test.Server) []string {
	t.Helper()
	storm := server.StormTLS(t)
	return append([]string{"AWS_CA_BUNDLE=" + storm.CA}, server.EnvAt(storm.Endpoint)...)
}
