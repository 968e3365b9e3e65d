package ssh

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// takes says of each call which mode it takes: what the documents promise, written
// down once more.
var takes = map[string]Mode{
	"list": Read, "inspect": Read, "choose": Read, "open": Read, "estimate": Read, "measure": Read, "prove": Read, "known_sizes": Read, "settle": Read,
	"origin": Read, "read_note": Read,
	"create": Append, "copy": Append, "keep_sizes": Append, "lock": Append, "snapshot": Append, "lock_taking": Append,
	"remove": Write, "remove_partial": Write, "remove_leftover": Write, "write_note": Write, "reclaim": Write,
}

// scene is a store in memory with something for each call to work on.
type scene struct {
	m       *storetest.Memory
	a, b    snapshot.Snapshot // inside, b after a
	outside snapshot.Snapshot
	stream  []byte // of another snapshot, in full
	want    store.Want
}

func newScene(t testing.TB) *scene {
	s := &scene{m: storetest.NewMemory("far")}
	s.a, s.b = s.m.Add("tree", 1, "a"), s.m.Add("tree", 2, "sub/b")
	s.outside = s.m.AddOutside("other", 1, "/elsewhere/o")
	s.m.AddPartial("dead.part", true)
	s.m.SetOrigin("tree")
	s.m.SetNote(store.LocksNote, []byte("{}"))
	s.m.AddLeftover("left")
	gone := s.m.Add("other", 2, "gone")
	if err := s.m.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	src := storetest.NewMemory("here")
	new := src.Add("new", 5, "new")
	s.want = store.Want{Edge: snapshot.Edge{To: new.ID}, Transid: 5, Path: "new"}
	s.stream = streamOf(t, src, s.want.Edge)
	return s
}

// requests are valid ones, of each call. What create and lock need besides, finish
// says.
func (s *scene) requests() map[string]request {
	a := listedOf(s.a)
	copied := &want{Edge: edge{To: s.a.ID}, Path: "copied"}
	return map[string]request{
		callList:          {},
		callInspect:       {Paths: []path{"a", "free"}},
		callChoose:        {ID: s.a.ID, Path: "a"},
		callOpen:          {Edge: edge{To: s.b.ID, From: s.a.ID}},
		callEstimate:      {Edge: edge{To: s.b.ID}},
		callMeasure:       {Edge: edge{To: s.b.ID}},
		callProve:         {Snapshot: &a},
		callKnownSizes:    {},
		callSettle:        {},
		callCreate:        {Want: wantOf(s.want)},
		callCopy:          {Want: copied},
		callLock:          {Who: "a test"},
		callKeepSizes:     {Path: "copied", Sizes: []noted{{edge{To: s.a.ID, From: s.b.ID}, 77}}},
		callRemove:        {Snapshot: &a},
		callRemovePartial: {Partial: &partial{Path: "dead.part", Ours: true}},

		callOrigin:         {},
		callSnapshot:       {Path: "sub/c"},
		callLockTaking:     {Who: "a test"},
		callReadNote:       {Name: store.LocksNote},
		callWriteNote:      {Name: store.LocksNote, Was: noteDigest([]byte("{}"))},
		callReclaim:        {},
		callRemoveLeftover: {Path: "left"},
	}
}

