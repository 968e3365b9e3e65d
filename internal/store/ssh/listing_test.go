package ssh

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
)

var sameInventory = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(snapshot.Inventory{})}

// someInventory makes an inventory with odd names and everything that there can be.
func someInventory(t *rapid.T) *snapshot.Inventory {
	id := func(label string) snapshot.ID {
		var id snapshot.ID
		binary.BigEndian.PutUint64(id[:], rapid.Uint64Min(1).Draw(t, label))
		return id
	}
	name := func() string { return "x" + string(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "path")) }
	text := func() string { return "w" + rapid.String().Draw(t, "text") }
	size := func() snapshot.Size {
		switch rapid.IntRange(0, 2).Draw(t, "size") {
		case 0:
			return snapshot.ExactSize(rapid.Int64Min(0).Draw(t, "bytes"))
		case 1:
			return snapshot.AboutSize(rapid.Int64Min(0).Draw(t, "bytes"))
		}
		return snapshot.Size{}
	}
	one := func() snapshot.Snapshot {
		return snapshot.Snapshot{
			ID: id("id"), Transid: rapid.Uint64().Draw(t, "transid"), Path: name(), Outside: rapid.Bool().Draw(t, "outside"),
			UUID: id("uuid"), Parent: id("parent"), Received: rapid.Bool().Draw(t, "received"), Pristine: rapid.Bool().Draw(t, "pristine"),
			Generation: rapid.Uint64().Draw(t, "generation"), Created: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "created"), 123456789),
			Trust: snapshot.Trust(rapid.IntRange(0, 2).Draw(t, "trust")), Handle: rapid.Uint64().Draw(t, "handle"), Size: size(), Exclusive: size(),
		}
	}
	inv := &snapshot.Inventory{
		Dir: name(), Lineage: map[snapshot.ID]snapshot.ID{}, Born: map[snapshot.ID]uint64{}, Occupied: map[string]string{},
	}
	seen := map[snapshot.ID]bool{}
	for range rapid.IntRange(0, 4).Draw(t, "snapshots") {
		s := one()
		for range rapid.IntRange(0, 2).Draw(t, "copies") {
			c := one()
			c.ID = s.ID
			s.Copies = append(s.Copies, c)
		}
		if !seen[s.ID] {
			inv.Snapshots = append(inv.Snapshots, s)
		}
		seen[s.ID] = true
	}
	for range rapid.IntRange(0, 3).Draw(t, "others") {
		inv.Partials = append(inv.Partials, snapshot.Partial{Path: name(), Ours: rapid.Bool().Draw(t, "ours"), Why: text()})
		inv.Occupied[name()] = text()
		inv.Warnings = append(inv.Warnings, text())
		x := id("line")
		inv.Lineage[x] = id("line's parent")
		inv.Born[x] = rapid.Uint64Min(1).Draw(t, "born")
		inv.Born[id("only born")] = rapid.Uint64Min(1).Draw(t, "born")
		inv.Lineage[id("only a line")] = id("line's parent")
	}
	return inv
}

func TestListingRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv := someInventory(t)
		var text bytes.Buffer
		if err := writeListing(&text, inv); err != nil {
			t.Fatal(err)
		}
		back, err := readListing(iotest.OneByteReader(&text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(inv, back, sameInventory); diff != "" {
			t.Fatalf("it came back otherwise (-sent +read):\n%s", diff)
		}
	})
}

func TestSizesRoundTrip(t *testing.T) {
	sizes := map[snapshot.Edge]int64{{To: snapshot.ID{1}}: 5, {To: snapshot.ID{1}, From: snapshot.ID{2}}: 1 << 60}
	var text bytes.Buffer
	if err := writeSizes(&text, sizes); err != nil {
		t.Fatal(err)
	}
	back, err := readSizes(&text)
	if diff := cmp.Diff(sizes, back); diff != "" || err != nil {
		t.Errorf("%v (-sent +read):\n%s", err, diff)
	}
}

func TestListingRefuses(t *testing.T) {
	const id = `"ea7c1d34-c782-584b-8144-845760163ea1"`
	head := `{"head":{"dir":"/srv"}}` + "\n"
	for name, text := range map[string]string{
		"nothing":          "",
		"no head":          `{"warning":"w"}` + "\n",
		"two heads":        head + head,
		"no JSON":          head + "snapshot\n",
		"no ID":            head + `{"snapshot":{"path":"a"}}`,
		"no path":          head + `{"snapshot":{"id":` + id + `}}`,
		"odd trust":        head + `{"snapshot":{"id":` + id + `,"path":"a","trust":3}}`,
		"a bad ID":         head + `{"snapshot":{"id":"x","path":"a"}}`,
		"twice":            head + strings.Repeat(`{"snapshot":{"id":`+id+`,"path":"a"}}`+"\n", 2),
		"a copy of others": head + `{"snapshot":{"id":` + id + `,"path":"a","copies":[{"id":"ea7c1d34-c782-584b-8144-845760163ea2","path":"b"}]}}`,
		"copies of copies": head + `{"snapshot":{"id":` + id + `,"path":"a","copies":[{"id":` + id + `,"path":"b","copies":[{"id":` + id + `,"path":"c"}]}]}}`,
		"a negative size":  head + `{"snapshot":{"id":` + id + `,"path":"a","size":{"bytes":-1}}}`,
		"too long a line":  head + `{"warning":"` + strings.Repeat("x", maxEntryLine) + `"}`,
	} {
		if inv, err := readListing(strings.NewReader(text)); err == nil || inv != nil {
			t.Errorf("%s: %+v, %v", name, inv, err)
		}
	}
	why := errors.New("a cable")
	if _, err := readListing(io.MultiReader(strings.NewReader(head), iotest.ErrReader(why))); !errors.Is(err, why) {
		t.Errorf("what breaks off is %v", err)
	}
	if _, err := readListing(&bounded{endless{}, 1 << 20}); err == nil {
		t.Error("a listing without an end is read")
	}
}

