package compose

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/stream"
)

func TestMain(m *testing.M) {
	flag.Parse()
	btrfstest.ServeDisks()
	goleak.VerifyTestMain(m)
}

func opened(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// composed returns the whole stream of a snapshot, which has to be sound and as
// long as Measure says.
func composed(t testing.TB, snapshot string, o Options) []byte {
	t.Helper()
	f := opened(t, snapshot)
	defer f.Close()
	in, err := Send(context.Background(), f, o)
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
	length, err := Measure(context.Background(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	if length != int64(len(out)) {
		t.Errorf("%+v: measured %d bytes, the stream has %d", o, length, len(out))
	}
	return out
}

// received lets our receiver carry out a stream, and returns where.
func received(t testing.TB, fs *btrfstest.FS, dir, name string, in []byte) string {
	t.Helper()
	path := fs.Path(dir)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	on, err := btrfs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	d := opened(t, path)
	defer d.Close()
	r := replay.New(replay.Options{Filesystem: on, Dir: d, Name: name})
	ctx := context.Background()
	if err := r.Receive(ctx, stream.NewReader(bytes.NewReader(in))); err != nil {
		r.Abandon()
		t.Fatalf("receiving %s: %v", name, err)
	}
	if _, err := r.Commit(ctx); err != nil {
		t.Fatalf("receiving %s: %v", name, err)
	}
	return path + "/" + name
}

func same(t testing.TB, what, a, b string) {
	t.Helper()
	if diff := btrfstest.Diff(t, a, b); diff != "" {
		t.Errorf("%s: differs from the source:\n%.3000s", what, diff)
	}
}

var all = []struct {
	name string
	o    Options
	send []string // the same to the kernel
}{
	{"v1", Options{Protocol: 1}, []string{"--proto", "1"}},
	{"v2", Options{Protocol: 2}, []string{"--proto", "2"}},
	{"v2c", Options{Protocol: 2, Compressed: true}, []string{"--proto", "2", "--compressed-data"}},
}

var (
	snapshots = flag.Int("snapshots", 8, "number of random snapshots to send")
	firstSeed = flag.Uint64("seed", 0, "seed of the first of them")
)

// TestRandomTrees sends random snapshots in every form, and receives them here
// and with btrfs receive; then come increments, made by the kernel.
func TestRandomTrees(t *testing.T) {
	btrfstest.Require(t)
	mounts := []string{"noatime", "compress=zstd", "compress=lzo", "compress=zlib", "compress-force=zstd", "compress-force=lzo", "max_inline=0", "compress-force=zlib,max_inline=4095"}
	for i := range *snapshots / 2 {
		seed := *firstSeed + uint64(i)
		mount := mounts[seed%uint64(len(mounts))]
		t.Run(fmt.Sprintf("%d %s", seed, mount), func(t *testing.T) {
			t.Parallel()
			origin := btrfstest.New(t, btrfstest.MountOptions(mount), btrfstest.Size(1<<30))
			copies := btrfstest.New(t, btrfstest.Size(2<<30))
			live := origin.Subvolume("live")
			tree := btrfstest.NewTree(t, live, seed, btrfstest.Extra(int(20+seed*7%80)))
			tree.Fill()
			for range seed % 4 {
				tree.Mutate()
			}
			one := origin.Snapshot("live", "one", true)
			tree.Mutate()
			two := origin.Snapshot("live", "two", true)
			for _, form := range all {
				for _, snapshot := range []string{one, two} {
					name := snapshot[len(snapshot)-3:]
					in := composed(t, snapshot, form.o)
					same(t, form.name+" "+name, snapshot, received(t, copies, "ours "+form.name, name, in))
					dir := "theirs " + form.name
					if err := os.MkdirAll(copies.Path(dir), 0o755); err != nil {
						t.Fatal(err)
					}
					same(t, form.name+" "+name+" by btrfs receive", snapshot, copies.MustReceive(dir, name, in))
				}
			}
			increment := origin.Send(two, "-p", one)
			same(t, "increment", two, received(t, copies, "increment", "two", increment))
		})
	}
}
