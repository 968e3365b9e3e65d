package btrfstest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Feature is something a tree can be made to do without.
type Feature string

// The features. RootInheritance deserves a word: `btrfs receive` creates
// everything in the root of the subvolume under a temporary name and renames it
// to its place, so whatever the root hands down to new entries (a default ACL, a
// compression property) ends up on each of them. Leave it out when btrfs receive
// is the judge of a comparison. The other defect of btrfs receive, the root's
// modification time after an increment that moves things through the root, is
// left out by the digest option WithoutRootTime. Compression must be left out on
// a mount with nodatasum or nodatacow, which refuses the property.
//
// InlineTails is for a defect of the sending side, seen on Linux 6.18: where a
// compressed inline extent is followed by another extent, an incremental stream
// of version 2 with compressed data holds the inline bytes alone, and the rest
// of the first sector, which reads as zeros at the source, keeps what it held at
// the receiver. Leave it out where that is not what is tested.
const (
	HardLinks       Feature = "hard links"
	ManyLinks       Feature = "so many hard links that they need extended references"
	Reflinks        Feature = "reflinks: whole, in part, within a file"
	InlineTails     Feature = "reflinks into a small file, behind its inline extent"
	Sparse          Feature = "sparse files"
	Prealloc        Feature = "preallocated extents, also beyond the end"
	Holes           Feature = "punched holes"
	BigFiles        Feature = "files of several MiB"
	UserXattrs      Feature = "xattrs of the user namespace"
	TrustedXattrs   Feature = "xattrs of the trusted namespace"
	SecurityXattrs  Feature = "xattrs of the security namespace"
	ACLs            Feature = "POSIX access ACLs"
	DefaultACLs     Feature = "POSIX default ACLs of directories"
	Capabilities    Feature = "file capabilities"
	Fifos           Feature = "fifos"
	Sockets         Feature = "sockets"
	DeviceNodes     Feature = "device nodes"
	Symlinks        Feature = "symbolic links"
	OddNames        Feature = "names that break naive code"
	DeepPaths       Feature = "paths of more than 40 levels"
	OddModes        Feature = "setuid, setgid, sticky, mode 0"
	Owners          Feature = "owners other than root"
	OddTimes        Feature = "times before 1970 and after 2106, nanoseconds"
	Compression     Feature = "the property btrfs.compression"
	RootInheritance Feature = "a root that hands down a default ACL or a compression (some seeds)"
	RootChanges     Feature = "changes of the root's own mode, owner, xattrs and time"
)

// maxPath bounds the length of a path below the tree's directory. btrfs send
// refuses paths of 4096 bytes, and btrfs receive puts its own directory before.
const maxPath = 3500

// A Tree fills a directory with random entries and changes them. What it does
// depends only on the seed, the options and the calls made: two trees of the
// same seed have equal digests, times included. The test fails if the file
// system refuses anything.
type Tree struct {
	Dir string

	// Done counts what has been made and done so far, by the name of the kind of
	// entry or mutation.
	Done map[string]int

	t       testing.TB
	seed    uint64
	rng     *rand.Rand
	without map[Feature]bool
	size    int
	serial  int      // makes names unique
	clock   int64    // the next plain time
	nodes   []node   // what walk last saw; nil if it must look again
	dirs    []string // for anyDir; nil if a walk must find them
	root    rootKind // what the root hands down
}

// implied tells which features cannot do without which others.
var implied = map[Feature]Feature{Reflinks: InlineTails, HardLinks: ManyLinks, ACLs: DefaultACLs}

// rootKind is the xattr that makes a root hand something down.
type rootKind struct {
	xattr   string
	feature Feature
}

// rootKinds are by the lowest bits of the seed.
var rootKinds = [8]rootKind{1: {aclDefault, DefaultACLs}, 3: {compressionProperty, Compression}, 6: {aclDefault, DefaultACLs}}

// A TreeOption changes what a Tree makes.
type TreeOption func(*Tree)

