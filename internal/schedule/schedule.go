// Package schedule decides which dated snapshots are kept. (Work in progress.)
package schedule

import (
	"errors"
	"time"
)

// All as the number of a rule means that it has no limit.
const All = -1

// Rules say what is kept. The zero Rules keep everything.
type Rules struct {
	// Last keeps the newest ones, this many.
	Last int
	// Hourly and so on keep the newest one of each of the newest hours, days,
	// weeks (from Monday), months and years that have any, this many.
	Hourly, Daily, Weekly, Monthly, Yearly int
	// MinAge keeps whatever is younger.
	MinAge time.Duration
	// Zone is where days begin and names are read; nil is UTC.
	Zone *time.Location
}

// Item is one snapshot of a series.
type Item struct {
	Name string
	// Time is when it was made; zero if that is not known.
	Time time.Time
	// Keep says why it stays whatever the rules say: "held: before the upgrade".
	Keep string
	// Aside says why it is no business of the rules: it is not counted, and stays.
	Aside string
}

// Verdict is what becomes of an item.
type Verdict struct {
	// Keep: it stays. Aside: it stays, since the rules are not about it.
	Keep, Aside bool
	// Due is set where the rules alone would let it go.
	Due bool
	// Reason says why, for people.
	Reason string
}

// None reports whether there are no rules, so that everything is kept.
func (r Rules) None() bool { return true }

// String returns the rules as ParseRules reads them.
func (r Rules) String() string { return "" }

// ParseRules reads rules: "last:3,daily:7,monthly:all,min-age:2d,zone:Europe/Berlin".
func ParseRules(text string) (Rules, error) { return Rules{}, errors.New("not written yet") }

// Judge decides about each item of one series, in their order.
func Judge(now time.Time, items []Item, r Rules) []Verdict { return make([]Verdict, len(items)) }

// Format returns the name of a snapshot: the prefix and the time, in the zone of
// the time, as YYYYMMDD-HHMMSS (btrfs-backup).
func Format(prefix string, t time.Time) string { return prefix + t.Format("20060102-150405") }

// Parse reads a name that Format has made.
func Parse(prefix, name string, zone *time.Location) (time.Time, bool) { return time.Time{}, false }

// Split reads a name that ends in a date in any of the usual forms, and returns
// what is before the date.
func Split(name string, zone *time.Location) (prefix string, t time.Time, ok bool) {
	return "", time.Time{}, false
}
