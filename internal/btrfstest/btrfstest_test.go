package btrfstest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// mounted returns the mount options and super options of a mount point.
func mounted(t *testing.T, dir string) string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); f[4] == dir {
			return f[5] + "," + f[len(f)-1]
		}
	}
	return ""
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOptions(t *testing.T) {
	small := btrfstest.New(t, btrfstest.Size(16<<20), btrfstest.Features("--mixed", "--csum", "xxhash"), btrfstest.MountOptions("ro,compress=lzo,nodev"))
	options := mounted(t, small.Dir)
	for _, want := range []string{"ro", "compress=lzo", "nodev"} {
		if !strings.Contains(","+options+",", ","+want+",") {
			t.Errorf("%s is not among the options %s", want, options)
		}
	}
	if info, err := os.Stat(small.Image); err != nil || info.Size() != 16<<20 {
		t.Errorf("the image: %v, %v", info, err)
	}
	if !strings.Contains(mounted(t, btrfstest.New(t).Dir), "noatime") {
		t.Error("not noatime by default")
	}
}

func TestDevices(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Devices(2))
	write(t, fs.Path("file"), "content")
	fs.Remount()
	if got := read(t, fs.Path("file")); got != "content" {
		t.Errorf("got %q", got)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(fs.Dir, &st); err != nil {
		t.Fatal(err)
	}
	if size := int64(st.Blocks) * st.Bsize; size != btrfstest.DefaultSize {
		t.Errorf("a mirror of two devices of %d holds %d", btrfstest.DefaultSize, size)
	}
}

func TestClose(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Close()
	if _, err := os.Stat(fs.Image); !os.IsNotExist(err) || mounted(t, fs.Dir) != "" {
		t.Errorf("after Close: %v, %q", err, mounted(t, fs.Dir))
	}
	fs.Close()
}

func TestMounts(t *testing.T) {
	fs := btrfstest.New(t)
	live := fs.Subvolume("live")
	write(t, live+"/file", "content")
	bound, again := fs.Bind("live"), fs.MountAgain("subvol=live,ro")
	for _, dir := range []string{bound, again} {
		if got := read(t, dir+"/file"); got != "content" {
			t.Errorf("%s: got %q", dir, got)
		}
	}
	if err := os.WriteFile(again+"/new", nil, 0o600); err == nil {
		t.Error("the second mount is writable")
	}
	fs.Remount("ro", "subvol=live")
	if got := read(t, fs.Path("file")); got != "content" {
		t.Errorf("after the remount: got %q", got)
	}
	if !strings.HasPrefix(mounted(t, fs.Dir), "ro") || mounted(t, bound) != "" || mounted(t, again) != "" {
		t.Error("the remount has not its options, or leaves other mounts")
	}
}

// TestRemountDropsCache: a byte changed on the device is seen.
func TestRemountDropsCache(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Size(128<<20), btrfstest.MountOptions("noatime,nodatasum"))
	marker := strings.Repeat("a marker of many bytes ", 1000)
	write(t, fs.Path("file"), marker)
	fs.Sync()
	image, err := os.OpenFile(fs.Image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	content, err := os.ReadFile(fs.Image)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte(marker))
	if at < 0 {
		t.Fatal("the marker is not in the image")
	}
	if _, err := image.WriteAt([]byte("A"), int64(at)); err != nil {
		t.Fatal(err)
	}
	fs.Remount()
	if got := read(t, fs.Path("file")); got[:1] != "A" {
		t.Errorf("got %q", got[:10])
	}
}

func TestPowerCut(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.MountOptions("noatime,commit=300"))
	write(t, fs.Path("safe"), "content")
	fs.Sync()
	write(t, fs.Path("lost"), "content")
	cut := fs.PowerCut()
	if got := read(t, cut.Path("safe")); got != "content" {
		t.Errorf("what was synced: got %q", got)
	}
	if _, err := os.Stat(cut.Path("lost")); !os.IsNotExist(err) {
		t.Errorf("what was not synced is there: %v", err)
	}
	write(t, fs.Path("later"), "the original goes on")
	fs.Sync()
}

