// Package bill estimates what cloud storage costs.
package bill

import "time"

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

// Table is a list of prices.
type Table struct {
	// Name says where the table is from, and Date of when the prices are.
	Name, Date string
}

// Default returns the prices that the program knows.
func Default() *Table { return &Table{} }

// Parse reads a table of prices; name is how people know it.
func Parse(name string, data []byte) (*Table, error) { return &Table{Name: name}, nil }

// Storing estimates what it costs to store new objects, and small ones beside
// them, and to keep them.
func (t *Table) Storing(p Place, objects []Object) Estimate { return Estimate{} }

// Keeping estimates what it costs to keep what is there.
func (t *Table) Keeping(p Place, objects []Object) Estimate { return Estimate{} }

// Removing estimates what it costs to remove objects for good at a time, and
// what that saves each month, which is a negative Monthly.
func (t *Table) Removing(p Place, objects []Object, at time.Time) Estimate { return Estimate{} }

// Restoring estimates what it costs to thaw objects, where they have to be, and
// to read them once. The tier is one of store.Tier; days is how long they stay
// readable. It fails where there is no such tier for an object.
func (t *Table) Restoring(p Place, objects []Object, tier string, days int) (Estimate, Wait, error) {
	return Estimate{}, Wait{}, nil
}

// Thawing is how long thawing an object of a class takes; the zero Wait if it is
// readable at once. It fails where there is no such tier.
func (t *Table) Thawing(p Place, class, tier string) (Wait, error) { return Wait{}, nil }

// SettledAt is when an object can be removed without paying for time in which it
// is not stored; zero where there is no such time.
func (t *Table) SettledAt(p Place, o Object) time.Time { return time.Time{} }
