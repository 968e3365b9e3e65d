package replay

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

var (
	sequences = flag.Int("sequences", 40, "number of random sequences of snapshots to receive")
	firstSeed = flag.Uint64("seed", 0, "seed of the first sequence")
)

// shape is how streams are made and where they go.
type shape struct {
	name     string
	source   string // mount options
	dest     string
	protocol uint32
	compress bool // send compressed extents
	force    bool // and decompress them
	without  []btrfstest.Feature
}

var shapes = []shape{
	{name: "v1", source: "noatime", dest: "noatime", protocol: 1},
	{name: "v2", source: "relatime", dest: "relatime,compress=zstd", protocol: 2},
	{name: "v2 zstd", source: "compress=zstd", dest: "noatime", protocol: 2, compress: true},
	{name: "v1 from lzo", source: "compress=lzo", dest: "compress=zlib", protocol: 1},
	{name: "v2 lzo", source: "compress-force=lzo", dest: "strictatime", protocol: 2, compress: true},
	{name: "v2 zlib", source: "compress=zlib", dest: "noatime", protocol: 2, compress: true},
	{name: "v2 zstd, decompressed", source: "compress-force=zstd:3", dest: "noatime", protocol: 2, compress: true, force: true},
	{name: "v2 lzo, decompressed", source: "compress=lzo", dest: "noatime", protocol: 2, compress: true, force: true},
	{name: "v2 zlib, decompressed", source: "compress-force=zlib", dest: "noatime", protocol: 2, compress: true, force: true},
	// What is not copied on write can be neither compressed nor a clone of what is.
	{name: "v2 to nodatacow", source: "compress=zstd", dest: "nodatacow", protocol: 2, compress: true, without: []btrfstest.Feature{btrfstest.Compression, btrfstest.RootInheritance}},
}

// TestSequences receives random sequences of snapshots, next to btrfs receive,
// compares all that comes out, and sends it back.
func TestSequences(t *testing.T) {
	btrfstest.Require(t)
	for i := range *sequences {
		seed := *firstSeed + uint64(i)
		s := shapes[seed%uint64(len(shapes))]
		t.Run(fmt.Sprintf("%d %s", seed, s.name), func(t *testing.T) {
			t.Parallel()
			sequence(t, s, seed)
		})
	}
}

func sequence(t *testing.T, s shape, seed uint64) {
	origin := btrfstest.New(t, btrfstest.MountOptions(s.source), btrfstest.Size(1<<30))
	copies := btrfstest.New(t, btrfstest.MountOptions(s.dest), btrfstest.Size(1<<30))
	other := btrfstest.New(t, btrfstest.MountOptions(s.dest), btrfstest.Size(1<<30))
	// The kernel makes the same stream for both; it is asked in both ways.
	send := func(fs *btrfstest.FS, snapshot, parent string, also ...string) []byte {
		if seed/uint64(len(shapes))%2 == 0 {
			return sendByProgram(fs, s, snapshot, parent, also...)
		}
		return sendByIoctl(t, s, snapshot, parent, also...)
	}

	b := newBench(t, copies, "ours")
	b.decompress = s.force
	progs := newBench(t, other, "theirs")
	live := origin.Subvolume("live")
	without := s.without
	if s.compress {
		// Such streams do not always say how long a file is after fallocate
		// (TestGrownInlineExtent).
		without = append([]btrfstest.Feature{btrfstest.Prealloc}, without...)
	}
	tree := btrfstest.NewTree(t, live, seed, btrfstest.Extra(int(20+seed%60)), btrfstest.Without(without...))
	var snapshots []string
	lost := false // whether btrfs receive has failed, and cannot go on
	for n := range 4 {
		if n == 0 {
			tree.Fill()
		} else {
			tree.Mutate()
		}
		name := fmt.Sprintf("s%d", n)
		snapshot := origin.Snapshot("live", name, true)
		var in []byte
		switch n {
		case 0:
			in = send(origin, snapshot, "")
		case 3:
			in = send(origin, snapshot, snapshots[1], snapshots[2])
		default:
			in = send(origin, snapshot, snapshots[n-1])
		}
		snapshots = append(snapshots, snapshot)

		result := b.must(name, in)
		same(t, "ours", snapshot, b.path(name))
		checkResult(t, result, b.info(name), infoOf(t, snapshot))
		if lost {
			continue
		}
		if err := other.Receive("theirs", bytes.NewReader(in)); err != nil {
			t.Logf("btrfs receive of %s: %v", name, err)
			lost = true
			continue
		}
		theirs := progs.info(name)
		if theirs.ReceivedUUID != result.ReceivedUUID || theirs.Stransid != result.Stransid {
			t.Errorf("%s: received as %s, %d, by btrfs receive as %s, %d", name,
				result.ReceivedUUID, result.Stransid, theirs.ReceivedUUID, theirs.Stransid)
		}
		// Besides the root's time, btrfs receive gets three things wrong: what
		// the root hands down, as it does in three of eight seeds; what follows
		// an inline extent (TestInlineTail); and set-user-ID bits
		// (TestOwnerChangesAlone). For the last two it is excused.
		if seed%8 == 1 || seed%8 == 3 || seed%8 == 6 {
			continue
		}
		if diff := btrfstest.Diff(t, progs.path(name), b.path(name), btrfstest.WithoutRootTime()); diff != "" {
			if !s.compress && !strings.Contains(diff, " mode ") {
				t.Errorf("%s: btrfs receive and we differ:\n%.2000s", name, diff)
			}
			t.Logf("%s: btrfs receive differs from the source", name)
		}
	}
	if t.Failed() {
		return
	}
	third := btrfstest.New(t, btrfstest.MountOptions(s.source), btrfstest.Size(1<<30))
	backAndForth(t, without, seed, origin, third, b, send)
}