// Without leaves features out. Reflinks takes InlineTails with it, HardLinks takes ManyLinks with it, ACLs takes
// DefaultACLs, and the root hands down nothing that is left out.
func Without(features ...Feature) TreeOption {
	return func(tr *Tree) {
		for _, f := range features {
			tr.without[f] = true
		}
	}
}

// Extra sets how many entries Fill makes beyond one of each kind, and about
// how many Mutate keeps. The default is 100, which takes some 10 MiB.
func Extra(n int) TreeOption { return func(tr *Tree) { tr.size = n } }

// NewTree prepares a tree in a directory of a btrfs, normally an empty
// subvolume. Nothing is written before Fill. Whatever else is put there later
// may be changed too, so keep snapshots elsewhere.
func NewTree(t testing.TB, dir string, seed uint64, opts ...TreeOption) *Tree {
	t.Helper()
	tr := &Tree{
		Dir: dir, Done: map[string]int{},
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), without: map[Feature]bool{},
		size: 100, clock: 1_000_000_000,
	}
	for _, o := range opts {
		o(tr)
	}
	for f, also := range implied {
		if !tr.has(f) {
			tr.without[also] = true
		}
	}
	if kind := rootKinds[seed%8]; tr.has(RootInheritance) && tr.has(kind.feature) {
		tr.root = kind
	}
	return tr
}

func (tr *Tree) has(f Feature) bool { return !tr.without[f] }

// Fill makes at least one entry of every kind, and more at random, and one
// round of changes to the root.
func (tr *Tree) Fill() {
	tr.t.Helper()
	start := time.Now()
	tr.moved()
	early := tr.chance(2)
	if early {
		tr.dressRoot()
	}
	for range 6 + tr.rng.IntN(6) {
		tr.makeDir(tr.anyDir())
	}
	kinds := slices.Clone(tr.kinds())
	tr.rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, k := range kinds {
		tr.make(k)
	}
	for range tr.size {
		tr.make(tr.pickKind())
	}
	if !early {
		tr.dressRoot()
	}
	tr.settle(start)
}

// make makes one entry of a kind in a random directory.
func (tr *Tree) make(k kind) {
	tr.t.Helper()
	k.make(tr, tr.anyDir())
	tr.Done[k.name]++
}

// dressRoot gives the root metadata of its own.
func (tr *Tree) dressRoot() {
	tr.t.Helper()
	if tr.has(RootChanges) {
		tr.dress("")
		if tr.has(OddTimes) {
			tr.setTime("")
		}
	}
	switch tr.root.xattr {
	case aclDefault:
		tr.setxattr("", aclDefault, tr.acl(false)) // one that names someone, so that it shows
	case compressionProperty:
		tr.setxattr("", compressionProperty, []byte(pick(tr, "zstd", "lzo", "zlib")))
	}
}

// settle gives every entry that the kernel has stamped with the present time
// since start a time that depends on the seed instead. The times that a tree
// gives to its entries itself are never near the present.
func (tr *Tree) settle(start time.Time) {
	tr.t.Helper()
	tr.moved()
	from, to := start.Add(-time.Second).Unix(), time.Now().Add(time.Second).Unix()
	for _, n := range tr.walk() {
		if s := tr.lstat(n.path).Mtim.Sec; from <= s && s <= to {
			tr.setTime(n.path)
		}
	}
}

// setTime sets the modification time of an entry: plain, or odd one time in
// four.
func (tr *Tree) setTime(path string) {
	tr.t.Helper()
	tr.clock += 1 + tr.rng.Int64N(100)
	mtime := unix.Timespec{Sec: tr.clock, Nsec: tr.rng.Int64N(1_000_000_000)}
	if tr.has(OddTimes) && tr.chance(4) {
		mtime = pick(tr, oddTimes...)
	}
	atime := unix.Timespec{Sec: tr.clock - 1}
	tr.check("setting times of", path, unix.UtimesNanoAt(unix.AT_FDCWD, tr.abs(path), []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW))
}

// A node is an entry of the tree as it stands on the file system.
type node struct {
	path string // below Dir, "" for the root
	kind uint32 // the type bits of the mode
}

