package btrfs

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestMain(m *testing.M) {
	btrfstest.ServeDisks()
	goleak.VerifyTestMain(m)
}

// opened opens a directory until the test ends.
func opened(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// filesystem opens a file system until the test ends.
func filesystem(t testing.TB, path string) *Filesystem {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, data string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(data), 0o644))
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func info(t testing.TB, path string) Subvolume {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	s, err := Info(f)
	must(t, err)
	return s
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "")
	for _, c := range []struct {
		path string
		want error
	}{
		{filepath.Join(dir, "missing"), fs.ErrNotExist},
		{file, unix.ENOTDIR},
		{"/proc", ErrNotBtrfs},
	} {
		f, err := Open(c.path)
		if !errors.Is(err, c.want) {
			t.Errorf("opening %s gives %v, want %v", c.path, err, c.want)
		}
		if err == nil {
			f.Close()
		}
	}
	proc := opened(t, "/proc")
	if ok, err := IsSubvolume(proc); ok || err != nil {
		t.Errorf("/proc: got %v, %v", ok, err)
	}
	if _, err := Info(proc); !errors.Is(err, ErrNotBtrfs) {
		t.Errorf("asking about /proc gives %v", err)
	}
	if _, _, err := Locate(proc); !errors.Is(err, ErrNotBtrfs) {
		t.Errorf("locating /proc gives %v", err)
	}
	if _, err := ReadOnly(proc); !errors.Is(err, ErrNotBtrfs) {
		t.Errorf("read-only of /proc gives %v", err)
	}
}

func TestFilesystemUUID(t *testing.T) {
	bench := btrfstest.New(t)
	must(t, os.Mkdir(bench.Path("some"), 0o755))
	f := filesystem(t, bench.Path("some"))
	want := strings.TrimSpace(command(t, "blkid", "-s", "UUID", "-o", "value", bench.Device))
	if got := f.UUID().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if f.Dir().Name() != bench.Path("some") {
		t.Errorf("the directory is %s", f.Dir().Name())
	}
}

// The list holds what `btrfs subvolume show` says of each, and Info agrees.
func TestSubvolumes(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	write(t, bench.Path("live/file"), "x")
	must(t, os.MkdirAll(bench.Path("dir with space/x\ny"), 0o755))
	bench.Snapshot("live", "one", true)
	bench.Snapshot("live", "dir with space/x\ny/two", true)
	bench.Snapshot("live", "three", false)
	bench.Subvolume("live/nested")
	must(t, os.MkdirAll(bench.Path("live/nested/a/b"), 0o755))
	bench.Subvolume("live/nested/a/b/inner")
	bench.Subvolume("received")
	bench.MustReceive("received", "one", bench.Send("one"))
	bench.Sync()

	f := filesystem(t, bench.Dir)
	all, err := f.Subvolumes()
	must(t, err)
	paths := make(map[string]Subvolume)
	ids := make([]uint64, 0, len(all))
	for _, s := range all {
		paths[s.Path] = s
		ids = append(ids, s.ID)
	}
	if !slices.IsSorted(ids) {
		t.Errorf("not in order: %v", ids)
	}
	if s := paths[""]; s.ID != TopLevel || s.Deleted {
		t.Errorf("top level: %+v", s)
	}
	want := []string{"live", "one", "dir with space/x\ny/two", "three", "live/nested", "live/nested/a/b/inner", "received", "received/one"}
	if len(all) != len(want)+1 {
		t.Errorf("%d subvolumes: %v", len(all), all)
	}
	for _, path := range want {
		s, ok := paths[path]
		if !ok {
			t.Errorf("%q is not listed", path)
			continue
		}
		if s.Name != filepath.Base(path) || s.Deleted {
			t.Errorf("%q: name %q, deleted %v", path, s.Name, s.Deleted)
		}
		same := info(t, bench.Path(path))
		if above := info(t, filepath.Dir(bench.Path(path))); s.ParentID != above.ID {
			t.Errorf("%q is in %d, want %d", path, s.ParentID, above.ID)
		}
		same.Path = path
		if diff := cmp.Diff(same, s); diff != "" {
			t.Errorf("%q: (-info +list)\n%s", path, diff)
		}
		if strings.Contains(path, "\n") {
			continue // the program's answer cannot be read then
		}
		shown := bench.Show(path)
		number := func(n uint64) string { return strconv.FormatUint(n, 10) }
		uuid := func(u UUID) string {
			if u.IsZero() {
				return ""
			}
			return u.String()
		}
		flags := ""
		if s.ReadOnly {
			flags = "readonly"
		}
		for field, got := range map[string]string{
			"UUID": uuid(s.UUID), "Parent UUID": uuid(s.ParentUUID), "Received UUID": uuid(s.ReceivedUUID),
			"Subvolume ID": number(s.ID), "Generation": number(s.Generation), "Gen at creation": number(s.Otransid),
			"Parent ID": number(s.ParentID), "Flags": flags, "Send transid": number(s.Stransid), "Receive transid": number(s.Rtransid),
			"Creation time": s.Otime.Format("2006-01-02 15:04:05 -0700"),
		} {
			if got != shown[field] {
				t.Errorf("%q: %s is %q, want %q", path, field, got, shown[field])
			}
		}
	}
}

