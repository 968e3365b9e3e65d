package endurance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A scene is a source with snapshots and a destination for them, both on file
// systems of their own.
type scene struct {
	t        *testing.T
	src, dst *btrfstest.FS
	state    string
	wanted   map[string]original
	seen     map[string]bool // the snapshots that have been compared already
}

// original is what a snapshot of the source is.
type original struct {
	uuid   string
	digest string
}

// newScene makes a scene without snapshots on two file systems.
func newScene(t *testing.T, src, dst *btrfstest.FS) *scene {
	t.Helper()
	s := &scene{t: t, src: src, dst: dst, state: filepath.Join(t.TempDir(), "state"), wanted: map[string]original{}, seen: map[string]bool{}}
	for _, fs := range []*btrfstest.FS{src, dst} {
		if err := os.MkdirAll(fs.Path("snaps"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// plain makes a scene on two plain file systems, with one family of snapshots.
func plain(t *testing.T, snapshots int, ballast int64) *scene {
	t.Helper()
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	s.family("a", snapshots, ballast)
	return s
}

// family makes snapshots of one subvolume that changes in between, called
// NAME0, NAME1 and so on, each with so many bytes that the one before has not.
func (s *scene) family(name string, snapshots int, ballast int64, opts ...btrfstest.TreeOption) {
	s.t.Helper()
	live := s.src.Subvolume("live-" + name)
	seed := uint64(len(s.wanted)) + 1
	opts = append([]btrfstest.TreeOption{btrfstest.Extra(10), btrfstest.Without(btrfstest.BigFiles, btrfstest.ManyLinks)}, opts...)
	tree := btrfstest.NewTree(s.t, live, seed, opts...)
	tree.Fill()
	noise := rand.NewChaCha8([32]byte{byte(seed)})
	block := make([]byte, ballast)
	for i := range snapshots {
		if i > 0 {
			tree.Mutate()
		}
		if ballast > 0 {
			_, _ = noise.Read(block)
			if err := os.WriteFile(filepath.Join(live, "ballast"), block, 0o644); err != nil {
				s.t.Fatal(err)
			}
		}
		s.snapshot(live, fmt.Sprintf("%s%d", name, i))
	}
}

// snapshot makes a read-only snapshot in the source's directory.
func (s *scene) snapshot(live, name string) {
	s.t.Helper()
	path := s.src.Snapshot(live, "snaps/"+name, true)
	s.wanted[name] = original{s.src.Show(path)["UUID"], btrfstest.Digest(s.t, path)}
}

func (s *scene) names() []string {
	names := []string{}
	for name := range s.wanted {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *scene) from() string { return s.src.Path("snaps") + "/" }
func (s *scene) to() string   { return s.dst.Path("snaps") + "/" }

// sync starts a sync of the two directories.
func (s *scene) sync(flags ...string) *run {
	s.t.Helper()
	return start(s.t, s.state, append(append([]string{"--json"}, flags...), s.from(), s.to())...)
}

// whole compares every snapshot that looks like one of the wanted with its
// original, and returns how many there are. All else at the destination has to be
// named as a remainder.
func (s *scene) whole() int {
	s.t.Helper()
	entries, err := os.ReadDir(s.to())
	if err != nil {
		s.t.Fatal(err)
	}
	count := 0
	for _, e := range entries {
		if _, ok := s.wanted[e.Name()]; !ok {
			if !strings.Contains(e.Name(), ".part") && !s.sizes(e) {
				s.t.Fatalf("what is %s?", e.Name())
			}
			continue
		}
		count++
		if !s.seen[e.Name()] {
			s.compare(e.Name())
			s.seen[e.Name()] = true
		}
	}
	return count
}

// sizes reports whether an entry is the file with the known sizes of a snapshot,
// which comes with it from an archive.
func (s *scene) sizes(e os.DirEntry) bool {
	name, ok := strings.CutSuffix(e.Name(), ".bs")
	_, wanted := s.wanted[name]
	return ok && wanted && e.Type().IsRegular()
}

// compare fails the test unless a snapshot at the destination is its original.
func (s *scene) compare(name string) {
	s.t.Helper()
	want, path := s.wanted[name], s.dst.Path("snaps/"+name)
	if show := s.dst.Show(path); show["Received UUID"] != want.uuid || show["Flags"] != "readonly" {
		s.t.Fatalf("%s looks like %v; the original is %s", name, show, want.uuid)
	}
	if btrfstest.Digest(s.t, path) != want.digest {
		s.t.Fatalf("%s differs:\n%s", name, difference(s.t, s.src.Path("snaps/"+name), path))
	}
}

// difference tells how two trees differ, the first few entries of it.
func difference(t *testing.T, a, b string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(btrfstest.Diff(t, a, b)) {
		if len(line) > 400 {
			line = line[:100] + "…" + line[len(line)-300:]
		}
		lines = append(lines, line)
	}
	if n := len(lines); n > 5 {
		lines = append(lines[:5], fmt.Sprintf("and %d more\n", n-5))
	}
	return strings.Join(lines, "")
}

// complete fails the test unless all snapshots are at the destination, whole,
// and nothing else is on the whole file system.
func (s *scene) complete() {
	s.t.Helper()
	clear(s.seen)
	if n := s.whole(); n != len(s.wanted) {
		s.t.Fatalf("%d of %d snapshots are at the destination", n, len(s.wanted))
	}
	s.clean()
}

// clean fails the test if anything unfinished is at the destination.
func (s *scene) clean() {
	s.t.Helper()
	for _, path := range s.dst.Subvolumes() {
		if _, ok := s.wanted[strings.TrimPrefix(path, "snaps/")]; !ok {
			s.t.Errorf("left behind: the subvolume %s", path)
		}
	}
	entries, err := os.ReadDir(s.to())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := s.wanted[e.Name()]; !ok && !s.sizes(e) {
			s.t.Errorf("left behind: %s", e.Name())
		}
	}
	list := start(s.t, s.state, "list", "--json", "-e", "-n", "-d", s.to())
	// An empty listing may be an error to whoever asked for snapshots.
	if code := list.wait(); code != done && !(code == failed && len(entries) == 0) {
		s.t.Fatalf("listing ends with %d: %s", code, &list.err)
	}
	listed := 0
	for line := range strings.Lines(list.out.String()) {
		var record struct{ Event, Path string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		switch record.Event {
		case "snapshot":
			if _, ok := s.wanted[record.Path]; !ok {
				s.t.Errorf("%s is listed as a snapshot", record.Path)
			}
			listed++
		case "partial", "would-remove", "not-removed":
			s.t.Errorf("left behind, by the listing: %s", line)
		}
	}
	if n := s.whole(); listed != n {
		s.t.Errorf("%d snapshots are listed, %d are there", listed, n)
	}
}

// finish syncs again, which has to complete what was begun.
func (s *scene) finish() {
	s.t.Helper()
	r := s.sync()
	if code := r.wait(); code != done {
		s.t.Fatalf("the next run ends with %d:\n%s", code, r.story())
	}
	s.complete()
}

// empty deletes everything at the destination.
func (s *scene) empty() {
	s.t.Helper()
	for _, path := range s.dst.Subvolumes() {
		s.dst.Delete(path)
	}
	sizes, _ := filepath.Glob(s.to() + "*.bs")
	for _, file := range sizes {
		if err := os.Remove(file); err != nil {
			s.t.Fatal(err)
		}
	}
	clear(s.seen)
}
