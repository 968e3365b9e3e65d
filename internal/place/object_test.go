package place

import (
	"strings"
	"testing"
)

// TestSplitQuery: options are cut off where the scheme has any, and what has none keeps
// its question marks.
func TestSplitQuery(t *testing.T) {
	for _, tt := range []struct{ scheme, text, before, query string }{
		{"s3", "b/p/?sse=none&region=r", "b/p/", "?sse=none&region=r"},
		{"s3", "s3://b/p/?sse=none", "s3://b/p/", "?sse=none"},
		{"s3", "b/what?/", "b/what?/", ""},
		{"glacier", "v/?region=r", "v/", "?region=r"},
		{"dir", "/a?sse=none", "/a?sse=none", ""},
		{"ssh", "h/a?region=r", "h/a?region=r", ""},
		{"", "a?region=r", "a?region=r", ""},
	} {
		before, query, err := SplitQuery(tt.scheme, tt.text)
		if before != tt.before || query != tt.query || err != nil {
			t.Errorf("%s %q: %q, %q, %v", tt.scheme, tt.text, before, query, err)
		}
	}
	if _, _, err := SplitQuery("glacier", "v/?sse=none"); err == nil || !strings.Contains(err.Error(), `no option "sse"`) {
		t.Errorf("an option of another scheme: %v", err)
	}
}