func TestSubvolumesDeleted(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("gone")
	id := info(t, bench.Path("gone")).ID
	hold := opened(t, bench.Path("gone")) // the cleaner leaves it alone as long as it is open
	bench.Delete("gone")
	f := filesystem(t, bench.Dir)
	all, err := f.Subvolumes()
	must(t, err)
	at := slices.IndexFunc(all, func(s Subvolume) bool { return s.ID == id })
	if at < 0 {
		t.Fatalf("not listed: %v", all)
	}
	if s := all[at]; !s.Deleted || s.Path != "" || s.Name != "" || s.ParentID != 0 {
		t.Errorf("got %+v", s)
	}
	if _, err := f.OpenSubvolume(id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening it gives %v", err)
	}
	hold.Close()
}

// Directories and subvolumes come and go while they are listed.
func TestSubvolumesWhileChanging(t *testing.T) {
	bench := btrfstest.New(t)
	f := filesystem(t, bench.Dir)
	top := opened(t, bench.Dir)
	must(t, CreateSubvolume(top, "stays"))
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			dir := bench.Path("d" + strconv.Itoa(i%3))
			if os.Mkdir(dir, 0o755) != nil {
				continue
			}
			in, err := os.Open(dir)
			if err != nil {
				continue
			}
			_ = CreateSubvolume(in, "s")
			_ = os.Rename(dir+"/s", bench.Path("moved"))
			_ = os.Remove(dir)
			_ = DeleteSubvolume(top, "moved")
			in.Close()
		}
	})
	lists := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); lists++ {
		all, err := f.Subvolumes()
		if err != nil {
			t.Error(err)
			break
		}
		if !slices.ContainsFunc(all, func(s Subvolume) bool { return s.Path == "stays" && !s.Deleted }) {
			t.Errorf("what stays is missing: %v", all)
			break
		}
	}
	close(stop)
	changing.Wait()
	t.Logf("%d lists", lists)
}

// A path longer than what INO_LOOKUP can say.
func TestLongPath(t *testing.T) {
	bench := btrfstest.New(t)
	f := filesystem(t, bench.Dir)
	dir := opened(t, bench.Dir)
	name := strings.Repeat("long", 60)
	want := ""
	for range 20 {
		var fd int
		must(t, control(dir, func(at int) (err error) {
			if err := unix.Mkdirat(at, name, 0o755); err != nil {
				return err
			}
			fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		}))
		next := os.NewFile(uintptr(fd), name)
		defer next.Close()
		dir, want = next, want+name+"/"
	}
	must(t, CreateSubvolume(dir, "deep"))
	all, err := f.Subvolumes()
	must(t, err)
	deep := all[len(all)-1]
	if deep.Path != want+"deep" || deep.Deleted {
		t.Errorf("got %d bytes, want %d: %+v", len(deep.Path), len(want)+4, deep)
	}
	sub, err := f.OpenSubvolume(deep.ID)
	must(t, err)
	defer sub.Close()
	if id, path, err := Locate(sub); id != deep.ID || path != want+"deep" || err != nil {
		t.Errorf("located at %d, %d bytes, %v", id, len(path), err)
	}
	if id, path, err := Locate(dir); id != TopLevel || path+"/" != want || err != nil {
		t.Errorf("located at %d, %d bytes, %v", id, len(path), err)
	}
}

func TestLocate(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	must(t, os.MkdirAll(bench.Path("live/a/b"), 0o755))
	bench.Subvolume("live/a/b/in")
	must(t, os.MkdirAll(bench.Path("live/a/b/in/c d"), 0o755))
	again := bench.MountAgain("subvol=live/a/b/in")
	for _, c := range []struct{ dir, subvol, want string }{
		{bench.Dir, bench.Dir, ""},
		{bench.Path("live"), bench.Path("live"), "live"},
		{bench.Path("live/a/b"), bench.Path("live"), "live/a/b"},
		{bench.Path("live/a/b/in"), again, "live/a/b/in"},
		{again, again, "live/a/b/in"},
		{again + "/c d", again, "live/a/b/in/c d"},
	} {
		id, path, err := Locate(opened(t, c.dir))
		if want := info(t, c.subvol).ID; id != want || path != c.want || err != nil {
			t.Errorf("%s: got %d, %q, %v; want %d, %q", c.dir, id, path, err, want, c.want)
		}
		ok, err := IsSubvolume(opened(t, c.dir))
		if want := c.dir != bench.Path("live/a/b") && c.dir != again+"/c d"; ok != want || err != nil {
			t.Errorf("%s is a subvolume: %v, %v", c.dir, ok, err)
		}
	}
	must(t, os.Mkdir(bench.Path("live/removed"), 0o755))
	removed := opened(t, bench.Path("live/removed"))
	must(t, os.Remove(bench.Path("live/removed")))
	if _, path, err := Locate(removed); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "has been removed") {
		t.Errorf("a directory that has been removed: %q, %v", path, err)
	}
}

