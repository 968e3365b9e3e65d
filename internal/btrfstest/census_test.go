package btrfstest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// seen is what a look at one entry tells.
type seen struct {
	path, name string
	stat       unix.Stat_t
	target     string
	xattrs     []string
	extents    []btrfstest.Extent
}

func (s seen) is(kind uint32) bool { return s.stat.Mode&unix.S_IFMT == kind }
func (s seen) file() bool          { return s.is(unix.S_IFREG) }
func (s seen) dir() bool           { return s.is(unix.S_IFDIR) }

// look visits a tree by means other than the bench's own.
func look(t *testing.T, dir string) []seen {
	t.Helper()
	var all []seen
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		s := seen{path: strings.TrimPrefix(path, dir), name: filepath.Base(path)}
		if err := unix.Lstat(path, &s.stat); err != nil {
			return err
		}
		s.target, _ = os.Readlink(path)
		b := make([]byte, 1<<16)
		n, err := unix.Llistxattr(path, b)
		if err != nil {
			return err
		}
		s.xattrs = strings.Split(string(b[:n]), "\x00")
		if s.file() {
			s.extents = btrfstest.Extents(t, path)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func hasXattr(prefix string) func(seen) bool {
	return func(s seen) bool {
		return slices.ContainsFunc(s.xattrs, func(x string) bool { return strings.HasPrefix(x, prefix) })
	}
}

func both(a, b func(seen) bool) func(seen) bool { return func(s seen) bool { return a(s) && b(s) } }

func ofType(kind uint32) func(seen) bool { return func(s seen) bool { return s.is(kind) } }

func ofMode(mode uint32) func(seen) bool {
	return func(s seen) bool { return s.stat.Mode&^uint32(unix.S_IFMT) == mode }
}

func ofName(pattern string) func(seen) bool {
	re := regexp.MustCompile(pattern)
	return func(s seen) bool { return re.MatchString(s.name) }
}

func ofExtent(is func(btrfstest.Extent) bool) func(seen) bool {
	return func(s seen) bool { return slices.ContainsFunc(s.extents, is) }
}

// TestEveryKindOccurs looks for each thing a tree is said to have: the first ones
// in every tree, the others in some of a few.
func TestEveryKindOccurs(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.MountOptions("noatime,compress=zstd"))
	const seeds = 4
	trees := make([][]seen, seeds)
	for seed := range trees {
		dir := fs.Subvolume(fmt.Sprint("tree", seed))
		tree := btrfstest.NewTree(t, dir, uint64(seed))
		tree.Fill()
		fs.Sync()
		trees[seed] = look(t, dir)
	}
	farLink := func(all []seen) func(seen) bool {
		dirs := map[uint64]string{}
		for _, s := range all {
			dirs[s.stat.Ino] = filepath.Dir(s.path)
		}
		return func(s seen) bool { return s.stat.Nlink > 1 && dirs[s.stat.Ino] != filepath.Dir(s.path) }
	}
	root := func(s seen) bool { return s.path == "" }

	for _, c := range []struct {
		what      string
		everytime bool
		is        func(seen) bool
	}{
		{"empty file", true, func(s seen) bool { return s.file() && s.stat.Size == 0 }},
		{"inline extent", true, ofExtent(func(e btrfstest.Extent) bool { return e.Inline })},
		{"extent that is not inline", true, ofExtent(func(e btrfstest.Extent) bool { return !e.Inline })},
		{"compressed extent", true, ofExtent(func(e btrfstest.Extent) bool { return e.Encoded && !e.Inline })},
		{"extent that is not compressed", true, ofExtent(func(e btrfstest.Extent) bool { return !e.Encoded && e.Length > 50_000 })},
		{"compressed inline extent", true, ofExtent(func(e btrfstest.Extent) bool { return e.Encoded && e.Inline })},
		{"shared extent", true, ofExtent(func(e btrfstest.Extent) bool { return e.Shared })},
		{"preallocated extent", true, ofExtent(func(e btrfstest.Extent) bool { return e.Unwritten })},
		{"extents beyond the end", false, func(s seen) bool { return s.file() && s.stat.Blocks*512 > (s.stat.Size+4095)/4096*4096 }},
		{"sparse file", true, func(s seen) bool { return s.file() && s.stat.Size > 1<<20 && s.stat.Blocks*512 < s.stat.Size/2 }},
		{"file of several MiB", true, func(s seen) bool { return s.file() && s.stat.Size >= 4<<20 && s.stat.Blocks*512 > 1<<20 }},
		{"hard link", true, func(s seen) bool { return s.file() && s.stat.Nlink > 1 }},
		{"so many links that extended references are needed", true, func(s seen) bool { return s.stat.Nlink > 70 }},
		{"user xattr", true, hasXattr("user.")},
		{"trusted xattr", true, hasXattr("trusted.")},
		{"security xattr", true, hasXattr("security.")},
		{"xattr of a directory", false, both(ofType(unix.S_IFDIR), hasXattr("user."))},
		{"xattr of a symlink", false, both(ofType(unix.S_IFLNK), hasXattr("trusted."))},
		{"access ACL of a file", true, both(ofType(unix.S_IFREG), hasXattr("system.posix_acl_access"))},
		{"access ACL of a directory", false, both(ofType(unix.S_IFDIR), hasXattr("system.posix_acl_access"))},
		{"default ACL", true, hasXattr("system.posix_acl_default")},
		{"capability", true, hasXattr("security.capability")},
		{"compressed file", true, both(ofType(unix.S_IFREG), hasXattr("btrfs.compression"))},
		{"compressed directory", true, both(ofType(unix.S_IFDIR), hasXattr("btrfs.compression"))},
		{"root with a default ACL", false, both(root, hasXattr("system.posix_acl_default"))},
		{"root with a compression", false, both(root, hasXattr("btrfs.compression"))},
		{"root without", false, func(s seen) bool {
			return root(s) && !hasXattr("btrfs.compression")(s) && !hasXattr("system.posix_acl_default")(s)
		}},
		{"root of another mode", false, func(s seen) bool { return root(s) && s.stat.Mode&0o7777 != 0o755 }},
		{"fifo", true, ofType(unix.S_IFIFO)},
		{"socket", true, ofType(unix.S_IFSOCK)},
		{"character device", true, ofType(unix.S_IFCHR)},
		{"block device", true, ofType(unix.S_IFBLK)},
		{"device of a large minor number", false, func(s seen) bool { return unix.Minor(s.stat.Rdev) > 255 }},
		{"dangling symlink", true, both(ofType(unix.S_IFLNK), func(s seen) bool { return strings.HasPrefix(s.target, "long/long/") })},
		{"long symlink", true, func(s seen) bool { return len(s.target) >= 500 }},
		{"very long symlink", false, func(s seen) bool { return len(s.target) >= 3000 }},
		{"symlink to odd bytes", false, func(s seen) bool { return !utf8.ValidString(s.target) }},
		{"setuid", true, ofMode(0o4755)},
		{"setgid file", true, both(ofType(unix.S_IFREG), ofMode(0o2755))},
		{"setgid directory", true, both(ofType(unix.S_IFDIR), ofMode(0o2775))},
		{"sticky directory", true, both(ofType(unix.S_IFDIR), ofMode(0o1777))},
		{"mode 0", true, both(ofType(unix.S_IFREG), ofMode(0))},
		{"owner", true, func(s seen) bool { return s.stat.Uid != 0 }},
		{"owner beyond 31 bits", false, func(s seen) bool { return s.stat.Uid > 1<<31 }},
		{"group", true, func(s seen) bool { return s.stat.Gid != s.stat.Uid }},
		{"time before 1970", true, func(s seen) bool { return s.stat.Mtim.Sec < 0 }},
		{"time beyond 32 bits", true, func(s seen) bool { return s.stat.Mtim.Sec > 1<<32 }},
		{"time 0", false, func(s seen) bool { return s.stat.Mtim == unix.Timespec{} }},
		{"nanoseconds", true, func(s seen) bool { return s.stat.Mtim.Nsec%1000 != 0 }},
		{"empty directory", true, func(s seen) bool { return s.dir() && s.stat.Size == 0 }},
		{"more than 40 levels", true, func(s seen) bool { return strings.Count(s.path, "/") > 40 }},
		{"path near the limit", true, func(s seen) bool { return len(s.path) > 3400 }},
		{"name of 255 bytes", true, func(s seen) bool { return len(s.name) == 255 }},
		{"name with a newline", false, ofName("\n")},
		{"name that is not UTF-8", false, func(s seen) bool { return !utf8.ValidString(s.name) }},
		{"name with a leading dash", false, ofName("^-")},
		{"name with a leading space", false, ofName("^ ")},
		{"name with a trailing space", false, ofName(" $")},
		{"name with a backslash", false, ofName(`\\`)},
		{"name with a leading dot", false, ofName(`^\.`)},
		{"name as btrfs send uses it", false, ofName(`^o\d+-\d+-\d+$`)},
		{"the same in the root", false, func(s seen) bool { return regexp.MustCompile(`^/o\d+-\d+-\d+$`).MatchString(s.path) }},
	} {
		count, in := 0, 0
		for _, all := range trees {
			found := 0
			for _, s := range all {
				if c.is(s) {
					found++
				}
			}
			count += found
			if found > 0 {
				in++
			}
		}
		t.Logf("%-50s %4d in %d of %d trees", c.what, count, in, seeds)
		if in == 0 || c.everytime && in < seeds {
			t.Errorf("%s: in %d of %d trees", c.what, in, seeds)
		}
	}
	for seed, all := range trees {
		if !slices.ContainsFunc(all, farLink(all)) {
			t.Errorf("seed %d: no hard link into another directory", seed)
		}
	}
}

// TestEveryMutationOccurs: within a few trees' lives.
func TestEveryMutationOccurs(t *testing.T) {
	fs := btrfstest.New(t)
	done := map[string]int{}
	for seed := range uint64(4) {
		tree := btrfstest.NewTree(t, fs.Subvolume(fmt.Sprint("tree", seed)), seed, btrfstest.Extra(40))
		tree.Fill()
		for range 6 {
			tree.Mutate()
		}
		for name, n := range tree.Done {
			done[name] += n
		}
	}
	for _, name := range btrfstest.EverythingATreeDoes() {
		if done[name] == 0 {
			t.Errorf("%q never happens", name)
		}
	}
}

// TestWithout: what is left out never occurs, neither at first nor later. The
// patterns are held against a tree that leaves out nothing, so that they do
// match what they mean.
func TestWithout(t *testing.T) {
	fs := btrfstest.New(t)
	entries := func(t *testing.T, seed uint64, without ...btrfstest.Feature) []string {
		dir := fs.Subvolume("tree")
		defer fs.Delete("tree")
		tree := btrfstest.NewTree(t, dir, seed, btrfstest.Extra(40), btrfstest.Without(without...))
		tree.Fill()
		filled := btrfstest.Entries(t, dir)
		tree.Mutate()
		return append(filled, btrfstest.Entries(t, dir)...)
	}
	everything := map[uint64][]string{1: entries(t, 1), 3: entries(t, 3)}

	const path = `^"([^"\\]|\\.)*`
	for _, c := range []struct {
		without btrfstest.Feature
		pattern string
		seed    uint64
	}{
		{btrfstest.HardLinks, " same=| nlink=([2-9]|1[0-9])", 1},
		{btrfstest.ManyLinks, " nlink=([7-9][0-9]|1[0-9][0-9])", 1},
		{btrfstest.UserXattrs, ` xattr:"user\.`, 1},
		{btrfstest.TrustedXattrs, ` xattr:"trusted\.`, 1},
		{btrfstest.SecurityXattrs, ` xattr:"security\.([^c]|comment)`, 1},
		{btrfstest.Capabilities, ` xattr:"security\.capability`, 1},
		{btrfstest.ACLs, "posix_acl", 1},
		{btrfstest.DefaultACLs, "posix_acl_default", 1},
		{btrfstest.Compression, ` xattr:"btrfs\.`, 3},
		{btrfstest.RootInheritance, `^"\." .*posix_acl_default`, 1},
		{btrfstest.RootInheritance, `^"\." .*btrfs\.compression`, 3},
		{btrfstest.RootChanges, `^"\." .*( mode=0[^7]| [ug]id=[^0])`, 1},
		{btrfstest.Fifos, " type=fifo", 1},
		{btrfstest.Sockets, " type=socket", 1},
		{btrfstest.DeviceNodes, " type=(char|block)", 1},
		{btrfstest.Symlinks, " type=symlink", 1},
		{btrfstest.Owners, " [ug]id=[^0]", 1},
		{btrfstest.OddTimes, ` mtime=(-|0\.|\d{11})`, 1},
		{btrfstest.OddModes, " mode=([1-7]|0000)", 1},
		{btrfstest.BigFiles, ` size=4(19[5-9]|[2-9]\d\d)\d{3} `, 1},
		{btrfstest.OddNames, path + `/(\\|-| |\$)`, 1},
		{btrfstest.DeepPaths, path + strings.Repeat(`/[^"/]*`, 40), 1},
	} {
		t.Run(string(c.without), func(t *testing.T) {
			pattern := regexp.MustCompile(c.pattern)
			if !slices.ContainsFunc(everything[c.seed], pattern.MatchString) {
				t.Error("the pattern matches nothing in a tree of everything")
			}
			for _, e := range entries(t, c.seed, c.without) {
				if pattern.MatchString(e) {
					t.Errorf("%.300s", e)
				}
			}
		})
	}
}
