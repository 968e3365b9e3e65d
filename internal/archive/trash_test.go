package archive

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func at(t testing.TB, inv *snapshot.Inventory, path string) snapshot.Snapshot {
	t.Helper()
	for _, s := range inv.Snapshots {
		if found, ok := s.Preferring(path); ok {
			return found
		}
	}
	t.Fatalf("there is no %s", path)
	return snapshot.Snapshot{}
}

// TestRemove: a snapshot goes to the trash with all that belongs to it, and comes
// back.
func TestRemove(t *testing.T) {
	bucket := newMemoryBucket()
	for i, key := range []string{
		"p/A/" + uuidA + "_None", "p/A/" + uuidA + "_None.json", "p/A/" + uuidA + "_" + uuidB + ".zst", "p/A.bs",
		"/p/A/" + uuidA + "_" + uuidC, // by an old version
		"p/copy/" + uuidA + "_None", "p/copy.bs",
		"p/A/sub/" + uuidB + "_None", "p/AB/" + uuidC + "_None", "p/A2.bs",
	} {
		bucket.put(key, i+1)
	}
	before := bucket.has("")
	s := open(t, bucket, "p")
	inv := mustList(t, s)
	a := at(t, inv, "A")
	if err := s.Remove(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	gone := []string{"trash//p/A/" + uuidA + "_" + uuidC, "trash/p/A.bs", "trash/p/A/" + uuidA + "_" + uuidB + ".zst", "trash/p/A/" + uuidA + "_None", "trash/p/A/" + uuidA + "_None.json"}
	if diff := cmp.Diff(gone, bucket.has("trash/")); diff != "" {
		t.Error(diff)
	}
	var stay []string
	for _, key := range before {
		if !slices.Contains(gone, "trash/"+key) {
			stay = append(stay, key)
		}
	}
	if diff := cmp.Diff(append(stay, gone...), bucket.has("")); diff != "" {
		t.Error(diff)
	}
	if all := s.of(snapshot.Edge{To: a.ID}); len(all) != 1 || all[0].Path != "copy" {
		t.Errorf("known is %+v", all)
	}
	for range 2 {
		if err := s.Remove(t.Context(), a); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
		mustList(t, s)
	}
	all, err := s.Trashed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var handles []string
	for i, x := range all {
		handles = append(handles, x.Handle)
		if x.Path != "A" || x.To != a.ID || x.Size.Bytes == 0 || !x.Size.Exact || i > 0 && x.When.Before(all[i-1].When) {
			t.Errorf("%+v", x)
		}
	}
	slices.Sort(handles)
	if diff := cmp.Diff([]string{gone[0], gone[2], gone[3]}, handles); diff != "" {
		t.Error(diff)
	}
	for _, x := range all {
		if err := s.Untrash(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, bucket.has("")); diff != "" {
		t.Error(diff)
	}
	if n := len(s.of(snapshot.Edge{To: a.ID})); n != 2 {
		t.Errorf("%d objects are known", n)
	}
	if err := s.Untrash(t.Context(), all[0]); err == nil {
		t.Error("put back twice")
	}
}

// TestRemoveOther: nothing is removed but what was meant.
func TestRemoveOther(t *testing.T) {
	bucket := newMemoryBucket()
	bucket.put("p/A/"+uuidA+"_None", 1)
	bucket.put("p/A/"+uuidB+"_None", 2)
	bucket.put("p/A.bs", 3)
	s := open(t, bucket, "p")
	inv := mustList(t, s)
	before := bucket.has("")
	for _, snap := range []snapshot.Snapshot{
		{ID: parsed(t, uuidC), Path: "A"},
		{ID: parsed(t, uuidA), Path: "B"},
		{ID: parsed(t, uuidA), Path: "../p/A"},
		{ID: parsed(t, uuidA), Path: "A", Outside: true},
	} {
		if err := s.Remove(t.Context(), snap); err == nil {
			t.Errorf("%+v is removed", snap)
		}
	}
	if diff := cmp.Diff(before, bucket.has("")); diff != "" {
		t.Error(diff)
	}
	// The notes stay as long as there is something beside them.
	for i, snap := range []snapshot.Snapshot{{ID: parsed(t, uuidA), Path: "A"}, {ID: parsed(t, uuidB), Path: "A"}} {
		if err := s.Remove(t.Context(), snap); err != nil {
			t.Error(err)
		}
		if n := len(bucket.has("p/A.bs")); n != 1-i {
			t.Errorf("%d: %d notes", i, n)
		}
	}
	_ = inv
}

// TestTrashKeepsAll: what is in the trash already is not overwritten, unless it is
// the same.
func TestTrashKeepsAll(t *testing.T) {
	bucket := newMemoryBucket()
	key := "p/A/" + uuidA + "_None"
	s := open(t, bucket, "p")
	a := snapshot.Snapshot{ID: parsed(t, uuidA), Path: "A"}
	for i, size := range []int{1, 2, 2, 3} {
		bucket.put(key, size)
		bucket.put(manifestKey(key), 10+size)
		bucket.put("p/A.bs", 20+i/2)
		if err := s.Remove(t.Context(), a); err != nil {
			t.Fatal(i, err)
		}
	}
	sizes := map[string]int{}
	for _, k := range bucket.has("") {
		sizes[k] = len(bucket.objects[k].data)
	}
	want := map[string]int{
		"trash/" + key: 1, "trash/" + key + ".json": 11, "trash/" + key + "~2": 2, "trash/" + key + "~2.json": 12,
		"trash/" + key + "~3": 3, "trash/" + key + "~3.json": 13, "trash/p/A.bs": 20, "trash/p/A.bs~2": 21,
	}
	if diff := cmp.Diff(want, sizes); diff != "" {
		t.Fatal(diff)
	}
	// Old versions of ButterSink, and any other prefix, see trash.
	for _, prefix := range []string{"", "p", "q"} {
		if inv := mustList(t, open(t, bucket, prefix)); len(inv.Snapshots)+len(inv.Warnings) > 0 {
			t.Errorf("%q: %+v", prefix, inv)
		}
	}
	all, err := s.Trashed(t.Context())
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	second := all[slices.IndexFunc(all, func(x store.Trashed) bool { return x.Size.Bytes == 2 })]
	if err := s.Untrash(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if len(bucket.objects[key].data) != 2 || len(bucket.objects[manifestKey(key)].data) != 12 || len(bucket.objects["p/A.bs"].data) != 20 {
		t.Error("another one has come back")
	}
	for _, x := range all {
		if x.Handle == second.Handle {
			continue
		}
		_, taken := errors.AsType[*store.ExistsError](s.Untrash(t.Context(), x))
		if !taken || len(bucket.objects[key].data) != 2 || len(bucket.has(x.Handle)) == 0 {
			t.Errorf("%s is put back where another one is", x.Handle)
		}
		if err := s.Discard(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	if left := bucket.has("trash/"); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

// TestSameInTrash: the same object is known by its tag, or by its manifest.
func TestSameInTrash(t *testing.T) {
	bucket := newMemoryBucket()
	s := open(t, bucket, "backups")
	m := sampleManifest(t)
	key := m.Key
	m.Object.Bytes = 5
	set := func(key, tag string, sum byte) {
		bucket.put(key, 5)
		o := bucket.objects[key]
		o.tag = tag
		bucket.objects[key] = o
		m.Object.SHA256 = Hash{sum}
		if sum > 0 {
			if err := s.putManifest(t.Context(), key, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name       string
		tag, tag2  string
		sum, sum2  byte
		want       string
		manifested bool
	}{
		{name: "one tag", tag: "x", tag2: "x", want: "trash/" + key},
		{name: "two tags", tag: "x", tag2: "y", want: "trash/" + key + "~2"},
		{name: "no tags", want: "trash/" + key + "~2"},
		{name: "one hash", tag: "x", tag2: "y", sum: 1, sum2: 1, want: "trash/" + key},
		{name: "two hashes", tag: "x", tag2: "y", sum: 1, sum2: 2, want: "trash/" + key + "~2"},
		{name: "one manifest", tag: "x", tag2: "y", sum: 1, want: "trash/" + key + "~2"},
	} {
		clear(bucket.objects)
		set(key, tt.tag, tt.sum)
		set("trash/"+key, tt.tag2, tt.sum2)
		o, err := bucket.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.place(t.Context(), o); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
	}
}

// TestTrashInterrupted: wherever removing ends, nothing is lost, and a second try
// ends as the first one should have.
func TestTrashInterrupted(t *testing.T) {
	key := "p/A/" + uuidA + "_None"
	a := snapshot.Snapshot{ID: parsed(t, uuidA), Path: "A"}
	died := errors.New("the power is gone")
	for n := 1; ; n++ {
		bucket := newMemoryBucket()
		bucket.put(key, 7)
		bucket.put(manifestKey(key), 8)
		bucket.put("p/A.bs", 9)
		s := open(t, bucket, "p")
		calls := 0
		bucket.hook = func(op, key string) error {
			if calls++; calls > n {
				return died
			}
			return nil
		}
		err := s.Remove(t.Context(), a)
		bucket.hook = nil
		for _, k := range []string{key, manifestKey(key), "p/A.bs"} {
			if len(bucket.has(k))+len(bucket.has("trash/"+k)) == 0 {
				t.Fatalf("after %d calls %s is lost", n, k)
			}
		}
		there := slices.Contains(bucket.has(""), key)
		if err == nil && there {
			t.Fatalf("after %d calls it is there, and said to be removed", n)
		}
		if there {
			if err := s.Remove(t.Context(), a); err != nil {
				t.Fatal(n, err)
			}
			if got := bucket.has(""); len(got) != 3 {
				t.Fatalf("after %d calls, and again: %q", n, got)
			}
		}
		if calls <= n {
			return
		}
	}
}

// TestUntrashRefuses: a handle leads nowhere but to streams in our trash.
func TestUntrashRefuses(t *testing.T) {
	bucket := newMemoryBucket()
	for _, key := range []string{"trash/p/A/" + uuidA + "_None", "trash/q/A/" + uuidA + "_None", "trash/p/A.bs", "p/B/" + uuidB + "_None"} {
		bucket.put(key, 1)
	}
	s := open(t, bucket, "p")
	for _, handle := range []string{
		"", "trash/q/A/" + uuidA + "_None", "trash/p/A.bs", "p/B/" + uuidB + "_None", "trash/p/../q/A/" + uuidA + "_None", "trash/trash/p/A/" + uuidA + "_None",
	} {
		if err := s.Untrash(t.Context(), store.Trashed{Handle: handle}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Untrash(%q): %v", handle, err)
		}
		if err := s.Discard(t.Context(), store.Trashed{Handle: handle}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Discard(%q): %v", handle, err)
		}
	}
	if err := s.Untrash(t.Context(), store.Trashed{Handle: "trash/p/gone/" + uuidA + "_None"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	if n := len(bucket.has("")); n != 4 {
		t.Errorf("%d objects are left", n)
	}
}

// TestDiscardLooksAside: emptying the trash does not take longer for each stream,
// the more of them lie there.
func TestDiscardLooksAside(t *testing.T) {
	bucket := newMemoryBucket()
	handle := "trash/p/A/" + uuidA + "_None"
	for _, key := range []string{handle, "trash/p/A.bs", "trash/p/A.bs~2", "trash/p/A.bs~3", "trash/p/AB.bs", "trash/p/A.bs~2x"} {
		bucket.put(key, 1)
	}
	bucket.hook = func(op, key string) error {
		if op == "List" && !strings.HasSuffix(key, "/p/A/") {
			t.Errorf("%q is listed", key)
		}
		return nil
	}
	if err := open(t, bucket, "p").Discard(t.Context(), store.Trashed{Handle: handle}); err != nil {
		t.Fatal(err)
	}
	bucket.hook = nil
	if diff := cmp.Diff([]string{"trash/p/A.bs~2x", "trash/p/AB.bs"}, bucket.has("")); diff != "" {
		t.Error(diff)
	}
}
