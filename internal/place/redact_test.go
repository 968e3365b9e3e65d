package place

import (
	"fmt"
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/plain", "/plain"},
		{"ssh://user@host/dir", "ssh://user@host/dir"},
		{"s3://key:secret@host/b and ssh://u:p@h/", "s3://key:***@host/b and ssh://u:***@h/"},
		{"ssh://host:22/dir/a@b", "ssh://host:22/dir/a@b"},
		{"ssh://u:pa/ss@host/dir", "ssh://u:***@host/dir"},
		{"ssh://u:22pa/ss@host/dir", "ssh://u:***@host/dir"},
		{"ssh://u:p@s:s@host/dir", "ssh://u:***@host/dir"},
		{"ssh://[fe80::1]/dir/a@b", "ssh://[fe80::1]/dir/a@b"},
		{"ssh://u@[fe80::1]:22/dir/a@b", "ssh://u@[fe80::1]:22/dir/a@b"},
	} {
		if got := Redact(c.in); got != c.want {
			t.Errorf("Redact(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestSecretsAreHidden(t *testing.T) {
	for text, hidden := range map[string]string{
		"s3://b/?secret-key=abcdef&region=r": "abcdef",
		"s3://b/?password=abcdef":            "abcdef",
		"key AGE-SECRET-KEY-1ABCDEF in":      "ABCDEF",
		"http://me:abcdef@host/":             "abcdef",
	} {
		if got := Redact(text); strings.Contains(got, hidden) || got == text {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
	for _, text := range []string{"s3://b/p/?region=r&sse=aws:kms", "a/secret/path", fmt.Sprint("x = ", 3)} {
		if got := Redact(text); got != text {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
}
