package btrfstest

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A mutation changes the tree and reports whether it found something to change.
type mutation struct {
	name    string
	feature Feature // "" for what cannot be left out
	do      func(tr *Tree) bool
}

var allMutations = []mutation{
	{name: "edit in the middle", do: (*Tree).editMiddle},
	{name: "append", do: (*Tree).appendTo},
	{name: "rewrite", do: (*Tree).rewrite},
	{name: "write the same again", do: (*Tree).writeSame},
	{name: "truncate", do: (*Tree).truncate},
	{name: "truncate longer", feature: Sparse, do: (*Tree).truncateLonger},
	{name: "punch a hole", feature: Holes, do: (*Tree).punchHole},
	{name: "preallocate", feature: Prealloc, do: (*Tree).preallocate},
	{name: "reflink a whole file", feature: Reflinks, do: (*Tree).reflinkWhole},
	{name: "reflink a part", feature: Reflinks, do: (*Tree).reflinkPart},
	{name: "reflink within a file", feature: Reflinks, do: (*Tree).reflinkSelf},
	{name: "delete", do: (*Tree).deleteOne},
	{name: "delete a subtree", do: (*Tree).deleteTree},
	{name: "delete and recreate", do: (*Tree).recreate},
	{name: "empty and refill a directory", do: (*Tree).refill},
	{name: "rename", do: (*Tree).rename},
	{name: "rename over another", do: (*Tree).renameOver},
	{name: "rename in a circle", do: (*Tree).rotate},
	{name: "swap two files", do: func(tr *Tree) bool { return tr.swap(node.isFile) }},
	{name: "swap two directories", do: func(tr *Tree) bool { return tr.swap(node.isDir) }},
	{name: "swap anything", do: func(tr *Tree) bool { return tr.swap(func(node) bool { return true }) }},
	{name: "move a directory into another", do: (*Tree).moveDir},
	{name: "move a directory and put a new one in its place", do: (*Tree).moveAndReplace},
	{name: "turn parent and child around", do: (*Tree).invert},
	{name: "file becomes directory", do: (*Tree).fileToDir},
	{name: "directory becomes file", do: (*Tree).dirToFile},
	{name: "add a hard link", feature: HardLinks, do: (*Tree).addLink},
	{name: "remove one of several hard links", feature: HardLinks, do: (*Tree).removeLink},
	{name: "change metadata", do: (*Tree).redress},
	{name: "change the mode", do: (*Tree).changeMode},
	{name: "change the owner", feature: Owners, do: (*Tree).changeOwner},
	{name: "change an ACL", feature: ACLs, do: (*Tree).changeACL},
	{name: "remove xattrs", do: (*Tree).stripXattrs},
	{name: "change the time", do: (*Tree).changeTime},
	{name: "change the root", feature: RootChanges, do: (*Tree).changeRoot},
}

// Mutate changes the tree as time would between two snapshots: some 15 to 40
// random mutations, several of which may hit the same entry.
func (tr *Tree) Mutate() {
	tr.t.Helper()
	start := time.Now()
	for range tr.between(15, 40) {
		tr.mutateOnce()
	}
	tr.settle(start)
}

// mutateOnce carries out one mutation, or makes something new: rather that where
// the tree has shrunk, rather a deletion where it has grown.
func (tr *Tree) mutateOnce() {
	tr.t.Helper()
	tr.moved()
	few, many := max(20, tr.size), 2*tr.size+250
	switch n := len(tr.walk()); {
	case n < few && tr.chance(2), tr.chance(4):
		tr.make(tr.pickKind())
		return
	case n > many && tr.chance(2):
		tr.deleteTree()
		return
	}
	for {
		m := pick(tr, allMutations...)
		if tr.has(m.feature) && m.do(tr) {
			tr.Done[m.name]++
			return
		}
	}
}

// find returns a random entry other than the root for which is holds.
func (tr *Tree) find(is func(node) bool) (node, bool) {
	tr.t.Helper()
	var nodes []node
	for _, n := range tr.walk()[1:] {
		if is(n) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return node{}, false
	}
	return pick(tr, nodes...), true
}

// onFile finds a file and changes it through a descriptor.
func (tr *Tree) onFile(do func(fd int, size int64) error) bool {
	tr.t.Helper()
	n, ok := tr.find(node.isFile)
	if ok {
		size := tr.lstat(n.path).Size
		tr.edit(n.path, func(fd int) error { return do(fd, size) })
	}
	return ok
}

func (tr *Tree) editMiddle() bool {
	return tr.onFile(func(fd int, size int64) error {
		return writeAt(fd, tr.content(tr.between(1, 20_000)), tr.rng.Int64N(size+1))
	})
}

func (tr *Tree) appendTo() bool {
	return tr.onFile(func(fd int, size int64) error {
		return writeAt(fd, tr.content(tr.between(1, 30_000)), size)
	})
}

