package bill

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Table is a list of prices.
type Table struct {
	// Name says where the table is from, and Date of when the prices are.
	Name, Date string

	places []place
	alone  bool // nothing of another table is to be taken
}

// place is where prices are the same. After reading, all its classes are whole.
type place struct {
	Provider string            `toml:"provider"`
	Service  string            `toml:"service"`
	Region   string            `toml:"region"`
	Like     string            `toml:"like"` // another region, for what is not said here
	Default  bool              `toml:"default"`
	Doubt    string            `toml:"unconfirmed"`
	Source   []string          `toml:"source"`
	Checked  string            `toml:"date"`
	Egress   *float64          `toml:"egress"`
	Class    map[string]*class `toml:"class"`

	currency, table string
}

// class is a storage class. All prices are per 1000 requests, or per GB.
type class struct {
	Storage          *float64        `toml:"storage"` // a month
	Put              *float64        `toml:"put"`
	Get              *float64        `toml:"get"`
	Retrieval        *float64        `toml:"retrieval"`
	Monitoring       *float64        `toml:"monitoring"` // a month, of 1000 objects
	MonitoredFrom    *int64          `toml:"monitored-from"`
	MinimumDays      *int64          `toml:"minimum-days"`
	MinimumBytes     *int64          `toml:"minimum-bytes"`
	Overhead         *int64          `toml:"overhead"`
	OverheadStandard *int64          `toml:"overhead-standard"`
	PartsAs          string          `toml:"parts-as"`
	Copies           *bool           `toml:"copies"`
	Tiers            map[string]*way `toml:"tier"`

	known bool
}

// way is a way of thawing.
type way struct {
	PerGB    *float64 `toml:"gb"`
	Requests *float64 `toml:"requests"`
	Least    *float64 `toml:"least-hours"`
	Most     *float64 `toml:"most-hours"`
}

func (w *way) wait() Wait {
	hours := func(h float64) time.Duration { return time.Duration(h * float64(time.Hour)).Round(time.Second) }
	return Wait{Least: hours(*w.Least), Most: hours(*w.Most)}
}

// days is for how long an object is charged at least.
func (c *class) days() int64 { return *c.MinimumDays }

// billed is for how many bytes an object is charged.
func (c *class) billed(bytes int64) int64 { return max(bytes, *c.MinimumBytes, 0) }

// tiers are the ways of thawing, the slowest first.
func (c *class) tiers() []string {
	return slices.SortedFunc(maps.Keys(c.Tiers), func(a, b string) int {
		return int(c.Tiers[b].wait().Most - c.Tiers[a].wait().Most)
	})
}

//go:embed prices.toml
var builtIn []byte

// known is the table in the program, read once.
var known = sync.OnceValues(func() (*Table, error) { return Parse("the program's own table", builtIn) })

// Default returns the prices that the program knows.
func Default() *Table {
	t, err := known()
	if err != nil {
		// Which a test keeps from ever being released.
		return &Table{Name: "the program's own table, which is damaged: " + err.Error()}
	}
	return t
}

// Text is the program's own table as it is written, for people to read and to
// begin their own with.
func Text() []byte { return slices.Clone(builtIn) }

// Over returns a table that has the places of t and, for all others, those of
// another one. What was read with replace = true stays alone.
func (t *Table) Over(other *Table) *Table {
	if other == nil || t.alone {
		return t
	}
	all := &Table{Name: t.Name, Date: t.Date, places: slices.Clone(t.places)}
	for _, p := range other.places {
		if !slices.ContainsFunc(t.places, p.same) {
			all.places = append(all.places, p)
		}
	}
	return all
}

func (p place) same(q place) bool {
	return p.Provider == q.Provider && p.Service == q.Service && p.Region == q.Region
}

// found are the prices that hold for a place, or those that come nearest.
type found struct {
	asked       Place
	classes     map[string]*class
	egress      float64
	currency    string // empty if there are none
	assumptions []string
}

