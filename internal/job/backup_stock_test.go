package job

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// TestBackupStanding: what a destination lacks is counted, and of one that cannot
// be reached it is not known.
func TestBackupStanding(t *testing.T) {
	src := newNightly(t)
	var newest string
	for range 3 {
		r, err := src.Backup(t.Context(), src.Memory, utc())
		if err != nil {
			t.Fatal(err)
		}
		newest = r.Taken.Path
		src.now = src.now.AddDate(0, 0, 1)
	}
	there := storetest.NewMemory("there")
	open := func(context.Context) (store.Store, error) { return there, nil }
	away := func(context.Context) (store.Store, error) { return nil, errors.New("it is away") }
	o := utc(Destination{Name: "there", ID: "there", Open: open}, Destination{Name: "away", ID: "away", Open: away})
	o.NoSnapshot, o.DryRun = true, true
	made := src.now.AddDate(0, 0, -1)
	stand := func() []Standing {
		t.Helper()
		r, err := src.Backup(t.Context(), src.Memory, o)
		if err == nil {
			t.Fatal("a destination that is away is no failure")
		}
		if !r.Newest.Equal(made) {
			t.Errorf("the newest snapshot is of %s, not %s", r.Newest, made)
		}
		all := []Standing{r.Destinations[0].Standing, r.Destinations[1].Standing}
		if !all[0].AsOf.Equal(made) || !all[1].AsOf.IsZero() {
			t.Errorf("they stand as of %s and %s, want %s and not known", all[0].AsOf, all[1].AsOf, made)
		}
		all[0].AsOf = time.Time{}
		return all
	}
	if diff := cmp.Diff([]Standing{{Outstanding: 3}, {Outstanding: -1}}, stand()); diff != "" {
		t.Error("before:", diff)
	}
	o.DryRun = false
	if diff := cmp.Diff([]Standing{{Newest: newest}, {Outstanding: -1}}, stand()); diff != "" {
		t.Error("afterwards:", diff)
	}
}

// TestBackupStandingWithOthers: what others make while something is sent is not yet due,
// and nobody says that it is there.
func TestBackupStandingWithOthers(t *testing.T) {
	for _, rules := range []schedule.Rules{{Daily: 30}, {}} {
		src := newNightly(t)
		if _, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC}); err != nil {
			t.Fatal(err)
		}
		first := src.now
		d := to("there", storetest.NewMemory("there"))
		d.Rules = rules
		o := utc(d)
		o.NoSnapshot = true
		others := 0
		o.Event = func(string, transfer.Event) {
			if others++; others > 1 {
				return
			}
			src.now = src.now.Add(30 * time.Minute)
			if _, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC}); err != nil {
				t.Error(err)
			}
		}
		r, err := src.Backup(t.Context(), src.Memory, o)
		if err != nil {
			t.Fatal(err)
		}
		if others == 0 || !r.Newest.Equal(src.now) {
			t.Errorf("the newest snapshot of the source is of %s, not %s", r.Newest, src.now)
		}
		s := r.Destinations[0].Standing
		if s.Outstanding != 0 || !s.AsOf.Equal(first) || s.Newest == "" {
			t.Errorf("with %v it stands at %+v, want nothing outstanding, as of %s", rules, s, first)
		}
		o.Event = nil
		if r, err = src.Backup(t.Context(), src.Memory, o); err != nil {
			t.Fatal(err)
		}
		if s := r.Destinations[0].Standing; s.Outstanding != 0 || !s.AsOf.Equal(src.now) {
			t.Errorf("with %v it stands at %+v after the next run, want as of %s", rules, s, src.now)
		}
	}
}

// TestNewestOf: what is in the future is the newest only where nothing else is there.
func TestNewestOf(t *testing.T) {
	at := func(hours ...int) (all []place) {
		for _, h := range hours {
			all = append(all, place{Verdict: Verdict{Time: night.Add(time.Duration(h) * time.Hour)}})
		}
		return all
	}
	for name, c := range map[string]struct {
		all  []place
		want time.Time
	}{
		"nothing":             {},
		"no time":             {all: []place{{}}},
		"the newest":          {at(-3, -1, -2), night.Add(-time.Hour)},
		"with one ahead":      {at(-3, 24, -1, -2), night.Add(-time.Hour)},
		"one ahead, at first": {at(24, -2, -1), night.Add(-time.Hour)},
		"all ahead":           {at(24, 12, 36), night.Add(12 * time.Hour)},
	} {
		if got := newestOf(c.all, night); !got.Equal(c.want) {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}
