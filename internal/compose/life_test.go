package compose

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

// scene makes a snapshot with a few large files and some small ones.
func scene(t testing.TB, opts ...btrfstest.Option) (bench *btrfstest.FS, snapshot string) {
	t.Helper()
	bench = btrfstest.New(t, opts...)
	live := bench.Subvolume("live")
	data := make([]byte, 6<<20)
	for _, name := range []string{"one", "two", "three"} {
		rand.Read(data)
		if err := os.WriteFile(live+"/"+name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	btrfstest.NewTree(t, live, 4, btrfstest.Extra(20)).Fill()
	return bench, bench.Snapshot("live", "snapshot", true)
}

func sending1(t testing.TB, ctx context.Context, snapshot string) io.ReadCloser {
	t.Helper()
	f := opened(t, snapshot)
	defer f.Close() // Send keeps its own
	in, err := Send(ctx, f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

// The stream is the same whoever reads it how.
func TestDeterministic(t *testing.T) {
	_, snapshot := scene(t, btrfstest.MountOptions("noatime,compress=zstd"))
	for _, form := range all {
		var first []byte
		for _, workers := range []int{1, 4, 1, 4, 13} {
			o := form.o
			o.Workers = workers
			if out := composed(t, snapshot, o); first == nil {
				first = out
			} else if !bytes.Equal(first, out) {
				t.Errorf("%s: another stream with %d workers", form.name, workers)
			}
		}
	}
}

func TestClose(t *testing.T) {
	_, snapshot := scene(t)
	for _, n := range []int64{0, 1, 100_000, 3 << 20, 1 << 40} {
		in := sending1(t, context.Background(), snapshot)
		if _, err := io.CopyN(io.Discard, in, n); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for range 2 {
			if err := in.Close(); err != nil {
				t.Errorf("closing after %d bytes: %v", n, err)
			}
		}
		if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("reading after closing: %v", err)
		}
	}
}

// A Read that waits returns when the stream is closed.
func TestCloseMeanwhile(t *testing.T) {
	bench, snapshot := scene(t, btrfstest.Faulty())
	bench.Remount()
	in := sending1(t, context.Background(), snapshot)
	bench.Disks[0].Pause()
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		read <- err
	}()
	time.Sleep(100 * time.Millisecond)
	closed := make(chan error, 1)
	go func() { closed <- in.Close() }()
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading: %v", err)
	}
	bench.Disks[0].Heal() // Close waits for the disk
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestContext(t *testing.T) {
	_, snapshot := scene(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	in := sending1(t, ctx, snapshot)
	if _, err := io.CopyN(io.Discard, in, 2<<20); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	cancel(why)
	if _, err := io.Copy(io.Discard, in); !errors.Is(err, why) {
		t.Errorf("reading after the end of the context: %v", err)
	}
	f := opened(t, snapshot)
	if _, err := Send(ctx, f, Options{}); !errors.Is(err, why) {
		t.Errorf("sending: %v", err)
	}
	if _, err := Measure(ctx, f, Options{}); !errors.Is(err, why) {
		t.Errorf("measuring: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	bench, snapshot := scene(t)
	for name, c := range map[string]struct {
		path string
		o    Options
		want error
	}{
		"writable":         {bench.Path("live"), Options{}, unix.EPERM},
		"not a subvolume":  {snapshot + "/..", Options{}, unix.EPERM}, // the top level: writable
		"a directory":      {t.TempDir(), Options{}, unix.EINVAL},
		"a file":           {snapshot + "/one", Options{}, unix.EINVAL},
		"protocol 3":       {snapshot, Options{Protocol: 3}, nil},
		"compressed in v1": {snapshot, Options{Compressed: true}, nil},
	} {
		f := opened(t, c.path)
		in, err := Send(context.Background(), f, c.o)
		if err == nil {
			in.Close()
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := Measure(context.Background(), f, c.o); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("measuring %s: %v, want %v", name, err, c.want)
		}
	}
}

// What happens to the subvolume meanwhile is an error, though everything could be
// read.
func TestNotTheSameAnyMore(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(bench *btrfstest.FS, f *os.File) error
		want error
	}{
		"deleted": {func(bench *btrfstest.FS, _ *os.File) error {
			dir, err := os.Open(bench.Dir)
			if err != nil {
				return err
			}
			defer dir.Close()
			return btrfs.DeleteSubvolume(dir, "snapshot")
		}, fs.ErrNotExist},
		"writable": {func(_ *btrfstest.FS, f *os.File) error { return btrfs.SetReadOnly(f, false) }, unix.EPERM},
		"changed": {func(bench *btrfstest.FS, f *os.File) error {
			return errors.Join(btrfs.SetReadOnly(f, false),
				os.WriteFile(bench.Path("snapshot/new"), nil, 0o644), btrfs.SetReadOnly(f, true))
		}, btrfs.ErrBusy},
	} {
		bench, snapshot := scene(t)
		in := sending1(t, context.Background(), snapshot)
		if _, err := io.CopyN(io.Discard, in, 1<<20); err != nil {
			t.Fatal(err)
		}
		f := opened(t, snapshot)
		err := c.do(bench, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What cannot be read is named.
func TestUnreadable(t *testing.T) {
	bench, snapshot := scene(t, btrfstest.Faulty())
	content := make([]byte, 4096)
	f := opened(t, snapshot+"/two")
	if _, err := f.ReadAt(content, 1<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	bench.Sync()
	bench.Disks[0].Bad(bench.Locate(content), 4096)
	bench.Remount()
	in := sending1(t, context.Background(), snapshot)
	_, err := io.Copy(io.Discard, in)
	if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), `"two"`) {
		t.Errorf("reading: %v", err)
	}
}

// The page cache is left as it was.
func TestPageCache(t *testing.T) {
	for _, mount := range []string{"noatime", "noatime,compress=zstd"} {
		bench := btrfstest.New(t, btrfstest.MountOptions(mount))
		live := bench.Subvolume("live")
		text := bytes.Repeat([]byte("text to compress "), 6<<20/17+1)
		random := make([]byte, 6<<20)
		rand.Read(random)
		for name, data := range map[string][]byte{"one": random, "two": random, "text": text[:6<<20]} {
			if err := os.WriteFile(live+"/"+name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		snapshot := bench.Snapshot("live", "snapshot", true)
		bench.Remount()
		if _, err := os.ReadFile(snapshot + "/one"); err != nil {
			t.Fatal(err)
		}
		for _, form := range all {
			composed(t, snapshot, form.o)
			for name, want := range map[string]bool{"one": true, "two": false, "text": false} {
				f := opened(t, snapshot+"/"+name)
				var stat unix.Cachestat_t
				if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: 6 << 20}, &stat, 0); err != nil {
					t.Fatal(err)
				}
				if pages := stat.Cache; (pages > 100) != want {
					t.Errorf("%s, %s: %d pages of %s are in the page cache", mount, form.name, pages, name)
				}
			}
		}
	}
}
