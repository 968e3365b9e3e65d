package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// noted is a store, and the paths of a note in it and of the next one.
func noted(t *testing.T, opts ...btrfstest.Option) (s *Store, fs *btrfstest.FS, note, next string) {
	t.Helper()
	fs = btrfstest.New(t, opts...)
	dir := mustMkdir(t, fs.Path("store"))
	note = filepath.Join(dir, store.LocksNote)
	return mustOpen(t, dir), fs, note, note + nextSuffix
}

// put replaces a note, and reads it back.
func put(t *testing.T, s *Store, text string) {
	t.Helper()
	was, err := s.ReadNote(t.Context(), store.LocksNote)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteNote(t.Context(), store.LocksNote, []byte(text), was); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ReadNote(t.Context(), store.LocksNote); err != nil || string(got) != text {
		t.Fatalf("the note is %q, %v, want %q", got, err, text)
	}
}

func mustNotBe(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want that it is not there", path, err)
	}
}

// A snapshot where a note is going to be would keep it from being written.
func TestNotesHaveTheirPlace(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("origin")
	dir := mustMkdir(t, fs.Path("store"))
	s, err := Open(dir, Options{Origin: fs.Path("origin")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, p := range []string{store.LocksNote, store.LocksNote + nextSuffix, store.RetentionNote, store.RetentionNote + nextSuffix, store.RetentionNote + "/x"} {
		if _, err := s.Snapshot(t.Context(), p); err == nil {
			t.Errorf("a snapshot was made at %s", p)
		}
		if ways, err := s.Inspect(t.Context(), p); err != nil || !strings.HasPrefix(ways[p], snapshot.NoPlace) {
			t.Errorf("%s: %q, %v", p, ways[p], err)
		}
	}
	if _, err := s.Snapshot(t.Context(), "deeper/"+store.LocksNote); err != nil {
		t.Error(err)
	}
	for _, name := range []string{store.LocksNote, store.RetentionNote} {
		if err := s.WriteNote(t.Context(), name, []byte("{}"), nil); err != nil {
			t.Error(err)
		}
	}
}

// Whoever owns the directory can hold the lock, and nobody waits for ever.
func TestNoteIsLocked(t *testing.T) {
	s, _, note, next := noted(t)
	s.noteWait = 50 * time.Millisecond
	f, err := os.Create(next)
	if err == nil {
		err = errors.Join(f.Chown(nobody, nobody), syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteNote(t.Context(), store.LocksNote, []byte("x"), nil); err == nil || !strings.Contains(err.Error(), next[strings.LastIndex(next, "/")+1:]) {
		t.Error(err)
	}
	mustNotBe(t, note)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.noteWait = noteWait
	put(t, s, "x")
}

func TestNoteKeepsItsOwner(t *testing.T) {
	s, _, note, next := noted(t)
	put(t, s, "new")
	for _, c := range []struct {
		uid  int
		mode os.FileMode
	}{{0, 0o600}, {0, 0o644}, {nobody, 0o664}, {nobody, 0o400}} {
		if c.mode != 0o600 {
			if err := errors.Join(os.Chown(note, c.uid, c.uid), os.Chmod(note, c.mode)); err != nil {
				t.Fatal(err)
			}
			put(t, s, fmt.Sprint("of ", c.uid, c.mode))
		}
		info, err := os.Stat(note)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != c.mode || int(st.Uid) != c.uid || int(st.Gid) != c.uid {
			t.Errorf("the note has mode %v and is of %d:%d, want %v and %d", info.Mode(), st.Uid, st.Gid, c.mode, c.uid)
		}
		mustNotBe(t, next)
	}
	put(t, s, "")
	if err := os.Chown(filepath.Dir(note), nobody, 0); err != nil {
		t.Fatal(err)
	}
	put(t, s, "new again")
	info, err := os.Stat(note)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != nobody || st.Gid != 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("in the directory of a user the note has mode %v and is of %d:%d", info.Mode(), st.Uid, st.Gid)
	}
}

// What somebody has put in the place of a note, or of the next one, is not
// written through.
func TestNoteAttacked(t *testing.T) {
	s, fs, note, next := noted(t)
	precious := filepath.Join(fs.Dir, "precious")
	mustWrite(t, precious, "of another")
	untouched := func(when string) {
		t.Helper()
		if got, err := os.ReadFile(precious); err != nil || string(got) != "of another" {
			t.Fatalf("%s: the other file is %q, %v", when, got, err)
		}
	}
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"a symbolic link", func(p string) error { return os.Symlink(precious, p) }},
		{"a link that leads nowhere", func(p string) error { return os.Symlink("/nowhere/at/all", p) }},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o755) }},
		{"a pipe", func(p string) error { return unix.Mkfifo(p, 0o644) }},
	} {
		if err := c.make(note); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ReadNote(t.Context(), store.LocksNote); err == nil {
			t.Errorf("%s in the place of the note was read: %q", c.name, got)
		}
		if err := s.WriteNote(t.Context(), store.LocksNote, []byte("x"), nil); err == nil {
			t.Errorf("%s in the place of the note was written over", c.name)
		}
		untouched(c.name)
		mustNotBe(t, next)
		if err := os.Remove(note); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"a symbolic link", func(p string) error { return os.Symlink(precious, p) }},
		{"a hard link", func(p string) error { return os.Link(precious, p) }},
		{"a pipe", func(p string) error { return unix.Mkfifo(p, 0o644) }},
		{"a file of somebody else", func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("longer than what comes"), 0o666), os.Chown(p, nobody, nobody))
		}},
		{"what a run has left that died", func(p string) error { return os.WriteFile(p, []byte("longer than what comes"), 0o600) }},
	} {
		if err := c.make(next); err != nil {
			t.Fatal(err)
		}
		put(t, s, c.name)
		untouched(c.name)
		mustNotBe(t, next)
	}
	if err := os.Mkdir(next, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteNote(t.Context(), store.LocksNote, []byte("x"), []byte("what a run has left that died")); err == nil {
		t.Error("a note was written by way of a directory")
	}
	mustWrite(t, filepath.Join(filepath.Dir(note), store.RetentionNote), strings.Repeat("x", store.MaxNote+1))
	if _, err := s.ReadNote(t.Context(), store.RetentionNote); err == nil {
		t.Error("a note that is too long was read")
	}
}

