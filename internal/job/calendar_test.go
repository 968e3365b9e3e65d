package job

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	streams "github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// almanac is a source of dated snapshots, and an archive that a calendar fills.
type almanac struct {
	src  *storetest.Memory
	dst  store.Store
	days map[schedule.Date]snapshot.ID
	next uint64
	// complete asks for a complete backup, whatever the calendar says.
	complete bool
}

func newAlmanac(t interface {
	Fatal(args ...any)
	Helper()
}, path string,
) *almanac {
	t.Helper()
	bucket, err := dir.Open(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := streams.Open(context.Background(), bucket, streams.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Init(context.Background(), streams.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	return &almanac{src: storetest.NewMemory("src"), dst: st, days: map[schedule.Date]snapshot.ID{}, next: 10}
}

// stream is what the caller of a calendar sends, once it has been asked.
type stream struct {
	a     *almanac
	today schedule.Date
	asked schedule.Decision
	in    io.Reader
	alter func(snapshot.Edge) snapshot.Edge
}

func (s *stream) Read(p []byte) (int, error) {
	if s.in == nil {
		edge := snapshot.Edge{To: s.a.days[s.today]}
		if !s.asked.Parent.IsZero() {
			edge.From = s.a.days[s.asked.Parent]
		}
		if s.alter != nil {
			edge = s.alter(edge)
		}
		in, err := s.a.src.Open(context.Background(), store.Request{Edge: edge})
		if err != nil {
			return 0, err
		}
		all, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil {
			return 0, err
		}
		s.in = bytes.NewReader(all)
	}
	return s.in.Read(p)
}

// run has the calendar do the work of a day, and returns what it asked for.
func (a *almanac) run(ctx context.Context, rule schedule.Calendar, today schedule.Date, alter func(snapshot.Edge) snapshot.Edge) (asked string, report *CalendarReport, err error) {
	if _, there := a.days[today]; !there {
		a.next++
		a.days[today] = a.src.Add("home", a.next, today.String()).ID
	}
	in := &stream{a: a, today: today, alter: alter}
	report, err = (&Engine{}).Calendar(ctx, a.dst, CalendarOptions{
		Rule: rule, Today: today, Complete: a.complete, In: in, From: "a test",
		Decided: func(d schedule.Decision) error {
			if asked != "" {
				return errors.New("asked twice")
			}
			in.asked = d
			asked = "nothing"
			if d.Create {
				asked = d.Parent.String()
			}
			return nil
		},
	})
	return asked, report, err
}

func onDay(t interface{ Fatal(args ...any) }, text string) schedule.Date {
	d, err := schedule.ParseDate(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCalendar(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	rule := schedule.Btrsend()
	rule.Length = 3
	for _, c := range []struct{ day, asked, there string }{
		{"2000-01-02", "none", "2000-01-02"},
		{"2000-01-02", "nothing", "2000-01-02"},
		{"2000-01-03", "nothing", "2000-01-02"},
		{"2000-01-07", "2000-01-02", "2000-01-02 2000-01-07"},
		{"2000-01-14", "2000-01-07", "2000-01-02 2000-01-07 2000-01-14"},
		{"2000-01-21", "none", "2000-01-02 2000-01-07 2000-01-14 2000-01-21"},
		// Ninety days after its end, the first chain goes.
		{"2000-04-12", "nothing", "2000-01-02 2000-01-07 2000-01-14 2000-01-21"},
		{"2000-04-13", "nothing", "2000-01-21"},
		// The second is too old to build on, but the last.
		{"2000-06-01", "none", "2000-01-21 2000-06-01"},
		{"2000-06-02", "nothing", "2000-06-01"},
	} {
		asked, _, err := a.run(t.Context(), rule, onDay(t, c.day), nil)
		if err != nil || asked != c.asked {
			t.Errorf("%s: asked for %s (%v), want %s", c.day, asked, err, c.asked)
		}
		if got := strings.Join(held(t, a.dst), " "); got != c.there {
			t.Errorf("%s: there is %s, want %s", c.day, got, c.there)
		}
	}
}

// TestCalendarComplete begins a new chain by somebody's word, on any day but one
// that has a backup; the next one builds on it.
func TestCalendarComplete(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	for _, c := range []struct {
		day      string
		complete bool
		asked    string
	}{
		{"2000-01-01", false, "none"},
		{"2000-01-07", false, "2000-01-01"},
		{"2000-01-07", true, "nothing"},
		{"2000-01-09", true, "none"},
		{"2000-01-14", false, "2000-01-09"},
		{"2000-01-21", true, "none"},
		{"2000-02-01", false, "2000-01-21"},
	} {
		a.complete = c.complete
		if asked, _, err := a.run(t.Context(), schedule.Btrsend(), onDay(t, c.day), nil); err != nil || asked != c.asked {
			t.Errorf("%s: asked for %s (%v), want %s", c.day, asked, err, c.asked)
		}
	}
}

// TestCalendarForesees: a dry run says what a run does, and does none of it.
func TestCalendarForesees(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	rule := schedule.Btrsend()
	for _, d := range []string{"2000-01-01", "2000-01-07", "2000-07-01", "2000-07-07"} {
		if _, _, err := a.run(t.Context(), rule, onDay(t, d), nil); err != nil && d != "2000-07-07" {
			t.Fatal(err)
		}
	}
	before := held(t, a.dst)
	for range 2 {
		r, err := (&Engine{}).Calendar(t.Context(), a.dst, CalendarOptions{Rule: rule, Today: onDay(t, "2000-10-14"), DryRun: true})
		if err != nil || r.Made || !r.Decision.Create || !r.Decision.Parent.IsZero() {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if diff := cmp.Diff(before, held(t, a.dst)); diff != "" {
		t.Error(diff)
	}
}

// TestCalendarRefuses: what is not what was asked for is stored nowhere.
func TestCalendarRefuses(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	rule := schedule.Btrsend()
	for _, d := range []string{"2000-01-01", "2000-01-07"} {
		if _, _, err := a.run(t.Context(), rule, onDay(t, d), nil); err != nil {
			t.Fatal(err)
		}
	}
	first := a.days[onDay(t, "2000-01-01")]
	for name, alter := range map[string]func(snapshot.Edge) snapshot.Edge{
		"complete":       func(e snapshot.Edge) snapshot.Edge { e.From = snapshot.ID{}; return e },
		"another parent": func(e snapshot.Edge) snapshot.Edge { e.From = first; return e },
	} {
		_, r, err := a.run(t.Context(), rule, onDay(t, "2000-01-14"), alter)
		if _, ok := errors.AsType[*GivenError](err); !ok || r.Made {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff([]string{"2000-01-01", "2000-01-07"}, held(t, a.dst)); diff != "" {
		t.Error(diff)
	}
	b := newAlmanac(t, t.TempDir())
	b.days[onDay(t, "2000-01-01")], b.src = first, a.src
	_, _, err := b.run(t.Context(), rule, onDay(t, "2000-01-01"), func(e snapshot.Edge) snapshot.Edge {
		return snapshot.Edge{To: a.days[onDay(t, "2000-01-07")], From: first}
	})
	if _, ok := errors.AsType[*GivenError](err); !ok {
		t.Errorf("an increment in place of a complete one: %v", err)
	}
}

// TestCalendarStops: who cannot tell what is wanted gets nothing.
func TestCalendarStops(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	gone := errors.New("nobody reads")
	_, err := (&Engine{}).Calendar(t.Context(), a.dst, CalendarOptions{
		Rule: schedule.Btrsend(), Today: onDay(t, "2000-01-01"), In: strings.NewReader("x"),
		Decided: func(schedule.Decision) error { return gone },
	})
	if !errors.Is(err, gone) {
		t.Error(err)
	}
	_, err = (&Engine{}).Calendar(t.Context(), a.src, CalendarOptions{Rule: schedule.Btrsend(), Today: onDay(t, "2000-01-01")})
	if _, ok := errors.AsType[*UnableError](err); !ok {
		t.Errorf("a store of snapshots: %v", err)
	}
	if _, err := (&Engine{}).Calendar(t.Context(), a.dst, CalendarOptions{Today: onDay(t, "2000-01-01")}); err == nil {
		t.Error("a calendar without days")
	}
}

// clerk is an archive that has trouble with removing, and knows backups by the
// dates of its own.
type clerk struct {
	store.Store
	own      map[snapshot.ID]snapshot.ID // what it lists, by what streams say
	refuses  string                      // a path
	removing []string
	wants    []store.Want
}

func (c *clerk) OwnIdentities() bool { return c.own != nil }

func (c *clerk) name(id snapshot.ID) snapshot.ID {
	if c.own == nil || id.IsZero() {
		return id
	}
	id[0] ^= 0xff
	return id
}

func (c *clerk) List(ctx context.Context) (*snapshot.Inventory, error) {
	inv, err := c.Store.List(ctx)
	if err != nil || c.own == nil {
		return inv, err
	}
	named := *inv
	named.Snapshots, named.Edges = nil, nil
	for _, s := range inv.Snapshots {
		s.ID = c.name(s.ID)
		named.Snapshots = append(named.Snapshots, s)
	}
	for _, e := range inv.Edges {
		e.To, e.From = c.name(e.To), c.name(e.From)
		named.Edges = append(named.Edges, e)
	}
	return &named, nil
}

func (c *clerk) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	c.wants = append(c.wants, want)
	want.Edge.From = c.name(want.Edge.From)
	return c.Store.(store.Sink).Create(ctx, want)
}

func (c *clerk) Remove(ctx context.Context, s snapshot.Snapshot) error {
	c.removing = append(c.removing, s.Path)
	if s.Path == c.refuses {
		return errors.New("not today")
	}
	return c.Store.(store.Remover).Remove(ctx, s)
}

func (c *clerk) RemovePartial(context.Context, snapshot.Partial) error { return nil }

// TestCalendarCannotRemove: what cannot be removed keeps what it builds on, fails the
// run, and keeps nobody from making a backup.
func TestCalendarCannotRemove(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	c := &clerk{Store: a.dst, refuses: "2000-01-07"}
	a.dst = c
	rule := schedule.Btrsend()
	for _, d := range []string{"2000-01-01", "2000-01-07", "2000-01-14", "2000-06-21"} {
		if _, _, err := a.run(t.Context(), rule, onDay(t, d), nil); err != nil {
			t.Fatal(err)
		}
	}
	asked, r, err := a.run(t.Context(), rule, onDay(t, "2000-07-01"), nil)
	if e, ok := errors.AsType[*RemovalError](err); !ok || len(e.Failures) != 1 || !r.Made || asked != "2000-06-21" {
		t.Errorf("asked for %s: %v", asked, err)
	}
	if diff := cmp.Diff([]string{"2000-01-14", "2000-01-07"}, c.removing); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"2000-01-01", "2000-01-07", "2000-06-21", "2000-07-01"}, held(t, a.dst)); diff != "" {
		t.Error(diff)
	}
}

// TestCalendarOwnIdentities: a store that names its snapshots itself is told of the
// parent by that name.
func TestCalendarOwnIdentities(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	c := &clerk{Store: a.dst, own: map[snapshot.ID]snapshot.ID{}}
	a.dst = c
	for _, d := range []string{"2000-01-01", "2000-01-07"} {
		if _, _, err := a.run(t.Context(), schedule.Btrsend(), onDay(t, d), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.wants) != 2 || !c.wants[0].Edge.IsFull() || c.wants[1].Edge.From != c.name(a.days[onDay(t, "2000-01-01")]) || c.wants[1].Path != "2000-01-07" {
		t.Errorf("%+v", c.wants)
	}
}

// TestCalendarInterrupted: a signal while the stream comes in leaves nothing behind.
func TestCalendarInterrupted(t *testing.T) {
	a := newAlmanac(t, t.TempDir())
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	in, feed := io.Pipe()
	defer feed.Close()
	r, err := (&Engine{}).Calendar(ctx, a.dst, CalendarOptions{
		Rule: schedule.Btrsend(), Today: onDay(t, "2000-01-01"), In: in,
		Decided: func(schedule.Decision) error { cancel(cause); return nil },
	})
	if !errors.Is(err, cause) || r.Made || r.Result.Outcome != transfer.Interrupted || len(held(t, a.dst)) > 0 {
		t.Errorf("%v", err)
	}
}

// TestCalendarProperty: whatever days there are runs on, and whatever is sent, all
// that is there can be restored, and the newest complete backup is never gone.
func TestCalendarProperty(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := root + "/" + strings.Repeat("x", 1+n%50) + schedule.Date{Year: n}.String()
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		a := newAlmanac(t, path)
		rule := schedule.Calendar{Days: []int{1, 7, 14, 21}, Length: rapid.IntRange(1, 4).Draw(t, "length"), Lifetime: rapid.IntRange(20, 90).Draw(t, "lifetime")}
		today := schedule.Date{Year: 2000, Month: 1, Day: 1}
		for range rapid.IntRange(1, 8).Draw(t, "runs") {
			bad := rapid.IntRange(0, 4).Draw(t, "bad") == 0
			_, report, err := a.run(context.Background(), rule, today, func(e snapshot.Edge) snapshot.Edge {
				if bad {
					e.To = storetest.IDOf("home", 9999)
				}
				return e
			})
			if err != nil && !bad || report == nil {
				t.Fatalf("%s: %v", today, err)
			}
			inv, err := a.dst.List(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			complete := 0
			for _, s := range inv.Inside() {
				if !restorable(inv, s.ID) {
					t.Fatalf("%s: %s cannot be restored", today, s.Path)
				}
				if slices.ContainsFunc(inv.Edges, func(e snapshot.Stored) bool { return e.To == s.ID && e.IsFull() }) {
					complete++
				}
			}
			if len(report.There) > 0 && complete == 0 {
				t.Fatalf("%s: no complete backup is left", today)
			}
			today = today.AddDays(rapid.SampledFrom([]int{1, 3, 6, 7, 7, 7, 10, 40, 120}).Draw(t, "days"))
		}
	})
}

func restorable(inv *snapshot.Inventory, id snapshot.ID) bool {
	for range len(inv.Edges) + 1 {
		i := slices.IndexFunc(inv.Edges, func(e snapshot.Stored) bool { return e.To == id })
		if i < 0 {
			return false
		}
		if inv.Edges[i].IsFull() {
			return true
		}
		id = inv.Edges[i].From
	}
	return false
}
