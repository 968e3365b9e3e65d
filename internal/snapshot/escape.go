package snapshot

import (
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789ABCDEF"

// EscapePath writes a path as text that is valid UTF-8 and has no control
// characters: bytes that are no part of valid UTF-8, control characters, and a '%'
// that two upper-case hexadecimal digits follow, become %XX.
func EscapePath(p string) string {
	var b strings.Builder
	kept := 0 // up to here it has been written
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRuneInString(p[i:])
		if r == utf8.RuneError && n == 1 || r < 0x20 || r == 0x7f || r == '%' && twoDigits(p[i+1:]) {
			b.WriteString(p[kept:i])
			b.Write([]byte{'%', hexDigits[p[i]>>4], hexDigits[p[i]&15]})
			kept = i + 1
		}
		i += n
	}
	if kept == 0 {
		return p
	}
	b.WriteString(p[kept:])
	return b.String()
}

// UnescapePath reads what EscapePath has written. What that would not have
// written stays as it is: ButterSink does not escape, and may have meant it so.
func UnescapePath(key string) string {
	if strings.IndexByte(key, '%') < 0 {
		return key
	}
	plain := make([]byte, 0, len(key))
	var from []int // where in key each byte comes from, if it was escaped; else -1
	for i := 0; i < len(key); i++ {
		if key[i] == '%' && twoDigits(key[i+1:]) {
			c := byte(strings.IndexByte(hexDigits, key[i+1])<<4 | strings.IndexByte(hexDigits, key[i+2]))
			if c < 0x20 || c >= 0x7f || c == '%' {
				plain, from = append(plain, c), append(from, i)
				i += 2
				continue
			}
		}
		plain, from = append(plain, key[i]), append(from, -1)
	}
	var b strings.Builder
	for i := 0; i < len(plain); {
		r, n := utf8.DecodeRune(plain[i:])
		for j := i; j < i+n; j++ {
			if k := from[j]; k >= 0 && r >= 0x80 && n > 1 {
				b.WriteString(key[k : k+3]) // valid text is not escaped
			} else {
				b.WriteByte(plain[j])
			}
		}
		i += n
	}
	return b.String()
}

// twoDigits reports whether s begins with two upper-case hexadecimal digits.
func twoDigits(s string) bool {
	return len(s) >= 2 && strings.IndexByte(hexDigits, s[0]) >= 0 && strings.IndexByte(hexDigits, s[1]) >= 0
}
