package btrfstest_test

import (
	"fmt"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestReceivedTreesAreEqual: with what the documentation says to leave out, what
// btrfs receive makes of a tree and its mutations is equal to the source, so a
// difference elsewhere is never the bench's.
func TestReceivedTreesAreEqual(t *testing.T) {
	source, target := btrfstest.New(t, btrfstest.MountOptions("noatime,compress=zstd")), btrfstest.New(t)
	for seed := range uint64(4) {
		name := fmt.Sprintf("live%d", seed)
		tree := btrfstest.NewTree(t, source.Subvolume(name), seed, btrfstest.Without(btrfstest.RootInheritance, btrfstest.InlineTails))
		tree.Fill()
		var previous string
		for round := range 4 {
			var args []string
			if seed%2 == 1 {
				args = []string{"--proto", "2", "--compressed-data"}
			}
			if round > 0 {
				tree.Mutate()
				args = append(args, "-p", previous)
			}
			shot := fmt.Sprintf("s%d.%d", seed, round)
			previous = source.Snapshot(name, shot, true)
			received := target.MustReceive("", shot, source.Send(shot, args...))
			if diff := btrfstest.Diff(t, previous, received, btrfstest.WithoutRootTime()); diff != "" {
				t.Fatalf("seed %d, round %d: %s", seed, round, diff)
			}
		}
	}
}
