package replay

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

var keepExtents = flag.Bool("keep-extents", false, "write some compressed extents to the fuzzing corpus")

// Extents as the kernel compressed them, of many lengths and contents, inline
// ones too, decompress to the file's content.
func TestDecompressWhatTheKernelCompressed(t *testing.T) {
	for _, option := range []string{"zlib:1", "zlib:9", "lzo", "zstd:1", "zstd:15"} {
		t.Run(option, func(t *testing.T) {
			src := btrfstest.New(t, btrfstest.MountOptions("compress-force="+option))
			live := src.Subvolume("live")
			tree := btrfstest.NewTree(t, live, 3, btrfstest.Extra(1), btrfstest.Without(btrfstest.Compression, btrfstest.RootInheritance))
			tree.Fill()
			for i, n := range []int{1, 100, 2000, 2048, 4095, 4096, 4097, 5000, 65536, 131071, 131072, 131073, 200001, 1 << 20} {
				name := live + "/" + string(rune('a'+i))
				write(t, name+".same", strings.Repeat("a", n))
				write(t, name+".text", strings.Repeat("All work and no play makes Jack a dull boy.\n", n/44+1)[:n])
				mixed := []byte(strings.Repeat("x", n))
				for j := range mixed {
					if j/3000%2 == 0 {
						mixed[j] = byte(j * j * 7919 >> 5)
					}
				}
				write(t, name+".mixed", string(mixed))
			}
			// The tail of an extent that was cut, and one that is read in part.
			if err := unix.Truncate(live+"/n.text", 300_001); err != nil {
				t.Fatal(err)
			}
			src.Sync()
			snapshot := src.Snapshot("live", "snapshot", true)
			in := sendByIoctl(t, shape{protocol: 2, compress: true}, snapshot, "")
			kinds := map[uint32]int{}
			r := stream.NewReader(bytes.NewReader(in))
			for {
				c, err := r.Next()
				if err != nil {
					break
				}
				if c.Kind == stream.EncodedWrite {
					kinds[c.Compression]++
					if *keepExtents && len(c.Data) < 10000 && kinds[c.Compression]%20 == 1 {
						write(t, fmt.Sprintf("testdata/extents/%d.%d", c.Compression, len(c.Data)), string(c.Data))
					}
				}
			}
			if len(kinds) != 1 {
				t.Fatalf("the stream has extents of kinds %v", kinds)
			}
			b := newBench(t, btrfstest.New(t), "in")
			b.decompress = true
			b.must("x", in)
			same(t, "decompressed", snapshot, b.path("x"))
		})
	}
}

func TestDecodeNonsense(t *testing.T) {
	var d decoder
	defer d.close()
	for kind := range uint32(10) {
		for _, in := range []string{"", "x", "\x04\x00\x00\x00", "\xff\xff\xff\xff\xff\xff", "\x0c\x00\x00\x00\x04\x00\x00\x00abcd", "\x28\xb5\x2f\xfd", "\x78\x9c"} {
			if _, err := d.decode(kind, []byte(in), 4096); err == nil && kind != compressNone && in != "\x04\x00\x00\x00" {
				t.Errorf("kind %d: %q was decompressed", kind, in)
			}
		}
		if _, err := d.decode(kind, []byte("x"), maxUnencoded+1); !errors.Is(err, errCorrupt) {
			t.Errorf("kind %d: too long: %v", kind, err)
		}
	}
}

// FuzzDecode feeds the decompressors, of which one is foreign code, with bytes
// that nobody checks before. The corpus has extents of the kernel's.
func FuzzDecode(f *testing.F) {
	corpus, _ := os.ReadDir("testdata/extents")
	for _, e := range corpus {
		data, err := os.ReadFile("testdata/extents/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(e.Name()[0]-'0'), data, 1<<17)
	}
	f.Add(uint32(compressZlib), []byte("x\x9cKL\x04\x02\x00\x05\xb8\x01\xdc"), 100)
	f.Fuzz(func(t *testing.T, kind uint32, data []byte, n int) {
		if n < 0 || n > maxUnencoded {
			return
		}
		var d decoder
		defer d.close()
		out, err := d.decode(kind, data, n)
		if err == nil && len(out) != n {
			t.Errorf("%d bytes, not %d", len(out), n)
		}
		// The buffer is used again.
		again, err2 := d.decode(kind, data, n)
		if (err == nil) != (err2 == nil) || !bytes.Equal(out, again) {
			t.Error("the second time differs")
		}
	})
}
