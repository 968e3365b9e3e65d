package schedule_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/schedule"
)

// zones change their clocks by an hour on either half of the earth, by half an
// hour, not at all; at midnight, at one minute after midnight; and one has left
// out a whole day.
var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo",
	"America/St_Johns", "Pacific/Apia",
}

func TestFormat(t *testing.T) {
	at := time.Date(2026, 11, 20, 22, 14, 55, 999, time.UTC)
	if got := schedule.Format("root", at.In(zone(t, "Europe/Berlin"))); got != "root20261120-231455" {
		t.Error(got)
	}
}

func TestParse(t *testing.T) {
	for name, want := range map[string]string{
		"p-20261120-231455": "2026-11-20T22:14:55Z",
		"p-20260701-000000": "2026-06-30T22:00:00Z",
		"p-20240229-120000": "2024-02-29T11:00:00Z",
		"p-20261025-015959": "2026-10-24T23:59:59Z",
		"p-20261025-020000": "2026-10-25T00:00:00Z", // for the first time
		"p-20261025-025959": "2026-10-25T00:59:59Z",
		"p-20261025-030000": "2026-10-25T02:00:00Z",
		"p-20260329-015959": "2026-03-29T00:59:59Z",
		"p-20260329-020000": "2026-03-29T01:00:00Z", // never: 03:00
		"p-20260329-023000": "2026-03-29T01:30:00Z", // never: 03:30
		"p-20260329-030000": "2026-03-29T01:00:00Z",
		"p-00010101-000000": "0000-12-31T23:06:32Z",
	} {
		at, ok := schedule.Parse("p-", name, zone(t, "Europe/Berlin"))
		if got := at.UTC().Format(time.RFC3339); !ok || got != want {
			t.Errorf("%s: got %s, %v, want %s", name, got, ok, want)
		}
	}
	for place, times := range map[string]map[string]string{
		"America/New_York": {
			"20260308-023000": "2026-03-08T07:30:00Z", // never: 03:30
			"20261101-013000": "2026-11-01T05:30:00Z", // for the first time
			"20261101-020000": "2026-11-01T07:00:00Z",
		},
		"Australia/Lord_Howe": {
			"20261004-021500": "2026-10-03T15:45:00Z", // never: 02:45
			"20260405-014500": "2026-04-04T14:45:00Z", // for the first time
			"20260405-020000": "2026-04-04T15:30:00Z",
		},
		"Pacific/Apia": {
			"20111230-120000": "2011-12-30T22:00:00Z", // never: a day later
		},
	} {
		for name, want := range times {
			at, ok := schedule.Parse("", name, zone(t, place))
			if got := at.UTC().Format(time.RFC3339); !ok || got != want {
				t.Errorf("%s in %s: got %s, %v, want %s", name, place, got, ok, want)
			}
		}
	}
	if at, ok := schedule.Parse("", "20261120-231455", nil); !ok || !at.Equal(time.Date(2026, 11, 20, 23, 14, 55, 0, time.UTC)) {
		t.Error(at, ok)
	}
}

// TestParseIsStrict: the old program takes the first of these for 23:01:05.
func TestParseIsStrict(t *testing.T) {
	for _, name := range []string{
		"20261120-2315", "20261120-23145", "20261120-2314555", "20261120-231455 ", " 20261120-231455", "20261120-231455.5", "20261120-231455,5",
		"20261120_231455", "20261120T231455", "20261120-231455Z", "2026112-0231455", "20261120-23145a", "2026112a-231455", "+2061120-231455",
		"20260229-000000", "20261301-000000", "20260001-000000", "20260100-000000", "20260431-000000", "20261120-240000", "20261120-236000",
		"20261120-235960", "00000101-000000", "", "-", "q20261120-231455", "x-20261120-231455", ".latest", "２0261120-231455", "20261120-23145\xff",
	} {
		if at, ok := schedule.Parse("", name, time.UTC); ok {
			t.Errorf("%q is read as %v", name, at)
		}
	}
	if _, ok := schedule.Parse("pre", "20261120-231455", time.UTC); ok {
		t.Error("it has no prefix")
	}
}

