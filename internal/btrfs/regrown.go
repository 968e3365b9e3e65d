package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Regrown is a file that is longer in one snapshot than in another, while the
// block in which it ends there is the same in both.
//
// That comes about when a file is cut short, which leaves its last block on disk
// as it is, and gets its old end back through a reflink; or when the snapshots
// are compared against the course of time. The kernel's increment from the
// shorter to the longer takes the block for unchanged (seen on Linux 6.18): it
// says how long the file is, and the receiver has zeros where the rest of the
// block should be. So it has in every file that shares the block, if the stream
// clones it from there.
type Regrown struct {
	Path     string // from the root of the subvolume; one of them, if there are several
	Ino      uint64
	From, To uint64 // the bytes that may be missing
}

// RegrownFiles finds the files that an increment from parent to subvol leaves
// incomplete. It searches the metadata that is younger than the parent; all of
// it where it cannot be told what that is.
func RegrownFiles(ctx context.Context, subvol, parent *os.File) ([]Regrown, error) {
	op := fmt.Sprintf("files of %s that have grown again", subvol.Name())
	info, err := Info(subvol)
	if err != nil {
		return nil, err
	}
	old, err := Info(parent)
	if err != nil {
		return nil, err
	}
	fs, err := fsInfo(subvol)
	if err != nil {
		return nil, err
	}
	r := regrowth{
		subvol: subvol, parent: parent, newest: old.Generation, block: uint64(fs.sectorSize),
		buffer: make([]byte, searchArgsSize+searchBuffer),
		tails:  map[uint64][]tail{}, known: map[place]struct{}{},
	}
	if r.block == 0 {
		r.block = 64 << 10 // the largest there is
	}
	if r.since, _, err = commonUntil(subvol, info, old); err != nil {
		return nil, err
	}
	if err = r.find(ctx); err == nil && len(r.tails) > 0 {
		err = r.findSharers(ctx)
	}
	if err != nil {
		return nil, searching(op, err)
	}
	return r.all, nil
}

// regrowth is a search for files that have grown again.
type regrowth struct {
	subvol, parent *os.File

	since  uint64 // no earlier transaction's changes matter
	newest uint64 // transaction that last wrote the parent: what is newer is not in it
	block  uint64 // bytes
	buffer []byte // of lookups

	all   []Regrown
	known map[place]struct{} // of all
	tails map[uint64][]tail  // by the extent
}

// place is a place in a file.
type place struct{ ino, at uint64 }

// tail is where a file ended in the parent: a place in the file, and in the
// extent that holds it.
type tail struct {
	place
	start, offset uint64
}

