package job

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// depot is an archive as far as the verbs about archives look at one.
type depot struct {
	store.Store
	edges   []snapshot.Edge
	trash   []store.Trashed
	refuses map[string]error // by handle

	wanted *store.VerifyOptions
	report *store.Verification
}

func (k *depot) String() string { return "depot" }

func (k *depot) List(context.Context) (*snapshot.Inventory, error) {
	inv := &snapshot.Inventory{Archive: true}
	for _, e := range k.edges {
		inv.Edges = append(inv.Edges, snapshot.Stored{Edge: e})
	}
	return inv, nil
}

func (k *depot) Trashed(context.Context) ([]store.Trashed, error) {
	return slices.Clone(k.trash), nil
}

func (k *depot) Untrash(_ context.Context, t store.Trashed) error {
	if err := k.refuses[t.Handle]; err != nil {
		return err
	}
	k.edges = append(k.edges, t.Edge)
	return k.Discard(context.Background(), t)
}

func (k *depot) Discard(_ context.Context, t store.Trashed) error {
	if err := k.refuses[t.Handle]; err != nil {
		return err
	}
	n := len(k.trash)
	k.trash = slices.DeleteFunc(k.trash, func(u store.Trashed) bool { return u.Handle == t.Handle })
	if len(k.trash) == n {
		return errors.New("it is not there")
	}
	return nil
}

func (k *depot) Verify(_ context.Context, o store.VerifyOptions) (*store.Verification, error) {
	k.wanted = &o
	return k.report, nil
}

// edgeOf is an edge from snapshot from to snapshot to; 0 stands for none.
func edgeOf(to, from byte) snapshot.Edge {
	return snapshot.Edge{To: snapshot.ID{to}, From: snapshot.ID{from}}
}

// inTrash is a stream in the trash, removed days ago.
func inTrash(path string, e snapshot.Edge, days int) store.Trashed {
	return store.Trashed{Stored: snapshot.Stored{Edge: e}, Path: path, Handle: "trash/" + path + "/" + e.From.Short(), When: someDay.AddDate(0, 0, -days)}
}

var someDay = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func paths(all []store.Trashed) (p []string) {
	for _, t := range all {
		p = append(p, t.Path)
	}
	return p
}

func TestTrashSelects(t *testing.T) {
	k := &depot{trash: []store.Trashed{
		inTrash("a/monday", edgeOf(1, 0), 40), inTrash("b/monday", edgeOf(2, 1), 30), inTrash("b/tuesday", edgeOf(3, 2), 1),
	}}
	for _, tt := range []struct {
		name    string
		o       TrashOptions
		want    []string
		missing string
	}{
		{"everything", TrashOptions{}, []string{"a/monday", "b/monday", "b/tuesday"}, ""},
		{"by age", TrashOptions{Before: someDay.AddDate(0, 0, -30)}, []string{"a/monday"}, ""},
		{"by path", TrashOptions{Names: []string{"/b/monday"}}, []string{"b/monday"}, ""},
		{"by name", TrashOptions{Names: []string{"monday"}}, []string{"a/monday", "b/monday"}, ""},
		{"by handle", TrashOptions{Names: []string{k.trash[2].Handle}}, []string{"b/tuesday"}, ""},
		{"by name and age", TrashOptions{Names: []string{"monday"}, Before: someDay.AddDate(0, 0, -35)}, []string{"a/monday"}, ""},
		{"too young", TrashOptions{Names: []string{"tuesday"}, Before: someDay.AddDate(0, 0, -35)}, nil, ""},
		{"unknown", TrashOptions{Names: []string{"monday", "wednesday", "day"}}, nil, "wednesday, day"},
	} {
		got, err := (&Engine{}).Trash(t.Context(), k, tt.o)
		e, ok := errors.AsType[*NotInTrashError](err)
		if ok != (tt.missing != "") || ok && strings.Join(e.Names, ", ") != tt.missing {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, paths(got)); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
	}
}

