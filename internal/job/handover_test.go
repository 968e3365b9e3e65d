package job

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// handing is a machine whose snapshots of a day go to a calendar in an archive.
type handing struct {
	*nightly
	src  *storetest.Fault
	dst  *storetest.Fault
	rule schedule.Calendar
	last *Handover
	lost []string
	// refuse keeps complete backups from taking the place of increments.
	refuse error
}

func newHanding(t testing.TB) *handing {
	n := newNightly(t)
	a := newAlmanac(t, t.TempDir())
	return &handing{nightly: n, src: storetest.NewFault(n.Memory), dst: storetest.NewFault(a.dst), rule: schedule.Btrsend()}
}

// bareArchive is an archive as a calendar needs it: a Fault claims to be able to do more
// than what is behind it.
type bareArchive struct{ faulty *storetest.Fault }

func (b bareArchive) String() string { return b.faulty.String() }
func (b bareArchive) Close() error   { return b.faulty.Close() }

func (b bareArchive) List(ctx context.Context) (*snapshot.Inventory, error) {
	return b.faulty.List(ctx)
}

func (b bareArchive) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	return b.faulty.Create(ctx, want)
}

func (b bareArchive) Remove(ctx context.Context, s snapshot.Snapshot) error {
	return b.faulty.Remove(ctx, s)
}

func (b bareArchive) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	return b.faulty.RemovePartial(ctx, p)
}

// day is a run on a day, counted from the first.
func (h *handing) day(ctx context.Context, number int, change func(*HandoverOptions)) (*DatedReport, error) {
	h.now = time.Date(2000, 1, 1+number, 3, 0, 0, 0, time.UTC)
	name := h.now.Format(time.DateOnly)
	return h.Dated(ctx, h.src, DatedOptions{
		Name: name, MaxAge: 60 * 24 * time.Hour, Zone: time.UTC, Who: "a test", Taker: "calendar:there",
		Offer: func(ctx context.Context) (Offered, error) {
			o := HandoverOptions{
				Calendar: CalendarOptions{Rule: h.rule, Today: schedule.DateOf(h.now), Who: "a test"},
				Has: func(_ context.Context, name string) (snapshot.ID, bool, error) {
					inv, err := h.Memory.List(ctx)
					if err != nil {
						return snapshot.ID{}, false, err
					}
					s, ok := snapshotAt(inv, name)
					return s.ID, ok, nil
				},
				Lost: func(name string) error {
					h.lost = append(h.lost, name)
					return h.refuse
				},
			}
			if change != nil {
				change(&o)
			}
			h.last = h.Handover(ctx, bareArchive{h.dst}, o)
			return h.last, nil
		},
	})
}

