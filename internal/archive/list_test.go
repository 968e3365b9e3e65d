package archive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// put stores an object of a length.
func (b *memoryBucket) put(key string, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data := []byte(strings.Repeat("x", size))
	b.set(key, memoryObject{data: data, tag: md5Hex(data)})
}

// has returns the keys that begin with a prefix.
func (b *memoryBucket) has(prefix string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for key := range b.objects {
		if strings.HasPrefix(key, prefix) {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return all
}

func mustList(t testing.TB, s *Store) *snapshot.Inventory {
	t.Helper()
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

var byEdge = cmpopts.SortSlices(func(a, b snapshot.Stored) int {
	return strings.Compare(fmt.Sprint(a.Edge), fmt.Sprint(b.Edge))
})

func kept(to, from snapshot.ID, size int64) snapshot.Stored {
	return snapshot.Stored{Edge: snapshot.Edge{To: to, From: from}, Size: snapshot.ExactSize(size)}
}

// TestListOldBucket: what ButterSink has left is listed as it is.
func TestListOldBucket(t *testing.T) {
	a, b, c := parsed(t, uuidA), parsed(t, uuidB), parsed(t, uuidC)
	bucket := newMemoryBucket()
	bucket.page = 2
	bucket.put("pre/fix/A/"+uuidA+"_"+uuidB, 187)
	bucket.put("pre/fix/A.bs", 20)
	bucket.put("/pre/fix/B/"+uuidB+"_"+uuidC, 300) // by a version before 0.4
	bucket.put("pre/fix/sub/C/"+uuidC+"_None", 200)
	bucket.put("pre/fix/C/"+uuidC+"_None", 100)
	bucket.put("pre/fix/C.bs", 20)
	bucket.put("pre/fix/", 0)
	bucket.put("pre/fixes/D/01000000-0000-0000-0000-000000000000_None", 9)
	bucket.put("trash/pre/fix/D/01000000-0000-0000-0000-000000000000_None", 9)
	s := open(t, bucket, "pre/fix")
	inv := mustList(t, s)
	want := &snapshot.Inventory{
		Archive: true, Dir: "/pre/fix",
		Edges: []snapshot.Stored{kept(a, b, 187), kept(b, c, 300), kept(c, snapshot.ID{}, 100)},
		Snapshots: []snapshot.Snapshot{
			{ID: a, Path: "A"},
			{ID: b, Path: "B"},
			{ID: c, Path: "C", Copies: []snapshot.Snapshot{{ID: c, Path: "sub/C"}}},
		},
	}
	if diff := cmp.Diff(want, inv, byEdge, cmpopts.IgnoreUnexported(snapshot.Inventory{})); diff != "" {
		t.Error(diff)
	}
	all := s.of(snapshot.Edge{To: b, From: c})
	if len(all) != 1 || all[0].Key != "/pre/fix/B/"+uuidB+"_"+uuidC || all[0].Path != "B" || all[0].Size != 300 {
		t.Errorf("the real key is not known: %+v", all)
	}
	if all := s.of(snapshot.Edge{To: c}); len(all) != 2 || all[0].Key == all[1].Key || all[0].Modified.IsZero() || all[0].Tag == "" {
		t.Errorf("both objects of an edge: %+v", all)
	}
	if n := bucket.calls["List"]; n > 7 {
		t.Errorf("%d pages were asked for", n)
	}
}

// TestListOurs: sealed objects, manifests, several objects for one edge, cold
// ones.
func TestListOurs(t *testing.T) {
	a, b := parsed(t, uuidA), parsed(t, uuidB)
	bucket := newMemoryBucket()
	for key, size := range map[string]int{
		"A/" + uuidA + "_None": 1000, "A/" + uuidA + "_None.json": 10,
		"A/" + uuidA + "_None.age": 1100, "A/" + uuidA + "_None.age.json": 10,
		"A/" + uuidA + "_None.zst": 500, "A/" + uuidA + "_None.zst.json": 10,
		"A/" + uuidA + "_None.zst.age":                            600,
		"B/" + uuidB + "_" + uuidA:                                40,
		"B/" + uuidB + "_None.json":                               10, // it has lost its object
		"B/" + strings.ToUpper(uuidB) + "_" + uuidA + ".zst":      30,
		"B/" + strings.ToUpper(uuidB) + "_" + uuidA + ".zst.json": 10,
		markerName: 50, "B.bs": 7,
	} {
		bucket.put(key, size)
	}
	cold := bucket.objects["A/"+uuidA+"_None.zst"]
	cold.class, cold.cold = "GLACIER", true
	bucket.objects["A/"+uuidA+"_None.zst"] = cold
	s := open(t, bucket, "")
	inv := mustList(t, s)
	want := &snapshot.Inventory{
		Archive: true, Dir: "/",
		// What is cold cannot be read, so it is not the one that counts.
		Edges:     []snapshot.Stored{kept(a, snapshot.ID{}, 600), kept(b, a, 30)},
		Snapshots: []snapshot.Snapshot{{ID: a, Path: "A"}, {ID: b, Path: "B"}},
	}
	if diff := cmp.Diff(want, inv, byEdge, cmpopts.IgnoreUnexported(snapshot.Inventory{})); diff != "" {
		t.Error(diff)
	}
	described := map[string]bool{}
	for _, o := range append(s.of(snapshot.Edge{To: a}), s.of(snapshot.Edge{To: b, From: a})...) {
		described[o.Key] = o.Described
		if (o.Class == "GLACIER") != o.Cold || o.Cold != strings.HasSuffix(o.Key, "_None.zst") {
			t.Errorf("%+v", o)
		}
	}
	if diff := cmp.Diff(map[string]bool{
		"A/" + uuidA + "_None": true, "A/" + uuidA + "_None.age": true, "A/" + uuidA + "_None.zst": true, "A/" + uuidA + "_None.zst.age": false,
		"B/" + uuidB + "_" + uuidA: false, "B/" + strings.ToUpper(uuidB) + "_" + uuidA + ".zst": true,
	}, described); diff != "" {
		t.Error(diff)
	}
}

// TestListWarns: what is odd is summed up, and does nothing to a terminal.
func TestListWarns(t *testing.T) {
	bucket := newMemoryBucket()
	for i := range 10 {
		bucket.put(fmt.Sprintf("p/notes%d.txt", i), 5)
	}
	bucket.put("p/\x1b[2J/x", 5)
	bucket.put("p/../q/"+uuidA+"_None", 5)
	bucket.put("p/A/"+uuidA+"_None", 0)
	bucket.put("p/B/"+uuidB+"_None", 5)
	bucket.put("p/B/"+uuidC+"_None", 5)
	bucket.put("p/D/01000000-0000-0000-0000-000000000000_"+uuidA, 5)
	inv := mustList(t, open(t, bucket, "p"))
	want := []string{
		`Ignoring 11 objects that are none of an archive's: "p/\x1b[2J/x", p/notes0.txt, p/notes1.txt, ...`,
		`Ignoring 1 object whose key leads elsewhere: p/../q/` + uuidA + `_None`,
		`Ignoring 1 object that is empty: p/A/` + uuidA + `_None`,
		`At 1 path there are several snapshots: B`,
		`1 snapshot cannot be restored, since what it starts from is not there: D`,
	}
	if diff := cmp.Diff(want, inv.Warnings); diff != "" {
		t.Error(diff)
	}
	// That of the empty object is known, and has no edge.
	lost, ok := inv.Find(parsed(t, uuidA))
	leads := slices.ContainsFunc(inv.Edges, func(e snapshot.Stored) bool { return e.To == lost.ID })
	if len(inv.Snapshots) != 4 || !ok || lost.Path != "A" || leads {
		t.Errorf("%+v", inv.Snapshots)
	}
}

// TestListOutside: what a chain needs is found in the rest of the bucket, and
// nothing more.
func TestListOutside(t *testing.T) {
	a, b, c := parsed(t, uuidA), parsed(t, uuidB), parsed(t, uuidC)
	bucket := newMemoryBucket()
	bucket.put("p/A/"+uuidA+"_"+uuidB, 1)
	bucket.put("p/full/02000000-0000-0000-0000-000000000000_None", 1)
	bucket.put("other/B/"+uuidB+"_"+uuidC, 2)
	bucket.put("other/B/"+uuidB+"_09000000-0000-0000-0000-000000000000", 2) // of no use
	bucket.put("/C/"+uuidC+"_None", 3)
	bucket.put("p2/A/"+uuidA+"_None", 4)
	bucket.put("other/E/03000000-0000-0000-0000-000000000000_None", 5)
	bucket.put("other/notes", 6)
	s := open(t, bucket, "p")
	inv := mustList(t, s)
	full := snapshot.ID{2}
	want := &snapshot.Inventory{
		Archive: true, Dir: "/p",
		Edges: []snapshot.Stored{
			kept(a, b, 1), kept(a, snapshot.ID{}, 4), kept(b, c, 2), kept(c, snapshot.ID{}, 3), kept(full, snapshot.ID{}, 1),
		},
		Snapshots: []snapshot.Snapshot{
			{ID: c, Path: "/C", Outside: true},
			{ID: b, Path: "/other/B", Outside: true},
			{ID: a, Path: "A", Copies: []snapshot.Snapshot{{ID: a, Path: "/p2/A", Outside: true}}},
			{ID: full, Path: "full"},
		},
	}
	if diff := cmp.Diff(want, inv, byEdge, cmpopts.IgnoreUnexported(snapshot.Inventory{})); diff != "" {
		t.Error(diff)
	}
	for edge, key := range map[snapshot.Edge]string{{To: c}: "/C/" + uuidC + "_None", {To: b, From: c}: "other/B/" + uuidB + "_" + uuidC} {
		if all := s.of(edge); len(all) != 1 || all[0].Key != key || !all[0].Outside {
			t.Errorf("%v: %+v", edge, all)
		}
	}
	// What is outside stays.
	for _, snap := range inv.Snapshots {
		if snap.Outside {
			if err := s.Remove(t.Context(), snap); err == nil {
				t.Errorf("%s was removed", snap.Path)
			}
		}
	}
	if len(bucket.has("trash/")) > 0 {
		t.Error("something has been moved")
	}

	// Whoever may see only the prefix gets what is there.
	bucket.hook = func(op, key string) error {
		if op == "List" && key != "p/" || op == "Uploads" {
			return &DeniedError{Bucket: "mem://bucket", Action: "s3:ListBucket", Err: errors.New("403")}
		}
		return nil
	}
	inv = mustList(t, s)
	if len(inv.Snapshots) != 2 || len(inv.Warnings) != 3 {
		t.Errorf("%+v %q", inv.Snapshots, inv.Warnings)
	}
	// Anything else that goes wrong is an error.
	for _, prefix := range []string{"p/", "/p/", ""} {
		bucket.hook = func(op, key string) error {
			if op == "List" && key == prefix {
				return errors.New("the network is down")
			}
			return nil
		}
		if inv, err := s.List(t.Context()); err == nil {
			t.Errorf("%q: %+v", prefix, inv)
		}
	}
	// A bucket without need is not searched.
	bucket.hook = nil
	bucket.put("p/A/"+uuidA+"_None", 1)
	before := bucket.calls["List"]
	if inv = mustList(t, s); len(inv.Snapshots) != 2 || bucket.calls["List"] != before+2 {
		t.Errorf("%+v after %d listings", inv.Snapshots, bucket.calls["List"]-before)
	}
}

// TestPartials: uploads exactly below the prefix are shown, and aborted.
func TestPartials(t *testing.T) {
	bucket := newMemoryBucket()
	begin := func(key string) {
		if _, err := bucket.Begin(t.Context(), key, UploadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"p/A/x", "p/A/x", "p/B.bs", "/p/C/x", "p2/A/x", "p", "q/p/x", "trash/p/A"} {
		begin(key)
	}
	s := open(t, bucket, "p")
	inv := mustList(t, s)
	want := []snapshot.Partial{
		{Path: "A/x", Ours: true, Why: "2 uploads that are not complete"},
		{Path: "B.bs", Ours: true, Why: "an upload that was begun on 2026-11-21 12:00 UTC and is not complete"},
		{Path: "C/x", Ours: true, Why: "an upload that was begun on 2026-11-21 12:00 UTC and is not complete"},
	}
	if diff := cmp.Diff(want, inv.Partials); diff != "" {
		t.Error(diff)
	}
	begin("p/A/x") // after the listing, so it is somebody else's
	for _, p := range inv.Partials {
		if err := s.RemovePartial(t.Context(), p); err != nil {
			t.Error(err)
		}
		if err := s.RemovePartial(t.Context(), p); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
	}
	left := map[string]int{}
	for _, u := range bucket.uploads {
		left[u.u.Key]++
	}
	if diff := cmp.Diff(map[string]int{"p/A/x": 1, "p2/A/x": 1, "p": 1, "q/p/x": 1, "trash/p/A": 1}, left); diff != "" {
		t.Error(diff)
	}
	if inv := mustList(t, open(t, bucket, "")); len(inv.Partials) != 5 {
		t.Errorf("the whole bucket: %+v", inv.Partials)
	}
}

func TestInspect(t *testing.T) {
	bucket := newMemoryBucket()
	bucket.put("p/A/"+uuidA+"_None", 1)
	s := open(t, bucket, "p")
	mustList(t, s)
	s.add(&stored{Object: Object{Key: "p/B/" + uuidB + "_None"}, Edge: snapshot.Edge{To: parsed(t, uuidB)}, Path: "B"})
	for p, want := range map[string]bool{"A": true, "B": true, "C": false, "A/x": false, "x.bs": true, "": true, "../A": true} {
		if ways, err := s.Inspect(t.Context(), p); err != nil || (ways[p] != "") != want {
			t.Errorf("%q: %q, %v", p, ways[p], err)
		}
	}
	s.forget(s.of(snapshot.Edge{To: parsed(t, uuidA)})[0])
	s.forget(s.of(snapshot.Edge{To: parsed(t, uuidB)})[0])
	for _, p := range []string{"A", "B"} {
		if ways, err := s.Inspect(t.Context(), p); err != nil || ways[p] != "" {
			t.Errorf("%q is removed: %q, %v", p, ways[p], err)
		}
	}
}

// TestChangesDuringList: what is stored while a listing goes on is known after it,
// and what it has found is told once.
func TestChangesDuringList(t *testing.T) {
	bucket := newMemoryBucket()
	bucket.put("p/A/"+uuidA+"_None", 1)
	bucket.put("p/B/"+uuidB+"_None", 1)
	s := open(t, bucket, "p")
	a, b, c := snapshot.Edge{To: parsed(t, uuidA)}, snapshot.Edge{To: parsed(t, uuidB)}, snapshot.Edge{To: parsed(t, uuidC)}
	mustList(t, s)
	s.add(&stored{Object: Object{Key: "p/gone/" + uuidC + "_None"}, Edge: c, Path: "gone"})
	bucket.hook = func(op, key string) error {
		if op == "List" && key == "/p/" {
			s.add(&stored{Object: Object{Key: "p/A/" + uuidA + "_None", Size: 1, Modified: time.Now()}, Edge: a, Path: "A"})
			s.forget(s.of(b)[0])
			s.add(&stored{Object: Object{Key: "p/new/" + uuidC + "_None"}, Edge: c, Path: "new"})
		}
		return nil
	}
	mustList(t, s)
	if n, m, all := len(s.of(a)), len(s.of(b)), s.of(c); n != 1 || m != 0 || len(all) != 1 || all[0].Path != "new" {
		t.Errorf("%d, %d, %+v", n, m, all)
	}
}
