package job

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/outstanding"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// soon is for how long at least a claim lasts that does not have to lapse in this
// very run: who gives less means that it shall.
const soon = 24 * time.Hour

// defaultStale is PruneOptions.StaleAfter where it is not set.
const defaultStale = 90 * 24 * time.Hour

// spot is a snapshot at one of the paths that it has.
type spot struct {
	id   snapshot.ID
	path string
}

// place is what retention knows and decides about a snapshot at one path.
type place struct {
	snapshot.Snapshot // without Copies
	Verdict
	series string // what the path has before the date; empty if there is none
	dated  bool   // it is in a series
	broken bool   // it is in an archive that cannot give it back
}

func (p *place) spot() spot { return spot{p.ID, p.Path} }

// counted reports whether the rules are about it.
func (p *place) counted() bool { return p.dated && !p.Aside }

// evidence is what verdicts rest on, as it was found at one time.
type evidence struct {
	now      time.Time
	inv      *snapshot.Inventory
	register *register
	locks    *outstanding.Transfers
	options  *PruneOptions
	// spared are to stay this time, whatever else is true.
	spared func(spot) bool
}

// judgement is what retention decides about a store.
type judgement struct {
	inv    *snapshot.Inventory
	places []place // by path
	kinship
	// unseen are the destinations of which nothing is known, with the series that
	// wait for them.
	unseen []claim
	// lapsed is said of what goes although a destination may need it.
	lapsed map[spot]string
}

// tally counts a series.
type tally struct {
	of    int // counted by the rules
	fresh int // let go by the rules for the first time
	going int
	due   []snapshot.ID // let go by the rules, whether they go or wait
	waits []snapshot.ID // those that wait
}

// strange reports whether the rules let go more than half of a series at once.
func (t tally) strange() bool { return 2*t.fresh > t.of }

// judge decides about every snapshot in the directory of a store. It looks at
// nothing but the evidence, and changes none of it.
func (e *evidence) judge() *judgement {
	j := &judgement{inv: e.inv, places: e.places(), lapsed: map[spot]string{}}
	j.kinship = kin(e.inv, j.places, e.options, e.register.families)
	series := map[string][]*place{}
	for i := range j.places {
		p := &j.places[i]
		if p.dated {
			series[p.series] = append(series[p.series], p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(series)) {
		all := series[name]
		needed := e.needed(j, name, all)
		items := make([]schedule.Item, len(all))
		for i, p := range all {
			items[i] = schedule.Item{Name: p.Name(), Time: p.Time, Aside: j.aside[p.spot()]}
			switch {
			case items[i].Aside != "":
			case p.broken:
				items[i].Aside = lost
			case e.stays(p) != "":
				items[i].Keep = e.stays(p)
			case needed[p.ID] != "":
				items[i].Keep = needed[p.ID]
			}
		}
		for i, v := range schedule.Judge(e.now, items, e.options.Rules) {
			if !v.Keep && e.spared != nil && e.spared(all[i].spot()) {
				v.Keep, v.Reason = true, "something has changed while this run was at work"
			}
			all[i].Verdict.Verdict = v
		}
		e.outlive(all, items)
	}
	e.close(j)
	for i := range j.places {
		if p := &j.places[i]; p.Keep {
			delete(j.lapsed, p.spot())
		}
	}
	return j
}

// lost is why what an archive cannot give back is set aside.
const lost = "it cannot be restored: there is no whole chain of streams to it"

// outlive lets go what cannot be restored once the rules would let it go if it
// could be. Until then it does not stand in for what can be had.
func (e *evidence) outlive(all []*place, items []schedule.Item) {
	remains := map[int]bool{}
	for i := range items {
		if items[i].Aside == lost {
			remains[i], items[i].Aside, items[i].Keep = true, "", e.stays(all[i])
		}
	}
	if len(remains) == 0 {
		return
	}
	for i, v := range schedule.Judge(e.now, items, e.options.Rules) {
		if p := all[i]; remains[i] && !v.Keep && (e.spared == nil || !e.spared(p.spot())) {
			v.Reason += ", and it cannot be restored"
			p.Verdict.Verdict = v
		}
	}
}

// places returns every snapshot in the directory, each path for itself, with the
// series that it is in. What is in none is set aside.
func (e *evidence) places() []place {
	var all []place
	whole := wholeChains(e.inv)
	for _, s := range e.inv.Inside() {
		for _, c := range copies(s) {
			c.Copies = nil
			p := place{Snapshot: c}
			why := ""
			if o := e.options; o.Prefix != nil {
				p.series = *o.Prefix
				if !strings.Contains(c.Path, "/") {
					p.Time, p.dated = schedule.ParseAs(o.Layout, *o.Prefix, c.Path, cmp.Or(o.Zone, o.Rules.Zone))
				}
				why = fmt.Sprintf("its name is not %s%s", *o.Prefix, cmp.Or(o.Layout, schedule.Compact))
			} else {
				dir, name := path.Split(c.Path)
				var before string
				before, p.Time, p.dated = schedule.Split(name, cmp.Or(o.Zone, o.Rules.Zone))
				p.series = dir + before
				why = "its name does not end in a date"
				if o := e.options; p.dated && o.only != nil && p.series != *o.only {
					p.dated, why = false, "it is of another series"
				}
			}
			p.Time = schedule.Nearest(p.Time, c.Created)
			if !p.dated {
				p.Time = time.Time{}
			}
			p.broken = e.inv.Archive && !whole[c.ID]
			if !p.dated {
				p.series = ""
				p.Verdict.Verdict = schedule.Verdict{Keep: true, Aside: true, Reason: why}
			}
			p.Verdict.Snapshot = c
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), compareIDs(a.ID, b.ID))
	})
	return all
}

