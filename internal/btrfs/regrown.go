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

// blockMask is that of the largest block that a btrfs can have.
const blockMask = 64<<10 - 1

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
	since, _, err := commonUntil(subvol, info, old)
	if err != nil {
		return nil, err
	}
	var all []Regrown
	tails := map[uint64][]tail{}
	for it, err := range search(subvol, wholeSubvolume(since)) {
		if err != nil {
			return nil, searching(op, err)
		}
		if it.kind != inodeItemType {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, searching(op, context.Cause(ctx))
		}
		now, err := inodeItem(it.data)
		if err != nil {
			return nil, searching(op, err)
		}
		if now.mode&unix.S_IFMT != unix.S_IFREG || now.transid < since || now.size == 0 {
			continue
		}
		end, ok, err := regrown(subvol, parent, it.object, now)
		if err == nil && ok {
			err = add(&all, subvol, end, now.size)
			if end.start != 0 {
				tails[end.start] = append(tails[end.start], end)
			}
		}
		if err != nil {
			return nil, searching(op, err)
		}
	}
	if len(tails) > 0 {
		if err := addSharers(ctx, &all, subvol, since, tails); err != nil {
			return nil, searching(op, err)
		}
	}
	return all, nil
}

// tail is where a file ended in the parent: a place in the file, and in the
// extent that holds it.
type tail struct {
	ino, at       uint64
	start, offset uint64
}

// length is how much behind a tail may be missing at most.
func (t tail) length() uint64 { return blockMask + 1 - t.at&blockMask }

// add notes what may be missing of a file.
func add(all *[]Regrown, subvol *os.File, t tail, size uint64) error {
	path, err := filePath(subvol, t.ino)
	if err != nil {
		return fmt.Errorf("inode %d: %w", t.ino, err)
	}
	*all = append(*all, Regrown{Path: path, Ino: t.ino, From: t.at, To: min(size, t.at+t.length())})
	return nil
}

// addSharers finds the other places that share a block with a file that has
// grown again.
func addSharers(ctx context.Context, all *[]Regrown, subvol *os.File, since uint64, tails map[uint64][]tail) error {
	var now inode
	for it, err := range search(subvol, wholeSubvolume(since)) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if it.kind == inodeItemType {
			if now, err = inodeItem(it.data); err != nil {
				return err
			}
		}
		if it.kind != extentDataType || now.transid < since {
			continue
		}
		x, err := extentItem(it.data)
		if err != nil {
			return err
		}
		if x.kind != extentRegular {
			continue
		}
		for _, t := range tails[x.start] {
			if t.offset < x.offset || t.offset >= x.offset+x.length {
				continue
			}
			here := tail{ino: it.object, at: it.offset + t.offset - x.offset}
			if here.ino == t.ino && here.at == t.at || here.at >= now.size {
				continue
			}
			if err := add(all, subvol, here, min(now.size, here.at+t.length())); err != nil {
				return err
			}
		}
	}
	return nil
}

// regrown looks at one file, and says where it ended in the parent if it has
// grown again.
func regrown(subvol, parent *os.File, ino uint64, now inode) (t tail, ok bool, err error) {
	before, ok, err := findInode(parent, ino)
	if err != nil || !ok {
		return t, false, err
	}
	if before.generation != now.generation || before.size >= now.size || before.size&blockMask == 0 {
		return t, false, nil
	}
	a, found, err := extentAt(parent, ino, before.size)
	if err != nil || !found {
		return t, false, err
	}
	b, found, err := extentAt(subvol, ino, before.size)
	if err != nil || !found {
		return t, false, err
	}
	switch {
	case a.kind != b.kind || a.start != b.start || a.kind == extentPrealloc:
		return t, false, nil
	case a.kind == extentRegular && (a.start == 0 || a.at-a.offset != b.at-b.offset):
		return t, false, nil
	}
	return tail{ino: ino, at: before.size, start: b.start, offset: b.offset + before.size - b.at}, true, nil
}

func findInode(f *os.File, ino uint64) (inode, bool, error) {
	for it, err := range search(f, ofKind(currentTree, ino, inodeItemType)) {
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
func extentAt(f *os.File, ino, end uint64) (last placed, ok bool, err error) {
	span := ofKind(currentTree, ino, extentDataType)
	span.first.offset, span.last.offset = end-min(end, largestExtent), end-1
	for it, err := range search(f, span) {
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
