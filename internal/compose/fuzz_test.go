package compose

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// crafted makes a tree of foreign bytes: items one behind the other, each with
// an inode number, a kind, an offset and a length in front. They are put in
// order, as the kernel would have it; all else is anyone's.
func crafted(data []byte) tree {
	kinds := []btrfs.ItemKind{btrfs.InodeItem, btrfs.InodeRef, btrfs.InodeExtref, btrfs.XattrItem, btrfs.ExtentData, 84}
	var items []btrfs.Item
	for len(data) >= 5 {
		it := btrfs.Item{Inode: 256 + uint64(data[0]%16), Kind: kinds[int(data[1])%len(kinds)], Offset: uint64(data[2])}
		switch it.Kind {
		case btrfs.InodeRef:
			it.Offset = 256 + it.Offset%16
		case btrfs.ExtentData:
			it.Offset <<= data[2] % 16
		}
		n := min(int(data[3])|int(data[4])<<8, len(data)-5)
		it.Data, data = data[5:5+n], data[5+n:]
		items = append(items, it)
	}
	slices.SortStableFunc(items, func(a, b btrfs.Item) int {
		return cmp.Or(cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Offset, b.Offset))
	})
	some := func(keep func(btrfs.Item) bool) iter.Seq2[btrfs.Item, error] {
		return func(yield func(btrfs.Item, error) bool) {
			for _, it := range items {
				if keep(it) && !yield(it, nil) {
					return
				}
			}
		}
	}
	return tree{
		name: "crafted", info: btrfs.Subvolume{UUID: btrfs.UUID{1}, Ctransid: 7}, sector: 4096,
		bound: func() (uint64, error) { return 512, nil },
		search: func(int) func(first, last uint64) iter.Seq2[btrfs.Item, error] {
			return func(first, last uint64) iter.Seq2[btrfs.Item, error] {
				return some(func(it btrfs.Item) bool { return first <= it.Inode && it.Inode <= last })
			}
		},
		single: func(ino uint64, first, last btrfs.ItemKind) iter.Seq2[btrfs.Item, error] {
			return some(func(it btrfs.Item) bool { return it.Inode == ino && it.Kind >= first && it.Kind <= last })
		},
	}
}

// item makes one item of what crafted reads.
func item(ino byte, kind int, offset byte, data []byte) []byte {
	return append([]byte{ino, byte(kind), offset, byte(len(data)), byte(len(data) >> 8)}, data...)
}

func inodeData(mode uint32, links uint32, size uint64) []byte {
	b := make([]byte, 160)
	binary.LittleEndian.PutUint64(b, 5)
	binary.LittleEndian.PutUint64(b[16:], size)
	binary.LittleEndian.PutUint32(b[40:], links)
	binary.LittleEndian.PutUint32(b[52:], mode)
	return b
}

func refData(name string) []byte {
	b := binary.LittleEndian.AppendUint16(make([]byte, 8), uint16(len(name)))
	return append(b, name...)
}

func extentData(kind, compression byte, numbers ...uint64) []byte {
	b := make([]byte, 21)
	b[16], b[20] = compression, kind
	binary.LittleEndian.PutUint64(b[8:], 128<<10)
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// FuzzTree composes what a crafted file system could hold. It is refused, or
// becomes a stream that a reader takes.
func FuzzTree(f *testing.F) {
	root := slices.Concat(item(0, 0, 0, inodeData(typeDir|0o755, 1, 0)), item(0, 1, 0, refData("..")))
	file := func(ino byte, name string, size uint64) []byte {
		return slices.Concat(item(ino, 0, 0, inodeData(typeFile|0o644, 1, size)), item(ino, 1, 0, refData(name)))
	}
	f.Add(root)
	f.Add(slices.Concat(root, file(1, "a", 10_000), item(1, 4, 0, extentData(1, 0, 1<<20, 12<<10, 0, 12<<10)),
		file(2, "b", 10_000), item(2, 4, 0, extentData(1, 0, 1<<20, 12<<10, 0, 12<<10))))
	f.Add(slices.Concat(root, file(1, "a", 100_000), item(1, 4, 0, extentData(1, 3, 1<<20, 8<<10, 4096, 100<<10))))
	f.Add(slices.Concat(root, file(1, "inline", 3), item(1, 4, 0, append(extentData(0, 0), "abc"...))))
	f.Add(slices.Concat(root, item(1, 0, 0, inodeData(typeLink|0o777, 1, 3)), item(1, 1, 0, refData("link")), item(1, 4, 0, append(extentData(0, 0), "abc"...))))
	// Directories in each other.
	f.Add(slices.Concat(root, item(1, 0, 0, inodeData(typeDir, 1, 0)), item(1, 1, 2, refData("a")), item(2, 0, 0, inodeData(typeDir, 1, 0)), item(2, 1, 1, refData("b"))))
	xattr := make([]byte, 30)
	xattr[25], xattr[27] = 5, 15
	f.Add(slices.Concat(root, file(1, "a", 0), item(1, 3, 9, append(xattr, "user.attributesvalue"...))))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, form := range all {
			o, err := form.o.checked()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			deliver := func(b *batch) (*batch, error) {
				if out.Len()+b.size > 4<<20 {
					return nil, errStopped // sparse, and very long
				}
				at := out.Len()
				done := 0
				for i := range b.fills {
					x := &b.fills[i]
					out.Write(b.script[done:x.at])
					done = x.at
					filled(t, &out, b.paths[x.path:x.pathEnd], x, o.Protocol)
				}
				out.Write(b.script[done:])
				if n := out.Len() - at; n != b.size {
					t.Fatalf("a batch of %d bytes says that it has %d", n, b.size)
				}
				if b.size > batchSize+1<<20 {
					t.Fatalf("a batch of %d bytes", b.size)
				}
				b.reset()
				return b, nil
			}
			if err := newComposer(context.Background(), crafted(data), o, deliver).compose(&batch{}); err != nil {
				continue
			}
			if _, _, err := stream.Verify(bytes.NewReader(out.Bytes())); err != nil {
				t.Fatalf("%s: %v", form.name, err)
			}
		}
	})
}

// filled does with zeros what a worker does with data.
func filled(t *testing.T, out *bytes.Buffer, path []byte, f *fill, protocol uint32) {
	put := func(c *stream.Command) {
		frame, err := stream.Append(nil, protocol, c)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(frame)
	}
	if f.stored > 0 {
		put(&stream.Command{
			Kind: stream.EncodedWrite, Path: path, FileOffset: f.offset, UnencodedFileLen: f.length,
			UnencodedLen: f.decoded, UnencodedOffset: f.decodedOffset, Compression: f.compression, Data: make([]byte, f.stored),
		})
		return
	}
	for offset, rest := f.offset, f.length; rest > 0; {
		n := min(rest, uint64(stream.MaxWrite(protocol)))
		put(&stream.Command{Kind: stream.Write, Path: path, FileOffset: offset, Data: make([]byte, n)})
		offset, rest = offset+n, rest-n
	}
}
