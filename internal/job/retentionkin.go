package job

import (
	"maps"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// kinship says which snapshots of a store are those that rules may be about: those
// of the subvolume that is backed up, or those that have to do with a counterpart.
// Names do not show that, as several machines may use one directory.
//
// What a file system remembers of where a subvolume came from gets lost as others
// are removed, and so do the streams of an archive. What has been recognised once
// is therefore noted as one family (register.families), and a family that has a
// member which is recognised today is recognised as a whole.
type kinship struct {
	// aside is what is none of ours, and why.
	aside map[spot]string
	// family is what there is to note as one. Worth is set if that says more than the
	// store itself does, and fragile if it may once something has been removed.
	family         map[snapshot.ID]bool
	worth, fragile bool
}

// kin finds out what is ours in a store. Without an origin, and without a
// counterpart that can be listed, everything is.
func kin(inv *snapshot.Inventory, all []place, o *PruneOptions, families [][]snapshot.ID) kinship {
	var k kinship
	var why string
	ours := map[snapshot.ID]bool{} // recognised, to begin with
	lines := ties{}
	switch {
	case !o.Origin.IsZero() && !inv.Archive:
		why = "it is not a snapshot of what is backed up"
		before := ancestry(inv, o.Origin)
		for _, p := range all {
			if before[p.Parent] || before[p.UUID] {
				ours[p.ID] = true
				k.fragile = k.fragile || p.Parent != o.Origin
			}
		}
		k.worth = k.fragile
	case slices.ContainsFunc(o.For, func(c Counterpart) bool { return c.Has != nil }):
		why = "nothing here shows that it has to do with " + counterparts(o.For)
		lines = lineages(inv)
		for _, p := range all {
			for _, c := range o.For {
				if c.Has == nil {
					continue
				}
				if there, ok := c.Has.Find(p.ID); ok && !there.Outside {
					ours[p.ID] = true
				}
			}
			if o.mine[p.ID] {
				ours[p.ID] = true
			}
		}
		k.fragile = len(all) > 1
	default:
		return k
	}

	kinds := maps.Clone(lines)
	known := map[snapshot.ID]bool{}
	for _, family := range families {
		for _, id := range family {
			known[id] = true
			kinds.tie(family[0], id)
		}
	}
	mine := map[snapshot.ID]bool{} // roots of kinds
	before := false                // there is something of ours that is not new
	for id := range ours {
		mine[kinds.root(id)] = true
		before = before || id != o.made
	}
	k.family = map[snapshot.ID]bool{}
	branches := map[snapshot.ID]bool{}
	made := madeHere(inv)
	members := lines.members(inv)
	k.aside = map[spot]string{}
	for _, p := range all {
		alone := o.Origin.IsZero() && !p.broken && (p.Received || inv.Archive) && p.Parent.IsZero() && members[lines.root(p.ID)] <= 1
		switch {
		case made[p.UUID] != "":
			k.aside[p.spot()] = "it was made here, from " + made[p.UUID]
			continue
		case mine[kinds.root(p.ID)]:
		case alone && before && len(known) == 0:
			// A full stream has nothing that could speak for it or against it. Of those
			// that were there before anything was noted here it is believed, where there is
			// a past to which they can belong.
		default:
			k.aside[p.spot()] = why
			continue
		}
		k.family[p.ID] = true
		branches[lines.root(p.ID)] = true
		k.worth = k.worth || alone
	}
	k.worth = k.worth || o.Origin.IsZero() && len(branches) > 1
	return k
}

// families puts the family together with those that are noted by now, as far as
// the snapshots are still there. Those that have a member of it are one with it.
func (k *kinship) families(inv *snapshot.Inventory, noted [][]snapshot.ID) [][]snapshot.ID {
	family := maps.Clone(k.family)
	var others [][]snapshot.ID
	for _, other := range noted {
		var left []snapshot.ID
		for _, id := range other {
			if _, there := inv.Find(id); there {
				left = append(left, id)
			}
		}
		if slices.ContainsFunc(left, func(id snapshot.ID) bool { return k.family[id] }) {
			for _, id := range left {
				family[id] = true
			}
		} else if len(left) > 0 {
			slices.SortFunc(left, compareIDs)
			others = append(others, left)
		}
	}
	if len(family) > 0 {
		others = append(others, slices.SortedFunc(maps.Keys(family), compareIDs))
	}
	slices.SortFunc(others, func(a, b []snapshot.ID) int { return compareIDs(a[0], b[0]) })
	return others
}

func counterparts(all []Counterpart) string {
	var names []string
	for _, c := range all {
		if c.Has != nil {
			names = append(names, c.ID)
		}
	}
	return strings.Join(names, ", ")
}

// ancestry returns a subvolume and those that it was made from, directly or
// through others, as far as the file system knows. What was made from one of
// these was a snapshot of it in its time: before it was restored, say.
func ancestry(inv *snapshot.Inventory, origin snapshot.ID) map[snapshot.ID]bool {
	all := map[snapshot.ID]bool{}
	for id := origin; !id.IsZero() && !all[id]; id = inv.Lineage[id] {
		all[id] = true
	}
	return all
}

// madeHere returns the subvolumes that somebody has made out of a received
// snapshot in the same directory, with the path of that one. They may have its
// identity.
func madeHere(inv *snapshot.Inventory) map[snapshot.ID]string {
	received := map[snapshot.ID]snapshot.Snapshot{}
	for _, s := range inv.Inside() {
		for _, c := range copies(s) {
			if c.Received {
				received[c.UUID] = c
			}
		}
	}
	made := map[snapshot.ID]string{}
	for _, s := range inv.Inside() {
		for _, c := range copies(s) {
			from, ok := received[c.Parent]
			if ok && !c.Parent.IsZero() && (!c.Received || c.ID == from.ID) {
				made[c.UUID] = from.Path
			}
		}
	}
	return made
}

// ties are what makes snapshots one family: each leads to another one of it, in
// the end to the same.
type ties map[snapshot.ID]snapshot.ID

func (t ties) root(id snapshot.ID) snapshot.ID {
	for {
		up, ok := t[id]
		if !ok || up == id {
			return id
		}
		if top, ok := t[up]; ok {
			t[id] = top // halves the way for those who come later
		}
		id = up
	}
}

func (t ties) tie(a, b snapshot.ID) {
	if a, b = t.root(a), t.root(b); a != b {
		t[b] = a
	}
}

// members returns how many snapshots each family has, by root.
func (t ties) members(inv *snapshot.Inventory) map[snapshot.ID]int {
	n := map[snapshot.ID]int{}
	for _, s := range inv.Snapshots {
		n[t.root(s.ID)]++
	}
	return n
}

// lineages ties what was made from another: on a file system subvolumes, which
// are tied to the identities that they have; in an archive streams.
func lineages(inv *snapshot.Inventory) ties {
	t := ties{}
	if inv.Archive {
		for _, e := range inv.Edges {
			if !e.IsFull() {
				t.tie(e.From, e.To)
			}
		}
		return t
	}
	for made, from := range inv.Lineage {
		if !from.IsZero() {
			t.tie(from, made)
		}
	}
	for _, s := range inv.Snapshots {
		for _, c := range append([]snapshot.Snapshot{s}, s.Copies...) {
			if !c.Parent.IsZero() {
				t.tie(c.Parent, c.UUID)
			}
			t.tie(c.UUID, c.ID)
		}
	}
	return t
}
