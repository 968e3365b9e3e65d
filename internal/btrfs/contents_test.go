package btrfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// FuzzContentItems gives every reader of items foreign bytes.
func FuzzContentItems(f *testing.F) {
	f.Add(make([]byte, 200))
	f.Add(append(make([]byte, 8), "\x03\x00abc\x00\x00"...))
	f.Add(append(make([]byte, 25), "\x05\x00\x04\x00\x00namevalue"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ParseInode(data)
		if x, err := ParseExtent(data); err == nil && x.Kind == ExtentInline && len(x.Inline) != len(data)-21 {
			t.Errorf("%d bytes of an inline extent of %d", len(x.Inline), len(data))
		}
		cutters := map[string]func([]byte) (int, []byte, error){
			"ref": func(b []byte) (int, []byte, error) {
				name, rest, err := CutRef(b)
				return 10 + len(name), rest, err
			},
			"extref": func(b []byte) (int, []byte, error) {
				_, name, rest, err := CutExtref(b)
				return 18 + len(name), rest, err
			},
			"xattr": func(b []byte) (int, []byte, error) {
				name, value, rest, err := CutXattr(b)
				return 30 + len(name) + len(value), rest, err
			},
		}
		for what, cut := range cutters {
			for rest := data; len(rest) > 0; {
				n, next, err := cut(rest)
				if err != nil {
					break
				}
				if n+len(next) != len(rest) {
					t.Fatalf("%s: %d bytes taken of %d, and %d are left", what, n, len(rest), len(next))
				}
				rest = next
			}
		}
	})
}

func TestCompressionEncoded(t *testing.T) {
	type pair struct {
		n  uint32
		ok bool
	}
	for c, want := range map[Compression]map[uint64]pair{
		Uncompressed: {4096: {0, true}},
		Zlib:         {4096: {1, true}, 65536: {1, true}},
		Zstd:         {4096: {2, true}},
		LZO:          {4096: {3, true}, 8192: {4, true}, 65536: {7, true}, 131072: {0, false}},
		9:            {4096: {0, false}},
	} {
		for sector, want := range want {
			if n, ok := c.Encoded(sector); n != want.n || ok != want.ok {
				t.Errorf("compression %d with sectors of %d is %d, %v", c, sector, n, ok)
			}
		}
	}
}

// inodeOf returns the number and the generation of a file.
func inodeOf(t *testing.T, c *Contents, path string) (ino, generation uint64) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	for it, err := range c.Search(0).Inode(st.Ino, InodeItem, InodeItem) {
		must(t, err)
		inode, err := ParseInode(it.Data)
		must(t, err)
		if inode.Size != uint64(st.Size) || inode.Mode != st.Mode || uint64(inode.Links) != uint64(st.Nlink) ||
			inode.UID != st.Uid || inode.Mtime != (Timespec{st.Mtim.Sec, uint32(st.Mtim.Nsec)}) {
			t.Errorf("%s: %+v, but stat says %+v", path, inode, st)
		}
		return st.Ino, inode.Generation
	}
	t.Fatalf("%s: no inode %d", path, st.Ino)
	return 0, 0
}

