package btrfstest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Disk is the disk under a scratch file system made with Faulty. It does as
// it is told from the moment that a method returns; what the kernel has read
// already it need not ask for again. The zero state is a healthy disk that
// stores every write at once.
type Disk struct {
	t    testing.TB
	path string // the file that a loop device is put over
	cmd  *exec.Cmd

	asking  sync.Mutex // held from a command to its answer
	stdin   io.WriteCloser
	answers *bufio.Reader
}

// Faulty puts a Disk under each device, which costs speed. The package's
// TestMain has to call ServeDisks.
func Faulty() Option { return func(c *config) { c.faulty = true } }

// Heal ends every fault, and what waits goes on.
func (d *Disk) Heal() { d.t.Helper(); d.do("heal") }

// Pause makes every request wait until Heal.
func (d *Disk) Pause() { d.t.Helper(); d.do("pause") }

// Delay makes every request wait so long.
func (d *Disk) Delay(each time.Duration) { d.t.Helper(); d.do("delay", int64(each)) }

// FailReads makes reads fail with EIO after so many more bytes.
func (d *Disk) FailReads(after int64) { d.t.Helper(); d.do("fail-reads", after) }

// FailWrites makes writes fail with EIO after so many more bytes.
func (d *Disk) FailWrites(after int64) { d.t.Helper(); d.do("fail-writes", after) }

// Bad makes reads fail with EIO that touch a range of the device.
func (d *Disk) Bad(offset, length int64) { d.t.Helper(); d.do("bad", offset, length) }

// Cached gives the disk a write cache that a power cut loses. Only a flush, or
// the end of the test, writes it out.
func (d *Disk) Cached() { d.t.Helper(); d.do("cache") }

// Requests returns how many reads and writes there were.
func (d *Disk) Requests() (reads, writes int64) {
	d.t.Helper()
	if _, err := fmt.Sscan(d.do("counts"), &reads, &writes); err != nil {
		d.t.Fatal(err)
	}
	return reads, writes
}

// PowerOff cuts the power of the disks at this moment, whatever is being
// written: every request fails from now on. What was in the write cache of a
// Disk (see Cached) is lost but for pages chosen by the seed.
func (fs *FS) PowerOff(seed uint64) {
	fs.t.Helper()
	if len(fs.Disks) == 0 {
		fs.t.Fatal("the power of a file system that was not made with Faulty cannot be cut")
	}
	for _, d := range fs.Disks {
		d.do("cut", int64(seed))
	}
}

// PowerOn mounts the file system as the next boot finds it: what the kernel has
// not written is lost. Nothing may use it any more.
func (fs *FS) PowerOn() {
	fs.t.Helper()
	fs.Unmount()
	for i, d := range fs.Disks {
		// The loop device has a page cache, which nobody finds after a boot.
		_ = unix.IoctlSetInt(int(fs.held[i].Fd()), unix.BLKFLSBUF, 0)
		d.Heal()
	}
	fs.Mount()
}

// newDisk starts a disk over an image. The mount is made here and not by the
// new process, which could make it after the guard has looked.
func newDisk(t testing.TB, dir, image string, number int) *Disk {
	t.Helper()
	d := &Disk{t: t, path: filepath.Join(dir, "mnt-disk"+strconv.Itoa(number))}
	if err := os.WriteFile(d.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.start(image); err != nil {
		t.Fatalf("starting a fault disk: %v", err)
	}
	return d
}

func (d *Disk) start(image string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	connection, err := mountFUSE(d.path)
	if err != nil {
		return err
	}
	defer connection.Close()
	// Where TestMain does not call ServeDisks, no test shall run again.
	d.cmd = &exec.Cmd{Path: self, Args: []string{diskProgram, "-test.run=^$"}, Dir: "/"}
	d.cmd.ExtraFiles = []*os.File{connection, file}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // outlives the test until the guard is done, as the guard itself
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return err
	}
	d.answers = bufio.NewReader(stdout)
	if err := d.cmd.Start(); err != nil {
		return err
	}
	if _, err := d.ask("heal"); err != nil {
		_ = unix.Unmount(d.path, unix.MNT_DETACH)
		return fmt.Errorf("%w (does TestMain call ServeDisks?)", err)
	}
	_, err = os.Stat(d.path) // tells the kernel the size
	return err
}

// do gives the disk a command and returns what it answers besides "ok".
func (d *Disk) do(command string, args ...int64) string {
	d.t.Helper()
	answer, err := d.ask(command, args...)
	if err != nil {
		d.t.Fatalf("telling the disk to %s: %v", command, err)
	}
	return answer
}

func (d *Disk) ask(command string, args ...int64) (string, error) {
	for _, n := range args {
		command += " " + strconv.FormatInt(n, 10)
	}
	d.asking.Lock()
	defer d.asking.Unlock()
	if _, err := io.WriteString(d.stdin, command+"\n"); err != nil {
		return "", err
	}
	line, err := d.answers.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("waiting for its answer: %w", err)
	}
	answer, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "ok")
	if !ok {
		return "", errors.New(strings.TrimSpace(line))
	}
	return answer, nil
}

// stop ends the disk. Nothing may use it any more.
func (d *Disk) stop() error {
	err := unix.Unmount(d.path, unix.MNT_DETACH)
	d.stdin.Close()
	timer := time.AfterFunc(20*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	return errors.Join(err, d.cmd.Wait())
}

// Locate returns where on the first device some bytes are stored, which have to
// be at the start of a sector and nowhere else. What is written out must be on
// the device; nothing may be compressed.
func (fs *FS) Locate(content []byte) int64 {
	fs.t.Helper()
	image, err := os.Open(fs.Image)
	if err != nil {
		fs.t.Fatal(err)
	}
	defer image.Close()
	found := int64(-1)
	page := make([]byte, sector)
	content = content[:min(len(content), sector)]
	err = eachData(image, func(start, end int64) error {
		for off := start; off < end; off += sector {
			if _, err := image.ReadAt(page, off); err != nil {
				return err
			}
			if bytes.HasPrefix(page, content) {
				if found >= 0 {
					return fmt.Errorf("both at %d and at %d", found, off)
				}
				found = off
			}
		}
		return nil
	})
	if err != nil || found < 0 {
		fs.t.Fatalf("looking for %d bytes on %s: found at %d: %v", len(content), fs.Device, found, err)
	}
	return found
}