func TestOpenSubvolumeOutsideOfTheMount(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("shown")
	bench.Subvolume("hidden")
	write(t, bench.Path("hidden/file"), "here")
	f := filesystem(t, bench.MountAgain("subvol=shown"))
	want := info(t, bench.Path("hidden"))
	sub, err := f.OpenSubvolume(want.ID)
	must(t, err)
	defer sub.Close()
	got, err := Info(sub)
	must(t, err)
	if got.UUID != want.UUID {
		t.Errorf("got %+v, want %+v", got, want)
	}
	data, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(int(sub.Fd())) + "/file")
	if string(data) != "here" || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
	if _, err := f.OpenSubvolume(99999); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a number that is none gives %v", err)
	}
}

func TestByUUID(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	one := bench.Snapshot("live", "one", true)
	bench.Subvolume("to")
	copied := bench.MustReceive("to", "one", bench.Send("one"))
	again := bench.Snapshot("to/one", "again", true)
	f := filesystem(t, bench.Dir)
	source := info(t, one)
	ids, err := f.ByUUID(source.UUID)
	if want := []uint64{source.ID}; !slices.Equal(ids, want) || err != nil {
		t.Errorf("own: got %v, %v, want %v", ids, err, want)
	}
	ids, err = f.ByReceivedUUID(source.UUID)
	slices.Sort(ids)
	if want := []uint64{info(t, copied).ID, info(t, again).ID}; !slices.Equal(ids, want) || err != nil {
		t.Errorf("received: got %v, %v, want %v", ids, err, want)
	}
	scanned, err := f.byScan(func(s Subvolume) bool { return s.ReceivedUUID == source.UUID })
	if !slices.Equal(scanned, ids) || err != nil {
		t.Errorf("by scan: got %v, %v, want %v", scanned, err, ids)
	}
	for _, u := range []UUID{{}, {1, 2, 3}} {
		if ids, err := f.ByUUID(u); len(ids) != 0 || err != nil {
			t.Errorf("%s: got %v, %v", u, ids, err)
		}
	}
}

func TestQuota(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	f := filesystem(t, bench.Dir)
	if usage, on, err := f.Quota(); usage != nil || on || err != nil {
		t.Errorf("without quotas: %v, %v, %v", usage, on, err)
	}
	command(t, "btrfs", "quota", "enable", bench.Dir)
	write(t, bench.Path("live/file"), strings.Repeat("x", 1<<20))
	bench.Sync()
	command(t, "btrfs", "quota", "rescan", "-w", bench.Dir)
	bench.Sync()
	usage, on, err := f.Quota()
	if !on || err != nil {
		t.Fatalf("with quotas: %v, %v, %v", usage, on, err)
	}
	if u := usage[info(t, bench.Path("live")).ID]; u.Referenced < 1<<20 || u.Referenced > 2<<20 || u.Exclusive != u.Referenced {
		t.Errorf("got %+v", u)
	}
	command(t, "btrfs", "quota", "disable", bench.Dir)
	if usage, on, err := f.Quota(); usage != nil || on || err != nil {
		t.Errorf("switched off: %v, %v, %v", usage, on, err)
	}
}

// TestOpenUnreadableSubvolume: one that cannot be read is not one that does not
// exist.
func TestOpenUnreadableSubvolume(t *testing.T) {
	scratch := btrfstest.New(t, btrfstest.Faulty())
	scratch.Subvolume("sub")
	id := info(t, scratch.Path("sub")).ID
	scratch.Remount()
	f := filesystem(t, scratch.Dir)
	if _, err := f.Subvolumes(); err != nil { // reads the root tree
		t.Fatal(err)
	}
	scratch.Disks[0].FailReads(0)
	if _, err := f.OpenSubvolume(id); !errors.Is(err, unix.EIO) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening one that cannot be read: %v", err)
	}
}

// TestOpenByGeneration: kernels that want the generation of a root directory to
// open it get the right one, that of a snapshot too.
func TestOpenByGeneration(t *testing.T) {
	bench := btrfstest.New(t)
	write(t, bench.Path("other"), "takes a transaction")
	bench.Sync()
	bench.Subvolume("sub")
	bench.Sync()
	bench.Snapshot("sub", "snap", true)
	f := filesystem(t, bench.Dir)
	for _, name := range []string{"sub", "snap"} {
		id := info(t, bench.Path(name)).ID
		generation, err := rootGeneration(f.Dir(), id)
		must(t, err)
		sub, err := openRoot(f.Dir(), id, generation)
		must(t, err)
		if got, err := Info(sub); err != nil || got.ID != id {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		sub.Close()
		if sub, err := openRoot(f.Dir(), id, generation+1); !errors.Is(err, unix.ESTALE) {
			t.Errorf("%s: another generation gives %v, %v", name, sub, err)
		}
	}
	if _, err := rootGeneration(f.Dir(), 99999); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a number that is none gives %v", err)
	}
}
