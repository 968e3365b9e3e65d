package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// TestNothingOutside has clients go for what lies outside of the directory, in
// each way that there is.
func TestNothingOutside(t *testing.T) {
	s := newScene(t)
	p := dialled(t, s.m, Write)
	before := s.state(t)
	call := p.begin(request{Call: callList})
	inv, err := readListing(call)
	if err != nil {
		t.Fatal(err)
	}
	p.hears(call)
	if n := len(inv.Snapshots); n != 2 {
		t.Errorf("%d snapshots are listed", n)
	}
	if diff := cmp.Diff(map[snapshot.ID]snapshot.ID{s.a.UUID: s.a.Parent, s.b.UUID: s.b.Parent}, inv.Lineage); diff != "" {
		t.Errorf("the lineage:\n%s", diff)
	}
	o := listedOf(s.outside)
	shown := o
	shown.Outside = false
	for _, q := range []request{
		{Call: callOpen, Edge: edge{To: s.outside.ID}},
		{Call: callOpen, Edge: edge{To: s.outside.ID, From: s.a.ID}},
		{Call: callOpen, Edge: edge{To: s.a.ID, From: s.outside.ID}},
		{Call: callOpen, Edge: edge{To: s.a.ID}, Clones: []snapshot.ID{s.outside.ID}},
		{Call: callEstimate, Edge: edge{To: s.outside.ID}},
		{Call: callMeasure, Edge: edge{To: s.a.ID, From: s.outside.ID}},
		{Call: callProve, Snapshot: &o},
		{Call: callProve, Snapshot: &shown},
		{Call: callRemove, Snapshot: &o},
		{Call: callRemove, Snapshot: &shown},
		{Call: callChoose, ID: s.outside.ID, Path: path(s.outside.Path)},
		{Call: callCopy, Want: &want{Edge: edge{To: s.outside.ID}, Path: "mine"}},
	} {
		if a := p.ask(q); a.Error == nil || a.Error.Kind != "not_found" {
			t.Errorf("%+v: %+v", q, a.Error)
		}
	}
	w := wantOf(store.Want{Edge: snapshot.Edge{To: snapshot.ID{7}, From: s.outside.ID}, Path: "mine"})
	if a := p.ask(request{Call: callCreate, Want: w}); a.Error == nil || a.Error.Kind != kindParent {
		t.Errorf("an increment from outside: %+v", a.Error)
	}
	if after := s.state(t); after != before {
		t.Errorf("the store has changed:\n%s\n%s", before, after)
	}
}

