package schedule_test

import (
	"math/rand/v2"
	"testing"

	"github.com/buttersink/buttersink/internal/schedule"
)

// Five years of daily runs, with outages, backups that do not come about, and
// deletions that are interrupted: at every moment the newest chain is whole, and
// little is kept beside it.
func TestCalendarForYears(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 7))
		c := schedule.Btrsend()
		var rows []schedule.Backup
		today := day(t, "2014-11-03").AddDays(rng.IntN(60))
		end := today.AddDays(5 * 365)
		quiet := 0 // days in which nothing has gone wrong
		for today.Compare(end) < 0 {
			d := decide(t, rows, today)
			for _, b := range d.Delete {
				if b.Date.Compare(today.AddDays(-c.Lifetime)) > 0 {
					t.Fatalf("%s: %v goes too early", today, b)
				}
			}
			rows = interrupt(t, rng, rows, d.Delete, &quiet)
			if d = decide(t, rows, today); d.Create {
				if rng.IntN(10) == 0 { // the stream is no good
					quiet = 0
				} else {
					rows = append(rows, schedule.Backup{Date: today, Parent: d.Parent})
				}
			}
			look(t, c, rows, today, quiet > 1)
			quiet++
			today = today.AddDays(1)
			switch rng.IntN(200) {
			case 0:
				today, quiet = today.AddDays(rng.IntN(400)), 0
			case 1, 2, 3:
				today = today.AddDays(rng.IntN(20))
			}
		}
	}
}

// interrupt deletes what is to go, or some of it.
func interrupt(t *testing.T, rng *rand.Rand, rows, gone []schedule.Backup, quiet *int) []schedule.Backup {
	t.Helper()
	if len(gone) > 0 && rng.IntN(3) == 0 {
		gone = gone[:rng.IntN(len(gone))]
		*quiet = 0
	}
	return without(rows, gone)
}

// look checks what there is on a day.
func look(t *testing.T, c schedule.Calendar, rows []schedule.Backup, today schedule.Date, tidy bool) {
	t.Helper()
	whole := restorable(rows)
	chains, length, newest := 0, map[schedule.Date]int{}, schedule.Date{}
	root := map[schedule.Date]schedule.Date{}
	for _, b := range rows {
		if !whole[b] {
			t.Fatalf("%s: %v cannot be restored", today, b)
		}
		if b.Parent.IsZero() {
			chains++
			root[b.Date] = b.Date
			newest = b.Date
		} else {
			root[b.Date] = root[b.Parent]
		}
		length[root[b.Date]]++
	}
	for first, n := range length {
		if n > c.Length {
			t.Fatalf("%s: the chain of %s has %d backups", today, first, n)
		}
	}
	// One that grows, one that waits for its end, and one in between where a chain
	// was given up early.
	if tidy && chains > 3 {
		t.Fatalf("%s: there are %d chains", today, chains)
	}
	if len(rows) > 0 && newest.IsZero() {
		t.Fatalf("%s: there is no complete one", today)
	}
}
