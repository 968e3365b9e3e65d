// Package dir is a bucket in a plain directory, on any file system that Linux
// mounts: a USB disk, an NFS share, another btrfs.
//
// The key of an object is its path in the directory, so that any tool copies such
// a bucket to S3 and back. The directory is opened once, and everything is reached
// through that handle with openat2(2), beneath it and without following a
// symbolic link: no key leads outside, wherever it comes from. Only regular files
// are objects. What else lies in the directory is left alone. The room does not
// know what objects are for, and whether the right file system is mounted; that is
// the archive's marker.
//
// # What it owns
//
// One folder at the top, ".buttersink-uploads" ([Folder]): unfinished uploads and
// files that have not got their name yet. A tool that copies the bucket leaves it
// out. It is there only while it is needed, or after something has died; the next
// one that writes removes what is older than a day and of use to nobody.
//
// Files are made with mode 0600 and directories with 0700, less the umask, since
// an archive may hold what is nobody else's business. Who wants others to read
// gives the directory a default ACL or changes modes; nothing here changes them
// again.
//
// # Durability
//
// An object is made under a temporary name, synchronised, renamed without
// replacing anything (publish.go), and then every directory from it up to the root
// is synchronised. It is never written to again. So after a power cut an object is
// there as a whole or not at all, and one whose making was reported is there.
// Deleting is not synchronised: after a power cut what was deleted may be back.
// The parts of an upload are verified by their checksums when it is carried on
// (record.go), and become durable as a whole when it is completed. Where the disk
// then takes something not, none of them is trusted any more.
//
// # Memory
//
// A megabyte for each part that is being stored, a hundred bytes for each that has
// been, and for a listing the names of subdirectories below the thirty-second
// level.
//
//	b, err := dir.Open("/mnt/usb/backups", dir.Options{Log: log})
package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// ErrNotDirectory says that the path of a bucket is not an existing directory.
var ErrNotDirectory = errors.New("not an existing directory")

// Options say how a bucket is used.
type Options struct {
	// Log gets warnings; nil is silence.
	Log *slog.Logger
}

// Bucket is an opened directory. Its methods may be called at the same time.
type Bucket struct {
	path     string // as people know it
	root     *os.File
	log      *slog.Logger
	location string
	limits   archive.Limits
	names    naming
	linked   bool // the directory had a name when it was opened
	// What file systems do not have all; tests leave out some.
	ways   []way
	shares bool

	sweep sync.Once   // what nobody needs any more is removed before the first write
	wrote atomic.Bool // our folder may be there
}

var _ archive.Bucket = (*Bucket)(nil)

// Open opens the directory at path. It fails with ErrNotDirectory, or with
// *archive.DeniedError, where that is the cause.
func Open(path string, o Options) (*Bucket, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	b := &Bucket{path: abs, log: o.Log}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	root, err := os.OpenFile(abs, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("opening %s: %w", abs, ErrNotDirectory)
	}
	if err != nil {
		return nil, b.fail("opening", "", err)
	}
	b.root = root
	if err := b.look(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", abs, err), root.Close())
	}
	return b, nil
}

// look finds out what kind of place the directory is.
func (b *Bucket) look() error {
	var about unix.Statfs_t
	if err := retried(func() error { return unix.Fstatfs(b.fd(), &about) }); err != nil {
		return err
	}
	var at unix.Stat_t
	if err := retried(func() error { return unix.Fstat(b.fd(), &at) }); err != nil {
		return err
	}
	b.linked = at.Nlink > 0
	b.ways, b.shares = b.allWays(), true
	b.location = location(about, at)
	b.names = namingOf(about)
	b.limits = archive.Limits{
		Small: 64 << 20, MinPart: 1, MaxPart: maxObject(about), Parts: maxParts, Object: maxObject(about),
	}
	return nil
}

// maxParts is how many parts an upload may have. It bounds the memory for what is
// known of them.
const maxParts = 1_000_000

// maxObject is the greatest length of a file, where that is known to be less than
// what fits into a number.
func maxObject(about unix.Statfs_t) int64 {
	switch int64(about.Type) {
	case unix.MSDOS_SUPER_MAGIC:
		return 1<<32 - 1
	case unix.EXT4_SUPER_MAGIC:
		// Blocks of a file are numbered with 32 bits
		// (Documentation/filesystems/ext4/overview.rst).
		return (1<<32 - 1) * int64(about.Bsize)
	default:
		return math.MaxInt64
	}
}

// fd is the number of the root's handle.
func (b *Bucket) fd() int { return int(b.root.Fd()) }

// String names the bucket for people.
func (b *Bucket) String() string { return "dir://" + b.path }

// Location is the same text for two ways to one directory. It stays the same when
// a disk is plugged in again, where the file system can be told.
func (b *Bucket) Location() string { return b.location }

// location puts together what tells the file system and the number of the
// directory in it.
func location(about unix.Statfs_t, at unix.Stat_t) string {
	system := fmt.Sprintf("device %d:%d", unix.Major(at.Dev), unix.Minor(at.Dev))
	if about.Type == unix.BTRFS_SUPER_MAGIC {
		// The UUID of the file system, with the number of the subvolume. Its device
		// numbers are made up at every mount.
		system = fmt.Sprintf("btrfs %08x%08x", uint32(about.Fsid.Val[0]), uint32(about.Fsid.Val[1]))
	} else if uuid := uuidOf(at.Dev); uuid != "" {
		system = uuid
	}
	return fmt.Sprintf("dir:%s:%d", system, at.Ino)
}

// byUUID is where udev(7) links the UUIDs of file systems to their devices.
const byUUID = "/dev/disk/by-uuid"

// uuidOf returns the UUID of the file system on a device, if that can be told.
func uuidOf(dev uint64) string {
	links, err := os.ReadDir(byUUID)
	if err != nil {
		return ""
	}
	for _, l := range links {
		var at unix.Stat_t
		if unix.Stat(filepath.Join(byUUID, l.Name()), &at) == nil && at.Mode&unix.S_IFMT == unix.S_IFBLK && at.Rdev == dev {
			return strings.ToLower(l.Name())
		}
	}
	return ""
}

// Limits says what fits.
func (b *Bucket) Limits() archive.Limits { return b.limits }

// Close closes the directory.
func (b *Bucket) Close() error {
	if b.wrote.Load() {
		b.prune(Folder)
	}
	if err := b.root.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("closing %s: %w", b, err)
	}
	return nil
}
