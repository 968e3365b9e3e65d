package archive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// coldChain is an archive with a chain of increments in cold storage.
func coldChain(t testing.TB, n int) (f *fixture, edges []snapshot.Edge, data [][]byte) {
	t.Helper()
	b := newMemoryBucket()
	b.class = "DEEP_ARCHIVE"
	f = openOn(t, b, newNotes(), func(o *Options) { o.Now = b.now })
	for i := range n {
		e := snapshot.Edge{To: id(byte(i + 1))}
		if i > 0 {
			e.From = id(byte(i))
		}
		d := streamOf(t, e, 200_000, uint64(i))
		want := sized(e, d)
		want.Path = fmt.Sprint("day", i)
		if _, err := f.store(t.Context(), want, runs(t, d)); err != nil {
			t.Fatal(err)
		}
		edges, data = append(edges, e), append(data, d)
	}
	f.settled(t)
	mustList(t, f.Store)
	return f, edges, data
}

// TestThaw: a chain is asked for once, read when it is there, without being listed
// again, and asked for again when the copies are gone.
func TestThaw(t *testing.T) {
	f, edges, data := coldChain(t, 4)
	thaw := func(o store.ThawOptions) []store.Thawing {
		t.Helper()
		all, err := f.Thaw(t.Context(), edges, o)
		if err != nil || len(all) != len(edges) {
			t.Fatal(all, err)
		}
		for i, it := range all {
			if it.Edge != edges[i] || it.Path != fmt.Sprint("day", i) || it.Class != "DEEP_ARCHIVE" || it.Bytes == 0 || !strings.HasSuffix(it.Object, edgeName(it.Edge, seal.Form{})) {
				t.Errorf("%+v", it)
			}
		}
		return all
	}
	states := func(all []store.Thawing) (s []string) {
		for _, it := range all {
			s = append(s, fmt.Sprint(it.State, " ", it.Fresh, " ", it.Tier, " ", !it.Asked.IsZero(), " ", !it.Until.IsZero()))
		}
		return slices.Compact(s)
	}
	is := func(all []store.Thawing, want string) {
		t.Helper()
		if diff := cmp.Diff([]string{want}, states(all)); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := f.Open(t.Context(), store.Request{Edge: edges[0]}); !errors.Is(err, store.ErrCold) {
		t.Errorf("opening what is cold: %v", err)
	}
	is(thaw(store.ThawOptions{}), "cold false  false false")
	is(thaw(store.ThawOptions{Ask: true, Tier: store.Standard, Days: 3}), "pending true standard true false")
	asked := f.b.now()
	f.b.advance(time.Hour)
	is(thaw(store.ThawOptions{Ask: true}), "pending false standard true false")
	f.b.advance(memoryThaw)
	for _, it := range thaw(store.ThawOptions{Ask: true}) {
		if it.Asked.Sub(asked).Abs() > time.Minute || it.State != store.Readable || it.Until.Sub(asked) < 3*24*time.Hour {
			t.Errorf("%+v, asked for at %v", it, asked)
		}
	}
	for i, e := range edges {
		if got, err := f.read(t.Context(), e); err != nil || !bytes.Equal(got, data[i]) {
			t.Errorf("%d: %d bytes: %v", i, len(got), err)
		}
	}
	f.b.advance(5 * 24 * time.Hour)
	is(thaw(store.ThawOptions{}), "cold false  false false")
	if n := f.notes.names(); len(n) > 0 {
		t.Errorf("notes are left: %q", n)
	}
	for key, n := range f.b.asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", key, n)
		}
	}
	// On another machine, which has no notes.
	f = openOn(t, f.b, nil, func(o *Options) { o.Now = f.b.now })
	mustList(t, f.Store)
	is(thaw(store.ThawOptions{Ask: true}), "pending true bulk false false")
	is(thaw(store.ThawOptions{Ask: true}), "pending false  false false")
}