// stays returns why a snapshot stays for its own sake.
func (e *evidence) stays(p *place) string {
	if h, ok := e.register.hold(p.ID); ok {
		why := "held since " + e.date(h.Since)
		if h.Why != "" {
			why += ": " + h.Why
		}
		return why
	}
	if strings.Contains(p.Path, "/") {
		return ""
	}
	if why := e.options.Locked[p.Path]; why != "" {
		return why
	}
	if e.locks == nil {
		return ""
	}
	if to := e.locks.Destinations(p.Path, outstanding.Sent); len(to) > 0 {
		return "locked: an unfinished transfer to " + strings.Join(to, ", ")
	}
	if to := e.locks.Destinations(p.Path, outstanding.Parent); len(to) > 0 {
		return "locked: an unfinished transfer to " + strings.Join(to, ", ") + " starts from it"
	}
	return ""
}

// date tells a day to people.
func (e *evidence) date(t time.Time) string {
	return t.In(cmp.Or(e.options.zone(), time.UTC)).Format(time.DateOnly)
}

// zone is where names tell the time.
func (o *PruneOptions) zone() *time.Location { return cmp.Or(o.Zone, o.Rules.Zone) }

// needed returns which snapshots of a series a counterpart needs, and why.
func (e *evidence) needed(j *judgement, series string, all []*place) map[snapshot.ID]string {
	needed := map[snapshot.ID]string{}
	newest := slices.Clone(all)
	newest = slices.DeleteFunc(newest, func(p *place) bool {
		return j.aside[p.spot()] != "" || p.Time.After(e.now.Add(schedule.Slack))
	})
	slices.SortFunc(newest, func(a, b *place) int {
		return cmp.Or(b.Time.Compare(a.Time), strings.Compare(b.Path, a.Path))
	})
	here := usable(e.inv)
	// A destination that shows nothing of what it had has not said that it needs
	// nothing: it may be empty since something is not mounted.
	listed, shares := map[string]bool{}, map[string]bool{}
	for _, c := range e.options.For {
		if c.Has == nil {
			if _, known := e.register.claimOf(c.ID, series); !known && len(newest) > 0 {
				j.unseen = append(j.unseen, claim{destination: c.ID, series: series, seen: e.now})
				for _, p := range newest {
					needed[p.ID] = fmt.Sprintf("nothing is known of what %s has, which cannot be reached", c.ID)
				}
			}
			continue
		}
		listed[legible(c.ID)] = true
		there := usable(c.Has)
		elsewhere := false // one of these is enough
		for _, p := range newest {
			trust := max(here(p.ID), there(p.ID))
			other, _ := c.Has.Find(p.ID)
			if trust == snapshot.Touched || other.Outside && elsewhere {
				continue
			}
			shares[legible(c.ID)] = true
			needed[p.ID] = fmt.Sprintf("newest in common with %s: the next increment starts from it", c.ID)
			if trust == snapshot.Intact && !other.Outside {
				break
			}
			// What lies outside of the directory there is not kept by anybody who knows
			// what it is needed for.
			elsewhere = elsewhere || other.Outside && trust == snapshot.Intact
		}
	}
	stale := cmp.Or(e.options.StaleAfter, defaultStale)
	for _, c := range e.register.claims {
		if shares[c.destination] || c.id.IsZero() && (listed[c.destination] || c.series != legible(series)) {
			continue
		}
		absent := "has not been seen since"
		if listed[c.destination] {
			absent = "has shown nothing in common since"
		}
		until := c.seen.Add(stale)
		for _, p := range newest {
			switch {
			case !c.id.IsZero() && c.id != p.ID:
			case e.now.After(until) && (stale < soon || e.passed(newest, until)):
				j.lapsed[p.spot()] = fmt.Sprintf("%s %s %s, and its claim to %s has lapsed", c.destination, absent, e.date(c.seen), p.Path)
			case needed[p.ID] != "":
			case c.id.IsZero():
				needed[p.ID] = fmt.Sprintf("nothing is known of what %s has, which has not been reached since %s; it waits until %s", c.destination, e.date(c.seen), e.date(until))
			default:
				needed[p.ID] = fmt.Sprintf("newest in common with %s, last seen on %s: the next increment starts from it; it waits until %s", c.destination, e.date(c.seen), e.date(until))
			}
		}
	}
	return needed
}

