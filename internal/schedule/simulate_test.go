package schedule_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
)

// simulation is a machine that makes a snapshot at each step, names it by the
// clock of a zone, and removes what is due.
type simulation struct {
	*testing.T
	rules schedule.Rules
	zone  *time.Location
	ever  []schedule.Item // all there ever were
	here  []schedule.Item
	most  int // how many there were at once
}

// step makes a snapshot, and removes what is due.
func (s *simulation) step(now time.Time) {
	s.make(now)
	s.prune(now)
}

func (s *simulation) make(now time.Time) {
	// The clock shows some times twice; the next free second is taken then.
	made := now
	name := schedule.Format("", made.In(s.zone))
	for slices.ContainsFunc(s.here, func(it schedule.Item) bool { return it.Name == name }) {
		made = made.Add(time.Second)
		name = schedule.Format("", made.In(s.zone))
	}
	at, ok := schedule.Parse("", name, s.zone)
	if !ok {
		s.Fatalf("%s is no time", name)
	}
	it := schedule.Item{Name: name, Time: at}
	s.ever, s.here = append(s.ever, it), append(s.here, it)
	s.most = max(s.most, len(s.here))
}

func (s *simulation) prune(now time.Time) {
	verdicts := schedule.Judge(now, s.here, s.rules)
	left := s.here[:0]
	for i, v := range verdicts {
		switch {
		case v.Aside:
			s.Fatalf("%s is set aside at %v", s.here[i].Name, now)
		case v.Keep:
			left = append(left, s.here[i])
		}
	}
	s.here = left
}

// check compares what is left with what the oracle would have kept, had nothing
// ever been removed.
func (s *simulation) check(now time.Time) {
	s.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	for i := range oracle(now, s.ever, s.rules) {
		want[s.ever[i].Name] = true
	}
	for _, it := range s.here {
		got[it.Name] = true
	}
	if !maps.Equal(want, got) {
		s.Fatalf("at %v with %q, %d are left and %d should be: %v, want %v", now.In(s.zone), s.rules, len(got), len(want), sorted(got), sorted(want))
	}
}

func sorted(names map[string]bool) []string { return slices.Sorted(maps.Keys(names)) }

// run makes snapshots for some years, and removes what is due every few times. It
// does so each time, and checks every few times, when clocks were changed a day
// ago or will be.
func (s *simulation) run(years int, every time.Duration, pruned int, checked time.Duration) {
	start := time.Date(2022, 12, 28, 5, 0, 0, 0, time.UTC)
	next := start
	for now := start; now.Before(start.AddDate(years, 0, 0)); now = now.Add(every) {
		s.make(now)
		from, to := now.In(s.zone).ZoneBounds()
		change := !from.IsZero() && now.Sub(from) < 26*time.Hour || !to.IsZero() && to.Sub(now) < 26*time.Hour
		check := !now.Before(next) || change && len(s.ever) < 8000 && (pruned == 1 || len(s.ever)%5 == 0)
		if check || change || len(s.ever)%pruned == 0 {
			s.prune(now)
		}
		if check {
			s.check(now)
		}
		for !now.Before(next) {
			next = next.Add(checked)
		}
	}
	end := start.AddDate(years, 0, 0)
	s.prune(end)
	s.check(end)
}

// single and several are what machines of both kinds are simulated with.
var (
	single  = []string{"last:5", "hourly:30", "daily:7", "weekly:5", "monthly:12", "yearly:3", "yearly:all", "min-age:60h"}
	several = []string{
		"last:3,daily:7,weekly:5,monthly:12,yearly:all",
		"last:3,hourly:24,daily:7,weekly:5,monthly:12,yearly:all",
		"hourly:48,monthly:all,min-age:3d",
		"daily:40,min-age:1w",
		"last:1,weekly:all",
	}
	places = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}
)

func TestFiveYears(t *testing.T) {
	for _, kind := range []struct {
		name    string
		every   time.Duration
		pruned  int
		checked time.Duration
	}{
		{"daily", 24 * time.Hour, 1, 40 * 24 * time.Hour},
		{"hourly", time.Hour, 12, 500 * 24 * time.Hour},
	} {
		for _, place := range places {
			for _, text := range slices.Concat(single, several) {
				if kind.name == "hourly" && place != "Europe/Berlin" && text != several[1] && os.Getenv("BUTTERSINK_ENDURANCE") == "" {
					continue // they take long; the one has all rules
				}
				t.Run(fmt.Sprint(kind.name, " ", place, " ", text), func(t *testing.T) {
					t.Parallel()
					z := zone(t, place)
					s := &simulation{T: t, rules: rules(t, text+",zone:"+place), zone: z}
					s.run(5, kind.every, kind.pruned, kind.checked)
				})
			}
		}
	}
}

// TestWhatIsLeftAfterFiveYears has the numbers that people expect of their rules.
func TestWhatIsLeftAfterFiveYears(t *testing.T) {
	for text, want := range map[string]int{
		"last:5": 5, "daily:7": 7, "hourly:30": 30, "weekly:5": 5, "monthly:12": 12, "yearly:3": 3,
		"yearly:all": 6, // five, and the last days of 2022
	} {
		s := &simulation{T: t, rules: rules(t, text), zone: time.UTC}
		s.run(5, 24*time.Hour, 1, 1000*24*time.Hour)
		if len(s.here) != want || s.most > want+1 {
			t.Errorf("%s: %d are left, and there were %d at once", text, len(s.here), s.most)
		}
	}
}

// TestGaps: a machine that is off for half a year loses nothing by it.
func TestGaps(t *testing.T) {
	s := &simulation{T: t, rules: rules(t, "hourly:4,daily:7,monthly:3"), zone: time.UTC}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 24 * 100 {
		s.step(now)
		now = now.Add(time.Hour)
	}
	before := slices.Clone(s.here)
	now = now.AddDate(0, 6, 0)
	s.step(now)
	s.check(now)
	lost := 0
	for _, it := range before {
		if !slices.Contains(s.here, it) {
			lost++
		}
	}
	if lost > 3 { // one for each rule
		t.Errorf("%d of %d are gone after one run", lost, len(before))
	}
}

// TestClocksThatJump: a clock that was wrong for a time, in either direction,
// costs no snapshot that was made before it.
func TestClocksThatJump(t *testing.T) {
	r := rules(t, "last:3,daily:7")
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	s := &simulation{T: t, rules: r, zone: time.UTC}
	for range 30 {
		s.step(now)
		now = now.AddDate(0, 0, 1)
	}
	here := slices.Clone(s.here)
	wrong := now.AddDate(-10, 0, 0)
	// With the clock ten years back, all that there is lies in the future.
	made := schedule.Item{Name: schedule.Format("", wrong), Time: wrong}
	for i, v := range schedule.Judge(wrong, append(slices.Clone(here), made), r) {
		if !v.Keep || v.Aside != (i < len(here)) {
			t.Errorf("%d: %+v", i, v)
		}
	}
	// One that was made with a clock ten years ahead keeps nobody out.
	ahead := now.AddDate(10, 0, 0)
	made = schedule.Item{Name: schedule.Format("", ahead), Time: ahead}
	for i, v := range schedule.Judge(now, append(slices.Clone(here), made), r) {
		if !v.Keep || v.Aside != (i == len(here)) {
			t.Errorf("%d: %+v", i, v)
		}
	}
}
