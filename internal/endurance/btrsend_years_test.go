package endurance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger/btrsenddb"
	"github.com/buttersink/buttersink/internal/schedule"
)

// TestBtrsendYears has five years go by, with a run every day that the machine is
// on. What is there is compared with the vault every day, each new backup is
// restored, and now and then everything from nothing.
func TestBtrsendYears(t *testing.T) {
	btrfstest.Require(t)
	keyring(t)
	for seed := range times(t, 1) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { fiveYears(t, uint64(seed)) })
	}
}

func fiveYears(t *testing.T, seed uint64) {
	begin, end := schedule.Date{Year: 2000, Month: 1, Day: 3}, schedule.Date{Year: 2005, Month: 1, Day: 3}
	a := newAlmanac(t, begin, seed)
	whole := []schedule.Date{} // when everything is restored
	for range 4 {
		whole = append(whole, begin.AddDays(a.rng.IntN(5*365)))
	}
	slices.SortFunc(whole, schedule.Date.Compare)
	runs, made, removed, refused, stayed, outages, restored := 0, 0, 0, 0, 0, 0, 0
	for off := 0; a.today.Compare(end) < 0; a.morrow() {
		switch {
		case off > 0:
			off--
			continue
		case a.today.Year == 2001 && a.today.Month == 2 && a.today.Day == 2:
			off = 148 // longer than anything is kept
		case a.rng.IntN(50) == 0:
			off = min(int(a.rng.ExpFloat64()*25), 200)
		}
		if off > 0 {
			outages++
		}
		runs++
		before := a.rows
		whether, why := a.trouble()
		refusing := a.rng.IntN(8) == 0
		if refusing { // of a chain that goes, some stay for now
			a.server.FailAfter(a.rng.IntN(3), a.rng.IntN(9), 400, "PolicyEnforcedException", "DeleteArchive")
		}
		report, err := a.run(whether)
		a.server.Calm()
		if e, ok := errors.AsType[*job.RemovalError](err); ok && refusing && len(e.Failures) > 0 {
			err = nil
			stayed++
		}
		if why != "" && report != nil && report.Decision.Create {
			refused++
			if err == nil || report.Made {
				t.Fatalf("%s: a stream is taken that is %s", a.today, why)
			}
		} else if err != nil {
			t.Fatalf("%s: %v", a.today, err)
		}
		a.check(before, report.Made)
		removed += len(report.Removed)
		if report.Made {
			made++
			a.follow()
		}
		a.cull()
		if len(whole) > 0 && whole[0].Compare(a.today) <= 0 {
			whole = whole[1:]
			restored++
			a.afresh(restored)
		}
	}
	for _, how := range []int{1, 2, 3} {
		a.afresh(how)
	}
	t.Logf("%d runs, %d backups, %d removed, %d streams refused, not everything removed %d times, %d outages, everything restored %d times", runs, made, removed, refused, stayed, outages, restored+3)
	if made < 100 || removed < made/2 || refused == 0 {
		t.Error("that were no five years")
	}
}

// trouble is what happens on some days: the network loses a reply, which nobody may
// notice, or the stream is not whole.
func (a *almanac) trouble() (alter func([]byte) []byte, why string) {
	alter = func(b []byte) []byte { return b }
	due := slices.Contains(schedule.Btrsend().Days, a.today.Day)
	if !due {
		return alter, ""
	}
	switch a.rng.IntN(80) {
	case 0:
		a.server.Lose(1, "InitiateMultipartUpload")
	case 1:
		a.server.Lose(1, "UploadMultipartPart")
	case 2, 3:
		a.server.Lose(1, "CompleteMultipartUpload")
	case 4, 5:
		a.server.Lose(1, "DeleteArchive")
	case 6:
		a.server.Throttle(2)
	case 7, 8:
		return func(b []byte) []byte { return b[:a.rng.IntN(len(b))] }, "cut short"
	case 9:
		return func([]byte) []byte { return nil }, "empty"
	case 10:
		return func(b []byte) []byte { b[len(b)/2] ^= 4; return b }, "damaged"
	}
	return alter, ""
}