// chains says what there is, with what each backup builds on.
func (h *handing) chains(t testing.TB) string {
	t.Helper()
	c, err := h.dated(t.Context(), h.dst, "")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, b := range c.backups {
		text := b.Date.String()
		if !b.Parent.IsZero() {
			text += "<" + b.Parent.String()
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestHandover(t *testing.T) {
	h := newHanding(t)
	h.rule.Length = 3
	for number := range 130 {
		r, err := h.day(t.Context(), number, nil)
		if err != nil || !r.Made {
			t.Fatalf("day %d: %v, %+v", number, err, r)
		}
		day := h.now.Day()
		due := number == 0 || day == 1 || day == 7 || day == 14 || day == 21
		report, err := h.last.Report()
		if err != nil || report.Made != due || (r.Given != nil) != due {
			t.Fatalf("day %d: %v, %+v, given %+v", number, err, report, r.Given)
		}
	}
	want := "2000-02-14 2000-02-21<2000-02-14 2000-03-01<2000-02-21 " +
		"2000-03-07 2000-03-14<2000-03-07 2000-03-21<2000-03-14 " +
		"2000-04-01 2000-04-07<2000-04-01 2000-04-14<2000-04-07 " +
		"2000-04-21 2000-05-01<2000-04-21 2000-05-07<2000-05-01"
	if got := h.chains(t); !strings.HasSuffix(got, want) || len(h.lost) > 0 {
		t.Errorf("there is\n%s\nwant\n%s", got, want)
	}
	if got := held(t, h.Memory); len(got) != 60 {
		t.Errorf("%d snapshots are held", len(got))
	}
}

// TestHandoverTwice: what is there is not made again.
func TestHandoverTwice(t *testing.T) {
	h := newHanding(t)
	for run := range 3 {
		r, err := h.day(t.Context(), 0, nil)
		if err != nil || (r.Given != nil) != (run == 0) {
			t.Errorf("run %d: %v, %+v", run, err, r)
		}
	}
	if got := h.chains(t); got != "2000-01-01" {
		t.Errorf("there is %s", got)
	}
}

// TestHandoverFailures: whatever fails on either side fails on both, leaves nothing
// that looks whole, and is made up for by the next run of the day.
func TestHandoverFailures(t *testing.T) {
	oops := errors.New("oops")
	temporary := store.MarkTemporary(oops)
	for name, c := range map[string]struct {
		fault func(h *handing)
		lasts bool // the run does not get over it by itself
	}{
		"the source cannot be read":          {func(h *handing) { h.src.On(storetest.Open).Always().Return(oops) }, true},
		"the source ends early":              {func(h *handing) { h.src.On(storetest.Open).Always().Cut(1000) }, true},
		"the source breaks":                  {func(h *handing) { h.src.On(storetest.Open).Always().Break(1000, oops) }, true},
		"the source is damaged":              {func(h *handing) { h.src.On(storetest.Open).Always().Corrupt(1000) }, true},
		"the destination cannot be listed":   {func(h *handing) { h.dst.On(storetest.List).Always().Return(oops) }, true},
		"the destination takes nothing":      {func(h *handing) { h.dst.On(storetest.Create).Always().Return(oops) }, true},
		"the destination breaks":             {func(h *handing) { h.dst.On(storetest.Write).Always().Return(oops) }, true},
		"the destination does not commit":    {func(h *handing) { h.dst.On(storetest.Commit).Always().Return(oops) }, true},
		"the source breaks for a while":      {func(h *handing) { h.src.On(storetest.Open).Break(1000, temporary) }, false},
		"the destination breaks for a while": {func(h *handing) { h.dst.On(storetest.Write).Return(temporary) }, false},
		"the commit fails for a while":       {func(h *handing) { h.dst.On(storetest.Commit).Return(temporary) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // tries again take their time
				h := newHanding(t)
				for number := range 7 {
					if number == 6 {
						c.fault(h)
					}
					_, err := h.day(t.Context(), number, nil)
					if (err != nil) != (number == 6 && c.lasts) {
						t.Fatalf("day %d: %v", number, err)
					}
				}
				h.src.Reset()
				h.dst.Reset()
				want := "2000-01-01 2000-01-07<2000-01-01"
				if got := h.chains(t); c.lasts && got != "2000-01-01" || !c.lasts && got != want {
					t.Errorf("there is %s", got)
				}
				if r, err := h.day(t.Context(), 6, nil); err != nil || (r.Given != nil) != c.lasts || h.chains(t) != want {
					t.Errorf("once more: %v, %+v, and there is %s", err, r, h.chains(t))
				}
			})
		})
	}
}

// TestHandoverInterrupted ends on both sides, wherever it is.
func TestHandoverInterrupted(t *testing.T) {
	for _, op := range []storetest.Op{storetest.List, storetest.Create, storetest.Write, storetest.Commit} {
		h := newHanding(t)
		why := errors.New("somebody has had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		h.dst.On(op).Do(func(ctx context.Context) error {
			cancel(why)
			<-ctx.Done()
			return context.Cause(ctx)
		})
		r, err := h.day(ctx, 0, nil)
		if !errors.Is(err, why) && !errors.Is(err, context.Canceled) || !r.Made {
			t.Errorf("%s: %v", op, err)
		}
		h.dst.Reset()
		if got := h.chains(t); got != "" {
			t.Errorf("%s: there is %s", op, got)
		}
		if _, err := h.day(t.Context(), 0, nil); err != nil || h.chains(t) != "2000-01-01" {
			t.Errorf("%s: %v, and there is %s", op, err, h.chains(t))
		}
	}
}

