package btrfstest

import (
	"golang.org/x/sys/unix"
)

func (tr *Tree) makeReflink(dir string) {
	source := tr.create(dir, tr.content(tr.between(1, 200_000)))
	tr.dress(source)
	to := tr.anyDir()
	path := tr.create(to, nil)
	tr.clone(source, path)
	tr.dress(path)
}

// clone makes path a reflink of source.
func (tr *Tree) clone(source, path string) {
	tr.t.Helper()
	tr.edit(source, func(from int) error {
		tr.edit(path, func(to int) error { return unix.IoctlFileClone(to, from) })
		return nil
	})
}

func (tr *Tree) makePartialReflink(dir string) {
	source := tr.create(dir, tr.content(tr.between(5*sector, 300_000)))
	path := tr.create(tr.anyDir(), tr.content(tr.between(0, 100_000)))
	for range tr.between(1, 3) {
		tr.cloneRange(source, path)
	}
	tr.dress(path)
}

func (tr *Tree) makeSelfReflink(dir string) {
	path := tr.create(dir, tr.content(tr.between(8*sector, 300_000)))
	for range tr.between(1, 3) {
		tr.cloneRange(path, path)
	}
	tr.dress(path)
}

// cloneRange makes some sectors of path a reflink of sectors of source, which
// may be the same file. The kernel wants whole sectors, except at the source's
// end when that becomes the end of path too, and no overlap.
func (tr *Tree) cloneRange(source, path string) {
	tr.t.Helper()
	tr.edit(source, func(from int) error {
		var st unix.Stat_t
		if err := unix.Fstat(from, &st); err != nil {
			return err
		}
		sectors := st.Size / sector
		if sectors < 2 {
			return nil
		}
		start := tr.rng.Int64N(sectors)
		count := 1 + tr.rng.Int64N(min(sectors-start, 32))
		to := tr.rng.Int64N(64)
		if source == path && to < start+count && start < to+count {
			to = start + count
		}
		arg := unix.FileCloneRange{
			Src_fd: int64(from), Src_offset: uint64(start * sector), Src_length: uint64(count * sector),
			Dest_offset: uint64(to * sector),
		}
		if size := tr.lstat(path).Size; !tr.has(InlineTails) && size > 0 && size < sector && to > 0 {
			return nil
		}
		tr.edit(path, func(fd int) error { return unix.IoctlFileCloneRange(fd, &arg) })
		return nil
	})
}
