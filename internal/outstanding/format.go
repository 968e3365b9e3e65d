package outstanding

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// Format writes the file as btrfs-backup does, entries of unknown names included.
func (t *Transfers) Format() []byte {
	if len(t.order) == 0 {
		return []byte("{}")
	}
	text := []byte("{")
	for i, name := range t.order {
		text = next(text, i, 1)
		text = quote(text, name)
		text = append(text, ": {"...)
		n := 0
		for _, k := range kinds {
			ids := t.entries[name][k]
			if len(ids) == 0 {
				continue
			}
			text = next(text, n, 2)
			n++
			text = quote(text, string(k))
			text = append(text, ": ["...)
			for j, id := range ids {
				text = next(text, j, 3)
				text = quote(text, id)
			}
			text = append(newline(text, 2), ']')
		}
		text = append(newline(text, 1), '}')
	}
	return append(newline(text, 0), '}')
}

// next begins the line of the nth thing of several.
func next(text []byte, n, depth int) []byte {
	if n > 0 {
		text = append(text, ',')
	}
	return newline(text, depth)
}

func newline(text []byte, depth int) []byte {
	text = append(text, '\n')
	for range depth {
		text = append(text, "    "...)
	}
	return text
}

// short are the escapes that have a letter.
var short = map[rune]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

// quote writes a string in ASCII, as Python's json.dumps does.
func quote(text []byte, s string) []byte {
	text = append(text, '"')
	for len(s) > 0 {
		c, size := utf8.DecodeRuneInString(s)
		letter, escaped := short[c]
		switch {
		case c == utf8.RuneError && size == 1:
			text = fmt.Appendf(text, `\udc%02x`, s[0])
		case escaped:
			text = append(text, '\\', letter)
		case c >= ' ' && c <= '~':
			text = append(text, byte(c))
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			text = fmt.Appendf(text, `\u%04x\u%04x`, high, low)
		default:
			text = fmt.Appendf(text, `\u%04x`, c)
		}
		s = s[size:]
	}
	return append(text, '"')
}
