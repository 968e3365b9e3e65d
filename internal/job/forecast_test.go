package job

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// deep is whose prices hold for what is stored in these tests.
var deep = store.Tariff{Provider: "aws", Service: "s3", Region: "us-east-1", Class: "DEEP_ARCHIVE", PartSize: 1 << 20}

// priced is a store without prices of its own, at the time when Memory's clock
// begins.
func priced() *Engine {
	return &Engine{Now: func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }}
}

// lineOf is an item of an estimate; the zero Line if it has none.
func lineOf(e *bill.Estimate, what, class string) bill.Line {
	if i := slices.IndexFunc(e.Lines, func(l bill.Line) bool { return l.What == what && l.Class == class }); i >= 0 {
		return e.Lines[i]
	}
	return bill.Line{}
}

func tiersOf(r *Restoring) (all []store.Tier) {
	for _, t := range tiers {
		if _, ok := r.Tiers[t]; ok {
			all = append(all, t)
		}
	}
	return all
}

func TestForecastOfStoring(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	dst.SetArchive()
	dst.SetTariff(deep)
	for i := range uint64(3) {
		src.Add("f", 10*(i+1), []string{"s1", "s2", "s3"}[i])
	}
	var seen *Outlook
	o := SyncOptions{DryRun: true, Planned: func(p *Outlook) { seen = p }}
	if _, err := priced().Sync(t.Context(), src, dst, o); err != nil {
		t.Fatal(err)
	}
	f := seen.Forecast
	if f == nil || f.Storing == nil || f.Restoring != nil || f.Removing != nil {
		t.Fatalf("%+v", f)
	}
	total := int64(0)
	for _, s := range seen.Steps {
		total += s.Size.Bytes
	}
	if l := lineOf(f.Storing, bill.Storage, "DEEP_ARCHIVE"); l.Count != 3 || l.Bytes != total || total == 0 || !l.Monthly {
		t.Errorf("of %d bytes are stored %+v", total, l)
	}
	// A stream is begun, carried in one part, and completed; two small objects are
	// beside it, and remain where they can be read.
	if a, b := lineOf(f.Storing, bill.Uploading, "DEEP_ARCHIVE"), lineOf(f.Storing, bill.Uploading, "STANDARD"); a.Count != 3 || b.Count != 3*2+3*2 {
		t.Errorf("%+v and %+v", a, b)
	}
	if f.Storing.Currency != "USD" || f.Storing.Once <= 0 || f.Storing.Monthly <= 0 || len(f.Storing.Assumptions) < 2 {
		t.Errorf("%+v", f.Storing)
	}
	if diff := cmp.Diff([]store.Tier{store.Bulk, store.Standard}, tiersOf(f.Back)); diff != "" || f.Back.Streams != f.Back.Cold || f.Back.Streams == 0 {
		t.Errorf("%+v %s", f.Back, diff)
	}

	o.DryRun = false
	if _, err := priced().Sync(t.Context(), src, dst, o); err != nil || seen.Forecast != nil {
		t.Errorf("a run that costs nothing to read: %+v, %v", seen.Forecast, err)
	}
}

func TestForecastWhereNobodyBills(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	src.Add("f", 10, "s1")
	_, err := priced().Sync(t.Context(), src, dst, SyncOptions{DryRun: true, Planned: func(p *Outlook) {
		if p.Forecast != nil {
			t.Errorf("%+v", p.Forecast)
		}
	}})
	if err != nil {
		t.Error(err)
	}
}

// What is short is stored where it can be read at once, and then nothing has to be
// thawed.
func TestForecastOfShortStreams(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	dst.SetArchive()
	tariff := deep
	tariff.Small = 1 << 40
	dst.SetTariff(tariff)
	src.Add("f", 10, "s1")
	_, err := priced().Sync(t.Context(), src, dst, SyncOptions{DryRun: true, Planned: func(p *Outlook) {
		if f := p.Forecast; f == nil || f.Back != nil || lineOf(f.Storing, bill.Storage, "DEEP_ARCHIVE").Count != 0 {
			t.Errorf("%+v", f)
		}
	}})
	if err != nil {
		t.Error(err)
	}
}

