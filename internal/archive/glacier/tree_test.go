package glacier

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"pgregory.net/rapid"
)

// TestTreeHash compares with hashes of zeros that other programs have computed:
// the library of btrsend, and botocore.
func TestTreeHash(t *testing.T) {
	for _, c := range []struct {
		zeros int
		want  string
	}{
		{1 << 20, "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"},
		{1<<20 + 1, "28638dab8d5e1754a4ecb38b0ebe6df66c844f94aed142d4d0283d208bb786cd"},
		{3 << 20, "ca6cc129a4514ec765de86a4e7a49adf44842c9cac213c383ebe4071271bdf21"},
		{4 << 20, "27b557ba335a688f779a95e258a886ffa3b39b13533d6f9dcaa0497a2ed1fe18"},
		{5<<20 + 7, "13d746fc53c7aea07e60f03dc3fe70aa35a8a3f08765e81ae7c77e0c81a51909"},
	} {
		if got := treeOf(make([]byte, c.zeros)).String(); got != c.want {
			t.Errorf("%d zeros have %s, want %s", c.zeros, got, c.want)
		}
	}
	if got := treeOf(nil); got != sha256.Sum256(nil) {
		t.Errorf("nothing has %s", got)
	}
}

// levels is the tree hash as the documentation describes it, a level at a time.
func levels(leaves []TreeHash) TreeHash {
	for len(leaves) > 1 {
		var up []TreeHash
		for i := 0; i < len(leaves); i += 2 {
			if i+1 < len(leaves) {
				up = append(up, sha256.Sum256(append(leaves[i][:], leaves[i+1][:]...)))
			} else {
				up = append(up, leaves[i])
			}
		}
		leaves = up
	}
	return leaves[0]
}

func TestTreeHashOfManyLeaves(t *testing.T) {
	for n := 1; n < 200; n++ {
		leaves := make([]TreeHash, n)
		for i := range leaves {
			leaves[i] = sha256.Sum256([]byte{byte(i)})
		}
		want := levels(append([]TreeHash(nil), leaves...))
		if got := JoinTreeHashes(leaves); got != want {
			t.Errorf("%d leaves have %s, want %s", n, got, want)
		}
		// Parts of four leaves each come to the same.
		var parts []TreeHash
		for i := 0; i < n; i += 4 {
			parts = append(parts, JoinTreeHashes(leaves[i:min(i+4, n)]))
		}
		if got := JoinTreeHashes(parts); got != want {
			t.Errorf("%d leaves in parts have %s, want %s", n, got, want)
		}
	}
}

// TestTreeHasherInPieces writes the same in pieces of any length, with sums in
// between.
func TestTreeHasherInPieces(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcde"), 3<<20/15)
	want := treeOf(data)
	rapid.Check(t, func(t *rapid.T) {
		var h TreeHasher
		for rest := data; len(rest) > 0; {
			n := min(rapid.IntRange(1, 2<<20).Draw(t, "length"), len(rest))
			if _, err := h.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			_ = h.Sum() // changes nothing
		}
		if h.Sum() != want {
			t.Fatalf("got %s, want %s", h.Sum(), want)
		}
	})
}
