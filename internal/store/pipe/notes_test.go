package pipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestAgain: what the command has been given is known to the next run, until it is
// asked to begin anew, and from then on what it was given after that.
func TestAgain(t *testing.T) {
	live := storetest.NewMemory("source")
	a, b, c := live.Add("f", 1, "a"), live.Add("f", 2, "sub/b"), live.Add("f", 3, "c")
	n := newNotes()
	run := func(again bool) *Store { return opened(t, Options{Command: "cat >/dev/null", Notes: n, Again: again}) }
	has := func(s *Store, want ...snapshot.Edge) {
		t.Helper()
		inv, err := s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []snapshot.Edge
		var paths []string
		for _, e := range inv.Edges {
			got = append(got, e.Edge)
			if !e.Size.Exact || e.Size.Bytes == 0 {
				t.Errorf("the size of %v is %v", e.Edge, e.Size)
			}
		}
		for _, x := range inv.Snapshots {
			paths = append(paths, x.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" || !slices.IsSorted(paths) || len(paths) != len(want) || !inv.Archive {
			t.Errorf("%v\n%s", paths, diff)
		}
	}
	part := func(to, from snapshot.Snapshot) []byte {
		return streamOf(t, live, snapshot.Edge{To: to.ID, From: from.ID})
	}
	none := snapshot.Snapshot{}
	first := run(false)
	give(t, first, a, none, part(a, none))
	give(t, first, b, a, part(b, a))
	fullA, fullC := snapshot.Edge{To: a.ID}, snapshot.Edge{To: c.ID}
	onA := snapshot.Edge{To: b.ID, From: a.ID}
	has(first, fullA, onA)
	has(run(false), fullA, onA)
	has(opened(t, Options{Command: "cat  >/dev/null", Notes: n})) // another command

	// Asked, and nothing done: everything is as it was.
	again := run(true)
	has(again)
	if err := try(t, again, want(b, a), part(b, a)); err == nil {
		t.Error("an increment was given to a command that has nothing now")
	} else if _, ok := errors.AsType[*store.ParentError](err); !ok {
		t.Errorf("%#v, want *ParentError", err)
	}
	has(run(false), fullA, onA)

	// Once something is given, the rest does not count any more.
	give(t, again, c, none, part(c, none))
	has(again, fullC)
	has(run(false), fullC)
	give(t, again, a, none, part(a, none))
	has(run(false), fullA, fullC)
	give(t, run(false), b, a, part(b, a))
	has(run(false), fullA, fullC, onA)

	// So too where the notes of the round before could not be removed.
	kept := n.kept["shell://cat >/dev/null"]
	for name, data := range kept {
		if strings.HasPrefix(name, noteGiven+b.ID.String()) {
			kept[name] = []byte(strings.Replace(string(data), `"round":1`, `"round":0`, 1))
		}
	}
	has(run(false), fullA, fullC)
}

// TestOtherAtPath: a name that the command has had for another snapshot is not
// given to it again.
func TestOtherAtPath(t *testing.T) {
	live := storetest.NewMemory("source")
	a, b := live.Add("f", 1, "a"), live.Add("f", 2, "b")
	n := newNotes()
	s := opened(t, Options{Command: "cat >/dev/null", Notes: n})
	give(t, s, a, snapshot.Snapshot{}, streamOf(t, live, snapshot.Edge{To: a.ID}))
	b.Path = "a"
	for _, s := range []*Store{s, opened(t, Options{Command: "cat >/dev/null", Notes: n})} {
		err := try(t, s, want(b, snapshot.Snapshot{}), streamOf(t, live, snapshot.Edge{To: b.ID}))
		if _, ok := errors.AsType[*store.ExistsError](err); !ok {
			t.Errorf("%v, want *ExistsError", err)
		}
	}
	s = opened(t, Options{Command: "cat >/dev/null", Notes: n, Again: true})
	give(t, s, b, snapshot.Snapshot{}, streamOf(t, live, snapshot.Edge{To: b.ID}))
}

// TestNotesFail: a command that has taken a stream has taken it, whether that can
// be noted or not; but what cannot be read is no empty list.
func TestNotesFail(t *testing.T) {
	live := storetest.NewMemory("source")
	a, b := live.Add("f", 1, "a"), live.Add("f", 2, "b")
	n := newNotes()
	log := newLog(nil)
	s := opened(t, Options{Command: "cat >/dev/null", Notes: n, Log: log.logger()})
	if _, err := s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.deny = errors.New("no space")
	give(t, s, a, snapshot.Snapshot{}, streamOf(t, live, snapshot.Edge{To: a.ID}))
	give(t, s, b, a, streamOf(t, live, snapshot.Edge{To: b.ID, From: a.ID}))
	if len(log.seen) != 2 || !strings.Contains(log.seen[0], "cannot be noted") {
		t.Errorf("the log has %q", log.seen)
	}
	again := opened(t, Options{Command: "cat >/dev/null", Notes: n})
	if _, err := again.List(t.Context()); !errors.Is(err, n.deny) {
		t.Errorf("List: %v", err)
	}
	if err := try(t, again, want(a, snapshot.Snapshot{}), nil); !errors.Is(err, n.deny) {
		t.Errorf("Create: %v", err)
	}
	n.deny = nil
	n.kept["shell://cat >/dev/null"] = map[string][]byte{
		"given": nil, "given x": nil, "given " + a.ID.String() + " None ../a": []byte("{}"), "given " + a.ID.String() + " None a": []byte("no"), "round": []byte("x"),
	}
	inv, err := again.List(t.Context())
	if err != nil || len(inv.Edges) != 0 || len(inv.Warnings) != 3 {
		t.Errorf("%+v, %v: want three warnings", inv, err)
	}
}

// TestOpen: what is no command is told before anything is planned.
func TestOpen(t *testing.T) {
	for _, command := range []string{"", " \n", "cat \x00"} {
		if s, err := Open(t.Context(), Options{Command: command}); err == nil {
			t.Errorf("%q was opened as %s", command, s)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Command: "true"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open after its context was cancelled: %v", err)
	}
	long := opened(t, Options{Command: strings.Repeat("ä", 100)}).String()
	if want := "shell://" + strings.Repeat("ä", shown) + "..."; long != want {
		t.Errorf("it is called %q", long)
	}
	if name := opened(t, Options{Command: "a\x1bb"}).String(); strings.ContainsRune(name, '\x1b') {
		t.Errorf("it is called %q", name)
	}
	// Nothing is run that was not given a stream.
	file := filepath.Join(t.TempDir(), "ran")
	s := opened(t, Options{Command: "touch " + file})
	w, err := s.Create(t.Context(), store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}}, Path: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the command was run: %v", err)
	}
}

