package glacier

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// leaf is how much data a leaf of a tree hash stands for.
const leaf = 1 << 20

// TreeHash is the SHA-256 tree hash of something: data is cut into pieces of
// 1 MiB, each is hashed, neighbouring hashes are joined and hashed, and so on until
// one is left; an odd last one goes up as it is. Of nothing it is the hash of
// nothing.
// docs.aws.amazon.com/amazonglacier/latest/dev/checksum-calculations.html
type TreeHash [sha256.Size]byte

// String is the hash as requests have it: in lower-case hexadecimal.
func (h TreeHash) String() string { return hex.EncodeToString(h[:]) }

// ParseTreeHash reads a hash in hexadecimal.
func ParseTreeHash(text string) (h TreeHash, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(h) {
		return h, fmt.Errorf("%.80q is no SHA-256 tree hash", text)
	}
	return TreeHash(raw), nil
}

// JoinTreeHashes is the hash of the whole of which the parts have these hashes. It
// is right where all parts but the last are equally long, 1 MiB times a power of
// two.
func JoinTreeHashes(parts []TreeHash) TreeHash {
	var t tree
	for _, p := range parts {
		t.push(p)
	}
	return t.root()
}

// TreeHasher computes the tree hash of what is written to it. Its zero value is
// ready. It holds a hash per doubling of the length.
type TreeHasher struct {
	tree tree
	sum  hash.Hash
	in   int // bytes of the leaf that is being filled
}

// Write never fails.
func (t *TreeHasher) Write(b []byte) (int, error) {
	if t.sum == nil {
		t.sum = sha256.New()
	}
	n := len(b)
	for len(b) > 0 {
		k := min(leaf-t.in, len(b))
		t.sum.Write(b[:k])
		b, t.in = b[k:], t.in+k
		if t.in == leaf {
			t.tree.push(TreeHash(t.sum.Sum(nil)))
			t.sum.Reset()
			t.in = 0
		}
	}
	return n, nil
}

// Sum is the hash of what has been written. More may follow.
func (t *TreeHasher) Sum() TreeHash {
	all := t.tree
	all.levels = append([]level(nil), t.tree.levels...)
	if t.in > 0 {
		all.push(TreeHash(t.sum.Sum(nil)))
	}
	return all.root()
}

// tree joins hashes as they come. It has one complete subtree of each height at
// most, the highest first.
type tree struct{ levels []level }

type level struct {
	height int
	hash   TreeHash
}

func (t *tree) push(h TreeHash) {
	l := level{0, h}
	for n := len(t.levels); n > 0 && t.levels[n-1].height == l.height; n = len(t.levels) {
		l = level{l.height + 1, join(t.levels[n-1].hash, l.hash)}
		t.levels = t.levels[:n-1]
	}
	t.levels = append(t.levels, l)
}

// root joins what is left over. A hash without a neighbour goes up until it meets
// one: so the smallest are joined first.
func (t *tree) root() TreeHash {
	n := len(t.levels)
	if n == 0 {
		return sha256.Sum256(nil)
	}
	h := t.levels[n-1].hash
	for i := n - 2; i >= 0; i-- {
		h = join(t.levels[i].hash, h)
	}
	return h
}

func join(a, b TreeHash) TreeHash {
	var both [2 * sha256.Size]byte
	copy(both[:], a[:])
	copy(both[sha256.Size:], b[:])
	return sha256.Sum256(both[:])
}
