package btrfstest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A DigestOption changes what Digest, Entries and Diff look at.
type DigestOption func(*digester)

// WithoutRootTime leaves out the modification time of the directory itself:
// btrfs receive leaves it wrong after an increment that moves things through the
// root of the subvolume.
func WithoutRootTime() DigestOption { return func(d *digester) { d.noRootTime = true } }

// WithoutTimes leaves out all modification times.
func WithoutTimes() DigestOption { return func(d *digester) { d.noTimes = true } }

// WithoutXattrs leaves out the xattrs whose names begin with one of the
// prefixes, for instance "btrfs." where a tree is compared with one on another
// file system.
func WithoutXattrs(prefixes ...string) DigestOption {
	return func(d *digester) { d.noXattrs = append(d.noXattrs, prefixes...) }
}

// WithHoles adds where a file's data lie (lseek with SEEK_DATA), which is not
// content: a hole and zeros read the same. Preallocated extents count as holes.
func WithHoles() DigestOption { return func(d *digester) { d.holes = true } }

// Digest returns a hash of everything that Entries lists.
func Digest(t testing.TB, dir string, opts ...DigestOption) string {
	t.Helper()
	h := sha256.New()
	for _, line := range Entries(t, dir, opts...) {
		io.WriteString(h, line+"\n")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Entries returns one line for each entry of a tree, the directory itself
// first as ".", in an order that depends on the names alone: quoted path, type,
// mode, owner, group, modification time; and as far as the type has it, size,
// SHA-256 of the content, number of links and the first path of the same inode,
// device number, target; then all xattrs with ACLs and capabilities. Sizes and
// link counts of directories are left out, for they differ between file systems
// and say nothing that the entries do not. Access, change and creation times and
// inode numbers are left out, for no receiver can set them, and so is how the
// content is stored (see WithHoles and Extents).
func Entries(t testing.TB, dir string, opts ...DigestOption) []string {
	t.Helper()
	var lines []string
	for _, e := range digest(t, dir, opts) {
		lines = append(lines, e.String())
	}
	return lines
}

// Diff compares two trees and returns what differs in words, or "" if nothing
// does.
func Diff(t testing.TB, a, b string, opts ...DigestOption) string {
	t.Helper()
	theirs := map[string]entry{}
	for _, e := range digest(t, b, opts) {
		theirs[e.path] = e
	}
	var out strings.Builder
	for _, e := range digest(t, a, opts) {
		other, ok := theirs[e.path]
		delete(theirs, e.path)
		if !ok {
			fmt.Fprintf(&out, "only in the first:  %s\n", e)
		} else if diff := e.diff(other); diff != "" {
			fmt.Fprintf(&out, "%q:%s\n", e.path, diff)
		}
	}
	var rest []string
	for _, e := range theirs {
		rest = append(rest, fmt.Sprintf("only in the second: %s\n", e))
	}
	slices.Sort(rest)
	return out.String() + strings.Join(rest, "")
}

// entry is one line of Entries before it is written out.
type entry struct {
	path   string
	fields []field
}

type field struct{ name, value string }

func (e entry) String() string {
	var b strings.Builder
	b.WriteString(strconv.Quote(e.path))
	for _, f := range e.fields {
		b.WriteString(" " + f.name + "=" + f.value)
	}
	return b.String()
}

func (e entry) value(name string) string {
	for _, f := range e.fields {
		if f.name == name {
			return f.value
		}
	}
	return "-"
}

// diff lists the fields that differ as " name a → b".
func (e entry) diff(other entry) string {
	var b strings.Builder
	for _, f := range e.fields {
		if v := other.value(f.name); v != f.value {
			fmt.Fprintf(&b, " %s %s → %s", f.name, f.value, v)
		}
	}
	for _, f := range other.fields {
		if e.value(f.name) == "-" {
			fmt.Fprintf(&b, " %s - → %s", f.name, f.value)
		}
	}
	return b.String()
}

type digester struct {
	noRootTime, noTimes, holes bool
	noXattrs                   []string

	entries []entry
	first   map[[2]uint64]string // device and inode to the first path
	buffer  []byte
}

func digest(t testing.TB, dir string, opts []DigestOption) []entry {
	t.Helper()
	d := &digester{first: map[[2]uint64]string{}, buffer: make([]byte, 1<<20)}
	for _, o := range opts {
		o(d)
	}
	if err := d.root(dir); err != nil {
		t.Fatalf("digesting %s: %v", dir, err)
	}
	return d.entries
}

func (d *digester) root(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := d.entry(fd, ".", "."); err != nil {
		unix.Close(fd)
		return err
	}
	return d.directory(fd, "")
}

// directory digests what is in an open directory and closes it. Everything is
// reached through its parent's descriptor, so no path is ever too long.
func (d *digester) directory(fd int, path string) error {
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("listing %q: %w", path, err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := d.entry(fd, name, join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// entry digests one entry and, if it is a directory other than the root, what is
// in it.
func (d *digester) entry(dirfd int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("looking at %q: %w", path, err)
	}
	e := entry{path: path}
	add := func(name, format string, args ...any) {
		e.fields = append(e.fields, field{name, fmt.Sprintf(format, args...)})
	}
	kind := st.Mode & unix.S_IFMT
	add("type", "%s", typeNames[kind])
	add("mode", "%04o", st.Mode&^unix.S_IFMT)
	add("uid", "%d", st.Uid)
	add("gid", "%d", st.Gid)
	if !d.noTimes && !(d.noRootTime && path == ".") {
		add("mtime", "%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	if kind != unix.S_IFDIR {
		add("size", "%d", st.Size)
		add("nlink", "%d", st.Nlink)
		id := [2]uint64{st.Dev, st.Ino}
		if first, ok := d.first[id]; ok {
			add("same", "%q", first)
		} else {
			d.first[id] = path
		}
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		err = d.file(dirfd, name, add)
	case unix.S_IFCHR, unix.S_IFBLK:
		add("rdev", "%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFLNK:
		var n int
		n, err = unix.Readlinkat(dirfd, name, d.buffer)
		add("target", "%q", d.buffer[:max(n, 0)])
	}
	if err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	if err := d.xattrs(dirfd, name, add); err != nil {
		return fmt.Errorf("reading the xattrs of %q: %w", path, err)
	}
	d.entries = append(d.entries, e)
	if kind == unix.S_IFDIR && path != "." {
		fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening %q: %w", path, err)
		}
		return d.directory(fd, path)
	}
	return nil
}

var typeNames = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
	unix.S_IFSOCK: "socket", unix.S_IFCHR: "char", unix.S_IFBLK: "block",
}

type adder func(name, format string, args ...any)

// file adds the hash of a file's content and, if wanted, where its data lie.
func (d *digester) file(dirfd int, name string, add adder) error {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, d.buffer); err != nil {
		return err
	}
	add("sha256", "%x", h.Sum(nil))
	if !d.holes {
		return nil
	}
	var data strings.Builder
	for end := int64(0); ; {
		start, err := unix.Seek(fd, end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		} else if err != nil {
			return err
		}
		if end, err = unix.Seek(fd, start, unix.SEEK_HOLE); err != nil {
			return err
		}
		fmt.Fprintf(&data, "[%d,%d)", start, end)
	}
	add("data", "%s", data.String())
	return nil
}

// xattrs adds the xattrs in the order of their names. The system calls take
// paths, and they do not follow the last part of this one.
func (d *digester) xattrs(dirfd int, name string, add adder) error {
	path := fmt.Sprintf("/proc/self/fd/%d/%s", dirfd, name)
	n, err := unix.Llistxattr(path, d.buffer)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	} else if err != nil {
		return err
	}
	names := strings.Split(strings.TrimSuffix(string(d.buffer[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, x := range names {
		if x == "" || slices.ContainsFunc(d.noXattrs, func(p string) bool { return strings.HasPrefix(x, p) }) {
			continue
		}
		n, err := unix.Lgetxattr(path, x, d.buffer)
		if err != nil {
			return fmt.Errorf("%q: %w", x, err)
		}
		value := hex.EncodeToString(d.buffer[:n])
		if n > 64 {
			sum := sha256.Sum256(d.buffer[:n])
			value = fmt.Sprintf("%s…(%d bytes, sha256 %x)", value[:32], n, sum)
		}
		add("xattr:"+strconv.Quote(x), "%s", value)
	}
	return nil
}
