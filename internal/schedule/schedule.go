// Package schedule decides which dated snapshots are kept. It is pure: the same
// items, rules and time give the same verdicts, and nothing is looked up, removed
// or printed here.
//
//	rules, err := schedule.ParseRules("last:3,daily:7,monthly:12,zone:Europe/Berlin")
//	verdicts := schedule.Judge(time.Now(), items, rules)
//
// # What the room knows
//
// Names with dates: those that a backup gives (Format, Parse), and the usual ones
// of other programs (Split). Rules, as people write them (ParseRules). And what
// rules mean for the snapshots of one series, with a reason for each (Judge).
//
// And the calendar by which btrsend makes backups that build on each other in chains,
// and lets the chains go (Calendar).
//
// # What it refuses to know
//
// Which snapshots are a series, whether somebody needs one, and what removing is.
// Who asks says so with Item.Keep and Item.Aside, and goes by the verdicts.
//
// # Rules
//
// A rule keeps the newest item of each of the newest N periods that have any:
// periods in which nothing was made do not use it up, so a machine that was off
// for a month has as many snapshots after it as before. The newest periods are
// those whose newest items are. An item stays if any rule keeps it. Rules that count nothing and ask for no age keep everything.
//
//   - last:N keeps the newest N items.
//   - hourly:N goes by the hours of the absolute clock: 3600 seconds that begin
//     at a full hour of UTC. The two hours from 2 to 3 of an autumn night are two,
//     the one that spring leaves out is none, and where a zone is off by half an
//     hour they begin at half past.
//   - daily:N, weekly:N, monthly:N and yearly:N go by the calendar of the zone. A
//     day may have 23 or 25 hours; a week begins on Monday.
//   - min-age:D keeps whatever is younger. A day is 24 hours there.
//   - zone:NAME is where days begin; it is UTC if none is named.
//
// # Invariants
//
// The newest item that counts is kept, whatever the rules are. More of any rule
// never removes what less of it keeps, but for the step from no rules at all.
// Neither the order of the items matters, nor when or how often Judge was obeyed
// before: what is kept today is kept among those that were left yesterday as it is
// among all that there ever were. What has no time, or one in the future, is set
// aside: neither counted nor removed.
//
// Memory and time are proportional to the number of items, and to its logarithm.
package schedule

import "time"

// All as the number of a rule means that it has no limit. So does any negative
// number.
const All = -1

// Slack is how far in the future a time may be and still count: clocks differ.
const Slack = 5 * time.Minute

// Rules say what is kept. The zero Rules keep everything. To compare two of them,
// compare their Strings: a zone that is loaded twice is not equal to itself.
type Rules struct {
	// Last keeps the newest ones, this many.
	Last int
	// Hourly and so on keep the newest one of each of the newest hours, days,
	// weeks (from Monday), months and years that have any, this many.
	Hourly, Daily, Weekly, Monthly, Yearly int
	// MinAge keeps whatever is younger.
	MinAge time.Duration
	// Zone is where days begin; nil is UTC.
	Zone *time.Location
}

// None reports whether there are no rules, so that everything is kept.
func (r Rules) None() bool {
	return r.Last == 0 && r.Hourly == 0 && r.Daily == 0 && r.Weekly == 0 && r.Monthly == 0 && r.Yearly == 0 && r.MinAge <= 0
}

// Item is one snapshot of a series.
type Item struct {
	Name string
	// Time is when it was made; zero if that is not known.
	Time time.Time
	// Keep says why it stays whatever the rules say: "held: before the upgrade". It
	// counts like any other.
	Keep string
	// Aside says why it is no business of the rules: it is not counted, and stays.
	Aside string
}

// Verdict is what becomes of an item.
type Verdict struct {
	// Keep: it stays. Aside: it stays, since the rules are not about it; Keep is set
	// then, too.
	Keep, Aside bool
	// Due is set where the rules alone would let it go.
	Due bool
	// Reason says why, for people.
	Reason string
}