// TestRestoreBringsParents: an increment alone is of no use.
func TestRestoreBringsParents(t *testing.T) {
	setup := func() *depot {
		return &depot{
			edges: []snapshot.Edge{edgeOf(9, 0)},
			trash: []store.Trashed{
				inTrash("d", edgeOf(4, 3), 1), inTrash("c", edgeOf(3, 2), 2), inTrash("b", edgeOf(2, 1), 3), inTrash("a", edgeOf(1, 0), 4),
				inTrash("on top of what is there", edgeOf(5, 9), 5), inTrash("on top of what is nowhere", edgeOf(6, 8), 6),
			},
		}
	}
	for name, want := range map[string][]string{
		"a": {"a"}, "d": {"a", "b", "c", "d"}, "on top of what is there": {"on top of what is there"}, "on top of what is nowhere": {"on top of what is nowhere"},
	} {
		k := setup()
		var planned, done []string
		err := (&Engine{}).Restore(t.Context(), k, TrashOptions{
			Names: []string{name}, Planned: func(all []store.Trashed) { planned = paths(all) },
			Done: func(s store.Trashed, err error) {
				if err != nil {
					t.Error(err)
				}
				done = append(done, s.Path)
			},
		})
		if err != nil || !slices.Equal(planned, want) || !slices.Equal(done, want) || len(k.edges) != 1+len(want) || len(k.trash) != 6-len(want) {
			t.Errorf("%s: planned %q, done %q, want %q; %d are left: %v", name, planned, done, want, len(k.trash), err)
		}
	}

	k := setup()
	if err := (&Engine{}).Restore(t.Context(), k, TrashOptions{DryRun: true}); err != nil || len(k.edges) != 1 || len(k.trash) != 6 {
		t.Errorf("a dry run has left %d edges and %d in the trash: %v", len(k.edges), len(k.trash), err)
	}

	// What fails does not keep the others from being done.
	k.refuses = map[string]error{k.trash[3].Handle: &store.ExistsError{Path: "a"}}
	err := (&Engine{}).Restore(t.Context(), k, TrashOptions{})
	e, ok := errors.AsType[*TrashError](err)
	if !ok || e.Wanted != 6 || e.Done != 5 || len(e.Failures) != 1 || len(k.trash) != 1 {
		t.Errorf("one that exists: %v, %d are left", err, len(k.trash))
	}
	if _, ok := errors.AsType[*store.ExistsError](err); !ok {
		t.Errorf("the cause is lost: %v", err)
	}
}

// TestRestoreOrder: whatever is in the trash, everything that is meant is done
// once, and nothing comes before what it needs, where there is such an order.
func TestRestoreOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		var all []store.Trashed
		for i := range n {
			from := rapid.IntRange(0, n).Draw(t, "from") // also in circles
			s := inTrash(string(rune('a'+i)), edgeOf(byte(rapid.IntRange(1, n).Draw(t, "to")), byte(from)), i)
			s.Handle = s.Path
			all = append(all, s)
		}
		meant := slices.DeleteFunc(slices.Clone(all), func(store.Trashed) bool { return rapid.Bool().Draw(t, "left out") })
		ordered := withParents(&snapshot.Inventory{}, meant, all)
		seen := map[string]int{}
		for i, s := range ordered {
			if _, twice := seen[s.Path]; twice {
				t.Fatalf("%s is there twice", s.Path)
			}
			seen[s.Path] = i
		}
		for _, m := range meant {
			if _, ok := seen[m.Path]; !ok {
				t.Fatalf("%s is missing", m.Path)
			}
		}
		// Where each starts from an older one there is no circle, so that the order
		// has to be right.
		for _, s := range ordered {
			if s.IsFull() || s.From[0] >= s.To[0] {
				continue
			}
			there := slices.ContainsFunc(all, func(p store.Trashed) bool { return p.To == s.From })
			had := slices.ContainsFunc(ordered, func(p store.Trashed) bool { return p.To == s.From })
			if there != had {
				t.Fatalf("%s is put back without what it starts from", s.Path)
			}
		}
	})
}

