package s3

import (
	"errors"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

// TestColdObjects has a server that answers as AWS does for what is in an archive
// class, which the one here has not.
func TestColdObjects(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint})
	server.Put(t, b.o.Bucket, "k", []byte("content"))
	storm.FailShare(1, 403, "InvalidObjectState", "GetObject", "CopyObject")
	_, get := b.Get(t.Context(), "k", 0, 1)
	for name, err := range map[string]error{"Get": get, "Copy": b.Copy(t.Context(), "k", "l")} {
		cold, ok := errors.AsType[*archive.ColdError](err)
		if !ok || cold.Key != "k" || contract.Temporary(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if o, err := b.Stat(t.Context(), "k"); err != nil || o.Size != 7 {
		t.Errorf("Stat: %+v, %v", o, err)
	}
}

func TestAttemptsAreThoseOfTheEnvironment(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	storm.FailShare(1, 503, "SlowDown")
	b, err := Open(t.Context(), Options{
		Bucket: server.Bucket(t), Getenv: environment(append([]string{"AWS_MAX_ATTEMPTS=1"}, server.EnvAt(storm.Endpoint)...)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Put(t.Context(), "k", nil, false); !contract.Temporary(err) {
		t.Errorf("the error is %v", err)
	}
	if n := storm.Count(); n != 1 {
		t.Errorf("%d attempts were made", n)
	}
}
