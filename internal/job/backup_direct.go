package job

import (
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// direct changes the inventory of a backup's destination so that what lies deeper
// in its directory is as if it lay outside: it can be copied in and started from,
// and is not what is to be there. It may be the source's own, in a directory that
// has the source in it too, or go by the rules of another destination. Where
// nothing can be copied in, it is not there at all. Archives stay as they are: a
// stream is a stream, whatever its key.
func direct(inv *snapshot.Inventory, copies bool) {
	if inv.Archive {
		return
	}
	all := inv.Snapshots[:0:0]
	for _, s := range inv.Snapshots {
		if !s.Outside && nameOf(s) == "" {
			for _, c := range s.Copies {
				if nameOf(c) != "" {
					s, _ = s.Preferring(c.Path)
					break
				}
			}
		}
		s.Copies = slices.Clone(s.Copies)
		for i := range s.Copies {
			s.Copies[i] = putOutside(inv, s.Copies[i])
		}
		if s = putOutside(inv, s); copies || !s.Outside {
			all = append(all, s)
		}
	}
	inv.Snapshots = all
}

// putOutside returns a snapshot as one outside, if it lies deeper.
func putOutside(inv *snapshot.Inventory, s snapshot.Snapshot) snapshot.Snapshot {
	if !s.Outside && nameOf(s) == "" {
		s.Path, s.Outside = inv.Where(s), true
	}
	return s
}

// aboutDirectory drops the warnings about what lies deeper in a directory, or outside
// of it: a backup has to do with none of it.
func aboutDirectory(inv *snapshot.Inventory) {
	if inv.Archive {
		return
	}
	for _, s := range inv.Snapshots {
		for _, c := range append([]snapshot.Snapshot{s}, s.Copies...) {
			if !c.Outside && nameOf(c) != "" {
				continue
			}
			name := "'" + inv.Where(c) + "'"
			inv.Warnings = slices.DeleteFunc(inv.Warnings, func(w string) bool { return strings.Contains(w, name) })
		}
	}
}
