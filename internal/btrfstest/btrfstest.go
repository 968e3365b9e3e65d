// Package btrfstest is the test bench for everything that needs a real btrfs.
//
// It knows how to make a scratch file system on a loop device and to take it
// away again, how to let its disk fail, wait or lose power (see Faulty), how to
// fill it with trees that use everything a file system has and change them at
// random, how to digest a tree so that two digests are equal exactly if the
// trees are, and how to ask the btrfs program for a second opinion. It knows
// nothing of the packages under test and imports none of them, so that it can
// contradict them; every package's tests may import it, programs never do.
//
// Invariants. Nothing outlives a test, whether it passes, fails, panics, times
// out or is killed by SIGKILL: each file system is guarded by a process of its
// own, in a session of its own, which takes down the mounts and the directory
// as soon as the test binary is gone; the loop devices detach themselves with
// the last mount. (What no process survives, such as the end of a container, is
// the business of the container.) Trees depend on their seed alone. Helpers end
// the test with t.Fatal, so they must be called from the test's goroutine;
// those that return an error say so in their signature.
//
// Memory is bounded by what the caller asks for: Send returns a whole stream,
// Entries one line per file; file contents are never held whole.
//
//	fs := btrfstest.New(t, btrfstest.MountOptions("compress=zstd"))
//	live := fs.Subvolume("live")
//	tree := btrfstest.NewTree(t, live, 1)
//	tree.Fill()
//	one := fs.Snapshot("live", "one", true)
//	stream := fs.Send(one)
package btrfstest

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// RealEnv names the environment variable that turns "cannot run here" from a
// skip into a failure. The project's own test command sets it to 1.
const RealEnv = "BUTTERSINK_TEST_REAL"

// DefaultSize is the size of a scratch device unless Size says otherwise. The
// image is sparse: it takes only what is written.
const DefaultSize = 512 << 20

// Require returns if tests on a real btrfs can run here. Otherwise it skips the
// test, or fails it if RealEnv is set, and says what is missing.
func Require(t testing.TB) {
	t.Helper()
	if why := missing(); why != "" {
		if realTests() {
			t.Fatalf("a test on a real btrfs cannot run: %s", why)
		}
		t.Skipf("needs a real btrfs: %s", why)
	}
}

func realTests() bool { return os.Getenv(RealEnv) == "1" }

// missing says why file systems cannot be made here, or "".
func missing() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	if !hasSysAdmin() {
		return "root without CAP_SYS_ADMIN, so nothing can be mounted"
	}
	for _, name := range []string{"mkfs.btrfs", "btrfs", "umount"} {
		if _, err := program(name); err != nil {
			return err.Error()
		}
	}
	if _, err := os.Stat(loopControl); err != nil {
		return "no loop devices: " + err.Error()
	}
	return ""
}

// hasSysAdmin reports whether the process has CAP_SYS_ADMIN, the 21st
// capability (capabilities(7)), in its effective set.
func hasSysAdmin() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && set&(1<<21) != 0
		}
	}
	return false
}

// FS is a scratch file system. It is mounted until the test ends.
type FS struct {
	Dir    string // where the top level is mounted
	Image  string // the file beneath the first device
	Device string // the first loop device

	Images  []string // one file per device
	Devices []string // one loop device per image
	Disks   []*Disk  // one per image, if made with Faulty

	t       testing.TB
	guard   *guard
	options string
	held    []*os.File // keeps the loop devices while nothing is mounted
	mounts  []string   // everything mounted, in order
	closed  bool
}

type config struct {
	size     int64
	options  string
	features []string
	devices  int
	faulty   bool
	prepared string
}

// An Option changes what New makes.
type Option func(*config)

// Size sets the size in bytes of each device. mkfs.btrfs wants 109 MiB or more,
// or 16 MiB with Features("--mixed").
func Size(bytes int64) Option { return func(c *config) { c.size = bytes } }

