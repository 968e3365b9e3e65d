package endurance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A legacy is a subvolume that btrfs-backup has backed up, and that we back up
// from now on.
type legacy struct {
	*oldBackup
	src, dst *btrfstest.FS
	state    string
	a, b     string // two destinations
	days     int
	digests  map[string]string // of what is in snapshots
}

// newLegacy makes a subvolume with a directory of data, and no snapshot yet. Its
// snapshots are in its own directory, as they are unless somebody has told the
// program otherwise.
func newLegacy(t *testing.T) *legacy {
	t.Helper()
	s := &legacy{
		src: btrfstest.New(t, btrfstest.Size(1<<30)), dst: btrfstest.New(t, btrfstest.Size(1<<30)),
		state: filepath.Join(t.TempDir(), "state"), digests: map[string]string{},
	}
	s.oldBackup = &oldBackup{t: t, source: s.src.Subvolume("my home"), clock: time.Now().Add(-24 * time.Hour).Truncate(time.Minute), cut: map[string]int{}}
	s.a, s.b = s.dst.Path("bk a"), s.dst.Path("bk-b")
	if err := os.Mkdir(filepath.Join(s.source, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.work()
	return s
}

// work changes the data.
func (s *legacy) work() {
	s.t.Helper()
	s.days++
	for _, name := range []string{"diary", fmt.Sprint("file", s.days), fmt.Sprint("file", s.days%3)} {
		if err := os.WriteFile(filepath.Join(s.source, "data", name), noise(byte(s.days), 100_000+s.days), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

// before works, and has the old program run.
func (s *legacy) before(dests ...string) {
	s.t.Helper()
	s.work()
	s.oldBackup.run(dests...)
	s.look()
}

// later lets the old program take its next snapshot now, after any other.
func (s *legacy) later() {
	s.t.Helper()
	newest := slices.Max(append(s.list(s.folder()), ""))
	for s.clock = time.Now(); s.prefix+s.clock.Format(stamp) <= newest; s.clock = time.Now() {
		time.Sleep(50 * time.Millisecond)
	}
}

// look remembers what is in the snapshots of the source.
func (s *legacy) look() {
	s.t.Helper()
	for _, name := range s.list(s.folder()) {
		if s.digests[name] == "" {
			s.digests[name] = btrfstest.Digest(s.t, filepath.Join(s.folder(), name, "data"))
		}
	}
}

// now has our program run, by the old name and with an old command line.
func (s *legacy) now(args ...string) *run {
	s.t.Helper()
	called := filepath.Join(s.t.TempDir(), "btrfs-backup")
	if err := os.Symlink(program, called); err != nil {
		s.t.Fatal(err)
	}
	return startAs(s.t, called, s.state, nil, args...)
}

// whole fails the test unless all snapshots at a destination but for so many
// were made from another one there, and each is what it was at the source.
func (s *legacy) whole(dest string, fulls int) []string {
	s.t.Helper()
	s.look()
	names := s.list(dest)
	full := 0
	for _, name := range names {
		path := filepath.Join(dest, name)
		show := s.dst.Show(path)
		if absent(show["Parent UUID"]) {
			full++
		}
		if absent(show["Received UUID"]) || show["Flags"] != "readonly" {
			s.t.Errorf("%s looks like %v", path, show)
		}
		if got := btrfstest.Digest(s.t, filepath.Join(path, "data")); got != s.digests[name] {
			s.t.Errorf("%s is not what it was at the source", path)
		}
	}
	if full > fulls {
		s.t.Errorf("%d of %q in %s were sent in full", full, names, dest)
	}
	return names
}

// absent reports whether btrfs says that there is no such UUID.
func absent(uuid string) bool { return uuid == "" || uuid == "-" }

// noted fails the test unless the record of unfinished transfers has this text.
func (s *legacy) noted(want string) {
	s.t.Helper()
	text, err := os.ReadFile(s.record())
	if err != nil || string(text) != want {
		s.t.Errorf("this is noted: %s, %v\nwanted: %s", text, err, want)
	}
}

// TestBackupOldDirectory carries on what the old program has begun, with its own
// command line out of a file, and gives it back to it: nobody ever sends in full
// again.
func TestBackupOldDirectory(t *testing.T) {
	t.Parallel()
	s := newLegacy(t)
	s.b = btrfstest.New(t, btrfstest.Size(1<<30)).Path("bk-b")
	s.keep, s.keepThere = 4, 6
	for range 7 {
		s.before(s.a, s.b)
	}
	file := filepath.Join(t.TempDir(), "home.conf")
	lines := []string{"# every night", "", "  -N   4", "-n 6", "--sync", "--quiet", s.source, "@places"}
	for name, text := range map[string][]string{file: lines, filepath.Join(filepath.Dir(file), "places"): {s.a + "  ", s.b}} {
		if err := os.WriteFile(name, []byte(strings.Join(text, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	both := func(old bool) {
		t.Helper()
		if s.work(); old {
			s.later()
			s.before(s.a, s.b)
		} else {
			s.now("@" + file).fine()
		}
		here := s.list(s.folder())
		if len(here) != 4 {
			t.Errorf("at the source there are %q", here)
		}
		for _, dest := range []string{s.a, s.b} {
			if there := s.whole(dest, 0); len(there) != 6 || !slices.Equal(there[2:], here) {
				t.Errorf("in %s there are %q, and %q at the source", dest, there, here)
			}
		}
		s.noted("{}")
	}
	for _, old := range []bool{false, false, true, false, true, true, false} {
		both(old)
	}
}

// TestBackupOldInterrupted finishes what the old program was cut off in: what it
// has left at the destination goes, and is sent again. What others have noted in
// the same record stays.
func TestBackupOldInterrupted(t *testing.T) {
	t.Parallel()
	s := newLegacy(t)
	s.before(s.a, s.b)
	s.before(s.a, s.b)
	s.cut[s.b] = 60_000
	s.before(s.a, s.b)
	names := s.list(s.folder())
	left := filepath.Join(s.b, names[2])
	if show := s.dst.Show(left); !absent(show["Received UUID"]) || show["Flags"] == "readonly" {
		t.Fatalf("the old program has left %v", show)
	}
	s.noted(fmt.Sprintf("{\n    %q: {\n        \"parent_locks\": [\n            %q\n        ]\n    },\n    %q: {\n        \"locks\": [\n            %q\n        ]\n    }\n}",
		names[1], s.b, names[2], s.b))

	others := map[string]*oldLock{"other-20200101-000000": {Locks: []string{"ssh://me@host:2222/bk", "shell://cat > \"$x\""}, Parents: []string{s.b}}}
	all := s.locks()
	all["other-20200101-000000"] = others["other-20200101-000000"]
	if err := os.WriteFile(s.record(), oldRecord(t, all), 0o644); err != nil {
		t.Fatal(err)
	}
	s.now(s.source, s.a, s.b).fine()
	for _, dest := range []string{s.a, s.b} {
		if there := s.whole(dest, 1); !slices.Equal(there, s.list(s.folder())) || len(there) != 4 {
			t.Errorf("in %s there are %q", dest, there)
		}
	}
	s.noted(string(oldRecord(t, others)))
	s.cut = nil
	s.later()
	s.before(s.a, s.b)
	s.whole(s.a, 1)
	s.whole(s.b, 1)
}

// TestBackupOldKilled finds a transfer noted that the old program has completed
// before it was killed: what is there is whole, and stays.
func TestBackupOldKilled(t *testing.T) {
	t.Parallel()
	s := newLegacy(t)
	s.before(s.a)
	s.dies = true
	s.before(s.a)
	names := s.list(s.a)
	if len(names) != 2 || s.locks()[names[1]] == nil {
		t.Fatalf("the old program has left %q, and %v", names, s.locks())
	}
	was := s.dst.Show(filepath.Join(s.a, names[1]))["UUID"]
	s.now("-S", s.source, s.a).fine()
	if is := s.dst.Show(filepath.Join(s.a, names[1]))["UUID"]; is != was {
		t.Errorf("%s was sent again", names[1])
	}
	s.whole(s.a, 1)
	s.noted("{}")
}

// TestBackupOldLocks settles locks on request: for destinations that are not
// named, and without looking at them. What is in the way without a lock belongs to
// somebody, and stays.
func TestBackupOldLocks(t *testing.T) {
	t.Parallel()
	s := newLegacy(t)
	s.before(s.a, s.b)
	s.cut[s.b] = 60_000
	s.before(s.a, s.b)
	s.now("-S", "--locked-dests", s.source).fine()
	if there := s.whole(s.b, 1); len(there) != 2 {
		t.Errorf("there are %q", there)
	}
	s.noted("{}")

	s.before(s.a, s.b)
	left := filepath.Join(s.b, s.list(s.b)[2])
	s.now("-S", "-T", "--remove-locks", s.source, s.a).fine()
	if len(s.locks()) == 0 {
		t.Error("the locks for another destination are removed")
	}
	s.now("-S", "-T", "--remove-locks", s.source, s.b).fine()
	s.noted("{}")
	was := s.dst.Show(left)["UUID"]
	r := s.now(s.source, s.a, s.b)
	if code := r.wait(); code != conflict {
		t.Errorf("with something in the way it ends with %d:\n%s", code, r.story())
	}
	if is := s.dst.Show(left)["UUID"]; is != was {
		t.Error("what was in the way is not there any more")
	}
	if there := s.list(s.b); len(there) != 4 {
		t.Errorf("the next snapshot is not there: %q\n%s", there, r.story())
	}
	s.whole(s.a, 1)
}

// TestBackupOldPrefixes has two prefixes in one folder and one destination: each
// is counted, locked and removed by itself.
func TestBackupOldPrefixes(t *testing.T) {
	t.Parallel()
	s := newLegacy(t)
	for range 3 {
		s.prefix = "my home-"
		s.before(s.a)
	}
	s.cut[s.a] = 60_000
	s.before(s.a)
	mine := s.list(s.folder())
	locks := map[string]*oldLock{mine[3]: s.locks()[mine[3]]}
	if locks[mine[3]] == nil {
		t.Fatalf("these are locked: %v", s.locks())
	}
	if err := os.WriteFile(s.record(), oldRecord(t, locks), 0o644); err != nil {
		t.Fatal(err)
	}
	delete(s.cut, s.a)
	// The old program would drop these.
	s.prefix = "srv."
	for range 4 {
		s.work()
		s.later()
		s.now("-p", s.prefix, "-N", "2", "-n", "3", s.source, s.a).fine()
		s.look()
	}
	if here, there := s.list(s.folder()), s.whole(s.a, 0); len(here) != 2 || len(there) != 3 {
		t.Errorf("of %q there are %q and %q", s.prefix, here, there)
	}
	s.noted(string(oldRecord(t, locks)))
	s.prefix = "my home-"
	if here, there := s.list(s.folder()), s.list(s.a); !slices.Equal(here, mine) || !slices.Equal(there, mine) {
		t.Errorf("of %q there are %q and %q", s.prefix, here, there)
	}
	s.later()
	// The old program has left so many that they do not go without a word.
	// Three of the four that the old program has left do not go without a word.
	r := s.now("-p", s.prefix, "-N", "1", "-n", "3", s.source, s.a)
	if code := r.wait(); code != conflict || len(s.list(s.folder())) != 5 {
		t.Errorf("it ends with %d:\n%s", code, r.story())
	}
	s.now("-S", "-p", s.prefix, "-N", "2", "-n", "3", "--force", s.source, s.a).fine()
	if here, there := s.list(s.folder()), s.whole(s.a, 1); len(here) != 2 || len(there) != 3 {
		t.Errorf("of %q there are %q and %q", s.prefix, here, there)
	}
	s.noted("{}")
}
