package schedule

import (
	"errors"
	"fmt"
	"slices"
)

// Calendar says when backups are made that build on each other in chains, as
// btrsend does it (https://github.com/AmesCornish/btrsend).
//
// A chain is a complete backup and what builds on it, one on the other. On the
// days of the calendar the newest chain grows by one, until it is full; then a new
// one begins. A chain goes as a whole, some time after its last backup.
//
// Whatever the rows are, obeying Decide keeps to this: the newest complete backup
// stays, with all that builds on it; nothing goes that is younger than Lifetime;
// what stays and could be restored before can be restored afterwards; and what is
// made builds on what stays.
type Calendar struct {
	// Days are the days of the month on which a backup is made. A day that a month
	// does not have is left out in it.
	Days []int
	// Length is how many backups a chain may have, the complete one included.
	Length int
	// Lifetime is for how many days after its last backup a chain is kept.
	Lifetime int
	// MakeUp has a backup made on any day if there is none of the last one of Days, nor
	// of a day since then: the machine was off, or it has failed. btrsend waited for
	// the next one.
	MakeUp bool
}

// Btrsend is the calendar of btrsend.
func Btrsend() Calendar { return Calendar{Days: []int{1, 7, 14, 21}, Length: 12, Lifetime: 90} }

// Check says what is wrong with a calendar.
func (c Calendar) Check() error {
	if len(c.Days) == 0 {
		return errors.New("the calendar has no day of the month on which a backup is made")
	}
	for _, d := range c.Days {
		if d < 1 || d > 31 {
			return fmt.Errorf("%d is no day of a month: want 1 to 31", d)
		}
	}
	if c.Length < 1 {
		return fmt.Errorf("a chain of %d backups is none: want 1 or more", c.Length)
	}
	if c.Lifetime < 1 {
		return fmt.Errorf("backups cannot be kept for %d days: want 1 or more", c.Lifetime)
	}
	return nil
}

// Backup is a backup that exists.
type Backup struct {
	Date Date
	// Parent is the date of what it builds on; zero for a complete one.
	Parent Date
}

// Decision is what is to be done on a day.
type Decision struct {
	// Delete are backups that are to go, the newest first, so that what is left
	// when it is interrupted is a shorter chain, and no remains of one. Who cannot
	// delete one leaves those that come after it, and decides again another day.
	// Two backups that are the same are in it twice.
	Delete []Backup
	// Create is set if a backup is to be made, on top of Parent, or complete if
	// that is zero.
	Create bool
	Parent Date
	// Reason says why, for people.
	Reason string
}

// Decide says what is to be done on a day, given all backups that there are, in
// any order. Deleting comes first; what is to be made is then to be decided anew,
// as something may have come in between. It fails where the calendar makes no
// sense, and where the day is none.
//
// Time is proportional to the number of backups times the number of complete ones.
func (c Calendar) Decide(rows []Backup, today Date) (Decision, error) {
	if err := c.Check(); err != nil {
		return Decision{}, err
	}
	if !today.real() {
		return Decision{}, fmt.Errorf("%s is no day of the calendar", today)
	}
	s := newShelf(rows, today)
	var d Decision
	d.Delete = s.expired(today.AddDays(-c.Lifetime))
	d.Create, d.Reason = c.due(rows, today)
	if d.Create {
		d.Parent, d.Reason = c.parent(s, today, d.Reason)
	}
	return d, nil
}

// due tells whether there is to be a backup today.
func (c Calendar) due(rows []Backup, today Date) (bool, string) {
	switch {
	case len(rows) == 0:
		return true, "there is none yet"
	case !slices.Contains(c.Days, today.Day):
		if missed := c.missed(rows, today); !missed.IsZero() {
			return true, fmt.Sprintf("there is none of %s, nor since", missed)
		}
		return false, fmt.Sprintf("none is made on day %d of a month", today.Day)
	case slices.ContainsFunc(rows, func(b Backup) bool { return b.Date == today }):
		return false, "there is one of that date"
	}
	return true, fmt.Sprintf("one is made on day %d of a month", today.Day)
}

// missed returns the last one of Days before today if there is no backup since then,
// and that is to be made up for; else zero.
func (c Calendar) missed(rows []Backup, today Date) Date {
	if !c.MakeUp {
		return Date{}
	}
	last := today
	// Two months in a row have every day that there is.
	for range 62 {
		if slices.Contains(c.Days, last.Day) {
			break
		}
		last = last.AddDays(-1)
	}
	if slices.ContainsFunc(rows, func(b Backup) bool { return b.Date.Compare(last) >= 0 && b.Date.Compare(today) <= 0 }) {
		return Date{}
	}
	return last
}