// endless is a warning for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, `{"head":{"dir":"/"}}`+"\n"), nil
}

// many makes an inventory of n snapshots with their lines.
func many(n int) *snapshot.Inventory {
	inv := &snapshot.Inventory{Dir: "/mnt/b/snaps", Lineage: map[snapshot.ID]snapshot.ID{}, Born: map[snapshot.ID]uint64{}}
	for i := range n {
		var id, uuid snapshot.ID
		binary.BigEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15+1)
		uuid = id
		uuid[15] = 1
		inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{
			ID: id, UUID: uuid, Parent: snapshot.ID{9}, Transid: uint64(i), Generation: uint64(i), Handle: uint64(i),
			Path: fmt.Sprintf("home/20%02d-01-01T00:00:%06d", i%100, i), Created: time.Unix(int64(i), 0), Received: true, Size: snapshot.ExactSize(int64(i)),
		})
		inv.Lineage[uuid], inv.Born[uuid] = snapshot.ID{9}, uint64(i)+1
	}
	return inv
}

// TestLongListing has a listing of 20,000 snapshots take no more memory than it is
// said to.
func TestLongListing(t *testing.T) {
	const n = 20_000
	var text bytes.Buffer
	if err := writeListing(&text, many(n)); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	inv, err := readListing(&text)
	if err != nil || len(inv.Snapshots) != n {
		t.Fatal(len(inv.Snapshots), err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; each > 2<<10 {
		t.Errorf("a snapshot takes %d bytes", each)
	}
	runtime.KeepAlive(inv)
}

func BenchmarkListing(b *testing.B) {
	inv := many(20_000)
	for b.Loop() {
		var text bytes.Buffer
		if err := writeListing(&text, inv); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(text.Len()))
		if _, err := readListing(&text); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzListing reads listings and sizes: what is read comes back the same when it is
// sent on.
func FuzzListing(f *testing.F) {
	var text bytes.Buffer
	inv := many(2)
	inv.Warnings, inv.Occupied = []string{"w"}, map[string]string{"a\xff": "a cat"}
	inv.Partials = []snapshot.Partial{{Path: "p.part", Ours: true, Why: "its name"}}
	inv.Snapshots[0].Copies = []snapshot.Snapshot{inv.Snapshots[0]}
	if err := writeListing(&text, inv); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Add([]byte(`{"edge":{"to":"ea7c1d34-c782-584b-8144-845760163ea1"},"bytes":5}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if inv, err := readListing(bytes.NewReader(raw)); err == nil {
			var text bytes.Buffer
			if err := writeListing(&text, inv); err != nil {
				return // a time that JSON does not have
			}
			back, err := readListing(&text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(inv, back, sameInventory); diff != "" {
				t.Errorf("it came back otherwise (-sent +read):\n%s", diff)
			}
		}
		if sizes, err := readSizes(bytes.NewReader(raw)); err == nil {
			var text bytes.Buffer
			if err := writeSizes(&text, sizes); err != nil {
				t.Fatal(err)
			}
			if back, err := readSizes(&text); err != nil || !cmp.Equal(sizes, back) {
				t.Errorf("%v came back as %v, %v", sizes, back, err)
			}
		}
	})
}

// FuzzAnswer reads answers, and makes of them what calls do.
func FuzzAnswer(f *testing.F) {
	for _, a := range []answer{
		{Error: failureOf(&ModeError{Mode: Read, Call: callRemove})},
		{Ways: map[path]string{"a\xff": "a cat"}, Size: &size{5, true}, Trust: 2, State: []byte("state"), Mark: &mark{1, 2, make([]byte, 32)}},
	} {
		text, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var a answer
		if json.Unmarshal(raw, &a) != nil {
			return
		}
		if err := a.Error.err("backup"); (err == nil) != (a.Error == nil) || err != nil && err.Error() == "" {
			t.Errorf("%+v is %v", a.Error, err)
		}
		if m, err := a.Mark.mark(); err == nil && a.Mark != nil && !cmp.Equal(markOf(m), a.Mark) {
			t.Errorf("%+v is %+v", a.Mark, m)
		}
		_ = a.Size.size()
	})
}
