package schedule_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/schedule"
)

// series makes items of names in a zone.
func series(t testing.TB, z *time.Location, names ...string) []schedule.Item {
	t.Helper()
	var items []schedule.Item
	for _, name := range names {
		at, ok := schedule.Parse("", name, z)
		if !ok {
			t.Fatalf("%s is no time", name)
		}
		items = append(items, schedule.Item{Name: name, Time: at})
	}
	return items
}

// told is one line for each verdict: what becomes of it, and why.
func told(items []schedule.Item, verdicts []schedule.Verdict) []string {
	lines := make([]string, len(verdicts))
	for i, v := range verdicts {
		word := "goes"
		switch {
		case v.Aside && v.Keep && !v.Due:
			word = "aside"
		case v.Aside:
			word = "aside and due"
		case v.Keep && v.Due:
			word = "stays though due"
		case v.Keep:
			word = "stays"
		case !v.Due:
			word = "goes for nothing"
		}
		lines[i] = fmt.Sprintf("%s %s: %s", items[i].Name, word, v.Reason)
	}
	return lines
}

func TestReasons(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	items := series(t, berlin,
		"20241231-233000", "20250815-120000", "20261030-120000", "20261101-120000", "20261115-120000",
		"20261118-080000", "20261119-080000", "20261119-200000", "20261120-080000", "20261120-081500", "20261120-200000")
	items[1].Keep = "held since yesterday: before the upgrade"
	items[5].Keep = "locked: an unfinished transfer to /bk"
	items = append(items,
		schedule.Item{Name: "by hand"},
		schedule.Item{Name: "later", Time: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), Keep: "held"},
		schedule.Item{Name: "foreign", Time: time.Date(2026, 11, 20, 19, 0, 0, 0, time.UTC), Aside: "of another subvolume"},
	)
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, berlin)
	for text, want := range map[string][]string{
		"last:2,hourly:4,daily:3,weekly:2,monthly:2,yearly:all,min-age:13h,zone:Europe/Berlin": {
			"20241231-233000 stays: newest of 2024 (yearly 3 of all)",
			"20250815-120000 stays: held since yesterday: before the upgrade",
			"20261030-120000 stays: newest of 2026-10 (monthly 2 of 2)",
			"20261101-120000 goes: due: none of the rules keeps it",
			"20261115-120000 stays: newest of the week of 2026-11-09 (weekly 2 of 2)",
			"20261118-080000 stays: locked: an unfinished transfer to /bk",
			"20261119-080000 stays: newest of 2026-11-19 08:00 (hourly 4 of 4)",
			"20261119-200000 stays: newest of 2026-11-19 (hourly 3 of 4, daily 2 of 3)",
			"20261120-080000 stays: younger than 13h",
			"20261120-081500 stays: newest of 2026-11-20 08:00 (last 2 of 2, hourly 2 of 4), younger than 13h",
			"20261120-200000 stays: newest of 2026 (last 1 of 2, hourly 1 of 4, daily 1 of 3, weekly 1 of 2, monthly 1 of 2, yearly 1 of all), younger than 13h",
			"by hand aside: no time is known of it",
			"later aside: in the future",
			"foreign aside: of another subvolume",
		},
		"last:2": {
			"20241231-233000 goes: due: none of the rules keeps it",
			"20250815-120000 stays though due: held since yesterday: before the upgrade",
			"20261030-120000 goes: due: none of the rules keeps it",
			"20261101-120000 goes: due: none of the rules keeps it",
			"20261115-120000 goes: due: none of the rules keeps it",
			"20261118-080000 stays though due: locked: an unfinished transfer to /bk",
			"20261119-080000 goes: due: none of the rules keeps it",
			"20261119-200000 goes: due: none of the rules keeps it",
			"20261120-080000 goes: due: none of the rules keeps it",
			"20261120-081500 stays: one of the newest (last 2 of 2)",
			"20261120-200000 stays: one of the newest (last 1 of 2)",
			"by hand aside: no time is known of it",
			"later aside: in the future",
			"foreign aside: of another subvolume",
		},
	} {
		if diff := cmp.Diff(want, told(items, schedule.Judge(now, items, rules(t, text)))); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for i, v := range schedule.Judge(now, items, rules(t, "zone:Europe/Berlin")) {
		if !v.Keep || v.Due || v.Aside != (i > 10) {
			t.Errorf("without rules: %s: %+v", items[i].Name, v)
		}
	}
}

// TestTheNewestStays, even where a rule is only about younger ones.
func TestTheNewestStays(t *testing.T) {
	items := series(t, time.UTC, "20200101-000000", "20200102-000000")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	want := []string{"20200101-000000 goes: due: none of the rules keeps it", "20200102-000000 stays: the newest"}
	if diff := cmp.Diff(want, told(items, schedule.Judge(now, items, rules(t, "min-age:30d")))); diff != "" {
		t.Error(diff)
	}
}

// TestAgeHasAnEnd: what is exactly as old as the rule says is old enough.
func TestAgeHasAnEnd(t *testing.T) {
	items := series(t, time.UTC, "20260101-000000", "20260101-000001", "20260109-000000")
	now := time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC)
	for i, v := range schedule.Judge(now, items, rules(t, "min-age:1w")) {
		if v.Keep != (i > 0) {
			t.Errorf("%s: %+v", items[i].Name, v)
		}
	}
}

func TestClocksDiffer(t *testing.T) {
	now := time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC)
	items := []schedule.Item{{Name: "a", Time: now.Add(schedule.Slack)}, {Name: "b", Time: now.Add(schedule.Slack + 1)}, {Name: "c", Time: now}}
	want := []string{"a stays: one of the newest (last 1 of 1)", "b aside: in the future", "c goes: due: none of the rules keeps it"}
	if diff := cmp.Diff(want, told(items, schedule.Judge(now, items, schedule.Rules{Last: 1}))); diff != "" {
		t.Error(diff)
	}
}

