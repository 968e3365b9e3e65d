package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// fullNote has everything that a note can have, and more of each.
const fullNote = `{
  "claims": [
    {
      "destination": "ssh://me@host/bk",
      "id": "02000000-0000-0000-0000-000000000000",
      "path": "home20261120-231455",
      "place": "btrfs b",
      "rank": 7,
      "seen": "2026-11-20T22:14:59Z",
      "series": "home"
    }
  ],
  "families": [
    [
      "01000000-0000-0000-0000-000000000000",
      "02000000-0000-0000-0000-000000000000"
    ]
  ],
  "holds": [
    {
      "by": {
        "name": "root"
      },
      "id": "01000000-0000-0000-0000-000000000000",
      "path": "home20261119-231455",
      "since": "2026-11-20T08:00:00Z",
      "why": "before the <upgrade>"
    }
  ],
  "locked-until": null,
  "version": 1,
  "waiting": [
    {
      "ids": [
        "01000000-0000-0000-0000-000000000000"
      ],
      "over": [],
      "rules": "last:3",
      "series": "home"
    }
  ]
}
`

// TestRegisterKeepsWhatItDoesNotKnow: newer programs note more.
func TestRegisterKeepsWhatItDoesNotKnow(t *testing.T) {
	r, err := parseRegister([]byte(fullNote))
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.format()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fullNote, string(text)); diff != "" {
		t.Error(diff)
	}
	r.setHold(Hold{ID: snapshot.ID{1}, Path: "elsewhere", Since: someDay})
	r.setClaim(claim{destination: "ssh://me@host/bk", series: "home", id: snapshot.ID{3}, seen: someDay})
	r.setWaiting("home", "last:3", nil)
	r.setWaiting("home", "last:4", []snapshot.ID{{4}})
	r.setHold(Hold{ID: snapshot.ID{9}, Path: "another", Since: someDay})
	text, err = r.format()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"rank": 7`, `"name": "root"`, `"locked-until": null`, `"over": []`, `"elsewhere"`, `"another"`, `"03000000-`, `"last:4"`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%s is not in\n%s", part, text)
		}
	}
	if strings.Contains(string(text), `"02000000-0000-0000-0000-000000000000",`+"\n"+`      "path"`) {
		t.Errorf("the old claim is still there:\n%s", text)
	}
}