// TestNoteRoundTrip: a note says what it was made of.
func TestNoteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := func(label string) (id snapshot.ID) {
			copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
			return id
		}
		g := taken{edge: snapshot.Edge{To: id("to"), From: id("from")}, path: rapid.StringMatching(`[^/\x00]{1,5}x(/ ?[^/\x00]{1,3}x){0,3}`).Draw(t, "path")}
		if rapid.Bool().Draw(t, "full") {
			g.edge.From = snapshot.ID{}
		}
		if g.edge.To.IsZero() || g.edge.To == g.edge.From {
			return
		}
		back, err := parseNote(g.name(), []byte("{}"))
		if err != nil || back != g {
			t.Fatalf("%+v came back as %+v, %v", g, back, err)
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add("given 01020300-0000-0000-0000-000000000000 None a b", []byte(`{"bytes": 77, "transid": 7, "when": "2026-11-21T00:00:00Z"}`))
	f.Add("given x", []byte("{"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		g, err := parseNote(name, data)
		if err == nil && (g.edge.To.IsZero() || g.edge.To == g.edge.From || checkPath(g.path) != nil || g.Bytes < 0) {
			t.Errorf("%q, %q: %+v", name, data, g)
		}
	})
}

func FuzzMembership(f *testing.F) {
	f.Add([]byte("12 (a) b) S 1 34 34 0 -1"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, stat []byte) { _, _ = membership(stat) })
}

// TestMembership: names of processes may look like the rest of the line.
func TestMembership(t *testing.T) {
	if state, group := membership([]byte("12 (a) R 1 2 (b) S 1 34 35 0 -1")); state != 'S' || group != 34 {
		t.Errorf("%c, %d", state, group)
	}
	if !alive(os.Getpid()) && !alive(groupOf(t)) {
		t.Error("our own process group is not alive")
	}
	if alive(1 << 29) {
		t.Error("a process group that cannot be is alive")
	}
}

func groupOf(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, group := membership(text)
	return group
}
