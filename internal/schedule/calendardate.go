package schedule

import (
	"cmp"
	"fmt"
	"time"
)

// Date is a day of the calendar, without a time zone. The zero Date is none.
type Date struct {
	Year  int
	Month int
	Day   int
}

// ParseDate reads a date, YYYY-MM-DD. It has to be one that there is.
func ParseDate(text string) (Date, error) {
	d, err := ReadDate(text)
	if err == nil && !d.real() {
		err = fmt.Errorf("%s is no date: that month has no day %d", text, d.Day)
	}
	if err != nil {
		return Date{}, err
	}
	return d, nil
}

// ReadDate reads a date that somebody has written down: btrsend took any day up to
// 31 in any month. 2014-02-31 is a date of its own, and counts as the day that is
// as many days after the end of January.
func ReadDate(text string) (Date, error) {
	if len(text) != len("2006-01-02") || text[4] != '-' || text[7] != '-' {
		return Date{}, fmt.Errorf("%q is no date: want YYYY-MM-DD", text)
	}
	var parts [3]int
	for i, part := range []string{text[:4], text[5:7], text[8:]} {
		for _, c := range []byte(part) {
			if c < '0' || c > '9' {
				return Date{}, fmt.Errorf("%q is no date: want YYYY-MM-DD", text)
			}
			parts[i] = parts[i]*10 + int(c-'0')
		}
	}
	d := Date{Year: parts[0], Month: parts[1], Day: parts[2]}
	if d.Month < 1 || d.Month > 12 || d.Day < 1 || d.Day > 31 {
		return Date{}, fmt.Errorf("%q is no date: months go from 01 to 12, and days to 31", text)
	}
	return d, nil
}

// DateOf is the day of a time, in its zone.
func DateOf(t time.Time) Date {
	return Date{Year: t.Year(), Month: int(t.Month()), Day: t.Day()}
}

// String gives the date as YYYY-MM-DD, and "none" for the zero Date.
func (d Date) String() string {
	if d.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day)
}

// IsZero reports whether it is none.
func (d Date) IsZero() bool { return d == Date{} }

// Compare orders dates by the days that they count as. Only equal ones are 0.
func (d Date) Compare(o Date) int {
	return cmp.Or(d.time().Compare(o.time()), cmp.Compare(d.Month, o.Month), cmp.Compare(d.Day, o.Day))
}

// AddDays returns the day that is n days later, or earlier for a negative n.
func (d Date) AddDays(n int) Date { return DateOf(d.time().AddDate(0, 0, n)) }

func (d Date) time() time.Time {
	return time.Date(d.Year, time.Month(d.Month), d.Day, 0, 0, 0, 0, time.UTC)
}

// real reports whether there is such a day.
func (d Date) real() bool { return !d.IsZero() && d == DateOf(d.time()) }
