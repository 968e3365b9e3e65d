package replay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// bench is a directory of a scratch file system to receive in.
type bench struct {
	t   testing.TB
	fs  *btrfs.Filesystem
	dir *os.File
	// decompress is Options.ForceDecompress of all receives.
	decompress bool
}

func newBench(t testing.TB, fs *btrfstest.FS, dir string) *bench {
	t.Helper()
	path := fs.Path(dir)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t}
	var err error
	if b.fs, err = btrfs.Open(path); err != nil {
		t.Fatal(err)
	}
	b.dir = open(t, path)
	t.Cleanup(b.close)
	return b
}

// close gives the file system free, to be unmounted. It may be called twice.
func (b *bench) close() {
	b.fs.Close()
	b.dir.Close()
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (b *bench) path(name string) string { return b.dir.Name() + "/" + name }

func (b *bench) receiver(name string) *Receiver {
	return New(Options{Filesystem: b.fs, Dir: b.dir, Name: name, ForceDecompress: b.decompress})
}

// try receives and commits; what fails is abandoned.
func (b *bench) try(name string, in io.Reader) (Result, error) {
	b.t.Helper()
	r := b.receiver(name)
	var result Result
	err := r.Receive(context.Background(), stream.NewReader(in))
	if err == nil {
		result, err = r.Commit(context.Background())
	}
	if abandon := r.Abandon(); abandon != nil {
		b.t.Fatal(abandon)
	}
	b.absent(name + PartSuffix)
	if err != nil && !errors.Is(err, ErrExists) {
		b.absent(name)
	}
	return result, err
}

func (b *bench) must(name string, in []byte) Result {
	b.t.Helper()
	result, err := b.try(name, bytes.NewReader(in))
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// refuse expects a stream to fail, and returns how.
func (b *bench) refuse(name string, in []byte) error {
	b.t.Helper()
	_, err := b.try(name, bytes.NewReader(in))
	if err == nil {
		b.t.Fatalf("%s was received and should not have been", name)
	}
	return err
}

func (b *bench) absent(name string) {
	b.t.Helper()
	if _, err := os.Lstat(b.path(name)); !errors.Is(err, os.ErrNotExist) {
		b.t.Errorf("%s is there, or unclear: %v", name, err)
	}
}

func (b *bench) info(name string) btrfs.Subvolume {
	b.t.Helper()
	return infoOf(b.t, b.path(name))
}

func infoOf(t testing.TB, path string) btrfs.Subvolume {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := btrfs.Info(f)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// same fails the test if two trees differ.
func same(t testing.TB, what, a, b string, opts ...btrfstest.DigestOption) {
	t.Helper()
	if diff := btrfstest.Diff(t, a, b, opts...); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000] + "..."
		}
		t.Errorf("%s: %s and %s differ:\n%s", what, a, b, diff)
	}
}

// forge makes streams by hand.
type forge struct {
	t       testing.TB
	version uint32
	out     bytes.Buffer
	w       *stream.Writer
}

var forgedUUID = stream.UUID{0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// newForge begins a full stream with the identity forgedUUID.
func newForge(t testing.TB, version uint32) *forge {
	f := &forge{t: t, version: version}
	f.w = stream.NewWriter(&f.out, version)
	f.add(stream.Command{Kind: stream.Subvol, Path: []byte("forged"), UUID: forgedUUID, Transid: 7})
	return f
}

// newForgedIncrement begins a stream that starts from a parent.
func newForgedIncrement(t testing.TB, version uint32, parent btrfs.UUID, transid uint64) *forge {
	f := &forge{t: t, version: version}
	f.w = stream.NewWriter(&f.out, version)
	f.add(stream.Command{
		Kind: stream.Snapshot, Path: []byte("forged"), UUID: forgedUUID, Transid: 7,
		CloneUUID: stream.UUID(parent), CloneTransid: transid,
	})
	return f
}

func (f *forge) add(c stream.Command) *forge {
	f.t.Helper()
	if err := f.w.Write(&c); err != nil {
		f.t.Fatal(err)
	}
	return f
}

func (f *forge) file(path string) *forge {
	return f.add(stream.Command{Kind: stream.MkFile, Path: []byte(path)})
}

func (f *forge) mkdir(path string) *forge {
	return f.add(stream.Command{Kind: stream.MkDir, Path: []byte(path)})
}

func (f *forge) symlink(path, target string) *forge {
	return f.add(stream.Command{Kind: stream.Symlink, Path: []byte(path), PathLink: []byte(target)})
}

func (f *forge) rename(from, to string) *forge {
	return f.add(stream.Command{Kind: stream.Rename, Path: []byte(from), PathTo: []byte(to)})
}

func (f *forge) write(path, data string) *forge {
	return f.add(stream.Command{Kind: stream.Write, Path: []byte(path), Data: []byte(data)})
}

func (f *forge) chmod(path string, mode uint64) *forge {
	return f.add(stream.Command{Kind: stream.Chmod, Path: []byte(path), Mode: mode})
}

func (f *forge) xattr(path, name, value string) *forge {
	return f.add(stream.Command{Kind: stream.SetXattr, Path: []byte(path), XattrName: []byte(name), XattrData: []byte(value)})
}

// end returns the stream.
func (f *forge) end() []byte {
	f.t.Helper()
	f.add(stream.Command{Kind: stream.End})
	return f.cut()
}

// cut returns the stream without an end.
func (f *forge) cut() []byte {
	f.t.Helper()
	if err := f.w.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.out.Bytes()
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func setxattr(t testing.TB, path, name string, value []byte) {
	t.Helper()
	if err := unix.Lsetxattr(path, name, value, 0); err != nil {
		t.Fatalf("setting %s of %s: %v", name, path, err)
	}
}

// defaultACL is user::rwx,user:1234:rwx,group::r-x,mask::rwx,other::--- in the
// form of uapi linux/posix_acl_xattr.h.
var defaultACL = []byte{
	2, 0, 0, 0,
	1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
	2, 0, 7, 0, 0xd2, 4, 0, 0,
	4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
	0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
	0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
}
