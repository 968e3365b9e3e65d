package btrfstest_test

import (
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestNew(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	one := fs.Snapshot("live", "one", true)
	stream := fs.Send(one)
	fs.MustReceive(fs.Dir+"/live", "one", stream)
	fs.Remount()
	t.Log(fs.Show("live/one"))
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		b.Run("x", func(b *testing.B) { btrfstest.New(b) })
	}
}
