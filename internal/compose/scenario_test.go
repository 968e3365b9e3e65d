package compose

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o644))
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// reflink makes a part of a file share the data of another, or of itself.
func reflink(t testing.TB, from, to string, fromOffset, length, toOffset int) {
	t.Helper()
	src := opened(t, from)
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	defer dst.Close()
	must(t, unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
		Src_fd: int64(src.Fd()), Src_offset: uint64(fromOffset), Src_length: uint64(length), Dest_offset: uint64(toOffset),
	}))
}

// arrives sends a snapshot in every form, has it received by both receivers,
// and returns the streams.
func arrives(t *testing.T, snapshot string) map[string][]byte {
	t.Helper()
	fs := btrfstest.New(t)
	streams := map[string][]byte{}
	for _, form := range all {
		in := composed(t, snapshot, form.o)
		streams[form.name] = in
		same(t, form.name, snapshot, received(t, fs, "ours "+form.name, "snapshot", in))
		must(t, os.Mkdir(fs.Path("theirs "+form.name), 0o755))
		same(t, form.name+" by btrfs receive", snapshot, fs.MustReceive("theirs "+form.name, "snapshot", in))
	}
	return streams
}

func stats(t *testing.T, in []byte) stream.Stats {
	t.Helper()
	s, _, err := stream.Verify(bytes.NewReader(in))
	must(t, err)
	return s
}

// TestClones: what is on disk once is sent once.
func TestClones(t *testing.T) {
	const k = 1 << 10
	src := btrfstest.New(t)
	live := src.Subvolume("live")
	path := func(name string) string { return live + "/" + name }
	write(t, path("a"), noise(600*k+100))
	src.Sync()
	data := 600*k + 100
	reflink(t, path("a"), path("whole"), 0, 0, 0)
	reflink(t, path("a"), path("middle"), 64*k, 128*k, 4*k)
	reflink(t, path("a"), path("beyond"), 0, 0, 0)
	must(t, os.Truncate(path("beyond"), 700*k)) // its last sector becomes its own
	data += 4 * k
	reflink(t, path("a"), path("shorter"), 0, 0, 0)
	must(t, os.Truncate(path("shorter"), 100*k+7))
	data += 7
	reflink(t, path("a"), path("twice"), 0, 256*k, 0)
	reflink(t, path("a"), path("twice"), 0, 256*k, 256*k)
	reflink(t, path("twice"), path("twice"), 8*k, 16*k, 1024*k)
	// The last one that is made is the first one in the order of inodes.
	write(t, path("early"), nil)
	write(t, path("late"), noise(300*k))
	src.Sync()
	data += 300 * k
	reflink(t, path("late"), path("early"), 40*k, 80*k, 0)
	// What is in the middle is the first to be sent.
	write(t, path("hole"), noise(200*k))
	src.Sync()
	data += 200 * k
	f, err := os.OpenFile(path("hole"), os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 50*k, 20*k))
	must(t, f.Close())
	data -= 20 * k // in whole sectors: 52 to 68 KiB
	data += 4 * k
	snapshot := src.Snapshot("live", "snapshot", true)
	for name, in := range arrives(t, snapshot) {
		s := stats(t, in)
		if s.Clones == 0 || s.DataBytes > int64(data)+16*k {
			t.Errorf("%s: %d bytes of data and %d clones, want some %d bytes", name, s.DataBytes, s.Clones, data)
		}
	}
	// What comes out shares what went in.
	dst := btrfstest.New(t)
	got := received(t, dst, "in", "snapshot", composed(t, snapshot, all[1].o))
	a, b := btrfstest.Extents(t, got+"/a"), btrfstest.Extents(t, got+"/whole")
	if len(a) == 0 || len(b) == 0 || a[0].Physical != b[0].Physical || !b[0].Shared {
		t.Errorf("the copy shares nothing: %+v, %+v", a, b)
	}
}

