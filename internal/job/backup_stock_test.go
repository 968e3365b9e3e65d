package job

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
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
		return []Standing{r.Destinations[0].Standing, r.Destinations[1].Standing}
	}
	if diff := cmp.Diff([]Standing{{Outstanding: 3}, {Outstanding: -1}}, stand()); diff != "" {
		t.Error("before:", diff)
	}
	o.DryRun = false
	if diff := cmp.Diff([]Standing{{Newest: newest}, {Outstanding: -1}}, stand()); diff != "" {
		t.Error("afterwards:", diff)
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
