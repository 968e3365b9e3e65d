package cli

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain name", "plain name"},
		{`back\slash`, `back\slash`},
		{"naïve 日本 🙂", "naïve 日本 🙂"},
		{"line\nend", `line\nend`},
		{"line\nend\\", `line\nend\\`},
		{"\x1b]0;title\a", `\x1b]0;title\a`},
		{"\x1b[2J", `\x1b[2J`},
		{"\u009b2J", `\u009b2J`}, // the same in one character
		{"a\u202eb", `a\u202eb`}, // turns the direction of writing
		{"\xff\xfe", `\xff\xfe`},
		{"cut \xe6\x97", `cut \xe6\x97`},
		{"\x00\x7f\r\t", `\x00\x7f\r\t`},
	} {
		if got := printable(c.in); got != c.want {
			t.Errorf("printable(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestPrintableIsHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		got := printable(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || !strconv.IsPrint(r) {
				t.Fatalf("%q holds %q", got, r)
			}
		}
		if got != s { // nothing is lost
			back, err := strconv.Unquote(`"` + strings.ReplaceAll(got, `"`, `\"`) + `"`)
			if err != nil || back != s {
				t.Fatalf("%q reads back as %q, not %q: %v", got, back, s, err)
			}
		}
	})
}
