package dir

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/buckettest"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestMain(m *testing.M) {
	btrfstest.ServeDisks()
	if path := os.Getenv(storingEnv); path != "" {
		storeUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *Bucket {
	t.Helper()
	b, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// harness makes its buckets in directories that root makes, and changes them.
func harness(root func(t testing.TB) string, change func(b *Bucket)) buckettest.Harness {
	var paths sync.Map
	place := func(t testing.TB, path string) archive.Bucket {
		t.Helper()
		b := open(t, path)
		change(b)
		paths.Store(archive.Bucket(b), path)
		return b
	}
	return buckettest.Harness{
		New: func(t testing.TB) archive.Bucket {
			t.Helper()
			path := root(t)
			t.Cleanup(func() { tidy(t, path) })
			return place(t, path)
		},
		Again: func(t testing.TB, b archive.Bucket) archive.Bucket {
			t.Helper()
			path, _ := paths.Load(b)
			return place(t, path.(string))
		},
	}
}

func asItIs(*Bucket) {}

// memory makes a directory in memory, if there is a place for that.
func memory(t testing.TB) string {
	path, err := os.MkdirTemp("/dev/shm", "buttersink-dir")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func temporary(t testing.TB) string { return t.TempDir() }

// tidy expects that nothing has been left in our folder but uploads.
func tidy(t testing.TB, path string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(path, Folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !isID(filepath.Base(f)) {
			t.Errorf("%s was left", f)
		} else if _, err := os.Stat(filepath.Join(f, dataIn)); err != nil {
			t.Errorf("%s was left, and is no upload", f)
		}
	}
	if _, err := os.Stat(filepath.Join(path, Folder)); err == nil && len(found) == 0 {
		t.Errorf("%s was left, empty", Folder)
	}
}

func TestContract(t *testing.T) {
	buckettest.Run(t, harness(temporary, asItIs))
}

// TestContractWithLinks is about file systems like NFS.
func TestContractWithLinks(t *testing.T) {
	buckettest.Run(t, harness(memory, func(b *Bucket) { b.ways = b.ways[1:] }))
}

// TestContractPoor is about file systems like exFAT with an old kernel.
func TestContractPoor(t *testing.T) {
	buckettest.Run(t, harness(memory, func(b *Bucket) { b.ways, b.shares = b.ways[2:], false }))
}

func TestContractOnTmpfs(t *testing.T) {
	btrfstest.Require(t)
	top := tmpfs(t, "64m")
	buckettest.Run(t, harness(func(t testing.TB) string { return subdirectory(t, top) }, asItIs))
}

func TestContractOnBtrfs(t *testing.T) {
	btrfstest.Require(t)
	top := btrfstest.New(t).Path(".")
	buckettest.Run(t, harness(func(t testing.TB) string { return subdirectory(t, top) }, asItIs))
}

// TestContractOnImages takes xfs, and those of sticks where the kernel has them.
func TestContractOnImages(t *testing.T) {
	btrfstest.Require(t)
	for system, make := range map[string][]string{
		"vfat": {"mkfs.vfat"}, "exfat": {"mkfs.exfat"}, "xfs": {"mkfs.xfs", "-q"},
	} {
		raw, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), "\t"+system+"\n") && system != "xfs" {
			t.Logf("this kernel has no %s: what is said of it is not shown here", system)
			continue
		}
		t.Run(system, func(t *testing.T) {
			if _, err := exec.LookPath(make[0]); err != nil {
				t.Fatal(err)
			}
			top := image(t, system, make...)
			buckettest.Run(t, harness(func(t testing.TB) string { return subdirectory(t, top) }, asItIs))
		})
	}
}

// subdirectory makes a directory in another one that is not removed, since what is
// below goes as a whole.
func subdirectory(t testing.TB, top string) string {
	t.Helper()
	path, err := os.MkdirTemp(top, "bucket")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// tmpfs mounts an empty file system of a size.
func tmpfs(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mounting: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func unmount(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("unmounting %s: %v", dir, err)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}

// image mounts a fresh file system of a kind from a sparse file.
func image(t testing.TB, system string, make ...string) string {
	t.Helper()
	file, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 512<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(make[0], append(make[1:], file)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", make[0], err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", "-t", system, file, dir).CombinedOutput(); err != nil {
		t.Fatalf("mounting: %v\n%s", err, out)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}
