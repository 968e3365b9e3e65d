package ledger

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// BenchmarkSizes asks for the sizes of 5,000 edges in the two ways.
func BenchmarkSizes(b *testing.B) {
	const n = 5000
	path := filepath.Join(b.TempDir(), "ledger.db")
	l, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var edges []snapshot.Edge
	sizes := map[snapshot.Edge]snapshot.Size{}
	for i := range uint64(n) {
		var e snapshot.Edge
		binary.BigEndian.PutUint64(e.To[:], i*0x9e3779b97f4a7c15)
		edges = append(edges, e)
		sizes[e] = snapshot.AboutSize(int64(i))
	}
	for _, kind := range []string{"a", "b", "c"} {
		if err := l.RememberSizes(kind, sizes, noon); err != nil {
			b.Fatal(err)
		}
	}
	check := func(found map[snapshot.Edge]snapshot.Size, err error) {
		if err != nil || len(found) != n {
			b.Fatal(len(found), err)
		}
	}
	b.Run("of edges", func(b *testing.B) {
		for b.Loop() {
			check(l.Sizes("b", edges))
		}
	})
	b.Run("of a kind", func(b *testing.B) {
		for b.Loop() {
			found, _, err := l.SizesOf("b", 2*n)
			check(found, err)
		}
	})
	b.Run("opening", func(b *testing.B) {
		for b.Loop() {
			again, err := Open(path)
			if err != nil {
				b.Fatal(err)
			}
			again.Close()
		}
	})
}
