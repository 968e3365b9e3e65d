package btrfstest_test

import (
	"strconv"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// BenchmarkTree tells what a random tree costs, for whoever plans how many.
func BenchmarkTree(b *testing.B) {
	fs := btrfstest.New(b, btrfstest.Size(8<<30))
	var trees []*btrfstest.Tree
	b.Run("Fill", func(b *testing.B) {
		for b.Loop() {
			n := uint64(len(trees))
			tree := btrfstest.NewTree(b, fs.Subvolume("s"+strconv.FormatUint(n, 10)), n)
			tree.Fill()
			trees = append(trees, tree)
		}
	})
	b.Run("Mutate", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			trees[i%len(trees)].Mutate()
		}
	})
	b.Run("Digest", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			btrfstest.Digest(b, trees[i%len(trees)].Dir)
		}
	})
}

// BenchmarkNew tells what a file system costs, from nothing to nothing.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		btrfstest.New(b).Close()
	}
}