func TestNothingToJudge(t *testing.T) {
	if got := schedule.Judge(time.Now(), nil, schedule.Rules{Last: 1}); len(got) != 0 {
		t.Error(got)
	}
}

// TestAtTheSameTime: numbered names are in order, and what is the same twice is
// one.
func TestAtTheSameTime(t *testing.T) {
	var items []schedule.Item
	for _, name := range []string{"h.20260101_2", "h.20260101_10", "h.20260101", "h.20260101_1", "h.20260101_10", "H.20260101_10"} {
		_, at, ok := schedule.Split(name, time.UTC)
		if !ok {
			t.Fatal(name)
		}
		items = append(items, schedule.Item{Name: name, Time: at})
	}
	for i, v := range schedule.Judge(time.Now(), items, schedule.Rules{Last: 2, Daily: 1}) {
		if v.Keep != (i == 1 || i == 4 || i == 5) {
			t.Errorf("%s: %+v", items[i].Name, v)
		}
	}
}

// TestNegativeNumbersKeepAll: a mistake of a caller removes nothing.
func TestNegativeNumbersKeepAll(t *testing.T) {
	items := series(t, time.UTC, "20200101-000000", "20200101-000001", "20210101-000000")
	for i, v := range schedule.Judge(time.Now(), items, schedule.Rules{Yearly: math.MinInt}) {
		if v.Keep != (i > 0) {
			t.Errorf("%s: %+v", items[i].Name, v)
		}
	}
}

// TestDaysOfTheZone: where days, weeks, months and years begin.
func TestDaysOfTheZone(t *testing.T) {
	for place, c := range map[string]map[string][2]string{
		"UTC": {
			"hourly": {"1969-12-31T22:59:59Z", "1969-12-31T23:00:00Z"},
			"daily":  {"2026-11-19T23:59:59Z", "2026-11-20T00:00:00Z"},
		},
		"Europe/Berlin": {"daily": {"2026-11-20T22:59:59Z", "2026-11-20T23:00:00Z"}},
		"America/New_York": {
			"weekly":  {"2026-11-16T04:59:59Z", "2026-11-16T05:00:00Z"}, // a Monday
			"monthly": {"2026-11-01T03:59:59Z", "2026-11-01T04:00:00Z"}, // still in summer time
			"yearly":  {"2027-01-01T04:59:59Z", "2027-01-01T05:00:00Z"},
		},
		"Asia/Kolkata": {
			"hourly": {"2026-11-20T09:59:59Z", "2026-11-20T10:00:00Z"},
			"weekly": {"2026-12-27T18:29:59Z", "2026-12-27T18:30:00Z"},
		},
	} {
		for rule, times := range c {
			var items []schedule.Item
			for _, text := range times {
				at, err := time.Parse(time.RFC3339, text)
				if err != nil {
					t.Fatal(err)
				}
				items = append(items, schedule.Item{Name: text, Time: at})
			}
			now := items[1].Time.Add(time.Minute)
			for _, v := range schedule.Judge(now, items, rules(t, rule+":2,zone:"+place)) {
				if !v.Keep {
					t.Errorf("%s in %s: %s and %s are one", rule, place, times[0], times[1])
				}
			}
			// A second later, both are in the newer period.
			items[0].Time, items[1].Time = items[1].Time, items[1].Time.Add(time.Second)
			if v := schedule.Judge(now, items, rules(t, rule+":2,zone:"+place)); v[0].Keep || !v[1].Keep {
				t.Errorf("%s in %s: the second after %s is another", rule, place, times[1])
			}
		}
	}
}

// TestTheSameInAnotherYear: a month of one year is none of another.
func TestTheSameInAnotherYear(t *testing.T) {
	items := series(t, time.UTC, "20250112-120000", "20260112-120000", "20270112-120000")
	for _, rule := range []string{"hourly:3", "daily:3", "weekly:3", "monthly:3", "yearly:3"} {
		for i, v := range schedule.Judge(items[2].Time, items, rules(t, rule)) {
			if !v.Keep {
				t.Errorf("%s: %s: %+v", rule, items[i].Name, v)
			}
		}
	}
}

// TestTheNightOfTheChange: hours are absolute, days are those of the calendar.
func TestTheNightOfTheChange(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	var items []schedule.Item
	start := time.Date(2026, 10, 24, 22, 30, 0, 0, time.UTC) // 00:30 in summer time
	for i := range 25 {
		at := start.Add(time.Duration(i) * time.Hour)
		items = append(items, schedule.Item{Name: schedule.Format("", at.In(berlin)) + at.In(berlin).Format("MST"), Time: at})
	}
	now := items[24].Time
	for i, v := range schedule.Judge(now, items, rules(t, "hourly:25,zone:Europe/Berlin")) {
		if !v.Keep {
			t.Errorf("%s (%d) is not an hour of its own", items[i].Name, i)
		}
	}
	for i, v := range schedule.Judge(now, items, rules(t, "daily:all,zone:Europe/Berlin")) {
		if v.Keep != (i == 24) {
			t.Errorf("a day of 25 hours: %s: %+v", items[i].Name, v)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	r := rules(b, "last:3,hourly:24,daily:7,weekly:5,monthly:12,yearly:all,zone:Europe/Berlin")
	start := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	var items []schedule.Item
	for i := range 5 * 365 * 24 {
		at := start.Add(time.Duration(i) * time.Hour)
		items = append(items, schedule.Item{Name: schedule.Format("", at), Time: at})
	}
	for b.Loop() {
		schedule.Judge(items[len(items)-1].Time, items, r)
	}
}
