package endurance

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A night is a subvolume that the program backs up to three places of different
// kinds: a btrfs directory, one on another machine, and an archive in a directory.
type night struct {
	*remote
	live    string
	folder  string // of the snapshots
	tree    *btrfstest.Tree
	noise   *rand.ChaCha8
	far     *btrfstest.FS
	archive *depot
	made    map[string]original
	seen    map[string]bool // what has been compared, by its whole path
}

func newNight(t *testing.T) *night {
	t.Helper()
	n := &night{
		remote: apart(t), far: btrfstest.New(t, btrfstest.Size(1<<30)), archive: tempDepot(t),
		noise: rand.NewChaCha8([32]byte{9}), made: map[string]original{}, seen: map[string]bool{},
	}
	n.live, n.folder = n.src.Subvolume("home"), n.src.Path("snaps")
	n.tree = btrfstest.NewTree(t, n.live, 3, btrfstest.Extra(5), btrfstest.Without(btrfstest.BigFiles, btrfstest.ManyLinks))
	n.tree.Fill()
	n.grow(1 << 20)
	return n
}

// grow changes the subvolume, and gives it so many bytes that it has not had.
func (n *night) grow(bytes int) {
	n.t.Helper()
	n.tree.Mutate()
	block := make([]byte, bytes)
	_, _ = n.noise.Read(block)
	ballast := filepath.Join(n.live, "ballast")
	n.must(os.RemoveAll(ballast)) // it may be a directory by now
	n.must(os.WriteFile(ballast, block, 0o644))
}

// The three places.
func (n *night) near() string  { return n.dst.Path("snaps") }
func (n *night) there() string { return n.url(n.far.Path("bk")) }

// backup starts a run. Without destinations it goes to all three places.
func (n *night) backup(flags []string, destinations ...string) *run {
	n.t.Helper()
	if destinations == nil {
		destinations = []string{n.near(), n.there(), n.archive.url}
	}
	args := slices.Concat([]string{"--json", "--ssh-sudo", "-p", "home-", "-f", n.folder}, flags, []string{n.live}, destinations)
	return n.run("backup", args...)
}

// ends fails the test unless a run ends with a code.
func (r *run) ends(code int) *run {
	r.t.Helper()
	if got := r.wait(); got != code {
		r.t.Fatalf("%q ends with %d, not %d:\n%s", r.cmd.Args[1:], got, code, r.story())
	}
	return r
}

// names are the entries of a directory that look like snapshots.
func (n *night) names(dir string) []string {
	n.t.Helper()
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil // no run has come that far
	}
	if err != nil {
		n.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "home-") && !strings.Contains(e.Name(), ".") {
			all = append(all, e.Name())
		}
	}
	return all
}

// note writes down what snapshots the source has.
func (n *night) note() []string {
	n.t.Helper()
	names := n.names(n.folder)
	for _, name := range names {
		if _, ok := n.made[name]; !ok {
			path := filepath.Join(n.folder, name)
			n.made[name] = original{n.src.Show(path)["UUID"], btrfstest.Digest(n.t, path)}
		}
	}
	return names
}

// holds fails the test unless every snapshot in a directory is what was made, and
// returns their names.
func (n *night) holds(fs *btrfstest.FS, dir string) []string {
	n.t.Helper()
	names := n.names(dir)
	for _, name := range names {
		path := filepath.Join(dir, name)
		want, ok := n.made[name]
		if !ok {
			n.t.Fatalf("what is %s?", path)
		}
		if n.seen[path] {
			continue
		}
		if show := fs.Show(path); show["Received UUID"] != want.uuid || show["Flags"] != "readonly" {
			n.t.Fatalf("%s looks like %v; the original is %s", path, show, want.uuid)
		}
		if btrfstest.Digest(n.t, path) != want.digest {
			n.t.Fatalf("%s differs from what was made", path)
		}
		n.seen[path] = true
	}
	return names
}

// stored are the names of the snapshots that the archive can give back.
func (n *night) stored() []string {
	n.t.Helper()
	names := []string{}
	for _, o := range n.archive.objects() {
		names = append(names, o.path)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// restored fails the test unless the archive gives back what was made.
func (n *night) restored() {
	n.t.Helper()
	back := btrfstest.New(n.t, btrfstest.Size(1<<30))
	n.archive.run("sync", n.archive.url, back.Dir+"/").fine()
	for _, name := range n.stored() {
		arrived(n.t, back, name, n.made[name])
	}
	back.Close()
}

// complete fails the test unless all places have all that the source has, and
// nothing is owed any more.
func (n *night) complete() {
	n.t.Helper()
	want := n.note()
	for place, got := range map[string][]string{
		"near": n.holds(n.dst, n.near()), "far": n.holds(n.far, n.far.Path("bk")), "the archive": n.stored(),
	} {
		if !slices.Equal(got, want) {
			n.t.Fatalf("%s has %q, want %q", place, got, want)
		}
	}
	if locks := n.locks(); len(locks) > 0 {
		n.t.Fatalf("it is all there, and locked is %v", locks)
	}
	for _, dir := range []string{n.folder, n.near(), n.far.Path("bk")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), ".part") {
				n.t.Fatalf("%s is left in %s", e.Name(), dir)
			}
		}
	}
}

// locks reads the record of unfinished transfers, in the form of btrfs-backup.
func (n *night) locks() map[string]map[string][]string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.folder, ".outstanding_transfers"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		n.t.Fatal(err)
	}
	var all map[string]map[string][]string
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&all); err != nil {
		n.t.Fatalf("%v in %s", err, text)
	}
	return all
}

// transfers counts the full streams and increments that a run has committed.
func (r *run) transfers() (full, increments int) {
	r.t.Helper()
	for line := range strings.Lines(r.out.String()) {
		var e struct{ Event, Action, From string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatalf("%v: %s", err, line)
		}
		switch {
		case e.Event != "committed" || e.Action != "send":
		case e.From == "":
			full++
		default:
			increments++
		}
	}
	return full, increments
}

func (n *night) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}
