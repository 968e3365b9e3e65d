package schedule

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Layout is how a time is written in a name: one of Layouts. The zero Layout is
// Compact.
type Layout string

// Compact is the usual layout, btrfs-backup's.
const Compact Layout = "YYYYMMDD-HHMMSS"

// Layouts returns all that there are: those that Split reads, without numbers for
// names that were taken. Where a layout shows no offset from UTC (+ZZZZ), what it
// says is the time of a zone that is known from elsewhere.
func Layouts() []Layout {
	all := []Layout{
		Compact,
		"YYYYMMDD", "YYYYMMDDTHHMM", "YYYYMMDDTHHMMSS", "YYYYMMDDTHHMM+ZZZZ", "YYYYMMDDTHHMMSS+ZZZZ",
		"YYYY-MM-DD",
	}
	for _, between := range []Layout{"_", "-", "T", " "} {
		for _, clock := range []Layout{"HH-MM-SS", "HH-MM", "HH:MM:SS", "HH:MM"} {
			all = append(all, "YYYY-MM-DD"+between+clock)
		}
	}
	return all
}

// ParseLayout reads a layout as people write it. Its letters may be small ones;
// nothing is the zero Layout.
func ParseLayout(text string) (Layout, error) {
	l := Layout(strings.ToUpper(text))
	if l == "" || slices.Contains(Layouts(), l) {
		return l, nil
	}
	return "", fmt.Errorf("%q is no layout of a time: want %s, YYYY-MM-DD_HH-MM-SS, YYYYMMDDTHHMM, YYYYMMDDTHHMMSS+ZZZZ or YYYY-MM-DD, say", text, Compact)
}

// text is the layout itself, never the zero one.
func (l Layout) text() string {
	if l == "" {
		l = Compact
	}
	return string(l)
}

// Step is how far apart two times are that have different names for certain: a
// second, a minute, or a day of 24 hours.
func (l Layout) Step() time.Duration {
	switch text := l.text(); {
	case strings.Contains(text, "SS"):
		return time.Second
	case strings.Contains(text, "HH"):
		return time.Minute
	}
	return 24 * time.Hour
}

// FormatAs returns the name of a snapshot: the prefix and the time, in the zone of
// the time.
func FormatAs(l Layout, prefix string, t time.Time) string {
	return prefix + t.Format(l.reference())
}

// clocks are the letters of layouts, and what stands for them in those of package
// time. The first MM is the month, and the one behind HH the minute.
var clocks = strings.NewReplacer("YYYY", "2006", "HH-MM", "15-04", "HH:MM", "15:04", "HHMM", "1504", "MM", "01", "DD", "02", "SS", "05", "+ZZZZ", "-0700")

// reference is the layout as package time has it.
func (l Layout) reference() string { return clocks.Replace(l.text()) }

// ParseAs reads a name that FormatAs has made, and no other: not that of another
// layout, and no day or hour that the calendar does not have. About times that a
// zone has twice, or never, Parse says more; a nil zone is UTC.
func ParseAs(l Layout, prefix, name string, zone *time.Location) (time.Time, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok || len(rest) != len(l.text()) {
		return time.Time{}, false
	}
	reference := l.reference()
	shown, err := time.Parse(reference, rest)
	if err != nil || shown.Year() < 1 || shown.Format(reference) != rest {
		return time.Time{}, false
	}
	if zone == nil {
		zone = time.UTC
	}
	if strings.HasSuffix(l.text(), "+ZZZZ") {
		return shown.In(zone), true
	}
	return first(shown, zone), true
}
