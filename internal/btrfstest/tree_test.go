package btrfstest_test

import (
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestTreeSeed: a tree depends on its seed alone.
func TestTreeSeed(t *testing.T) {
	fs := btrfstest.New(t)
	for seed := range uint64(8) {
		var digests [2]string
		var dirs [2]string
		for i, name := range []string{"a", "b"} {
			dirs[i] = fs.Subvolume(name)
			tree := btrfstest.NewTree(t, dirs[i], seed)
			tree.Fill()
			digests[i] = btrfstest.Digest(t, dirs[i])
		}
		if digests[0] != digests[1] {
			t.Errorf("seed %d gives two trees:\n%s", seed, btrfstest.Diff(t, dirs[0], dirs[1]))
		}
		fs.Delete("a")
		fs.Delete("b")
	}
}
