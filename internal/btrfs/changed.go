package btrfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Unwatched says what in a subvolume may change without that counting as a change.
// The zero value is nothing.
type Unwatched struct {
	// Dir reports whether it does not count which names stand in a directory, given
	// its path from the subvolume. What lies in it counts.
	Dir func(path string) (bool, error)
	// File reports whether a file of a name straight in such a directory does not
	// count either.
	File func(name string) bool
}

// ChangedSince reports whether anything in the subvolume origin is not as its
// snapshot has it, but for what is unwatched. It is false only if that is certain,
// and always true for a snapshot of something else, or one that was changed itself.
//
// Times of reading do not count, and neither does it if a balance has moved data; a
// defragmentation writes them anew, which is a change. What lies in other subvolumes
// below origin is none; that there is one more or less is.
//
// What waits to be written to the file system is written out first. The leaves of
// the tree that are newer than the snapshot are read, after a balance all of them.
// Of inodes which were written since, those that the snapshot has just so count as
// unchanged if their change times are a second older than the snapshot: whatever
// changes an inode sets that time, and a clock that is put back does not hit the
// very nanosecond. Later ones may have been changed again in the same tick of the
// clock. Data that were written since always count: a write sets the time before its
// first byte, and can take long (btrfs_write_check, btrfs_page_mkwrite).
func ChangedSince(origin, snapshot *os.File, u Unwatched) (bool, error) {
	op := fmt.Sprintf("for changes in %s since %s", origin.Name(), snapshot.Name())
	now, err := Info(origin)
	if err != nil {
		return false, err
	}
	then, err := Info(snapshot)
	if err != nil {
		return false, err
	}
	if then.ParentUUID != now.UUID || then.UUID == now.UUID || !then.ReadOnly || then.Ctransid > then.Otransid {
		return true, nil
	}
	if err := Sync(origin); err != nil {
		return false, err
	}
	c := comparison{origin: origin, snapshot: snapshot, made: then.Otime, unwatched: u, dirs: map[uint64]bool{}, buffer: make([]byte, searchArgsSize+oneInode)}
	// The snapshot is the last thing in its transaction: all in it that came after is
	// of a later one.
	for it, err := range search(origin, wholeSubvolume(then.Otransid+1)) {
		if err != nil {
			return false, searching(op, err)
		}
		same := true
		switch it.kind {
		case inodeItemType:
			var inode inode
			if inode, err = inodeItem(it.data); err == nil && inode.transid > then.Otransid {
				same, err = c.same(it, inode)
			}
		case extentDataType: // which follows its inode
			var x Extent
			x, err = ParseExtent(it.data)
			same = x.Generation <= then.Otransid || it.object == c.passed
		}
		if err != nil {
			return false, searching(op, err)
		}
		if !same {
			return true, nil
		}
	}
	return false, nil
}

// comparison compares inodes of a subvolume with those of its snapshot.
type comparison struct {
	origin, snapshot *os.File
	made             time.Time // when the snapshot was
	unwatched        Unwatched
	dirs             map[uint64]bool // what Unwatched.Dir has said, by inode number
	passed           uint64          // the last file that is unwatched
	buffer           []byte          // for the inodes of the snapshot
}

// oneInode is room for more than an item of an inode. The kernel looks at all of a
// buffer, however little it puts there.
const oneInode = 4 << 10

// same reports whether an inode of the subvolume counts as unchanged.
func (c *comparison) same(it item, now inode) (bool, error) {
	if now.ctime.Add(time.Second).Before(c.made) {
		for was, err := range searchIn(c.snapshot, ofKind(currentTree, it.object, inodeItemType), c.buffer) {
			if err != nil {
				return false, err
			}
			if sameInode(was.data, it.data) {
				return true, nil
			}
		}
	}
	switch kind := now.mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		return c.unwatchedDir(it.object)
	case kind == unix.S_IFREG && now.links == 1:
		return c.unwatchedFile(it.object)
	}
	return false, nil
}

// sameInode reports whether two items (struct btrfs_inode_item) say the same but for
// when they were written, how often, and when the inode was last read.
func sameInode(a, b []byte) bool {
	const size = 160
	if len(a) != size || len(b) != size {
		return false
	}
	for _, part := range [][2]int{{0, 8}, {16, 72}, {80, 112}, {124, size}} { // without transid, sequence and atime
		if !bytes.Equal(a[part[0]:part[1]], b[part[0]:part[1]]) {
			return false
		}
	}
	return true
}

// unwatchedDir reports whether it does not count which names stand in a directory.
// One that is gone by now has changed.
func (c *comparison) unwatchedDir(ino uint64) (bool, error) {
	if c.unwatched.Dir == nil {
		return false, nil
	}
	if known, ok := c.dirs[ino]; ok {
		return known, nil
	}
	path, err := directoryPath(c.origin, currentTree, ino)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		c.dirs[ino], err = c.unwatched.Dir(strings.TrimSuffix(path, "/"))
	}
	return c.dirs[ino], err
}

// unwatchedFile reports whether the only name of a file does not count.
func (c *comparison) unwatchedFile(ino uint64) (bool, error) {
	if c.unwatched.File == nil {
		return false, nil
	}
	for it, err := range search(c.origin, ofKind(currentTree, ino, inodeRefType)) {
		if err != nil {
			return false, err
		}
		name, err := inodeRefName(it.data)
		if err != nil || !c.unwatched.File(name) {
			return false, err
		}
		ok, err := c.unwatchedDir(it.offset)
		if ok {
			c.passed = ino
		}
		return ok, err
	}
	return false, nil
}
