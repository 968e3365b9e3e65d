package job

import (
	"context"
	"errors"
	"testing"

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
	stand := func() []Standing {
		t.Helper()
		r, err := src.Backup(t.Context(), src.Memory, o)
		if err == nil {
			t.Fatal("a destination that is away is no failure")
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
