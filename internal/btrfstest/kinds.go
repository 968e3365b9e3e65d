package btrfstest

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// sector is the unit of extents, reflinks and holes. Inline is the size up to
// which btrfs keeps a file's content inside its metadata by default.
const (
	sector = 4096
	inline = 2048
)

// A kind of entry a tree can make.
type kind struct {
	name    string
	feature Feature // "" for what cannot be left out
	rare    bool    // too big or too slow to be made often
	make    func(tr *Tree, dir string)
}

var allKinds = []kind{
	{name: "empty file", make: fileOf(0, 0)},
	{name: "inline file", make: fileOf(1, inline)},
	{name: "small file", make: fileOf(inline+1, 20_000)},
	{name: "file of whole sectors", make: func(tr *Tree, dir string) { tr.makeFile(dir, tr.content(sector*tr.between(1, 20))) }},
	{name: "compressible file", make: func(tr *Tree, dir string) { tr.makeFile(dir, tr.prose(tr.between(8_000, 300_000))) }},
	{name: "incompressible file", make: func(tr *Tree, dir string) { tr.makeFile(dir, tr.noise(tr.between(8_000, 200_000))) }},
	{name: "file at an extent's limit", make: func(tr *Tree, dir string) { tr.makeFile(dir, tr.content(128<<10+tr.between(-1, 1))) }},
	{name: "big file", feature: BigFiles, rare: true, make: (*Tree).makeBig},
	{name: "sparse file", feature: Sparse, make: (*Tree).makeSparse},
	{name: "preallocated file", feature: Prealloc, make: (*Tree).makePrealloc},
	{name: "punched file", feature: Holes, make: (*Tree).makePunched},
	{name: "reflink of a whole file", feature: Reflinks, make: (*Tree).makeReflink},
	{name: "reflink of a part", feature: Reflinks, make: (*Tree).makePartialReflink},
	{name: "reflink within a file", feature: Reflinks, make: (*Tree).makeSelfReflink},
	{name: "hard link", feature: HardLinks, make: (*Tree).makeLink},
	{name: "hard link in another directory", feature: HardLinks, make: (*Tree).makeFarLink},
	{name: "many hard links", feature: ManyLinks, rare: true, make: (*Tree).makeManyLinks},
	{name: "user xattr", feature: UserXattrs, make: xattrOf("user.")},
	{name: "trusted xattr", feature: TrustedXattrs, make: xattrOf("trusted.")},
	{name: "security xattr", feature: SecurityXattrs, make: xattrOf("security.")},
	{name: "access ACL", feature: ACLs, make: (*Tree).makeACL},
	{name: "default ACL", feature: DefaultACLs, make: (*Tree).makeDefaultACL},
	{name: "capability", feature: Capabilities, make: (*Tree).makeCapable},
	{name: "compression of a file", feature: Compression, make: (*Tree).makeCompressed},
	{name: "compression of a directory", feature: Compression, make: (*Tree).makeCompressedDir},
	{name: "fifo", feature: Fifos, make: nodeOf(unix.S_IFIFO)},
	{name: "socket", feature: Sockets, make: nodeOf(unix.S_IFSOCK)},
	{name: "character device", feature: DeviceNodes, make: nodeOf(unix.S_IFCHR)},
	{name: "block device", feature: DeviceNodes, make: nodeOf(unix.S_IFBLK)},
	{name: "symlink", feature: Symlinks, make: (*Tree).makeSymlink},
	{name: "long symlink", feature: Symlinks, make: func(tr *Tree, dir string) { tr.symlink(dir, strings.Repeat("long/", tr.between(100, 760))) }},
	{name: "odd symlink", feature: Symlinks, make: func(tr *Tree, dir string) {
		tr.symlink(dir, pick(tr, "\xff\xfe\n\\ ", "/", " ", "-", "//../", "o257-7-0"))
	}},
	{name: "setuid file", feature: OddModes, make: modeOf(0o4755)},
	{name: "setgid file", feature: OddModes, make: modeOf(0o2755)},
	{name: "mode 0 file", feature: OddModes, make: modeOf(0)},
	{name: "sticky directory", feature: OddModes, make: dirModeOf(0o1777)},
	{name: "setgid directory", feature: OddModes, make: dirModeOf(0o2775)},
	{name: "empty directory", make: func(tr *Tree, dir string) { tr.mkdir(dir) }},
	{name: "directory", make: (*Tree).makeDir},
	{name: "crowded directory", rare: true, make: (*Tree).makeCrowd},
	{name: "deep path", feature: DeepPaths, rare: true, make: (*Tree).makeDeep},
}

