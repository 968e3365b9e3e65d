package btrfs

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Items as they stand on disk, from linux/btrfs_tree.h: packed, little-endian.

var disk = binary.LittleEndian

// shortError says that an item has fewer bytes than its kind needs.
type shortError struct {
	what string
	size int
}

func (e *shortError) Error() string {
	return fmt.Sprintf("%s of only %d bytes", e.what, e.size)
}

// diskTime reads a struct btrfs_timespec; zero is no time at all.
func diskTime(b []byte) time.Time { return clock(disk.Uint64(b), disk.Uint32(b[8:])) }

// clock makes a time of the kernel's two numbers.
func clock(sec uint64, nsec uint32) time.Time {
	if sec == 0 && nsec == 0 {
		return time.Time{}
	}
	return time.Unix(int64(sec), int64(nsec))
}

const (
	rootItemOldSize = 239 // before UUIDs, kernel 3.6
	rootItemSize    = 439
	rootReadOnly    = 1 << 0  // flag of a root item
	rootDead        = 1 << 48 // flag of a root item
)

// rootItem reads into s what struct btrfs_root_item has, and whether the
// subvolume is on its way out.
func rootItem(data []byte, s *Subvolume) error {
	if len(data) < rootItemOldSize {
		return &shortError{"root item", len(data)}
	}
	s.Generation = disk.Uint64(data[160:])
	flags, refs := disk.Uint64(data[208:]), disk.Uint32(data[216:])
	s.Level = int(data[238])
	s.ReadOnly = flags&rootReadOnly != 0
	s.Deleted = refs == 0 || flags&rootDead != 0
	// A kernel that does not know the second part leaves it behind unchanged
	// while it changes the first: it holds only while both generations agree.
	if len(data) < rootItemSize || disk.Uint64(data[239:]) != s.Generation {
		return nil
	}
	copy(s.UUID[:], data[247:])
	copy(s.ParentUUID[:], data[263:])
	copy(s.ReceivedUUID[:], data[279:])
	s.Ctransid, s.Otransid = disk.Uint64(data[295:]), disk.Uint64(data[303:])
	s.Stransid, s.Rtransid = disk.Uint64(data[311:]), disk.Uint64(data[319:])
	s.Ctime, s.Otime = diskTime(data[327:]), diskTime(data[339:])
	s.Stime, s.Rtime = diskTime(data[351:]), diskTime(data[363:])
	return nil
}

// rootBackref reads a struct btrfs_root_ref: in which directory of the
// containing subvolume a subvolume stands, and under which name.
func rootBackref(data []byte) (dir uint64, name string, err error) {
	const head = 18
	if len(data) < head {
		return 0, "", &shortError{"root backref", len(data)}
	}
	length := int(disk.Uint16(data[16:]))
	if len(data) < head+length {
		return 0, "", &shortError{"root backref", len(data)}
	}
	return disk.Uint64(data), string(data[head : head+length]), nil
}

// inodeRefName reads the first name in a struct btrfs_inode_ref.
func inodeRefName(data []byte) (string, error) {
	const head = 10
	if len(data) < head {
		return "", &shortError{"inode reference", len(data)}
	}
	length := int(disk.Uint16(data[8:]))
	if len(data) < head+length {
		return "", &shortError{"inode reference", len(data)}
	}
	return string(data[head : head+length]), nil
}

// inode is what is of use here of struct btrfs_inode_item.
type inode struct {
	generation uint64 // transaction that made it
	transid    uint64 // transaction that last changed it
	size       uint64
	links      uint32
	mode       uint32
	ctime      time.Time
}

func inodeItem(data []byte) (inode, error) {
	if len(data) < 160 {
		return inode{}, &shortError{"inode item", len(data)}
	}
	return inode{
		generation: disk.Uint64(data),
		transid:    disk.Uint64(data[8:]),
		size:       disk.Uint64(data[16:]),
		links:      disk.Uint32(data[40:]),
		mode:       disk.Uint32(data[52:]),
		ctime:      time.Unix(int64(disk.Uint64(data[124:])), int64(disk.Uint32(data[132:]))),
	}, nil
}

// Kinds of extents.
const (
	extentInline   = 0
	extentRegular  = 1
	extentPrealloc = 2
)

// extent is struct btrfs_file_extent_item.
type extent struct {
	generation  uint64 // transaction that wrote the data
	kind        uint8
	compressed  bool
	start       uint64 // on disk; 0 is a hole; 0 for an inline extent
	stored      uint64 // bytes on disk of the whole extent
	offset      uint64 // into the uncompressed extent
	length      uint64 // bytes of the file
	decodedSize uint64 // of the whole extent
}

func extentItem(data []byte) (extent, error) {
	const inlineHead, regularSize = 21, 53
	if len(data) < inlineHead {
		return extent{}, &shortError{"extent item", len(data)}
	}
	e := extent{
		generation:  disk.Uint64(data),
		decodedSize: disk.Uint64(data[8:]),
		compressed:  data[16] != 0,
		kind:        data[20],
	}
	if e.kind == extentInline {
		e.stored, e.length = uint64(len(data)-inlineHead), e.decodedSize
		return e, nil
	}
	if len(data) < regularSize {
		return extent{}, &shortError{"extent item", len(data)}
	}
	e.start, e.stored = disk.Uint64(data[21:]), disk.Uint64(data[29:])
	e.offset, e.length = disk.Uint64(data[37:]), disk.Uint64(data[45:])
	return e, nil
}

// qgroupInfo reads a struct btrfs_qgroup_info_item.
func qgroupInfo(data []byte) (Usage, error) {
	if len(data) < 40 {
		return Usage{}, &shortError{"qgroup item", len(data)}
	}
	return Usage{Referenced: disk.Uint64(data[8:]), Exclusive: disk.Uint64(data[24:])}, nil
}

// qgroupOn reads from a struct btrfs_qgroup_status_item whether accounting is
// on and not known to be wrong.
func qgroupOn(data []byte) (bool, error) {
	const on, inconsistent = 1 << 0, 1 << 2
	if len(data) < 32 {
		return false, &shortError{"qgroup status", len(data)}
	}
	return disk.Uint64(data[16:])&(on|inconsistent) == on, nil
}
