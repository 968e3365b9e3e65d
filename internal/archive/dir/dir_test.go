package dir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/btrfstest"
)

func put(t testing.TB, b *Bucket, key, text string) {
	t.Helper()
	if err := b.Put(t.Context(), key, []byte(text), false); err != nil {
		t.Fatal(err)
	}
}

func listed(t testing.TB, b *Bucket, prefix string) []string {
	t.Helper()
	keys := []string{}
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	return keys
}

func TestOpen(t *testing.T) {
	top := t.TempDir()
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(top, "missing"), filepath.Join(file, "x")} {
		if b, err := Open(path, Options{}); !errors.Is(err, ErrNotDirectory) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%q): %v, %v", path, b, err)
		}
	}
	b := open(t, top)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Put(t.Context(), "x", nil, false); err == nil || !strings.Contains(err.Error(), "has been closed") {
		t.Errorf("Put after Close: %v", err)
	}
	for _, err := range b.List(t.Context(), "") {
		if err == nil {
			t.Error("List after Close gives something")
		}
	}
}

// TestKeys has the keys that a directory cannot have, by what is said of them.
func TestKeys(t *testing.T) {
	any, fat := naming{longest: 255}, naming{longest: 255, fat: true}
	for _, c := range []struct {
		n        naming
		key, why string
	}{
		{any, "a/b", ""},
		{any, "a/b.", ""},
		{any, "a:b", ""},
		{any, strings.Repeat("x", 255), ""},
		{any, strings.Repeat("x", 256), "more than 255"},
		{any, strings.Repeat("abcdefg/", 511) + "abcdefg", ""},
		{any, strings.Repeat("abcdefg/", 512) + "a", "longer than"},
		{any, "", "empty"},
		{any, "/a", "slash"},
		{any, "a/", "slash"},
		{any, "a//b", "slash"},
		{any, ".", `"."`},
		{any, "a/..", `".."`},
		{any, "../a", `".."`},
		{any, "a\x00", "NUL"},
		{any, "\xff", "UTF-8"},
		{any, Folder, "own"},
		{any, Folder + "/x", "own"},
		{any, strings.ToUpper(Folder) + "/x", "own"},
		{any, "a/" + Folder, ""},
		{any, Folder + "x", ""},
		{any, "BUTTER~1/x", ""},
		{fat, "BUTTER~1/x", "own"},
		{fat, "bu12ab~1", "own"},
		{fat, "a/BUTTER~1", ""},
		{fat, "home~1/x", ""},
		{fat, "a./b", "dot"},
		{fat, "a/b ", "space"},
		{fat, "a:b", "':'"},
		{fat, "a\nb", `'\n'`},
		{fat, "ü/ß", ""},
		{naming{longest: 143}, strings.Repeat("x", 144), "more than 143"},
	} {
		err := c.n.check(c.key)
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.40q (fat: %v): %v, want %q", c.key, c.n.fat, err, c.why)
		}
	}
}