// TestContents reads files by number: past the page cache and through it, as
// they read and as they are stored.
func TestContents(t *testing.T) {
	bench := btrfstest.New(t, btrfstest.MountOptions("noatime,compress-force=zstd"))
	live := bench.Subvolume("live")
	text := bytes.Repeat([]byte("compressible text, "), 20_000)
	must(t, os.WriteFile(live+"/text", text, 0o640))
	must(t, os.WriteFile(live+"/small", text[:30], 0o600))
	plain := command(t, "head", "-c", "300001", "/dev/urandom")
	bench.Sync()
	bench.Remount("noatime")
	must(t, os.WriteFile(bench.Path("live/plain"), []byte(plain), 0o640))
	snapshot := bench.Snapshot("live", "snapshot", true)
	bench.Remount()

	root := opened(t, snapshot)
	c, err := OpenContents(root)
	must(t, err)
	root.Close()
	defer c.Close()
	data := c.Data()
	defer data.Close()
	for name, want := range map[string][]byte{"text": text, "small": text[:30], "plain": []byte(plain)} {
		ino, generation := inodeOf(t, c, snapshot+"/"+name)
		must(t, data.Open(ino, generation))
		for _, direct := range []bool{true, false} {
			for _, off := range []int{0, 4096, 8191} {
				if off > len(want) {
					continue
				}
				got := make([]byte, len(want)-off)
				third := len(got) / 3
				must(t, data.ReadAt([][]byte{got[:third], got[third:third], got[third : third+1], got[third+1:]}, int64(off), direct))
				if !bytes.Equal(got, want[off:]) {
					t.Errorf("%s from %d on, direct %v: not what was written", name, off, direct)
				}
				if err := data.ReadAt([][]byte{make([]byte, len(got)+1)}, int64(off), direct); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s from %d on, direct %v: reading beyond the end: %v", name, off, direct, err)
				}
			}
		}
	}

	// As it is stored, it can be written again.
	ino, generation := inodeOf(t, c, snapshot+"/text")
	must(t, data.Open(ino, generation))
	var extents []Extent
	for it, err := range c.Search(0).Inode(ino, ExtentData, ExtentData) {
		must(t, err)
		x, err := ParseExtent(it.Data)
		must(t, err)
		extents = append(extents, x)
	}
	copied, err := os.Create(bench.Path("copied"))
	must(t, err)
	defer copied.Close()
	buf := make([]byte, 128<<10)
	if _, _, err := data.ReadEncoded(buf[:100], 0); !errors.Is(err, ErrNotEncoded) {
		t.Errorf("reading into too small a buffer: %v", err)
	}
	at := uint64(0)
	for _, x := range extents {
		n, e, err := data.ReadEncoded(buf, int64(at))
		must(t, err)
		want := EncodedExtent{
			Offset: int64(at), FileLen: min(x.Length, uint64(len(text))-at),
			UnencodedLen: x.Decoded, UnencodedOffset: x.Offset, Compression: 2,
		}
		if uint64(n) != x.Stored || x.Compression != Zstd || e != want {
			t.Errorf("%d bytes of %+v, want %d of %+v", n, e, x.Stored, want)
		}
		must(t, EncodedWrite(int(copied.Fd()), buf[:n], e))
		at += e.FileLen
	}
	if got, err := os.ReadFile(bench.Path("copied")); err != nil || !bytes.Equal(got, text) {
		t.Errorf("what was stored reads otherwise (%v)", err)
	}

	if err := data.Open(ino, generation+1); !errors.Is(err, unix.EIO) {
		t.Errorf("opening what is not there: %v", err)
	}
	must(t, c.Unchanged())
}

// TestContentsItems: all items of all inodes, and those of one.
func TestContentsItems(t *testing.T) {
	bench := btrfstest.New(t)
	live := bench.Subvolume("live")
	for i := range 2000 {
		must(t, os.WriteFile(live+"/"+string(rune('a'+i%26))+letters(i), []byte("x"), 0o600))
	}
	c, err := OpenContents(opened(t, bench.Snapshot("live", "snapshot", true)))
	must(t, err)
	defer c.Close()
	type at struct {
		ino    uint64
		kind   ItemKind
		offset uint64
	}
	var all, single []at
	inodes := 0
	search := c.Search(0)
	for it, err := range c.Search(1<<20).Inodes(0, LastInode) {
		must(t, err)
		if it.Kind <= XattrItem {
			all = append(all, at{it.Inode, it.Kind, it.Offset})
		}
		if it.Kind == InodeItem {
			inodes++
			for it, err := range search.Inode(it.Inode, InodeItem, XattrItem) {
				must(t, err)
				single = append(single, at{it.Inode, it.Kind, it.Offset})
			}
		}
	}
	if inodes != 2001 || !cmp.Equal(all, single, cmp.AllowUnexported(at{})) {
		t.Errorf("%d inodes, %d items together, %d one by one", inodes, len(all), len(single))
	}
	bound, err := c.Bound()
	must(t, err)
	last := all[len(all)-1].ino
	if bound <= last || bound >= 4*last {
		t.Errorf("the bound is %d, the last inode has number %d", bound, last)
	}
	var parts []at
	for first := uint64(0); first < bound; first += 300 {
		for it, err := range search.Inodes(first, first+299) {
			must(t, err)
			if it.Kind <= XattrItem {
				parts = append(parts, at{it.Inode, it.Kind, it.Offset})
			}
		}
	}
	if !cmp.Equal(all, parts, cmp.AllowUnexported(at{})) {
		t.Errorf("%d items together, %d in parts", len(all), len(parts))
	}
	if !slices.IsSortedFunc(all, func(a, b at) int { return int(a.ino) - int(b.ino) }) {
		t.Error("the items are not in order")
	}
}

// letters makes a name of a number.
func letters(i int) string { return string([]byte{byte('a' + i/26%26), byte('a' + i/676%26)}) }

func TestOpenContentsRefuses(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	for path, want := range map[string]error{"live": unix.EPERM, ".": unix.EPERM, os.TempDir(): unix.EINVAL} {
		f := opened(t, bench.Path(path))
		if c, err := OpenContents(f); !errors.Is(err, want) {
			t.Errorf("%s: %v, %v, want %v", path, c, err, want)
		}
	}
}
