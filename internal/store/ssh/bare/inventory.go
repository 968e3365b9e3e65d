package bare

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// below returns a path relative to the directory that a view is of.
func (v *view) below(p string) (string, bool) {
	if v.prefix == "" {
		return p, p != ""
	}
	return strings.CutPrefix(p, v.prefix+"/")
}

// at returns the subvolume at a path below the directory.
func (v *view) at(rel string) (subvolume, bool) {
	for i := range v.all {
		if p, ok := v.below(v.all[i].path); ok && p == rel {
			return v.all[i], true
		}
	}
	return subvolume{}, false
}

// inventory sorts out what there is. The caller holds the lock.
func (s *Store) inventory(v *view) *snapshot.Inventory {
	inv := &snapshot.Inventory{
		Dir: s.root(),
		// btrfs receive looks for clone sources by the received UUID only.
		ReceivedClones: true,
		Occupied:       map[string]string{},
		Lineage:        map[snapshot.ID]snapshot.ID{},
		Born:           map[snapshot.ID]uint64{},
	}
	byID := map[snapshot.ID]int{}
	for i := range v.all {
		sub := &v.all[i]
		if !sub.uuid.IsZero() && !sub.parent.IsZero() {
			inv.Lineage[sub.uuid], inv.Born[sub.uuid] = sub.parent, sub.cgen
		}
		rel, inside := v.below(sub.path)
		if !inside {
			continue
		}
		if isForeignPart(sub, rel) {
			inv.Warnings = append(inv.Warnings, fmt.Sprintf("'%s' is read-only, but is called like an unfinished receive: it is not taken for a snapshot", path.Join(inv.Dir, rel)))
		}
		if part := unfinished(sub, rel); part != nil {
			inv.Partials = append(inv.Partials, *part)
		}
		if !snapshot.IsPart(rel) {
			inv.Occupied[rel] = describe(sub)
		}
		for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
			if inv.Occupied[dir] == "" {
				inv.Occupied[dir] = "a directory"
			}
		}
		if !sub.readOnly || inPart(rel) || sub.identity().IsZero() {
			continue
		}
		snap := s.values(sub, rel)
		at, again := byID[snap.ID]
		if !again {
			byID[snap.ID] = len(inv.Snapshots)
			inv.Snapshots = append(inv.Snapshots, snap)
			continue
		}
		better, worse := snap, inv.Snapshots[at]
		if worse.Generation > better.Generation || worse.Generation == better.Generation && worse.Path < better.Path {
			better, worse = worse, better
		}
		copies := append(inv.Snapshots[at].Copies, worse)
		inv.Warnings = append(inv.Warnings, fmt.Sprintf("Duplicate effective uuid %s in '%s' and '%s'", snap.ID, inv.Where(better), inv.Where(worse)))
		better.Copies = copies
		copies[len(copies)-1].Copies = nil
		inv.Snapshots[at] = better
	}
	slices.SortFunc(inv.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(inv.Partials, func(a, b snapshot.Partial) int { return strings.Compare(a.Path, b.Path) })
	return inv
}

// values carries over what is known of a snapshot. The caller holds the lock.
func (s *Store) values(sub *subvolume, rel string) snapshot.Snapshot {
	// Its generation is that of the last change of anything, which a snapshot of the
	// snapshot is, too. So what is read-only is taken to be as it was made.
	snap := snapshot.Snapshot{
		ID: sub.identity(), UUID: sub.uuid, Parent: sub.parent, Path: rel, Received: !sub.received.IsZero(),
		Pristine: sub.received.IsZero(), Generation: sub.cgen, Handle: sub.id,
	}
	if snap.Received {
		snap.Transid = s.shown[sub.uuid]
	}
	return snap
}

// inPart reports whether a path is that of a partial, or lies in one.
func inPart(rel string) bool {
	for ; rel != "."; rel = path.Dir(rel) {
		if snapshot.IsPart(rel) {
			return true
		}
	}
	return false
}

// unfinished says what a subvolume is, if it is not a snapshot. Only what its name
// marks is ours to remove.
func unfinished(sub *subvolume, rel string) *snapshot.Partial {
	switch {
	case isForeignPart(sub, rel):
		return &snapshot.Partial{Path: rel, Why: "read-only, without a received UUID: a snapshot that is called like an unfinished receive, or from where an interrupted transfer can be carried on"}
	case snapshot.IsPart(rel):
		return &snapshot.Partial{Path: rel, Ours: true, Why: "its name says that a receive has not been finished"}
	case sub.readOnly:
		return nil
	case !sub.received.IsZero():
		return &snapshot.Partial{Path: rel, Why: "writable, with a received UUID: a receive that ended before its last step, or a snapshot that was made writable"}
	default:
		return &snapshot.Partial{Path: rel, Why: "writable, without a received UUID: a subvolume in use, or what an interrupted btrfs receive left"}
	}
}

// isForeignPart reports whether a subvolume has the name of an unfinished receive,
// but is a snapshot: somebody's, or a checkpoint, which buttersink on the other
// machine itself can tell.
func isForeignPart(sub *subvolume, rel string) bool {
	return snapshot.IsPart(rel) && sub.readOnly && sub.received.IsZero()
}

// describe says what stands at a path.
func describe(sub *subvolume) string {
	switch {
	case !sub.readOnly && sub.received.IsZero():
		return "a writable subvolume without a received UUID (in use, or left by an interrupted btrfs receive)"
	case !sub.readOnly:
		return "a writable subvolume"
	default:
		return "a snapshot with another identity, " + sub.identity().String()
	}
}
