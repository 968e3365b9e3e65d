package job

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// nameOf is what a snapshot is called in the record of unfinished transfers;
// empty for one that does not lie in the directory itself.
func nameOf(s snapshot.Snapshot) string {
	if s.Outside || strings.Contains(s.Path, "/") {
		return ""
	}
	return s.Path
}

// topmost returns the snapshots in the directory itself by name, copies too.
func topmost(inv *snapshot.Inventory) map[string]snapshot.Snapshot {
	all := map[string]snapshot.Snapshot{}
	for _, snap := range inv.Snapshots {
		for _, c := range append([]snapshot.Snapshot{snap}, snap.Copies...) {
			if name := nameOf(c); name != "" {
				all[name] = c
			}
		}
	}
	return all
}

// rules are rules with the run's zone, unless they have one of their own.
func (b *backup) rules(r schedule.Rules) schedule.Rules {
	if r.Zone == nil {
		r.Zone = b.zone
	}
	return r
}

// ours returns what of an inventory retention is about: the run's series without
// what is there by mistake. It is told what is needed for that, as Prune is.
func (b *backup) ours(inv *snapshot.Inventory, o PruneOptions, noted *register) (all []place, aside int) {
	o.Prefix, o.Layout, o.Zone = &b.o.Prefix, b.o.Layout, b.zone
	ev := &evidence{now: b.engine.now(), inv: inv, register: noted, options: &o}
	places := ev.places()
	strangers := kin(inv, places, &o, noted.families).aside
	for _, p := range places {
		switch {
		case !p.dated, p.broken:
		case strangers[p.spot()] != "" && (b.taken == nil || b.taken.ID != p.ID):
			aside++
		default:
			all = append(all, p)
		}
	}
	return all, aside
}

// made returns the snapshots of the source that the run is about.
func (b *backup) made(holds *snapshot.Inventory) []place {
	all, aside := b.ours(holds, PruneOptions{Origin: b.origin}, cmp.Or(b.known, &register{}))
	if aside > 0 {
		b.strangers.Do(func() {
			b.engine.log().Warn(fmt.Sprintf("%s: %d snapshots have names of this series and are of something else; they are neither sent nor removed", b.src, aside))
		})
	}
	return all
}

// due returns the snapshots of the source that a destination shall have: all that
// its rules keep of what is here and there, so that nothing is sent that would go
// at once; and what was just made, though a clock that was put back may have given
// it a name before others.
func (b *backup) due(ctx context.Context, holds *snapshot.Inventory, d *end) map[snapshot.ID]bool {
	all := b.made(holds)
	here := map[snapshot.ID]bool{}
	for _, p := range all {
		here[p.ID] = true
	}
	noted, err := readRegister(ctx, d.store)
	if err != nil {
		noted = &register{} // nothing is removed there then, so it can do no harm
	}
	there, _ := b.ours(d.has, d.counterpart(PruneOptions{For: []Counterpart{{ID: b.src.String(), Has: holds}}}), noted)
	for _, p := range there {
		if !here[p.ID] {
			all = append(all, p)
		}
	}
	items := make([]schedule.Item, len(all))
	for i, p := range all {
		items[i] = schedule.Item{Name: p.Path, Time: p.Time}
	}
	due := map[snapshot.ID]bool{}
	if b.taken != nil {
		due[b.taken.ID] = true
	}
	rules := b.rules(d.Rules)
	for i, v := range schedule.Judge(b.engine.now(), items, rules) {
		// What is in the future would be there without being counted: with a clock that
		// was put back far, that is all there is.
		if v.Keep && (!v.Aside || rules.None()) && here[all[i].ID] {
			due[all[i].ID] = true
		}
	}
	return due
}

// newestCommon returns the newest of the run's snapshots that another inventory
// has too, as a whole and unchanged, so that an increment can start from it. What
// lies outside of the directory there comes last: nobody keeps it for that.
func (b *backup) newestCommon(holds, has *snapshot.Inventory) (newest place, ok bool) {
	here, there := usable(holds), usable(has)
	best := snapshot.Touched
	for _, p := range b.made(holds) {
		trust := max(here(p.ID), there(p.ID))
		if trust == snapshot.Touched {
			continue
		}
		if other, _ := has.Find(p.ID); other.Outside {
			trust += snapshot.Touched
		}
		switch {
		case ok && trust > best:
		case !ok, trust < best, p.Time.After(newest.Time):
			newest, best, ok = p, trust, true
		}
	}
	return newest, ok
}
