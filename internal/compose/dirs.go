package compose

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// maxPath is what a path in a stream can have, in bytes.
const maxPath = 4095

var errPath = fmt.Errorf("its path has more than %d bytes, or no end", maxPath)

// dirs are all directories of a subvolume, in the order of their inode numbers.
// The first is the root.
type dirs struct {
	inos    []uint64
	parents []uint64 // inode numbers, and after link places in inos
	ends    []uint64 // of the names
	names   []byte   // of all, one behind the other

	last int // what find found last
}

// add takes up a directory. Its inode number is larger than all before.
func (d *dirs) add(ino, parent uint64, name []byte) error {
	if n := len(d.inos); n > 0 && d.inos[n-1] >= ino {
		return fmt.Errorf("directory %d has two names", ino)
	}
	d.inos, d.parents = append(d.inos, ino), append(d.parents, parent)
	d.names = append(d.names, name...)
	d.ends = append(d.ends, uint64(len(d.names)))
	return nil
}

// append takes up the directories of another part of the tree, whose inode
// numbers are all larger.
func (d *dirs) append(more *dirs) {
	before := uint64(len(d.names))
	d.inos = append(d.inos, more.inos...)
	d.parents = append(d.parents, more.parents...)
	d.names = append(d.names, more.names...)
	for _, end := range more.ends {
		d.ends = append(d.ends, before+end)
	}
}

// find returns the place of a directory by its inode number.
func (d *dirs) find(ino uint64) (int, bool) {
	if d.last < len(d.inos) && d.inos[d.last] == ino {
		return d.last, true
	}
	at, ok := slices.BinarySearch(d.inos, ino)
	if ok {
		d.last = at
	}
	return at, ok
}

// link makes places out of the numbers of parents.
func (d *dirs) link() error {
	if len(d.inos) == 0 || d.inos[0] != btrfs.RootInode {
		return errors.New("the subvolume has no root directory")
	}
	for i, parent := range d.parents {
		at, ok := d.find(parent)
		if !ok {
			return fmt.Errorf("directory %d is in %d, which is not there", d.inos[i], parent)
		}
		d.parents[i] = uint64(at)
	}
	return nil
}

func (d *dirs) name(at int) []byte {
	begin := uint64(0)
	if at > 0 {
		begin = d.ends[at-1]
	}
	return d.names[begin:d.ends[at]]
}

// path appends the path of a directory from the root, whose own is empty.
func (d *dirs) path(dst []byte, at int) ([]byte, error) {
	begin := len(dst)
	// From the end to the beginning, and then turned round as a whole and each
	// name by itself.
	for at != 0 {
		name := d.name(at)
		if len(dst) > begin {
			dst = append(dst, '/')
		}
		here := len(dst)
		dst = append(dst, name...)
		slices.Reverse(dst[here:])
		if len(dst)-begin > maxPath {
			return dst[:begin], fmt.Errorf("directory %d: %w", d.inos[at], errPath)
		}
		at = int(d.parents[at])
	}
	slices.Reverse(dst[begin:])
	return dst, nil
}

// each calls do for every directory but the root, parents before children.
func (d *dirs) each(do func(at int) error) error {
	made := make([]uint64, (len(d.inos)+63)/64)
	made[0] = 1
	var todo []int
	for i := range d.inos {
		for at := i; made[at/64]&(1<<(at%64)) == 0; at = int(d.parents[at]) {
			if todo = append(todo, at); len(todo) > maxPath {
				return fmt.Errorf("directory %d: %w", d.inos[i], errPath)
			}
		}
		for ; len(todo) > 0; todo = todo[:len(todo)-1] {
			at := todo[len(todo)-1]
			if err := do(at); err != nil {
				return err
			}
			made[at/64] |= 1 << (at % 64)
		}
	}
	return nil
}

// usable reports whether a name can be one of a file.
func usable(name []byte) bool {
	return text(name, 255) && bytes.IndexByte(name, '/') < 0 && string(name) != "." && string(name) != ".."
}

// text reports whether b can be an argument of a system call: not empty, not too
// long, and without NUL.
func text(b []byte, most int) bool {
	return len(b) > 0 && len(b) <= most && bytes.IndexByte(b, 0) < 0
}
