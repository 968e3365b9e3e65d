package stream

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// Append makes what a Writer writes, in one go or with the data put in later.
func TestAppend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.Uint32Range(1, lastVersion).Draw(t, "version")
		first := drawCommand(t, version, Subvol)
		k := Kind(rapid.IntRange(int(MkFile), int(kindLast)).Draw(t, "kind"))
		if k.since() > version {
			k = Write
		}
		c := drawCommand(t, version, k)
		var want bytes.Buffer
		w := NewWriter(&want, version)
		for _, c := range []*Command{first, c} {
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		head, err := Append(AppendHeader(nil, version), version, first)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Append(head, version, c)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("Append makes %x (%v), a Writer %x", got, err, want.Bytes())
		}
		if k != Write && k != EncodedWrite {
			return
		}
		data := c.Data
		c.Data = nil
		later, err := AppendUnsealed(bytes.Clone(head), version, c, len(data))
		if err != nil {
			t.Fatal(err)
		}
		copy(later[len(later)-len(data):], data)
		Seal(later[len(head):])
		if !bytes.Equal(later, want.Bytes()) {
			t.Fatalf("with the data put in later %x, a Writer makes %x", later, want.Bytes())
		}
	})
}

// What does not fit is refused, and what was there stays as it was.
func TestAppendRefuses(t *testing.T) {
	dst := []byte("before")
	for name, c := range map[string]struct {
		version uint32
		c       Command
		size    int
		want    error
	}{
		"no kind":          {1, Command{}, 0, ErrMalformed},
		"unknown kind":     {2, Command{Kind: kindLast + 1}, 0, ErrMalformed},
		"data in v1":       {1, Command{Kind: Write, Path: []byte("a")}, 1 << 16, ErrTooLong},
		"data in v2":       {2, Command{Kind: Write, Path: []byte("a")}, maxCommand, ErrTooLong},
		"path":             {2, Command{Kind: MkFile, Path: make([]byte, 1<<16)}, 0, ErrTooLong},
		"attribute's name": {2, Command{Kind: SetXattr, Path: []byte("a"), XattrName: make([]byte, 1<<16)}, 0, ErrTooLong},
	} {
		got, err := AppendUnsealed(dst, c.version, &c.c, c.size)
		if !errors.Is(err, c.want) || string(got) != "before" {
			t.Errorf("%s: %q, %v, want %v", name, got, err, c.want)
		}
	}
}