// TestHandoverLost: where the snapshot is gone that the increment would start from,
// a complete backup takes its place, unless somebody does not want that.
func TestHandoverLost(t *testing.T) {
	h := newHanding(t)
	for number := range 8 {
		if _, err := h.day(t.Context(), number, nil); err != nil {
			t.Fatal(err)
		}
	}
	gone, _ := snapshotAt(list(t, h.Memory), "2000-01-07")
	if err := h.Memory.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	h.refuse = errors.New("not that much")
	if _, err := h.day(t.Context(), 13, nil); !errors.Is(err, h.refuse) {
		t.Errorf("the error is %v", err)
	}
	if got, want := h.chains(t), "2000-01-01 2000-01-07<2000-01-01"; got != want {
		t.Errorf("there is %s", got)
	}
	h.refuse = nil
	for _, number := range []int{13, 20} {
		if _, err := h.day(t.Context(), number, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := h.chains(t), "2000-01-01 2000-01-07<2000-01-01 2000-01-14 2000-01-21<2000-01-14"; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
	// One that has been made anew under the old name is not what is needed either.
	gone, _ = snapshotAt(list(t, h.Memory), "2000-01-21")
	if err := h.Memory.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Memory.Snapshot(t.Context(), "2000-01-21"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.day(t.Context(), 31, nil); err != nil {
		t.Fatal(err)
	}
	if got := h.chains(t); !strings.HasSuffix(got, " 2000-01-21<2000-01-14 2000-02-01") {
		t.Errorf("there is %s", got)
	}
	if !slices.Equal(h.lost, []string{"2000-01-07", "2000-01-07", "2000-01-21"}) {
		t.Errorf("%q are lost", h.lost)
	}
}

// TestHandoverRemoval: what cannot be removed keeps no backup from being made, and
// is told all the same.
func TestHandoverRemoval(t *testing.T) {
	h := newHanding(t)
	h.rule.Length = 2
	h.rule.Lifetime = 5
	for _, number := range []int{0, 6, 13} {
		if _, err := h.day(t.Context(), number, nil); err != nil {
			t.Fatal(err)
		}
	}
	oops := errors.New("oops")
	h.dst.On(storetest.Remove).Always().Return(oops)
	r, err := h.day(t.Context(), 20, nil)
	if err != nil || r.Given == nil {
		t.Errorf("%v, %+v", err, r)
	}
	report, err := h.last.Report()
	if _, ok := errors.AsType[*RemovalError](err); !ok || !report.Made {
		t.Errorf("what could not be removed: %v", err)
	}
	if r, err = h.day(t.Context(), 21, nil); err != nil || r.Given != nil {
		t.Errorf("where nothing is wanted: %v, %+v", err, r)
	}
	if _, err = h.last.Report(); err == nil {
		t.Error("nobody learns what could not be removed")
	}
}

// TestHandoverProperty has runs on any days fail in any way: what is there is always
// a calendar's, each backup on top of another one that is there.
func TestHandoverProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHanding(t)
		h.rule.Length = rapid.IntRange(1, 4).Draw(rt, "length")
		number := 0
		for range rapid.IntRange(1, 6).Draw(rt, "runs") {
			number += rapid.IntRange(0, 20).Draw(rt, "days")
			var fault *storetest.Fault
			if rapid.Bool().Draw(rt, "fails") {
				fault = h.dst
				op := rapid.SampledFrom([]storetest.Op{storetest.List, storetest.Create, storetest.Write, storetest.Commit, storetest.Remove, storetest.Open}).Draw(rt, "op")
				if op == storetest.Open {
					fault = h.src
				}
				fault.On(op).After(rapid.IntRange(0, 2).Draw(rt, "after")).Return(errors.New("oops"))
			}
			_, err := h.day(t.Context(), number, nil)
			if err != nil && fault == nil {
				rt.Fatalf("day %d: %v", number, err)
			}
			h.src.Reset()
			h.dst.Reset()
			c, listing := h.dated(t.Context(), h.dst, "")
			if listing != nil {
				rt.Fatal(listing)
			}
			if err == nil && len(c.backups) == 0 {
				rt.Fatalf("day %d: nothing is there", number)
			}
			ids := map[snapshot.ID]bool{}
			for _, b := range c.backups {
				if b.Parent == noDate {
					rt.Fatalf("day %d: %s builds on nothing that is there", number, b.Date)
				}
				if ids[b.Snapshot.ID] {
					rt.Fatalf("day %d: %s is there twice", number, b.Date)
				}
				ids[b.Snapshot.ID] = true
			}
		}
	})
}
