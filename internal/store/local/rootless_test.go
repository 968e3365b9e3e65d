package local

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	nobody    = 65534
	nobodyEnv = "LOCAL_TEST_AS_NOBODY" // where it shall work
)

// asNobody runs the calling test once more in a process of a user without any
// rights, which finds dir and more in its environment.
func asNobody(t *testing.T, dir string, more ...string) {
	t.Helper()
	place, err := os.MkdirTemp("/var/tmp", "local")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(place) })
	binary, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.Chmod(place, 0o755), os.WriteFile(filepath.Join(place, "test"), binary, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(place, "test"), "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append([]string{nobodyEnv + "=" + dir, "PATH=" + os.Getenv("PATH")}, more...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as user %d: %v\n%s", nobody, err, out)
	}
}

// home makes a subvolume that belongs to nobody.
func home(t *testing.T, fs *btrfstest.FS, name string) string {
	t.Helper()
	dir := fs.Subvolume(name)
	mustWrite(t, filepath.Join(dir, "file"), "of the user")
	for _, p := range []string{dir, filepath.Join(dir, "file")} {
		if err := os.Chown(p, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantDenied expects an error that names a missing capability, and more.
func wantDenied(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if _, ok := errors.AsType[*btrfs.PermissionError](err); !ok {
		t.Errorf("%s: %v, want a *PermissionError", what, err)
		return
	}
	for _, w := range append(words, "CAP_SYS_ADMIN") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v, which does not say %q", what, err, w)
		}
	}
}

// TestRootless makes, lists and removes snapshots as an ordinary user.
func TestRootless(t *testing.T) {
	if dir := os.Getenv(nobodyEnv); dir != "" {
		rootless(t, dir)
		return
	}
	fs := btrfstest.New(t, btrfstest.MountOptions("user_subvol_rm_allowed"))
	dir := home(t, fs, "home")
	snaps := mustMkdir(t, filepath.Join(dir, "snapshot"))
	if err := os.Chown(snaps, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// One that root has received, and one of which nothing belongs to the user.
	fs.Snapshot("home", "sent", true)
	fs.MustReceive(snaps, "sent", fs.Send("sent"))
	fs.Subvolume("roots")
	fs.Snapshot("roots", filepath.Join(snaps, "foreign"), true)
	// One in a directory that the user cannot enter.
	closed := mustMkdir(t, filepath.Join(snaps, "closed"))
	fs.Snapshot("roots", filepath.Join(closed, "hidden"), true)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	root := mustOpen(t, snaps)
	all := mustList(t, root)
	asNobody(t, dir, "LOCATION="+root.Location())

	// What the user has left is as root sees it.
	inv := mustList(t, root)
	for _, p := range []string{"foreign", "closed/hidden"} {
		before, _ := listedAt(all, p)
		after, ok := listedAt(inv, p)
		if !ok {
			t.Errorf("%s is gone", p)
		} else if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s has changed (-before +after):\n%s", p, diff)
		}
	}
	if kept, ok := listedAt(inv, "kept"); !ok || kept.Trust != snapshot.Intact || !kept.Pristine {
		t.Errorf("the user's snapshot is %+v, %v", kept, ok)
	}
	if text, err := os.ReadFile(filepath.Join(snaps, "kept", "file")); err != nil || string(text) != "of the user" {
		t.Errorf("in it is %q, %v", text, err)
	}
}

func listedAt(inv *snapshot.Inventory, path string) (snapshot.Snapshot, bool) {
	for _, s := range inv.Inside() {
		if s.Path == path {
			return s, true
		}
	}
	return snapshot.Snapshot{}, false
}

func rootless(t *testing.T, dir string) {
	snaps := filepath.Join(dir, "snapshot")
	_, err := Open(snaps, Options{Origin: dir})
	wantDenied(t, "opening without Rootless", err)

	o := Options{Origin: dir, Rootless: true}
	plain := mustOpen(t, snaps, o)
	o.MakeWritable = true
	writing := mustOpen(t, snaps, o)
	if got, want := plain.Location(), os.Getenv("LOCATION"); got != want {
		t.Errorf("the location is %q, to root it is %q", got, want)
	}
	origin, err := plain.Origin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]snapshot.Snapshot{}
	for _, p := range []string{"kept", "deep/er/other"} {
		if made[p], err = plain.Snapshot(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(dir, "file"), "changed by the user")
	}
	inv := mustList(t, plain)
	for p, x := range made {
		y, ok := listedAt(inv, p)
		if diff := cmp.Diff(y, x); !ok || diff != "" {
			t.Errorf("made and listed differ (-listed +made):\n%s", diff)
		}
		if inv.Lineage[x.UUID] != origin || inv.Occupied[p] == "" {
			t.Errorf("of %s the lineage is %s, and it is taken by %q", p, inv.Lineage[x.UUID], inv.Occupied[p])
		}
	}
	if sent, ok := listedAt(inv, "sent"); !ok || !sent.Received || sent.Trust != snapshot.Intact {
		t.Errorf("the received one is %+v, %v", sent, ok)
	}
	if _, ok := listedAt(inv, "foreign"); !ok {
		t.Error("the one of root is not listed")
	}
	if len(inv.Snapshots) != 4 {
		t.Errorf("%d snapshots are listed, want 4: %+v", len(inv.Snapshots), inv.Snapshots)
	}

	// Streams are the business of root.
	_, err = plain.Open(t.Context(), store.Request{Edge: snapshot.Edge{To: made["kept"].ID}})
	wantDenied(t, "Open", err, "sending")
	_, err = plain.Estimate(t.Context(), store.Request{Edge: snapshot.Edge{To: made["kept"].ID}})
	wantDenied(t, "Estimate", err)
	_, err = plain.Create(t.Context(), store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}}, Path: "x"})
	wantDenied(t, "Create", err, "receiving")

	remove := func(s *Store, p string) error {
		t.Helper()
		x, ok := listedAt(mustList(t, s), p)
		if !ok {
			t.Fatalf("%s is not listed", p)
		}
		err := s.Remove(t.Context(), x)
		y, ok := listedAt(mustList(t, s), p)
		if err != nil && (!ok || x.Trust != y.Trust || x.Pristine != y.Pristine || x.Transid != y.Transid) {
			t.Errorf("%s was not removed (%v), it was %+v and is %+v", p, err, x, y)
		}
		if err == nil && ok {
			t.Errorf("%s was removed, and is there", p)
		}
		return err
	}
	wantDenied(t, "removing a read-only one", remove(plain, "deep/er/other"), "-w")
	for _, p := range []string{"deep/er/other", "sent"} {
		if err := remove(writing, p); err != nil {
			t.Errorf("removing %s: %v", p, err)
		}
	}
	if _, err := os.Stat(filepath.Join(snaps, "deep")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty directories are left: %v", err)
	}
	if err := remove(writing, "foreign"); err == nil {
		t.Error("the snapshot of root was removed")
	} else {
		t.Log(err)
	}
	if err := writing.Reclaim(t.Context()); err != nil {
		t.Error(err)
	}

	// A leftover, and notes.
	if err := btrfs.CreateSubvolume(writing.dir, "half"); err != nil {
		t.Fatal(err)
	}
	if err := plain.RemoveLeftover(t.Context(), "half"); err != nil {
		t.Error(err)
	}
	var was []byte
	for _, text := range []string{"one", "two", ""} {
		if err := plain.WriteNote(t.Context(), store.LocksNote, []byte(text), was); err != nil {
			t.Error(err)
		}
		was = []byte(text)
	}
	unlock, err := plain.Lock(t.Context(), "a user")
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if len(mustList(t, plain).Partials) != 0 {
		t.Errorf("partials: %+v", mustList(t, plain).Partials)
	}
}

