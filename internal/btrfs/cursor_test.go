package btrfs

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// makeFrame makes a command of a kind with a payload.
func makeFrame(kind uint16, payload []byte) []byte {
	head := make([]byte, frameHeaderSize)
	binary.LittleEndian.PutUint32(head, uint32(len(payload)))
	binary.LittleEndian.PutUint16(head[4:], kind)
	return append(head, payload...)
}

func makeFile(path string, ino uint64) []byte {
	var p []byte
	p = binary.LittleEndian.AppendUint16(p, 15)
	p = binary.LittleEndian.AppendUint16(p, uint16(len(path)))
	p = append(p, path...)
	p = binary.LittleEndian.AppendUint16(p, attrIno)
	p = binary.LittleEndian.AppendUint16(p, 8)
	p = binary.LittleEndian.AppendUint64(p, ino)
	return makeFrame(cmdMakeFile, p)
}

// However a stream is cut into pieces, the cursor is at the last file whose
// command has been seen whole.
func TestCursorFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := make([]byte, streamHeaderSize)
		type made struct {
			end int
			ino uint64
		}
		all := []made{{0, 0}}
		ino := uint64(256)
		for range rapid.IntRange(0, 30).Draw(t, "commands") {
			if rapid.Bool().Draw(t, "file") {
				ino += uint64(rapid.IntRange(1, 9).Draw(t, "step"))
				path := bytes.Repeat([]byte("x"), rapid.IntRange(0, 200).Draw(t, "path"))
				stream = append(stream, makeFile(string(path), ino)...)
				all = append(all, made{len(stream), ino})
			} else {
				kind := rapid.SampledFrom([]uint16{1, 4, 15, 21}).Draw(t, "kind")
				stream = append(stream, makeFrame(kind, make([]byte, rapid.IntRange(0, 300).Draw(t, "payload")))...)
			}
		}
		var c cursor
		for at := 0; at < len(stream); {
			n := min(rapid.IntRange(1, 200).Draw(t, "piece"), len(stream)-at)
			got := c.feed(stream[at : at+n])
			at += n
			want := uint64(0)
			for _, m := range all {
				if m.end <= at {
					want = m.ino
				}
			}
			if got != want {
				t.Fatalf("after %d bytes at %d, want %d", at, got, want)
			}
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(append(make([]byte, streamHeaderSize), makeFile("o257-8-0", 257)...), 7)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		if piece < 1 {
			piece = 1
		}
		var whole, cut cursor
		want := whole.feed(stream)
		got := uint64(0)
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			got = cut.feed(rest[:n])
			rest = rest[n:]
		}
		if got != want {
			t.Errorf("in pieces of %d at %d, in one at %d", piece, got, want)
		}
		if len(cut.kept) > frameHeaderSize+makeFileMax {
			t.Errorf("keeps %d bytes", len(cut.kept))
		}
	})
}
