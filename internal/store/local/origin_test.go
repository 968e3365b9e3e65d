package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
)

func TestOriginIsNone(t *testing.T) {
	fs, elsewhere := btrfstest.New(t), btrfstest.New(t)
	dir := mustMkdir(t, fs.Path("store"))
	mustMkdir(t, fs.Path("directory"))
	mustWrite(t, fs.Path("file"), "")
	elsewhere.Subvolume("live")
	for _, c := range []struct{ origin, says string }{
		{fs.Path("nothing"), "no such file"},
		{fs.Path("file"), "not a directory"},
		{fs.Path("directory"), "not a subvolume"},
		{"/proc", btrfs.ErrNotBtrfs.Error()},
		{elsewhere.Path("live"), "another file system"},
	} {
		s, err := Open(dir, Options{Origin: c.origin})
		if err == nil {
			t.Errorf("%s was taken: %v", c.origin, s.Close())
		} else if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.origin) {
			t.Errorf("%s: %v, which does not say %q", c.origin, err, c.says)
		}
	}
}

// Nothing is made in the place of a subvolume that is not there, or not mounted.
func TestOriginIsNoneAndNothingIsMade(t *testing.T) {
	fs := btrfstest.New(t)
	mustMkdir(t, fs.Path("directory"))
	for _, origin := range []string{fs.Path("nothing"), fs.Path("directory")} {
		made := filepath.Join(origin, "snapshot")
		s, err := Open(made, Options{Origin: origin, Make: true})
		if err == nil {
			t.Errorf("%s was taken: %v", origin, s.Close())
		}
		if _, err := os.Lstat(made); err == nil {
			t.Errorf("%s was made", made)
		}
	}
}