func TestRegisterRefuses(t *testing.T) {
	id := `"id":"01000000-0000-0000-0000-000000000000"`
	for text, why := range map[string]string{
		`{"version":2,"holds":"other"}`:        "version 2",
		`{"holds":[]}`:                         "version 0",
		`[]`:                                   "array",
		`null`:                                 "null",
		`{`:                                    "unexpected end",
		`{"version":1} x`:                      "after top-level",
		`{"version":1,"holds":[{"path":"a"}]}`: "hold 1",
		`{"version":1,"holds":[{` + id + `},null]}`:                              "hold 2",
		`{"version":1,"holds":[{` + id + `,"since":3}]}`:                         "since",
		`{"version":1,"claims":[3]}`:                                             "claim 1",
		`{"version":1,"waiting":[{},{"ids":["home"]}]}`:                          "waits, 2",
		`{"version":1,"families":[["x"]]}`:                                       "families",
		`{"version":1,"claims":[` + strings.Repeat("{},", mostEntries) + `{}]}`:  "allowed",
		`{"version":1,"waiting":[` + strings.Repeat("{},", mostEntries) + `{}]}`: "allowed",
		strings.Repeat(" ", store.MaxNote) + `{}`:                                "longer",
		strings.Repeat("[", 100_000):                                             "depth",
	} {
		_, err := parseRegister([]byte(text))
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %v, want %q", text, err, why)
		}
	}
	for _, text := range []string{"", " \n"} {
		if r, err := parseRegister([]byte(text)); err != nil || len(r.holds) > 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestRegisterOfAnotherVersionStops: what cannot be read keeps everything.
// Nothing is written that could not be read.
func TestRegisterWithTooMuch(t *testing.T) {
	r := &register{claims: make([]claim, mostEntries)}
	if _, err := r.format(); err != nil {
		t.Error(err)
	}
	r.claims = append(r.claims, claim{})
	if text, err := r.format(); err == nil {
		t.Errorf("%d claims are written in %d bytes", len(r.claims), len(text))
	}
}

func TestRegisterOfAnotherVersionStops(t *testing.T) {
	m := storetest.NewMemory("m")
	note := []byte(`{"version":7}`)
	m.SetNote(store.RetentionNote, note)
	m.Add("f", 1, "20260101-000000")
	m.Add("f", 2, "20260102-000000")
	e := &Engine{Now: func() time.Time { return someDay }}
	for name, do := range map[string]func() error{
		"prune":   func() error { _, err := e.Prune(t.Context(), m, PruneOptions{Rules: last(1)}); return err },
		"hold":    func() error { _, err := e.Hold(t.Context(), m, "20260101-000000", ""); return err },
		"release": func() error { _, err := e.Release(t.Context(), m, "20260101-000000"); return err },
		"holds":   func() error { _, err := e.Holds(t.Context(), m); return err },
	} {
		if r, ok := errors.AsType[*RegisterError](do()); !ok || !strings.Contains(r.Error(), "version 7") {
			t.Errorf("%s: %v", name, r)
		}
	}
	if diff := cmp.Diff(string(note), string(m.Note(store.RetentionNote))); diff != "" || len(held(t, m)) != 2 {
		t.Errorf("left %q\n%s", held(t, m), diff)
	}
}

// TestRegisterWaits: what is tried by hand does not make a backup forget.
func TestRegisterWaits(t *testing.T) {
	r := &register{}
	r.setWaiting("a", "last:1", []snapshot.ID{{1}, {2}})
	r.setWaiting("b", "last:1", []snapshot.ID{{3}})
	for n := 2; n <= mostRules; n++ {
		r.setWaiting("a", fmt.Sprintf("last:%d", n), []snapshot.ID{{4}})
	}
	r.setWaiting("a", "last:2", nil)
	r.setWaiting("a", "last:2", []snapshot.ID{{5}})
	if w := r.waited("a", "last:1"); len(w) != 2 || !w[snapshot.ID{1}] || !w[snapshot.ID{2}] {
		t.Errorf("%v", w)
	}
	r.setWaiting("a", "daily:1", []snapshot.ID{{6}})
	if w := r.waited("a", "last:1"); len(w) > 0 || len(r.waiting) != mostRules+1 || len(r.waited("b", "last:1")) != 1 || !r.waited("a", "last:2")[snapshot.ID{5}] {
		t.Errorf("%v, %+v", w, r.waiting)
	}
}

// noteless is a store that keeps no notes.
type noteless struct{ store.Store }

// contested is a store whose note others change, as often as it is told.
type contested struct {
	*storetest.Memory
	times int
}

func (c *contested) WriteNote(ctx context.Context, name string, data, was []byte) error {
	if c.times > 0 {
		c.times--
		c.SetNote(name, fmt.Appendf(nil, `{"version":1,"holds":[{"id":%q,"path":"p%d"}]}`, snapshot.ID{1, byte(c.times)}, c.times))
	}
	return c.Memory.WriteNote(ctx, name, data, was)
}

func TestRegisterUpdates(t *testing.T) {
	add := func(r *register) { r.setHold(Hold{ID: snapshot.ID{5}, Path: "mine", Since: someDay}) }

	c := &contested{Memory: storetest.NewMemory("m"), times: registerTries - 1}
	r, err := updateRegister(t.Context(), c, add)
	if err != nil || len(r.holds) != 2 {
		t.Errorf("what others have noted is lost: %+v, %v", r, err)
	}
	c.times = 1000
	if _, err := updateRegister(t.Context(), c, func(r *register) { r.release(snapshot.ID{5}); add(r); r.holds[0].Why += "!" }); !errors.Is(err, store.ErrNoteChanged) {
		t.Errorf("%v", err)
	}

	bare := noteless{storetest.NewMemory("m")}
	if _, err := updateRegister(t.Context(), bare, func(*register) {}); err != nil {
		t.Error(err)
	}
	_, err = updateRegister(t.Context(), bare, add)
	if _, ok := errors.AsType[*UnableError](err); !ok {
		t.Error(err)
	}

	m := storetest.NewMemory("m")
	for _, change := range []func(*register){
		add, func(r *register) { r.release(snapshot.ID{5}) },
	} {
		if _, err := updateRegister(t.Context(), m, change); err != nil {
			t.Fatal(err)
		}
	}
	if note := m.Note(store.RetentionNote); len(note) > 0 {
		t.Errorf("a note that says nothing is %q", note)
	}
}

// TestRegisterTextsComeBack: paths may have any bytes, and a claim is found again.
func TestRegisterTextsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		r := &register{}
		c := claim{
			destination: text.Draw(t, "destination"), series: text.Draw(t, "series"), id: snapshot.ID{1},
			path: text.Draw(t, "path"), place: text.Draw(t, "place"), seen: someDay,
		}
		r.setClaim(c)
		ids := []snapshot.ID{{2}, {1}}
		r.setWaiting(c.series, c.path, ids)
		r.setHold(Hold{ID: snapshot.ID{3}, Path: c.path, Why: c.place, Since: someDay})
		text1, err := r.format()
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseRegister(text1)
		if err != nil {
			t.Fatalf("%s: %v", text1, err)
		}
		got, ok := s.claimOf(c.destination, c.series)
		if !ok || got.id != c.id || !got.seen.Equal(c.seen) || s.placeOf(c.destination) != legible(c.place) {
			t.Fatalf("%+v has become %+v", c, got)
		}
		if w := s.waited(c.series, c.path); len(w) != 2 || !w[ids[0]] || !w[ids[1]] || len(s.waited(c.series, c.path+"x")) > 0 {
			t.Fatalf("waiting: %v", w)
		}
		if h, ok := s.hold(snapshot.ID{3}); !ok || h.Why != legible(c.place) {
			t.Fatalf("held: %+v", h)
		}
		text2, err := s.format()
		if err != nil || string(text2) != string(text1) {
			t.Fatalf("%s has become %s: %v", text1, text2, err)
		}
	})
}

func FuzzRegister(f *testing.F) {
	f.Add([]byte(fullNote))
	f.Add([]byte(`{"version":1,"claims":[{"destination":"/bk","seen":null}],"x":{"y":[1e400]},"waiting":[{}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"holds":[{"id":"01000000-0000-0000-0000-000000000000","since":"2026-11-20T08:00:00+24:00"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRegister(text)
		if err != nil {
			return
		}
		once, err := r.format()
		if err != nil {
			return // times that cannot be written
		}
		s, err := parseRegister(once)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, once, err)
		}
		twice, err := s.format()
		if err != nil || string(twice) != string(once) {
			t.Fatalf("%q, then %q: %v", once, twice, err)
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(text, &before) != nil || len(once) == 0 {
			return
		}
		if err := json.Unmarshal(once, &after); err != nil {
			t.Fatal(err)
		}
		for name := range before {
			known := slices.Contains([]string{"version", "holds", "claims", "waiting", "families"}, name)
			if _, kept := after[name]; !kept && !known {
				t.Fatalf("%q is lost: %q", name, once)
			}
		}
	})
}
