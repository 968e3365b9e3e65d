package archive

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
)

// The last field of a manifest is the CRC-32C of its text, so that a bit that has
// fallen over anywhere in it shows: in a name or a time too, which nothing else
// proves. It is taken with zeros in the place of its own digits.
const (
	sumField = `"crc32c": "`
	noSum    = "00000000"
)

// errNoSum says that a manifest has no checksum.
var errNoSum = errors.New("it has no checksum")

// addSum puts the checksum into the text of a manifest, an indented object.
func addSum(text []byte) []byte {
	body, ok := bytes.CutSuffix(text, []byte("\n}\n"))
	if !ok {
		return text
	}
	text = fmt.Appendf(nil, "%s,\n  %s%s\"\n}\n", body, sumField, noSum)
	at := len(text) - len(noSum) - len("\"\n}\n")
	copy(text[at:], fmt.Appendf(nil, "%08x", sumOf(text)))
	return text
}

// checkSum compares the checksum of a text with what is in it; errNoSum if it has
// none.
func checkSum(text []byte) error {
	at := bytes.LastIndex(text, []byte(sumField))
	if at < 0 || at+len(sumField)+len(noSum) > len(text) {
		return errNoSum
	}
	digits := text[at+len(sumField):][:len(noSum)]
	zeroed := bytes.Clone(text)
	copy(zeroed[at+len(sumField):], noSum)
	if string(digits) != fmt.Sprintf("%08x", sumOf(zeroed)) {
		return errors.New("its checksum is wrong: it is not as it was written")
	}
	return nil
}

func sumOf(text []byte) uint32 { return crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) }