// TestStaysInside has everything in the directory that is not a regular file, or
// leads out of it.
func TestStaysInside(t *testing.T) {
	outside, top := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("secret"), 0o600),
		os.Symlink(outside, filepath.Join(top, "out")),
		os.Symlink(secret, filepath.Join(top, "file")),
		os.Symlink("inside", filepath.Join(top, "in")),
		os.Symlink("/proc/self/fd", filepath.Join(top, "magic")),
		os.Symlink("nowhere", filepath.Join(top, "dangling")),
		os.Mkdir(filepath.Join(top, "inside"), 0o700),
		os.WriteFile(filepath.Join(top, "inside", "o"), []byte("object"), 0o600),
		os.WriteFile(filepath.Join(top, "inside", "\xff"), []byte("no key"), 0o600),
		unix.Mkfifo(filepath.Join(top, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, top)
	if diff := cmp.Diff([]string{"inside/o"}, listed(t, b, "")); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	for _, key := range []string{"out/secret", "file", "in/o", "magic/0", "dangling", "pipe", "inside"} {
		if o, err := b.Stat(t.Context(), key); !errors.Is(err, archive.ErrNoObject) {
			t.Errorf("Stat %q: %+v, %v", key, o, err)
		}
		if _, err := b.Get(t.Context(), key, 0, 10); !errors.Is(err, archive.ErrNoObject) {
			t.Errorf("Get %q: %v", key, err)
		}
		if err := b.Copy(t.Context(), key, "copy"); !errors.Is(err, archive.ErrNoObject) {
			t.Errorf("Copy %q: %v", key, err)
		}
		for _, once := range []bool{false, true} {
			if err := b.Put(t.Context(), key, []byte("x"), once); err == nil || errors.Is(err, archive.ErrTaken) {
				t.Errorf("Put %q: %v", key, err)
			}
		}
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete %q: %v", key, err)
		}
		if _, err := os.Lstat(filepath.Join(top, key)); err != nil {
			t.Errorf("Delete %q removed it: %v", key, err)
		}
	}
	if diff := cmp.Diff([]string{"inside/o"}, listed(t, b, "")); diff != "" {
		t.Errorf("listed afterwards (-want +got):\n%s", diff)
	}
	if raw, err := os.ReadFile(secret); err != nil || string(raw) != "secret" {
		t.Errorf("outside there is now %q, %v", raw, err)
	}
	if found, err := os.ReadDir(outside); err != nil || len(found) != 1 {
		t.Errorf("outside there is now %v, %v", found, err)
	}
}

// TestFolderOfForeignHands has our folder be a link that leads out.
func TestFolderOfForeignHands(t *testing.T) {
	outside, top := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(top, Folder)); err != nil {
		t.Fatal(err)
	}
	b := open(t, top)
	if err := b.Put(t.Context(), "a", nil, false); err == nil {
		t.Error("Put went through a link")
	}
	if _, err := b.Begin(t.Context(), "a", archive.UploadOptions{PartSize: 10}); err == nil {
		t.Error("Begin went through a link")
	}
	if found, err := os.ReadDir(outside); err != nil || len(found) > 0 {
		t.Errorf("outside there is now %v, %v", found, err)
	}
}

