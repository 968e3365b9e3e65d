// Package bill estimates what cloud storage costs.
//
// It knows price lists: a [Table] of places, which are a provider, a service and
// a region, with what each storage class costs there. Most of it is data, in
// prices.toml, and a user's own file can take its place. It does arithmetic, and
// nothing else: it asks nobody, knows neither stores nor snapshots, and does not
// know what anybody has agreed with whom sends the bill.
//
// # Invariants
//
//   - An estimate says what it rests on (Estimate.Assumptions), the date and
//     origin of its prices among that.
//   - Where there are no prices, amounts and times are still right, and no money
//     is shown: never that of somewhere else without saying so.
//   - An estimate of some objects and one of others make that of all of them; more
//     bytes never cost less.
//
// Memory is that of the table and of the lines of one estimate, however many
// objects there are.
//
//	e := bill.Default().Keeping(bill.Place{Provider: "aws", Service: "s3", Region: "eu-central-1"}, objects)
package bill

import (
	"encoding/json"
	"fmt"
	"time"
)

// Place says whose prices hold.
type Place struct {
	Provider string // "aws", or the host of another one
	Service  string // "s3", "glacier"
	Region   string
}

// Object is something that is stored, or about to be.
type Object struct {
	Class string // empty is STANDARD
	Bytes int64
	// Parts is how many requests its upload takes; 0 is one.
	Parts int
	// Since is when it was stored; zero where that is not known.
	Since time.Time
	// Readable is set if it need not be asked for: it is not cold, or somebody has
	// paid for that already.
	Readable bool
}

// Line is one item of an estimate.
type Line struct {
	What  string  `json:"what"`            // "storage", "requests", "retrieval", ...
	Class string  `json:"class,omitempty"` // of storage
	Count int64   `json:"count,omitempty"` // objects or requests
	Bytes int64   `json:"bytes,omitempty"`
	Cost  float64 `json:"cost"` // in the table's currency
	// Monthly is set if the cost comes every month.
	Monthly bool `json:"monthly,omitempty"`
}

// What the lines of estimates are about.
const (
	Storage    = "storage"        // objects, each as long as is charged at least
	Overhead   = "overhead"       // what the service keeps about each object
	Monitoring = "monitoring"     // of each object, where it is moved by how it is used
	Uploading  = "uploading"      // requests
	Asking     = "asking"         // requests to thaw
	Retrieval  = "retrieval"      // bytes that come out of a class
	Copies     = "readable copy"  // of what has been thawed, while it is there
	Reading    = "reading"        // requests
	Transfer   = "transfer"       // bytes that leave the provider's network
	Early      = "early deletion" // of what is not stored for as long as is charged
)

// Estimate is what something is going to cost, about.
type Estimate struct {
	Lines []Line `json:"lines"`
	// Once is what is to be paid one time, and Monthly every month.
	Once    float64 `json:"once"`
	Monthly float64 `json:"monthly"`
	// Currency is empty where there are no prices for the place: then all costs are
	// zero and the numbers of requests and bytes are right all the same.
	Currency    string   `json:"currency,omitempty"`
	Assumptions []string `json:"assumptions,omitempty"`
}

// Wait is how long it takes until something is readable.
type Wait struct{ Least, Most time.Duration }

// MarshalJSON writes it in seconds.
func (w Wait) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]int64{"least_seconds": int64(w.Least / time.Second), "most_seconds": int64(w.Most / time.Second)})
}

// NoTierError says that something cannot be thawed in a way.
type NoTierError struct {
	Class, Tier string
	Tiers       []string // in which it can be, by name
}

func (e *NoTierError) Error() string {
	return fmt.Sprintf("what is kept in %s cannot be thawed by %s, but by %s", e.Class, e.Tier, list(e.Tiers))
}

// list is "a, b and c".
func list(all []string) string {
	switch len(all) {
	case 0:
		return "nothing"
	case 1:
		return all[0]
	}
	text := all[0]
	for _, s := range all[1 : len(all)-1] {
		text += ", " + s
	}
	return text + " and " + all[len(all)-1]
}

const (
	// gigabyte is what bills call a GB.
	gigabyte = 1 << 30
	// month is what bills call a month, where a part of one is charged.
	month = 30 * day
	day   = 24 * time.Hour

	standard = "STANDARD" // the class of what has none
)

func (o Object) class() string {
	if o.Class == "" {
		return standard
	}
	return o.Class
}

// gb is a number of bytes as prices count them.
func gb(bytes int64) float64 { return float64(max(bytes, 0)) / gigabyte }

// Storing estimates what it costs to store new objects, and to keep them. What is
// stored beside an object is an object of its own here.
func (t *Table) Storing(p Place, objects []Object) Estimate {
	f := t.find(p)
	s := f.sum()
	for _, o := range objects {
		c := f.class(o.class())
		parts := max(int64(o.Parts), 1)
		// The last request makes the object, and has the price of its class.
		s.add(Line{What: Uploading, Class: o.class(), Count: 1, Cost: *c.Put / 1000})
		as := c.PartsAs
		if p.Service == vaults {
			as = o.class()
		}
		s.add(Line{What: Uploading, Class: as, Count: parts - 1, Cost: float64(parts-1) * *f.class(as).Put / 1000})
		s.keep(o, 1)
	}
	return s.estimate()
}

