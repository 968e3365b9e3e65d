package replay

import "github.com/buttersink/buttersink/internal/btrfs"

// CheckParent reports whether a stream whose first command names a parent, by
// UUID and transaction number, would find it intact. It answers *ParentError if
// not, before anything has been sent; Receive looks again.
func CheckParent(fs *btrfs.Filesystem, parent btrfs.UUID, transid uint64) error {
	s, err := find(fs, parent, transid)
	if err != nil {
		return err
	}
	s.close()
	return nil
}
