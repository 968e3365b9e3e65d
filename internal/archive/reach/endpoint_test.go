package reach

import (
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/pace"
)

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"https://s3.example.org/":   "https://s3.example.org",
		"s3.example.org:9000":       "https://s3.example.org:9000",
		"http://h:1/tenant/":        "http://h:1/tenant",
		"ftp://h":                   "",
		"http://":                   "",
		"http://user:secret@h":      "",
		"http://h/?x=secret":        "",
		"http://h:secret":           "",
		"https://[::1]:9000":        "https://[::1]:9000",
		"http://h/#secret-fragment": "",
	} {
		got, err := ParseEndpoint("S3", text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseEndpoint(%q) = %q, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells what may be a password: %v", err)
		}
	}
}

// TestStallOfSlowLimit checks that waiting for one's turn is not taken for a stall.
func TestStallOfSlowLimit(t *testing.T) {
	for _, c := range []struct {
		rate int64
		want time.Duration
	}{
		{0, 0},
		{4 << 20, time.Second},
		{4 << 10, 1024 * time.Second},
	} {
		if got := TurnAfter(pace.New(c.rate)); got != c.want {
			t.Errorf("at %d bytes a second: %s, want %s", c.rate, got, c.want)
		}
	}
}
