package bare

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/sshtest"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/stream"
)

// scene is a file system with two snapshots of one tree, and two directories that
// are stores.
type scene struct {
	fs       *btrfstest.FS
	from, to string
	second   string // the path of the second snapshot
}

// Names that a shell, an option parser or a reader of lines may stumble over.
var oddDir = "-it's a $(far) \"place\""

func newScene(t testing.TB, second string) *scene {
	fs := btrfstest.New(t)
	x := &scene{fs, fs.Path("from"), fs.Path(oddDir), second}
	for _, dir := range []string{x.from, x.to} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	live := fs.Subvolume("live")
	noise := make([]byte, 300<<10)
	_, _ = rand.Read(noise)
	write := func(name string, data []byte) {
		path := filepath.Join(live, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	write("noise", noise)
	for i := range 20 {
		write(fmt.Sprintf("dir %d/file\n%d", i%3, i), noise[:i*500])
	}
	fs.Snapshot("live", "from/one", true)
	write("dir 1/new", noise[:70000])
	if err := os.Rename(filepath.Join(live, "dir 0"), filepath.Join(live, "dir 1/moved")); err != nil {
		t.Fatal(err)
	}
	fs.Snapshot("live", "from/"+second, true)
	return x
}

// at returns a snapshot at a path.
func at(t testing.TB, s store.Store, path string) snapshot.Snapshot {
	t.Helper()
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range inv.Snapshots {
		if x.Path == path {
			return x
		}
	}
	t.Fatalf("%s has no %q but %+v", s, path, inv.Snapshots)
	return snapshot.Snapshot{}
}

func streamOf(t testing.TB, s store.Source, e snapshot.Edge) []byte {
	t.Helper()
	in, err := s.Open(t.Context(), store.Request{Edge: e})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// push carries a snapshot from one store to another.
func push(t testing.TB, src store.Source, dst *Store, to, from snapshot.Snapshot, path string) error {
	t.Helper()
	edge := snapshot.Edge{To: to.ID, From: from.ID}
	w, err := dst.Create(t.Context(), store.Want{Edge: edge, Path: path})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(streamOf(t, src, edge)); err != nil {
		return err
	}
	return w.Commit(t.Context())
}

// carry pulls and pushes a full stream and an increment, and compares.
func (x *scene) carry(t *testing.T, src, dst *Store) {
	t.Helper()
	one, two := at(t, src, "one"), at(t, src, x.second)
	for _, c := range []struct {
		to, from snapshot.Snapshot
		path     string
	}{{one, snapshot.Snapshot{}, "one"}, {two, one, "some 'where'/" + x.second}} {
		if err := push(t, src, dst, c.to, c.from, c.path); err != nil {
			t.Fatal(err)
		}
		if diff := btrfstest.Diff(t, filepath.Join(src.dir, c.to.Path), filepath.Join(dst.dir, c.path), btrfstest.WithoutRootTime()); diff != "" {
			t.Errorf("%s: %s", c.path, diff)
		}
		if y := at(t, dst, c.path); y.ID != c.to.ID || !y.Received || y.Transid == 0 {
			t.Errorf("%s arrived as %+v", c.path, y)
		}
	}
	if inv, err := dst.List(t.Context()); err != nil || len(inv.Partials) > 0 {
		t.Errorf("%v, partials: %+v", err, inv.Partials)
	}
}

// TestShells runs all that is run on the other machine with each shell, and with
// sudo before each command.
func TestShells(t *testing.T) {
	x := newScene(t, "two\n'2'")
	for name, words := range shells {
		t.Run(name, func(t *testing.T) {
			btrfstest.Program(t, words[0])
			link := &hereLink{shellWords: words, sudo: true}
			src, dst := openHere(t, x.from, link), openHere(t, filepath.Join(x.to, name), link)
			if err := os.Mkdir(dst.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			x.carry(t, src, dst)
			if err := dst.Remove(t.Context(), at(t, dst, "one")); err != nil {
				t.Error(err)
			}
		})
	}
}

// far opens a directory over a real ssh.
func far(t testing.TB, server *sshtest.Server, u *sshtest.User, dir string, more ...string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{
		Target: dial.Target{User: u.Name, Host: sshtest.Host, Port: server.Port, Options: append(u.Options(), more...), Batch: true},
		Dir:    dir, Writes: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSSH goes through a real sshd as users whose login shells are dash and the ash
// of busybox, and who may run nothing but btrfs, ls, mkdir and mv as root.
func TestSSH(t *testing.T) {
	x := newScene(t, "two")
	if err := os.Chmod(x.fs.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	server := sshtest.Start(t)
	dash, ash := server.User(sshtest.Shell("/bin/dash")), server.User(sshtest.Shell(server.Ash()))
	for name, u := range map[string]*sshtest.User{"dash": dash, "ash": ash} {
		t.Run(name, func(t *testing.T) {
			u.Sudoers("ALL=(root) NOPASSWD: /usr/bin/btrfs, /usr/bin/ls, /bin/ls, /usr/bin/mkdir, /bin/mkdir, /usr/bin/mv, /bin/mv")
			src, dst := far(t, server, u, x.from), far(t, server, u, filepath.Join(x.to, name)+"/")
			if _, err := dst.List(t.Context()); !errors.Is(err, ErrNotDirectory) {
				t.Errorf("listing what is not there: %v", err)
			}
			if err := os.Mkdir(dst.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			x.carry(t, src, dst)
		})
	}
}

func TestFarFailures(t *testing.T) {
	x := newScene(t, "two")
	server := sshtest.Start(t)
	u := server.User()
	u.Sudoers("ALL=(root) NOPASSWD: /usr/bin/btrfs subvolume list *, /usr/bin/ls, /bin/ls")
	_, err := far(t, server, u, x.to).List(t.Context())
	if !errors.Is(err, dial.ErrSudo) || !strings.Contains(err.Error(), "rootid") || !strings.Contains(err.Error(), "password") {
		t.Errorf("with a sudo that refuses: %v", err)
	}
	if _, err := far(t, server, server.Root(), server.Dir).List(t.Context()); err == nil || !strings.Contains(err.Error(), "not on btrfs") {
		t.Errorf("on another file system: %v", err)
	}
	server.Script("btrfs", "#!/bin/sh\nexit 127\n")
	if _, err := far(t, server, server.Root(), x.to).List(t.Context()); !errors.Is(err, dial.ErrNoProgram) || !strings.Contains(err.Error(), "btrfs-progs") {
		t.Errorf("without btrfs-progs: %v", err)
	}
	server.Kill()
	if _, err := far(t, server, server.Root(), x.to).List(t.Context()); !store.Temporary(err) {
		t.Errorf("when nobody answers: %v", err)
	}
}

// TestCutSessions cuts the connection at places in a push, as often as there are
// any: nothing may pass for the snapshot, and what is left is recognised.
func TestCutSessions(t *testing.T) {
	x := newScene(t, "two")
	server := sshtest.Start(t)
	root := server.Root()
	src, dst := far(t, server, root, x.from), far(t, server, root, x.to)
	one := at(t, src, "one")
	edge := snapshot.Edge{To: one.ID}
	raw := streamOf(t, src, edge)
	ends := commands(raw)
	for _, part := range []int{len(ends) / 2, len(ends)} {
		w, err := dst.Create(t.Context(), store.Want{Edge: edge, Path: "one"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(raw[:ends[part-1]])
		if err == nil {
			until(t, func() bool { return server.Cut() > 0 }) // sshd has a session
		}
		if err == nil {
			err = w.Commit(t.Context())
		}
		if err == nil {
			t.Errorf("cut after %d of %d commands: committed", part, len(ends))
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		inv, err := dst.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(inv.Snapshots) > 0 {
			t.Fatalf("cut after %d of %d commands: %+v is there", part, len(ends), inv.Snapshots)
		}
		for _, p := range inv.Partials {
			if !p.Ours || !isRemainder(p.Path, "one") {
				t.Errorf("cut after %d of %d commands: %+v is there", part, len(ends), p)
			}
		}
	}
	// The next one does away with what is left.
	if err := push(t, src, dst, one, snapshot.Snapshot{}, "one"); err != nil {
		t.Fatal(err)
	}
	if inv, err := dst.List(t.Context()); err != nil || len(inv.Partials) > 0 || len(inv.Snapshots) != 1 {
		t.Errorf("%v, %+v", err, inv)
	}
}

// until waits for something that happens soon.
func until(t testing.TB, happened func() bool) {
	t.Helper()
	for range 3000 {
		if happened() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it has not happened")
}

// commands returns where each command of a stream ends.
func commands(raw []byte) []int {
	const header, head = 17, 10
	var ends []int
	for at := header; at+head <= len(raw); {
		at += head + int(raw[at]) + int(raw[at+1])<<8 + int(raw[at+2])<<16
		ends = append(ends, at)
	}
	return ends
}

// TestReceiverKilled ends btrfs receive from outside.
func TestReceiverKilled(t *testing.T) {
	x := newScene(t, "two")
	server := sshtest.Start(t)
	root := server.Root()
	src, dst := far(t, server, root, x.from), far(t, server, root, x.to)
	one := at(t, src, "one")
	edge := snapshot.Edge{To: one.ID}
	raw := streamOf(t, src, edge)
	w, err := dst.Create(t.Context(), store.Want{Edge: edge, Path: "one"})
	if err != nil {
		t.Fatal(err)
	}
	half := commands(raw)[len(commands(raw))/2]
	if _, err := w.Write(raw[:half]); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return server.Signal("btrfs", syscall.SIGKILL) > 0 })
	_, err = w.Write(raw[half:])
	if err == nil {
		err = w.Commit(t.Context())
	}
	if err == nil {
		t.Errorf("after btrfs receive was killed: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if inv, err := dst.List(t.Context()); err != nil || len(inv.Partials)+len(inv.Snapshots) > 0 {
		t.Errorf("%v, %+v", err, inv)
	}
}

// TestFull pushes more than the disk has room for.
func TestFull(t *testing.T) {
	x := newScene(t, "two")
	small := btrfstest.New(t, btrfstest.Size(114<<20))
	noise := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	live := x.fs.Subvolume("large")
	for i := range 160 {
		if err := os.WriteFile(filepath.Join(live, fmt.Sprint(i)), noise, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x.fs.Snapshot("large", "from/large", true)
	src, dst := openHere(t, x.from, nil), openHere(t, small.Dir, nil)
	err := push(t, src, dst, at(t, src, "large"), snapshot.Snapshot{}, "large")
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	inv, err := dst.List(t.Context())
	if err != nil || len(inv.Snapshots) > 0 {
		t.Errorf("%v, %+v", err, inv)
	}
	for _, p := range inv.Partials {
		if !p.Ours {
			t.Errorf("left: %+v", p)
		}
		if err := dst.RemovePartial(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
}

// TestCommandLines pins what is run on the other machine.
func TestCommandLines(t *testing.T) {
	x := newScene(t, "two")
	var lines []string
	link := &hereLink{shellWords: shells["dash"], sudo: true}
	link.ran = func(line string) { lines = append(lines, line) }
	src, dst := openHere(t, x.from, link), openHere(t, x.fs.Path("to"), link)
	if err := os.Mkdir(dst.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	one := at(t, src, "one")
	lines = nil
	x.fs.Snapshot("live", "from/three", true)
	three := at(t, src, "three")
	if err := push(t, src, dst, one, snapshot.Snapshot{}, "sub/one"); err != nil {
		t.Fatal(err)
	}
	if err := push(t, src, dst, three, one, "three"); err != nil {
		t.Fatal(err)
	}
	if err := dst.Remove(t.Context(), at(t, dst, "three")); err != nil {
		t.Fatal(err)
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { return line == "sh -s" })
	m := x.fs.Dir
	want := []string{
		"sudo mkdir -p " + m + "/to/sub",
		"sudo btrfs receive " + m + "/to/sub",
		"sudo btrfs send " + m + "/from/one",
		"sudo btrfs receive " + m + "/to",
		"sudo btrfs send -p " + m + "/from/one " + m + "/from/three",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("ran\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// TestReadOnly holds a store that was opened for reading to it.
func TestReadOnly(t *testing.T) {
	s, err := open(Options{Dir: "/x"}, "here", false, &hereLink{broken: func() error { return errors.New("something was run") }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(context.Background(), store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}}, Path: "a"})
	for _, err := range []error{err, s.Remove(t.Context(), snapshot.Snapshot{Path: "a"}), s.RemovePartial(t.Context(), snapshot.Partial{Path: "a.part", Ours: true})} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("got %v", err)
		}
	}
	for _, dir := range []string{"x", "", "/x\x00"} {
		if _, err := open(Options{Dir: dir}, "here", false, nil); err == nil {
			t.Errorf("opened %q", dir)
		}
	}
}

// TestFromLocal receives the streams that are made by buttersink itself, of each
// protocol that btrfs-progs can receive.
func TestFromLocal(t *testing.T) {
	x := newScene(t, "two")
	for _, protocol := range []uint32{1, 2} {
		src, err := local.Open(x.from, local.Options{Protocol: protocol})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		dst := openHere(t, x.fs.Path(fmt.Sprintf("to%d", protocol)), nil)
		if err := os.Mkdir(dst.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if highest, err := dst.Receives(t.Context()); err != nil || highest < protocol {
			t.Logf("the btrfs-progs here receive protocol %d, %v", highest, err)
			continue
		}
		one, two := at(t, src, "one"), at(t, src, "two")
		for _, c := range [][2]snapshot.Snapshot{{one}, {two, one}} {
			if err := push(t, src, dst, c[0], c[1], c[0].Path); err != nil {
				t.Fatal(err)
			}
			if diff := btrfstest.Diff(t, filepath.Join(x.from, c[0].Path), filepath.Join(dst.dir, c[0].Path), btrfstest.WithoutRootTime()); diff != "" {
				t.Errorf("protocol %d, %s: %s", protocol, c[0].Path, diff)
			}
			y := at(t, dst, c[0].Path)
			if y.ID != c[0].ID || y.Transid != c[0].Transid {
				t.Errorf("%+v arrived as %+v", c[0], y)
			}
			// The number is asked for where the listing has left it out.
			dst.known[y.ID].Transid = 0
			r := stream.NewReader(bytes.NewReader(streamOf(t, dst, snapshot.Edge{To: y.ID})))
			if id, err := r.Identity(); err != nil || snapshot.ID(id.UUID) != y.ID || id.Transid != y.Transid {
				t.Errorf("the stream of %+v says %+v, %v", y, id, err)
			}
		}
	}
}

// TestAsItWasMade changes what a listing must not depend on: that other snapshots
// are made of a snapshot.
func TestAsItWasMade(t *testing.T) {
	x := newScene(t, "two")
	s := openHere(t, x.from, nil)
	before := at(t, s, "one")
	x.fs.Snapshot("from/one", "from/its copy", true)
	x.fs.Sync()
	if after := at(t, s, "one"); !reflect.DeepEqual(before, after) || !after.Pristine {
		t.Errorf("was %+v, is %+v", before, after)
	}
}

// TestForgedNames has names in the file system that pass for lines of a listing: of
// snapshots that are not there, and of ones that are.
func TestForgedNames(t *testing.T) {
	x := newScene(t, "two")
	s := openHere(t, x.from, nil)
	one := at(t, s, "one")
	fake := subvolume{id: 9000, cgen: 9, top: 5, uuid: snapshot.ID{1}, readOnly: true, path: "from-fake"}
	same := fake
	same.id = one.Handle
	for i, v := range []subvolume{fake, same} {
		full, readOnly := render([]subvolume{v})
		for j, text := range []string{full, readOnly, full + readOnly, readOnly + full} {
			// There is no slash in a name: the directories of the fake path are real.
			name := fmt.Sprintf("%d%d\n%s", i, j, strings.TrimSuffix(text, "\n"))
			if len(name) > 255 {
				continue
			}
			x.fs.Snapshot("live", filepath.Join(x.from, name), j%2 == 0)
		}
	}
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range inv.Snapshots {
		info, err := infoOf(filepath.Join(x.from, found.Path))
		if err != nil || snapshot.ID(info.UUID) != found.UUID || info.ID != found.Handle || !info.ReadOnly {
			t.Errorf("listed %+v, which is %+v, %v", found, info, err)
		}
	}
	if len(inv.Snapshots) < 4 {
		t.Errorf("only %+v", inv.Snapshots)
	}
}
