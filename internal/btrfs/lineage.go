package btrfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// generationsBack bounds how far a lineage is followed.
const generationsBack = 64

// commonUntil returns the last transaction whose changes both snapshots have,
// where child has developed out of the state of parent: it is a later snapshot of
// the same subvolume, or of one that was made from parent or later. It is not ok
// where that cannot be told, as for the way back in time. The generation of
// neither will do: a balance raises it. Any file of the file system is f.
func commonUntil(f *os.File, child, parent Subvolume) (bound uint64, ok bool, err error) {
	pristine := parent.Ctransid <= parent.Otransid
	for range generationsBack {
		switch {
		case child.ParentUUID.IsZero() || parent.UUID.IsZero():
			return 0, false, nil
		case child.ParentUUID == parent.UUID:
			if child.Otransid == 0 || parent.Ctransid > child.Otransid {
				return 0, false, nil
			}
			return child.Otransid - 1, true, nil
		case child.ParentUUID == parent.ParentUUID && pristine:
			if parent.Otransid > child.Otransid {
				return 0, false, nil
			}
			return parent.Otransid, true, nil
		}
		if child, ok, err = subvolumeByUUID(f, child.ParentUUID); err != nil || !ok {
			return 0, false, err
		}
	}
	return 0, false, nil
}

// subvolumeByUUID returns what the root tree says of the subvolume with a UUID, if
// it can be found.
func subvolumeByUUID(f *os.File, u UUID) (s Subvolume, ok bool, err error) {
	where := key{object: disk.Uint64(u[:]), kind: uuidOwnType, offset: disk.Uint64(u[8:])}
	for it, err := range search(f, span{tree: uuidTree, first: where, last: where}) {
		if errors.Is(err, unix.ENOENT) {
			break // a file system from before Linux 3.12 may have no such tree
		}
		if err != nil {
			return Subvolume{}, false, searching("for UUID "+u.String(), err)
		}
		if len(it.data) < 8 {
			break
		}
		id := disk.Uint64(it.data)
		for it, err := range search(f, ofKind(rootTree, id, rootItemType)) {
			if err != nil {
				return Subvolume{}, false, searching("for UUID "+u.String(), err)
			}
			s = Subvolume{ID: id}
			if err := rootItem(it.data, &s); err != nil {
				return Subvolume{}, false, searching("for UUID "+u.String(), err)
			}
			return s, s.UUID == u, nil
		}
		break
	}
	return Subvolume{}, false, nil
}