// Keeping estimates what it costs to keep what is there.
func (t *Table) Keeping(p Place, objects []Object) Estimate {
	s := t.find(p).sum()
	for _, o := range objects {
		s.keep(o, 1)
	}
	return s.estimate()
}

// Removing estimates what it costs to remove objects for good at a time, and
// what that saves each month, which is a negative Monthly. What has been stored
// at a time that is not known counts as stored just then.
func (t *Table) Removing(p Place, objects []Object, at time.Time) Estimate {
	f := t.find(p)
	s := f.sum()
	for _, o := range objects {
		c := f.class(o.class())
		s.keep(o, -1)
		if c.days() == 0 {
			continue
		}
		if o.Since.IsZero() {
			s.assume("what was stored at a time that is not known counts as stored just now")
		}
		if left := o.left(c, at); left > 0 {
			months := left.Hours() / month.Hours()
			s.add(Line{What: Early, Class: o.class(), Count: 1, Bytes: max(o.Bytes, 0), Cost: gb(c.billed(o.Bytes)+*c.Overhead) * *c.Storage * months})
		}
	}
	return s.estimate()
}

// left is for how long an object is charged after it has been deleted.
func (o Object) left(c *class, at time.Time) time.Duration {
	least := time.Duration(c.days()) * day
	if o.Since.IsZero() || o.Since.After(at) {
		return least
	}
	return max(least-at.Sub(o.Since), 0)
}

// Restoring estimates what it costs to thaw objects, where they have to be, and
// to read them once. The tier is one of store.Tier; days is how long they stay
// readable. It fails with *NoTierError where there is no such tier for an object.
func (t *Table) Restoring(p Place, objects []Object, tier string, days int) (Estimate, Wait, error) {
	f := t.find(p)
	s := f.sum()
	var wait Wait
	for _, o := range objects {
		c := f.class(o.class())
		if !o.Readable && len(c.Tiers) > 0 {
			way, ok := c.Tiers[tier]
			if !ok {
				return Estimate{}, Wait{}, &NoTierError{Class: o.class(), Tier: tier, Tiers: c.tiers()}
			}
			s.add(Line{What: Asking, Class: o.class(), Count: 1, Cost: *way.Requests / 1000})
			s.add(Line{What: Retrieval, Class: o.class(), Bytes: max(o.Bytes, 0), Cost: gb(o.Bytes) * *way.PerGB})
			if *c.Copies {
				s.add(Line{What: Copies, Class: standard, Count: 1, Bytes: max(o.Bytes, 0), Cost: gb(o.Bytes) * *f.class(standard).Storage * float64(max(days, 0)) * day.Hours() / month.Hours()})
				s.assume(fmt.Sprintf("a readable copy is there for %d days, at the price of %s", days, standard))
			}
			wait.Least, wait.Most = max(wait.Least, way.wait().Least), max(wait.Most, way.wait().Most)
			s.waits(o.class())
			if *c.Monitoring > 0 {
				s.assume(fmt.Sprintf("what is in %s counts as having gone to its archive tiers", o.class()))
			}
		}
		s.add(Line{What: Reading, Class: o.class(), Count: 1, Cost: *c.Get / 1000})
		if *c.Retrieval > 0 {
			s.add(Line{What: Retrieval, Class: o.class(), Bytes: max(o.Bytes, 0), Cost: gb(o.Bytes) * *c.Retrieval})
		}
		s.add(Line{What: Transfer, Bytes: max(o.Bytes, 0), Cost: gb(o.Bytes) * f.egress})
	}
	if len(objects) > 0 && f.egress > 0 {
		s.assume(fmt.Sprintf("everything is read once and leaves the provider's network, at %v a GB; within the region that costs nothing", f.egress))
	}
	return s.estimate(), wait, nil
}

// Thawing is how long thawing an object of a class takes; the zero Wait if it is
// readable at once. It fails with *NoTierError where there is no such tier.
func (t *Table) Thawing(p Place, class, tier string) (Wait, error) {
	o := Object{Class: class}
	c := t.find(p).class(o.class())
	if len(c.Tiers) == 0 {
		return Wait{}, nil
	}
	way, ok := c.Tiers[tier]
	if !ok {
		return Wait{}, &NoTierError{Class: o.class(), Tier: tier, Tiers: c.tiers()}
	}
	return way.wait(), nil
}

// Thaws reports whether ways of thawing a class are known: without one, what it
// costs and how long it takes are not, if it is cold all the same.
func (t *Table) Thaws(p Place, class string) bool {
	return len(t.find(p).class(Object{Class: class}.class()).Tiers) > 0
}

// SettledAt is when an object can be removed without paying for time in which it
// is not stored; zero where there is no such time, or none is known.
func (t *Table) SettledAt(p Place, o Object) time.Time {
	f := t.find(p)
	c := f.class(o.class())
	if f.currency == "" || c.days() == 0 || o.Since.IsZero() {
		return time.Time{}
	}
	return o.Since.Add(time.Duration(c.days()) * day)
}
