package stream

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// DumpJSON prints the stream's commands, END included, as JSON, one object on
// each line. The keys are, in this order, "command" (its number), "offset" and
// "bytes" (its place and length in the stream), "kind", and the names of the
// attributes that the command carries (see [Attr.String]):
//
//   - numbers are decimal, and may exceed 2^53;
//   - times are {"sec":…,"nsec":…}; UUIDs have their usual text;
//   - texts and extended attributes are strings; one that is not UTF-8 has its
//     bytes in base64 instead, and "_base64" added to its key;
//   - of file data there is only "data_len".
//
// What was good before an error is printed.
func DumpJSON(w io.Writer, r *Reader) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	for {
		c, err := r.Next()
		if err != nil {
			return finishDump(out, err)
		}
		line = append(appendJSON(line[:0], c), '\n')
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("writing the dump: %w", err)
		}
	}
}

// appendJSON appends the object of one command.
func appendJSON(b []byte, c *Command) []byte {
	b = fmt.Appendf(b, `{"command":%d,"offset":%d,"bytes":%d,"kind":"%s"`,
		c.Number, c.Offset, len(c.Frame), c.Kind)
	for _, a := range kinds[c.Kind].attrs {
		if !c.Has(a) {
			continue
		}
		b = append(append(b, `,"`...), a.String()...)
		switch v := c.field(a).(type) {
		case *[]byte:
			b = appendJSONBytes(b, a, *v)
		case *uint64:
			b = strconv.AppendUint(append(b, `":`...), *v, 10)
		case *uint32:
			b = strconv.AppendUint(append(b, `":`...), uint64(*v), 10)
		case *uint8:
			b = strconv.AppendUint(append(b, `":`...), uint64(*v), 10)
		case *Time:
			b = fmt.Appendf(b, `":{"sec":%d,"nsec":%d}`, v.Sec, v.Nsec)
		case *UUID:
			b = append(append(append(b, `":"`...), uuidText(*v)...), '"')
		}
	}
	return append(b, '}')
}

// appendJSONBytes appends a value behind its key, whose quotation mark is
// still open.
func appendJSONBytes(b []byte, a Attr, v []byte) []byte {
	switch {
	case a == AttrData:
		return strconv.AppendInt(append(b, `_len":`...), int64(len(v)), 10)
	case !utf8.Valid(v):
		b = base64.StdEncoding.AppendEncode(append(b, `_base64":"`...), v)
		return append(b, '"')
	}
	text, _ := json.Marshal(string(v)) // of a string cannot fail
	return append(append(b, `":`...), text...)
}
