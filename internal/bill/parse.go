package bill

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

const (
	// anywhere stands for every provider, or every region.
	anywhere = "*"
	// longest is how long a table may be.
	longest = 1 << 20
	// dearest is more than any price, in any currency.
	dearest = 1e9
)

// file is a table as it is written.
type file struct {
	Format   int     `toml:"format"`
	Date     string  `toml:"date"`
	Currency string  `toml:"currency"`
	Replace  bool    `toml:"replace"`
	Place    []place `toml:"place"`
}

var (
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
	tierNames    = []string{"bulk", "standard", "expedited"} // of store.Tier
)

// Parse reads a table of prices; name is how people know it. What is wrong is
// said with the row and the column where it is.
func Parse(name string, data []byte) (*Table, error) {
	if len(data) > longest {
		return nil, fmt.Errorf("reading %s: a table of prices is not longer than %d bytes, this one is %d", name, longest, len(data))
	}
	var f file
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, where(err))
	}
	t, err := f.table(name)
	if err != nil {
		if e, ok := errors.AsType[*badError](err); ok {
			if row, column, ok := position(data, e.at); ok {
				return nil, fmt.Errorf("reading %s: %d:%d: %w", name, row, column, err)
			}
		}
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return t, nil
}

// where puts the row and the column before a mistake in the form.
func where(err error) error {
	if e, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(e.Errors) > 0 {
		row, column := e.Errors[0].Position()
		return fmt.Errorf("%d:%d: %s is not known here", row, column, strings.Join(e.Errors[0].Key(), "."))
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := e.Position()
		return fmt.Errorf("%d:%d: %s", row, column, strings.TrimPrefix(e.Error(), "toml: "))
	}
	return err
}

// badError is about a value that cannot be.
type badError struct {
	at  string // its key: "place.0.class.GLACIER.storage"
	why string
}

func (e *badError) Error() string { return e.why }

func bad(at, format string, args ...any) error { return &badError{at, fmt.Sprintf(format, args...)} }

