package schedule

import (
	"regexp"
	"strconv"
	"time"
)

// Format returns the name of a snapshot: the prefix and the time, in the zone of
// the time, as YYYYMMDD-HHMMSS (btrfs-backup).
func Format(prefix string, t time.Time) string { return FormatAs(Compact, prefix, t) }

// Parse reads a name that Format has made: the prefix, eight digits, a dash and
// six digits, and nothing else, which have to be a date and a time of day. A nil
// zone is UTC.
//
// A time that occurs twice in the zone, when clocks are put back, is the first of
// the two. One that never occurs, when they are put forward, is as long after the
// change as it claims to be. Who does not want that keeps names in UTC; who knows
// when the file system made the snapshot asks Nearest.
func Parse(prefix, name string, zone *time.Location) (time.Time, bool) {
	return ParseAs(Compact, prefix, name, zone)
}

// Nearest tells the two times apart that a clock shows when it is put back: it
// returns the second one, if t is the first, as Parse and Split return it, and the
// snapshot was made within Slack of the second. Otherwise it returns t, above all
// where made is zero, or the time at which a copy was received.
func Nearest(t, made time.Time) time.Time {
	_, end := t.ZoneBounds()
	if end.IsZero() {
		return t
	}
	_, before := t.Zone()
	_, after := end.In(t.Location()).Zone()
	second := t.Add(time.Duration(before-after) * time.Second)
	if second.Before(end) || second.Equal(t) || made.Sub(second).Abs() > Slack {
		return t
	}
	return second
}

// dated are the forms of dates that programs put at the end of names. The prefix
// is as short as can be, and no digit may stand before the date: it would be part
// of a longer number.
var dated = regexp.MustCompile(`(?s)^(|.*?[^0-9])(?:` +
	// YYYYMMDD, YYYYMMDD-HHMMSS, and those of btrbk: YYYYMMDDTHHMM[SS][±ZZZZ], with
	// _N after it where the name was taken.
	`([0-9]{4})([0-9]{2})([0-9]{2})(?:-([0-9]{2})([0-9]{2})([0-9]{2})|` +
	`(?:T([0-9]{2})([0-9]{2})([0-9]{2})?(Z|[+-][0-9]{4})?)?(?:_([1-9][0-9]{0,2}))?)|` +
	// YYYY-MM-DD, with HH:MM[:SS] or HH-MM[-SS] after a blank, _, - or T.
	`([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[_T -]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2}))?|-([0-9]{2})(?:-([0-9]{2}))?))?` +
	`)$`)

// Split reads a name that ends in a date in any of the usual forms, and returns
// what is before the date. A nil zone is UTC; it is that of the forms that name
// none.
//
// The forms are YYYYMMDD-HHMMSS (btrfs-backup), YYYYMMDD, YYYYMMDDTHHMM and
// YYYYMMDDTHHMMSS+ZZZZ with or without a number for names that were taken
// (btrbk), and YYYY-MM-DD with or without HH-MM, HH-MM-SS, HH:MM or HH:MM:SS after
// a blank, an underscore, a dash or a T. A date alone is the beginning of its day.
// What btrbk has numbered is later by as many nanoseconds, so that it is in order.
func Split(name string, zone *time.Location) (prefix string, t time.Time, ok bool) {
	m := dated.FindStringSubmatch(name)
	if m == nil {
		return "", time.Time{}, false
	}
	either := func(groups ...int) string {
		for _, g := range groups {
			if m[g] != "" {
				return m[g]
			}
		}
		return "00"
	}
	if m[11] != "" {
		if zone, ok = offset(m[11]); !ok {
			return "", time.Time{}, false
		}
	}
	t, ok = wall{
		either(2, 13), either(3, 14), either(4, 15),
		either(5, 8, 16), either(6, 9, 17, 19), either(7, 10, 18, 20),
	}.in(zone)
	if !ok {
		return "", time.Time{}, false
	}
	if m[12] != "" {
		number, _ := strconv.Atoi(m[12]) // three digits
		t = t.Add(time.Duration(number))
	}
	return m[1], t, true
}

// offset reads Z or ±HHMM.
func offset(text string) (*time.Location, bool) {
	if text == "Z" {
		return time.UTC, true
	}
	hours, minutes := digits(text[1:3]), digits(text[3:5])
	if hours > 14 || minutes > 59 {
		return nil, false
	}
	seconds := hours*3600 + minutes*60
	if text[0] == '-' {
		seconds = -seconds
	}
	return time.FixedZone("", seconds), true
}

// wall is what a clock on a wall and the calendar beside it show, in digits.
type wall struct{ year, month, day, hour, minute, second string }

// in returns the time at which a zone shows it; false if no clock ever does.
func (w wall) in(zone *time.Location) (time.Time, bool) {
	if zone == nil {
		zone = time.UTC
	}
	y, mo, d := digits(w.year), digits(w.month), digits(w.day)
	h, mi, s := digits(w.hour), digits(w.minute), digits(w.second)
	if y < 1 || mo < 1 || mo > 12 || d < 1 || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 || s > 59 {
		return time.Time{}, false
	}
	shown := time.Date(y, time.Month(mo), d, h, mi, s, 0, time.UTC)
	if shown.Day() != d {
		return time.Time{}, false // the 31st of a month that has 30 days
	}
	return first(shown, zone), true
}

// digits returns a number, and -1 if there is anything but digits.
func digits(text string) int {
	n := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// first returns the first time at which a zone shows what UTC shows at another
// one; where it never does, what it would show if clocks had not been put forward
// yet. time.Date leaves open which of two it returns.
func first(shown time.Time, zone *time.Location) time.Time {
	at := func(offset int) time.Time { return shown.Add(-time.Duration(offset) * time.Second).In(zone) }
	y, mo, d := shown.Date()
	h, mi, s := shown.Clock()
	t := time.Date(y, mo, d, h, mi, s, 0, zone)
	start, end := t.ZoneBounds()
	_, here := t.Zone()
	if !at(here).Equal(t) {
		// It is never shown, and t is on either side of the change. Only on the side
		// before it, the offset is the one that leads across.
		if c := at(here); !end.IsZero() && !c.Before(end) {
			return c
		}
		return t
	}
	if !start.IsZero() {
		_, before := start.Add(-time.Nanosecond).Zone()
		if c := at(before); c.Before(start) && c.Before(t) {
			return c
		}
	}
	return t
}
