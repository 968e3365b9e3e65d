package endurance

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A kind of btrfs that people have.
type variety struct {
	name     string
	mkfs     []string
	mount    string
	devices  int
	prepared string              // an image instead of mkfs
	without  []btrfstest.Feature // what a tree on it cannot have
}

// noCompression is what nodatacow and nodatasum refuse.
var noCompression = []btrfstest.Feature{btrfstest.Compression}

var varieties = []variety{
	{name: "plain"},
	{name: "zstd", mount: "compress=zstd"},
	{name: "lzo", mount: "compress=lzo"},
	{name: "zlib forced", mount: "compress-force=zlib"},
	{name: "block group tree", prepared: "testdata/block-group-tree.tar.gz"},
	{name: "xxhash", mkfs: []string{"--csum", "xxhash"}},
	{name: "sha256", mkfs: []string{"--csum", "sha256"}, mount: "compress=zstd:1"},
	{name: "blake2", mkfs: []string{"--csum", "blake2"}},
	{name: "mixed block groups", mkfs: []string{"-M"}},
	{name: "raid1", devices: 2},
	{name: "raid1 zstd", devices: 2, mount: "compress-force=zstd"},
	{name: "raid0", devices: 2, mkfs: []string{"-d", "raid0", "-m", "raid1"}},
	{name: "metadata twice", mkfs: []string{"-d", "single", "-m", "dup"}},
	{name: "small nodes", mkfs: []string{"-n", "4096"}},
	{name: "big nodes", mkfs: []string{"-n", "65536"}},
	{name: "holes as extents", mkfs: []string{"-O", "^no-holes"}},
	{name: "old formats", mkfs: []string{"-O", "^no-holes,^skinny-metadata,^extref"}, without: []btrfstest.Feature{btrfstest.HardLinks}},
	{name: "no copy on write", mount: "nodatacow", without: noCompression},
	{name: "no checksums", mount: "nodatasum", without: noCompression},
	{name: "autodefrag", mount: "autodefrag,compress=lzo"},
	{name: "space cache 1", mkfs: []string{"-R", "^free-space-tree"}, mount: "space_cache=v1"},
	{name: "quotas", mkfs: []string{"-R", "quota"}},
	{name: "nothing inline", mount: "max_inline=0"},
	{name: "much inline", mount: "max_inline=4095,compress=zstd"},
}

func (v variety) make(t *testing.T) *btrfstest.FS {
	t.Helper()
	return btrfstest.New(t, btrfstest.Features(v.mkfs...), btrfstest.Devices(max(1, v.devices)), btrfstest.Prepared(v.prepared),
		btrfstest.MountOptions(strings.TrimSuffix("noatime,"+v.mount, ",")), btrfstest.Size(768<<20))
}

// TestVarieties takes the same random snapshots from every other kind of btrfs to
// the next one in the list, in full and as increments, and gives them back to where
// they came from: each kind sends, and each receives. With BUTTERSINK_ENDURANCE it
// is every kind.
func TestVarieties(t *testing.T) {
	step := 2
	if times(t, 1) > 1 {
		step = 1
	}
	for i := 0; i < len(varieties); i += step {
		from := varieties[i]
		to := varieties[(i+1)%len(varieties)]
		t.Run(from.name+" to "+to.name, func(t *testing.T) { between(t, uint64(i)+1, from, to) })
	}
}

func between(t *testing.T, seed uint64, from, to variety) {
	t.Parallel()
	s := newScene(t, from.make(t), to.make(t))
	live := s.src.Subvolume("live")
	tree := btrfstest.NewTree(t, live, seed, btrfstest.Extra(40), btrfstest.Without(append(from.without, to.without...)...))
	tree.Fill()
	for i := range 5 {
		if i > 0 {
			tree.Mutate()
		}
		s.snapshot(live, fmt.Sprintf("s%d", i))
		if i == 0 || i == 2 || i == 4 {
			s.finish()
		}
	}
	// And back, to a file system like the first.
	home := from.make(t)
	back := &scene{t: t, src: s.dst, dst: home, state: filepath.Join(t.TempDir(), "state"), wanted: s.wanted, seen: map[string]bool{}}
	r := start(t, back.state, "--json", back.from(), home.Dir+"/")
	if code := r.wait(); code != done {
		t.Fatalf("giving back ends with %d:\n%s", code, r.story())
	}
	for name := range s.wanted {
		if btrfstest.Digest(t, home.Path(name)) != s.wanted[name].digest {
			t.Errorf("%s comes back otherwise:\n%s", name, difference(t, s.src.Path("snaps/"+name), home.Path(name)))
		}
	}
}

// TestReadOnlySource takes snapshots from a file system that is mounted read-only.
func TestReadOnlySource(t *testing.T) {
	s := plain(t, 3, 1<<20)
	s.src.Remount("ro", "noatime")
	s.finish()
}
