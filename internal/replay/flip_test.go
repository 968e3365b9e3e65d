package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// Streams of the kernel's with a byte changed and the check sum put right may
// be received or refused; but nothing else changes, and what is refused leaves
// nothing behind (which bench.try sees to).
func TestFlippedBytes(t *testing.T) {
	const flips = 300
	src := btrfstest.New(t, btrfstest.MountOptions("compress=zstd"))
	tree := btrfstest.NewTree(t, src.Subvolume("live"), 11, btrfstest.Extra(30),
		btrfstest.Without(btrfstest.BigFiles, btrfstest.RootInheritance))
	tree.Fill()
	one := src.Snapshot("live", "one", true)
	for range 3 {
		tree.Mutate()
	}
	two := src.Snapshot("live", "two", true)
	s := shape{protocol: 2, compress: true}
	full, next := sendByIoctl(t, s, one, ""), sendByIoctl(t, s, two, one)

	fs := btrfstest.New(t, btrfstest.Size(2<<30))
	b := newBench(t, fs, "in")
	b.must("one", full)
	sibling := fs.Subvolume("sibling")
	btrfstest.NewTree(t, sibling, 12, btrfstest.Extra(20)).Fill()
	outside := func() string { return btrfstest.Digest(t, sibling) + btrfstest.Digest(t, b.path("one")) }
	before := outside()

	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range flips {
		in := full
		if i%3 > 0 {
			in = next
		}
		what, bad := flip(t, rng, in)
		b.decompress = i%2 == 0
		_, err := b.try("x", bytes.NewReader(bad))
		if err != nil {
			refused++
			if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EFAULT) {
				t.Errorf("%s: %v", what, err)
			}
		} else if err := btrfs.DeleteSubvolume(b.dir, "x"); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 && outside() != before {
			t.Fatalf("something outside has changed, at the latest by %s", what)
		}
	}
	t.Logf("%d of %d refused", refused, flips)
}

// flip changes a byte of a command's attributes and puts its check sum right.
// Commands of few bytes are hit as often as those of many.
func flip(t *testing.T, rng *rand.Rand, in []byte) (string, []byte) {
	t.Helper()
	var frames []stream.Command
	r := stream.NewReader(bytes.NewReader(in))
	for {
		c, err := r.Next()
		if err != nil {
			break
		}
		frames = append(frames, stream.Command{Kind: c.Kind, Offset: c.Offset, Size: uint64(len(c.Frame))})
	}
	for {
		c := frames[rng.IntN(len(frames))]
		if c.Size <= 10 {
			continue
		}
		out := bytes.Clone(in)
		frame := out[c.Offset : c.Offset+int64(c.Size)]
		at := 10 + rng.IntN(min(int(c.Size)-10, 200))
		frame[at] ^= byte(1 << rng.IntN(8))
		if rng.IntN(4) == 0 {
			frame[at] = byte(rng.IntN(256))
		}
		clear(frame[6:10])
		sum := ^crc32.Update(^uint32(0), crc32.MakeTable(crc32.Castagnoli), frame)
		binary.LittleEndian.PutUint32(frame[6:10], sum)
		return c.Kind.String(), out
	}
}
