package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Contents is a read-only subvolume that is read by the items of its tree and
// by inode number, without going through its directories. All its methods may
// be called at the same time.
type Contents struct {
	root   *os.File
	fd     int // of root
	info   Subvolume
	sector uint64
	// noDirect is set when the kernel turns out not to read past the page cache.
	noDirect atomic.Bool
}

// OpenContents prepares to read the subvolume subvol, of which it keeps its own
// handle. The error is a [*PermissionError] for want of CAP_SYS_ADMIN or
// CAP_DAC_READ_SEARCH, and matches EPERM if subvol is not read-only.
func OpenContents(subvol *os.File) (_ *Contents, err error) {
	op := "reading " + subvol.Name()
	if err := sendable(op, subvol); err != nil {
		return nil, err
	}
	c := &Contents{}
	if c.info, err = Info(subvol); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	args, err := fsInfo(subvol)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	c.sector = max(uint64(args.sectorSize), 4<<10)
	if c.root, err = duplicate(subvol); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	defer func() {
		if err != nil {
			c.root.Close()
		}
	}()
	if err = control(c.root, func(fd int) error { c.fd = fd; return nil }); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	fd, err := openByHandle(c.fd, firstInode, c.info.ID, 0, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, refused(op, capDACReadSearch, err)
	}
	unix.Close(fd)
	return c, nil
}

// Close lets go of the subvolume. No other method may be running or be called
// later.
func (c *Contents) Close() error { return c.root.Close() }

// Name is that of the file that OpenContents was given.
func (c *Contents) Name() string { return c.root.Name() }

// Info is what was known of the subvolume when it was opened.
func (c *Contents) Info() Subvolume { return c.info }

// SectorSize is the size of the blocks of the file system's data, in bytes.
func (c *Contents) SectorSize() uint64 { return c.sector }

// Unchanged returns nil if the subvolume has been there, and read-only, ever
// since it was opened. The error matches [ErrBusy] where it may be so the next
// time: deduplication changes a subvolume, though not what it holds.
func (c *Contents) Unchanged() error {
	now, err := Info(c.root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading %s: it has been deleted meanwhile: %w", c.Name(), fs.ErrNotExist)
	case err != nil:
		return err
	case !now.ReadOnly:
		return fmt.Errorf("reading %s: it has been made writable meanwhile: %w", c.Name(), unix.EPERM)
	case now.Ctransid != c.info.Ctransid:
		return fmt.Errorf("reading %s: it has changed meanwhile: %w", c.Name(), ErrBusy)
	}
	return nil
}

// Bound returns a number that is above all inode numbers of the subvolume, and
// below four times the highest of them or [RootInode].
func (c *Contents) Bound() (uint64, error) {
	buffer := make([]byte, searchArgsSize+searchBuffer)
	for bound := 2 * RootInode; bound < LastInode/2; bound *= 2 {
		rest := wholeSubvolume(0)
		rest.first.object = bound
		count, err := searchFor(c.root, rest, rest.first, 1, buffer)
		if err != nil {
			return 0, searching(c.Name(), err)
		}
		if count == 0 {
			return bound, nil
		}
	}
	return LastInode, nil
}

// The first and last inode number that anything in a subvolume can have. The
// first is that of its root directory.
const (
	RootInode = uint64(firstInode)
	LastInode = uint64(lastInode)
)

// ItemKind says what an item of a subvolume's tree is. Those without a name
// here are of no use for what the subvolume contains.
type ItemKind uint8

// The kinds, in the order in which they follow each other in the tree; of each
// inode all items stand together.
const (
	InodeItem   ItemKind = inodeItemType   // one, see [ParseInode]
	InodeRef    ItemKind = inodeRefType    // the names in the directory Offset, see [CutRef]
	InodeExtref ItemKind = inodeExtrefType // names that have found no room there, see [CutExtref]
	XattrItem   ItemKind = xattrItemType   // see [CutXattr]
	ExtentData  ItemKind = extentDataType  // the data at Offset, see [ParseExtent]
)

// An Item is one item of a subvolume's tree. Data is valid until the next one
// is asked for.
type Item struct {
	Inode  uint64
	Kind   ItemKind
	Offset uint64
	Data   []byte
}

// A Search reads items of a subvolume's tree. It is for one goroutine and one
// use at a time, and holds a buffer.
type Search struct {
	of     *Contents
	buffer []byte
}

// Search returns a Search with a buffer of at least the given size: the larger
// it is, the fewer calls of the kernel a long search needs.
func (c *Contents) Search(size int) *Search {
	return &Search{of: c, buffer: make([]byte, searchArgsSize+max(size, searchBuffer))}
}

// Inodes gives the items of all inodes from number first to number last, in the
// order of the tree. An error ends it.
func (s *Search) Inodes(first, last uint64) iter.Seq2[Item, error] {
	part := wholeSubvolume(0)
	part.first.object, part.last.object = max(first, RootInode), min(last, LastInode)
	return s.items(part)
}

// Inode gives the items of one inode from kind first to kind last.
func (s *Search) Inode(ino uint64, first, last ItemKind) iter.Seq2[Item, error] {
	part := ofKind(currentTree, ino, uint8(first))
	part.last.kind = uint8(last)
	return s.items(part)
}

func (s *Search) items(part span) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for it, err := range searchIn(s.of.root, part, s.buffer) {
			if err != nil {
				yield(Item{}, searching(s.of.Name(), err))
				return
			}
			if !yield(Item{Inode: it.object, Kind: ItemKind(it.kind), Offset: it.offset, Data: it.data}, nil) {
				return
			}
		}
	}
}
