package schedule_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/schedule"
)

func TestLayouts(t *testing.T) {
	at := time.Date(2026, 7, 1, 21, 4, 55, 999, time.UTC)
	berlin := zone(t, "Europe/Berlin")
	want := map[schedule.Layout]string{
		"":                     "p-20260701-230455",
		schedule.Compact:       "p-20260701-230455",
		"YYYYMMDD":             "p-20260701",
		"YYYYMMDDTHHMM":        "p-20260701T2304",
		"YYYYMMDDTHHMMSS":      "p-20260701T230455",
		"YYYYMMDDTHHMM+ZZZZ":   "p-20260701T2304+0200",
		"YYYYMMDDTHHMMSS+ZZZZ": "p-20260701T230455+0200",
		"YYYY-MM-DD":           "p-2026-07-01",
	}
	for _, between := range []string{"_", "-", "T", " "} {
		for form, clock := range map[string]string{"HH-MM-SS": "23-04-55", "HH-MM": "23-04", "HH:MM:SS": "23:04:55", "HH:MM": "23:04"} {
			want[schedule.Layout("YYYY-MM-DD"+between+form)] = "p-2026-07-01" + between + clock
		}
	}
	for l, name := range want {
		if got := schedule.FormatAs(l, "p-", at.In(berlin)); got != name {
			t.Errorf("%q: %q, want %q", l, got, name)
		}
		// What is made as a layout has it is read by nothing but itself.
		for other := range want {
			_, ok := schedule.ParseAs(other, "p-", name, berlin)
			if same := other == l || other == "" && l == schedule.Compact || l == "" && other == schedule.Compact; ok != same {
				t.Errorf("%q is read as %q: %v", name, other, ok)
			}
		}
		steps := map[string]time.Duration{"SS": time.Second, "HH": time.Minute, "DD": 24 * time.Hour, "": time.Second}
		for _, part := range []string{"SS", "HH", "DD", ""} {
			if strings.Contains(string(l), part) {
				if l.Step() != steps[part] {
					t.Errorf("%q: a step of %v", l, l.Step())
				}
				break
			}
		}
	}
	if len(want)-1 != len(schedule.Layouts()) {
		t.Errorf("%d layouts, and %d are tried", len(schedule.Layouts()), len(want)-1)
	}
}

func TestParseLayout(t *testing.T) {
	for text, want := range map[string]schedule.Layout{
		"": "", "YYYYMMDD-HHMMSS": schedule.Compact, "yyyy-mm-dd hh:mm": "YYYY-MM-DD HH:MM", "YYYYMMDDTHHMMSS+ZZZZ": "YYYYMMDDTHHMMSS+ZZZZ",
	} {
		if got, err := schedule.ParseLayout(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"YYYY", "%Y-%m-%d", "YYYYMMDD HHMMSS", "2006-01-02", "YYYY-MM-DD/HH-MM", " YYYYMMDD"} {
		if got, err := schedule.ParseLayout(text); err == nil {
			t.Errorf("%q is taken for %q", text, got)
		} else if !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not name %q", err, text)
		}
	}
}

func TestParseAsRefuses(t *testing.T) {
	for _, tt := range []struct {
		layout schedule.Layout
		names  string
	}{
		{"YYYYMMDDTHHMMSS+ZZZZ", "20260701T230455Z 20260701T230455-0000 20260701T230455+2500 20260701T230455+0260 20260701T230455+02:0 20260701T230455x0200"},
		{"YYYY-MM-DD", "2026-02-29 2026-13-01 2026-00-01 2026-01-00 0000-01-01 2026-1-001 +026-01-01 2026_01_01 2026-01-01x"},
		{"YYYY-MM-DD_HH:MM", "2026-01-01_24:00 2026-01-01_12:60 2026-01-01_1:000 2026-01-01T12:00"},
		{"YYYYMMDDTHHMMSS", "20260101T12000.5 20260101T120000.5 20260101T1200 20260101T126000 20260101T120061"},
	} {
		for name := range strings.FieldsSeq(tt.names) {
			if at, ok := schedule.ParseAs(tt.layout, "", name, nil); ok {
				t.Errorf("%q is taken for %v in %s", name, at, tt.layout)
			}
		}
	}
	if _, ok := schedule.ParseAs("YYYY-MM-DD", "a", "b2026-01-01", nil); ok {
		t.Error("another prefix is none")
	}
}

// TestParseAsFormatAs asserts for every layout that a name is read as the time that
// it was made of, as far as the layout tells it, by ParseAs and by Split.
func TestParseAsFormatAs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.SampledFrom(schedule.Layouts()).Draw(t, "layout")
		z, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).In(z)
		name := schedule.FormatAs(l, "p-", at)
		read, ok := schedule.ParseAs(l, "p-", name, z)
		if !ok {
			t.Fatalf("%q is not read", name)
		}
		if again := schedule.FormatAs(l, "p-", read); again != name {
			t.Errorf("%q is %v, which is %q", name, read, again)
		}
		if exact := strings.HasSuffix(string(l), "+ZZZZ"); exact && (read.After(at) || at.Sub(read) >= l.Step()) {
			t.Errorf("%q is %v, not %v", name, read, at)
		}
		prefix, split, ok := schedule.Split(name, z)
		if !ok || prefix != "p-" || !split.Equal(read) {
			t.Errorf("Split has %q at %v for %q, not %v", prefix, split, name, read)
		}
	})
}

func FuzzParseAs(f *testing.F) {
	for i, l := range schedule.Layouts() {
		f.Add(i, "p", schedule.FormatAs(l, "p", time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC)))
	}
	f.Fuzz(func(t *testing.T, at int, prefix, name string) {
		all := schedule.Layouts()
		l := all[uint(at)%uint(len(all))]
		read, ok := schedule.ParseAs(l, prefix, name, time.UTC)
		if !ok {
			return
		}
		if _, offset := strings.CutSuffix(string(l), "+ZZZZ"); offset {
			return // it may be of another zone
		}
		if again := schedule.FormatAs(l, prefix, read); again != name {
			t.Errorf("%q is read as %v, which is %q", name, read, again)
		}
	})
}
