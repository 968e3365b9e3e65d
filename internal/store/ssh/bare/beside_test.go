package bare

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/sshtest"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// besides opens a directory of this machine, with more options.
func besides(t testing.TB, o Options, l *hereLink) *Store {
	t.Helper()
	o.Writes = true
	s, err := open(o, "here", l.sudo, l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBeside runs what is run for backups on the other machine with each shell, and
// with sudo before each command; and once over ssh.
func TestBeside(t *testing.T) {
	fs := btrfstest.New(t)
	live := fs.Subvolume("live 'home'\nof two lines")
	if err := os.WriteFile(filepath.Join(live, "file"), bytes.Repeat([]byte("text"), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, words := range shells {
		t.Run(name, func(t *testing.T) {
			btrfstest.Program(t, words[0])
			o := Options{Dir: fs.Path("made/" + oddDir + name), Of: live + "/", MakeDir: true}
			doesBesides(t, fs, besides(t, o, &hereLink{shellWords: words, sudo: true}))
		})
	}
	t.Run("ssh", func(t *testing.T) {
		if err := os.Chmod(fs.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		server := sshtest.Start(t)
		u := server.User(sshtest.Shell(server.Ash()))
		var programs []string
		for _, p := range []string{"btrfs", "ls", "mkdir", "cat", "cp", "tee", "cmp", "mv", "rm"} {
			programs = append(programs, "/usr/bin/"+p, "/bin/"+p)
		}
		u.Sudoers("ALL=(root) NOPASSWD: " + strings.Join(programs, ", "))
		s, err := Open(t.Context(), Options{
			Target: dial.Target{User: u.Name, Host: sshtest.Host, Port: server.Port, Options: u.Options(), Batch: true},
			Dir:    fs.Path("over ssh"), Of: live, MakeDir: true, Writes: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		doesBesides(t, fs, s)
	})
}

func doesBesides(t *testing.T, fs *btrfstest.FS, s *Store) {
	t.Helper()
	live := s.origins()
	if note, err := s.ReadNote(t.Context(), store.LocksNote); err != nil || note != nil {
		t.Fatalf("there is a note %q, %v", note, err)
	}
	info, err := infoOf(live)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := s.Origin(t.Context()); err != nil || id != snapshot.ID(info.UUID) {
		t.Fatalf("the origin is %s, %v; want %s", id, err, info.UUID)
	}
	made, err := s.Snapshot(t.Context(), "sub/day 1")
	if err != nil {
		t.Fatal(err)
	}
	if made.Parent != snapshot.ID(info.UUID) || made.Path != "sub/day 1" || made.Received {
		t.Errorf("made is %+v", made)
	}
	if raw := streamOf(t, s, snapshot.Edge{To: made.ID}); len(raw) < 10000 {
		t.Error("it cannot be sent")
	}
	if listed := at(t, s, "sub/day 1"); !cmp.Equal(made, listed) {
		t.Errorf("made (-), listed (+):\n%s", cmp.Diff(made, listed))
	}
	if diff := btrfstest.Diff(t, live, filepath.Join(s.dir, "sub/day 1"), btrfstest.WithoutRootTime()); diff != "" {
		t.Error(diff)
	}
	_, err = s.Snapshot(t.Context(), "sub/day 1")
	if _, ok := errors.AsType[*store.ExistsError](err); !ok {
		t.Errorf("made twice: %v", err)
	}

	var was []byte
	odd := []byte("{\n\x00'\"$HOME`\\ \xff EOF\n-- ")
	for _, note := range [][]byte{odd, bytes.Repeat(odd, 20000), nil, []byte("{}")} {
		if err := s.WriteNote(t.Context(), store.LocksNote, note, was); err != nil {
			t.Fatalf("writing %d bytes: %v", len(note), err)
		}
		if got, err := s.ReadNote(t.Context(), store.LocksNote); err != nil || !bytes.Equal(got, note) {
			t.Errorf("%d bytes are read, %d were written: %v", len(got), len(note), err)
		}
		was = note
	}
	for _, was := range []string{"", "other"} {
		if err := s.WriteNote(t.Context(), store.LocksNote, []byte("y"), []byte(was)); !errors.Is(err, store.ErrNoteChanged) {
			t.Errorf("written over another than %q: %v", was, err)
		}
	}
	if got := entriesOf(t, s.dir); !slices.Equal(got, []string{store.LocksNote, "sub"}) {
		t.Errorf("there is %q", got)
	}

	left := filepath.Join(s.dir, "sub/day 2")
	fs.Subvolume(left)
	fs.Subvolume(left + "/within")
	for _, p := range []string{"sub/day 1", "sub/day 2", "sub", "../live", "free"} {
		if err := s.RemoveLeftover(t.Context(), p); err == nil {
			t.Errorf("%s was removed", p)
		}
	}
	fs.Delete(left + "/within")
	s.opt.Of = left
	if err := s.RemoveLeftover(t.Context(), "sub/day 2"); err == nil {
		t.Error("the origin was removed")
	}
	s.opt.Of = live
	if err := s.RemoveLeftover(t.Context(), "sub/day 2"); err != nil {
		t.Error(err)
	}
	if err := s.Reclaim(t.Context()); err != nil {
		t.Error(err)
	}
	if got := entriesOf(t, filepath.Join(s.dir, "sub")); !slices.Equal(got, []string{"day 1"}) {
		t.Errorf("there is %q", got)
	}
}

// TestNotesHaveTheirPlace makes no snapshot where a note is going to be.
func TestNotesHaveTheirPlace(t *testing.T) {
	fs := btrfstest.New(t)
	s := besides(t, Options{Dir: fs.Subvolume("snapshots"), Of: fs.Subvolume("live")}, &hereLink{shellWords: shells["dash"]})
	for _, p := range []string{store.LocksNote, store.RetentionNote + "/x", store.RetentionNote + ".next"} {
		if _, err := s.Snapshot(t.Context(), p); err == nil {
			t.Errorf("a snapshot was made at %s", p)
		}
		if ways, err := s.Inspect(t.Context(), p); err != nil || !strings.HasPrefix(ways[p], snapshot.NoPlace) {
			t.Errorf("%s: %q, %v", p, ways[p], err)
		}
	}
}

func entriesOf(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// TestOrigins names as origin what can be none.
func TestOrigins(t *testing.T) {
	fs, other := btrfstest.New(t), btrfstest.New(t)
	fs.Subvolume("live")
	other.Subvolume("live") // of the same number
	if err := os.MkdirAll(fs.Path("live/plain"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := &hereLink{shellWords: shells["dash"]}
	received := openHere(t, fs.Path("live"), link)
	x := newScene(t, "two")
	from := openHere(t, x.from, link)
	if err := push(t, from, received, at(t, from, "one"), snapshot.Snapshot{}, "received"); err != nil {
		t.Fatal(err)
	}
	for of, says := range map[string]string{
		"":                         store.ErrNoOrigin.Error(),
		fs.Path("live/plain"):      "not a subvolume",
		fs.Path("nothing"):         "No such file",
		other.Path("live"):         "another file system",
		"/proc":                    "not a btrfs",
		fs.Path("live/received"):   "has been received",
		fs.Path("live/../live///"): "",
		fs.Dir:                     "", // the top level
	} {
		s := besides(t, Options{Dir: fs.Path("live"), Of: of}, link)
		_, err := s.Origin(t.Context())
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", of, err, says)
		}
		if says == "" {
			continue
		}
		if _, err := s.Snapshot(t.Context(), "made"); err == nil {
			t.Errorf("a snapshot was made of %q", of)
		}
	}
	for _, bad := range []Options{{Dir: "/x", Of: "home"}, {Dir: "/x", Of: "/home\x00"}} {
		if _, err := open(bad, "here", false, nil); err == nil {
			t.Errorf("opened with %+v", bad)
		}
	}
}

// TestNotesStayTheirs writes a note that belongs to somebody, and one where there is
// something else.
func TestNotesStayTheirs(t *testing.T) {
	fs := btrfstest.New(t)
	for name, words := range shells {
		t.Run(name, func(t *testing.T) {
			s := openHere(t, fs.Subvolume(name), &hereLink{shellWords: words})
			theirs, ours := s.at(store.LocksNote), s.at(store.RetentionNote)
			if err := errors.Join(os.WriteFile(theirs, []byte("old"), 0o640), os.Chown(theirs, 1234, 4321)); err != nil {
				t.Fatal(err)
			}
			if err := s.WriteNote(t.Context(), store.LocksNote, []byte("a new one"), []byte("old")); err != nil {
				t.Fatal(err)
			}
			if err := s.WriteNote(t.Context(), store.RetentionNote, []byte("ours"), nil); err != nil {
				t.Fatal(err)
			}
			for file, want := range map[string][3]uint32{theirs: {0o640, 1234, 4321}, ours: {0o600, 0, 0}} {
				var st unix.Stat_t
				if err := unix.Lstat(file, &st); err != nil {
					t.Fatal(err)
				}
				if got := [3]uint32{st.Mode & 0o777, st.Uid, st.Gid}; got != want {
					t.Errorf("%s has mode %o and belongs to %d:%d", file, got[0], got[1], got[2])
				}
			}
			if err := errors.Join(os.Remove(ours), os.Symlink(theirs, ours)); err != nil {
				t.Fatal(err)
			}
			if note, err := s.ReadNote(t.Context(), store.RetentionNote); err == nil {
				t.Errorf("%q is read through a symbolic link", note)
			}
			if err := s.WriteNote(t.Context(), store.RetentionNote, []byte("x"), nil); err == nil {
				t.Error("a symbolic link is written to")
			}
			if text, err := os.ReadFile(theirs); err != nil || string(text) != "a new one" {
				t.Errorf("it is %q, %v", text, err)
			}
			for _, bad := range []string{"", "..", "../x", "/etc/passwd", ".bashrc"} {
				_, err := s.ReadNote(t.Context(), bad)
				if wrote := s.WriteNote(t.Context(), bad, []byte("x"), nil); err == nil || wrote == nil {
					t.Errorf("%q is taken for a note", bad)
				}
			}
			if got := entriesOf(t, s.dir); len(got) != 2 {
				t.Errorf("there is %q", got)
			}
		})
	}
}

// TestNoteOnFullDisk has no room for a note: the old one stays, and nothing beside
// it.
func TestNoteOnFullDisk(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.Size(114<<20))
	s := openHere(t, fs.Dir, nil)
	if err := s.WriteNote(t.Context(), store.LocksNote, []byte("old"), nil); err != nil {
		t.Fatal(err)
	}
	fill(t, fs.Path("ballast"))
	err := s.WriteNote(t.Context(), store.LocksNote, make([]byte, store.MaxNote), []byte("old"))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("it says %v", err)
	}
	if err := os.Remove(fs.Path("ballast")); err != nil {
		t.Fatal(err)
	}
	if note, err := s.ReadNote(t.Context(), store.LocksNote); err != nil || string(note) != "old" {
		t.Errorf("the note is %q, %v", note, err)
	}
	if got := entriesOf(t, fs.Dir); !slices.Equal(got, []string{store.LocksNote}) {
		t.Errorf("there is %q", got)
	}
}

// fill writes a file until there is no room.
func fill(t testing.TB, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := bytes.Repeat([]byte("incompressible? no matter, nothing is compressed. "), 20000)
	for err == nil {
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// TestMakeDirElsewhere makes no directory where the file system is not mounted.
func TestMakeDirElsewhere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "a/b") // not on btrfs
	link := &hereLink{shellWords: shells["dash"]}
	for dir, says := range map[string]string{missing: "mounted", "/proc/nothing/x": "mounted"} {
		s := besides(t, Options{Dir: dir, MakeDir: true}, link)
		if _, err := s.List(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", dir, err)
		}
		if _, err := os.Stat(filepath.Dir(missing)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is something: %v", err)
		}
	}
	fs := btrfstest.New(t)
	for _, o := range []Options{{Dir: fs.Path("a"), Writes: true}, {Dir: fs.Path("a"), MakeDir: true}} {
		s, err := open(o, "here", false, link)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.List(t.Context()); !errors.Is(err, ErrNotDirectory) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestMakeWritable removes snapshots for a user whom the kernel lets remove only
// what is writable, which a program in front of btrfs plays here, and fails to remove
// one for another reason.
func TestMakeWritable(t *testing.T) {
	bin := t.TempDir()
	btrfsHere := btrfstest.Program(t, "btrfs")
	wrapper := `#!/bin/sh
if [ "$1 $2" = "subvolume delete" ]; then
	echo "btrfs subvolume delete" >>"$CALLS"
	if [ "$(` + btrfsHere + ` property get -ts "$3" ro)" = ro=true ]; then
		echo "ERROR: Could not destroy subvolume/snapshot: Read-only file system" >&2; exit 1
	elif [ -n "$STUCK" ]; then
		echo "ERROR: Could not destroy subvolume/snapshot: Operation not permitted" >&2; exit 1
	fi
fi
exec ` + btrfsHere + ` "$@"
`
	if err := os.WriteFile(filepath.Join(bin, "btrfs"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("CALLS", filepath.Join(bin, "calls"))
	for name, words := range shells {
		t.Run(name, func(t *testing.T) {
			x := newScene(t, "two")
			link := &hereLink{shellWords: words}
			src := openHere(t, x.from, link)
			one, two := at(t, src, "one"), at(t, src, "two")
			if err := src.Remove(t.Context(), one); !errors.Is(err, unix.EROFS) {
				t.Errorf("without it: %v", err)
			}
			dst := besides(t, Options{Dir: x.to, MakeWritable: true}, link)
			if err := errors.Join(push(t, src, dst, one, snapshot.Snapshot{}, "one"), push(t, src, dst, two, one, "two")); err != nil {
				t.Fatal(err)
			}
			if err := dst.Remove(t.Context(), at(t, dst, "one")); err != nil {
				t.Error(err)
			}
			made := besides(t, Options{Dir: x.from, MakeWritable: true}, link)
			if err := made.Remove(t.Context(), at(t, made, "one")); err != nil {
				t.Error(err)
			}
			t.Setenv("STUCK", "yes")
			err := made.Remove(t.Context(), two)
			if !errors.Is(err, unix.EPERM) {
				t.Errorf("one that cannot be removed: %v", err)
			}
			if again := at(t, made, "two"); again.UUID != two.UUID {
				t.Errorf("it is %+v", again)
			}
		})
	}
}

// TestLostNote loses the connection while a note is written: when it is there, and
// before anything of it is.
func TestLostNote(t *testing.T) {
	link := &hereLink{shellWords: shells["dash"]}
	s := openHere(t, btrfstest.New(t).Dir, link)
	was := ""
	for _, note := range []string{"one", "two", ""} {
		link.cut = func(p process) process {
			link.cut = nil
			return lostProcess{p}
		}
		if err := s.WriteNote(t.Context(), store.LocksNote, []byte(note), []byte(was)); err != nil {
			t.Errorf("%q was written: %v", note, err)
		}
		was = note
	}
	link.broken = func() error {
		link.broken = nil
		return dial.ErrUnreachable
	}
	if err := s.WriteNote(t.Context(), store.LocksNote, []byte("three"), nil); err != nil {
		t.Error(err)
	}
	if note, err := s.ReadNote(t.Context(), store.LocksNote); err != nil || string(note) != "three" {
		t.Errorf("the note is %q, %v", note, err)
	}
	if got := entriesOf(t, s.dir); len(got) != 1 {
		t.Errorf("there is %q", got)
	}
}

// deafProcess is one of which nobody reads what it prints, from a certain word on.
type deafProcess struct {
	*hereProcess
	from string
}

func (p deafProcess) Output() io.Reader {
	in, before := p.output.(io.ReadCloser), new(bytes.Buffer)
	for !strings.HasSuffix(before.String(), p.from) {
		if _, err := io.CopyN(before, in, 1); err != nil {
			break
		}
	}
	return io.MultiReader(before, iotest.ErrReader(errors.Join(io.ErrUnexpectedEOF, in.Close())))
}

func (p deafProcess) Wait() error {
	return errors.Join(p.hereProcess.Wait(), dial.ErrUnreachable)
}

// TestDeafNote loses the connection while a script is at work: it writes the note all
// the same, and leaves nothing beside it.
func TestDeafNote(t *testing.T) {
	fs := btrfstest.New(t)
	for name, words := range shells {
		t.Run(name, func(t *testing.T) {
			link := &hereLink{shellWords: words}
			s := openHere(t, fs.Subvolume(name), link)
			for _, notes := range [][2]string{{"", "one"}, {"one", "two"}, {"two", ""}, {"", "three"}} {
				link.cut = func(p process) process {
					link.cut = nil
					return deafProcess{p.(*hereProcess), "+ copy"}
				}
				if err := s.WriteNote(t.Context(), store.LocksNote, []byte(notes[1]), []byte(notes[0])); err != nil {
					t.Errorf("%q was written: %v", notes[1], err)
				}
			}
			if note, err := s.ReadNote(t.Context(), store.LocksNote); err != nil || string(note) != "three" {
				t.Errorf("the note is %q, %v", note, err)
			}
			if got := entriesOf(t, s.dir); !slices.Equal(got, []string{store.LocksNote}) {
				t.Errorf("there is %q", got)
			}
		})
	}
}
