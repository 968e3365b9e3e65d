package job

import (
	"path"
	"strings"
	"time"

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

// dated is a snapshot of the series that a backup is about.
type dated struct {
	snapshot.Snapshot
	when time.Time
}

// series returns the snapshots of an inventory that are of the run's series, by
// name alone.
func (b *backup) series(inv *snapshot.Inventory) []dated {
	var all []dated
	for _, snap := range inv.Inside() {
		for _, c := range copies(snap) {
			if when, ok := schedule.Parse(b.o.Prefix, c.Path, b.zone); ok && path.Base(c.Path) == c.Path {
				all = append(all, dated{c, when})
				break
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

// due returns the snapshots of the source that a destination shall have: all that
// its rules keep of what is here and there, so that nothing is sent that would go
// at once.
func (b *backup) due(holds, has *snapshot.Inventory, rules schedule.Rules) map[snapshot.ID]bool {
	var items []schedule.Item
	var ids []snapshot.ID
	here := map[snapshot.ID]bool{}
	for _, s := range b.series(holds) {
		here[s.ID] = true
		ids = append(ids, s.ID)
		items = append(items, schedule.Item{Name: s.Path, Time: s.when})
	}
	for _, s := range b.series(has) {
		if !here[s.ID] {
			ids = append(ids, s.ID)
			items = append(items, schedule.Item{Name: s.Path, Time: s.when})
		}
	}
	due := map[snapshot.ID]bool{}
	for i, v := range schedule.Judge(b.engine.now(), items, b.rules(rules)) {
		if v.Keep && here[ids[i]] {
			due[ids[i]] = true
		}
	}
	return due
}

// newestCommon returns the newest snapshot of the series that both inventories
// have, as the first has it.
func (b *backup) newestCommon(holds, has *snapshot.Inventory) (newest dated, ok bool) {
	for _, s := range b.series(holds) {
		if there, found := has.Find(s.ID); found && !there.Outside && (!ok || s.when.After(newest.when)) {
			newest, ok = s, true
		}
	}
	return newest, ok
}
