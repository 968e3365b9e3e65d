package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// costs are runs that took so many seconds each.
func costs(peak int64, seconds ...float64) []cost {
	var all []cost
	for _, s := range seconds {
		d := time.Duration(s * float64(time.Second))
		all = append(all, cost{wall: d, cpu: d / 2, peak: peak})
	}
	return all
}

// TestOutcome: medians are compared, not means, and what misses its target is
// marked.
func TestOutcome(t *testing.T) {
	for _, tt := range []struct {
		name         string
		row          row
		ours, theirs []cost
		ratio        float64
		missed       bool
	}{
		{"faster", row{target: 0.6}, costs(1, 1, 100, 0.5), costs(1, 2, 2, 2), 0.5, false},
		{"too slow", row{target: 0.4}, costs(1, 1), costs(1, 2), 0.5, true},
		{"an even number of runs", row{}, costs(1, 1, 2), costs(1, 1, 1), 1.5, false},
		{"too much memory", row{}, costs(peakTarget+1, 1), costs(1, 1), 1, true},
		{"in seconds", row{target: 5, seconds: true}, costs(1, 6), nil, 0, true},
		{"in time", row{target: 5, seconds: true}, costs(1, 4), nil, 0, false},
	} {
		o, err := tt.row.outcome(tt.ours, tt.theirs)
		if err != nil || o.Ratio != tt.ratio || o.Missed != tt.missed {
			t.Errorf("%s: ratio %v, missed %v, %v", tt.name, o.Ratio, o.Missed, err)
		}
		if marked := strings.Contains(o.String(), "missed"); marked != tt.missed {
			t.Errorf("%s: %s", tt.name, o)
		}
	}
	broken := row{note: func([]byte) (string, error) { return "", errors.New("no") }}
	if _, err := broken.outcome(costs(1, 1), nil); err == nil {
		t.Error("a note that cannot be made is no error")
	}
}

// TestTables: the two forms have all rows, and the one for a page stays a table
// whatever is in its cells.
func TestTables(t *testing.T) {
	o, err := row{name: "sync", against: "send | receive"}.outcome(costs(1<<20, 1), costs(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, markdown := range []bool{true, false} {
		var out bytes.Buffer
		printTable(&out, markdown, []outcome{o, o})
		if n := strings.Count(out.String(), "0.50"); n != 2*2 { // wall and CPU
			t.Errorf("%d ratios in\n%s", n, &out)
		}
		if markdown && strings.Count(out.String(), `send \| receive`) != 2 {
			t.Errorf("the bar is not escaped:\n%s", &out)
		}
	}
}

// TestDo: a command that fails fails the bench, also in front of a pipe.
func TestDo(t *testing.T) {
	c, err := do(t.Context(), work{pipelines: []pipeline{{{"echo", "said"}}}, listen: true}, nil)
	if err != nil || string(c.said) != "said\n" || c.wall <= 0 {
		t.Errorf("%q, %v, %v", c.said, c.wall, err)
	}
	for name, w := range map[string]work{
		"alone":     one("false"),
		"in front":  {pipelines: []pipeline{{{"false"}, {"cat"}}}},
		"not there": one("/nonexistent/program"),
	} {
		if _, err := do(t.Context(), w, nil); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