// backAndForth restores the last copy to a third file system, goes on working
// there, and receives the increment where the copies are, and on the file
// system of the originals.
func backAndForth(t *testing.T, without []btrfstest.Feature, seed uint64, origin, third *btrfstest.FS, b *bench,
	send func(fs *btrfstest.FS, snapshot, parent string, also ...string) []byte,
) {
	restored := newBench(t, third, "restored")
	was := b.path("s3")
	result := restored.must("s3", send(origin, was, ""))
	same(t, "restored", origin.Path("s3"), restored.path("s3"))
	if original := infoOf(t, origin.Path("s3")); result.ReceivedUUID != original.UUID {
		t.Errorf("restored as %s, not as %s", result.ReceivedUUID, original.UUID)
	}

	live := third.Snapshot(restored.path("s3"), "live", false)
	tree := btrfstest.NewTree(t, live, seed+1_000_000, btrfstest.Extra(20), btrfstest.Without(append(without, btrfstest.RootInheritance)...))
	tree.Mutate()
	next := third.Snapshot("live", "s4", true)
	in := send(third, next, restored.path("s3"))
	b.must("s4", in)
	same(t, "increment on the copy", next, b.path("s4"))
	home := newBench(t, origin, "home")
	home.must("s4", in)
	same(t, "increment on the original", next, home.path("s4"))

	tree.Mutate()
	last := third.Snapshot("live", "s5", true)
	in = send(third, last, next)
	b.must("s5", in)
	home.must("s5", in)
	same(t, "second increment on the copy", last, b.path("s5"))
	same(t, "second increment on the original", last, home.path("s5"))
}

func checkResult(t *testing.T, r Result, got, source btrfs.Subvolume) {
	t.Helper()
	want := source.UUID
	if !source.ReceivedUUID.IsZero() {
		want = source.ReceivedUUID
	}
	if r.ReceivedUUID != want || r.Stransid != source.Ctransid {
		t.Errorf("received as %s, %d; sent was %s, %d", r.ReceivedUUID, r.Stransid, want, source.Ctransid)
	}
	if r != (Result{UUID: got.UUID, ReceivedUUID: got.ReceivedUUID, Stransid: got.Stransid, Rtransid: got.Rtransid}) {
		t.Errorf("the result is %+v, the subvolume %+v", r, got)
	}
	if !got.ReadOnly {
		t.Error("the snapshot is writable")
	}
	if got.Ctransid > got.Rtransid {
		t.Errorf("changed in transaction %d, received in %d", got.Ctransid, got.Rtransid)
	}
}

func sendByProgram(fs *btrfstest.FS, s shape, snapshot, parent string, also ...string) []byte {
	args := []string{"--proto", fmt.Sprint(s.protocol)}
	if s.compress {
		args = append(args, "--compressed-data")
	}
	if parent != "" {
		args = append(args, "-p", parent)
	}
	for _, a := range also {
		args = append(args, "-c", a)
	}
	return fs.Send(snapshot, args...)
}

func sendByIoctl(t *testing.T, s shape, snapshot, parent string, also ...string) []byte {
	t.Helper()
	o := btrfs.SendOptions{Protocol: s.protocol, Compressed: s.compress}
	if parent != "" {
		o.Parent = infoOf(t, parent).ID
	}
	for _, a := range also {
		o.CloneSources = append(o.CloneSources, infoOf(t, a).ID)
	}
	f, err := os.Open(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := btrfs.Send(context.Background(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := stream.Verify(bytes.NewReader(out)); err != nil {
		t.Fatal(err)
	}
	return out
}
