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
	found, _, err := BelowMounts(dir)
	return found, err
}

// BelowMounts returns what Below does, and the paths of those that are left out since
// something is mounted over them, or on the way to them. What lies in these is in
// neither.
func BelowMounts(dir *os.File) (found []Subvolume, hidden []string, err error) {
	if err := onBtrfs(dir); err != nil {
		return nil, nil, err
	}
	d := &descent{}
	if err := d.descend(dir, ""); err != nil {
		return nil, nil, fmt.Errorf("listing the subvolumes below %s: %w", dir.Name(), err)
	}
	return d.found, d.hidden, nil
}

// descent is what has been seen on the way down.
type descent struct {
	found  []Subvolume
	hidden []string
}

func (d *descent) descend(dir *os.File, at string) error {
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
			if err := d.enter(dir, ref.subvol, path, at); err != nil {
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
func (d *descent) enter(dir *os.File, id uint64, path, at string) error {
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
		errors.Is(err, unix.ELOOP):
		return nil
	case errors.Is(err, unix.EXDEV):
		d.hidden = append(d.hidden, at+path)
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
	d.found = append(d.found, info)
	return d.descend(sub, info.Path+"/")
}
