package btrfstest_test

import (
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestTreeSeed: a tree depends on its seed alone.
func TestTreeSeed(t *testing.T) {
	fs := btrfstest.New(t)
	for seed := range uint64(4) {
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

// TestMutateSeed: so do its mutations.
func TestMutateSeed(t *testing.T) {
	fs := btrfstest.New(t)
	for seed := range uint64(4) {
		var trees [2]*btrfstest.Tree
		for i, name := range []string{"a", "b"} {
			trees[i] = btrfstest.NewTree(t, fs.Subvolume(name), seed, btrfstest.Extra(50))
			trees[i].Fill()
		}
		for round := range 4 {
			before := btrfstest.Digest(t, trees[0].Dir)
			trees[0].Mutate()
			trees[1].Mutate()
			if diff := btrfstest.Diff(t, trees[0].Dir, trees[1].Dir); diff != "" {
				t.Errorf("seed %d gives two trees in round %d:\n%s", seed, round, diff)
			}
			if btrfstest.Digest(t, trees[0].Dir) == before {
				t.Errorf("seed %d: round %d changes nothing", seed, round)
			}
		}
		fs.Delete("a")
		fs.Delete("b")
	}
}
