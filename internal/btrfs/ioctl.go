package btrfs

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Request numbers, from linux/btrfs.h.
const (
	iocSync           = 0x9408
	iocSubvolCreate   = 0x5000940E
	iocSnapDestroy    = 0x5000940F
	iocSnapDestroyV2  = 0x5000943F
	iocInoLookup      = 0xD0009412
	iocSnapCreateV2   = 0x50009417
	iocStartSync      = 0x80089418
	iocWaitSync       = 0x40089416
	iocSubvolGetFlags = 0x80089419
	iocSubvolSetFlags = 0x4008941A
	iocFSInfo         = 0x8400941F
	iocSetReceived    = 0xC0C89425
	iocSend           = 0x40489426
	iocGetSubvolInfo  = 0x81F8943C
	iocEncodedWrite   = 0x40809440
	iocEncodedRead    = 0x80809440
	iocTreeSearchV2   = 0xC0709411
	iocSubvolSyncWait = 0x40109441

	iocGetSubvolRootRef = 0xD000943D
	iocInoLookupUser    = 0xD000943E
)

const (
	subvolReadOnly = 1 << 1 // flag of iocSubvolGetFlags, iocSubvolSetFlags, iocSnapCreateV2

	sendNoFileData = 1 << 0
	sendVersion    = 1 << 3
	sendCompressed = 1 << 4

	fsInfoGeneration = 1 << 1
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	fd   int64
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	fd      int64
	transid uint64
	flags   uint64
	_       [4]uint64
	name    [4040]byte
}

// inoLookupArgs is struct btrfs_ioctl_ino_lookup_args.
type inoLookupArgs struct {
	tree   uint64
	object uint64
	name   [4080]byte
}

// timespec is struct btrfs_ioctl_timespec.
type timespec struct {
	sec  uint64
	nsec uint32
	_    uint32
}

// subvolInfo is struct btrfs_ioctl_get_subvol_info_args.
type subvolInfo struct {
	id                                     uint64
	name                                   [256]byte
	parentID, dirID, generation, flags     uint64
	uuid, parentUUID, receivedUUID         [16]byte
	ctransid, otransid, stransid, rtransid uint64
	ctime, otime, stime, rtime             timespec
	_                                      [8]uint64
}

// receivedArgs is struct btrfs_ioctl_received_subvol_args.
type receivedArgs struct {
	uuid               [16]byte
	stransid, rtransid uint64
	stime, rtime       timespec
	flags              uint64
	_                  [16]uint64
}

// sendArgs is struct btrfs_ioctl_send_args.
type sendArgs struct {
	fd         int64
	cloneCount uint64
	clones     *uint64
	parent     uint64
	flags      uint64
	version    uint32
	_          [28]byte
}

// encodedArgs is struct btrfs_ioctl_encoded_io_args.
type encodedArgs struct {
	iov             *unix.Iovec
	iovcnt          uint64
	offset          int64
	flags           uint64
	fileLen         uint64
	unencodedLen    uint64
	unencodedOffset uint64
	compression     uint32
	encryption      uint32
	_               [64]byte
}

// fsInfoArgs is struct btrfs_ioctl_fs_info_args.
type fsInfoArgs struct {
	maxID, devices                       uint64
	fsid                                 [16]byte
	nodeSize, sectorSize, cloneAlignment uint32
	csumType, csumSize                   uint16
	flags, generation                    uint64
	metadataUUID                         [16]byte
	_                                    [944]byte
}

// searchKey is struct btrfs_ioctl_search_key.
type searchKey struct {
	tree                   uint64
	minObject, maxObject   uint64
	minOffset, maxOffset   uint64
	minTransid, maxTransid uint64
	minType, maxType       uint32
	items                  uint32
	_                      uint32
	_                      [4]uint64
}

// searchArgs is struct btrfs_ioctl_search_args_v2 without its buffer, which
// follows it in memory.
type searchArgs struct {
	key  searchKey
	size uint64
}

// ioctl carries out one request. The result is what the kernel returned.
func ioctl(fd int, request uint, arg unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// control runs do with the descriptor of f, which stays open meanwhile even if
// someone closes f.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if conn.Control(func(fd uintptr) { failed = do(int(fd)) }) != nil {
		return os.ErrClosed // its own error for that is not to be recognised
	}
	return failed
}

// request is ioctl on a file.
func request(f *os.File, number uint, arg unsafe.Pointer) error {
	return control(f, func(fd int) error {
		_, err := ioctl(fd, number, arg)
		return err
	})
}

// A PermissionError says that the kernel refused something for want of a
// capability.
type PermissionError struct {
	Op         string // what was being done, such as "listing subvolumes"
	Capability string // the one that is missing, such as "CAP_SYS_ADMIN"
	Err        error  // what the kernel said
	// Instead says what would do in place of the capability; empty if nothing.
	Instead string
}

func (e *PermissionError) Error() string {
	text := fmt.Sprintf("%s: %v (%s is missing", e.Op, e.Err, e.Capability)
	if e.Instead != "" {
		text += "; in place of it, " + e.Instead
	}
	return text + ")"
}

// Unwrap returns what the kernel said.
func (e *PermissionError) Unwrap() error { return e.Err }

// capability is one of capabilities(7).
type capability struct {
	name string
	bit  uint
}

var (
	capDACReadSearch = capability{"CAP_DAC_READ_SEARCH", unix.CAP_DAC_READ_SEARCH}
	capFowner        = capability{"CAP_FOWNER", unix.CAP_FOWNER}
	capSysAdmin      = capability{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}
)

// held reports whether the calling thread has c in effect. It says yes when it
// cannot find out.
func (c capability) held() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[c.bit/32].Effective&(1<<(c.bit%32)) != 0
}

// refused makes the error of something that the kernel refuses with EPERM only
// for want of c. That c is held does not speak against it: inside of a user
// namespace it is held and not worth anything.
func refused(op string, c capability, err error) error {
	if errors.Is(err, unix.EPERM) {
		return &PermissionError{Op: op, Capability: c.name, Err: err}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// perhapsRefused is refused for something that has more reasons for EPERM than
// the want of c.
func perhapsRefused(op string, c capability, err error) error {
	if errors.Is(err, unix.EPERM) && !c.held() {
		return refused(op, c, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}
