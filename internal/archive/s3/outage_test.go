package s3

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestOutageIsSaid: requests tell of it while they are made again.
func TestOutageIsSaid(t *testing.T) {
	var log bytes.Buffer
	b, err := Open(t.Context(), Options{
		Bucket: "b", Endpoint: "http://127.0.0.1:1", Log: slog.New(slog.NewTextHandler(&log, nil)),
		Getenv: func(name string) string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "2"}[name]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Stat(t.Context(), "x"); err == nil {
		t.Fatal("there is a server")
	}
	if got := strings.Count(log.String(), "connection refused; trying again"); got != 1 {
		t.Errorf("said %d times: %s", got, &log)
	}
}
