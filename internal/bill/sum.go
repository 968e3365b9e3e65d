package bill

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// sum adds up an estimate.
type sum struct {
	f       *found
	lines   map[lineKey]*Line
	assumed map[string]bool
}

type lineKey struct {
	what, class string
	monthly     bool
}

// whats is the order of lines.
var whats = []string{Uploading, Asking, Retrieval, Copies, Reading, Transfer, Early, Storage, Overhead, Monitoring}

// add puts an item with those of its kind. What is nothing is left out.
func (s *sum) add(l Line) {
	if l.Count == 0 && l.Bytes == 0 {
		return
	}
	key := lineKey{l.What, l.Class, l.Monthly}
	sofar := s.lines[key]
	if sofar == nil {
		sofar = &Line{What: l.What, Class: l.Class, Monthly: l.Monthly}
		s.lines[key] = sofar
	}
	sofar.Count += l.Count
	sofar.Bytes += l.Bytes
	sofar.Cost += l.Cost
}

// keep adds what it costs to keep an object each month, or, with sign -1, what
// not keeping it saves.
func (s *sum) keep(o Object, sign int64) {
	c := s.f.class(o.class())
	hot := s.f.class(standard)
	s.add(Line{What: Storage, Class: o.class(), Count: sign, Bytes: sign * max(o.Bytes, 0), Cost: float64(sign) * gb(c.billed(o.Bytes)) * *c.Storage, Monthly: true})
	if beside := *c.Overhead + *c.OverheadStandard; beside > 0 {
		s.add(Line{What: Overhead, Class: o.class(), Count: sign, Bytes: sign * beside, Cost: float64(sign) * (gb(*c.Overhead)**c.Storage + gb(*c.OverheadStandard)**hot.Storage), Monthly: true})
	}
	if *c.Monitoring > 0 && o.Bytes >= *c.MonitoredFrom {
		s.add(Line{What: Monitoring, Class: o.class(), Count: sign, Cost: float64(sign) * *c.Monitoring / 1000, Monthly: true})
		s.assume(fmt.Sprintf("what is in %s counts as used often, which is the dearest that it can be", o.class()))
	}
	if !c.known {
		s.assume(fmt.Sprintf("no prices are known for the class %s: those of %s are taken", o.class(), standard))
	}
}

func (s *sum) assume(text string) { s.assumed[text] = true }

// waits notes that times are those of a class.
func (s *sum) waits(class string) {
	if s.f.currency == "" {
		s.assume(fmt.Sprintf("thawing takes as long as it does at AWS for %s, since nothing is known of %s", class, s.f.asked.Provider))
	}
}

// estimate is what all items come to. The order of lines depends on nothing else
// than what they are about.
func (s *sum) estimate() Estimate {
	e := Estimate{Currency: s.f.currency, Lines: []Line{}}
	for _, l := range s.lines {
		e.Lines = append(e.Lines, *l)
	}
	slices.SortFunc(e.Lines, func(a, b Line) int {
		return cmp.Or(slices.Index(whats, a.What)-slices.Index(whats, b.What), strings.Compare(a.Class, b.Class))
	})
	for _, l := range e.Lines {
		if l.Monthly {
			e.Monthly += l.Cost
		} else {
			e.Once += l.Cost
		}
	}
	var also []string
	for text := range s.assumed {
		also = append(also, text)
	}
	slices.Sort(also)
	e.Assumptions = append(slices.Clone(s.f.assumptions), also...)
	return e
}