// cloning returns a stream with a clone command before its END, and where that
// begins.
func cloning(t testing.TB, raw []byte, from snapshot.ID) ([]byte, int) {
	t.Helper()
	at := len(raw) - commandHead
	out, err := stream.Append(bytes.Clone(raw[:at]), 1, &stream.Command{
		Kind: stream.Clone, Path: []byte("x"), ClonePath: []byte("x"), CloneUUID: stream.UUID(from), CloneTransid: 1, CloneLen: 4096,
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(out, raw[at:]...), at
}

// TestCloneSources has streams refer to data of other snapshots.
func TestCloneSources(t *testing.T) {
	s := newScene(t)
	for name, c := range map[string]struct {
		from snapshot.ID
		ok   bool
	}{
		"inside": {s.b.ID, true}, "itself": {s.want.Edge.To, true}, "outside": {s.outside.ID, false}, "nowhere": {snapshot.ID{1, 2}, false},
	} {
		raw, at := cloning(t, s.stream, c.from)
		for _, from := range []store.Mark{{}, {Offset: int64(at), Commands: 1}} {
			far := &trusting{Memory: s.m, from: from}
			p := dialled(t, far, Append)
			if a := p.puts(s.want, raw); (a.Error == nil) != c.ok || far.commits > 0 != c.ok {
				t.Errorf("%s, from byte %d: %+v, %d commits", name, from.Offset, a.Error, far.commits)
			}
			if !c.ok && bytes.Contains(far.written.Bytes(), c.from[:]) {
				t.Errorf("%s, from byte %d: the command has come through", name, from.Offset)
			}
		}
	}
}

// TestCloneSourcesInRuns finds the clone commands of streams as they come.
func TestCloneSourcesInRuns(t *testing.T) {
	s := newScene(t)
	raw, _ := cloning(t, s.stream, s.b.ID)
	raw, _ = cloning(t, raw, s.a.ID)
	r := stream.NewReader(bytes.NewReader(raw))
	var got []snapshot.ID
	for {
		run, err := r.NextRun()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := cloneSources(run, func(id snapshot.ID) error { got = append(got, id); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]snapshot.ID{s.b.ID, s.a.ID}, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzCloneSources compares what is found with what package stream finds.
func FuzzCloneSources(f *testing.F) {
	raw, at := cloning(f, smallStream(f), snapshot.ID{7})
	f.Add(raw)
	f.Add(raw[at:])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got, want []snapshot.ID
		bad := cloneSources(raw, func(id snapshot.ID) error { got = append(got, id); return nil })
		r := stream.NewReader(bytes.NewReader(raw))
		for {
			c, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return // it is not handed on
			}
			if c.Kind == stream.Clone {
				want = append(want, snapshot.ID(c.CloneUUID))
			}
		}
		if !slices.Equal(got, want) || bad != nil {
			t.Errorf("found %v, %v; want %v", got, bad, want)
		}
	})
}

// TestConfined keeps of an inventory what is inside.
func TestConfined(t *testing.T) {
	id := func(n byte) snapshot.ID { return snapshot.ID{n} }
	inv := &snapshot.Inventory{
		Dir: "/d",
		Snapshots: []snapshot.Snapshot{
			{ID: id(1), UUID: id(11), Path: "a", Created: time.Date(32000, 1, 1, 0, 0, 0, 0, time.UTC), Copies: []snapshot.Snapshot{{ID: id(1), UUID: id(12), Path: "/o", Outside: true}, {ID: id(1), UUID: id(13), Path: "c"}}},
			{ID: id(2), UUID: id(21), Path: "/p", Outside: true, Copies: []snapshot.Snapshot{{ID: id(2), UUID: id(22), Path: "d"}}},
			{ID: id(3), UUID: id(31), Path: "/q", Outside: true},
		},
		Lineage: map[snapshot.ID]snapshot.ID{id(11): id(90), id(90): id(91), id(91): id(90), id(12): id(92), id(31): id(92), id(22): id(21)},
		Born:    map[snapshot.ID]uint64{id(11): 5, id(12): 6, id(90): 7},
		Warnings: []string{
			"'/d/a' is odd", "Duplicate effective uuid 1 in '/d/a' and '/d/c'",
			"Duplicate effective uuid 1 in '/d/a' and '/o'", "Duplicate effective uuid 2 in '/p' and '/d/d'",
		},
	}
	got := confined(inv)
	if diff := cmp.Diff(inv.Warnings[:2], got.Warnings); diff != "" {
		t.Errorf("warnings name what is outside:\n%s", diff)
	}
	want := []snapshot.Snapshot{
		{ID: id(1), UUID: id(11), Path: "a", Copies: []snapshot.Snapshot{{ID: id(1), UUID: id(13), Path: "c"}}},
		{ID: id(2), UUID: id(22), Path: "d", Copies: []snapshot.Snapshot{}},
	}
	if diff := cmp.Diff(want, got.Snapshots); diff != "" {
		t.Error(diff)
	}
	if lines := slices.Collect(maps.Keys(got.Lineage)); len(lines) != 4 || got.Lineage[id(91)] != id(90) || got.Lineage[id(22)] != id(21) {
		t.Errorf("the lineage is %v", got.Lineage)
	}
	if diff := cmp.Diff(map[snapshot.ID]uint64{id(11): 5, id(90): 7}, got.Born); diff != "" {
		t.Error(diff)
	}
}

// TestChosenStays has the server list for itself, which makes a store forget what
// was chosen.
func TestChosenStays(t *testing.T) {
	far := &chooses{Memory: newScene(t).m, chosen: map[snapshot.ID]string{}}
	p := dialled(t, far, Read)
	id := storetest.IDOf("tree", 1)
	if a := p.ask(request{Call: callChoose, ID: id, Path: "a"}); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	if a := p.ask(request{Call: callOpen, Edge: edge{To: snapshot.ID{99}}}); a.Error == nil {
		t.Error("what is not there was opened")
	}
	if far.chosen[id] != "a" || far.lists == 0 {
		t.Errorf("chosen is %v after %d lists", far.chosen, far.lists)
	}
	if inv, err := readListing(p.begin(request{Call: callList})); err != nil || len(inv.Snapshots) == 0 {
		t.Error(err)
	}
	if a := p.ask(request{Call: callOpen, Edge: edge{To: snapshot.ID{99}}}); a.Error == nil || len(far.chosen) != 0 {
		t.Errorf("%v is chosen after a list of the client's own", far.chosen)
	}
}

// chooses is a store that remembers what was chosen, until it is listed.
type chooses struct {
	*storetest.Memory
	chosen map[snapshot.ID]string
	lists  int
}

func (s *chooses) List(ctx context.Context) (*snapshot.Inventory, error) {
	clear(s.chosen)
	s.lists++
	return s.Memory.List(ctx)
}

func (s *chooses) Choose(id snapshot.ID, path string) error {
	s.chosen[id] = path
	return nil
}

// TestNothingOutsideOfLocal does so with a real file system, on which another
// machine's snapshots are.
func TestNothingOutsideOfLocal(t *testing.T) {
	x := newPush(t, Append, 0)
	x.dst.fs.Subvolume("private")
	secret := x.dst.fs.Snapshot("private", "secret", true)
	f, err := os.Open(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := btrfs.Info(f)
	if err != nil {
		t.Fatal(err)
	}
	p := connect(t, x.dst.serve(t), Append)
	inv, err := readListing(p.begin(request{Call: callList}))
	if err != nil || len(inv.Snapshots) > 0 || len(inv.Lineage) > 0 {
		t.Errorf("listed is %+v, %v", inv, err)
	}
	if a := p.ask(request{Call: callOpen, Edge: edge{To: snapshot.ID(info.UUID)}}); a.Error == nil {
		t.Error("a snapshot outside is sent")
	}
	raw := streamOf(t, x.from, x.want(0).Edge)
	stolen, _ := cloning(t, raw, snapshot.ID(info.UUID))
	if a := p.puts(x.want(0), stolen); a.Error == nil || a.Error.Kind != "not_found" {
		t.Errorf("a stream that refers to a snapshot outside: %+v", a.Error)
	}
	if a := p.puts(x.want(0), raw); a.Error != nil {
		t.Error(a.Error.Text)
	}
}

// TestNameFromOutside has a client make a snapshot that is called like one outside, and
// remove it again: it does not get at the other one by that.
func TestNameFromOutside(t *testing.T) {
	x := newPush(t, Write, 0)
	x.dst.fs.Subvolume("private")
	f, err := os.Open(x.dst.fs.Snapshot("private", "secret", true))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := btrfs.Info(f)
	if err != nil {
		t.Fatal(err)
	}
	p := connect(t, x.dst.serve(t), Write)
	named := store.Want{Edge: snapshot.Edge{To: snapshot.ID(info.UUID)}, Path: "named"}
	in, err := stream.RewriteHead(bytes.NewReader(streamOf(t, x.from, x.want(0).Edge)), stream.Identity{UUID: stream.UUID(info.UUID), Transid: 1})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	if a := p.puts(named, raw); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	inv, err := readListing(p.begin(request{Call: callList}))
	if err != nil || len(inv.Snapshots) != 1 {
		t.Fatalf("%+v, %v", inv, err)
	}
	named0 := listedOf(inv.Snapshots[0])
	if a := p.ask(request{Call: callRemove, Snapshot: &named0}); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	if inv, err := readListing(p.begin(request{Call: callList})); err != nil || len(inv.Snapshots) > 0 {
		t.Fatalf("%+v, %v", inv, err)
	}
	if a := p.ask(request{Call: callOpen, Edge: edgeOf(named.Edge)}); a.Error == nil || a.Error.Kind != "not_found" {
		t.Errorf("a snapshot outside is sent: %+v", a)
	}
	if a := p.ask(request{Call: callCopy, Want: &want{Edge: edgeOf(named.Edge), Path: "copied"}}); a.Error == nil {
		t.Error("a snapshot outside is copied in")
	}
}