func TestTrashIsForArchives(t *testing.T) {
	m := storetest.NewMemory("m")
	_, err := (&Engine{}).Trash(t.Context(), m, TrashOptions{})
	if _, ok := errors.AsType[*UnableError](err); !ok {
		t.Errorf("a store without trash: %v", err)
	}
	_, err = (&Engine{}).Verify(t.Context(), m, VerifyOptions{})
	if _, ok := errors.AsType[*UnableError](err); !ok {
		t.Errorf("a store that cannot verify: %v", err)
	}
}

func TestVerifySelects(t *testing.T) {
	some := &store.Verification{Streams: map[store.Verdict]int{store.Sound: 1}}
	k := &depot{report: some}
	if r, err := (&Engine{}).Verify(t.Context(), k, VerifyOptions{Data: true}); err != nil || r != some {
		t.Fatal(err)
	}
	if k.wanted.Wanted != nil || !k.wanted.Data || !k.wanted.Write {
		t.Errorf("everything: %+v", k.wanted)
	}
	if _, err := (&Engine{}).Verify(t.Context(), k, VerifyOptions{Data: true, DryRun: true}); err != nil || k.wanted.Write {
		t.Errorf("a dry run writes: %+v, %v", k.wanted, err)
	}
	if _, err := (&Engine{}).Verify(t.Context(), k, VerifyOptions{Selection: Selection{Name: "b"}}); err != nil || k.wanted.Write {
		t.Errorf("a look at the listing writes: %+v, %v", k.wanted, err)
	}
	for path, want := range map[string]bool{"b": true, "a/b": true, "b/a": false} {
		if got := k.wanted.Wanted(snapshot.Snapshot{Path: path}); got != want {
			t.Errorf("%s is selected: %v", path, got)
		}
	}
	if !k.wanted.Wanted(snapshot.Snapshot{Path: "x", Copies: []snapshot.Snapshot{{Path: "y/b"}}}) {
		t.Error("the second path of a snapshot is not selected")
	}
	k.report = &store.Verification{}
	_, err := (&Engine{}).Verify(t.Context(), k, VerifyOptions{Selection: Selection{Name: "b"}})
	if e, ok := errors.AsType[*NoSnapshotsError](err); !ok || !e.Named {
		t.Errorf("nothing is selected: %v", err)
	}
}

// sweeping is a store that takes all that is to go at once.
type sweeping struct {
	*storetest.Memory
	swept [][]snapshot.Snapshot
	keeps string // a path
}

func (s *sweeping) Sweep(ctx context.Context, all []snapshot.Snapshot, removed func(snapshot.Snapshot, error)) error {
	s.swept = append(s.swept, all)
	for _, snap := range all {
		if snap.Path == s.keeps {
			removed(snap, errors.New("something needs it"))
			continue
		}
		removed(snap, s.Remove(ctx, snap))
	}
	return nil
}

func TestSyncSweeps(t *testing.T) {
	src, dst := storetest.NewMemory("src"), &sweeping{Memory: storetest.NewMemory("dst"), keeps: "y"}
	src.Add("f", 10, "a")
	for i, path := range []string{"x", "y", "z"} {
		dst.Add("g", uint64(10+i), path)
	}
	r, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{Delete: true})
	if e, ok := errors.AsType[*RemovalError](err); !ok || len(e.Failures) != 1 {
		t.Errorf("one is kept: %v", err)
	}
	if len(dst.swept) != 1 || len(dst.swept[0]) != 3 || len(r.Removed) != 2 {
		t.Errorf("swept %d times, %d removed", len(dst.swept), len(r.Removed))
	}
	if diff := cmp.Diff([]string{"a", "y"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
}
