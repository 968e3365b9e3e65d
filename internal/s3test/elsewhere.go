package s3test

import (
	"net/url"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ElsewhereEnv names a server that runs already, for a second opinion on the
// contract of buckets: "http://ACCESS:SECRET@127.0.0.1:9000". Buckets called
// test-... are made there and left.
const ElsewhereEnv = "BUTTERSINK_TEST_S3"

// Elsewhere returns the server that the environment names, and false if it names
// none. It can neither be killed nor given users.
func Elsewhere(t testing.TB) (*Server, bool) {
	t.Helper()
	text := os.Getenv(ElsewhereEnv)
	if text == "" {
		return nil, false
	}
	u, err := url.Parse(text)
	if err != nil || u.User == nil || u.Host == "" {
		t.Fatalf("%s is not http://ACCESS:SECRET@HOST:PORT", ElsewhereEnv)
	}
	s := &Server{Access: u.User.Username(), t: t, policies: map[string][]statement{}}
	s.Secret, _ = u.User.Password()
	u.User = nil
	s.Endpoint = u.String()
	s.client = s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint), Region: Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.Access, s.Secret, ""),
	})
	return s, true
}
