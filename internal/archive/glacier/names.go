package glacier

import (
	"errors"
	"fmt"
	"strings"
)

// The descriptions of archives that are objects of ours: the key, with everything
// but printable ASCII, and blanks and % too, as %XX. A vault has no archives of no
// bytes, so those have one, and say so.
const (
	ours      = "buttersink 1 "
	oursEmpty = "buttersink 1 (empty) "
)

// describe is the description of the archive that is an object.
func describe(key string, empty bool) string {
	if empty {
		return oursEmpty + escape(key)
	}
	return ours + escape(key)
}

// parseDescription finds the key in a description; ok is false if it is not one of
// ours.
func parseDescription(text string) (key string, empty, ok bool) {
	rest, empty := strings.CutPrefix(text, oursEmpty)
	if !empty {
		if rest, ok = strings.CutPrefix(text, ours); !ok {
			return "", false, false
		}
	}
	key, ok = unescape(rest)
	return key, empty, ok && key != ""
}

func plain(c byte) bool { return c > 0x20 && c < 0x7f && c != '%' }

func escape(key string) string {
	var out strings.Builder
	for i := range len(key) {
		if plain(key[i]) {
			out.WriteByte(key[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", key[i])
		}
	}
	return out.String()
}

// unescape undoes escape, and nothing that escape would not have made.
func unescape(text string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '%' {
			var b byte
			if i+3 > len(text) {
				return "", false
			}
			for _, d := range []byte(text[i+1 : i+3]) {
				digit := strings.IndexByte("0123456789ABCDEF", d)
				if digit < 0 {
					return "", false
				}
				b = b<<4 | byte(digit)
			}
			if plain(b) {
				return "", false
			}
			c, i = b, i+2
		} else if !plain(c) {
			return "", false
		}
		out.WriteByte(c)
	}
	return out.String(), true
}

// checkKey says why there can be no object with a key.
func checkKey(key string) error {
	if key == "" {
		return errors.New("it is empty")
	}
	if n := len(oursEmpty) + len(escape(key)); n > maxDescription {
		return fmt.Errorf("the description of its archive would have %d characters, and vaults take %d", n, maxDescription)
	}
	return nil
}