// table makes of what is written what is meant.
func (f *file) table(name string) (*Table, error) {
	switch _, err := time.Parse(time.DateOnly, f.Date); {
	case f.Format != 1:
		return nil, bad("format", "format = %d is not known: want format = 1", f.Format)
	case err != nil:
		return nil, bad("date", "date = %q: want the day of the prices, as in \"2026-11-21\"", f.Date)
	case !currencyForm.MatchString(f.Currency):
		return nil, bad("currency", "currency = %q: want three letters, as in \"USD\"", f.Currency)
	}
	t := &Table{Name: name, Date: f.Date, alone: f.Replace, places: f.Place}
	for i := range t.places {
		p := &t.places[i]
		p.currency, p.table = f.Currency, name
		if p.Checked == "" {
			p.Checked = f.Date
		}
		at := fmt.Sprintf("place.%d", i)
		switch _, err := time.Parse(time.DateOnly, p.Checked); {
		case err != nil:
			return nil, bad(at+".date", "date = %q: want the day of the prices, as in \"2026-11-21\"", p.Checked)
		case p.Provider == "":
			return nil, bad(at, "a place needs a provider: \"aws\", the host of another one, or \"*\"")
		case p.Service != "s3" && p.Service != "glacier":
			return nil, bad(at+".service", "service = %q: want \"s3\" or \"glacier\"", p.Service)
		case p.Region == "":
			return nil, bad(at, "a place needs a region; \"*\" is any")
		case slices.ContainsFunc(t.places[:i], p.same):
			return nil, bad(at, "%s, %s, %s is there twice", p.Provider, p.Service, p.Region)
		}
		if err := p.check(at); err != nil {
			return nil, err
		}
		if err := p.complete(at, t.places[:i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// check says what numbers of a place cannot be.
func (p *place) check(at string) error {
	if err := price(at+".egress", p.Egress); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.Class)) {
		c, at := p.Class[name], at+".class."+name
		if c == nil {
			return bad(at, "the class %s is empty", name)
		}
		prices := map[string]*float64{"storage": c.Storage, "put": c.Put, "get": c.Get, "retrieval": c.Retrieval, "monitoring": c.Monitoring}
		for _, key := range slices.Sorted(maps.Keys(prices)) {
			if err := price(at+"."+key, prices[key]); err != nil {
				return err
			}
		}
		counts := map[string]*int64{"monitored-from": c.MonitoredFrom, "minimum-days": c.MinimumDays, "minimum-bytes": c.MinimumBytes, "overhead": c.Overhead, "overhead-standard": c.OverheadStandard}
		for _, key := range slices.Sorted(maps.Keys(counts)) {
			most := int64(1 << 40)
			if key == "minimum-days" {
				most = 36500
			}
			if n := counts[key]; n != nil && (*n < 0 || *n > most) {
				return bad(at+"."+key, "%s = %d: want a number from 0 to %d", key, *n, most)
			}
		}
		for _, tier := range slices.Sorted(maps.Keys(c.Tiers)) {
			w, at := c.Tiers[tier], at+".tier."+tier
			if !slices.Contains(tierNames, tier) || w == nil {
				return bad(at, "%q is no way of thawing: want %s", tier, strings.Join(tierNames, ", "))
			}
			for _, v := range []struct {
				key   string
				value *float64
			}{{"gb", w.PerGB}, {"requests", w.Requests}, {"least-hours", w.Least}, {"most-hours", w.Most}} {
				if err := price(at+"."+v.key, v.value); err != nil {
					return err
				}
				if strings.HasSuffix(v.key, "-hours") && v.value != nil && *v.value > 10000 {
					return bad(at+"."+v.key, "%s = %v: want a number of hours, at most 10000", v.key, *v.value)
				}
			}
		}
	}
	return nil
}

// price says what a price cannot be.
func price(at string, p *float64) error {
	if p != nil && (math.IsNaN(*p) || *p < 0 || *p > dearest) {
		key := at[strings.LastIndexByte(at, '.')+1:]
		return bad(at, "%s = %v: want a number, 0 or more", key, *p)
	}
	return nil
}

// complete fills in what is not said of a place, from the one that it is like,
// which stands before it.
func (p *place) complete(at string, before []place) error {
	var like *place
	if p.Like != "" {
		i := slices.IndexFunc(before, func(q place) bool {
			return q.Provider == p.Provider && q.Service == p.Service && q.Region == p.Like
		})
		if i < 0 {
			return bad(at+".like", "like = %q: there is no such place of %s, %s before this one", p.Like, p.Provider, p.Service)
		}
		like = &before[i]
		fill(&p.Egress, like.Egress)
	}
	fill(&p.Egress, nil)
	if p.Class == nil {
		p.Class = map[string]*class{}
	}
	if like != nil {
		for name, c := range like.Class {
			if p.Class[name] == nil {
				p.Class[name] = &class{}
			}
			p.Class[name].fill(c)
		}
	}
	if p.Class[standard] == nil {
		return bad(at, "a place needs the class %s: its prices are those of what has no class", standard)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Class)) {
		c := p.Class[name]
		c.known = true
		if c.Storage == nil {
			return bad(at+".class."+name, "the class %s needs a price for storage", name)
		}
		if c.PartsAs == "" {
			c.PartsAs = name
		}
		if p.Class[c.PartsAs] == nil {
			return bad(at+".class."+name+".parts-as", "parts-as = %q: there is no such class", c.PartsAs)
		}
		c.fill(&class{})
		for tier, w := range c.Tiers {
			c.Tiers[tier] = w.filled(&way{})
			if *c.Tiers[tier].Least > *c.Tiers[tier].Most {
				return bad(at+".class."+name+".tier."+tier, "%s takes %v hours at least, and %v at most", tier, *c.Tiers[tier].Least, *c.Tiers[tier].Most)
			}
		}
	}
	return nil
}
