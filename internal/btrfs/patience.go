package btrfs

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// A rename takes a subvolume from its old place before it puts it in the new
// one, and the kernel lets everybody see it between the two: it is not deleted,
// but whatever looks for its place finds none.

// errUnplaced says that a subvolume is not deleted and found nowhere.
var errUnplaced = errors.New("it is not deleted, but found in no directory (is it being moved all the time?)")

// longestPause is the last of the pauses of patiently; all together take twice as
// long.
const longestPause = 512 * time.Millisecond

// patiently calls try again, with growing pauses, as long as its error matches
// fs.ErrNotExist and the subvolume is not deleted. So the error it returns
// matches fs.ErrNotExist only if the subvolume is deleted; it is errUnplaced if
// that does not come to an end.
func patiently(f *os.File, id uint64, try func() error) error {
	for pause := time.Millisecond; ; pause *= 2 {
		err := try()
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		gone, lookup := deleted(f, id)
		switch {
		case lookup != nil:
			return lookup
		case gone:
			return err
		case pause > longestPause:
			return errUnplaced
		}
		time.Sleep(pause)
	}
}

// deleted reports whether a subvolume is gone or on its way out. Its root item
// tells only after the transaction that deletes it; until then the kernel
// refuses to search its tree.
func deleted(f *os.File, id uint64) (bool, error) {
	for _, err := range search(f, ofKind(id, firstInode, inodeItemType)) {
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		return false, err
	}
	return false, nil
}