func TestModes(t *testing.T) {
	top := t.TempDir()
	b := open(t, top)
	put(t, b, "a/b/o", "x")
	u, err := b.Begin(t.Context(), "a/u", archive.UploadOptions{PartSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.Walk(top, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != top && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := u.Abort(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDeleteRemovesDirectories(t *testing.T) {
	top := t.TempDir()
	b := open(t, top)
	put(t, b, "a/b/c/o", "x")
	put(t, b, "a/p", "x")
	for _, step := range []struct {
		delete string
		left   []string
	}{{"a/b/c/o", []string{"a"}}, {"a/p", []string{}}} {
		if err := b.Delete(t.Context(), step.delete); err != nil {
			t.Fatal(err)
		}
		left := []string{}
		err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && path != top && d.Name() != Folder {
				left = append(left, strings.TrimPrefix(path, top+"/"))
			}
			return err
		})
		if diff := cmp.Diff(step.left, left); diff != "" || err != nil {
			t.Errorf("directories after deleting %q (-want +got, %v):\n%s", step.delete, err, diff)
		}
	}
}

// TestCopyIsNew has the time of a copy be the time when it was made, though the
// file be the same.
func TestCopyIsNew(t *testing.T) {
	for _, shares := range []bool{true, false} {
		top := t.TempDir()
		b := open(t, top)
		b.shares = shares
		put(t, b, "o", "x")
		long := time.Now().Add(-1000 * time.Hour)
		if err := os.Chtimes(filepath.Join(top, "o"), long, long); err != nil {
			t.Fatal(err)
		}
		if err := b.Copy(t.Context(), "o", "trash/o"); err != nil {
			t.Fatal(err)
		}
		o, err := b.Stat(t.Context(), "trash/o")
		if err != nil || time.Since(o.Modified) > 100*time.Hour {
			t.Errorf("a copy was modified at %v (%v)", o.Modified, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		tidy(t, top)
	}
}

func TestRemovedDirectory(t *testing.T) {
	top := filepath.Join(t.TempDir(), "bucket")
	if err := os.Mkdir(top, 0o700); err != nil {
		t.Fatal(err)
	}
	b := open(t, top)
	if err := os.Remove(top); err != nil {
		t.Fatal(err)
	}
	// Somebody makes another one: it is not the one that was opened.
	if err := os.Mkdir(top, 0o700); err != nil {
		t.Fatal(err)
	}
	_, statErr := b.Stat(t.Context(), "o")
	_, getErr := b.Get(t.Context(), "o", 0, 1)
	_, beginErr := b.Begin(t.Context(), "o", archive.UploadOptions{PartSize: 10})
	all := map[string]error{
		"Stat": statErr, "Get": getErr, "Begin": beginErr,
		"Put": b.Put(t.Context(), "o", nil, false), "Delete": b.Delete(t.Context(), "o"), "Copy": b.Copy(t.Context(), "o", "p"),
	}
	for _, err := range b.List(t.Context(), "") {
		all["List"] = err
	}
	for _, err := range b.List(t.Context(), "a/") {
		all["List below"] = err
	}
	for _, err := range b.Uploads(t.Context(), "") {
		all["Uploads"] = err
	}
	for _, call := range []string{"Stat", "Get", "Begin", "Put", "Delete", "Copy", "List", "List below", "Uploads"} {
		if err := all[call]; !errors.Is(err, errGone) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// TestDenied is another user for a while.
func TestDenied(t *testing.T) {
	btrfstest.Require(t)
	top := t.TempDir()
	b := open(t, top)
	put(t, b, "d/o", "x")
	if err := os.Mkdir(filepath.Join(top, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setfsuid(0); err == nil {
			runtime.UnlockOSThread()
		}
	}()
	_, statErr := b.Stat(t.Context(), "d/o")
	_, getErr := b.Get(t.Context(), "d/o", 0, 1)
	_, beginErr := b.Begin(t.Context(), "o", archive.UploadOptions{PartSize: 10})
	all := map[string]error{
		"Stat": statErr, "Get": getErr, "Begin": beginErr, "Delete": b.Delete(t.Context(), "d/o"),
		"Put": b.Put(t.Context(), "o", nil, false), "Copy": b.Copy(t.Context(), "d/o", "p"),
	}
	for o, err := range b.List(t.Context(), "") {
		all["List"] = err
		if err == nil {
			t.Errorf("listed %q", o.Key)
		}
	}
	for call, action := range map[string]string{
		"Stat": "reading", "Get": "reading", "Begin": "writing", "Put": "writing", "Delete": "deleting", "Copy": "reading", "List": "listing",
	} {
		denied, ok := errors.AsType[*archive.DeniedError](all[call])
		if !ok || denied.Action != action || !errors.Is(denied, unix.EACCES) {
			t.Errorf("%s: %v", call, all[call])
		}
	}
}

// TestMountedBelow has another file system in the directory: what is there is read,
// and nothing can be put there.
func TestMountedBelow(t *testing.T) {
	btrfstest.Require(t)
	top := t.TempDir()
	b := open(t, top)
	put(t, b, "d/o", "x")
	other := filepath.Join(top, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", other, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(t, other) })
	if err := os.WriteFile(filepath.Join(other, "o"), []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"d/o", "other/o"}, listed(t, b, "")); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	for _, once := range []bool{false, true} {
		if err := b.Put(t.Context(), "other/p", nil, once); !errors.Is(err, unix.EXDEV) || !strings.Contains(err.Error(), "another file system") {
			t.Errorf("Put (once: %v): %v", once, err)
		}
	}
	if err := b.Copy(t.Context(), "other/o", "d/copy"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"d/copy", "d/o", "other/o"}, listed(t, b, "")); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

// TestLocation reaches one directory in several ways.
func TestLocation(t *testing.T) {
	btrfstest.Require(t)
	fs := btrfstest.New(t)
	for _, top := range []string{t.TempDir(), fs.Path(".")} {
		one, two := filepath.Join(top, "one"), filepath.Join(top, "two")
		for _, err := range []error{os.Mkdir(one, 0o700), os.Mkdir(two, 0o700), os.Symlink("one", filepath.Join(top, "link"))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		bound := t.TempDir()
		if err := unix.Mount(one, bound, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unmount(t, bound) })
		here := open(t, one).Location()
		for _, path := range []string{one, filepath.Join(top, "link"), bound} {
			b, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if b.Location() != here {
				t.Errorf("%s is at %q, and %s at %q", one, here, path, b.Location())
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		if there := open(t, two).Location(); there == here {
			t.Errorf("two directories are at %q", there)
		}
	}
}

// TestLocationStays mounts a file system again.
func TestLocationStays(t *testing.T) {
	btrfstest.Require(t)
	fs := btrfstest.New(t)
	var where [2]string
	for i := range where {
		b, err := Open(fs.Path("."), Options{})
		if err != nil {
			t.Fatal(err)
		}
		where[i] = b.Location()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		fs.Remount()
	}
	if where[0] != where[1] {
		t.Errorf("what was at %q is at %q", where[0], where[1])
	}
}

// TestAgainstModel compares a bucket with a map.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b, err := Open(memory(t), Options{})
		if err != nil {
			r.Fatal(err)
		}
		defer b.Close()
		b.shares = rapid.Bool().Draw(r, "shares")
		b.ways = b.ways[rapid.IntRange(0, 2).Draw(r, "ways"):]
		model := map[string]string{}
		// No key is the directory of another one.
		key := rapid.Custom(func(r *rapid.T) string {
			return strings.Join(append(rapid.SliceOfN(rapid.SampledFrom([]string{"d", "e e", "ü"}), 0, 3).Draw(r, "dirs"), rapid.SampledFrom([]string{"o", "p"}).Draw(r, "name")), "/")
		})
		ctx := t.Context()
		r.Repeat(map[string]func(*rapid.T){
			"put": func(r *rapid.T) {
				k, text, once := key.Draw(r, "key"), rapid.String().Draw(r, "text"), rapid.Bool().Draw(r, "once")
				_, there := model[k]
				err := b.Put(ctx, k, []byte(text), once)
				if once && there != errors.Is(err, archive.ErrTaken) || !once && err != nil {
					r.Fatalf("Put %q: %v", k, err)
				}
				if err == nil {
					model[k] = text
				}
			},
			"delete": func(r *rapid.T) {
				k := key.Draw(r, "key")
				if err := b.Delete(ctx, k); err != nil {
					r.Fatalf("Delete %q: %v", k, err)
				}
				delete(model, k)
			},
			"copy": func(r *rapid.T) {
				from, to := key.Draw(r, "from"), key.Draw(r, "to")
				text, there := model[from]
				if err := b.Copy(ctx, from, to); there != (err == nil) || err != nil && !errors.Is(err, archive.ErrNoObject) {
					r.Fatalf("Copy %q to %q: %v", from, to, err)
				}
				if there {
					model[to] = text
				}
			},
			"": func(r *rapid.T) {
				prefix := rapid.SampledFrom([]string{"", "d", "d/", "e e/d/", "ü/o", "x"}).Draw(r, "prefix")
				got, want := map[string]string{}, map[string]string{}
				for o, err := range b.List(ctx, prefix) {
					if err != nil {
						r.Fatal(err)
					}
					in, err := b.Get(ctx, o.Key, 0, 1<<20)
					if err != nil {
						r.Fatal(err)
					}
					raw, err := io.ReadAll(in)
					in.Close()
					if _, twice := got[o.Key]; err != nil || twice || o.Size != int64(len(raw)) {
						r.Fatalf("%q: %v, twice: %v", o.Key, err, twice)
					}
					got[o.Key] = string(raw)
				}
				for k, text := range model {
					if strings.HasPrefix(k, prefix) {
						want[k] = text
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					r.Fatalf("below %q (-want +got):\n%s", prefix, diff)
				}
			},
		})
	})
}

// TestListDeep lists directories deeper than are held open.
func TestListDeep(t *testing.T) {
	b := open(t, memory(t))
	want := []string{}
	for depth := range 100 {
		key := strings.Repeat("d/", depth) + fmt.Sprint("o", depth)
		put(t, b, key, "x")
		want = append(want, key)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, listed(t, b, "")); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}
