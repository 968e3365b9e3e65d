package stream

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// seed adds the corpus, and what it lacks. The first byte of an input tells
// whether its commands' checksums are made good, so that the fuzzer gets past
// them.
func seed(f *testing.F) {
	add := func(data []byte) { f.Add(append([]byte{1}, data...)) }
	for _, data := range corpus(f) {
		if len(data) < 16<<10 {
			add(data)
		}
	}
	add(around(3, raw(EnableVerity, text(AttrPath, "a"), attr(AttrVerityAlgorithm, 1),
		attr(AttrVerityBlockSize, 0, 16, 0, 0), attr(AttrVeritySalt, 1), attr(AttrVeritySig, 2))))
	add(around(2, raw(EncodedWrite, text(AttrPath, "f"), num(AttrFileOffset, 0), num(AttrUnencodedFileLen, 2), num(AttrUnencodedLen, 3),
		num(AttrUnencodedOffset, 1), attr(AttrCompression, 2, 0, 0, 0), []byte{byte(AttrData), 0, 'x', 'y'})))
	add([]byte(magic))
}

// mended takes the first byte off the input and, if it is odd, makes all
// checksums of the rest good.
func mended(in []byte) []byte {
	if len(in) == 0 {
		return nil
	}
	data := bytes.Clone(in[1:])
	if in[0]&1 == 0 {
		return data
	}
	for at := headerSize; at+headSize <= len(data); {
		n := headSize + int(binary.LittleEndian.Uint32(data[at:]))
		if n > len(data)-at {
			break
		}
		putChecksum(data[at : at+n])
		at += n
	}
	return data
}

func FuzzReader(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		data := mended(in)
		r := NewReader(bytes.NewReader(data))
		id, idErr := r.Identity()
		var end int64
		var err error
		for err == nil {
			var c *Command
			if c, err = r.Next(); err == nil {
				if c.Number == 1 && (idErr != nil || id != identityOf(c)) {
					t.Fatalf("identity %+v, %v of %+v", id, idErr, c)
				}
				if end = c.Offset + int64(len(c.Frame)); !bytes.Equal(data[c.Offset:end], c.Frame) {
					t.Fatalf("command %d is not at %d", c.Number, c.Offset)
				}
			}
		}
		if _, again := r.Next(); again != err {
			t.Fatalf("first %v, then %v", err, again)
		}
		e, bad := errors.AsType[*Error](err)
		if !bad && err != io.EOF || !bad && end != int64(len(data)) {
			t.Fatalf("%v after %d of %d bytes", err, end, len(data))
		}
		runs, stats, runErr := readRuns(bytes.NewReader(data))
		if !bytes.Equal(runs, data[:end]) || stats != r.Stats() || (runErr == nil) != (err == io.EOF) {
			t.Fatalf("one by one %v, %+v; in runs %v, %+v", err, r.Stats(), runErr, stats)
		}
		if bad && runErr.Error() != e.Error() {
			t.Fatalf("one by one %v, in runs %v", e, runErr)
		}
		_, _, _ = Verify(bytes.NewReader(data))
		_, _ = MeasureMetadata(NewReader(bytes.NewReader(data)))
	})
}

func FuzzRoundTrip(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		data := mended(in)
		var once, twice bytes.Buffer
		n, err := copyStream(t, &once, data)
		if err != nil {
			return
		}
		// Foreign attributes may stand in another order, but never differ in
		// what they say or how long they are.
		if m, err := copyStream(t, &twice, once.Bytes()); err != nil || m != n || once.Len() != len(data) {
			t.Fatalf("%d commands, %d bytes; then %d, %d: %v", n, len(data), m, once.Len(), err)
		}
		if !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Fatal("the second writing differs from the first")
		}
	})
}

// copyStream writes a stream again.
func copyStream(t *testing.T, w io.Writer, data []byte) (int64, error) {
	r := NewReader(bytes.NewReader(data))
	var out *Writer
	for {
		c, err := r.Next()
		if err == io.EOF {
			return r.Stats().Commands, out.Close()
		}
		if err != nil {
			return 0, err
		}
		if out == nil {
			out = NewWriter(w, r.Version())
		}
		if err := out.Write(c); err != nil {
			t.Fatalf("command %d was read but is refused: %v", c.Number, err)
		}
	}
}

func FuzzRewriteHead(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		data := mended(in)
		want := Identity{UUID: UUID{1, 2}, Transid: 3, Parent: UUID{4, 5}, ParentTransid: 6}
		before, _, verdict := Verify(bytes.NewReader(data))
		r, err := RewriteHead(bytes.NewReader(data), want)
		if err != nil {
			if before.Commands > 0 {
				t.Fatalf("%v, but the first command is good", err)
			}
			return
		}
		got, err := io.ReadAll(r)
		if err != nil || len(got) != len(data) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
		}
		after, id, again := Verify(bytes.NewReader(got))
		if after != before || (verdict == nil) != (again == nil) {
			t.Fatalf("before %+v, %v; after %+v, %v", before, verdict, after, again)
		}
		if id.UUID != want.UUID || id.Transid != 3 || id.HasParent && (id.Parent != want.Parent || id.ParentTransid != 6) {
			t.Fatalf("%+v", id)
		}
	})
}

func FuzzDump(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		data := mended(in)
		stats, _, verdict := Verify(bytes.NewReader(data))
		var lines, objects bytes.Buffer
		err := Dump(&lines, NewReader(bytes.NewReader(data)))
		errJSON := DumpJSON(&objects, NewReader(bytes.NewReader(data)))
		if (err == nil) != (verdict == nil) || (errJSON == nil) != (verdict == nil) {
			t.Fatalf("verdict %v, dump %v, %v", verdict, err, errJSON)
		}
		want := stats.Commands
		if n := int64(bytes.Count(objects.Bytes(), []byte("\n"))); n != want {
			t.Fatalf("%d objects of %d commands", n, want)
		}
		for _, line := range bytes.Split(bytes.TrimSpace(objects.Bytes()), []byte("\n")) {
			if len(line) > 0 && !json.Valid(line) {
				t.Fatalf("not JSON: %s", line)
			}
		}
		if verdict == nil {
			want--
		}
		if n := int64(bytes.Count(lines.Bytes(), []byte("\n"))); n != want && n != want-1 {
			t.Fatalf("%d lines of %d commands", n, want)
		}
		for _, c := range lines.Bytes() {
			if c != '\n' && (c < ' ' || c > '~') {
				t.Fatalf("a dump with the byte %#x", c)
			}
		}
	})
}