// state is all that there is to be seen of a store.
func (s *scene) state(t testing.TB) string {
	inv, err := s.m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sizes, err := s.m.KnownSizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%+v\n%+v\n%v\n%d\n", inv.Snapshots, inv.Partials, sizes, s.m.Busy())
	text += fmt.Sprintf("%s\n%s\n%d\n", s.m.Note(store.LocksNote), s.m.Note(store.RetentionNote), s.m.Unreclaimed())
	for _, x := range inv.Snapshots {
		text += s.m.Digest(x.ID) + "\n"
	}
	unlock, err := s.m.Lock(t.Context(), "the test")
	if err != nil {
		return text + err.Error()
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if unlock, err = s.m.LockTaking(t.Context(), "the test"); err != nil {
		return text + err.Error()
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestModes makes each call in each mode.
func TestModes(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(maps.Keys(takes)), slices.Sorted(maps.Keys(services))); diff != "" {
		t.Fatalf("the calls that this test knows (-) and those that are served (+):\n%s", diff)
	}
	for _, mode := range []Mode{Read, Append, Write} {
		for call, least := range takes {
			t.Run(string(mode)+"/"+call, func(t *testing.T) {
				s := newScene(t)
				q := s.requests()[call]
				q.Call = call
				p := dialled(t, s.m, mode)
				if call == callKeepSizes && mode != Read { // which is for what this client has made
					made := s.requests()[callCopy]
					made.Call = callCopy
					if a := p.ask(made); a.Error != nil {
						t.Fatal(a.Error.Text)
					}
				}
				before := s.state(t)
				allowed := strings.Index("raw", string(mode)) >= strings.Index("raw", string(least))
				var last answer
				switch {
				case call == callCreate && allowed:
					last = p.puts(s.want, s.stream)
				case call == callOpen && allowed:
					var raw []byte
					if raw, last = p.gets(q); len(raw) == 0 {
						t.Error("the stream is empty")
					}
				case call == callWriteNote && allowed:
					last = p.notes(q, []byte("{ }"))
				case call == callReadNote:
					var note []byte
					if note, last = p.reads(q); string(note) != "{}" {
						t.Errorf("the note is %q", note)
					}
				case (call == callLock || call == callLockTaking) && allowed:
					held := p.begin(q)
					p.hears(held)
					if before == s.state(t) {
						t.Error("nothing is locked")
					}
					if err := p.tells(held, instruction{Commit: true}); err != nil {
						t.Fatal(err)
					}
					last = p.hears(held)
				default:
					last = p.ask(q)
				}
				if allowed {
					if last.Error != nil {
						t.Errorf("refused: %+v", last.Error)
					}
					if changes := least != Read && call != callLock && call != callLockTaking; changes == (before == s.state(t)) {
						t.Errorf("before:\n%s\nafter:\n%s", before, s.state(t))
					}
					return
				}
				if last.Error == nil || last.Error.Kind != kindMode || last.Error.Mode != mode || last.Error.What != call {
					t.Errorf("answered with %+v, want a refusal", last.Error)
				}
				if after := s.state(t); before != after {
					t.Errorf("it was refused, and the store has changed:\n%s\n%s", before, after)
				}
			})
		}
	}
}

// TestNoMoreThanTheServersMode asks for more than the server was started for.
func TestNoMoreThanTheServersMode(t *testing.T) {
	for _, c := range []struct {
		has, asks Mode
		ok        bool
	}{
		{Read, Read, true},
		{Read, Append, false},
		{Read, Write, false},
		{Append, Read, true},
		{Append, Append, true},
		{Append, Write, false},
		{Write, Read, true},
		{Write, Append, true},
		{Write, Write, true},
		{Read, "", true},
		{Write, "aw", false},
		{Write, "x", false},
	} {
		s := serveTo(t, served(storetest.NewMemory("far"), c.has))
		line, _ := s.greet(t, helloLine(t, c.asks))
		g, _, _, err := parseHello([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil || (g.Error == nil) != c.ok {
			t.Errorf("mode %q asked of a server in mode %q: %q, %v", c.asks, c.has, line, err)
		}
		if !c.ok && c.asks == Write && (g.Error.Kind != kindMode || g.Error.Mode != c.has) {
			t.Errorf("the refusal is %+v", g.Error)
		}
	}
}

// TestLessThanTheServersMode has a server allow no more than its client has asked
// for.
func TestLessThanTheServersMode(t *testing.T) {
	s := newScene(t)
	p := connect(t, serveTo(t, served(s.m, Write)), Read)
	if a := p.puts(s.want, s.stream); a.Error == nil || a.Error.Kind != kindMode {
		t.Errorf("create of a client that asked for mode r: %+v", a.Error)
	}
	if p.greeted.Name != s.m.String() || string(p.greeted.Location) != s.m.Location() || p.greeted.Forms != [2]string{"memory", "memory"} {
		t.Errorf("the server greets with %+v", p.greeted)
	}
}

// TestPaths has requests name what is no path below the directory.
func TestPaths(t *testing.T) {
	bad := []path{"", ".", "..", "../x", "/x", "x/../y", "./x", "x/", "x//y", "x.part", "x\x00y", path(strings.Repeat("x", maxPath+1)), "a/../../b"}
	notes := []path{store.LocksNote, store.RetentionNote + "/x", store.RetentionNote + ".next"} // would be in their way
	s := newScene(t)
	p := dialled(t, s.m, Write)
	before := s.state(t)
	for _, at := range append(bad, notes...) {
		w := s.want
		w.Path = string(at)
		copied := request{Call: callCopy, Want: &want{Edge: edge{To: s.a.ID}, Path: at}}
		sizes := request{Call: callKeepSizes, Path: at, Sizes: []noted{{edge{To: s.a.ID}, 1}}}
		part := request{Call: callRemovePartial, Partial: &partial{Path: at, Ours: true}}
		gone := request{Call: callRemove, Snapshot: &listed{ID: s.a.ID, UUID: s.a.UUID, Path: at}}
		for _, a := range []answer{p.puts(w, s.stream), p.ask(copied), p.ask(sizes), p.ask(part), p.ask(gone), p.ask(request{Call: callChoose, ID: s.a.ID, Path: at}), p.ask(request{Call: callSnapshot, Path: at})} {
			if a.Error == nil {
				t.Errorf("%.20q was taken", at)
			}
		}
		if a := p.ask(request{Call: callInspect, Paths: []path{at}}); a.Error != nil || !strings.HasPrefix(a.Ways[at], snapshot.NoPlace) {
			t.Errorf("%.20q is inspected: %+v", at, a)
		}
	}
	if after := s.state(t); before != after {
		t.Errorf("the store has changed:\n%s\n%s", before, after)
	}
}

// TestRemovesWhatIsListed has clients describe what is to be removed in their own
// ways.
func TestRemovesWhatIsListed(t *testing.T) {
	s := newScene(t)
	p := dialled(t, s.m, Write)
	before := s.state(t)
	for name, x := range map[string]listed{
		"another identity": {ID: s.b.ID, UUID: s.a.UUID, Path: "a"},
		"another UUID":     {ID: s.a.ID, UUID: s.b.UUID, Path: "a"},
		"another path":     {ID: s.a.ID, UUID: s.a.UUID, Path: "sub/b"},
		"outside":          listedOf(s.outside),
		"called inside":    {ID: s.outside.ID, UUID: s.outside.UUID, Path: path(s.outside.Path)},
		"only a handle":    {Handle: s.a.Handle},
	} {
		if a := p.ask(request{Call: callRemove, Snapshot: &x}); a.Error == nil {
			t.Errorf("%s was removed", name)
		}
	}
	s.m.AddPartial("strange.part", false)
	for _, q := range []request{{Call: callRemove}, {Call: callRemovePartial}, {Call: callRemovePartial, Partial: &partial{Path: "strange.part", Ours: true}}, {Call: callRemovePartial, Partial: &partial{Path: "a", Ours: true}}} {
		if a := p.ask(q); a.Error == nil {
			t.Errorf("%+v was obeyed", q)
		}
	}
	if a := p.ask(request{Call: callRemovePartial, Partial: &partial{Path: "dead.part"}}); a.Error != nil {
		t.Errorf("a dead thing of ours stays: %+v", a.Error)
	}
	lied := listedOf(s.a)
	lied.Handle, lied.Trust = 12345, 2
	if a := p.ask(request{Call: callRemove, Snapshot: &lied}); a.Error != nil {
		t.Errorf("its handle and trust are the server's affair, and it stays: %+v", a.Error)
	}
	if strings.Contains(s.state(t), s.a.ID.String()) || before == s.state(t) {
		t.Error("it is still there")
	}
}

// TestSizesInAppend notes sizes in the mode that only adds.
func TestSizesInAppend(t *testing.T) {
	s := newScene(t)
	p := dialled(t, s.m, Append)
	stale := snapshot.Edge{To: s.want.Edge.To, From: s.a.ID}
	if err := s.m.KeepSizes(t.Context(), "new", map[snapshot.Edge]int64{stale: 1}); err != nil {
		t.Fatal(err)
	}
	keeps := func(at path, e snapshot.Edge, n int64) *failure {
		return p.ask(request{Call: callKeepSizes, Path: at, Sizes: []noted{{edgeOf(e), n}}}).Error
	}
	for _, at := range []path{"a", "new", "free"} {
		if f := keeps(at, s.want.Edge, 5); f == nil || f.Kind != kindMode {
			t.Errorf("sizes were kept for %s: %+v", at, f)
		}
	}
	if a := p.puts(s.want, s.stream); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	if f := keeps("new", snapshot.Edge{To: s.a.ID}, 5); f == nil {
		t.Error("the size of another snapshot was kept")
	}
	if f := keeps("new", s.want.Edge, 5); f != nil {
		t.Error(f.Text)
	}
	if f := keeps("new", stale, 5); f != nil {
		t.Error(f.Text)
	}
	sizes, err := s.m.KnownSizes(t.Context())
	if diff := cmp.Diff(map[snapshot.Edge]int64{stale: 1, s.want.Edge: 5}, sizes); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// TestToldOnce has a client try again and again what it may not: the operator
// hears of it once, and of nonsense not at all.
func TestToldOnce(t *testing.T) {
	var log bytes.Buffer
	s := newScene(t)
	o := served(s.m, Read)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	far := serveTo(t, o)
	p := connect(t, far, Read)
	for range 5 {
		for _, call := range []string{callRemove, callLock, strings.Repeat("x", 5000)} {
			if a := p.ask(request{Call: call}); a.Error == nil || len(a.Error.Text) > 1000 {
				t.Errorf("%.10s: %+v", call, a.Error)
			}
		}
	}
	_ = p.conn.Close()
	far.wait(t)
	if text := log.String(); strings.Count(text, "refused") != 2 || len(text) > 1000 {
		t.Errorf("the log has %q", text)
	}
}

// TestDocumented holds docs/protocol.md to the calls that there are, and to what
// each of them takes.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	section := func(title string) string {
		_, rest, ok := strings.Cut(string(text), "\n## "+title+"\n")
		if !ok {
			t.Fatalf("there is no section %q", title)
		}
		section, _, _ := strings.Cut(rest, "\n## ")
		return section
	}
	said := map[string]Mode{}
	for row := range strings.Lines(section("Modes")) {
		cells := strings.Split(row, "|")
		if len(cells) != 6 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		for call := range strings.FieldsSeq(strings.ReplaceAll(cells[1], "`", "")) {
			for i, mode := range []Mode{Write, Append, Read} {
				if strings.TrimSpace(cells[4-i]) != "" {
					said[call] = mode
				}
			}
		}
	}
	if diff := cmp.Diff(takes, said); diff != "" {
		t.Errorf("what each call takes (-), and what is said (+):\n%s", diff)
	}
	calls := section("The calls")
	for call := range takes {
		if !strings.Contains(calls, "`"+call+"`") {
			t.Errorf("%s is not described", call)
		}
	}
	kinds := section("Errors")
	for _, f := range everyKind() {
		if !strings.Contains(kinds, "`"+f+"`") {
			t.Errorf("the kind %s is not described", f)
		}
	}
}

// everyKind returns the kinds of failures.
func everyKind() []string {
	all := []string{kindExists, kindParent, kindLocked, kindMode}
	for _, k := range kinds {
		all = append(all, k.kind)
	}
	return all
}
