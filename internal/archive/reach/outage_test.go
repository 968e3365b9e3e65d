package reach

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
	var o Outage
	begin := time.Unix(1000, 0)
	fail := func(after time.Duration) {
		o.Failed(l, begin.Add(after), func() error { return errors.New("listing s3://b: connection refused") })
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
	o.Over(l, "http://s3")
	said("back", "http://s3 answers again", 1)
	fail(2 * time.Minute)
	said("a hiccup", "trying again", 0)
	o.Over(l, "http://s3")
	said("after a hiccup", "answers", 0)
	fail(3 * time.Minute)
	fail(3*time.Minute + Patience)
	fail(3*time.Minute + 2*Patience)
	said("an outage", "trying again", 1)
}