func (tr *Tree) kinds() []kind {
	var kinds []kind
	for _, k := range allKinds {
		if tr.has(k.feature) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// pickKind returns a kind that is not rare, or seldom one that is.
func (tr *Tree) pickKind() kind {
	for {
		if k := pick(tr, tr.kinds()...); !k.rare || tr.chance(20) {
			return k
		}
	}
}

func fileOf(lo, hi int) func(*Tree, string) {
	return func(tr *Tree, dir string) { tr.makeFile(dir, tr.content(tr.between(lo, hi))) }
}

func modeOf(mode uint32) func(*Tree, string) {
	return func(tr *Tree, dir string) {
		path := tr.create(dir, tr.content(tr.between(0, 3000)))
		if tr.has(Owners) {
			tr.chown(path)
		}
		tr.chmod(path, mode)
	}
}

func dirModeOf(mode uint32) func(*Tree, string) {
	return func(tr *Tree, dir string) {
		path := tr.mkdir(dir)
		if tr.has(Owners) {
			tr.chown(path)
		}
		tr.chmod(path, mode)
		tr.makeFile(path, tr.content(100))
		tr.makeDir(path)
	}
}

func xattrOf(prefix string) func(*Tree, string) {
	return func(tr *Tree, dir string) {
		path := tr.create(dir, tr.content(tr.between(0, 3000)))
		if tr.chance(3) {
			path = tr.mkdir(dir)
		}
		for range tr.between(1, 4) {
			tr.addXattr(path, prefix)
		}
	}
}

func nodeOf(mode uint32) func(*Tree, string) {
	return func(tr *Tree, dir string) {
		path := join(dir, tr.name(dir))
		var rdev uint64
		if mode == unix.S_IFCHR || mode == unix.S_IFBLK {
			rdev = pick(tr, unix.Mkdev(1, 3), unix.Mkdev(8, 1), unix.Mkdev(250, 300), unix.Mkdev(4095, 1<<20-1), unix.Mkdev(7, 70_000))
		}
		tr.check("making node", path, unix.Mknod(tr.abs(path), mode|0o600, int(rdev)))
		tr.dress(path)
	}
}

// create makes a file with usual metadata and returns its path.
func (tr *Tree) create(dir string, content []byte) string {
	tr.t.Helper()
	path := join(dir, tr.name(dir))
	tr.check("creating", path, os.WriteFile(tr.abs(path), content, 0o644))
	tr.chmod(path, 0o644) // whatever the umask
	return path
}

// makeFile makes a file with random metadata and returns its path.
func (tr *Tree) makeFile(dir string, content []byte) {
	tr.t.Helper()
	tr.dress(tr.create(dir, content))
}

// mkdir makes a directory with usual metadata and returns its path.
func (tr *Tree) mkdir(dir string) string {
	tr.t.Helper()
	path := join(dir, tr.name(dir))
	tr.check("making directory", path, unix.Mkdir(tr.abs(path), 0o755))
	tr.chmod(path, 0o755)
	tr.noteDir(path)
	return path
}

func (tr *Tree) makeDir(dir string) {
	tr.t.Helper()
	path := tr.mkdir(dir)
	tr.dress(path)
	for range tr.between(1, 3) {
		tr.makeFile(path, tr.content(tr.between(0, 5000)))
	}
}

// edit opens a file and hands it to do.
func (tr *Tree) edit(path string, do func(fd int) error) {
	tr.t.Helper()
	fd, err := unix.Open(tr.abs(path), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	tr.check("opening", path, err)
	defer unix.Close(fd)
	tr.check("changing", path, do(fd))
}

func writeAt(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, offset)
		if err != nil {
			return err
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

// makeBig alternates what compresses with what does not.
func (tr *Tree) makeBig(dir string) {
	path := tr.create(dir, nil)
	tr.edit(path, func(fd int) error {
		for i := range tr.between(16, 32) {
			if err := writeAt(fd, tr.content(128<<10), int64(i)*128<<10); err != nil {
				return err
			}
		}
		return writeAt(fd, tr.content(tr.between(1, 9000)), 4<<20)
	})
	tr.dress(path)
}

func (tr *Tree) makeSparse(dir string) {
	path := tr.create(dir, nil)
	tr.edit(path, func(fd int) error {
		for range tr.between(1, 5) {
			if err := writeAt(fd, tr.content(tr.between(1, 20_000)), tr.rng.Int64N(3<<20)); err != nil {
				return err
			}
		}
		return unix.Ftruncate(fd, 3<<20+tr.rng.Int64N(1<<20))
	})
	tr.dress(path)
}

// makePrealloc leaves preallocated ranges within the file, beyond its end, or
// both, with some data written into them.
func (tr *Tree) makePrealloc(dir string) {
	path := tr.create(dir, tr.content(tr.between(0, 30_000)))
	tr.edit(path, func(fd int) error {
		mode := pick[uint32](tr, 0, unix.FALLOC_FL_KEEP_SIZE)
		if err := unix.Fallocate(fd, mode, tr.rng.Int64N(100_000), 1+tr.rng.Int64N(500_000)); err != nil {
			return err
		}
		if tr.chance(2) {
			return writeAt(fd, tr.content(tr.between(1, 10_000)), tr.rng.Int64N(200_000))
		}
		return nil
	})
	tr.dress(path)
}

func (tr *Tree) makePunched(dir string) {
	path := tr.create(dir, tr.content(tr.between(20_000, 200_000)))
	tr.edit(path, func(fd int) error {
		for range tr.between(1, 3) {
			if err := tr.punch(fd, 200_000); err != nil {
				return err
			}
		}
		return nil
	})
	tr.dress(path)
}

// punch makes a hole that may begin and end within a sector.
func (tr *Tree) punch(fd int, size int64) error {
	offset, length := tr.rng.Int64N(size), 1+tr.rng.Int64N(50_000)
	if tr.chance(2) {
		offset, length = offset/sector*sector, (length/sector+1)*sector
	}
	mode := pick[uint32](tr, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE)
	return unix.Fallocate(fd, mode|unix.FALLOC_FL_KEEP_SIZE, offset, length)
}

func (tr *Tree) makeLink(dir string) {
	path := tr.create(dir, tr.content(tr.between(0, 9000)))
	tr.dress(path)
	for range tr.between(1, 3) {
		tr.link(path, dir)
	}
}

func (tr *Tree) makeFarLink(dir string) {
	path := tr.create(dir, tr.content(tr.between(0, 9000)))
	tr.dress(path)
	for range tr.between(1, 4) {
		tr.link(path, tr.anyDir())
	}
}

func (tr *Tree) link(path, dir string) {
	tr.t.Helper()
	to := join(dir, tr.name(dir))
	tr.check("linking to", to, unix.Link(tr.abs(path), tr.abs(to)))
}

// makeManyLinks overflows the one item that holds a file's names within a
// directory (a leaf is 16 KiB), so that btrfs falls back to extended references.
func (tr *Tree) makeManyLinks(dir string) {
	sub := tr.mkdir(dir)
	path := tr.create(sub, tr.content(5000))
	for range 80 {
		to := join(sub, tr.longName(230))
		tr.check("linking to", to, unix.Link(tr.abs(path), tr.abs(to)))
	}
}

func (tr *Tree) makeACL(dir string) {
	path := tr.create(dir, tr.content(tr.between(0, 3000)))
	if tr.chance(3) {
		path = tr.mkdir(dir)
	}
	tr.setxattr(path, aclAccess, tr.acl(false))
}

// makeDefaultACL puts entries below the directory both before and after it has
// its ACL.
func (tr *Tree) makeDefaultACL(dir string) {
	path := tr.mkdir(dir)
	tr.makeFile(path, tr.content(1000))
	tr.setxattr(path, aclDefault, tr.acl(true))
	tr.makeFile(path, tr.content(1000))
	tr.makeDir(path)
}

func (tr *Tree) makeCapable(dir string) {
	path := tr.create(dir, tr.content(tr.between(0, 9000)))
	tr.chmod(path, 0o755)
	tr.setxattr(path, capability, tr.capabilities())
}

func (tr *Tree) makeCompressed(dir string) {
	path := tr.create(dir, nil)
	tr.setxattr(path, compressionProperty, []byte(pick(tr, compressions...)))
	tr.edit(path, func(fd int) error { return writeAt(fd, tr.prose(tr.between(5_000, 300_000)), 0) })
}

func (tr *Tree) makeCompressedDir(dir string) {
	path := tr.mkdir(dir)
	tr.setxattr(path, compressionProperty, []byte(pick(tr, compressions...)))
	tr.makeFile(path, tr.prose(tr.between(5_000, 300_000)))
	tr.makeDir(path)
}

func (tr *Tree) makeSymlink(dir string) {
	tr.symlink(dir, pick(tr, "nowhere", ".", "..", "../../../../etc/passwd", "/dev/null", "/nonexistent/\xff", "self", tr.anyDir()+"/x"))
}

func (tr *Tree) symlink(dir, target string) {
	tr.t.Helper()
	path := join(dir, tr.name(dir))
	tr.check("making symlink", path, unix.Symlink(target, tr.abs(path)))
	tr.dress(path)
}

func (tr *Tree) makeCrowd(dir string) {
	path := tr.mkdir(dir)
	for i := range 60 {
		p := fmt.Sprintf("%s/crowd%d", path, i)
		tr.check("creating", p, os.WriteFile(tr.abs(p), tr.noise(tr.between(0, 50)), 0o600))
		tr.chmod(p, 0o600)
	}
}

// makeDeep makes a chain of directories in the root that nearly exhausts the
// length of a path, with a file at each tenth level and at the bottom.
func (tr *Tree) makeDeep(string) {
	path := ""
	for level := 0; len(path) < maxPath-100-70; level++ {
		path = join(path, tr.longName(70))
		tr.check("making directory", path, unix.Mkdir(tr.abs(path), 0o755))
		tr.chmod(path, 0o755)
		if level%10 == 9 {
			p := path + "/leaf"
			tr.check("creating", p, os.WriteFile(tr.abs(p), tr.content(tr.between(0, 5000)), 0o644))
			tr.chmod(p, 0o644)
		}
	}
	path = join(path, tr.longName(maxPath-len(path)-1))
	tr.check("creating", path, os.WriteFile(tr.abs(path), tr.content(10), 0o644))
	tr.chmod(path, 0o644)
}
