package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLastWithoutIsKept: since when something is left at a source is known however much
// has run since, also where it has been so from the first run on.
func TestLastWithoutIsKept(t *testing.T) {
	l := fresh(t)
	for n := range 300 {
		id, err := l.BeginJob("j", noon.Add(time.Duration(n)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		message := "1 snapshot that no rule keeps is left"
		if n == 1 {
			message = ""
		}
		for _, p := range []PlaceRun{
			{Source: "/home", Ended: noon, Result: Done, Message: message},
			{Source: "/home", Destination: "nas", Ended: noon, Result: Done},
			{Source: "/srv", Ended: noon, Result: Done, Message: "always"},
			{Source: "/new", Ended: noon, Result: Failed},
		} {
			if err := l.EndPlace(id, p); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.EndJob(id, Outcome{Result: Done, Ended: noon}); err != nil {
			t.Fatal(err)
		}
		if err := l.pruneDiary(diaryLimits{runs: 3, ofJob: 2, places: 4}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := l.LastWithout("j")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, p := range all {
		got[p.Source] = p.Run
	}
	if d := cmp.Diff(map[string]int64{"/home": 2, "/srv": 1, "/new": 1}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := l.count(t, "job_runs"); n != 5 {
		t.Errorf("%d runs are kept, want the last three and those two", n)
	}
}