// parent says what a backup of today builds on.
func (c Calendar) parent(s *shelf, today Date, why string) (Date, string) {
	if s.base.IsZero() {
		if len(s.rows) == 0 {
			return Date{}, why
		}
		return Date{}, why + ", and there is no complete one to build on"
	}
	chain := s.chain(s.base)
	last := newest(chain, today)
	switch {
	case len(chain) >= c.Length:
		return Date{}, fmt.Sprintf("%s, and the chain of %s is full", why, s.base)
	case last.Compare(today.AddDays(-c.Lifetime)) <= 0:
		return Date{}, fmt.Sprintf("%s, and %s, the last before it, is too old to build on", why, last)
	}
	return last, why
}

// shelf is what there is, in order of the dates.
type shelf struct {
	rows []Backup
	// base is the date of the complete backup whose chain is the one that grows:
	// the newest that is not of a day to come, or if all are, the newest. Zero if
	// there is no complete one.
	base Date
}

func newShelf(rows []Backup, today Date) *shelf {
	s := &shelf{rows: slices.SortedStableFunc(slices.Values(rows), func(a, b Backup) int { return a.Date.Compare(b.Date) })}
	var complete []Backup
	for _, b := range s.rows {
		if b.Parent.IsZero() {
			complete = append(complete, b)
		}
	}
	s.base = newest(complete, today)
	return s
}

// newest returns the date of the newest backup that is not of a day to come, or if
// all are, of the newest; zero if there is none. The backups are in order.
func newest(ordered []Backup, today Date) Date {
	if len(ordered) == 0 {
		return Date{}
	}
	for _, b := range slices.Backward(ordered) {
		if b.Date.Compare(today) <= 0 {
			return b.Date
		}
	}
	return ordered[len(ordered)-1].Date
}

// chain returns the complete backups of a date, and all that builds on them, in
// order of the dates.
func (s *shelf) chain(root Date) []Backup {
	in := s.grow(root)
	var chain []Backup
	for i, b := range s.rows {
		if in[i] {
			chain = append(chain, b)
		}
	}
	return chain
}

// grow marks the rows of a chain. A clock that was set back may have made a backup
// that builds on a later one, so that once through the rows may not do.
func (s *shelf) grow(root Date) []bool {
	in := make([]bool, len(s.rows))
	dates := map[Date]bool{}
	for more := true; more; {
		more = false
		for i, b := range s.rows {
			if in[i] {
				continue
			}
			if first := b.Parent.IsZero() && b.Date == root; first || !b.Parent.IsZero() && dates[b.Parent] {
				in[i], dates[b.Date], more = true, true, true
			}
		}
	}
	return in
}

// expired returns what is to go: the chains older than the one that grows of which
// nothing is newer than a date, and the remains of chains that are no newer than
// their ends.
func (s *shelf) expired(limit Date) []Backup {
	kept, placed, going := make([]bool, len(s.rows)), make([]bool, len(s.rows)), make([]bool, len(s.rows))
	var before Date // the newest of what has expired
	roots := map[Date]bool{}
	for _, b := range s.rows {
		if !b.Parent.IsZero() || roots[b.Date] {
			continue
		}
		roots[b.Date] = true
		in := s.grow(b.Date)
		var end Date
		for i, b := range s.rows {
			if in[i] {
				end = b.Date
			}
		}
		old := b.Date.Compare(s.base) < 0 && end.Compare(limit) <= 0
		if old && (before.IsZero() || before.Compare(end) < 0) {
			before = end
		}
		for i := range in {
			placed[i] = placed[i] || in[i]
			going[i] = going[i] || in[i] && old
			kept[i] = kept[i] || in[i] && !old
		}
	}
	if before.IsZero() {
		return nil
	}
	for i, b := range s.rows {
		if !placed[i] {
			going[i] = b.Date.Compare(before) <= 0
			kept[i] = !going[i]
		}
	}
	s.spare(kept, placed)
	var gone []Backup
	for i, b := range slices.Backward(s.rows) {
		if going[i] && !kept[i] {
			gone = append(gone, b)
		}
	}
	return gone
}

// spare keeps the remains of chains that something kept builds on.
func (s *shelf) spare(kept, placed []bool) {
	needed := map[Date]bool{}
	for more := true; more; {
		more = false
		for i, b := range s.rows {
			if kept[i] && !b.Parent.IsZero() && !needed[b.Parent] {
				needed[b.Parent], more = true, true
			}
		}
		for i, b := range s.rows {
			if !placed[i] && !kept[i] && needed[b.Date] {
				kept[i], more = true, true
			}
		}
	}
}
