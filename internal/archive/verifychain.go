package archive

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// grade is a verdict; the greater the better.
type grade uint8

const (
	unseen grade = iota
	damaged
	unchecked
	sound
)

var verdictOf = [...]store.Verdict{damaged: store.Damaged, unchecked: store.Unchecked, sound: store.Sound}

// chains is a graph that knows how things stand with each stream.
type chains struct {
	*graph
	grades []grade // of entries
}

func newChains(c *catalogue) *chains {
	return &chains{graph: newGraph(c), grades: make([]grade, len(c.entries))}
}

// has reports whether a stream is among the entries.
func (g *chains) has(key string, of named) bool {
	n, ok := g.node(of.edge.To)
	if !ok {
		return false
	}
	for i := g.start[n]; i < g.end(n); i++ {
		if e := &g.c.entries[i]; e.from == of.edge.From && g.c.key(e) == key {
			return true
		}
	}
	return false
}

// needed tells of each entry whether it may be part of a chain to one of some
// snapshots.
func (g *chains) needed(wanted []snapshot.Snapshot) []bool {
	needed, seen := make([]bool, len(g.grades)), make([]bool, len(g.start))
	var look []int
	add := func(id snapshot.ID) {
		if n, ok := g.node(id); ok && !seen[n] {
			seen[n] = true
			look = append(look, n)
		}
	}
	for _, s := range wanted {
		add(s.ID)
	}
	for len(look) > 0 {
		n := look[len(look)-1]
		look = look[:len(look)-1]
		for i := g.start[n]; i < g.end(n); i++ {
			needed[i] = true
			add(g.c.entries[i].from)
		}
	}
	return needed
}

// reached tells of each snapshot whether it has a chain of which no stream is of a
// lower grade.
func (g *chains) reached(least grade) []bool {
	reached := make([]bool, len(g.start))
	var look []int
	try := func(i uint32) {
		if n, _ := g.node(g.c.entries[i].to); !reached[n] && g.grades[i] >= least {
			reached[n] = true
			look = append(look, n)
		}
	}
	for i := range g.c.entries {
		if g.c.entries[i].from.IsZero() {
			try(uint32(i))
		}
	}
	for len(look) > 0 {
		id := g.c.entries[g.start[look[len(look)-1]]].to
		look = look[:len(look)-1]
		at := sort.Search(len(g.byFrom), func(i int) bool { return bytes.Compare(g.c.entries[g.byFrom[i]].from[:], id[:]) >= 0 })
		for ; at < len(g.byFrom) && g.c.entries[g.byFrom[at]].from == id; at++ {
			try(g.byFrom[at])
		}
	}
	return reached
}

// why says for people what is the matter with every chain to a snapshot, the
// nearest first.
func (g *chains) why(id snapshot.ID) string {
	if _, ok := g.node(id); !ok {
		return "no stream of it is there: what is left of it is empty"
	}
	var missing, bad []string
	seen := map[snapshot.ID]bool{id: true}
	for look := []snapshot.ID{id}; len(look) > 0; look = look[1:] {
		n, ok := g.node(look[0])
		if !ok {
			continue
		}
		for i := g.start[n]; i < g.end(n); i++ {
			e := &g.c.entries[i]
			if g.grades[i] == damaged {
				bad = append(bad, printable(g.c.key(e)))
			}
			if e.from.IsZero() || seen[e.from] {
				continue
			}
			seen[e.from] = true
			look = append(look, e.from)
			if _, ok := g.node(e.from); !ok {
				missing = append(missing, fmt.Sprintf("%s, which %s starts from", e.from, printable(g.c.key(e))))
			}
		}
	}
	switch {
	case len(bad) > 0 && len(missing) > 0:
		return fmt.Sprintf("no chain to it is whole: damaged is %s; there is no stream of %s", few(bad), few(missing))
	case len(bad) > 0:
		return "no chain to it is whole: damaged is " + few(bad)
	case len(missing) > 0:
		return "no chain to it is complete: there is no stream of " + few(missing)
	}
	return "no chain to it is complete: none begins with a full stream"
}

// few names the first of several things, and how many more there are.
func few(names []string) string {
	const enough = 2
	if len(names) <= enough {
		return strings.Join(names, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(names[:enough], "; "), len(names)-enough)
}