// find looks for the prices of a place: of the region, of any region of the
// provider, and of any provider. A region of which nothing is said has those of
// the region that the table names for that. Where there is none there is no money,
// and times and amounts are as with AWS.
func (t *Table) find(p Place) *found {
	look := func(fits func(q *place) bool) *place {
		i := slices.IndexFunc(t.places, func(q place) bool { return q.Service == p.Service && fits(&q) })
		if i < 0 {
			return nil
		}
		return &t.places[i]
	}
	f := &found{asked: p}
	q := look(func(q *place) bool { return q.Provider == p.Provider && q.Region == p.Region })
	if q == nil {
		q = look(func(q *place) bool { return q.Provider == p.Provider && q.Region == anywhere })
	}
	if q == nil {
		if q = look(func(q *place) bool { return q.Provider == p.Provider && q.Default }); q != nil {
			where := "a region that is not known"
			if p.Region != "" {
				where = "the region " + p.Region
			}
			f.assumptions = append(f.assumptions, fmt.Sprintf("%s has no prices for %s: those of %s are taken", q.table, where, q.Region))
		}
	}
	if q == nil {
		q = look(func(q *place) bool { return q.Provider == anywhere })
	}
	if q != nil {
		f.classes, f.egress, f.currency = q.Class, *q.Egress, q.currency
		f.assumptions = append([]string{fmt.Sprintf("an estimate with the prices of %s, %s, %s as of %s, from %s, without taxes, free amounts and discounts", q.Provider, q.Service, q.Region, q.Checked, q.table)}, f.assumptions...)
		if q.Doubt != "" {
			f.assumptions = append(f.assumptions, "not confirmed: "+q.Doubt)
		}
		return f
	}
	f.assumptions = append(f.assumptions, fmt.Sprintf("no prices are known for %s: only amounts are shown; a table of your own can be given", cmp.Or(p.Provider, "this provider")))
	f.classes = free()[p.Service]
	return f
}

// free are the classes of each service where there are no prices, made once.
var free = sync.OnceValue(func() map[string]map[string]*class {
	all := map[string]map[string]*class{}
	if own, err := known(); err == nil {
		for _, q := range own.places {
			if q.Default {
				all[q.Service] = unpriced(q.Class)
			}
		}
	}
	return all
})

// unpriced are classes for which nothing is charged, as slow as they are.
func unpriced(all map[string]*class) map[string]*class {
	free := map[string]*class{}
	for name, c := range all {
		d := &class{PartsAs: c.PartsAs, known: true}
		d.fill(&class{Copies: new(bool)})
		*d.MonitoredFrom, *d.Copies = 0, *c.Copies
		for tier, w := range c.Tiers {
			if d.Tiers == nil {
				d.Tiers = map[string]*way{}
			}
			d.Tiers[tier] = &way{PerGB: new(float64), Requests: new(float64), Least: w.Least, Most: w.Most}
		}
		free[name] = d
	}
	return free
}

// vaults is the service that has no classes.
const vaults = "glacier"

// class returns what is known of a class; the prices of STANDARD if nothing is.
func (f *found) class(name string) *class {
	if f.asked.Service == vaults {
		name = standard // whatever it is called, there is but one
	}
	if c, ok := f.classes[name]; ok {
		return c
	}
	c := &class{PartsAs: standard}
	if hot, ok := f.classes[standard]; ok {
		same := *hot
		c = &same
	}
	c.fill(&class{})
	c.known = f.currency == ""
	return c
}

func (f *found) sum() *sum {
	return &sum{f: f, lines: map[lineKey]*Line{}, assumed: map[string]bool{}}
}

// fill takes from another class what is not said of one, and nothing where that
// says nothing either.
func (c *class) fill(from *class) {
	fill(&c.Storage, from.Storage)
	fill(&c.Put, from.Put)
	fill(&c.Get, from.Get)
	fill(&c.Retrieval, from.Retrieval)
	fill(&c.Monitoring, from.Monitoring)
	fill(&c.MonitoredFrom, from.MonitoredFrom)
	fill(&c.MinimumDays, from.MinimumDays)
	fill(&c.MinimumBytes, from.MinimumBytes)
	fill(&c.Overhead, from.Overhead)
	fill(&c.OverheadStandard, from.OverheadStandard)
	fill(&c.Copies, from.Copies)
	if c.PartsAs == "" {
		c.PartsAs = from.PartsAs
	}
	for name, w := range from.Tiers {
		if c.Tiers == nil {
			c.Tiers = map[string]*way{}
		}
		mine := c.Tiers[name]
		if mine == nil {
			mine = &way{}
		}
		c.Tiers[name] = mine.filled(w)
	}
}

func (w *way) filled(from *way) *way {
	all := *w
	fill(&all.PerGB, from.PerGB)
	fill(&all.Requests, from.Requests)
	fill(&all.Least, from.Least)
	fill(&all.Most, from.Most)
	return &all
}

// fill points at what another pointer points at, or at nothing, unless it points
// at something already.
func fill[T any](to **T, from *T) {
	switch {
	case *to != nil:
	case from != nil:
		*to = from
	default:
		*to = new(T)
	}
}
