package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// diskSize is that of every image, which is sparse.
const diskSize = 16 << 30

// A disk is a btrfs in an image.
type disk struct {
	image   string
	dir     string // where it is mounted
	options string // of mount
	mounted bool
}

// format makes it empty.
func (d *disk) format() error {
	if err := d.discard(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return err
	}
	return tool("mkfs.btrfs", "-q", d.image)
}

// become makes it a copy of an image.
func (d *disk) become(image string) error {
	if err := d.discard(); err != nil {
		return err
	}
	return tool("cp", "--sparse=always", image, d.image)
}

// discard unmounts it and removes the image.
func (d *disk) discard() error {
	if err := d.unmount(); err != nil {
		return err
	}
	if err := os.Remove(d.image); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *disk) mount() error {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	options := "loop,noatime"
	if d.options != "" {
		options += "," + d.options
	}
	if err := tool("mount", "-o", options, d.image, d.dir); err != nil {
		return err
	}
	d.mounted = true
	return nil
}

// unmount waits a little for who still uses it.
func (d *disk) unmount() error {
	if !d.mounted {
		return nil
	}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Unmount(d.dir, 0)
		if err == nil {
			d.mounted = false
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Since(begun) > 10*time.Second {
			return fmt.Errorf("unmounting %s: %w", d.dir, err)
		}
	}
}

// anew mounts it so that nothing of it is cached, except by the machine below:
// the image itself is read into memory, since it is the file systems that are
// compared and not how busy the machine's disk was.
func (d *disk) anew() error {
	if err := d.unmount(); err != nil {
		return err
	}
	if err := warm(d.image); err != nil {
		return err
	}
	return d.mount()
}

// warm reads a file, all but its holes.
func warm(path string) error {
	const seekData, seekHole = 3, 4 // lseek(2)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := make([]byte, 1<<20)
	for at := int64(0); ; {
		begin, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) { // only a hole follows
			return nil
		}
		if err != nil {
			return err
		}
		if at, err = f.Seek(begin, seekHole); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(sink{}, io.NewSectionReader(f, begin, at-begin), buffer); err != nil {
			return err
		}
	}
}

// sink takes everything. Unlike io.Discard it has no ReadFrom with small
// buffers.
type sink struct{}

func (sink) Write(p []byte) (int, error) { return len(p), nil }

// tool runs a program that is no part of what is timed.
func tool(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}