func (n node) isFile() bool { return n.kind == unix.S_IFREG }
func (n node) isDir() bool  { return n.kind == unix.S_IFDIR }

// walk lists the tree, the root first, in an order that depends on the names
// alone. The file system is asked again after everything that moves or removes
// entries; what a mutation adds it need not see itself.
func (tr *Tree) walk() []node {
	tr.t.Helper()
	if tr.nodes != nil {
		return tr.nodes
	}
	nodes := []node{{"", unix.S_IFDIR}}
	for i := 0; i < len(nodes); i++ {
		if !nodes[i].isDir() {
			continue
		}
		dir := nodes[i].path
		entries, err := os.ReadDir(tr.abs(dir))
		tr.check("listing", dir, err)
		for _, e := range entries {
			nodes = append(nodes, node{join(dir, e.Name()), kindOf(e.Type())})
		}
	}
	tr.nodes = nodes
	return nodes
}

// moved makes walk and anyDir look again.
func (tr *Tree) moved() { tr.nodes, tr.dirs = nil, nil }

func kindOf(mode os.FileMode) uint32 {
	switch {
	case mode.IsDir():
		return unix.S_IFDIR
	case mode&os.ModeSymlink != 0:
		return unix.S_IFLNK
	case mode.IsRegular():
		return unix.S_IFREG
	default:
		return 0 // fifos, sockets and devices are handled alike
	}
}

// lstat looks at one entry.
func (tr *Tree) lstat(path string) unix.Stat_t {
	tr.t.Helper()
	var st unix.Stat_t
	tr.check("looking at", path, unix.Lstat(tr.abs(path), &st))
	return st
}

// anyDir returns a directory with room for long names below; the root often.
func (tr *Tree) anyDir() string {
	tr.t.Helper()
	if tr.chance(6) {
		return ""
	}
	if tr.dirs == nil {
		tr.dirs = []string{}
		for _, n := range tr.walk() {
			if n.isDir() {
				tr.noteDir(n.path)
			}
		}
	}
	return pick(tr, tr.dirs...)
}

// noteDir remembers a directory for anyDir, unless its path is too long to make
// much below it.
func (tr *Tree) noteDir(path string) {
	if tr.dirs != nil && len(path) < maxPath-600 {
		tr.dirs = append(tr.dirs, path)
	}
}

func (tr *Tree) abs(path string) string {
	if path == "" {
		return tr.Dir
	}
	return tr.Dir + "/" + path
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

func (tr *Tree) exists(path string) bool {
	_, err := os.Lstat(tr.abs(path))
	return !errors.Is(err, os.ErrNotExist)
}

// check fails the test with the tree's seed, so that it can be run again.
func (tr *Tree) check(doing, path string, err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatalf("tree of seed %d: %s %q: %v", tr.seed, doing, path, err)
	}
}

// chance is true one time in n.
func (tr *Tree) chance(n int) bool { return tr.rng.IntN(n) == 0 }

// between returns a number from lo to hi, both included.
func (tr *Tree) between(lo, hi int) int { return lo + tr.rng.IntN(hi-lo+1) }

func pick[T any](tr *Tree, of ...T) T { return of[tr.rng.IntN(len(of))] }

// content returns n bytes of one of several kinds.
func (tr *Tree) content(n int) []byte {
	switch tr.rng.IntN(6) {
	case 0, 1:
		return tr.noise(n)
	case 2:
		return bytes.Repeat([]byte{byte(tr.rng.Uint32())}, n)
	default:
		return tr.prose(n)
	}
}

// noise does not compress.
func (tr *Tree) noise(n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		x := tr.rng.Uint64()
		for j := range 8 {
			b[i+j] = byte(x >> (8 * j))
		}
	}
	return b[:n]
}

// prose compresses to about a third.
func (tr *Tree) prose(n int) []byte {
	b := make([]byte, 0, n+16)
	for len(b) < n {
		word := tr.rng.Uint64()
		for range 2 + word%6 {
			b = append(b, "etaoinshrdlucmfw"[word>>8%16])
			word >>= 5
		}
		b = append(b, ' ')
	}
	return b[:n]
}