// TestClonesOfCompressed: also where extents are short and many.
func TestClonesOfCompressed(t *testing.T) {
	for _, mount := range []string{"compress-force=zstd", "compress-force=lzo", "compress-force=zlib"} {
		src := btrfstest.New(t, btrfstest.MountOptions(mount))
		live := src.Subvolume("live")
		text := bytes.Repeat([]byte("some text to compress, and more "), 40_000)
		write(t, live+"/a", text[:1_200_345])
		write(t, live+"/other", text[7:900_000])
		src.Sync()
		reflink(t, live+"/a", live+"/b", 0, 0, 0)
		reflink(t, live+"/a", live+"/c", 200<<10, 400<<10, 0)
		// Parts of extents.
		f, err := os.OpenFile(live+"/b", os.O_RDWR, 0)
		must(t, err)
		for i := range 20 {
			_, err := f.WriteAt(noise(5000), int64(i*60_000))
			must(t, err)
		}
		must(t, f.Close())
		src.Sync()
		streams := arrives(t, src.Snapshot("live", "snapshot", true))
		if plain, encoded := len(streams["v2"]), len(streams["v2c"]); encoded > plain/4 {
			t.Errorf("%s: %d bytes as stored, %d as they read", mount, encoded, plain)
		}
	}
}

// TestSizes: files end where they end, whatever their extents do.
func TestSizes(t *testing.T) {
	for _, mount := range []string{"noatime", "compress-force=zstd", "compress-force=lzo", "compress-force=zlib"} {
		t.Run(mount, func(t *testing.T) {
			t.Parallel()
			src := btrfstest.New(t, btrfstest.MountOptions(mount))
			live := src.Subvolume("live")
			n := 0
			file := func(data []byte, do func(f *os.File) error) {
				n++
				path := fmt.Sprintf("%s/%02d", live, n)
				write(t, path, data)
				src.Sync()
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				must(t, err)
				defer f.Close()
				must(t, do(f))
				src.Sync()
			}
			grow := func(mode uint32, offset, length int64) func(f *os.File) error {
				return func(f *os.File) error { return unix.Fallocate(int(f.Fd()), mode, offset, length) }
			}
			text := []byte(strings.Repeat("text to compress ", 20_000))
			file(text[:1360], grow(0, 0, 1614)) // beyond an inline extent, in its sector
			file(text[:1360], grow(0, 0, 100_000))
			file(text[:1360], grow(unix.FALLOC_FL_KEEP_SIZE, 0, 100_000))
			file(text[:1360], func(f *os.File) error { return f.Truncate(1700) })
			file(text[:1360], func(f *os.File) error { return f.Truncate(5000) })
			file(text[:1360], func(f *os.File) error { return f.Truncate(700) })
			file(text[:1360], func(f *os.File) error { _, err := f.WriteAt(text[:100], 4096); return err })
			file(text[:1360], func(f *os.File) error { _, err := f.WriteAt(text[:10_000], 1<<20); return err })
			file(text[:200_001], func(f *os.File) error { return f.Truncate(150_000) })
			file(text[:200_001], func(f *os.File) error { return f.Truncate(250_000) })
			file(text[:200_001], grow(unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20))
			file(text[:200_001], grow(0, 0, 1<<20))
			file(text[:200_001], grow(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 190_000, 100_000))
			file(text[:200_001], grow(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20))
			file(nil, func(f *os.File) error { return f.Truncate(20 << 20) })
			file(nil, func(f *os.File) error { return f.Truncate(1) })
			file(nil, grow(0, 0, 123_456))
			file(nil, func(f *os.File) error { return nil })
			file(nil, func(f *os.File) error { _, err := f.WriteAt(noise(4096), 10<<20); return err })
			file(noise(100), func(f *os.File) error { return f.Truncate(99) })
			file(noise(5<<20+17), func(f *os.File) error { return nil })
			arrives(t, src.Snapshot("live", "snapshot", true))
		})
	}
}

