// Package btrfs speaks to the btrfs in the kernel: it lists, makes, changes,
// reads and sends subvolumes by ioctl and tree search, without any program of
// btrfs-progs.
//
// It knows the kernel's numbers and layouts, and nothing of streams' meaning,
// of stores, or of what a snapshot is good for. It is the only room that uses
// package unsafe.
//
// # Invariants
//
// Quotas are read if they are there ([Filesystem.Quota]) and never switched
// on, rescanned or changed. Nothing is written to a file system except by the
// functions whose names say so: CreateSubvolume, CreateSnapshot,
// DeleteSubvolume, DeleteSubvolumeByID, SetReadOnly, SetReceived, EncodedWrite,
// Sync, and AwaitCleaned, which commits transactions.
//
// A stream that [Send] gives ends in io.EOF only if the kernel said that it
// was sent to its end.
//
// # Privilege
//
// Nearly everything here needs CAP_SYS_ADMIN, and opening subvolumes by number
// needs CAP_DAC_READ_SEARCH. Where one of them is missing the error is a
// [*PermissionError] that names it. Who has neither can use [Below], [Info],
// [IsSubvolume], [FilesystemUUID] and [Sync] on what he may read; CreateSubvolume,
// CreateSnapshot and SetReadOnly on what is his; and DeleteSubvolume as far as the
// mount allows.
//
// # Memory
//
// A listing holds one [Subvolume] per subvolume. Everything else reads trees
// in pieces of 64 KiB and holds a bounded amount, whatever the size of the
// file system; see [EstimateSend] and [Send] for their bounds.
//
// Usage:
//
//	fs, err := btrfs.Open("/mnt/pool")
//	...
//	subvolumes, err := fs.Subvolumes()
//
// Layouts and numbers are those of the kernel's uapi headers linux/btrfs.h and
// linux/btrfs_tree.h. All of the package is for Linux on little-endian 64-bit
// machines (amd64 and arm64).
package btrfs

import (
	"encoding/hex"
	"errors"
	"time"
)

// ErrNotBtrfs says that a file or directory is not on a btrfs file system.
var ErrNotBtrfs = errors.New("not on a btrfs file system")

// ErrBusy says that the kernel could not send just now because extents of the
// subvolume, of the parent or of a clone source are being deduplicated. It is
// worth trying again after a while.
var ErrBusy = errors.New("subvolume is busy (being deduplicated)")

// ErrWrongDeleted says that the kernel deleted a subvolume, but another than the
// one that was meant, which is still there: it got the name of that one in the
// same moment.
var ErrWrongDeleted = errors.New("the kernel deleted another subvolume, which got its name in the same moment")

// UUID is a UUID in the order of bytes in which btrfs stores it.
type UUID [16]byte

// IsZero reports whether u is the UUID of nothing.
func (u UUID) IsZero() bool { return u == UUID{} }

// String returns the canonical text of u, in lower case.
func (u UUID) String() string {
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// TopLevel is the number of the subvolume that contains all others, directly
// or not. It has no name, and its path is "".
const TopLevel = 5

// A Subvolume is what the kernel knows of one subvolume or snapshot.
//
// Times and transids that were never set are zero. Subvolumes made by kernels
// before 3.6 have no UUIDs, transids and times at all.
type Subvolume struct {
	// ID is the number of the subvolume, unique for the life of the file system.
	ID uint64
	// ParentID is the number of the subvolume that contains this one, and DirID
	// the inode number of the directory in it; 0 for the top level and for
	// deleted ones.
	ParentID, DirID uint64
	// Name is the last element of Path.
	Name string
	// Path is the path from the top level, without leading slash. It is "" for
	// the top level, for deleted ones, and in the result of [Info].
	Path string

	// UUID is the subvolume's own. ParentUUID is that of the subvolume that it
	// is a snapshot of. ReceivedUUID is the identity that a receive gave it.
	UUID, ParentUUID, ReceivedUUID UUID

	// Generation is the transaction that last changed a tree block of it, also
	// without any change to its content (a balance, a snapshot of it).
	Generation uint64
	// Ctransid is the transaction of the last change to its content, Otransid
	// that of its creation. Stransid is the Ctransid of the subvolume that was
	// sent, on the sending side, Rtransid the transaction in which receiving it
	// was completed here.
	Ctransid, Otransid, Stransid, Rtransid uint64
	// Ctime, Otime, Stime, Rtime are the times of the same four events.
	Ctime, Otime, Stime, Rtime time.Time

	// Level is the height of the subvolume's tree: 0 for a single block. Info
	// leaves it out.
	Level int

	// ReadOnly is the read-only flag of the subvolume (not of a mount).
	ReadOnly bool
	// Deleted is set for one that is deleted and whose space has not been
	// cleaned up yet. It cannot be opened any more.
	Deleted bool
}

// Usage is what quota accounting says of one subvolume, in bytes.
type Usage struct {
	// Referenced counts all that the subvolume refers to, Exclusive what would
	// become free if it were deleted.
	Referenced, Exclusive uint64
}
