package btrfstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountFlags are the mount options that mount(2) takes as flags; all others go
// to btrfs as text.
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "rw": 0, "defaults": 0,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME,
	"relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME, "lazytime": unix.MS_LAZYTIME,
	"nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "nosuid": unix.MS_NOSUID,
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC,
}

// Mount mounts the file system at Dir with the options given to New. New has
// done this already; it is for use after Unmount.
func (fs *FS) Mount() {
	fs.t.Helper()
	fs.mount(fs.Dir, fs.options)
}

// MountAgain mounts the file system at one more place with the given options,
// for instance "subvol=live", and returns the place.
func (fs *FS) MountAgain(options string) string {
	fs.t.Helper()
	dir := fs.newMountPoint()
	fs.mount(dir, options)
	return dir
}

// Bind mounts a directory (relative to Dir, or absolute) at one more place and
// returns the place.
func (fs *FS) Bind(source string) string {
	fs.t.Helper()
	dir := fs.newMountPoint()
	if err := unix.Mount(fs.Path(source), dir, "", unix.MS_BIND, ""); err != nil {
		fs.t.Fatalf("binding %s to %s: %v", source, dir, err)
	}
	fs.mounts = append(fs.mounts, dir)
	return dir
}

// Unmount takes down every mount of the file system, the ones made by
// MountAgain and Bind too. The loop devices stay.
func (fs *FS) Unmount() {
	fs.t.Helper()
	if err := fs.unmountAll(); err != nil {
		fs.t.Fatal(err)
	}
}

// Remount unmounts and mounts again, and so drops everything cached: what is
// read afterwards comes from the device. Options, if given, replace those of New
// for good.
func (fs *FS) Remount(options ...string) {
	fs.t.Helper()
	fs.Unmount()
	if len(options) > 0 {
		fs.options = strings.Join(options, ",")
	}
	fs.Mount()
}

// newMountPoint makes a directory where the guard looks for mounts.
func (fs *FS) newMountPoint() string {
	fs.t.Helper()
	for i := 2; ; i++ {
		dir := filepath.Join(fs.guard.dir, "mnt"+strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o755); err == nil {
			return dir
		} else if !errors.Is(err, os.ErrExist) {
			fs.t.Fatal(err)
		}
	}
}

// mount calls mount(2) itself: the mount program, were the test killed, would
// go on and mount after the guard has looked.
func (fs *FS) mount(dir, options string) {
	fs.t.Helper()
	var flags uintptr
	var data []string
	for o := range strings.SplitSeq(options, ",") {
		if flag, ok := mountFlags[o]; ok {
			flags |= flag
		} else if o != "" {
			data = append(data, o)
		}
	}
	for _, d := range fs.Devices[1:] {
		data = append(data, "device="+d)
	}
	if err := unix.Mount(fs.Device, dir, "btrfs", flags, strings.Join(data, ",")); err != nil {
		fs.t.Fatalf("mounting %s on %s with %q: %v", fs.Device, dir, options, err)
	}
	fs.mounts = append(fs.mounts, dir)
}

// unmountAll takes down all mounts, the newest first. One that stays busy is
// detached all the same and reported with those who use it.
func (fs *FS) unmountAll() error {
	var errs []error
	for _, dir := range slices.Backward(fs.mounts) {
		err := unmount(dir)
		if err != nil {
			err = fmt.Errorf("unmounting %s: %w%s", dir, err, holders(dir))
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
		errs = append(errs, err)
	}
	fs.mounts = nil
	return errors.Join(errs...)
}

// unmount waits a little for users that are on their way out, such as a child
// that was killed a moment ago.
func unmount(dir string) error {
	deadline := time.Now().Add(3 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := unix.Unmount(dir, 0)
		if err == nil || errors.Is(err, unix.EINVAL) { // EINVAL: the test unmounted it itself
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// holders names the open files and working directories below dir.
func holders(dir string) string {
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	cwds, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range append(links, cwds...) {
		target, err := os.Readlink(link)
		if err == nil && (target == dir || strings.HasPrefix(target, dir+"/")) {
			found = append(found, link+" -> "+target)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return "; in use by " + strings.Join(found, ", ")
}
