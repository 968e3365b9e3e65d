package schedule_test

import (
	"math"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones that the tests are about, on every machine

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/schedule"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func rules(t testing.TB, text string) schedule.Rules {
	t.Helper()
	r, err := schedule.ParseRules(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseRules(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"last:3,hourly:24,daily:7,weekly:5,monthly:12,yearly:all,min-age:2d,zone:Europe/Berlin": "last:3,hourly:24,daily:7,weekly:5,monthly:12,yearly:all,min-age:2d,zone:Europe/Berlin",
		"  yearly:all\tdaily:7 , last:1,,\n":                                                    "last:1,daily:7,yearly:all",
		"daily:0,last:0":                                                                        "",
		"daily:007":                                                                             "daily:7",
		"last:1000000":                                                                          "last:1000000",
		"min-age:1w":                                                                            "min-age:7d",
		"min-age:1w2d3h4m5s":                                                                    "min-age:9d3h4m5s",
		"min-age:36h":                                                                           "min-age:1d12h",
		"min-age:90s":                                                                           "min-age:1m30s",
		"min-age:0d":                                                                            "",
		"zone:UTC":                                                                              "zone:UTC",
		"zone:Local":                                                                            "zone:Local",
	} {
		r, err := schedule.ParseRules(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := r.String(); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestNone(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "zone:UTC": true, "daily:0": true, "min-age:0s": true,
		"last:1": false, "hourly:1": false, "daily:all": false, "weekly:1": false, "monthly:1": false, "yearly:1": false, "min-age:1s": false,
	} {
		if got := rules(t, text).None(); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestRefusedRules(t *testing.T) {
	for text, want := range map[string]string{
		"daily":                            `"daily" has no value; write rules like daily:7`,
		"daily:":                           `"daily:" has no value`,
		"7":                                `"7" has no value`,
		"daily=7":                          `"daily=7" has no value`,
		":7":                               `there is no rule ""`,
		"dayly:7":                          `there is no rule "dayly"; there are last, hourly, daily, weekly, monthly, yearly, min-age and zone`,
		"Daily:7":                          `there is no rule "Daily"`,
		"daily:7,last:1,daily:8":           `"daily" is given twice`,
		"daily:-1":                         `daily:-1: "-1" is neither a number nor "all"`,
		"daily:+1":                         `neither a number nor "all"`,
		"daily:7d":                         `neither a number nor "all"`,
		"daily:ALL":                        `neither a number nor "all"`,
		"daily:1000001":                    `more than 1000000; write "all"`,
		"daily:99999999999999999":          `more than 1000000; write "all"`,
		"min-age:2":                        `"2" is no length of time; write 2d`,
		"min-age:d":                        `"d" is no length of time`,
		"min-age:-2d":                      `"-2d" is no length of time`,
		"min-age:2y":                       `"2y" is no length of time`,
		"min-age:1h1d":                     `"1h1d" is no length of time`,
		"min-age:1d1d":                     `"1d1d" is no length of time`,
		"min-age:1.5d":                     `"1.5d" is no length of time`,
		"min-age:106752d":                  "that is longer than 292 years",
		"min-age:106751d24h":               "that is longer than 292 years",
		"min-age:99999999999999999999999w": "is no length of time",
		"zone:Berlin":                      `"Berlin" is no time zone that is known here; write zone:Europe/Berlin`,
		"zone:../../etc/passwd":            "is no time zone",
		strings.Repeat("daily:7,", 200):    "longer than 1000 bytes",
	} {
		r, err := schedule.ParseRules(text)
		if err == nil || !strings.HasPrefix(err.Error(), "reading retention rules: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		if r.String() != "" {
			t.Errorf("%q: some rules are read: %v", text, r)
		}
	}
}

func TestAgesAreRoundedUp(t *testing.T) {
	for age, want := range map[time.Duration]string{
		1:                   "min-age:1s",
		time.Second:         "min-age:1s",
		time.Minute - 1:     "min-age:1m",
		25*time.Hour + 1:    "min-age:1d1h1s",
		-time.Hour:          "",
		math.MaxInt64:       "min-age:106751d23h47m16s",
		math.MaxInt64 - 1e9: "min-age:106751d23h47m16s",
	} {
		if got := (schedule.Rules{MinAge: age}).String(); got != want {
			t.Errorf("%d: got %q, want %q", age, got, want)
		}
	}
}

// anyRules has numbers that are small enough to matter.
func anyRules(t *rapid.T, label string) schedule.Rules {
	number := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 3, 5, 8, schedule.All})
	r := schedule.Rules{
		Last:    number.Draw(t, label+" last"),
		Hourly:  number.Draw(t, label+" hourly"),
		Daily:   number.Draw(t, label+" daily"),
		Weekly:  number.Draw(t, label+" weekly"),
		Monthly: number.Draw(t, label+" monthly"),
		Yearly:  number.Draw(t, label+" yearly"),
		MinAge:  time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 59, 3600, 90_000, 40 * 86400}).Draw(t, label+" min-age")) * time.Second,
	}
	if name := rapid.SampledFrom(append(zones, "")).Draw(t, label+" zone"); name != "" {
		z, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Zone = z
	}
	return r
}

func TestRulesAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		again, err := schedule.ParseRules(r.String())
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != r.String() || again.Last != r.Last || again.Hourly != r.Hourly || again.Daily != r.Daily || again.Weekly != r.Weekly ||
			again.Monthly != r.Monthly || again.Yearly != r.Yearly || again.MinAge != r.MinAge || again.None() != r.None() {
			t.Fatalf("%q is read as %q", r, again)
		}
	})
}

func FuzzParseRules(f *testing.F) {
	for _, seed := range []string{
		"", "last:3,daily:7,monthly:all,min-age:2d,zone:Europe/Berlin", "min-age:1w2d3h4m5s", "zone:Local daily:1", "daily:-1", "min-age:106751d23h47m16s", ":", "zone:",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := schedule.ParseRules(text)
		if err != nil {
			return
		}
		again, err := schedule.ParseRules(r.String())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, r, err)
		}
		if again.String() != r.String() || again.None() != r.None() {
			t.Fatalf("%q is read as %q", r, again)
		}
	})
}