// check compares the rows with the vault, with the rows before the run, and with
// what the calendar promises.
func (a *almanac) check(before []btrsend.Row, made bool) {
	t := a.t
	t.Helper()
	db, err := btrsenddb.Open(a.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if a.rows, err = (rowsOf{db}).All(t.Context()); err != nil {
		t.Fatal(err)
	}
	there := map[string]string{}
	for _, archive := range a.server.Archives(t, backupVault) {
		there[archive.ID] = archive.Tree
	}
	if len(there) != len(a.rows) {
		t.Fatalf("%s: %d archives in the vault, and %d rows", a.today, len(there), len(a.rows))
	}
	for _, left := range a.server.Uploads(t, backupVault) {
		// Of one that has begun without anybody hearing of it nobody knows the name.
		if left.Parts > 0 || a.server.Now().Sub(left.Begun) > 2*glaciertest.UploadKept {
			t.Fatalf("%s: unfinished: %+v", a.today, left)
		}
	}
	byDate := map[string]btrsend.Row{}
	for _, r := range a.rows {
		if byDate[r.Date].Archive != "" {
			t.Fatalf("%s: there are two backups of %s", a.today, r.Date)
		}
		byDate[r.Date] = r
		if r.Date == a.today.String() && a.trees[r.Archive] == "" && made {
			a.trees[r.Archive] = there[r.Archive]
		}
		if tree := there[r.Archive]; tree == "" || tree != a.trees[r.Archive] {
			t.Fatalf("%s: the archive of %s has the hash %q, and had %q", a.today, r.Date, tree, a.trees[r.Archive])
		}
	}
	if _, today := byDate[a.today.String()]; made != today {
		t.Fatalf("%s: a backup was made: %v; its row is there: %v", a.today, made, today)
	}
	for _, r := range a.rows {
		length := 1
		for at := r; at.Parent != ""; length++ {
			on, ok := byDate[at.Parent]
			if !ok || on.Date >= at.Date {
				t.Fatalf("%s: %s cannot be restored, for lack of %s", a.today, r.Date, at.Parent)
			}
			at = on
		}
		if length > 12 {
			t.Fatalf("%s: the chain of %s has %d backups", a.today, r.Date, length)
		}
	}
	a.rightlyGone(before, byDate)
	// A quarter's backups, what is not 90 days old yet, and what waits for a newer one.
	if len(a.rows) > 3*12 {
		t.Fatalf("%s: there are %d backups", a.today, len(a.rows))
	}
	due := slices.Contains(schedule.Btrsend().Days, a.today.Day) || len(before) == 0
	if made && !due {
		t.Fatalf("%s: a backup is made out of turn", a.today)
	}
}

// rightlyGone fails the test unless what is gone was old, and there is something
// newer.
func (a *almanac) rightlyGone(before []btrsend.Row, now map[string]btrsend.Row) {
	a.t.Helper()
	limit := a.today.AddDays(-90).String()
	for _, r := range before {
		if _, stays := now[r.Date]; stays {
			continue
		}
		if r.Date > limit {
			a.t.Fatalf("%s: the backup of %s is gone", a.today, r.Date)
		}
		newer := false
		for _, n := range now {
			newer = newer || n.Parent == "" && n.Date > r.Date && n.Date != a.today.String()
		}
		if !newer {
			a.t.Fatalf("%s: the backup of %s is gone, and there was no newer complete one", a.today, r.Date)
		}
	}
}

// follow restores today's backup where those before it have been restored, and
// deletes there what the store does not have any more.
func (a *almanac) follow() {
	a.t.Helper()
	if a.rng.IntN(20) == 0 {
		a.server.Lose(1, "InitiateJob")
	}
	today := a.today.String()
	a.restore(a.dst, true, func(date string) bool { return date == today })
	a.server.Calm()
	for _, there := range a.dst.Subvolumes() {
		if !slices.ContainsFunc(a.rows, func(r btrsend.Row) bool { return r.Date == there }) {
			a.dst.Delete(there)
		}
	}
}

// afresh restores everything on a new file system, in one of several ways.
func (a *almanac) afresh(how int) {
	a.t.Helper()
	fs := btrfstest.New(a.t)
	defer fs.Close()
	all := func(string) bool { return true }
	switch how % 3 {
	case 0:
		a.restore(fs, true, all)
	case 1:
		a.byHand(fs)
	case 2:
		// By the inventory alone, which is that of yesterday.
		a.server.Advance(48 * time.Hour)
		a.restore(fs, false, all)
		a.today = schedule.DateOf(a.server.Now())
	}
	if got := len(fs.Subvolumes()); got != len(a.rows) {
		a.t.Fatalf("%s: %d of %d backups are restored", a.today, got, len(a.rows))
	}
}
