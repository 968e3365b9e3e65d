package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Judge decides about each item of one series, in their order. Items of the same
// time and name are one for the rules, and share what these say. Of several with
// the same time, the one whose name is last counts as the newest.
func Judge(now time.Time, items []Item, r Rules) []Verdict {
	verdicts := make([]Verdict, len(items))
	counted := make([]int, 0, len(items))
	for i, it := range items {
		if why := aside(now, it); why != "" {
			verdicts[i] = Verdict{Keep: true, Aside: true, Reason: why}
			continue
		}
		counted = append(counted, i)
	}
	slices.SortFunc(counted, func(a, b int) int {
		return cmp.Or(items[b].Time.Compare(items[a].Time), cmp.Compare(items[b].Name, items[a].Name))
	})
	c := newCount(now, r)
	for n, i := range counted {
		it := items[i]
		if n > 0 && same(it, items[counted[n-1]]) {
			verdicts[i] = c.verdict(it)
			continue
		}
		c.next(it.Time)
		verdicts[i] = c.verdict(it)
	}
	return verdicts
}

// aside says why the rules are not about an item; it is empty if they are.
func aside(now time.Time, it Item) string {
	switch {
	case it.Aside != "":
		return it.Aside
	case it.Time.IsZero():
		return "no time is known of it"
	case it.Time.After(now.Add(Slack)):
		return "in the future"
	}
	return ""
}

func same(a, b Item) bool { return a.Time.Equal(b.Time) && a.Name == b.Name }

// count is where the rules have got to on their way from the newest item to the
// oldest.
type count struct {
	rules   Rules
	now     time.Time
	periods []*period
	passed  int    // how many items there were
	reason  string // why the rules keep the one that was last; empty if they do not
}

func newCount(now time.Time, r Rules) *count {
	c := &count{rules: r, now: now}
	for _, f := range fields {
		if n := *f.number(&r); n != 0 && f.key != nil {
			c.periods = append(c.periods, &period{field: f, limit: n, seen: map[int64]bool{}})
		}
	}
	return c
}

// period is a rule that keeps the newest of each of some periods.
type period struct {
	field
	limit int
	seen  map[int64]bool
}

// next decides about the next older item.
func (c *count) next(t time.Time) {
	c.passed++
	zone := c.rules.Zone
	if zone == nil {
		zone = time.UTC
	}
	local := t.In(zone)
	what, numbers := "", []string(nil)
	if n := c.rules.Last; n < 0 || c.passed <= n {
		what, numbers = "one of the newest", append(numbers, of("last", c.passed, n))
	}
	for _, p := range c.periods {
		key := p.key(local)
		if p.limit > 0 && len(p.seen) >= p.limit || p.seen[key] {
			continue
		}
		p.seen[key] = true
		what, numbers = "newest of "+p.label(local), append(numbers, of(p.name, len(p.seen), p.limit))
	}
	c.reason = ""
	if numbers != nil {
		c.reason = what + " (" + strings.Join(numbers, ", ") + ")"
	}
	switch young := c.rules.MinAge > 0 && c.now.Sub(t) < c.rules.MinAge; {
	case young && c.reason != "":
		c.reason += ", younger than " + formatAge(c.rules.MinAge)
	case young:
		c.reason = "younger than " + formatAge(c.rules.MinAge)
	case c.reason == "" && c.rules.None():
		c.reason = "there is no rule to remove any"
	case c.reason == "" && c.passed == 1:
		c.reason = "the newest"
	}
}

// of tells a place in a rule: "daily 3 of 7".
func of(rule string, n, limit int) string {
	if limit < 0 {
		return fmt.Sprintf("%s %d of all", rule, n)
	}
	return fmt.Sprintf("%s %d of %d", rule, n, limit)
}

func (c *count) verdict(it Item) Verdict {
	v := Verdict{Keep: c.reason != "", Due: c.reason == "", Reason: c.reason}
	if v.Due {
		v.Reason = "due: none of the rules keeps it"
	}
	if it.Keep != "" {
		v.Keep, v.Reason = true, it.Keep
	}
	return v
}

// field is a rule with a number.
type field struct {
	name   string
	number func(*Rules) *int
	// key is the same for times in the same period, and label tells it to people.
	// Both are given times in the zone of the rules. They are nil for "last".
	key   func(time.Time) int64
	label func(time.Time) string
}

// fields are ordered by the length of their periods.
var fields = []field{
	{name: "last", number: func(r *Rules) *int { return &r.Last }},
	{
		name: "hourly", number: func(r *Rules) *int { return &r.Hourly },
		key: hour,
		label: func(t time.Time) string {
			return time.Unix(hour(t)*3600, 0).In(t.Location()).Format("2006-01-02 15:04")
		},
	},
	{
		name: "daily", number: func(r *Rules) *int { return &r.Daily },
		key:   func(t time.Time) int64 { return day(t).Unix() },
		label: func(t time.Time) string { return t.Format(time.DateOnly) },
	},
	{
		name: "weekly", number: func(r *Rules) *int { return &r.Weekly },
		key:   func(t time.Time) int64 { return monday(t).Unix() },
		label: func(t time.Time) string { return "the week of " + monday(t).Format(time.DateOnly) },
	},
	{
		name: "monthly", number: func(r *Rules) *int { return &r.Monthly },
		key:   func(t time.Time) int64 { return int64(t.Year())*12 + int64(t.Month()) },
		label: func(t time.Time) string { return t.Format("2006-01") },
	},
	{
		name: "yearly", number: func(r *Rules) *int { return &r.Yearly },
		key:   func(t time.Time) int64 { return int64(t.Year()) },
		label: func(t time.Time) string { return strconv.Itoa(t.Year()) },
	},
}

// hour returns the hours since 1970, rounded down.
func hour(t time.Time) int64 {
	seconds := t.Unix()
	hours := seconds / 3600
	if seconds%3600 < 0 {
		hours--
	}
	return hours
}

// day returns a date without a zone, as midnight in UTC.
func day(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// monday returns the date on which the week of a time begins.
func monday(t time.Time) time.Time {
	since := (int(t.Weekday()) + 6) % 7
	return day(t).AddDate(0, 0, -since)
}