// TestOracles: the btrfs program's second opinion.
func TestOracles(t *testing.T) {
	fs := btrfstest.New(t)
	live := fs.Subvolume("live")
	write(t, live+"/file", "content")
	one := fs.Snapshot("live", "one", true)
	write(t, live+"/file", "changed")
	fs.Snapshot("live", "two", true)
	target := fs.Subvolume("target")

	received := fs.MustReceive("target", "one", fs.Send("one"))
	if diff := btrfstest.Diff(t, one, received); diff != "" {
		t.Error(diff)
	}
	uuid := fs.Show("one")["UUID"]
	show := fs.Show(received)
	if uuid == "" || show["Received UUID"] != uuid || show["Flags"] != "readonly" || show["Parent UUID"] != "" {
		t.Errorf("of a snapshot with the UUID %q, show tells %q", uuid, show)
	}

	increment := fs.Send("two", "-p", one)
	var buffer bytes.Buffer
	if err := fs.SendTo(&buffer, "two", "-p", one); err != nil || !bytes.Equal(buffer.Bytes(), increment) {
		t.Errorf("SendTo: %v, %d bytes for %d", err, buffer.Len(), len(increment))
	}
	if dump, err := fs.Dump(bytes.NewReader(increment)); err != nil || !strings.Contains(dump, "snapshot") || !strings.Contains(dump, "./two/file") {
		t.Errorf("dump: %v: %s", err, dump)
	}
	err := fs.Receive("target", bytes.NewReader(increment[:len(increment)-5]))
	if err == nil || !strings.Contains(err.Error(), "ERROR") {
		t.Errorf("a truncated stream: %v", err)
	}
	fs.Delete(filepath.Join(target, "two"))

	fs.SetReadOnly(received, false)
	if show := fs.Show(received); show["Received UUID"] != "" || show["Flags"] == "readonly" {
		t.Errorf("after SetReadOnly(false): %q", show)
	}
	fs.SetReadOnly(received, true)
	if show := fs.Show(received); show["Flags"] != "readonly" {
		t.Errorf("after SetReadOnly(true): %q", show)
	}
}

func TestProgramMissing(t *testing.T) {
	t.Setenv("PATH", "/nonexistent")
	t.Setenv(btrfstest.RealEnv, "1")
	fake := &fakeT{TB: t}
	func() {
		defer func() { _ = recover() }()
		btrfstest.Program(fake, "setfacl-that-does-not-exist")
	}()
	if !strings.Contains(fake.fatal, "setfacl-that-does-not-exist") {
		t.Errorf("got %q", fake.fatal)
	}
	fake.fatal = ""
	func() {
		defer func() { _ = recover() }()
		btrfstest.Program(fake, "setfacl") // in /usr/bin, which is not on the PATH
	}()
	if !strings.Contains(fake.fatal, "apt-get install acl") {
		t.Errorf("got %q", fake.fatal)
	}
}

// fakeT takes down what a test would end with.
type fakeT struct {
	testing.TB
	fatal string
}

func (f *fakeT) Helper() {}

func (f *fakeT) Fatal(args ...any) {
	f.fatal = fmt.Sprint(args...)
	panic(f)
}

// TestExtents: a reflink shares what a copy does not.
func TestExtents(t *testing.T) {
	fs := btrfstest.New(t)
	content := strings.Repeat("content", 100_000)
	write(t, fs.Path("file"), content)
	write(t, fs.Path("copy"), content)
	file, err := os.Open(fs.Path("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reflink, err := os.Create(fs.Path("reflink"))
	if err != nil {
		t.Fatal(err)
	}
	defer reflink.Close()
	if err := unix.IoctlFileClone(int(reflink.Fd()), int(file.Fd())); err != nil {
		t.Fatal(err)
	}
	first, same, other := btrfstest.Extents(t, file.Name()), btrfstest.Extents(t, reflink.Name()), btrfstest.Extents(t, fs.Path("copy"))
	if len(first) != 1 || len(same) != 1 || len(other) != 1 {
		t.Fatalf("%+v, %+v, %+v", first, same, other)
	}
	if first[0] != same[0] || !same[0].Shared || same[0].Length != 700_416 {
		t.Errorf("the reflink: %+v of %+v", same, first)
	}
	if other[0].Shared || other[0].Physical == first[0].Physical {
		t.Errorf("the copy: %+v of %+v", other, first)
	}
}
