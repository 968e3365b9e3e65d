package ledger

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// nights fills a diary by a script: one word is one run of a job, "job:places",
// where each place is a letter, in upper case if it went well. A "-" is not ended.
func nights(t *testing.T, l *Ledger, script string) {
	t.Helper()
	for i, word := range strings.Fields(script) {
		job, places, _ := strings.Cut(word, ":")
		id, err := l.BeginJob(job, noon.Add(time.Duration(i)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		killed := strings.HasSuffix(places, "-")
		result := Done
		for _, c := range strings.TrimSuffix(places, "-") {
			p := PlaceRun{Source: "/home", Destination: strings.ToLower(string(c)), Ended: noon, Result: Done, Bytes: id}
			if strings.ToUpper(string(c)) != string(c) {
				p.Result, p.Message, result = Failed, "no", Failed
			}
			if err := l.EndPlace(id, p); err != nil {
				t.Fatal(err)
			}
		}
		if killed {
			continue
		}
		if err := l.EndJob(id, Outcome{Result: result, Ended: noon}); err != nil {
			t.Fatal(err)
		}
	}
}

// told is what is in a diary about a job, as nights would have it.
func told(t *testing.T, l *Ledger, job string) string {
	t.Helper()
	runs, err := l.JobRuns(job, 1000)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(runs)
	var words []string
	for _, r := range runs {
		word := r.Job + ":"
		for _, p := range r.Places {
			if p.Run != r.ID {
				t.Errorf("a place of run %d is with run %d", p.Run, r.ID)
			}
			if p.Result == Done {
				p.Destination = strings.ToUpper(p.Destination)
			}
			word += p.Destination
		}
		if r.Ended.IsZero() {
			word += "-"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestDiary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open1(t, path)
	zone := time.FixedZone("", 3600)
	id, err := l.BeginJob("home", noon.In(zone))
	if err != nil {
		t.Fatal(err)
	}
	whole := PlaceRun{
		Source: "/ho\xffme", Destination: "näs", Ended: noon, Result: Done, Message: "m", Snapshot: "a\x00b/\xff",
		Transferred: 1, Removed: 2, Bytes: 1 << 40, Outstanding: 3, Chain: 4, Place: "p", AsOf: noon.Add(-time.Hour),
	}
	for _, p := range []PlaceRun{whole, {Run: 99, Source: "/home", Outstanding: -1}} {
		if err := l.EndPlace(id, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []Outcome{
		{Result: Failed, Message: "one of two", Ended: noon.Add(time.Minute)},
		{Result: Done, Ended: noon.Add(time.Hour)}, // too late
	} {
		if err := l.EndJob(id, o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.BeginJob("srv", noon); err != nil {
		t.Fatal(err)
	}
	if err := l.EndPlace(4711, whole); err != nil {
		t.Errorf("a place of a run that was pruned: %v", err)
	}
	l.Close()

	l = open1(t, path)
	whole.Run = id
	want := []JobRun{
		{ID: id + 1, Job: "srv", Begun: noon},
		{
			ID: id, Job: "home", Begun: noon, Ended: noon.Add(time.Minute), Result: Failed, Message: "one of two",
			Places: []PlaceRun{whole, {Run: id, Source: "/home", Outstanding: -1}},
		},
	}
	for job, want := range map[string][]JobRun{"": want, "home": want[1:], "srv": want[:1], "none": nil} {
		got, err := l.JobRuns(job, 10)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("runs of %q (-want +got):\n%s", job, d)
		}
	}
	for most, n := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 2} {
		if got, err := l.JobRuns("", most); err != nil || len(got) != n || n > 0 && got[0].Job != "srv" {
			t.Errorf("%d runs at most are %v (%v)", most, got, err)
		}
	}
}

func TestLastPlaces(t *testing.T) {
	l := fresh(t)
	nights(t, l, "j:AB k:C j:aB j:- j:Ab- j:aD")
	successes, tries, err := l.LastPlaces("j")
	if err != nil {
		t.Fatal(err)
	}
	short := func(places []PlaceRun) (s string) {
		for _, p := range places {
			s += fmt.Sprintf("%s%d%s ", p.Destination, p.Run, map[bool]string{true: "!"}[p.Result != Done])
		}
		return strings.TrimSpace(s)
	}
	if got := short(successes); got != "a5 b3 d6" {
		t.Errorf("successes are %s", got)
	}
	if got := short(tries); got != "a6! b5! d6" {
		t.Errorf("tries are %s", got)
	}
	if s, tr, err := l.LastPlaces("none"); len(s)+len(tr) > 0 || err != nil {
		t.Errorf("a job that never ran: %v, %v, %v", s, tr, err)
	}
}

func TestLongMessage(t *testing.T) {
	l := fresh(t)
	id, err := l.BeginJob("j", noon)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("ä", longestMessage)
	if err := l.EndPlace(id, PlaceRun{Message: long}); err != nil {
		t.Fatal(err)
	}
	if err := l.EndJob(id, Outcome{Result: Failed, Message: long}); err != nil {
		t.Fatal(err)
	}
	runs, err := l.JobRuns("j", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{runs[0].Message, runs[0].Places[0].Message} {
		text, cut := strings.CutSuffix(m, "ä…")
		if !cut || len(m) > longestMessage || len(m) < longestMessage-2 || strings.Trim(text, "ä") != "" {
			t.Errorf("the message has %d bytes and ends in %q", len(m), m[len(m)-8:])
		}
	}
}

func TestPruneDiary(t *testing.T) {
	const script = "rare:A j:AB j:aB j:aC j:a j:a- j:a j:a"
	for name, c := range map[string]struct {
		lim  diaryLimits
		want string
	}{
		"nothing is too much": {diaryLimits{runs: 8, ofJob: 0, places: 10}, script},
		"within the slack":    {diaryLimits{runs: 2, ofJob: 0, places: 3, slack: 8}, script},
		// B's success is in the third run, A's in the second, and C's in the fourth.
		"runs": {diaryLimits{runs: 2, ofJob: 0, places: 10}, "rare:A j:AB j:aB j:aC j:a j:a"},
		"runs, and some of each job": {
			diaryLimits{runs: 2, ofJob: 4, places: 10}, "rare:A j:AB j:aB j:aC j:a j:a- j:a j:a",
		},
		"places": {diaryLimits{runs: 8, ofJob: 0, places: 2}, "rare:A j:A j:B j:C j: j:- j:a j:a"},
		"both":   {diaryLimits{}, "rare:A j:A j:B j:C j:a"},
	} {
		t.Run(name, func(t *testing.T) {
			l := fresh(t)
			nights(t, l, script)
			before, tries, err := l.LastPlaces("j")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := l.pruneDiary(c.lim); err != nil {
					t.Fatal(err)
				}
			}
			if got := told(t, l, ""); got != c.want {
				t.Errorf("the diary says %q, want %q", got, c.want)
			}
			if n := l.count(t, "job_places WHERE run NOT IN (SELECT id FROM job_runs)"); n != 0 {
				t.Errorf("%d places of runs are left that are not there", n)
			}
			after, tries2, err := l.LastPlaces("j")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([][]PlaceRun{before, tries}, [][]PlaceRun{after, tries2}); d != "" {
				t.Errorf("pruning has changed what was last (-before +after):\n%s", d)
			}
		})
	}
}

// TestDiaryAgainstAModel holds the diary against one that is a slice.
func TestDiaryAgainstAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, err := OpenMemory()
		if err != nil {
			rt.Fatal(err)
		}
		defer l.Close()
		type key struct{ job, destination string }
		var order []JobRun
		successes, tries := map[key]PlaceRun{}, map[key]PlaceRun{}
		for range rapid.IntRange(0, 30).Draw(rt, "steps") {
			job := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "job")
			switch step := rapid.SampledFrom([]string{"begin", "place", "place", "end", "prune"}).Draw(rt, "step"); {
			case step == "begin":
				id, err := l.BeginJob(job, noon)
				if err != nil {
					rt.Fatal(err)
				}
				order = append(order, JobRun{ID: id, Job: job, Begun: noon})
			case step == "prune":
				if err := l.pruneDiary(diaryLimits{runs: 3, ofJob: 1, places: 4}); err != nil {
					rt.Fatal(err)
				}
			case len(order) == 0:
			case step == "place":
				r := rapid.SampledFrom(order).Draw(rt, "run")
				p := PlaceRun{
					Run: r.ID, Destination: rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "destination"),
					Result:      rapid.SampledFrom([]Result{Done, Failed, Interrupted}).Draw(rt, "result"),
					Outstanding: rapid.IntRange(-1, 2).Draw(rt, "outstanding"),
				}
				still, err := l.JobRuns("", 100)
				if err != nil {
					rt.Fatal(err)
				}
				if err := l.EndPlace(r.ID, p); err != nil {
					rt.Fatal(err)
				}
				if !slices.ContainsFunc(still, func(s JobRun) bool { return s.ID == r.ID }) {
					continue // it was pruned
				}
				k := key{r.Job, p.Destination}
				tries[k] = p
				if p.Result == Done {
					successes[k] = p
				}
			case step == "end":
				r := rapid.SampledFrom(order).Draw(rt, "run")
				if err := l.EndJob(r.ID, Outcome{Result: Done, Ended: noon}); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for _, job := range []string{"a", "b"} {
			gotSuccesses, gotTries, err := l.LastPlaces(job)
			if err != nil {
				rt.Fatal(err)
			}
			for i, got := range [][]PlaceRun{gotSuccesses, gotTries} {
				var want []PlaceRun
				for _, destination := range []string{"", "x", "y"} {
					if p, ok := []map[key]PlaceRun{successes, tries}[i][key{job, destination}]; ok {
						want = append(want, p)
					}
				}
				if d := cmp.Diff(want, got); d != "" {
					rt.Fatalf("of %s, list %d (-want +got):\n%s", job, i, d)
				}
			}
		}
		runs, err := l.JobRuns("", 100)
		if err != nil {
			rt.Fatal(err)
		}
		last := order
		if len(last) > 3 {
			last = last[len(last)-3:]
		}
		for i, r := range last { // the newest ones are never pruned
			if got := runs[len(last)-1-i]; got.ID != r.ID || got.Job != r.Job {
				rt.Fatalf("run %d from the end is %+v, want %+v", i, got, r)
			}
		}
	})
}