func (tr *Tree) rewrite() bool {
	return tr.onFile(func(fd int, _ int64) error {
		if err := unix.Ftruncate(fd, 0); err != nil {
			return err
		}
		return writeAt(fd, tr.content(tr.between(0, 60_000)), 0)
	})
}

// writeSame makes new extents with the old content.
func (tr *Tree) writeSame() bool {
	return tr.onFile(func(fd int, size int64) error {
		b := make([]byte, 50_000)
		offset := tr.rng.Int64N(size + 1)
		n, err := unix.Pread(fd, b, offset)
		if err != nil {
			return err
		}
		return writeAt(fd, b[:n], offset)
	})
}

func (tr *Tree) truncate() bool {
	return tr.onFile(func(fd int, size int64) error { return unix.Ftruncate(fd, tr.rng.Int64N(size+1)) })
}

func (tr *Tree) truncateLonger() bool {
	return tr.onFile(func(fd int, size int64) error { return unix.Ftruncate(fd, size+1+tr.rng.Int64N(100_000)) })
}

func (tr *Tree) punchHole() bool {
	return tr.onFile(func(fd int, size int64) error { return tr.punch(fd, size+sector) })
}

func (tr *Tree) preallocate() bool {
	return tr.onFile(func(fd int, size int64) error {
		mode := pick[uint32](tr, 0, unix.FALLOC_FL_KEEP_SIZE)
		return unix.Fallocate(fd, mode, tr.rng.Int64N(size+sector), 1+tr.rng.Int64N(300_000))
	})
}

func (tr *Tree) reflinkWhole() bool {
	source, ok := tr.find(node.isFile)
	if !ok {
		return false
	}
	target := tr.create(tr.anyDir(), nil)
	tr.clone(source.path, target)
	return true
}

func (tr *Tree) reflinkPart() bool {
	source, _ := tr.find(node.isFile)
	target, ok := tr.find(node.isFile)
	if !ok {
		return false
	}
	a, b := tr.lstat(source.path), tr.lstat(target.path)
	if a.Ino != b.Ino { // two names of one file would be a reflink within it
		tr.cloneRange(source.path, target.path)
	}
	return a.Ino != b.Ino
}

func (tr *Tree) reflinkSelf() bool {
	n, ok := tr.find(node.isFile)
	if ok {
		tr.cloneRange(n.path, n.path)
	}
	return ok
}

func (tr *Tree) redress() bool {
	n, ok := tr.find(func(node) bool { return true })
	if ok {
		tr.dress(n.path)
	}
	return ok
}

func (tr *Tree) changeMode() bool {
	n, ok := tr.find(func(n node) bool { return n.kind != unix.S_IFLNK })
	if ok {
		mode := uint32(tr.rng.IntN(0o1000))
		if tr.has(OddModes) && tr.chance(3) {
			mode = uint32(tr.rng.IntN(0o10000))
		}
		tr.chmod(n.path, mode)
	}
	return ok
}

func (tr *Tree) changeOwner() bool {
	n, ok := tr.find(func(node) bool { return true })
	if ok {
		tr.chown(n.path)
	}
	return ok
}

func (tr *Tree) changeACL() bool {
	n, ok := tr.find(func(n node) bool { return n.kind != unix.S_IFLNK })
	if !ok {
		return false
	}
	tr.setxattr(n.path, aclAccess, tr.acl(false))
	if n.isDir() && tr.has(DefaultACLs) && tr.chance(2) {
		tr.setxattr(n.path, aclDefault, tr.acl(true))
	}
	return true
}

// stripXattrs removes most xattrs of an entry that has some, ACLs, capabilities
// and properties as well.
func (tr *Tree) stripXattrs() bool {
	n, ok := tr.find(func(n node) bool { return len(tr.listXattrs(n.path)) > 0 })
	if !ok {
		return false
	}
	for i, name := range tr.listXattrs(n.path) {
		if i == 0 || !tr.chance(4) {
			tr.check("removing xattr "+name+" of", n.path, unix.Lremovexattr(tr.abs(n.path), name))
		}
	}
	return true
}

// listXattrs returns the sorted names of an entry's xattrs.
func (tr *Tree) listXattrs(path string) []string {
	tr.t.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Llistxattr(tr.abs(path), b)
	tr.check("listing the xattrs of", path, err)
	names := strings.FieldsFunc(string(b[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	return names
}

func (tr *Tree) changeTime() bool {
	n, ok := tr.find(func(node) bool { return true })
	if ok {
		tr.setTime(n.path)
	}
	return ok
}

// changeRoot gives the root other metadata. A root that hands something down
// does so from one mutation to another, or not.
func (tr *Tree) changeRoot() bool {
	if x := tr.root.xattr; x != "" && tr.chance(2) && slices.Contains(tr.listXattrs(""), x) {
		tr.check("removing xattr "+x+" of", "", unix.Lremovexattr(tr.Dir, x))
		return true
	}
	tr.dressRoot()
	return true
}