// TestRootlessNotAllowed is on a file system that only root may remove
// snapshots from, and with a subvolume of somebody else.
func TestRootlessNotAllowed(t *testing.T) {
	if dir := os.Getenv(nobodyEnv); dir != "" {
		rootlessNotAllowed(t, dir)
		return
	}
	fs := btrfstest.New(t)
	dir := home(t, fs, "home")
	fs.Subvolume("roots")
	asNobody(t, dir, "FOREIGN="+fs.Path("roots"))
	inv := mustList(t, mustOpen(t, filepath.Join(dir, "made/for")))
	if x, ok := listedAt(inv, "a"); !ok || !x.Pristine || len(inv.Snapshots) != 1 {
		t.Errorf("the user's snapshot is %+v, %v", x, ok)
	}
}

func rootlessNotAllowed(t *testing.T, dir string) {
	snaps := filepath.Join(dir, "made/for")
	s := mustOpen(t, snaps, Options{Origin: dir, Make: true, Rootless: true, MakeWritable: true})
	x, err := s.Snapshot(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, "removing", s.Remove(t.Context(), x), "user_subvol_rm_allowed")
	if y, ok := listedAt(mustList(t, s), "a"); !ok || y.UUID != x.UUID || !y.Pristine {
		t.Errorf("it was %+v, and is %+v, %v", x, y, ok)
	}
	foreign := mustOpen(t, snaps, Options{Origin: os.Getenv("FOREIGN"), Rootless: true})
	_, err = foreign.Snapshot(t.Context(), "b")
	if denied, ok := errors.AsType[*btrfs.PermissionError](err); !ok || denied.Capability != "CAP_FOWNER" {
		t.Errorf("a snapshot of the subvolume of root: %v, want a *PermissionError", err)
	}
	_, err = Open("/proc/1/root", Options{Rootless: true})
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("opening what cannot be entered: %v", err)
	}
	if n := len(mustList(t, s).Snapshots); n != 1 {
		t.Errorf("there are %d snapshots, want one", n)
	}
}