// A store that removes for good says what that costs; Memory has things since they
// were made.
func TestForecastOfRemoving(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	src.Add("f", 10, "s1")
	a, b := dst.Add("f", 10, "s1"), dst.Add("g", 10, "old")
	edges := []snapshot.Edge{{To: a.ID}, {To: b.ID}}
	dst.SetArchive(edges...)
	dst.SetTariff(deep)
	dst.Freeze("DEEP_ARCHIVE", edges...)
	engine := &Engine{Now: func() time.Time { return b.Created.AddDate(0, 0, 30) }}
	var seen *Outlook
	if _, err := engine.Sync(t.Context(), src, dst, SyncOptions{DryRun: true, Delete: true, Planned: func(p *Outlook) { seen = p }}); err != nil {
		t.Fatal(err)
	}
	f := seen.Forecast
	if f == nil || f.Removing == nil || lineOf(f.Removing, bill.Early, "DEEP_ARCHIVE").Count != 1 || f.Removing.Once <= 0 || f.Removing.Monthly >= 0 {
		t.Fatalf("%+v", f)
	}
}

func TestForecastOfPruning(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3)
	var edges []snapshot.Edge
	for _, s := range inventory(t, m).Inside() {
		edges = append(edges, snapshot.Edge{To: s.ID})
	}
	m.SetArchive(edges...)
	m.SetTariff(deep)
	m.Freeze("DEEP_ARCHIVE", edges...)
	first := inventory(t, m).Inside()[0]
	for _, dry := range []bool{true, false} {
		var told []*Early
		r, err := pruner().Prune(t.Context(), m, PruneOptions{
			Rules: last(2), DryRun: dry, Forecast: func(e *Early) { told = append(told, e) },
			Removed: func(snapshot.Snapshot, error) {
				if len(told) == 0 {
					t.Error("something is removed before it is told what that costs")
				}
			},
		})
		if err != nil || len(told) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		e := told[0]
		want := time.Time{}
		if at := first.Created.AddDate(0, 0, 180); at.After(pruner().now()) {
			want = at
		}
		if !e.Settled.Equal(want) || e.Later || (e.Fee() > 0) != !want.IsZero() || lineOf(&e.Estimate, bill.Storage, "DEEP_ARCHIVE").Count != -1 {
			t.Errorf("want nothing from %v on: %+v", want, e)
		}
	}
}

// binned is a store with something in its trash.
type binned struct {
	*storetest.Memory
	all       []store.Trashed
	discarded int
}

func (b *binned) Trashed(context.Context) ([]store.Trashed, error) { return b.all, nil }
func (b *binned) Untrash(context.Context, store.Trashed) error     { return errors.New("no") }
func (b *binned) Discard(_ context.Context, _ store.Trashed) error { b.discarded++; return nil }

// 100 GiB in DEEP_ARCHIVE for 30 of 180 days: 100 x 0.00099 x 5, and 32 KiB of the
// same. What is in STANDARD costs nothing.
func TestForecastOfEmptyingTheTrash(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	b := &binned{Memory: storetest.NewMemory("m"), all: []store.Trashed{
		{Path: "cold", Handle: "1", Class: "DEEP_ARCHIVE", Since: now.AddDate(0, 0, -30), Stored: snapshot.Stored{Size: snapshot.ExactSize(100 << 30)}},
		{Path: "warm", Handle: "2", Since: now.AddDate(0, 0, -1), Stored: snapshot.Stored{Size: snapshot.ExactSize(100 << 30)}},
	}}
	b.SetTariff(deep)
	engine := &Engine{Now: func() time.Time { return now }}
	for _, name := range []string{"", "warm"} {
		var told []*Early
		o := TrashOptions{DryRun: name == "", Forecast: func(e *Early) {
			if told = append(told, e); b.discarded > 0 {
				t.Error("it is told when it is too late")
			}
		}}
		want, settled := 0.495000151, now.AddDate(0, 0, 150)
		if name != "" {
			o.Names, want, settled = []string{name}, 0, time.Time{}
		}
		if err := engine.Empty(t.Context(), b, o); err != nil || len(told) != 1 {
			t.Fatalf("%v, %v", told, err)
		}
		if e := told[0]; math.Abs(e.Fee()-want) > 1e-8 || !e.Settled.Equal(settled) || e.Once != e.Fee() {
			t.Errorf("%q: %+v", name, e)
		}
	}
	if b.discarded != 1 {
		t.Errorf("%d are discarded", b.discarded)
	}
}

