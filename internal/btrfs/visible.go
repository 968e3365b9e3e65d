package btrfs

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rootRefs is struct btrfs_ioctl_get_subvol_rootref_args.
type rootRefs struct {
	min  uint64
	refs [255]struct{ subvol, dir uint64 }
	n    uint8
	_    [7]byte
}

// lookupUser is struct btrfs_ioctl_ino_lookup_user_args.
type lookupUser struct {
	dir, subvol uint64
	name        [256]byte
	path        [3824]byte
}

// Below returns the subvolumes that lie below a directory, at any depth, as far
// as the caller may read and enter the directories on the way to them. It is for
// who may not list the file system; the paths are from the directory. Subvolumes
// over which something is mounted, and those at paths of more than 3.8 KB, are
// left out. Linux 4.18 has what it takes.
func Below(dir *os.File) ([]Subvolume, error) {
	if err := onBtrfs(dir); err != nil {
		return nil, err
	}
	var found []Subvolume
	err := descend(dir, "", &found)
	if err != nil {
		return nil, fmt.Errorf("listing the subvolumes below %s: %w", dir.Name(), err)
	}
	return found, nil
}

func descend(dir *os.File, at string, found *[]Subvolume) error {
	args := rootRefs{}
	for {
		err := request(dir, iocGetSubvolRootRef, unsafe.Pointer(&args))
		more := errors.Is(err, unix.EOVERFLOW)
		if err != nil && !more {
			return err
		}
		for _, ref := range args.refs[:args.n] {
			path, err := pathBelow(dir, ref.dir, ref.subvol)
			switch {
			case err == nil:
			case errors.Is(err, unix.EACCES), // not below dir, or not for the caller
				errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), // deleted, or moved
				errors.Is(err, unix.ENAMETOOLONG):
				continue
			default:
				return err
			}
			if err := enter(dir, ref.subvol, path, at, found); err != nil {
				return err
			}
		}
		if !more || args.n == 0 {
			return nil
		}
		args = rootRefs{min: args.refs[args.n-1].subvol + 1}
	}
}

// pathBelow returns the path from dir of a subvolume that lies in a directory of
// the same subvolume.
func pathBelow(dir *os.File, ino, id uint64) (string, error) {
	args := lookupUser{dir: ino, subvol: id}
	if err := request(dir, iocInoLookupUser, unsafe.Pointer(&args)); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(args.path[:]) + unix.ByteSliceToString(args.name[:]), nil
}

// enter adds a subvolume to those found, and what lies in it.
func enter(dir *os.File, id uint64, path, at string, found *[]Subvolume) error {
	fd := -1
	err := control(dir, func(from int) (err error) {
		for {
			fd, err = unix.Openat2(from, path, &unix.OpenHow{
				Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
				Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
			})
			if err != unix.EINTR && err != unix.EAGAIN {
				return err
			}
		}
	})
	switch {
	case err == nil:
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR),
		errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return nil
	default:
		return err
	}
	sub := os.NewFile(uintptr(fd), at+path)
	defer sub.Close()
	info, err := Info(sub)
	if err != nil {
		return err
	}
	if info.ID != id {
		return nil // another one has its name by now
	}
	info.Path = at + path
	*found = append(*found, info)
	return descend(sub, info.Path+"/", found)
}