// MountOptions sets the mount options, as after mount -o. The default is
// noatime.
func MountOptions(options string) Option { return func(c *config) { c.options = options } }

// Features adds arguments for mkfs.btrfs, for instance "--csum", "xxhash".
func Features(args ...string) Option {
	return func(c *config) { c.features = append(c.features, args...) }
}

// Devices sets the number of devices. Data and metadata of more than one are
// raid1 unless Features has "-d" and "-m".
func Devices(n int) Option { return func(c *config) { c.devices = n } }

// New makes a file system and mounts it. It calls Require. When the test ends
// everything is taken down again; the test fails if something still uses the
// file system then, because that is a leak.
func New(t testing.TB, opts ...Option) *FS {
	t.Helper()
	Require(t)
	c := config{size: DefaultSize, options: "noatime", devices: 1}
	for _, o := range opts {
		o(&c)
	}
	fs := bench(t, c.options)
	for i := range c.devices {
		image := filepath.Join(fs.guard.dir, "image"+strconv.Itoa(i))
		if err := c.makeImage(image); err != nil {
			t.Fatal(err)
		}
		if c.faulty {
			fs.Disks = append(fs.Disks, newDisk(t, fs.guard.dir, image, i))
		}
		fs.attach(image)
	}
	if c.prepared == "" {
		args := []string{"-q", "-K"}
		if c.devices > 1 && !slices.Contains(c.features, "-d") { // mkfs.btrfs mixes profiles that are given twice
			args = append(args, "-d", "raid1", "-m", "raid1")
		}
		args = append(args, c.features...)
		run(t, nil, "mkfs.btrfs", append(args, fs.Devices...)...)
	}
	fs.Mount()
	return fs
}

func (c config) makeImage(path string) error {
	if c.prepared != "" {
		return unpackImage(path, c.prepared)
	}
	return makeSparse(path, c.size)
}

// bench starts the guard and registers the cleanup of an FS without devices.
func bench(t testing.TB, options string) *FS {
	t.Helper()
	g, err := startGuard()
	if err != nil {
		t.Fatal(err)
	}
	fs := &FS{t: t, guard: g, Dir: filepath.Join(g.dir, "mnt"), options: options}
	t.Cleanup(fs.cleanup)
	if err := os.Mkdir(fs.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return fs
}

// attach puts a loop device over an image.
func (fs *FS) attach(image string) {
	fs.t.Helper()
	path := image
	if n := len(fs.Devices); n < len(fs.Disks) {
		path = fs.Disks[n].path
	}
	dev, err := attachLoop(path)
	if err != nil {
		fs.t.Fatal(err)
	}
	fs.Images = append(fs.Images, image)
	fs.Devices = append(fs.Devices, dev.Name())
	fs.held = append(fs.held, dev)
	fs.Image, fs.Device = fs.Images[0], fs.Devices[0]
}

// Close takes the file system down before the end of the test, for tests and
// benchmarks that need many in turn.
func (fs *FS) Close() {
	fs.t.Helper()
	fs.cleanup()
}

func (fs *FS) cleanup() {
	if fs.closed {
		return
	}
	fs.closed = true
	for _, d := range fs.Disks {
		if _, err := d.ask("heal"); err != nil {
			fs.t.Errorf("healing a fault disk: %v", err)
		}
	}
	if err := fs.unmountAll(); err != nil {
		fs.t.Errorf("taking down the scratch file system: %v", err)
	}
	for _, dev := range fs.held {
		dev.Close()
	}
	if len(fs.Devices) > 1 {
		forgetDevices(fs.Devices)
	}
	for _, d := range fs.Disks {
		if err := d.stop(); err != nil {
			fs.t.Errorf("ending a fault disk: %v", err)
		}
	}
	if err := fs.guard.stop(); err != nil {
		fs.t.Errorf("taking down the scratch file system: %v", err)
	}
}

// Path joins a path onto the mount point; an absolute path stays as it is.
func (fs *FS) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(fs.Dir, name)
}

func makeSparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}
