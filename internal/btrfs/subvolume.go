package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Info returns what the kernel knows of the subvolume that subvol is in (any
// file of it). Path is empty: finding it out is dearer, see [Locate].
func Info(subvol *os.File) (Subvolume, error) {
	if err := onBtrfs(subvol); err != nil {
		return Subvolume{}, err
	}
	var args subvolInfo
	err := request(subvol, iocGetSubvolInfo, unsafe.Pointer(&args))
	if errors.Is(err, fs.ErrNotExist) {
		// It is deleted, or being renamed.
		var id uint64
		if id, err = subvolumeOf(subvol); err == nil {
			err = patiently(subvol, id, func() error {
				return request(subvol, iocGetSubvolInfo, unsafe.Pointer(&args))
			})
		}
	}
	if err != nil {
		return Subvolume{}, refused("asking about subvolume "+subvol.Name(), capSysAdmin, err)
	}
	return Subvolume{
		ID:           args.id,
		ParentID:     args.parentID,
		DirID:        args.dirID,
		Name:         unix.ByteSliceToString(args.name[:]),
		UUID:         args.uuid,
		ParentUUID:   args.parentUUID,
		ReceivedUUID: args.receivedUUID,
		Generation:   args.generation,
		Ctransid:     args.ctransid,
		Otransid:     args.otransid,
		Stransid:     args.stransid,
		Rtransid:     args.rtransid,
		Ctime:        clock(args.ctime.sec, args.ctime.nsec),
		Otime:        clock(args.otime.sec, args.otime.nsec),
		Stime:        clock(args.stime.sec, args.stime.nsec),
		Rtime:        clock(args.rtime.sec, args.rtime.nsec),
		ReadOnly:     args.flags&rootReadOnly != 0,
	}, nil
}

// IsSubvolume reports whether f is the root directory of a subvolume. It is
// false, and no error, for everything that is not on btrfs.
func IsSubvolume(f *os.File) (bool, error) {
	if err := onBtrfs(f); err != nil {
		if errors.Is(err, ErrNotBtrfs) {
			return false, nil
		}
		return false, err
	}
	var st unix.Stat_t
	if err := control(f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return false, fmt.Errorf("looking at %s: %w", f.Name(), err)
	}
	return st.Ino == firstInode && st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// Locate returns the number of the subvolume that the directory dir is in, and
// the path of dir from the top level, without leading slash. The error matches
// fs.ErrNotExist if dir has been removed.
func Locate(dir *os.File) (subvolID uint64, path string, err error) {
	if err := onBtrfs(dir); err != nil {
		return 0, "", err
	}
	op := "for the path of " + dir.Name()
	var st unix.Stat_t
	look := func(fd int) error { return unix.Fstat(fd, &st) }
	if err := control(dir, look); err != nil {
		return 0, "", fmt.Errorf("looking at %s: %w", dir.Name(), err)
	}
	id, err := subvolumeOf(dir)
	if err != nil {
		return 0, "", searching(op, err)
	}
	var above, within string
	err = patiently(dir, id, func() (err error) {
		if above, err = subvolumePath(dir, id); err == nil {
			within, err = directoryPath(dir, id, st.Ino)
		}
		if errors.Is(err, fs.ErrNotExist) && control(dir, look) == nil && st.Nlink == 0 {
			return nil // not on its way to another place
		}
		return err
	})
	if err == nil && st.Nlink == 0 {
		err = fmt.Errorf("it has been removed: %w", fs.ErrNotExist)
	}
	if err != nil {
		return 0, "", searching(op, err)
	}
	return id, strings.Trim(above+"/"+within, "/"), nil
}

// subvolumeOf returns the number of the subvolume that f is in.
func subvolumeOf(f *os.File) (uint64, error) {
	args := inoLookupArgs{object: firstInode}
	err := request(f, iocInoLookup, unsafe.Pointer(&args))
	return args.tree, err
}

// errName says that a name cannot be that of a subvolume.
var errName = errors.New("not a name (want 1 to 255 bytes without slash, and neither . nor ..)")

// setName puts name into the field of an ioctl's argument.
func setName(field []byte, name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q: %w", name, errName)
	}
	copy(field, name)
	return nil
}

// CreateSubvolume makes an empty subvolume in dir. The error matches
// fs.ErrExist if name is taken. It is on disk with the next commit, on kernels of
// some age on return.
func CreateSubvolume(dir *os.File, name string) error {
	op := fmt.Sprintf("making subvolume %q", name)
	var args volArgs
	if err := setName(args.name[:], name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := request(dir, iocSubvolCreate, unsafe.Pointer(&args)); err != nil {
		return perhapsRefused(op, capSysAdmin, err)
	}
	return nil
}

// CreateSnapshot makes a snapshot of the subvolume src in dir, which is on the
// same file system. The error matches fs.ErrExist if name is taken. On return
// it is on disk.
//
// A read-only snapshot of a received snapshot that is read-only has the same
// received UUID; a writable one has none.
func CreateSnapshot(dir *os.File, name string, src *os.File, readOnly bool) error {
	op := fmt.Sprintf("making snapshot %q of %s", name, src.Name())
	var args volArgsV2
	if readOnly {
		args.flags = subvolReadOnly
	}
	if err := setName(args.name[:], name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	err := control(src, func(fd int) error {
		args.fd = int64(fd)
		return request(dir, iocSnapCreateV2, unsafe.Pointer(&args))
	})
	if err != nil {
		// The kernel wants src to be the caller's own.
		return perhapsRefused(op, capFowner, err)
	}
	return nil
}

// DeleteSubvolume deletes a subvolume of dir, a read-only one as well. Its
// space becomes free later. Without CAP_SYS_ADMIN the kernel deletes only writable
// ones, and only where the file system is mounted with user_subvol_rm_allowed. The kernel refuses with EPERM while the subvolume
// is being sent, or if it is the one that is mounted by default, and with
// ENOTEMPTY if it contains other subvolumes.
func DeleteSubvolume(dir *os.File, name string) error {
	op := fmt.Sprintf("deleting subvolume %q", name)
	var args volArgs
	if err := setName(args.name[:], name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return explainDelete(op, request(dir, iocSnapDestroy, unsafe.Pointer(&args)))
}

// DeleteSubvolumeByID deletes the subvolume with a number, wherever in the file
// system it is and whatever its name is by now; dir is any directory of the
// file system, also one of a mount that does not show the subvolume. It fails
// as DeleteSubvolume does, with fs.ErrNotExist if there is none with that
// number, and with errors.ErrUnsupported before Linux 5.7.
//
// The kernel looks up the name of the number, and then what to delete by that
// name. If another subvolume gets the name between these two steps, the kernel
// deletes that one; nothing keeps it from that. The error matches
// [ErrWrongDeleted] then.
func DeleteSubvolumeByID(dir *os.File, id uint64) error {
	const byID = 1 << 4 // BTRFS_SUBVOL_SPEC_BY_ID
	op := fmt.Sprintf("deleting subvolume %d", id)
	if id < firstInode || id > lastInode {
		return fmt.Errorf("%s: it is part of the file system: %w", op, unix.EINVAL)
	}
	if err := onBtrfs(dir); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	args := volArgsV2{flags: byID}
	disk.PutUint64(args.name[:], id) // a union: the name, or the number
	err := patiently(dir, id, func() error {
		return request(dir, iocSnapDestroyV2, unsafe.Pointer(&args))
	})
	if err != nil {
		return explainDelete(op, err)
	}
	if gone, err := deleted(dir, id); err == nil && !gone {
		return fmt.Errorf("%s: %w", op, ErrWrongDeleted)
	}
	return nil
}

func explainDelete(op string, err error) error {
	switch {
	case errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%s: %w (%w)", op, errors.ErrUnsupported, err)
	case errors.Is(err, unix.ENOTEMPTY):
		return fmt.Errorf("%s: it contains other subvolumes: %w", op, err)
	case errors.Is(err, unix.EPERM) && capSysAdmin.held():
		return fmt.Errorf("%s: it is being sent, or mounted by default: %w", op, err)
	case errors.Is(err, unix.EPERM):
		// May the owner do it, the rest is as with any directory (btrfs_may_delete).
		return &PermissionError{
			Op: op, Capability: capSysAdmin.name, Err: err,
			Instead: "the owner may do it where the file system is mounted with user_subvol_rm_allowed",
		}
	case errors.Is(err, unix.EROFS) && !capSysAdmin.held():
		return &PermissionError{
			Op: op, Capability: capSysAdmin.name, Err: err,
			Instead: "the owner may do it once the subvolume has been made writable",
		}
	case err != nil:
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// ReadOnly reports whether the subvolume f is read-only by its own flag.
func ReadOnly(f *os.File) (bool, error) {
	flags, err := subvolFlags(f)
	return flags&subvolReadOnly != 0, err
}

func subvolFlags(f *os.File) (uint64, error) {
	if err := onBtrfs(f); err != nil {
		return 0, err
	}
	var flags uint64
	if err := request(f, iocSubvolGetFlags, unsafe.Pointer(&flags)); err != nil {
		return 0, fmt.Errorf("asking whether %s is read-only: %w", f.Name(), err)
	}
	return flags, nil
}

// SetReadOnly makes the subvolume f read-only or writable, and returns when
// that is on disk. It does nothing if f is already what is wanted. A received
// UUID stays what it is. The kernel refuses with EPERM to make writable what
// is being sent.
func SetReadOnly(f *os.File, ro bool) error {
	flags, err := subvolFlags(f)
	if err != nil || (flags&subvolReadOnly != 0) == ro {
		return err
	}
	op := fmt.Sprintf("making %s writable", f.Name())
	if ro {
		op = fmt.Sprintf("making %s read-only", f.Name())
	}
	flags ^= subvolReadOnly
	if err := request(f, iocSubvolSetFlags, unsafe.Pointer(&flags)); err != nil {
		if errors.Is(err, unix.EPERM) && !ro && capFowner.held() {
			return fmt.Errorf("%s: it is being sent: %w", op, err)
		}
		return perhapsRefused(op, capFowner, err)
	}
	return nil
}

// SetReceived gives the subvolume f, which must be writable, the identity of
// what was sent: its UUID, and its transid on the sending side. A zero uuid
// takes the identity away. On return it is on disk; rtransid is the transaction
// that brought it there. File data is not: see [Sync], which has to come first.
func SetReceived(f *os.File, uuid UUID, stransid uint64) (rtransid uint64, err error) {
	args := receivedArgs{uuid: uuid, stransid: stransid}
	if err := request(f, iocSetReceived, unsafe.Pointer(&args)); err != nil {
		return 0, perhapsRefused(fmt.Sprintf("setting the received UUID of %s", f.Name()), capFowner, err)
	}
	return args.rtransid, nil
}

// Sync returns when everything written to the file system of f so far is on
// disk, data and metadata.
func Sync(f *os.File) error {
	if err := control(f, unix.Syncfs); err != nil {
		return fmt.Errorf("synchronising the file system of %s: %w", f.Name(), err)
	}
	return nil
}

// An EncodedExtent says what the data of an encoded write is; the fields are
// those of the stream's ENCODED_WRITE command.
type EncodedExtent struct {
	// Offset is where in the file it goes, FileLen how many bytes of the file
	// it makes.
	Offset  int64
	FileLen uint64
	// UnencodedLen is the length of the data when decoded, and
	// UnencodedOffset where in that the bytes of the file begin.
	UnencodedLen, UnencodedOffset uint64
	// Compression is 1 for zlib, 2 for zstd, 3 to 7 for lzo with sectors of
	// 4 KiB to 64 KiB. Encryption is 0.
	Compression, Encryption uint32
}

// EncodedWrite writes compressed data to the file fd just as it is
// (BTRFS_IOC_ENCODED_WRITE, Linux 5.18). Where the kernel cannot take it, the
// error matches ENOTTY, EINVAL or EOPNOTSUPP and nothing is written.
func EncodedWrite(fd int, data []byte, e EncodedExtent) error {
	const op = "writing compressed data"
	if len(data) == 0 {
		return fmt.Errorf("%s: %w", op, unix.EINVAL)
	}
	iov := unix.Iovec{Base: unsafe.SliceData(data)}
	iov.SetLen(len(data))
	args := encodedArgs{
		iov:             &iov,
		iovcnt:          1,
		offset:          e.Offset,
		fileLen:         e.FileLen,
		unencodedLen:    e.UnencodedLen,
		unencodedOffset: e.UnencodedOffset,
		compression:     e.Compression,
		encryption:      e.Encryption,
	}
	n, err := ioctl(fd, iocEncodedWrite, unsafe.Pointer(&args))
	if err != nil {
		return refused(op, capSysAdmin, err)
	}
	if n != len(data) {
		return fmt.Errorf("%s: only %d of %d bytes: %w", op, n, len(data), unix.EIO)
	}
	return nil
}