// passed reports whether some time has really passed since a date, and not just the
// clock been put forward, or the machine been off until now: then a run has made
// the only snapshot since.
func (e *evidence) passed(all []*place, date time.Time) bool {
	return e.options.made.IsZero() || slices.ContainsFunc(all, func(p *place) bool {
		return p.ID != e.options.made && p.Time.After(date)
	})
}

// usable returns how far a snapshot of a store can be relied on as the start of
// an increment: Touched for one that is not there, or not as a whole.
func usable(inv *snapshot.Inventory) func(snapshot.ID) snapshot.Trust {
	whole := wholeChains(inv)
	return func(id snapshot.ID) snapshot.Trust {
		s, ok := inv.Find(id)
		if !ok || inv.Archive && !whole[id] {
			return snapshot.Touched
		}
		return s.Trust
	}
}

// wholeChains returns the snapshots of an archive to which a chain of streams
// leads that begins with a full one.
func wholeChains(inv *snapshot.Inventory) map[snapshot.ID]bool {
	if !inv.Archive {
		return nil
	}
	whole := map[snapshot.ID]bool{}
	after := map[snapshot.ID][]snapshot.ID{}
	var look []snapshot.ID
	for _, e := range inv.Edges {
		if e.IsFull() {
			look = append(look, e.To)
		} else {
			after[e.From] = append(after[e.From], e.To)
		}
	}
	for len(look) > 0 {
		id := look[len(look)-1]
		look = look[:len(look)-1]
		if !whole[id] {
			whole[id] = true
			look = append(look, after[id]...)
		}
	}
	return whole
}

// close keeps at an archive what kept snapshots cannot do without, until nothing
// is missing.
func (e *evidence) close(j *judgement) {
	if !e.inv.Archive {
		return
	}
	stays := map[snapshot.ID]string{} // at which path
	for _, p := range j.places {
		if p.Keep && stays[p.ID] == "" {
			stays[p.ID] = p.Path
		}
	}
	needed := plan.Needed(e.inv, func(id snapshot.ID) bool { return stays[id] != "" })
	for i := range j.places {
		p := &j.places[i]
		if p.Keep {
			continue
		}
		if other := stays[p.ID]; other != "" {
			// Chains may go through the streams at either path.
			p.Keep, p.Reason = true, "the same snapshot stays as "+other
		} else if by, ok := needed[p.ID]; ok {
			name := by.Short()
			if s, ok := e.inv.Find(by); ok {
				name = s.Path
			}
			p.Keep, p.Reason = true, "needed by the chain of "+name
		}
	}
}

// tallies counts each series that the rules are about.
func (j *judgement) tallies(r *register, rules string) map[string]*tally {
	all := map[string]*tally{}
	waited := map[string]map[snapshot.ID]bool{}
	for i := range j.places {
		p := &j.places[i]
		if !p.counted() {
			continue
		}
		t := all[p.series]
		if t == nil {
			t = &tally{}
			all[p.series], waited[p.series] = t, r.waited(p.series, rules)
		}
		t.of++
		if !p.Due {
			continue
		}
		t.due = append(t.due, p.ID)
		if !waited[p.series][p.ID] {
			t.fresh++
		}
		if p.Keep {
			t.waits = append(t.waits, p.ID)
		} else {
			t.going++
		}
	}
	return all
}

// going returns what is to be removed, the oldest first.
func (j *judgement) going() []*place {
	var all []*place
	for i := range j.places {
		if p := &j.places[i]; p.dated && !p.Keep {
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b *place) int { return a.Time.Compare(b.Time) })
	return all
}

// verdicts returns what is decided, by path.
func (j *judgement) verdicts() []Verdict {
	all := make([]Verdict, len(j.places))
	for i := range j.places {
		all[i] = j.places[i].Verdict
	}
	return all
}
