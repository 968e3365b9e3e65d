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

// A Filesystem is a mounted btrfs, held by an open directory of it. Its methods
// may be called at the same time.
type Filesystem struct {
	dir  *os.File
	uuid UUID
}

// Open opens the file system that the directory at path is on.
//
// The error is one that matches fs.ErrNotExist if there is nothing at path,
// ENOTDIR if it is no directory, and [ErrNotBtrfs] if it is on something else.
func Open(path string) (*Filesystem, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	f, err := Of(dir)
	if err != nil {
		dir.Close()
	}
	return f, err
}

// Of returns the file system that an open directory is on. It takes the
// directory over, unless it fails, which it does with [ErrNotBtrfs] if the
// directory is on something else.
func Of(dir *os.File) (*Filesystem, error) {
	info, err := fsInfo(dir)
	if err != nil {
		return nil, err
	}
	return &Filesystem{dir: dir, uuid: info.fsid}, nil
}

// onBtrfs returns nil if f is on a btrfs, and ErrNotBtrfs if not.
func onBtrfs(f *os.File) error {
	var st unix.Statfs_t
	if err := control(f, func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return fmt.Errorf("looking at the file system of %s: %w", f.Name(), err)
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return fmt.Errorf("%s: %w", f.Name(), ErrNotBtrfs)
	}
	return nil
}

func fsInfo(f *os.File) (fsInfoArgs, error) {
	if err := onBtrfs(f); err != nil {
		return fsInfoArgs{}, err
	}
	args := fsInfoArgs{flags: fsInfoGeneration}
	if err := request(f, iocFSInfo, unsafe.Pointer(&args)); err != nil {
		return fsInfoArgs{}, fmt.Errorf("asking for the UUID of the file system of %s: %w", f.Name(), err)
	}
	return args, nil
}

// FilesystemUUID returns the UUID of the file system that f is on, or an error
// that matches [ErrNotBtrfs].
func FilesystemUUID(f *os.File) (UUID, error) {
	info, err := fsInfo(f)
	return info.fsid, err
}

// Close lets go of the file system.
func (f *Filesystem) Close() error { return f.dir.Close() }

// Dir returns the directory that was opened. It belongs to f.
func (f *Filesystem) Dir() *os.File { return f.dir }

// UUID returns the UUID of the file system.
func (f *Filesystem) UUID() UUID { return f.uuid }

// ByUUID returns the numbers of the subvolumes whose own UUID is u: none, one,
// or, after an accident, several.
func (f *Filesystem) ByUUID(u UUID) ([]uint64, error) {
	return f.byUUID(uuidOwnType, u, func(s Subvolume) bool { return s.UUID == u })
}

// ByReceivedUUID returns the numbers of the subvolumes whose received UUID is
// u. Several are nothing unusual: a read-only snapshot of a received snapshot
// keeps its received UUID.
func (f *Filesystem) ByReceivedUUID(u UUID) ([]uint64, error) {
	return f.byUUID(uuidReceivedType, u, func(s Subvolume) bool { return s.ReceivedUUID == u })
}

// byUUID asks the UUID tree, or looks at all subvolumes where there is none.
func (f *Filesystem) byUUID(kind uint8, u UUID, same func(Subvolume) bool) ([]uint64, error) {
	if u.IsZero() {
		return nil, nil
	}
	where := key{object: disk.Uint64(u[:]), kind: kind, offset: disk.Uint64(u[8:])}
	var ids []uint64
	for it, err := range search(f.dir, span{tree: uuidTree, first: where, last: where}) {
		if errors.Is(err, unix.ENOENT) {
			return f.byScan(same)
		}
		if err != nil {
			return nil, searching("for UUID "+u.String(), err)
		}
		for data := it.data; len(data) >= 8; data = data[8:] {
			ids = append(ids, disk.Uint64(data))
		}
	}
	return ids, nil
}

func (f *Filesystem) byScan(same func(Subvolume) bool) ([]uint64, error) {
	all, err := f.Subvolumes()
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, s := range all {
		if same(s) && !s.Deleted {
			ids = append(ids, s.ID)
		}
	}
	return ids, nil
}

// OpenSubvolume opens the root directory of a subvolume by its number,
// wherever in the file system it is, also where no mount shows it. Changes can
// be made through it unless the mount behind f is read-only.
//
// The error matches fs.ErrNotExist if there is no such subvolume.
func (f *Filesystem) OpenSubvolume(id uint64) (*os.File, error) {
	op := fmt.Sprintf("opening subvolume %d", id)
	sub, err := openSubvolume(f.dir, id)
	if err != nil {
		return nil, refused(op, capDACReadSearch, err)
	}
	return sub, nil
}