// The origin may be named by any path, be moved, and be what the directory lies
// in.
func TestOriginAnywhere(t *testing.T) {
	fs := btrfstest.New(t)
	live := fs.Subvolume("live")
	mustWrite(t, filepath.Join(live, "file"), "text")
	fs.Subvolume("live/nested")
	dir := mustMkdir(t, filepath.Join(live, "snapshot"))
	s := mustOpen(t, dir, Options{Origin: fs.MountAgain("subvol=live")})
	first, err := s.Snapshot(t.Context(), "a b\n\u00fc")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(live, fs.Path("moved")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(t.Context(), "2"); err != nil {
		t.Fatal(err)
	}
	inv := mustList(t, s)
	if diff := cmp.Diff([]string{"2", "a b\n\u00fc"}, paths(inv)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(first, at(t, inv, first.Path)); diff != "" {
		t.Errorf("(-made +listed)\n%s", diff)
	}
	if err := s.RemoveLeftover(t.Context(), "2"); err == nil {
		t.Error("a snapshot was removed as a leftover")
	}
}

// A received snapshot that is read-only is no origin: what is made of it would
// have its identity.
func TestOriginIsReceived(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	fs.Snapshot("live", "snap", true)
	dir := mustMkdir(t, fs.Path("store"))
	received := fs.MustReceive(mustMkdir(t, fs.Path("in")), "snap", fs.Send("snap"))
	s := mustOpen(t, dir, Options{Origin: received})
	if x, err := s.Snapshot(t.Context(), "a"); err == nil {
		t.Errorf("a snapshot was made: %+v", x)
	}
	if n := len(mustList(t, s).Inside()); n != 0 {
		t.Errorf("there are %d snapshots", n)
	}
	// One that was made here is none.
	s = mustOpen(t, dir, Options{Origin: fs.Path("snap")})
	if _, err := s.Snapshot(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func TestMake(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("sub")
	dir := fs.Path("sub/a/b c/d")
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("opening what is not there: %v, want ErrNotDirectory", err)
	}
	mustNotBe(t, fs.Path("sub/a"))
	for range 2 { // the second time it is there
		if got, want := mustOpen(t, dir, Options{Make: true}).Location(), mustOpen(t, dir).Location(); got != want {
			t.Errorf("it is at %s, not at %s", got, want)
		}
	}
	if err := os.Symlink(fs.Path("sub"), fs.Path("link")); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, fs.Path("link/e"), Options{Make: true})
	if _, err := os.Stat(fs.Path("sub/e")); err != nil {
		t.Error(err)
	}

	// Nothing is made where no btrfs is, such as where a disk is not mounted.
	fs.Snapshot("sub", "snap", true)
	mustWrite(t, fs.Path("file"), "")
	if err := os.Symlink("nowhere", fs.Path("dangling")); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for _, c := range []struct{ dir, made string }{
		{filepath.Join(outside, "x/y"), filepath.Join(outside, "x")},
		{fs.Path("snap/x/y"), fs.Path("snap/x")},
		{fs.Path("file/x"), fs.Path("file/x")},
		{fs.Path("dangling/x"), fs.Path("nowhere")},
		{fs.Path("dangling"), fs.Path("nowhere")},
	} {
		s, err := Open(c.dir, Options{Make: true})
		if err == nil {
			t.Errorf("%s was made: %v", c.dir, s.Close())
		} else {
			t.Log(err)
		}
		if _, err := os.Lstat(c.made); err == nil {
			t.Errorf("%s is there now", c.made)
		}
	}
	if _, err := Open(filepath.Join(outside, "x"), Options{Make: true}); !errors.Is(err, btrfs.ErrNotBtrfs) {
		t.Errorf("outside of btrfs: %v, want ErrNotBtrfs", err)
	}
}

// What is made writable for its removal, and cannot be removed, is read-only
// again, and still trusted.
func TestMadeWritable(t *testing.T) {
	fs := btrfstest.New(t)
	dir := mustMkdir(t, fs.Path("store"))
	live := fs.Subvolume("live")
	mustWrite(t, filepath.Join(live, "file"), "text")
	fs.Snapshot("live", "snap", true)
	fs.MustReceive(dir, "snap", fs.Send("snap"))
	s := mustOpen(t, dir)
	x := at(t, mustList(t, s), "snap")
	in, err := s.within(".", false)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	sub, err := subvolumeAt(in, "snap")
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("not today")
	err = madeWritable(in, "snap", sub, func() error {
		now, err := subvolumeAt(in, "snap")
		if err != nil || now.ReadOnly {
			t.Errorf("when it is removed it is %+v, %v", now, err)
		}
		return why
	})
	if !errors.Is(err, why) {
		t.Errorf("%v, want what has kept it from being removed", err)
	}
	if y := at(t, mustList(t, s), "snap"); y.Trust != snapshot.Intact || y.ID != x.ID || y.UUID != x.UUID {
		t.Errorf("it was %+v, and is %+v", x, y)
	}
	sub.ID++
	if err := madeWritable(in, "snap", sub, func() error { t.Error("another one was to be removed"); return nil }); err == nil {
		t.Error("another one was made writable")
	}
	if y := at(t, mustList(t, s), "snap"); y.Trust != snapshot.Intact {
		t.Errorf("it is %+v", y)
	}
	s.opt.MakeWritable = true
	if err := s.Remove(t.Context(), x); err != nil {
		t.Error(err)
	}
}

// A leftover that something else lies in is none.
func TestLeftoverInUse(t *testing.T) {
	fs := btrfstest.New(t)
	dir := mustMkdir(t, fs.Path("store"))
	fs.Subvolume("store/full")
	fs.Subvolume("store/full/nested")
	live := fs.Subvolume("store/live")

	s := mustOpen(t, dir, Options{Origin: live})
	mustMkdir(t, filepath.Join(dir, "plain"))
	if err := os.Symlink("full", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"full", "live", "plain", "link", "link/nested", "full/../full"} {
		if err := s.RemoveLeftover(t.Context(), p); err == nil {
			t.Errorf("%s was removed", p)
		} else {
			t.Log(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, p)); err != nil {
			t.Error(err)
		}
	}
}

// TestOriginWasReceived makes snapshots of a subvolume that was received and made
// writable by a program that kept its received UUID.
func TestOriginWasReceived(t *testing.T) {
	from, fs := btrfstest.New(t), btrfstest.New(t)
	live := from.Subvolume("live")
	mustWrite(t, filepath.Join(live, "file"), "text")
	stream := from.Send(from.Snapshot(live, "a", true))
	home := fs.MustReceive(fs.Dir, "a", stream)
	f, err := os.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := btrfs.SetReadOnly(f, false); err != nil {
		t.Fatal(err)
	}
	if info, err := btrfs.Info(f); err != nil || info.ReceivedUUID.IsZero() {
		t.Fatalf("%+v, %v: this does not test anything", info, err)
	}
	s := mustOpen(t, mustMkdir(t, fs.Path("store")), Options{Origin: home})
	seen := map[snapshot.ID]bool{}
	for _, name := range []string{"1", "2"} {
		mustWrite(t, filepath.Join(home, "file"), "text "+name)
		made, err := s.Snapshot(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if made.Received || seen[made.ID] || made.Trust != snapshot.Intact {
			t.Errorf("%+v", made)
		}
		seen[made.ID] = true
		if show := fs.Show("store/" + name); show["Flags"] != "readonly" || show["Received UUID"] != "" {
			t.Errorf("%v", show)
		}
		if diff := btrfstest.Diff(t, home, fs.Path("store/"+name), btrfstest.WithoutRootTime()); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := s.Snapshot(t.Context(), "2"); err == nil {
		t.Error("it was overwritten")
	}
	inv := mustList(t, s)
	if diff := cmp.Diff([]string{"1", "2"}, paths(inv)); diff != "" || len(inv.Partials) > 0 {
		t.Errorf("%s, and %v", diff, inv.Partials)
	}
	// An increment between them is what btrfs receive takes, too.
	other := btrfstest.New(t)
	other.MustReceive(other.Dir, "1", fs.Send(fs.Path("store/1")))
	other.MustReceive(other.Dir, "2", fs.Send(fs.Path("store/2"), "-p", fs.Path("store/1")))
	if diff := btrfstest.Diff(t, fs.Path("store/2"), other.Path("2")); diff != "" {
		t.Error(diff)
	}
}