func TestCost(t *testing.T) {
	src, edges := coldChain(3)
	src.Freeze("GLACIER", edges[:2]...)
	e := priced()
	r, err := e.Cost(t.Context(), src, CostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[snapshot.ID]int64{}
	for _, s := range inventory(t, src).Edges {
		sizes[s.To] = s.Size.Bytes
	}
	want := []Kept{{Streams: 1, Objects: 1, Bytes: sizes[edges[2].To]}, {Class: "GLACIER", Streams: 2, Objects: 2, Bytes: sizes[edges[0].To] + sizes[edges[1].To]}}
	if diff := cmp.Diff(want, r.Kept); diff != "" {
		t.Error(diff)
	}
	if r.Restoring.Streams != 3 || r.Restoring.Cold != 2 || len(tiersOf(r.Restoring)) != 3 || r.Restoring.Days != 7 || r.Path != "" || r.Emptying != nil {
		t.Errorf("everything: %+v", r.Restoring)
	}
	if r.Keeping.Monthly <= 0 || r.Keeping.Once != 0 || r.Trash.Monthly != 0 {
		t.Errorf("%+v, %+v", r.Keeping, r.Trash)
	}

	if r, err = e.Cost(t.Context(), src, CostOptions{Name: "s1", Days: 3}); err != nil || r.Path != "s1" || r.Restoring.Streams != 1 || r.Restoring.Cold != 1 || r.Restoring.Days != 3 {
		t.Errorf("the first: %+v, %v", r, err)
	}
	if _, err := src.Thaw(t.Context(), edges[:1], store.ThawOptions{Ask: true}); err != nil {
		t.Fatal(err)
	}
	if r, err = e.Cost(t.Context(), src, CostOptions{Name: "s3"}); err != nil || r.Restoring.Streams != 3 || r.Restoring.Cold != 1 || r.Restoring.Pending != 1 {
		t.Errorf("the last: %+v, %v", r, err)
	}
	if src.Asks(edges[0]) != 1 || src.Asks(edges[1]) != 0 {
		t.Error("it has asked for something")
	}

	_, err = e.Cost(t.Context(), src, CostOptions{Name: "s9"})
	if x, ok := errors.AsType[*NoSnapshotsError](err); !ok || !x.Named {
		t.Errorf("what is not there: %v", err)
	}
	_, err = e.Cost(t.Context(), storetest.NewMemory("m"), CostOptions{})
	if x, ok := errors.AsType[*UnbilledError](err); !ok || !strings.Contains(x.Error(), "memory m") {
		t.Errorf("where nobody bills: %v", err)
	}
	if _, err = e.Cost(t.Context(), &faulty{src}, CostOptions{}); !errors.Is(err, errBroken) {
		t.Errorf("what cannot be listed: %v", err)
	}
}

// faulty is a store of which nobody can tell what it holds.
type faulty struct{ *storetest.Memory }

var errBroken = errors.New("broken")

func (f *faulty) Holdings(context.Context) iter.Seq2[store.Holding, error] {
	return func(yield func(store.Holding, error) bool) { yield(store.Holding{}, errBroken) }
}

// TestLightest compares with trying all ways.
func TestLightest(t *testing.T) {
	id := func(n int) snapshot.ID {
		if n == 0 {
			return snapshot.ID{}
		}
		return snapshot.ID{byte(n)}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "snapshots")
		var edges []snapshot.Stored
		for range rapid.IntRange(0, 12).Draw(t, "edges") {
			edges = append(edges, snapshot.Stored{
				Edge: snapshot.Edge{To: id(rapid.IntRange(1, n).Draw(t, "to")), From: id(rapid.IntRange(0, n).Draw(t, "from"))},
				Size: snapshot.ExactSize(rapid.Int64Range(0, 5).Draw(t, "size")),
			})
		}
		best := int64(-1)
		var walk func(at snapshot.ID, sofar int64, been []snapshot.ID)
		walk = func(at snapshot.ID, sofar int64, been []snapshot.ID) {
			if at == id(n) && (best < 0 || sofar < best) {
				best = sofar
			}
			for _, e := range edges {
				if e.From == at && !slices.Contains(been, e.To) {
					walk(e.To, sofar+e.Size.Bytes, append(slices.Clone(been), e.To))
				}
			}
		}
		walk(snapshot.ID{}, 0, nil)
		chain := lightest(edges, id(n))
		if best < 0 {
			if len(chain) != 0 {
				t.Fatalf("a way where there is none: %v", chain)
			}
			return
		}
		sum, at := int64(0), snapshot.ID{}
		for _, s := range chain {
			if s.From != at {
				t.Fatalf("no chain: %v", chain)
			}
			sum, at = sum+s.Size.Bytes, s.To
		}
		if at != id(n) || sum != best {
			t.Fatalf("%d bytes, and %d would do: %v", sum, best, chain)
		}
	})
}