func TestSplit(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for name, want := range map[string]string{
		"20261120-231455":               "|2026-11-20T22:14:55Z",
		"root20261120-231455":           "root|2026-11-20T22:14:55Z",
		"a b-20261120-231455":           "a b-|2026-11-20T22:14:55Z",
		"home.20261120":                 "home.|2026-11-19T23:00:00Z",
		"home.20261120_1":               "home.|2026-11-19T23:00:00.000000001Z",
		"home.20261120T2314":            "home.|2026-11-20T22:14:00Z",
		"home.20261120T2314_12":         "home.|2026-11-20T22:14:00.000000012Z",
		"home.20261120T231455":          "home.|2026-11-20T22:14:55Z",
		"home.20261120T231455+0100":     "home.|2026-11-20T22:14:55Z",
		"home.20261120T231455-0530":     "home.|2026-11-21T04:44:55Z",
		"home.20261025T023000+0100":     "home.|2026-10-25T01:30:00Z",
		"home.20261025T023000+0200_999": "home.|2026-10-25T00:30:00.000000999Z",
		"home.20261120T231455Z":         "home.|2026-11-20T23:14:55Z",
		"2026-11-20":                    "|2026-11-19T23:00:00Z",
		"@home-2026-11-20":              "@home-|2026-11-19T23:00:00Z",
		"2026-11-20_23-14-55":           "|2026-11-20T22:14:55Z",
		"x_2026-11-20_23:14:55":         "x_|2026-11-20T22:14:55Z",
		"x 2026-11-20 23:14":            "x |2026-11-20T22:14:00Z",
		"x-2026-11-20T23:14:55":         "x-|2026-11-20T22:14:55Z",
		"x-2026-11-20-23-14":            "x-|2026-11-20T22:14:00Z",
		"x-20251231-20261120":           "x-20251231-|2026-11-19T23:00:00Z", // the last one counts
		"v1.2-20261120":                 "v1.2-|2026-11-19T23:00:00Z",
		"12-20261120":                   "12-|2026-11-19T23:00:00Z",
		"line\nbreak20261120":           "line\nbreak|2026-11-19T23:00:00Z",
		"caf\xe920261120":               "caf\xe9|2026-11-19T23:00:00Z",
		"2026-03-29_02-30":              "|2026-03-29T01:30:00Z",
	} {
		prefix, at, ok := schedule.Split(name, berlin)
		got := prefix + "|" + at.UTC().Format(time.RFC3339Nano)
		if !ok || got != want {
			t.Errorf("%q: got %q, %v, want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{
		"", "home", "20261120-2315", "120261120", "x1234520261120-231455", "20261320", "20260229", "2026-02-30", "2026-11-20_24-00", "2026-11-20_23",
		"2026-11-20_2314", "2026-11-20 23:14-55", "2026-11-20_23-14:55", "20261120T23", "20261120T231455+01", "20261120T231455+1500", "20261120T231455+0160",
		"20261120_0", "20261120_01", "20261120_1000", "20261120-231455_1", "20261120 ", "20261120.bak", "1732144495", "2026-1-2", "20261120t2314", "00000101",
		"home-2026-11-20x",
	} {
		if prefix, at, ok := schedule.Split(name, berlin); ok {
			t.Errorf("%q is read as %q and %v", name, prefix, at)
		}
	}
	if _, at, ok := schedule.Split("2026-11-20", nil); !ok || !at.Equal(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)) {
		t.Error(at, ok)
	}
}

// moment is a second, often close to where a zone changes its clocks.
func moment(t *rapid.T, z *time.Location, label string) time.Time {
	at := time.Unix(rapid.Int64Range(1_200_000_000, 1_900_000_000).Draw(t, label), 0).In(z)
	if rapid.Bool().Draw(t, label+" close to a change") {
		if _, end := at.ZoneBounds(); !end.IsZero() {
			return end.Add(time.Duration(rapid.IntRange(-8000, 8000).Draw(t, label+" after it")) * time.Second).In(z)
		}
	}
	return at
}

// TestNamesAreReadAsWritten, and as the first time at which the clock shows them.
func TestNamesAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := moment(t, z, "time")
		prefix := rapid.SampledFrom([]string{"", "home-", "20", "20261120-231455"}).Draw(t, "prefix")
		name := schedule.Format(prefix, at)
		got, ok := schedule.Parse(prefix, name, z)
		if !ok || schedule.Format(prefix, got) != name {
			t.Fatalf("%s is read as %v, %v", name, got, ok)
		}
		earliest := at
		for step := range 24 * 4 { // no clock was ever put back by more, nor to an odd minute
			if other := at.Add(-time.Duration(step) * 15 * time.Minute); schedule.Format(prefix, other) == name {
				earliest = other
			}
		}
		if !got.Equal(earliest) {
			t.Fatalf("%s is read as %v, and is first shown at %v", name, got, earliest)
		}
		if strings.HasPrefix(prefix, "20") {
			return // of digits in a row, Split takes none
		}
		p, s, ok := schedule.Split(name, z)
		if !ok || p != prefix || !s.Equal(got) {
			t.Fatalf("%s is split into %q and %v, %v", name, p, s, ok)
		}
	})
}

