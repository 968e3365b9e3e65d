package place

import (
	"regexp"
	"strings"
)

// secret matches the password in a URL, secretOption the value of an option of
// one that has no business there, and secretKey a secret key of age.
var (
	secret       = regexp.MustCompile(`(://[^/\s:@\[]*):(?:[^/\s]+|[0-9]*[^0-9/\s@][^\s@]*)@`) // but host:22/a@b
	secretOption = regexp.MustCompile(`(?i)([?&][^=&\s]*(?:secret|passw|token)[^=&\s]*)=[^&\s]+`)
	secretKey    = regexp.MustCompile(`(?i)(AGE-SECRET-KEY-[A-Z0-9-]*1)[A-Z0-9]+`)
)

// Redact hides secrets that somebody has put where they are shown: in any text, the
// passwords and secret options of URLs, and secret keys of age.
func Redact(s string) string {
	if strings.Contains(s, "://") {
		s = secret.ReplaceAllString(s, "$1:***@")
		s = secretOption.ReplaceAllString(s, "$1=***")
	}
	if strings.Contains(strings.ToUpper(s), "AGE-SECRET-KEY-") {
		s = secretKey.ReplaceAllString(s, "$1***")
	}
	return s
}
