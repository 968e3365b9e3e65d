package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listing collects all subvolumes and finds out their paths.
type listing struct {
	dir   *os.File
	all   []Subvolume
	index map[uint64]int    // number of a subvolume -> place in all
	dirs  map[dirKey]string // paths of directories asked for before
	done  []progress        // of finding out the path, by place in all
}

type progress uint8

const (
	notBegun progress = iota
	begun
	known // Path is set
)

type dirKey struct{ subvol, ino uint64 }

// read fills all, but for the paths.
func (l *listing) read() error {
	const op = "the tree of roots"
	s := span{
		tree:  rootTree,
		first: key{object: TopLevel, kind: rootItemType},
		last:  key{object: lastInode, kind: rootBackrefType, offset: math.MaxUint64},
	}
	// They are large, and nobody knows how many there are: in one slice that
	// grows, most of the time would go into moving them.
	var chunks [][]Subvolume
	sub := &Subvolume{}
	for it, err := range search(l.dir, s) {
		if err != nil {
			return searching(op, err)
		}
		if it.object != TopLevel && it.object < firstInode {
			continue // trees of the file system itself
		}
		switch it.kind {
		case rootItemType:
			if sub.ID != it.object {
				sub = another(&chunks, it.object)
			}
			err = rootItem(it.data, sub)
		case rootBackrefType:
			// A backref can stand without its root item for a moment; what is
			// no subvolume is not listed. What belongs to one stands together.
			if sub.ID == it.object {
				sub.ParentID = it.offset
				sub.DirID, sub.Name, err = rootBackref(it.data)
			}
		}
		if err != nil {
			return searching(op, err)
		}
	}
	l.all = slices.Concat(chunks...)
	l.index = make(map[uint64]int, len(l.all))
	for at := range l.all {
		l.index[l.all[at].ID] = at
	}
	l.done = make([]progress, len(l.all))
	return nil
}

// another appends a subvolume to the last chunk, or to a new one.
func another(chunks *[][]Subvolume, id uint64) *Subvolume {
	const size = 128
	last := len(*chunks) - 1
	if last < 0 || len((*chunks)[last]) == size {
		*chunks = append(*chunks, make([]Subvolume, 0, size))
		last++
	}
	chunk := append((*chunks)[last], Subvolume{ID: id})
	(*chunks)[last] = chunk
	return &chunk[len(chunk)-1]
}

// path finds the path of all[at], sets it, and returns it with a slash at its
// end unless it is empty. What turns out to be gone is marked as deleted.
func (l *listing) path(at int) (string, error) {
	s := &l.all[at]
	switch l.done[at] {
	case begun:
		// It contains itself: the tree is damaged, or two were moved into one
		// another in turn while they were read.
		return "", errUnplaced
	case notBegun:
		l.done[at] = begun
		if err := l.find(s); err != nil {
			return "", searching(fmt.Sprintf("for the path of subvolume %d", s.ID), err)
		}
		if s.Deleted {
			s.ParentID, s.DirID, s.Name, s.Path = 0, 0, "", ""
		}
		l.done[at] = known
	}
	if s.Path == "" {
		return "", nil
	}
	return s.Path + "/", nil
}

// find sets the path of s, or that it is deleted. That it has no place does not
// say so: its directory may have been moved or deleted since it was read.
func (l *listing) find(s *Subvolume) error {
	if s.ID == TopLevel || s.Deleted {
		return nil
	}
	again := false
	err := patiently(l.dir, s.ID, func() (err error) {
		if again {
			if s.ParentID, s.DirID, s.Name, err = backref(l.dir, s.ID); err != nil {
				return err
			}
		}
		again = true
		return l.resolve(s)
	})
	if errors.Is(err, fs.ErrNotExist) {
		s.Deleted = true
		return nil
	}
	return err
}

// resolve sets the path of s from where s says that it stands.
func (l *listing) resolve(s *Subvolume) error {
	parent, ok := l.index[s.ParentID]
	if !ok {
		return fs.ErrNotExist
	}
	above, err := l.path(parent)
	if err != nil {
		return err
	}
	if l.all[parent].Deleted {
		return fs.ErrNotExist
	}
	within, err := l.directory(dirKey{s.ParentID, s.DirID})
	if err != nil {
		return err
	}
	s.Path = above + within + s.Name
	return nil
}

// directory is directoryPath, remembered: snapshots stand in few directories.
func (l *listing) directory(d dirKey) (string, error) {
	if path, ok := l.dirs[d]; ok {
		return path, nil
	}
	path, err := directoryPath(l.dir, d.subvol, d.ino)
	if err != nil {
		return "", err
	}
	l.dirs[d] = path
	return path, nil
}

// directoryPath returns the path of a directory from the root of its
// subvolume, with a slash at its end; the root itself is "". The error matches
// fs.ErrNotExist if there is none.
func directoryPath(f *os.File, subvol, ino uint64) (string, error) {
	if ino == firstInode {
		return "", nil
	}
	args := inoLookupArgs{tree: subvol, object: ino}
	err := request(f, iocInoLookup, unsafe.Pointer(&args))
	if errors.Is(err, unix.ENAMETOOLONG) {
		return longDirectoryPath(f, subvol, ino)
	}
	if err != nil {
		return "", err
	}
	return unix.ByteSliceToString(args.name[:]), nil
}

// longDirectoryPath is directoryPath for what is too long for the kernel's own
// answer.
func longDirectoryPath(f *os.File, subvol, ino uint64) (string, error) {
	path := ""
	for steps := 0; ino != firstInode; steps++ {
		parent := uint64(0)
		for it, err := range search(f, ofKind(subvol, ino, inodeRefType)) {
			if err != nil {
				return "", err
			}
			name, err := inodeRefName(it.data)
			if err != nil {
				return "", err
			}
			parent, path = it.offset, name+"/"+path
			break // a directory has one name
		}
		if parent == 0 || steps > math.MaxUint16 {
			return "", fs.ErrNotExist
		}
		ino = parent
	}
	return path, nil
}

// backref returns where a subvolume stands: in which subvolume, in which
// directory of it, and under which name. The error matches fs.ErrNotExist if it
// is deleted.
func backref(f *os.File, id uint64) (parent, dir uint64, name string, err error) {
	for it, err := range search(f, ofKind(rootTree, id, rootBackrefType)) {
		if err != nil {
			return 0, 0, "", err
		}
		dir, name, err = rootBackref(it.data)
		return it.offset, dir, name, err
	}
	return 0, 0, "", fs.ErrNotExist
}

// subvolumePath returns the path of one subvolume from the top level. The error
// matches fs.ErrNotExist if it is deleted.
func subvolumePath(f *os.File, id uint64) (string, error) {
	path := ""
	for steps := 0; id != TopLevel; steps++ {
		parent, dir, name, err := backref(f, id)
		if err != nil {
			return "", err
		}
		within, err := directoryPath(f, parent, dir)
		if err != nil {
			return "", err
		}
		if path != "" {
			path = "/" + path
		}
		path, id = within+name+path, parent
		if steps > math.MaxUint16 {
			return "", errUnplaced // a loop in a damaged tree
		}
	}
	return path, nil
}
