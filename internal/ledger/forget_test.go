package ledger

import (
	"fmt"
	"testing"
	"time"
)

// TestForgottenPlaces: what was last at places that no run is about any more does not
// grow for ever, and what runs are about stays, however old its success is.
func TestForgottenPlaces(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		step time.Duration // between two runs
		runs int
		want int // places that are known in the end
	}{
		"for a year":             {3 * day, 120, 122},
		"for years":              {3 * day, 160, 136},
		"now and then":           {40 * day, 90, 92},
		"for decades":            {40 * day, 130, 102},
		"the clock stands still": {0, 130, 132},
	} {
		t.Run(name, func(t *testing.T) {
			l := fresh(t)
			for n := range c.runs {
				at := noon.Add(time.Duration(n) * c.step)
				id, err := l.BeginJob("j", at)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range []PlaceRun{
					{Source: "/home", Ended: at, Result: Done},
					{Source: "/away", Ended: at, Result: map[bool]Result{true: Done, false: Failed}[n == 0]},
					{Source: fmt.Sprintf("/srv/%d", n), Ended: at, Result: Done},
				} {
					if err := l.EndPlace(id, p); err != nil {
						t.Fatal(err)
					}
				}
				if err := l.EndJob(id, Outcome{Result: Done, Ended: at}); err != nil {
					t.Fatal(err)
				}
			}
			successes, tries, err := l.LastPlaces("j")
			if err != nil {
				t.Fatal(err)
			}
			if len(tries) != c.want {
				t.Errorf("%d places are known, want %d", len(tries), c.want)
			}
			if successes[0].Source != "/away" || successes[0].Run != 1 {
				t.Errorf("the last success of what is away is %v", successes[0])
			}
		})
	}
}