// TestNames: many names, long names, none.
func TestNames(t *testing.T) {
	src := btrfstest.New(t)
	live := src.Subvolume("live")
	must(t, os.MkdirAll(live+"/a/"+strings.Repeat("d", 255)+"/b", 0o755))
	write(t, live+"/a/file", noise(10_000))
	for i := range 400 { // more than an item holds
		must(t, os.Link(live+"/a/file", fmt.Sprintf("%s/a/%s/%0200d", live, strings.Repeat("d", 255), i)))
	}
	must(t, os.Symlink(strings.Repeat("x/", 2000)+"end", live+"/long"))
	must(t, os.Link(live+"/long", live+"/long too"))
	must(t, unix.Lsetxattr(live+"/long", "trusted.of a link", []byte("value"), 0))
	must(t, unix.Setxattr(live+"/a/file", "user.large", noise(10_000), 0))
	must(t, unix.Setxattr(live+"/a/file", "user.empty", nil, 0))
	must(t, unix.Mknod(live+"/a/device", unix.S_IFCHR|0o600, int(unix.Mkdev(4095, 1<<20-1))))
	must(t, unix.Mknod(live+"/a/block", unix.S_IFBLK|0o600, int(unix.Mkdev(1, 255))))
	// In a directory whose number is larger than its own.
	write(t, live+"/moved", noise(10_000))
	must(t, os.Mkdir(live+"/later", 0o700))
	must(t, os.Mkdir(live+"/later/on", 0o700))
	must(t, os.Rename(live+"/moved", live+"/later/on/moved"))
	must(t, os.Rename(live+"/a", live+"/later/on/a"))
	// Other subvolumes are not part of it.
	src.Subvolume("live/nested")
	write(t, live+"/nested/file", nil)
	// Removed, and in use while the snapshot is made.
	write(t, live+"/removed", noise(100_000))
	removed := opened(t, live+"/removed")
	must(t, os.Remove(live+"/removed"))
	src.Sync()
	snapshot := src.Snapshot("live", "snapshot", true)
	removed.Close()

	dst := btrfstest.New(t)
	for _, form := range all {
		in := composed(t, snapshot, form.o)
		got := received(t, dst, "in "+form.name, "snapshot", in)
		if _, err := os.Lstat(got + "/nested"); err == nil {
			t.Error("the other subvolume is there")
		}
		// The source has an empty directory in its place.
		ours, theirs := btrfstest.Entries(t, got), btrfstest.Entries(t, dst.MustReceive("", "snapshot", src.Send(snapshot, form.send...)))
		if strings.Join(ours, "\n") != strings.Join(theirs, "\n") {
			t.Errorf("%s: %v\n%v", form.name, ours, theirs)
		}
		dst.Delete("snapshot")
	}
}

// TestIdentity: a received snapshot is sent as what it was received as, and
// increments fit what was composed.
func TestIdentity(t *testing.T) {
	src, dst, third := btrfstest.New(t), btrfstest.New(t), btrfstest.New(t)
	live := src.Subvolume("live")
	tree := btrfstest.NewTree(t, live, 2, btrfstest.Extra(30))
	tree.Fill()
	one := src.Snapshot("live", "one", true)
	tree.Mutate()
	two := src.Snapshot("live", "two", true)
	for _, form := range all[:2] {
		first := received(t, dst, form.name, "one", composed(t, one, form.o))
		increment := src.Send(two, append([]string{"-p", one}, form.send...)...)
		same(t, "increment", two, received(t, dst, form.name, "two", increment))
		// One hop further.
		same(t, "second hop", one, received(t, third, form.name, "one", composed(t, first, form.o)))
		same(t, "increment after the second hop", two, received(t, third, form.name, "two", increment))
		dst.Delete(form.name + "/one")
		dst.Delete(form.name + "/two")
		third.Delete(form.name + "/one")
		third.Delete(form.name + "/two")
	}
	r := stream.NewReader(bytes.NewReader(composed(t, one, Options{})))
	ours, err := r.Identity()
	must(t, err)
	theirs, err := stream.NewReader(bytes.NewReader(src.Send(one))).Identity()
	must(t, err)
	if ours != theirs {
		t.Errorf("identity %+v, of the kernel %+v", ours, theirs)
	}
}
