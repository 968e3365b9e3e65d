package job

import (
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// TestJudgeRepeatedHour has the hour twice that clocks are put back: the names of
// its second pass come before those of the first one.
func TestJudgeRepeatedHour(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	inv := &snapshot.Inventory{}
	first := time.Date(2026, 10, 25, 0, 45, 0, 0, time.UTC)                // 02:45 in summer
	for i, made := range []time.Time{first, first.Add(45 * time.Minute)} { // 02:30 in winter
		id := snapshot.ID{byte(i + 1)}
		inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{ID: id, UUID: id, Path: schedule.Format("", made.In(zone)), Created: made.Add(time.Second)})
	}
	ev := &evidence{now: first.Add(time.Hour), inv: inv, register: &register{}, options: &PruneOptions{Rules: schedule.Rules{Last: 1, Zone: zone}}}
	for _, v := range ev.judge().verdicts() {
		if newest := v.Snapshot.ID == (snapshot.ID{2}); v.Keep != newest {
			t.Errorf("%s, made at %s: %+v", v.Snapshot.Path, v.Snapshot.Created, v.Verdict)
		}
	}
}
