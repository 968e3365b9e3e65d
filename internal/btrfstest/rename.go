package btrfstest

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (tr *Tree) remove(path string) {
	tr.t.Helper()
	tr.check("removing", path, os.RemoveAll(tr.abs(path)))
	tr.moved()
}

func (tr *Tree) deleteOne() bool {
	n, ok := tr.find(func(n node) bool { return !n.isDir() })
	if ok {
		tr.remove(n.path)
	}
	return ok
}

func (tr *Tree) deleteTree() bool {
	n, ok := tr.find(node.isDir)
	if ok {
		tr.remove(n.path)
	}
	return ok
}

// recreate replaces an entry with a new one of the same name: another inode,
// and often another type.
func (tr *Tree) recreate() bool {
	n, ok := tr.find(func(node) bool { return true })
	if ok {
		tr.remove(n.path)
		tr.makeAt(n.path)
	}
	return ok
}

// makeAt makes a file, directory, fifo or symlink of a given name.
func (tr *Tree) makeAt(path string) {
	tr.t.Helper()
	switch tr.rng.IntN(6) {
	case 0:
		tr.check("making directory", path, unix.Mkdir(tr.abs(path), 0o755))
	case 1:
		if tr.has(Symlinks) {
			tr.check("making symlink", path, unix.Symlink("made at", tr.abs(path)))
			break
		}
		fallthrough
	case 2:
		if tr.has(Fifos) {
			tr.check("making fifo", path, unix.Mkfifo(tr.abs(path), 0o644))
			break
		}
		fallthrough
	default:
		tr.check("creating", path, os.WriteFile(tr.abs(path), tr.content(tr.between(0, 20_000)), 0o644))
	}
	tr.dress(path)
}

// refill empties a directory and makes new entries, most of the old names.
func (tr *Tree) refill() bool {
	dir, ok := tr.find(node.isDir)
	if !ok {
		return false
	}
	var names []string
	for _, n := range tr.walk()[1:] {
		if parent(n.path) == dir.path {
			names = append(names, n.path)
			tr.remove(n.path)
		}
	}
	for _, path := range names[:min(len(names), 20)] {
		if !tr.chance(4) {
			tr.makeAt(path)
		}
	}
	return true
}

// move renames an entry, unless a path below it would become too long.
func (tr *Tree) move(from, to string) bool {
	tr.t.Helper()
	if !tr.fits(from, to) {
		return false
	}
	tr.check("renaming to "+to, from, unix.Rename(tr.abs(from), tr.abs(to)))
	tr.moved()
	return true
}

// fits reports whether from and all that is below it may stand at to.
func (tr *Tree) fits(from, to string) bool {
	tr.t.Helper()
	for _, n := range tr.walk() {
		if within(n.path, from) && len(n.path)-len(from)+len(to) > maxPath {
			return false
		}
	}
	return true
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, dir+"/")
}

func (tr *Tree) rename() bool {
	n, ok := tr.find(func(node) bool { return true })
	dir := tr.anyDir()
	return ok && !within(dir, n.path) && tr.move(n.path, join(dir, tr.name(dir)))
}

func (tr *Tree) renameOver() bool {
	a, _ := tr.find(func(n node) bool { return !n.isDir() })
	b, ok := tr.find(func(n node) bool { return !n.isDir() && n.path != a.path })
	// Renaming one link of a file over another does nothing at all.
	return ok && tr.lstat(a.path).Ino != tr.lstat(b.path).Ino && tr.move(a.path, b.path)
}

// rotate moves a to b, b to c and c to a.
func (tr *Tree) rotate() bool {
	var paths []string
	for len(paths) < 3 {
		n, ok := tr.find(func(n node) bool {
			return !slices.ContainsFunc(paths, func(p string) bool { return within(p, n.path) || within(n.path, p) })
		})
		if !ok {
			return false
		}
		paths = append(paths, n.path)
	}
	for i, p := range paths {
		if !tr.fits(p, paths[(i+1)%3]) {
			return false
		}
	}
	return tr.exchange(paths[0], paths[1]) && tr.exchange(paths[0], paths[2])
}