// find looks at all files that have changed.
func (r *regrowth) find(ctx context.Context) error {
	for it, err := range search(r.subvol, wholeSubvolume(r.since)) {
		if err != nil {
			return err
		}
		if it.kind != inodeItemType {
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		now, err := inodeItem(it.data)
		if err != nil {
			return err
		}
		if !r.sent(now) || now.generation > r.newest || now.size == 0 {
			continue
		}
		end, ok, err := r.regrown(it.object, now)
		if err == nil && ok {
			err = r.add(end.place, now.size)
			if end.start != 0 {
				r.tails[end.start] = append(r.tails[end.start], end)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sent reports whether an inode is a file that a stream may have something of: one
// that has changed, and has a name. Files that are removed while they are open can
// be there without.
func (r *regrowth) sent(now inode) bool {
	return now.mode&unix.S_IFMT == unix.S_IFREG && now.transid >= r.since && now.links > 0
}

// add notes what may be missing of a file.
func (r *regrowth) add(from place, size uint64) error {
	if _, ok := r.known[from]; ok {
		return nil
	}
	r.known[from] = struct{}{}
	path, err := filePath(r.subvol, from.ino)
	if err != nil {
		return fmt.Errorf("inode %d: %w", from.ino, err)
	}
	to := min(size, from.at-from.at%r.block+r.block)
	r.all = append(r.all, Regrown{Path: path, Ino: from.ino, From: from.at, To: to})
	return nil
}

// findSharers finds the other places that share a block with a file that has
// grown again.
func (r *regrowth) findSharers(ctx context.Context) error {
	var ino uint64 // of the last inode item
	var now inode
	for it, err := range search(r.subvol, wholeSubvolume(r.since)) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if it.kind == inodeItemType {
			ino = it.object
			if now, err = inodeItem(it.data); err != nil {
				return err
			}
		}
		// Extents can come without their inode, which has not changed then.
		if it.kind != extentDataType || it.object != ino || !r.sent(now) {
			continue
		}
		x, err := extentItem(it.data)
		if err != nil {
			return err
		}
		if x.kind != extentRegular {
			continue
		}
		for _, t := range r.tails[x.start] {
			if t.offset < x.offset || t.offset >= x.offset+x.length {
				continue
			}
			if at := it.offset + t.offset - x.offset; at < now.size {
				if err := r.add(place{ino, at}, now.size); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// regrown looks at one file, and says where it ended in the parent if it has
// grown again.
func (r *regrowth) regrown(ino uint64, now inode) (t tail, ok bool, err error) {
	before, ok, err := r.inode(r.parent, ino)
	if err != nil || !ok {
		return t, false, err
	}
	if before.generation != now.generation || before.size >= now.size || before.size%r.block == 0 {
		return t, false, nil
	}
	a, found, err := r.extentAt(r.parent, ino, before.size)
	if err != nil || !found {
		return t, false, err
	}
	b, found, err := r.extentAt(r.subvol, ino, before.size)
	if err != nil || !found {
		return t, false, err
	}
	switch {
	case a.kind != b.kind || a.start != b.start || a.kind == extentPrealloc:
		return t, false, nil
	case a.kind == extentRegular && (a.start == 0 || a.at-a.offset != b.at-b.offset):
		return t, false, nil
	}
	return tail{place{ino, before.size}, b.start, b.offset + before.size - b.at}, true, nil
}

func (r *regrowth) inode(f *os.File, ino uint64) (inode, bool, error) {
	for it, err := range searchIn(f, ofKind(currentTree, ino, inodeItemType), r.buffer) {
		if err != nil {
			return inode{}, false, err
		}
		found, err := inodeItem(it.data)
		return found, err == nil, err
	}
	return inode{}, false, nil
}

// placed is an extent and where it begins in its file.
type placed struct {
	extent
	at uint64
}

// largestExtent is what one extent covers at most (BTRFS_MAX_EXTENT_SIZE).
const largestExtent = 128 << 20

// extentAt finds the extent that has the byte before a place in a file.
func (r *regrowth) extentAt(f *os.File, ino, end uint64) (last placed, ok bool, err error) {
	span := ofKind(currentTree, ino, extentDataType)
	span.first.offset, span.last.offset = end-min(end, largestExtent), end-1
	for it, err := range searchIn(f, span, r.buffer) {
		if err != nil {
			return placed{}, false, err
		}
		if it.object != ino || it.kind != extentDataType {
			continue
		}
		x, err := extentItem(it.data)
		if err != nil {
			return placed{}, false, err
		}
		// An inline extent fills its block, whatever its length.
		last, ok = placed{x, it.offset}, x.kind == extentInline || end <= it.offset+x.length
	}
	return last, ok, nil
}

// filePath returns one path of a file from the root of its subvolume.
func filePath(subvol *os.File, ino uint64) (string, error) {
	id, err := subvolumeOf(subvol)
	if err != nil {
		return "", err
	}
	path, err := directoryPath(subvol, id, ino)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return strings.TrimSuffix(path, "/"), err
	}
	// Where a file has very many names, all of them may stand elsewhere.
	for it, err := range search(subvol, ofKind(currentTree, ino, inodeExtrefType)) {
		if err != nil {
			return "", err
		}
		const head = 18
		if len(it.data) < head || len(it.data) < head+int(disk.Uint16(it.data[16:])) {
			return "", &shortError{"inode reference", len(it.data)}
		}
		dir, err := directoryPath(subvol, id, disk.Uint64(it.data))
		if err != nil {
			return "", err
		}
		return dir + string(it.data[head:head+int(disk.Uint16(it.data[16:]))]), nil
	}
	return "", fs.ErrNotExist
}