// Who reads sees one note or another, never a part of one.
func TestNoteIsWhole(t *testing.T) {
	s, _, note, next := noted(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := os.ReadFile(note)
				if errors.Is(err, os.ErrNotExist) {
					continue
				}
				if err != nil || len(got) == 0 || !bytes.Equal(got, bytes.Repeat(got[:1], 1000*int(got[0]-'a'+1))) {
					t.Errorf("%d bytes were read, %v", len(got), err)
					return
				}
			}
		})
	}
	for i := range 40 {
		put(t, s, strings.Repeat(string(rune('a'+i%26)), 1000*(i%26+1)))
	}
	close(stop)
	wg.Wait()
	mustNotBe(t, next)
}

// What has been said to be written, or made, is there after a power cut.
func TestDurableAtOnce(t *testing.T) {
	s, fs, _, _ := noted(t, btrfstest.MountOptions("commit=300"))
	live := fs.Subvolume("live")
	s = mustOpen(t, s.path, Options{Origin: live})
	put(t, s, "first")
	put(t, s, "second")
	mustWrite(t, filepath.Join(live, "file"), "written a moment ago")
	if _, err := s.Snapshot(t.Context(), "snap"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "third")
	found := fs.PowerCut()
	after := mustOpen(t, found.Path("store"))
	if got, err := after.ReadNote(t.Context(), store.LocksNote); err != nil || string(got) != "third" {
		t.Errorf("after a power cut the note is %q, %v", got, err)
	}
	mustList(t, after)
	if a, b := btrfstest.Digest(t, fs.Path("store/snap")), btrfstest.Digest(t, found.Path("store/snap")); a != b {
		t.Error("after a power cut the snapshot is another")
	}
	put(t, s, "")
	again := mustOpen(t, fs.PowerCut().Path("store"))
	if got, err := again.ReadNote(t.Context(), store.LocksNote); err != nil || got != nil {
		t.Errorf("after a power cut the note that was removed is %q, %v", got, err)
	}
}

// Where nothing can be written, the note stays what it is.
func TestNoteCannotBeWritten(t *testing.T) {
	s, fs, note, next := noted(t, btrfstest.Size(128<<20))
	put(t, s, "small")
	full, err := os.Create(fs.Path("full"))
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 1<<20)
	for err == nil {
		_, err = full.Write(noise)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	for err = nil; err == nil; { // the last bytes too
		_, err = full.Write(noise[:4096])
	}
	_ = full.Close()
	large := bytes.Repeat([]byte("l"), 1<<20)
	if err := s.WriteNote(t.Context(), store.LocksNote, large, []byte("small")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %v, want ENOSPC", err)
	}
	mustNotBe(t, next)
	if got, err := s.ReadNote(t.Context(), store.LocksNote); err != nil || string(got) != "small" {
		t.Errorf("the note is %d bytes, %v", len(got), err)
	}
	if err := os.Remove(fs.Path("full")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fs.Remount("ro")
	ro := mustOpen(t, filepath.Dir(note))
	if got, err := ro.ReadNote(t.Context(), store.LocksNote); err != nil || string(got) != "small" {
		t.Errorf("the note is %q, %v", got, err)
	}
	for _, data := range []string{"x", ""} {
		if err := ro.WriteNote(t.Context(), store.LocksNote, []byte(data), []byte("small")); !errors.Is(err, unix.EROFS) {
			t.Errorf("on a read-only file system: %v, want EROFS", err)
		}
	}
}