// exchange swaps two entries, in one step or by way of a third name.
func (tr *Tree) exchange(a, b string) bool {
	tr.t.Helper()
	defer tr.moved()
	if tr.chance(2) {
		tr.check("exchanging with "+b, a, unix.Renameat2(unix.AT_FDCWD, tr.abs(a), unix.AT_FDCWD, tr.abs(b), unix.RENAME_EXCHANGE))
		return true
	}
	third := tr.name("")
	for _, step := range [][2]string{{a, third}, {b, a}, {third, b}} {
		tr.check("renaming to "+step[1], step[0], unix.Rename(tr.abs(step[0]), tr.abs(step[1])))
	}
	return true
}

func (tr *Tree) swap(is func(node) bool) bool {
	a, _ := tr.find(is)
	b, ok := tr.find(func(n node) bool { return is(n) && !within(n.path, a.path) && !within(a.path, n.path) })
	return ok && tr.fits(a.path, b.path) && tr.fits(b.path, a.path) && tr.exchange(a.path, b.path)
}

func (tr *Tree) moveDir() bool {
	a, ok := tr.find(node.isDir)
	dir := tr.anyDir()
	return ok && !within(dir, a.path) && tr.move(a.path, join(dir, tr.name(dir)))
}

func (tr *Tree) moveAndReplace() bool {
	a, ok := tr.find(node.isDir)
	dir := tr.anyDir()
	if !ok || within(dir, a.path) || !tr.move(a.path, join(dir, tr.name(dir))) {
		return false
	}
	tr.check("making directory", a.path, unix.Mkdir(tr.abs(a.path), 0o755))
	tr.dress(a.path)
	if len(a.path) < maxPath-600 {
		tr.makeFile(a.path, tr.content(1000))
	}
	return true
}

// invert makes the child of a directory its parent.
func (tr *Tree) invert() bool {
	child, ok := tr.find(func(n node) bool { return n.isDir() && parent(n.path) != "" && len(n.path) < maxPath-600 })
	if !ok {
		return false
	}
	outer := parent(child.path)
	place := join(parent(outer), tr.name(parent(outer)))
	if !tr.move(child.path, place) {
		return false
	}
	if tr.move(outer, join(place, tr.name(place))) && tr.chance(2) {
		tr.move(place, outer) // the child now bears its parent's old name
	}
	return true
}

// fileToDir puts a directory in the place of a file, and half the time the file
// into it.
func (tr *Tree) fileToDir() bool {
	n, ok := tr.find(func(n node) bool { return !n.isDir() && len(n.path) < maxPath-600 })
	if !ok {
		return false
	}
	aside := tr.name("")
	tr.move(n.path, aside)
	tr.check("making directory", n.path, unix.Mkdir(tr.abs(n.path), 0o755))
	tr.dress(n.path)
	if tr.chance(2) {
		tr.move(aside, join(n.path, tr.name(n.path)))
	} else {
		tr.remove(aside)
	}
	return true
}

func (tr *Tree) dirToFile() bool {
	n, ok := tr.find(node.isDir)
	if ok {
		tr.remove(n.path)
		tr.check("creating", n.path, os.WriteFile(tr.abs(n.path), tr.content(tr.between(0, 9000)), 0o644))
		tr.dress(n.path)
	}
	return ok
}

func (tr *Tree) addLink() bool {
	n, ok := tr.find(func(n node) bool { return !n.isDir() })
	if ok {
		tr.link(n.path, tr.anyDir())
	}
	return ok
}

func (tr *Tree) removeLink() bool {
	n, ok := tr.find(func(n node) bool { return n.isFile() && tr.lstat(n.path).Nlink > 1 })
	if ok {
		tr.remove(n.path)
	}
	return ok
}
