package cli

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable returns s in a form that does nothing to a terminal: control
// characters, line ends, bytes that are not UTF-8, and characters that change
// the direction or the look of their neighbours are shown as Go escapes them. A
// text that holds none of these comes back as it is; in any other, backslashes
// are doubled, so that nothing can pretend to be an escape.
func printable(s string) string {
	clean := true
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				clean = false
				break
			}
		}
		if !strconv.IsPrint(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			const hex = "0123456789abcdef"
			b.WriteString(`\x`)
			b.WriteByte(hex[s[i]>>4])
			b.WriteByte(hex[s[i]&15])
		case r == '\\':
			b.WriteString(`\\`)
		case strconv.IsPrint(r):
			b.WriteString(s[i : i+n])
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// secret matches the password in a URL, secretOption the value of an option of
// one that has no business there, and secretKey a secret key of age.
var (
	secret       = regexp.MustCompile(`(://[^/\s:@\[]*):(?:[^/\s]+|[0-9]*[^0-9/\s@][^\s@]*)@`) // but host:22/a@b
	secretOption = regexp.MustCompile(`(?i)([?&][^=&\s]*(?:secret|passw|token)[^=&\s]*)=[^&\s]+`)
	secretKey    = regexp.MustCompile(`(?i)(AGE-SECRET-KEY-[A-Z0-9-]*1)[A-Z0-9]+`)
)

// redact hides secrets that somebody has put where they are shown.
func redact(s string) string {
	if strings.Contains(s, "://") {
		s = secret.ReplaceAllString(s, "$1:***@")
		s = secretOption.ReplaceAllString(s, "$1=***")
	}
	if strings.Contains(strings.ToUpper(s), "AGE-SECRET-KEY-") {
		s = secretKey.ReplaceAllString(s, "$1***")
	}
	return s
}
