package btrfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestIsMountPoint: a subvolume is none, though it has a device number of its own;
// a link to one is.
func TestIsMountPoint(t *testing.T) {
	fs := btrfstest.New(t)
	mounted := filepath.Dir(fs.Path("x"))
	link := filepath.Join(t.TempDir(), "a link")
	if err := os.Symlink(mounted, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		mounted: true, mounted + "/": true, link: true, fs.Subvolume("home"): false, fs.Path("nothing"): false, t.TempDir(): false, "/proc": true,
	} {
		if got, err := btrfs.IsMountPoint(path); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}
