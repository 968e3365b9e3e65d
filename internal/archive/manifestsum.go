package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// The last field of a manifest is the CRC-32C of its text, so that a bit that has
// fallen over anywhere in it shows: in a name or a time too, which nothing else
// proves. White space between the words of the text does not count, and zeros
// stand for the digits of the checksum itself.
const (
	sumField = `"crc32c":"`
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
	with := func(sum string) []byte { return fmt.Appendf(nil, "%s,\n  %s %q\n}\n", body, `"crc32c":`, sum) }
	_, sum, err := textSum(with(noSum))
	if err != nil {
		return text
	}
	return with(sum)
}

// checkSum compares the checksum of a text with what is in it; errNoSum if it has
// none.
func checkSum(text []byte) error {
	claimed, sum, err := textSum(text)
	if err == nil && claimed != sum {
		err = errors.New("its checksum is wrong: it is not as it was written")
	}
	return err
}

// textSum returns the checksum that a text claims to have, and the one it has.
func textSum(text []byte) (claimed, sum string, err error) {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return "", "", err
	}
	words := b.Bytes()
	at := bytes.LastIndex(words, []byte(sumField)) + len(sumField)
	if at < len(sumField) || at+len(noSum) > len(words) {
		return "", "", errNoSum
	}
	claimed = string(words[at : at+len(noSum)])
	copy(words[at:], noSum)
	return claimed, fmt.Sprintf("%08x", crc32.Checksum(words, crc32.MakeTable(crc32.Castagnoli))), nil
}
