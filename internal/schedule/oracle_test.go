package schedule_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
)

// oracle says which items the rules keep, by their index, in the most simple way:
// it writes the period of each item down, looks for the newest item of each, and
// takes the last N of these. Its items count, all of them, and
// differ in name.
func oracle(now time.Time, items []schedule.Item, r schedule.Rules) map[int]bool {
	z := r.Zone
	if z == nil {
		z = time.UTC
	}
	kept := map[int]bool{}
	byPeriod := func(n int, period func(i int) string) {
		if n == 0 {
			return
		}
		newest := map[string]int{}
		for i := range items {
			p := period(i)
			other, taken := newest[p]
			if !taken || newer(items[i], items[other]) {
				newest[p] = i
			}
		}
		// Not by the text of the period: in a night in which clocks are put back from
		// one minute past midnight, a day ends, goes on and ends again.
		these := slices.SortedFunc(maps.Values(newest), func(a, b int) int {
			if newer(items[a], items[b]) {
				return 1
			}
			return -1
		})
		if n >= 0 && n < len(these) {
			these = these[len(these)-n:]
		}
		for _, i := range these {
			kept[i] = true
		}
	}
	byTime := func(layout string, z *time.Location) func(int) string {
		return func(i int) string { return items[i].Time.In(z).Format(layout) }
	}
	byPeriod(r.Last, func(i int) string {
		return items[i].Time.UTC().Format("2006-01-02T15:04:05.000000000 ") + items[i].Name
	})
	byPeriod(r.Hourly, byTime("2006-01-02T15", time.UTC))
	byPeriod(r.Daily, byTime("2006-01-02", z))
	byPeriod(r.Weekly, func(i int) string {
		year, week := items[i].Time.In(z).ISOWeek()
		return fmt.Sprintf("%d W%02d", year, week)
	})
	byPeriod(r.Monthly, byTime("2006-01", z))
	byPeriod(r.Yearly, byTime("2006", z))
	if r.Last != 0 || r.Hourly != 0 || r.Daily != 0 || r.Weekly != 0 || r.Monthly != 0 || r.Yearly != 0 || r.MinAge > 0 {
		byPeriod(1, func(int) string { return "" })
	} else {
		byPeriod(-1, func(i int) string { return fmt.Sprint(i) })
	}
	for i, it := range items {
		if r.MinAge > 0 && it.Time.Add(r.MinAge).After(now) {
			kept[i] = true
		}
	}
	return kept
}

func newer(a, b schedule.Item) bool {
	if !a.Time.Equal(b.Time) {
		return a.Time.After(b.Time)
	}
	return a.Name > b.Name
}
