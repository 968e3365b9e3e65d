package btrfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestListWhileMoving: what is renamed while the listing goes on has no place
// for moments. It is listed all the same, and never as deleted: a caller would
// take that for a reason to remove its copies.
func TestListWhileMoving(t *testing.T) {
	t.Run("alone", func(t *testing.T) { listWhileMoving(t, false) })
	t.Run("while others come and go", func(t *testing.T) { listWhileMoving(t, true) })
}

func listWhileMoving(t *testing.T, others bool) {
	scratch := btrfstest.New(t)
	for _, dir := range []string{"a", "b/deep"} {
		if err := os.MkdirAll(scratch.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	uuids := map[string][]string{} // where each may be
	for _, legal := range [][]string{
		{"a/s0", "a/other"},
		{"a/s1", "b/deep/s1", "c/deep/s1"},
		{"b/deep/s2", "c/deep/s2"},
		{"a/s3", "a/moved"},
		{"a/s3/in", "a/moved/in"},
	} {
		scratch.Subvolume(legal[0])
		uuids[scratch.Show(legal[0])["UUID"]] = legal
	}
	fs, err := btrfs.Open(scratch.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	parent, err := os.Open(scratch.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()

	stop := make(chan struct{})
	var movers sync.WaitGroup
	back := func(from, to string) {
		movers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = os.Rename(scratch.Path(from), scratch.Path(to))
				_ = os.Rename(scratch.Path(to), scratch.Path(from))
			}
		})
	}
	back("a/s0", "a/other")
	back("a/s1", "b/deep/s1")
	back("b", "c")
	back("a/s3", "a/moved")
	movers.Go(func() {
		for i := 0; others; i++ { // their transactions make everything slower
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("short%d", i)
			if err := btrfs.CreateSubvolume(parent, name); err != nil {
				t.Error(err)
				return
			}
			if err := btrfs.DeleteSubvolume(parent, name); err != nil {
				t.Error(err)
				return
			}
		}
	})
	lists := 0
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); lists++ {
		all, err := fs.Subvolumes()
		if err != nil {
			t.Error(err)
			break
		}
		found := 0
		for _, s := range all {
			legal, ok := uuids[s.UUID.String()]
			if !ok {
				continue
			}
			found++
			if s.Deleted || !slices.Contains(legal, s.Path) || s.Name != filepath.Base(s.Path) {
				t.Errorf("listed as %+v", s)
			}
		}
		if found != len(uuids) {
			t.Errorf("%d of %d are listed", found, len(uuids))
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	movers.Wait()
	t.Logf("%d listings", lists)
}
