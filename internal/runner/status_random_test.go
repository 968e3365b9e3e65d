package runner

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// TestLookNeverLies holds, over random histories, what monitoring rests on: where a
// place is fine, there was a success that is neither too old nor in the future, and
// where nothing limits its age, the last run over succeeded there. A success now makes
// everything fine.
func TestLookNeverLies(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, err := ledger.OpenMemory()
		if err != nil {
			rt.Fatal(err)
		}
		defer l.Close()
		job := config.Job{
			Name: "j", Kind: config.Backup, Snapshot: true, Sources: []string{rapid.SampledFrom([]string{"/a", "/*"}).Draw(rt, "source")},
			Destinations: []config.Destination{{Name: "x"}, {Name: "y"}},
			Every:        rapid.SampledFrom([]time.Duration{0, time.Hour, 24 * time.Hour}).Draw(rt, "every"),
		}
		results := []ledger.Result{ledger.Done, ledger.Failed, ledger.Interrupted}
		run := func(at time.Time, result ledger.Result, place func(string) (ledger.Result, bool)) {
			id, err := l.BeginJob("j", at)
			if err != nil {
				rt.Fatal(err)
			}
			for _, d := range []string{"", "x", "y"} {
				if how, tried := place(d); tried {
					if err := l.EndPlace(id, ledger.PlaceRun{Source: "/a", Destination: d, Result: how, Ended: at}); err != nil {
						rt.Fatal(err)
					}
				}
			}
			if result != "" {
				if err := l.EndJob(id, ledger.Outcome{Result: result, Ended: at}); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for range rapid.IntRange(0, 8).Draw(rt, "runs") {
			at := noon.Add(time.Duration(rapid.IntRange(-100, 10).Draw(rt, "hours")) * time.Hour)
			result := rapid.SampledFrom([]ledger.Result{ledger.Done, ledger.Failed, ledger.Interrupted, ""}).Draw(rt, "result")
			run(at, result, func(string) (ledger.Result, bool) {
				if result == ledger.Done {
					return ledger.Done, true
				}
				return rapid.SampledFrom(results).Draw(rt, "how"), rapid.Bool().Draw(rt, "tried")
			})
		}
		running := rapid.Bool().Draw(rt, "running")
		look := func() *JobStatus {
			s, err := Look(&config.File{Jobs: []config.Job{job}}, l, noon, 0, func(string) bool { return running })
			if err != nil {
				rt.Fatal(err)
			}
			return &s.Jobs[0]
		}
		s := look()
		if n := len(s.Places); n != 3 && (n != 4 || s.Places[3].Source != "/*") {
			rt.Fatalf("%d places", n)
		}
		for _, p := range s.Places {
			if (p.Late || p.Failed) && p.Why == "" {
				rt.Errorf("%s is wrong, and nobody knows why", p.Destination)
			}
			if p.Late {
				continue
			}
			switch {
			case p.Success == nil:
				rt.Errorf("%s is fine without a success", p.Destination)
			case p.Success.Ended.After(noon.Add(slack)):
				rt.Errorf("%s is fine with a success in the future", p.Destination)
			case noon.Sub(p.Success.Ended) > p.Limit:
				rt.Errorf("%s is fine with a success of %s", p.Destination, p.Success.Ended)
			case p.Usual && p.Failed:
				rt.Errorf("%s is fine though the last run failed", p.Destination)
			}
		}
		run(noon, ledger.Done, func(string) (ledger.Result, bool) { return ledger.Done, true })
		if s := look(); slices.ContainsFunc(s.Places, func(p PlaceStatus) bool { return p.Late || p.Failed }) {
			rt.Errorf("after a success: %+v", s.Places)
		}
	})
}
