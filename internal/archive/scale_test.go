package archive

import (
	"flag"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

var scale = flag.Int("scale", 100_000, "how many keys the test of memory lists")

// TestMemory: what is held of an archive after a listing is what the package's
// documentation says, and grows with the number of streams only.
func TestMemory(t *testing.T) {
	perEdge := func(keys int) float64 {
		bucket := newMemoryBucket()
		for i := range keys / 2 {
			n := uint64(i)*0x9e3779b97f4a7c15 | 1 // identities have no order
			e := snapshot.Edge{To: ident(n)}
			if i%100 > 0 {
				e.From = ident(uint64(i-1)*0x9e3779b97f4a7c15 | 1)
			}
			key := streamKey("backups", fmt.Sprintf("machine-%02d/home/2026-11-%06d", i%20, i), e, forms[3])
			bucket.objects[key] = memoryObject{size: int64(i + 1), tag: md5Hex([]byte(key)) + "-7", modified: bucket.clock}
			bucket.objects[manifestKey(key)] = memoryObject{size: 900, tag: md5Hex([]byte(key)), modified: bucket.clock}
		}
		s := open(t, bucket, "backups")
		if _, _, err := s.scan(t.Context()); err != nil { // so that the bucket has put its keys in order
			t.Fatal(err)
		}
		before := held()
		began := time.Now()
		_, c, err := s.scan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		s.learn(c, 0)
		after := held()
		if n := len(s.known.entries); n != keys/2 {
			t.Fatalf("%d of %d streams are known", n, keys/2)
		}
		for i := range s.known.entries {
			if e := &s.known.entries[i]; !e.has(flagDescribed) || e.odd != nil {
				t.Fatalf("%+v", e)
			}
		}
		each := float64(after-before) / float64(keys/2)
		t.Logf("%d keys: %.0f bytes are held for each stream; %s", keys, each, took)
		runtime.KeepAlive(bucket)
		return each
	}
	small, large := perEdge(*scale/10), perEdge(*scale)
	// Sizes of allocations are rounded, and so are those of the table of entries.
	if bound := 220.0; large > bound || large > 1.3*small {
		t.Errorf("%.0f bytes for each stream, and %.0f where there are ten times as many", small, large)
	}
}

// TestMemoryOfTombstones: so is what is held of tombstones, and while the trash is
// emptied.
func TestMemoryOfTombstones(t *testing.T) {
	bucket := newMemoryBucket()
	n := *scale / 20
	for i := range n {
		e := snapshot.Edge{To: ident(uint64(i)*0x9e3779b97f4a7c15 | 1)}
		key := streamKey("backups", fmt.Sprintf("machine-%02d/home/2026-11-%06d", i%20, i), e, forms[3])
		bucket.objects[key] = inClass(memoryObject{size: int64(i + 1), tag: md5Hex([]byte(key)) + "-7", modified: bucket.clock}, "GLACIER")
		bucket.objects[tombKey(key)] = memoryObject{size: 120, tag: md5Hex([]byte(key)), modified: bucket.clock}
	}
	s := open(t, bucket, "backups")
	if _, _, err := s.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := held()
	mustList(t, s)
	listed := held()
	x := trashOf(t, s)[0]
	if err := s.expendable(t.Context(), x.Handle, s.stones[x.Handle].stone); err != nil {
		t.Fatal(err)
	}
	cleared := held()
	if len(s.known.tombs) != n || len(s.cleared) != n {
		t.Fatalf("%d and %d of %d tombstones are known", len(s.known.tombs), len(s.cleared), n)
	}
	one, all := float64(listed-before)/float64(n), float64(cleared-before)/float64(n)
	t.Logf("%.0f bytes are held for each tombstone, and %.0f while the trash is emptied", one, all)
	if one > 360 || all > 1000 {
		t.Error("which is more than the documentation says")
	}
	runtime.KeepAlive(bucket)
}

func ident(n uint64) (id snapshot.ID) {
	for i := range id {
		id[i] = byte(n >> (i % 8 * 8))
	}
	id[15] ^= 0x5a
	return id
}

// held is how many bytes are in use.
func held() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
