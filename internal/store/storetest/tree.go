package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"

	"github.com/buttersink/buttersink/internal/stream"
)

// tree is the content of a snapshot: files by their names, in one directory.
type tree map[string][]byte

// chunk is the most data that one Write command carries.
const chunk = 48 << 10

// treeOf makes up the content of a state. File k changes with every k+1st
// generation, so neighbours share most of their files; the last file is there
// in some generations only. With bulk there is one more.
func treeOf(family string, generation uint64, bulk int) tree {
	t := tree{}
	for k, size := range []int{0, 100, 3000, 70_000, 20} {
		version := generation / uint64(k+1)
		if k == 4 && version%2 == 1 {
			continue
		}
		t[fmt.Sprintf("file %d of %s", k, family)] = noise(size+int(version%7), family, k, version)
	}
	if bulk > 0 {
		t["bulk"] = noise(bulk, family, -1, generation)
	}
	return t
}

// noise returns n bytes that depend on nothing but the arguments.
func noise(n int, family string, file int, version uint64) []byte {
	seed := sha256.Sum256(fmt.Appendf(nil, "%q %d %d", family, file, version))
	b := make([]byte, n)
	rand.NewChaCha8(seed).Read(b)
	return b
}

func (t tree) digest() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(t)) {
		binary.Write(h, binary.BigEndian, [2]int64{int64(len(name)), int64(len(t[name]))})
		io.WriteString(h, name)
		h.Write(t[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// encode writes the stream that makes to, out of from unless that is nil. The
// same arguments give the same bytes.
func encode(to, from *held) ([]byte, error) {
	var out bytes.Buffer
	w := stream.NewWriter(&out, 1)
	var errs error
	put := func(c stream.Command) { errs = errors.Join(errs, w.Write(&c)) }

	first := stream.Command{Kind: stream.Subvol, Path: []byte(path.Base(to.Path)), UUID: to.ID, Transid: to.Transid}
	var before tree
	if from != nil {
		before = from.tree
		first.Kind, first.CloneUUID, first.CloneTransid = stream.Snapshot, from.ID, from.Transid
	}
	put(first)
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := to.tree[name]; !ok {
			put(stream.Command{Kind: stream.Unlink, Path: []byte(name)})
		}
	}
	for i, name := range slices.Sorted(maps.Keys(to.tree)) {
		data := to.tree[name]
		if old, ok := before[name]; !ok {
			put(stream.Command{Kind: stream.MkFile, Path: []byte(name), Ino: 257 + uint64(i)})
		} else if bytes.Equal(old, data) {
			continue
		}
		offset := uint64(0)
		for part := range slices.Chunk(data, chunk) {
			put(stream.Command{Kind: stream.Write, Path: []byte(name), FileOffset: offset, Data: part})
			offset += uint64(len(part))
		}
		put(stream.Command{Kind: stream.Truncate, Path: []byte(name), Size: offset})
	}
	put(stream.Command{Kind: stream.End})
	if err := errors.Join(errs, w.Close()); err != nil {
		return nil, fmt.Errorf("making a stream: %w", err)
	}
	return out.Bytes(), nil
}

// decode carries out a stream on t, and returns what the stream says it is.
func (t tree) decode(raw []byte) (stream.Identity, error) {
	r := stream.NewReader(bytes.NewReader(raw))
	id, err := r.Identity()
	if err != nil {
		return id, err
	}
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return id, nil
		}
		if err != nil {
			return id, err
		}
		if err := t.apply(c); err != nil {
			return id, fmt.Errorf("carrying out command %d, %s %q: %w", c.Number, c.Kind, c.Path, err)
		}
	}
}

func (t tree) apply(c *stream.Command) error {
	name := string(c.Path)
	data, ok := t[name]
	switch c.Kind {
	case stream.Subvol, stream.Snapshot, stream.End:
		return nil
	case stream.MkFile:
		if ok {
			return errors.New("it exists")
		}
		t[name] = nil
		return nil
	case stream.Write, stream.Truncate, stream.Unlink:
		if !ok {
			return errors.New("it does not exist")
		}
	default:
		return errors.New("this is more than a store in memory can do")
	}
	switch c.Kind {
	case stream.Write:
		end := c.FileOffset + uint64(len(c.Data))
		t[name] = resize(data, max(end, uint64(len(data))))
		copy(t[name][c.FileOffset:], c.Data)
	case stream.Truncate:
		t[name] = resize(data, c.Size)
	case stream.Unlink:
		delete(t, name)
	}
	return nil
}

// resize returns a copy: a tree may share its files with that of its parent.
func resize(data []byte, size uint64) []byte {
	b := make([]byte, size)
	copy(b, data)
	return b
}