func openSubvolume(dir *os.File, id uint64) (*os.File, error) {
	sub, err := openRoot(dir, id, 0)
	if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOENT) {
		// Linux 6.1 wants to know the generation of the inode.
		var generation uint64
		if generation, err = rootGeneration(dir, id); err == nil {
			sub, err = openRoot(dir, id, generation)
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fs.ErrNotExist
	case errors.Is(err, unix.ESTALE):
		return nil, whyStale(dir, id)
	case err != nil:
		return nil, err
	}
	info, err := Info(sub)
	if err == nil && info.ID != id {
		err = fs.ErrNotExist
	}
	if err != nil {
		sub.Close()
		return nil, err
	}
	return sub, nil
}

// openRoot opens the root directory of a subvolume. Generation 0 is any, where
// the kernel has that.
func openRoot(dir *os.File, id, generation uint64) (*os.File, error) {
	fd := -1
	err := control(dir, func(mount int) (err error) {
		fd, err = openByHandle(mount, firstInode, id, generation, unix.O_RDONLY|unix.O_DIRECTORY)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("subvolume %d", id)), nil
}

// rootGeneration returns the generation of a subvolume's root directory. A
// snapshot has that of its original. The error matches fs.ErrNotExist if there
// is no such subvolume.
func rootGeneration(dir *os.File, id uint64) (uint64, error) {
	for it, err := range search(dir, ofKind(id, firstInode, inodeItemType)) {
		if err != nil {
			return 0, err
		}
		root, err := inodeItem(it.data)
		return root.generation, err
	}
	return 0, fs.ErrNotExist
}

// whyStale tells why there is no subvolume behind a handle. The kernel says
// ESTALE for whatever keeps it from opening one (fs/exportfs/expfs.c), a disk
// that cannot be read as well.
func whyStale(dir *os.File, id uint64) error {
	if id != TopLevel {
		if _, _, _, err := backref(dir, id); err != nil {
			return err
		}
	}
	return fmt.Errorf("it exists, but cannot be read: %w", unix.EIO)
}

const (
	handleWithoutParent = 0x4d // FILEID_BTRFS_WITHOUT_PARENT: ino, subvolume, u32 generation
	handleSize          = 20
)

// openByHandle opens an inode by its number. Generation 0 is any, but not for
// older kernels such as 6.1.
func openByHandle(mount int, ino, subvol, generation uint64, flags int) (int, error) {
	var handle [handleSize]byte
	disk.PutUint64(handle[:], ino)
	disk.PutUint64(handle[8:], subvol)
	disk.PutUint32(handle[16:], uint32(generation))
	return unix.OpenByHandleAt(mount, unix.NewFileHandle(handleWithoutParent, handle[:]), flags|unix.O_CLOEXEC)
}

// Quota returns what quota accounting knows, by number of subvolume, if it is
// switched on and its numbers are not known to be wrong; else false. It never
// switches anything on. With simple quotas the numbers count for the subvolume
// that first wrote the data only.
func (f *Filesystem) Quota() (map[uint64]Usage, bool, error) {
	const op = "the quota tree"
	on := false
	usage := make(map[uint64]Usage)
	s := span{
		tree:  quotaTree,
		first: key{kind: qgroupStatusType},
		last:  key{kind: qgroupInfoType, offset: math.MaxUint64},
	}
	for it, err := range search(f.dir, s) {
		if errors.Is(err, unix.ENOENT) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, searching(op, err)
		}
		switch {
		case it.kind == qgroupStatusType:
			on, err = qgroupOn(it.data)
		case it.kind == qgroupInfoType && it.offset>>48 == 0: // the upper bits are the level: 0 is subvolumes
			usage[it.offset], err = qgroupInfo(it.data)
		}
		if err != nil {
			return nil, false, searching(op, err)
		}
	}
	if !on {
		return nil, false, nil
	}
	return usage, true, nil
}

// Subvolumes returns all subvolumes of the file system, the top level among
// them, in the order of their numbers.
//
// It reads what the last transactions have brought to the tree of roots: the
// Generation and Ctransid of a writable subvolume may lag behind a little.
func (f *Filesystem) Subvolumes() ([]Subvolume, error) {
	for try := 1; ; try++ {
		all, err := f.subvolumes()
		// It may stand in a subvolume that was made since the listing began.
		if !errors.Is(err, errUnplaced) || try == 3 {
			return all, err
		}
	}
}

func (f *Filesystem) subvolumes() ([]Subvolume, error) {
	l := listing{dir: f.dir, index: make(map[uint64]int), dirs: make(map[dirKey]string)}
	if err := l.read(); err != nil {
		return nil, err
	}
	for i := range l.all {
		if _, err := l.path(i); err != nil {
			return nil, err
		}
	}
	return slices.Clip(l.all), nil
}
