package btrfs

import "fmt"

// A Timespec is a time as it stands on disk: seconds since 1970, negative
// before, and nanoseconds after them.
type Timespec struct {
	Sec  int64
	Nsec uint32
}

// An Inode is what an [InodeItem] says: struct btrfs_inode_item.
type Inode struct {
	Generation   uint64 // part of its identity: numbers are used again
	Size         uint64
	Links        uint32 // 0: it has been removed and is still in use
	UID, GID     uint32
	Mode         uint32
	Rdev         uint64 // major<<20 | minor
	Atime, Ctime Timespec
	Mtime, Otime Timespec
}

// ParseInode reads an [InodeItem].
func ParseInode(data []byte) (Inode, error) {
	if len(data) < 160 {
		return Inode{}, &shortError{"inode item", len(data)}
	}
	at := func(i int) Timespec { return Timespec{int64(disk.Uint64(data[i:])), disk.Uint32(data[i+8:])} }
	return Inode{
		Generation: disk.Uint64(data),
		Size:       disk.Uint64(data[16:]),
		Links:      disk.Uint32(data[40:]),
		UID:        disk.Uint32(data[44:]),
		GID:        disk.Uint32(data[48:]),
		Mode:       disk.Uint32(data[52:]),
		Rdev:       disk.Uint64(data[56:]),
		Atime:      at(112), Ctime: at(124), Mtime: at(136), Otime: at(148),
	}, nil
}

// CutRef takes the first name off the data of an [InodeRef]: struct
// btrfs_inode_ref, one behind the other.
func CutRef(data []byte) (name, rest []byte, err error) {
	const head = 10
	if len(data) < head || len(data) < head+int(disk.Uint16(data[8:])) {
		return nil, nil, &shortError{"inode reference", len(data)}
	}
	end := head + int(disk.Uint16(data[8:]))
	return data[head:end], data[end:], nil
}

// CutExtref takes the first name, and the number of its directory, off the data
// of an [InodeExtref]: struct btrfs_inode_extref, one behind the other.
func CutExtref(data []byte) (dir uint64, name, rest []byte, err error) {
	const head = 18
	if len(data) < head || len(data) < head+int(disk.Uint16(data[16:])) {
		return 0, nil, nil, &shortError{"extended inode reference", len(data)}
	}
	end := head + int(disk.Uint16(data[16:]))
	return disk.Uint64(data), data[head:end], data[end:], nil
}

// CutXattr takes the first attribute off the data of an [XattrItem]: struct
// btrfs_dir_item with its name and value, one behind the other.
func CutXattr(data []byte) (name, value, rest []byte, err error) {
	const head = 30
	if len(data) < head {
		return nil, nil, nil, &shortError{"extended attribute", len(data)}
	}
	nameEnd := head + int(disk.Uint16(data[27:]))
	end := nameEnd + int(disk.Uint16(data[25:]))
	if len(data) < end {
		return nil, nil, nil, &shortError{"extended attribute", len(data)}
	}
	return data[head:nameEnd], data[nameEnd:end], data[end:], nil
}

// ExtentKind says how an extent is stored.
type ExtentKind uint8

// The kinds of extents.
const (
	ExtentInline   ExtentKind = extentInline   // in the item
	ExtentRegular  ExtentKind = extentRegular  // on disk, or a hole
	ExtentPrealloc ExtentKind = extentPrealloc // on disk, and reads as zeros
)

// Compression says how data are stored.
type Compression uint8

// What btrfs compresses with, as it numbers it on disk.
const (
	Uncompressed Compression = iota
	Zlib
	LZO
	Zstd
)

// Encoded returns the number that [EncodedExtent] has for it, and false if there
// is none. Streams use the same.
func (c Compression) Encoded(sector uint64) (uint32, bool) {
	switch c {
	case Uncompressed:
		return 0, true
	case Zlib:
		return 1, true
	case Zstd:
		return 2, true
	case LZO: // 3 is for sectors of 4 KiB, and so on to 64 KiB
		for n := uint32(0); n < 5; n++ {
			if sector == 4<<10<<n {
				return 3 + n, true
			}
		}
	}
	return 0, false
}

// An Extent is what [ExtentData] says: struct btrfs_file_extent_item.
type Extent struct {
	Kind        ExtentKind
	Compression Compression
	Generation  uint64 // transaction that wrote the data
	Decoded     uint64 // bytes that the whole extent has when decoded
	Inline      []byte // of an inline extent: what is stored

	Start  uint64 // address of the whole extent; 0 is a hole
	Stored uint64 // bytes that the whole extent has there
	Offset uint64 // where in the decoded extent the data of the file begin
	Length uint64 // bytes of the file, in whole sectors
}

// ParseExtent reads an [ExtentData].
func ParseExtent(data []byte) (Extent, error) {
	const inlineHead, regularSize = 21, 53
	if len(data) < inlineHead {
		return Extent{}, &shortError{"extent item", len(data)}
	}
	x := Extent{
		Kind:        ExtentKind(data[20]),
		Compression: Compression(data[16]),
		Generation:  disk.Uint64(data),
		Decoded:     disk.Uint64(data[8:]),
	}
	if encryption, other := data[17], disk.Uint16(data[18:]); encryption != 0 || other != 0 {
		return Extent{}, fmt.Errorf("an extent is encoded in a way that is not known (%d, %d)", encryption, other)
	}
	if x.Kind == ExtentInline {
		x.Inline = data[inlineHead:]
		return x, nil
	}
	if x.Kind > ExtentPrealloc {
		return Extent{}, fmt.Errorf("an extent is of a kind that is not known (%d)", x.Kind)
	}
	if len(data) < regularSize {
		return Extent{}, &shortError{"extent item", len(data)}
	}
	x.Start, x.Stored = disk.Uint64(data[21:]), disk.Uint64(data[29:])
	x.Offset, x.Length = disk.Uint64(data[37:]), disk.Uint64(data[45:])
	return x, nil
}
