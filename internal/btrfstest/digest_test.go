package btrfstest_test

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestDigestSeesEverything makes one change at a time to a copy of a small tree.
func TestDigestSeesEverything(t *testing.T) {
	fs := btrfstest.New(t)
	base := fs.Subvolume("base")
	const old = 1_000_000_000
	setTime := func(path string, ns int64) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{}, {Sec: old, Nsec: ns}}, unix.AT_SYMLINK_NOFOLLOW)
	}
	for _, err := range []error{
		os.WriteFile(base+"/file", []byte("content"), 0o644),
		os.WriteFile(base+"/other", []byte("content"), 0o644),
		os.Link(base+"/file", base+"/link"),
		os.Link(base+"/other", base+"/second"),
		os.WriteFile(base+"/equal1", nil, 0o644),
		os.WriteFile(base+"/equal2", nil, 0o644),
		os.Link(base+"/equal1", base+"/equal3"),
		os.Link(base+"/equal2", base+"/equal4"),
		setTime(base+"/equal1", 0),
		setTime(base+"/equal2", 0),
		os.Mkdir(base+"/dir", 0o755),
		os.WriteFile(base+"/dir/inner", nil, 0o644),
		os.Symlink("target", base+"/symlink"),
		unix.Mknod(base+"/char", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
		unix.Mkfifo(base+"/fifo", 0o600),
		os.Truncate(base+"/other", 100_000),
		unix.Setxattr(base+"/file", "user.a", []byte("1"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// A change of content or names must be seen even if the time is put back.
	quietly := func(change func(dir string) error, paths ...string) func(string) error {
		return func(dir string) error {
			if err := change(dir); err != nil {
				return err
			}
			for _, p := range append(paths, "") {
				if err := setTime(dir+"/"+p, 0); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, p := range []string{"file", "other", "dir/inner", "dir", "symlink", "char", "fifo", ""} {
		if err := setTime(base+"/"+p, 0); err != nil {
			t.Fatal(err)
		}
	}
	acl := func(id uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 2)
		for _, e := range [][3]uint32{{1, 6, 1<<32 - 1}, {2, 4, id}, {4, 4, 1<<32 - 1}, {16, 4, 1<<32 - 1}, {32, 4, 1<<32 - 1}} {
			b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
			b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
			b = binary.LittleEndian.AppendUint32(b, e[2])
		}
		return b
	}
	caps := append([]byte{1, 0, 0, 2, 0, 4}, make([]byte, 14)...)
	xattr := func(path, name string, value []byte) func(string) error {
		return func(dir string) error { return unix.Lsetxattr(dir+"/"+path, name, value, 0) }
	}

	for _, c := range []struct {
		name   string
		change func(dir string) error
		want   string // in Diff's words
	}{
		{"content, same size and time", quietly(func(d string) error { return os.WriteFile(d+"/file", []byte("CONTENT"), 0) }, "file"), `"file": sha256`},
		{"zeros behind the content", quietly(func(d string) error { return os.Truncate(d+"/file", 100) }, "file"), " size 7 → 100"},
		{"mode", func(d string) error { return unix.Chmod(d+"/file", 0o600) }, " mode 0644 → 0600"},
		{"sticky bit", func(d string) error { return unix.Chmod(d+"/dir", 0o1755) }, " mode 0755 → 1755"},
		{"setuid bit", func(d string) error { return unix.Chmod(d+"/file", 0o4644) }, " mode 0644 → 4644"},
		{"mode of the root", func(d string) error { return unix.Chmod(d, 0o700) }, `".": mode 0755 → 0700`},
		{"owner", func(d string) error { return os.Lchown(d+"/file", 1, 0) }, " uid 0 → 1"},
		{"group", func(d string) error { return os.Lchown(d+"/dir", 0, 1) }, " gid 0 → 1"},
		{"owner of a symlink", func(d string) error { return os.Lchown(d+"/symlink", 1, 0) }, `"symlink": uid 0 → 1`},
		{"a nanosecond", func(d string) error { return setTime(d+"/file", 1) }, " mtime 1000000000.000000000 → 1000000000.000000001"},
		{"time of a directory", func(d string) error { return setTime(d+"/dir", 7) }, `"dir": mtime`},
		{"time of the root", func(d string) error { return setTime(d, 7) }, `".": mtime`},
		{"time of a symlink", func(d string) error { return setTime(d+"/symlink", 7) }, `"symlink": mtime`},
		{"one link more", quietly(func(d string) error { return os.Link(d+"/file", d+"/third") }), `only in the second: "third"`},
		{"links to the other of two equal files", quietly(func(d string) error {
			return unix.Renameat2(unix.AT_FDCWD, d+"/equal3", unix.AT_FDCWD, d+"/equal4", unix.RENAME_EXCHANGE)
		}), ` same "equal1" → "equal2"`},
		{"a link broken", quietly(func(d string) error {
			if err := os.Remove(d + "/second"); err != nil {
				return err
			}
			return os.WriteFile(d+"/second", make([]byte, 7), 0o644)
		}, "second"), `nlink 2 → 1`},
		{"target", quietly(func(d string) error {
			if err := os.Remove(d + "/symlink"); err != nil {
				return err
			}
			return os.Symlink("tarGet", d+"/symlink")
		}, "symlink"), ` target "target" → "tarGet"`},
		{"device number", quietly(func(d string) error {
			if err := os.Remove(d + "/char"); err != nil {
				return err
			}
			return unix.Mknod(d+"/char", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
		}, "char"), " rdev 1:3 → 1:5"},
		{"type", quietly(func(d string) error {
			if err := os.Remove(d + "/fifo"); err != nil {
				return err
			}
			return unix.Mknod(d+"/fifo", unix.S_IFSOCK|0o600, 0)
		}, "fifo"), " type fifo → socket"},
		{"name", quietly(func(d string) error { return os.Rename(d+"/fifo", d+"/fifO") }), `only in the first:  "fifo"`},
		{"place", quietly(func(d string) error { return os.Rename(d+"/fifo", d+"/dir/fifo") }, "dir"), `only in the second: "dir/fifo"`},
		{"an empty directory more", quietly(func(d string) error { return os.Mkdir(d+"/dir/new", 0o755) }, "dir"), `only in the second: "dir/new"`},
		{"xattr's value", xattr("file", "user.a", []byte("2")), `xattr:"user.a" 31 → 32`},
		{"xattr's value, empty", xattr("file", "user.a", nil), `xattr:"user.a"`},
		{"xattr gone", func(d string) error { return unix.Removexattr(d+"/file", "user.a") }, `xattr:"user.a" 31 → -`},
		{"empty xattr", xattr("dir", "user.b", nil), `xattr:"user.b"`},
		{"trusted xattr of a symlink", xattr("symlink", "trusted.b", []byte("1")), `"symlink": xattr:"trusted.b"`},
		{"security xattr", xattr("fifo", "security.b", []byte("1")), `"fifo": xattr:"security.b"`},
		{"long xattr's last byte", xattr("file", "user.long", []byte(strings.Repeat("x", 2000)+"y")), `(2001 bytes, sha256`},
		{"access ACL", xattr("file", "system.posix_acl_access", acl(1000)), `"file": xattr:"system.posix_acl_access" -`},
		{"default ACL", xattr("dir", "system.posix_acl_default", acl(1000)), `"dir": xattr:"system.posix_acl_default"`},
		{"default ACL of the root", xattr("", "system.posix_acl_default", acl(1000)), `".": xattr:"system.posix_acl_default"`},
		{"capability", xattr("file", "security.capability", caps), `xattr:"security.capability"`},
		{"compression", xattr("dir", "btrfs.compression", []byte("zstd")), `xattr:"btrfs.compression"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := fs.Snapshot("base", "changed", false)
			defer fs.Delete("changed")
			if diff := btrfstest.Diff(t, base, changed); diff != "" {
				t.Fatalf("a snapshot differs: %s", diff)
			}
			before := btrfstest.Digest(t, changed)
			if err := c.change(changed); err != nil {
				t.Fatal(err)
			}
			if btrfstest.Digest(t, changed) == before {
				t.Error("the digest stays the same")
			}
			if diff := btrfstest.Diff(t, base, changed); !strings.Contains(diff, c.want) {
				t.Errorf("want %q, got %q", c.want, diff)
			}
		})
	}

	t.Run("what is left out", func(t *testing.T) {
		changed := fs.Snapshot("base", "changed", false)
		defer fs.Delete("changed")
		same := func(what string, opts ...btrfstest.DigestOption) {
			t.Helper()
			if diff := btrfstest.Diff(t, base, changed, opts...); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		if err := setTime(changed, 9); err != nil {
			t.Fatal(err)
		}
		same("time of the root", btrfstest.WithoutRootTime())
		if err := setTime(changed+"/file", 9); err != nil {
			t.Fatal(err)
		}
		if btrfstest.Diff(t, base, changed, btrfstest.WithoutRootTime()) == "" {
			t.Error("WithoutRootTime leaves out more than the root's")
		}
		same("times", btrfstest.WithoutTimes())
		if err := xattr("dir", "btrfs.compression", []byte("zstd"))(changed); err != nil {
			t.Fatal(err)
		}
		same("xattrs", btrfstest.WithoutTimes(), btrfstest.WithoutXattrs("btrfs."))
	})

	t.Run("holes", func(t *testing.T) {
		changed := fs.Snapshot("base", "changed", false)
		defer fs.Delete("changed")
		f, err := os.OpenFile(changed+"/other", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 4096), 8192); err != nil {
			t.Fatal(err)
		}
		f.Close()
		fs.Sync()
		if diff := btrfstest.Diff(t, base, changed, btrfstest.WithoutTimes()); diff != "" {
			t.Errorf("zeros in the place of a hole are other content: %s", diff)
		}
		if diff := btrfstest.Diff(t, base, changed, btrfstest.WithoutTimes(), btrfstest.WithHoles()); !strings.Contains(diff, "[8192,12288)") {
			t.Errorf("the hole is not missed: %q", diff)
		}
	})
}

// TestDigestOfDeepPaths: a path longer than the system calls take.
func TestDigestOfDeepPaths(t *testing.T) {
	dir := t.TempDir()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chdir(wd) })
	if err := os.Chdir(dir); err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 250)
	for range 20 {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chdir(name); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(btrfstest.Entries(t, dir)); n != 21 {
		t.Errorf("%d entries", n)
	}
}