// TestThawOneOfSeveral: of objects that hold the same stream one is enough.
func TestThawOneOfSeveral(t *testing.T) {
	e := snapshot.Edge{To: parsed(t, uuidA)}
	name := "/" + uuidA + "_None"
	for _, tt := range []struct {
		classes []string
		first   int // asked for before; -1 if none is
		want    string
		asked   int
	}{
		{[]string{"GLACIER", "", "GLACIER"}, -1, "p/b" + name, 0},
		{[]string{"GLACIER", "GLACIER_IR", "GLACIER"}, -1, "p/b" + name, 0},
		{[]string{"GLACIER", "GLACIER", "GLACIER"}, -1, "p/a" + name, 1},
		{[]string{"GLACIER", "GLACIER", "GLACIER"}, 2, "p/c" + name, 0},
	} {
		b := newMemoryBucket()
		for i, class := range tt.classes {
			key := "p/" + string(rune('a'+i)) + name
			b.put(key, 5+i)
			b.move(class, key)
			if i == tt.first {
				if _, err := b.Thaw(t.Context(), []string{key}, store.ThawOptions{Ask: true, Days: 1}); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := len(b.asked)
		s := openAt(t, b)
		mustList(t, s)
		all, err := s.Thaw(t.Context(), []snapshot.Edge{e, e}, store.ThawOptions{Ask: true})
		if err != nil || len(all) != 2 || all[0].Object != tt.want || all[0] != all[1] {
			t.Errorf("%v: %+v, %v", tt.classes, all, err)
		}
		if n := len(b.asked) - before; n != tt.asked {
			t.Errorf("%v: %d are asked for", tt.classes, n)
		}
	}
}

// TestThawFails: what keeps some from being asked for keeps no others from it.
func TestThawFails(t *testing.T) {
	f, edges, _ := coldChain(t, 3)
	no := errors.New("no capacity")
	f.b.hook = func(op, key string) error {
		if op == "Thaw" && strings.Contains(key, "day1") {
			return no
		}
		return nil
	}
	all, err := f.Thaw(t.Context(), edges, store.ThawOptions{Ask: true})
	if !errors.Is(err, no) || len(all) != 3 || all[0].State != store.Pending || all[1].State != store.Cold || all[2].State != store.Pending {
		t.Errorf("%+v, %v", all, err)
	}
	f.b.hook = nil
	for _, edges := range [][]snapshot.Edge{{{To: id(77)}}, {edges[0], {To: id(2), From: id(77)}}} {
		if _, err := f.Thaw(t.Context(), edges, store.ThawOptions{Ask: true}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v: %v", edges, err)
		}
	}
	if err := f.b.Delete(t.Context(), all[1].Object); err != nil {
		t.Fatal(err)
	}
	if all, err := f.Thaw(t.Context(), edges[1:2], store.ThawOptions{Ask: true}); !errors.Is(err, store.ErrNotFound) || len(all) != 1 || all[0].State == store.Readable {
		t.Errorf("%+v, %v", all, err)
	}
	// A bucket that nobody can ask.
	f.bucket = struct{ Bucket }{f.b}
	all, err = f.Thaw(t.Context(), edges[2:], store.ThawOptions{Ask: true})
	if err == nil || len(all) != 1 || all[0].State != store.Cold {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestColdManifests: rules that move manifests to cold storage too keep nothing
// from being read, stored or removed.
func TestColdManifests(t *testing.T) {
	f, edges, data := coldChain(t, 2)
	for _, key := range f.b.has("") {
		f.b.move("GLACIER", key)
	}
	if _, err := f.Thaw(t.Context(), edges, store.ThawOptions{Ask: true}); err != nil {
		t.Fatal(err)
	}
	f.b.advance(memoryThaw + time.Minute)
	for i, e := range edges {
		if got, err := f.read(t.Context(), e); err != nil || !bytes.Equal(got, data[i]) {
			t.Errorf("%d: %d bytes: %v", i, len(got), err)
		}
	}
	found, err := f.Verify(t.Context(), store.VerifyOptions{})
	if err != nil || found.Snapshots[store.Unchecked] != 2 {
		t.Errorf("%+v, %v", found, err)
	}
	// One whose stream is in the usual place.
	key := f.b.has("pre/fix/day1/")[0]
	f.b.move("", key)
	sweep(t, f.Store, "day1")
	if all := trashOf(t, f.Store); len(all) != 1 || all[0].Handle != "trash/"+key {
		t.Errorf("%+v", all)
	}
}

// TestVerifyThawed: what has been thawed is looked at, what is cold is not known to
// be sound, and what counts as removed is not missed.
func TestVerifyThawed(t *testing.T) {
	f, edges, _ := coldChain(t, 3)
	sweep(t, f.Store, "day2")
	if _, err := f.Thaw(t.Context(), edges[:1], store.ThawOptions{Ask: true}); err != nil {
		t.Fatal(err)
	}
	f.b.advance(memoryThaw + time.Minute)
	// Listings of S3 do not tell what has been thawed.
	f.bucket = coldListing{f.b}
	found, err := f.Verify(t.Context(), store.VerifyOptions{Data: true})
	if err != nil || found.Streams[store.Sound] != 1 || found.Streams[store.Unchecked] != 1 || found.Snapshots[store.Unchecked] != 1 || found.Streams[store.Damaged] != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestHoldings: all that is billed is told of, once.
func TestHoldings(t *testing.T) {
	b := newMemoryBucket()
	cold := "p/A/" + uuidA + "_None"
	for i, key := range []string{
		cold, cold + ".json", "p/B/" + uuidB + "_" + uuidA, "p/B.bs", "p/C/" + uuidC + "_None.zst", "p/C/" + uuidC + "_None.zst.json",
		"p/.buttersink-archive.json", "q/D/" + uuidA + "_None", "/p/E/" + uuidC + "_None", "p/foreign", "trash/q/x",
	} {
		b.put(key, 10+i)
	}
	b.objects["p/.buttersink-archive.json"] = memoryObject{data: []byte(`{"version":1}`), modified: b.clock}
	b.move("GLACIER", cold)
	s := openAt(t, b)
	if s.Tariff() != nil {
		t.Error("somebody pays for memory")
	}
	s.bucket = billedBucket{b}
	sweep(t, s, "A", "B", "C")
	if tariff := s.Tariff(); tariff == nil || tariff.PartSize != defaultPartSize || tariff.Small != coldSmall {
		t.Errorf("%+v", tariff)
	}
	got := map[string]string{}
	bytes := int64(0)
	for h, err := range s.Holdings(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := got[h.Key]; twice || h.Since.IsZero() {
			t.Errorf("%+v, twice %v", h, twice)
		}
		bytes += h.Bytes
		got[h.Key] = fmt.Sprint(h.Path, " ", h.Class, " ", h.Trashed, " ", h.To.IsZero())
	}
	want := map[string]string{
		cold: "A GLACIER true false", cold + ".json": "  false true", cold + ".trashed": "  true true",
		"trash/p/B/" + uuidB + "_" + uuidA: "B  true false", "trash/p/B.bs": "  true true",
		"trash/p/C/" + uuidC + "_None.zst": "C  true false", "trash/p/C/" + uuidC + "_None.zst.json": "  true true",
		"p/.buttersink-archive.json": "  false true", "/p/E/" + uuidC + "_None": "E  false false", "p/foreign": "  false true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	sum := int64(0)
	for key := range want {
		sum += int64(len(b.objects[key].data))
	}
	if bytes != sum {
		t.Errorf("%d bytes, want %d", bytes, sum)
	}
	for range s.Holdings(t.Context()) {
		break // whoever has seen enough is not told more
	}
	no := errors.New("no")
	b.hook = func(string, string) error { return no }
	for _, err := range s.Holdings(t.Context()) {
		if !errors.Is(err, no) {
			t.Error(err)
		}
	}
}

// TestSmallStayWarm: streams that are known to be short are kept in the usual
// place; what is only thought to be short has to be so by a factor of two.
func TestSmallStayWarm(t *testing.T) {
	for _, c := range []struct {
		size  snapshot.Size
		class string
	}{
		{snapshot.ExactSize(100 << 10), ""},
		{snapshot.ExactSize(200 << 10), "GLACIER"},
		{snapshot.AboutSize(50 << 10), ""},
		{snapshot.AboutSize(100 << 10), "GLACIER"},
		{snapshot.Size{}, "GLACIER"},
	} {
		b := newMemoryBucket()
		b.class = "GLACIER"
		f := openOn(t, b, nil, nil)
		e := snapshot.Edge{To: id(1)}
		data := streamOf(t, e, 20_000, 1)
		if _, err := f.store(t.Context(), store.Want{Edge: e, Path: "a", Size: c.size}, runs(t, data)); err != nil {
			t.Fatal(err)
		}
		for key, o := range b.objects {
			if want := c.class; strings.HasSuffix(key, ".json") && o.class != "" || !strings.HasSuffix(key, ".json") && o.class != want {
				t.Errorf("%+v: %s is in %q", c.size, key, o.class)
			}
		}
	}
}