// The calendar removes an expired chain for good, and what is made then counts as
// long as the newest of its kind.
func TestForecastOfTheCalendar(t *testing.T) {
	m := storetest.NewMemory("m")
	var edges []snapshot.Edge
	for i, date := range []string{"2026-01-01", "2026-01-07", "2026-05-01", "2026-05-07"} {
		e := snapshot.Edge{To: m.Add("home", uint64(10*(i+1)), date).ID}
		if i%2 == 1 {
			e.From = edges[i-1].To
		}
		edges = append(edges, e)
	}
	m.SetArchive(edges...)
	m.SetTariff(deep)
	m.Freeze("DEEP_ARCHIVE", edges...)
	first, _ := inventory(t, m).Find(edges[0].To)
	engine := &Engine{Now: func() time.Time { return first.Created.AddDate(0, 0, 100) }}
	today, err := schedule.ParseDate("2026-05-14")
	if err != nil {
		t.Fatal(err)
	}
	r, err := engine.Calendar(t.Context(), m, CalendarOptions{Rule: schedule.Btrsend(), Today: today, DryRun: true})
	if err != nil || len(r.Removed) != 2 || !r.Decision.Create || r.Decision.Parent.String() != "2026-05-07" {
		t.Fatalf("%+v, %v", r, err)
	}
	f, err := engine.ForecastCalendar(t.Context(), m, r)
	if err != nil || f == nil {
		t.Fatalf("%+v, %v", f, err)
	}
	if l := lineOf(f.Removing, bill.Early, "DEEP_ARCHIVE"); l.Count != 2 || l.Cost <= 0 {
		t.Errorf("%+v", f.Removing)
	}
	sizes := map[snapshot.ID]int64{}
	for _, s := range inventory(t, m).Edges {
		sizes[s.To] = s.Size.Bytes
	}
	if l := lineOf(f.Storing, bill.Storage, "DEEP_ARCHIVE"); l.Bytes != sizes[edges[3].To] || l.Bytes == 0 {
		t.Errorf("%+v", f.Storing)
	}
	if want := sizes[edges[2].To] + 2*sizes[edges[3].To]; f.Back == nil || f.Back.Streams != 3 || f.Back.Bytes != want {
		t.Errorf("want 3 streams of %d bytes: %+v", want, f.Back)
	}
	if f, err := engine.ForecastCalendar(t.Context(), storetest.NewMemory("m"), r); f != nil || err != nil {
		t.Errorf("where nobody bills: %+v, %v", f, err)
	}
}