// TestNearest: with what the file system knows, the two hours are told apart, and
// nothing else is changed by it.
func TestNearest(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for name, c := range map[string][2]string{ // when it was made, when that was
		"20261025-023000": {"2026-10-25T01:30:02Z", "2026-10-25T01:30:00Z"},
		"20261025-020000": {"2026-10-25T01:04:59Z", "2026-10-25T01:00:00Z"},
		"20261025-020001": {"2026-10-25T01:05:02Z", "2026-10-25T00:00:01Z"}, // received
		"20261025-023001": {"2026-10-25T00:30:02Z", "2026-10-25T00:30:01Z"},
		"20261025-025959": {"2026-10-25T01:59:59Z", "2026-10-25T01:59:59Z"},
		"20261025-015959": {"2026-10-25T00:59:59Z", "2026-10-24T23:59:59Z"}, // there was one
		"20261025-030000": {"2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
		"20260329-013000": {"2026-03-29T01:30:00Z", "2026-03-29T00:30:00Z"},
		"20261120-120000": {"2026-11-20T11:00:00Z", "2026-11-20T11:00:00Z"},
	} {
		at, ok := schedule.Parse("", name, berlin)
		made, err := time.Parse(time.RFC3339, c[0])
		if !ok || err != nil {
			t.Fatal(name, err)
		}
		got := schedule.Nearest(at, made)
		if got.UTC().Format(time.RFC3339) != c[1] {
			t.Errorf("%s, made at %s: got %v, want %s", name, c[0], got, c[1])
		}
		if zero := schedule.Nearest(at, time.Time{}); !zero.Equal(at) {
			t.Errorf("%s: got %v", name, zero)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		z, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := moment(t, z, "time")
		parsed, ok := schedule.Parse("", schedule.Format("", at), z)
		made := at.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
		if got := schedule.Nearest(parsed, made); !ok || !got.Equal(at) {
			t.Fatalf("%v is found to be %v", at, got)
		}
	})
}

// TestTimesThatNeverWere: each second of a whole day is read as a time close by,
// in every zone, and the later one is the later one but for those left out.
func TestTimesThatNeverWere(t *testing.T) {
	for place, date := range map[string]string{
		"Europe/Berlin": "20260329", "America/New_York": "20260308", "Australia/Lord_Howe": "20261004",
		"America/Sao_Paulo": "20181104", "America/St_Johns": "20110313", "Pacific/Apia": "20111230",
	} {
		z, never := zone(t, place), 0
		for s := range 86400 {
			if s%7 != 0 {
				continue // a few are enough
			}
			shown := time.Date(2000, 1, 1, 0, 0, s, 0, time.UTC).Format("150405")
			at, ok := schedule.Parse("", date+"-"+shown, z)
			if !ok {
				t.Fatalf("%s-%s in %s is no time", date, shown, place)
			}
			if schedule.Format("", at) == date+"-"+shown {
				continue
			}
			never++
			// As long after the change as the name is after the clock stood there.
			start, _ := at.ZoneBounds()
			_, before := start.Add(-time.Second).Zone()
			if got := schedule.Format("", at.In(time.FixedZone("", before))); got != date+"-"+shown || at.Sub(start) > 24*time.Hour {
				t.Fatalf("%s-%s in %s is read as %v", date, shown, place, at)
			}
		}
		if never == 0 {
			t.Errorf("%s left out nothing on %s", place, date)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		"20261120-231455", "home.20261120T2314_12", "home.20261025T023000+0200_999", "x 2026-11-20 23:14", "120261120", "", "2026-11-20-23-14-55", "\xff20260329-023000",
	} {
		f.Add(seed)
	}
	berlin := zone(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, name string) {
		at, parsed := schedule.Parse("", name, berlin)
		prefix, s, ok := schedule.Split(name, berlin)
		switch {
		case parsed && (!ok || prefix != "" || !s.Equal(at)):
			t.Fatalf("%q is %v, and %v when it is split", name, at, s)
		case !ok && (prefix != "" || !s.IsZero()):
			t.Fatalf("%q is refused with %q and %v", name, prefix, s)
		case !ok:
			return
		case !strings.HasPrefix(name, prefix) || prefix != "" && strings.ContainsRune("0123456789", rune(prefix[len(prefix)-1])):
			t.Fatalf("%q has the prefix %q", name, prefix)
		}
		// The date is the same wherever it stands.
		p, again, ok := schedule.Split("x-"+name[len(prefix):], berlin)
		if !ok || p != "x-" || !again.Equal(s) {
			t.Fatalf("%q alone is %q and %v", name[len(prefix):], p, again)
		}
	})
}
