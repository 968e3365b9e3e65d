package s3

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestOutage: a server that does not answer is named once, at once if it never
// has answered, and so is its coming back.
func TestOutage(t *testing.T) {
	var log bytes.Buffer
	l := slog.New(slog.NewTextHandler(&log, nil))
	var o outage
	begin := time.Unix(1000, 0)
	fail := func(after time.Duration) {
		o.failed(l, begin.Add(after), func() error { return errors.New("listing s3://b: connection refused") })
	}
	said := func(when, text string, times int) {
		t.Helper()
		if got := strings.Count(log.String(), text); got != times {
			t.Errorf("%s: %q was said %d times, want %d: %s", when, text, got, times, &log)
		}
		log.Reset()
	}
	fail(0)
	fail(time.Minute)
	said("first", "connection refused; trying again", 1)
	o.over(l, "http://s3")
	said("back", "http://s3 answers again", 1)
	fail(2 * time.Minute)
	said("a hiccup", "trying again", 0)
	o.over(l, "http://s3")
	said("after a hiccup", "answers", 0)
	fail(3 * time.Minute)
	fail(3*time.Minute + patience)
	fail(3*time.Minute + 2*patience)
	said("an outage", "trying again", 1)
}

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
