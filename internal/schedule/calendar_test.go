package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/schedule"
)

// day reads a date of a test, of the year 2000 if it has none.
func day(t interface{ Fatal(...any) }, text string) schedule.Date {
	if len(text) == len("01-02") {
		text = "2000-" + text
	}
	d, err := schedule.ReadDate(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// backups reads rows of a test: "01-01 c, 01-07<-01-01".
func backups(t *testing.T, text string) []schedule.Backup {
	var rows []schedule.Backup
	for row := range strings.SplitSeq(text, ",") {
		row = strings.TrimSpace(row)
		if row == "" {
			continue
		}
		if date, ok := strings.CutSuffix(row, " c"); ok {
			rows = append(rows, schedule.Backup{Date: day(t, date)})
			continue
		}
		date, parent, ok := strings.Cut(row, "<-")
		if !ok {
			t.Fatalf("what is %q?", row)
		}
		rows = append(rows, schedule.Backup{Date: day(t, date), Parent: day(t, parent)})
	}
	return rows
}

// inWords is a decision in the words of a test: "delete 01-07 01-01, create 02-01".
func inWords(d schedule.Decision) string {
	var words []string
	if len(d.Delete) > 0 {
		var dates []string
		for _, b := range d.Delete {
			dates = append(dates, strings.TrimPrefix(b.Date.String(), "2000-"))
		}
		words = append(words, "delete "+strings.Join(dates, " "))
	}
	switch {
	case d.Create && d.Parent.IsZero():
		words = append(words, "complete")
	case d.Create:
		words = append(words, "on "+strings.TrimPrefix(d.Parent.String(), "2000-"))
	}
	return strings.Join(words, ", ")
}

func decide(t interface {
	Helper()
	Fatal(...any)
}, rows []schedule.Backup, today schedule.Date,
) schedule.Decision {
	t.Helper()
	d, err := schedule.Btrsend().Decide(rows, today)
	if err != nil {
		t.Fatal(err)
	}
	if d.Reason == "" {
		t.Fatal("there is no reason")
	}
	return d
}

// obey does what was decided, deleting first and then deciding anew.
func obey(t *testing.T, rows []schedule.Backup, today schedule.Date) ([]schedule.Backup, schedule.Decision) {
	t.Helper()
	first := decide(t, rows, today)
	rows = without(rows, first.Delete)
	again := decide(t, rows, today)
	if len(again.Delete) > 0 {
		t.Fatalf("%s: more is to go after what was to go has gone: %v", today, again.Delete)
	}
	again.Delete = first.Delete
	if again.Create {
		rows = append(rows, schedule.Backup{Date: today, Parent: again.Parent})
	}
	return rows, again
}

func without(rows, gone []schedule.Backup) []schedule.Backup {
	return slices.DeleteFunc(slices.Clone(rows), func(b schedule.Backup) bool { return slices.Contains(gone, b) })
}

// btrsend's own tests, as far as they are about planning: its third suite.
func TestCalendarLikeBtrsend(t *testing.T) {
	steps := `
2000-01-01 complete
2000-01-01
2000-01-02
2000-01-07 on 01-01
2000-01-08
2000-01-14 on 01-07
2000-01-21 on 01-14
2000-02-01 on 01-21
2000-02-07 on 02-01
2000-02-14 on 02-07
2000-02-21 on 02-14
2000-03-01 on 02-21
2000-03-07 on 03-01
2000-03-14 on 03-07
2000-03-21 on 03-14
2000-04-01 complete
2000-04-07 on 04-01
2000-04-14 on 04-07
2000-04-21 on 04-14
2000-05-01 on 04-21
2000-05-07 on 05-01
2000-05-14 on 05-07
2000-05-21 on 05-14
2000-06-01 on 05-21
2000-06-07 on 06-01
2000-06-14 on 06-07
2000-06-21 delete 03-21 03-14 03-07 03-01 02-21 02-14 02-07 02-01 01-21 01-14 01-07 01-01, on 06-14
2000-07-01 complete
`
	var rows []schedule.Backup
	for step := range strings.Lines(strings.TrimSpace(steps)) {
		date, want, _ := strings.Cut(strings.TrimSpace(step), " ")
		// The original's own decision is made before anything is deleted.
		if got := inWords(decide(t, rows, day(t, date))); got != want {
			t.Fatalf("%s: %q, want %q", date, got, want)
		}
		var d schedule.Decision
		if rows, d = obey(t, rows, day(t, date)); inWords(d) != want {
			t.Fatalf("%s, decided anew: %q, want %q", date, inWords(d), want)
		}
	}
	if len(rows) != 13 {
		t.Errorf("%d backups are left, want 13", len(rows))
	}
}

// Answers of btrsend's planner, but for those that are marked: there the original
// takes away the last chain, or builds on what it takes away.
func TestCalendarVectors(t *testing.T) {
	full := "01-01 c"
	for i := 2; i <= 11; i++ {
		full += fmt.Sprintf(", 01-%02d<-01-%02d", i, i-1)
	}
	for _, tt := range []struct {
		rows, today, want string
		mended            bool
	}{
		{rows: "", today: "01-03", want: "complete"},
		{rows: "01-01 c", today: "03-31", want: "", mended: true},
		{rows: "01-01 c", today: "04-01", want: "complete", mended: true},
		{rows: "01-02 c", today: "04-01", want: "complete", mended: true}, // 90 days
		{rows: "01-03 c", today: "04-01", want: "on 01-03"},               // 89 days
		{rows: "01-01 c, 01-03<-01-01", today: "04-02", want: "", mended: true},
		{rows: "01-07<-01-01", today: "04-01", want: "complete"},
		{rows: "01-01 c, 01-07<-01-01, 01-14<-01-01", today: "02-01", want: "on 01-14"},
		{rows: "01-01 c, 01-07<-01-01", today: "01-07", want: ""},
		{rows: "01-01 c", today: "1999-12-01", want: "on 01-01"},
		{rows: full + ", 01-12<-01-11", today: "04-01", want: "complete"},
		{rows: full, today: "01-14", want: "on 01-11"},

		// Not of the original's.
		{rows: "02-31 c", today: "03-07", want: "on 02-31"},
		{rows: "02-31 c, 04-01 c", today: "05-30", want: ""},             // 02-31 counts as 03-02
		{rows: "03-01 c, 04-01 c", today: "05-30", want: "delete 03-01"}, // 90 days
		{rows: "01-01 c, 04-01 c, 01-07<-01-01, 01-06<-01-03, 01-14<-01-03, 04-02<-01-03", today: "04-30", want: "delete 01-07 01-06 01-01"},
		{rows: "01-01 c, 04-01 c, 01-02<-1999-12-31, 04-02<-01-02", today: "04-30", want: "delete 01-01"},
		{rows: "01-01 c, 01-01 c, 04-01 c, 01-07<-01-01", today: "05-30", want: "delete 01-07 01-01 01-01"},
		{rows: "01-01 c, 01-07 c, 04-01 c, 01-07<-01-01, 04-14<-01-07", today: "05-30", want: ""},
		{rows: "01-01 c, 02-01 c, 03-01 c", today: "12-30", want: "delete 02-01 01-01"},
		{rows: "01-01 c, 2099-01-01 c", today: "05-07", want: "complete"},
		{rows: "01-01 c, 05-01 c, 2099-01-01 c", today: "05-07", want: "delete 01-01, on 05-01"},
		{rows: "01-07<-01-07, 01-14<-01-21, 01-21<-01-14", today: "02-01", want: "complete"},
		{rows: "01-07<-01-07, 01-08 c, 05-01 c", today: "05-02", want: "delete 01-08 01-07"},
	} {
		if got := inWords(decide(t, backups(t, tt.rows), day(t, tt.today))); got != tt.want {
			t.Errorf("%q on %s: %q, want %q (mended: %t)", tt.rows, tt.today, got, tt.want, tt.mended)
		}
	}
}

// A machine is off from the second of February on. The original would build on
// what it deletes on the first day after.
func TestCalendarAfterOutage(t *testing.T) {
	rows := backups(t, "01-01 c, 01-07<-01-01, 01-14<-01-07, 01-21<-01-14, 02-01<-01-21")
	for _, step := range [][2]string{
		{"07-01", "complete"},
		{"07-02", "delete 02-01 01-21 01-14 01-07 01-01"},
		{"07-03", ""},
		{"07-07", "on 07-01"},
	} {
		var d schedule.Decision
		if rows, d = obey(t, rows, day(t, step[0])); inWords(d) != step[1] {
			t.Errorf("%s: %q, want %q", step[0], inWords(d), step[1])
		}
	}
}

// TestCalendarMakesUp: a day that was missed is made up for once, on the first day
// after it that somebody asks.
func TestCalendarMakesUp(t *testing.T) {
	c := schedule.Btrsend()
	c.MakeUp = true
	for _, tt := range []struct{ rows, today, want string }{
		{"", "01-03", "complete"},
		{"01-03 c", "01-03", ""},
		{"01-03 c", "01-06", ""},
		{"01-03 c", "01-07", "on 01-03"},
		{"01-03 c", "01-08", "on 01-03"},
		{"01-03 c", "01-13", "on 01-03"},
		{"01-03 c, 01-09<-01-03", "01-10", ""},
		{"01-03 c, 01-09<-01-03", "01-14", "on 01-09"},
		{"01-03 c, 01-21<-01-03", "01-31", ""},
		{"01-03 c, 01-20<-01-03", "01-31", "on 01-20"},
		{"01-03 c, 01-21<-01-03", "02-02", "on 01-21"},
		// Of a clock that was ahead nothing is known.
		{"2001-01-03 c", "02-02", "on 2001-01-03"},
		{"2001-01-03 c, 02-02 c", "02-03", ""},
	} {
		d, err := c.Decide(backups(t, tt.rows), day(t, tt.today))
		if err != nil || inWords(d) != tt.want {
			t.Errorf("%s on %s: %q, want %q (%v)", tt.rows, tt.today, inWords(d), tt.want, err)
		}
	}
	c.Days = []int{31}
	if d, err := c.Decide(backups(t, "01-30 c"), day(t, "03-30")); err != nil || inWords(d) != "on 01-30" || !strings.Contains(d.Reason, "none of 2000-01-31") {
		t.Errorf("the last day was two months ago: %q, %s (%v)", inWords(d), d.Reason, err)
	}
	c.MakeUp = false
	if d, err := c.Decide(backups(t, "01-30 c"), day(t, "03-30")); err != nil || inWords(d) != "" {
		t.Errorf("btrsend waits: %q (%v)", inWords(d), err)
	}
}

// What btrsend's planner does when it runs every day.
func TestCalendarDaily(t *testing.T) {
	var complete, deleting []string
	var rows []schedule.Backup
	for d := day(t, "2000-01-01"); d != day(t, "2001-01-02"); d = d.AddDays(1) {
		var made schedule.Decision
		rows, made = obey(t, rows, d)
		if want := slices.Contains([]int{1, 7, 14, 21}, d.Day); made.Create != want {
			t.Errorf("%s: made one: %t, want %t", d, made.Create, want)
		}
		if made.Create && made.Parent.IsZero() {
			complete = append(complete, d.String())
		}
		if len(made.Delete) > 0 {
			deleting = append(deleting, fmt.Sprintf("%s: %d to %s", d, len(made.Delete), made.Delete[0].Date))
		}
	}
	if diff := cmp.Diff([]string{"2000-01-01", "2000-04-01", "2000-07-01", "2000-10-01", "2001-01-01"}, complete); diff != "" {
		t.Errorf("complete ones (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"2000-06-19: 12 to 2000-03-21", "2000-09-19: 12 to 2000-06-21", "2000-12-20: 12 to 2000-09-21"}, deleting); diff != "" {
		t.Errorf("deletions (-want +got):\n%s", diff)
	}

	rows = nil
	var made []string
	for d := day(t, "2015-03-10"); d != day(t, "2015-05-08"); d = d.AddDays(1) {
		var decided schedule.Decision
		if rows, decided = obey(t, rows, d); decided.Create {
			made = append(made, fmt.Sprintf("%s<-%s", d, decided.Parent))
		}
	}
	if diff := cmp.Diff([]string{
		"2015-03-10<-none", "2015-03-14<-2015-03-10", "2015-03-21<-2015-03-14", "2015-04-01<-2015-03-21", "2015-04-07<-2015-04-01",
		"2015-04-14<-2015-04-07", "2015-04-21<-2015-04-14", "2015-05-01<-2015-04-21", "2015-05-07<-2015-05-01",
	}, made); diff != "" {
		t.Errorf("begun between two days of the calendar (-want +got):\n%s", diff)
	}
}

func TestDates(t *testing.T) {
	if d, err := schedule.ParseDate("2014-01-01"); err != nil || d != (schedule.Date{Year: 2014, Month: 1, Day: 1}) {
		t.Errorf("2014-01-01 is %v, %v", d, err)
	}
	if got := (schedule.Date{Year: 1111, Month: 11, Day: 11}).String(); got != "1111-11-11" {
		t.Errorf("1111-11-11 is %q", got)
	}
	if got := day(t, "2014-01-01").AddDays(-12345).String(); got != "1980-03-15" {
		t.Errorf("12345 days before 2014-01-01 is %s", got)
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"2013-12-12", "2014-01-01", -1},
		{"2014-01-01", "1999-12-12", 1},
		{"2014-01-01", "2014-01-01", 0},
		{"2014-02-31", "2014-03-02", 1},
		{"2014-02-31", "2014-03-04", -1},
	} {
		if got := day(t, tt.a).Compare(day(t, tt.b)); got != tt.want {
			t.Errorf("%s to %s: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
	for _, text := range []string{
		"asdf", "", "2014-1-1", "2014-01-1", "2014-01-011", "20140101", "2014/01/01", "2014-13-01", "2014-00-01", "2014-01-00", "2014-01-32",
		"+014-01-01", "2014-+1-01", "2014-01- 1", "２014-01-01", "0000-00-00", "2014-01-01\n",
	} {
		if d, err := schedule.ReadDate(text); err == nil {
			t.Errorf("%q is read as %s", text, d)
		}
	}
	if d, err := schedule.ReadDate("2014-02-31"); err != nil || d.String() != "2014-02-31" {
		t.Errorf("2014-02-31 is read as %v, %v", d, err)
	}
	for _, text := range []string{"2014-02-31", "2015-02-29", "2014-04-31", "asdf"} {
		if d, err := schedule.ParseDate(text); err == nil || !strings.Contains(err.Error(), "is no date") {
			t.Errorf("%q is parsed as %v, %v", text, d, err)
		}
	}
}

func TestCalendarRefuses(t *testing.T) {
	for _, c := range []schedule.Calendar{
		{Length: 12, Lifetime: 90},
		{Days: []int{0}, Length: 12, Lifetime: 90},
		{Days: []int{32}, Length: 12, Lifetime: 90},
		{Days: []int{1}, Lifetime: 90},
		{Days: []int{1}, Length: 12},
	} {
		if d, err := c.Decide(nil, day(t, "01-01")); err == nil {
			t.Errorf("%+v decides: %+v", c, d)
		}
	}
	for _, today := range []schedule.Date{{}, {Year: 2014, Month: 2, Day: 31}} {
		if d, err := schedule.Btrsend().Decide(nil, today); err == nil {
			t.Errorf("on %s it decides: %+v", today, d)
		}
	}
}

// FuzzReadDate looks for texts that are read as another date than they are.
func FuzzReadDate(f *testing.F) {
	for _, s := range []string{"2014-01-01", "2014-02-31", "0000-01-01", "9999-12-31", "asdf", "2014-01-0١"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := schedule.ReadDate(text); err == nil && d.String() != text {
			t.Errorf("%q is read as %s", text, d)
		}
	})
}

// restorable are the backups from which a way leads to a complete one.
func restorable(rows []schedule.Backup) map[schedule.Backup]bool {
	whole := map[schedule.Backup]bool{}
	dates := map[schedule.Date]bool{}
	for range rows {
		for _, b := range rows {
			if b.Parent.IsZero() || dates[b.Parent] {
				whole[b], dates[b.Date] = true, true
			}
		}
	}
	return whole
}

// Whatever the rows are, nothing is lost that could be restored and is to stay.
func TestCalendarProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := day(t, "2000-01-01")
		some := rapid.Custom(func(t *rapid.T) schedule.Date { return start.AddDays(5 * rapid.IntRange(0, 40).Draw(t, "day")) })
		rows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) schedule.Backup {
			b := schedule.Backup{Date: some.Draw(t, "date")}
			if rapid.IntRange(0, 3).Draw(t, "kind") > 0 {
				b.Parent = some.Draw(t, "parent")
			}
			return b
		}), 0, 25).Draw(t, "rows")
		today := some.Draw(t, "today")
		c := schedule.Calendar{Days: []int{1, 5, 10, 15, 20, 25}, Length: rapid.IntRange(1, 6).Draw(t, "length"), Lifetime: rapid.IntRange(1, 120).Draw(t, "lifetime"), MakeUp: rapid.Bool().Draw(t, "make up")}
		d, err := c.Decide(rows, today)
		if err != nil {
			t.Fatal(err)
		}
		before := restorable(rows)
		left := without(rows, d.Delete)
		after := restorable(left)
		for _, b := range left {
			if before[b] && !after[b] {
				t.Fatalf("%v stays and cannot be restored any more", b)
			}
		}
		limit := today.AddDays(-c.Lifetime)
		for i, b := range d.Delete {
			if b.Date.Compare(limit) > 0 {
				t.Fatalf("%v goes too early", b)
			}
			if i > 0 && b.Date.Compare(d.Delete[i-1].Date) > 0 {
				t.Fatalf("%v goes after %v", b, d.Delete[i-1])
			}
		}
		complete := func(rows []schedule.Backup) bool {
			return slices.ContainsFunc(rows, func(b schedule.Backup) bool { return b.Parent.IsZero() })
		}
		if complete(rows) && !complete(left) {
			t.Fatal("the last complete one goes")
		}
		if d.Create && !d.Parent.IsZero() && !slices.ContainsFunc(left, func(b schedule.Backup) bool { return b.Date == d.Parent && after[b] }) {
			t.Fatalf("it builds on %s, which does not stay, or cannot be restored", d.Parent)
		}
		again, err := c.Decide(left, today)
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Delete) > 0 {
			t.Fatalf("still to go: %v", again.Delete)
		}
		if again.Create != d.Create || again.Parent != d.Parent {
			t.Fatalf("after deleting it is %v on %s, before it was %v on %s", again.Create, again.Parent, d.Create, d.Parent)
		}
		shuffled := rapid.Permutation(rows).Draw(t, "shuffled")
		other, err := c.Decide(shuffled, today)
		if err != nil || len(other.Delete) != len(d.Delete) || other.Create != d.Create || other.Parent != d.Parent {
			t.Fatalf("in another order it is %+v, %v, and not %+v", other, err, d)
		}
	})
}
