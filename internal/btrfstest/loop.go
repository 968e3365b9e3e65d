package btrfstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

const (
	loopControl = "/dev/loop-control"
	loopMajor   = 7
)

// attachLoop puts a free loop device over the file and returns it open. The
// device detaches itself when the last user closes it (autoclear), so keep it
// open until it is mounted, and no kill can leave it behind.
func attachLoop(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()

	// Other test binaries look for free devices at the same moment: between the
	// answer and the claim someone else may have taken the device, or it may
	// still be on its way out. Both pass.
	deadline := time.Now().Add(30 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		dev, err := claimFree(control, file)
		if err == nil {
			return dev, nil
		}
		passing := errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
		if !passing || time.Now().After(deadline) {
			return nil, fmt.Errorf("attaching %s to a loop device: %w", image, err)
		}
		time.Sleep(pause)
	}
}

func claimFree(control, file *os.File) (*os.File, error) {
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("asking for a free loop device: %w", err)
	}
	path := fmt.Sprintf("/dev/loop%d", n)
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		// A container's /dev holds only the nodes it was given.
		err = unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(n))))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("making the node %s: %w", path, err)
		}
		dev, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file.Name())
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &config); err != nil {
		dev.Close()
		return nil, fmt.Errorf("configuring %s: %w", path, err)
	}
	return dev, nil
}

// forgetDevices makes the kernel forget what it remembers of unmounted members
// of a file system of several devices. Best effort: it matters only to someone
// who gets the same loop device next.
func forgetDevices(devices []string) {
	for _, d := range devices {
		_ = exec.Command("btrfs", "device", "scan", "--forget", d).Run()
	}
}
