package glaciertest

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
)

// megabyte is the length of the blocks of a tree hash, and the unit of alignment.
const megabyte = 1 << 20

// TreeHash is the SHA-256 tree hash of what a reader gives, in hexadecimal: of each
// block of one MiB the SHA-256, then of each pair of neighbours that of both
// together, an odd one at the end passing up as it is, until there is one
// (docs.aws.amazon.com/amazonglacier/latest/dev/checksum-calculations.html).
func TreeHash(r io.Reader) (string, error) {
	tree := newTree()
	if _, err := io.Copy(tree, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(tree.root()), nil
}

// tree computes a tree hash of what is written to it.
type tree struct {
	block  hash.Hash
	filled int
	leaves [][]byte
}

func newTree() *tree { return &tree{block: sha256.New()} }

func (t *tree) Write(b []byte) (int, error) {
	all := len(b)
	for len(b) > 0 {
		n := min(len(b), megabyte-t.filled)
		t.block.Write(b[:n])
		t.filled += n
		b = b[n:]
		if t.filled == megabyte {
			t.close()
		}
	}
	return all, nil
}

func (t *tree) close() {
	t.leaves = append(t.leaves, t.block.Sum(nil))
	t.block.Reset()
	t.filled = 0
}

// root ends the tree. That of nothing is the SHA-256 of nothing.
func (t *tree) root() []byte {
	if t.filled > 0 || len(t.leaves) == 0 {
		t.close()
	}
	return join(t.leaves)
}

// join is the tree hash over hashes of neighbours of the same height, the last of
// which may be lower.
func join(level [][]byte) []byte {
	for len(level) > 1 {
		var next [][]byte
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				next = append(next, level[i])
				continue
			}
			h := sha256.New()
			h.Write(level[i])
			h.Write(level[i+1])
			next = append(next, h.Sum(nil))
		}
		level = next
	}
	return level[0]
}

// treeAligned tells whether the tree hash over bytes from start up to end of
// something size long is that of a node in the tree of the whole
// (docs.aws.amazon.com/amazonglacier/latest/dev/checksum-calculations-range.html).
func treeAligned(start, end, size int64) bool {
	if start < 0 || end <= start || end > size || start%megabyte != 0 || end%megabyte != 0 && end != size {
		return false
	}
	for width := int64(megabyte); ; width *= 2 {
		if start%width != 0 {
			return false
		}
		if min(start+width, size) == end {
			return true
		}
		if start+width >= size {
			return false
		}
	}
}
