package local

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// List searches the root tree, and covers the whole file system. Data that wait
// to be written are written out first if they belong to a snapshot whose
// identity that would change.
func (s *Store) List(ctx context.Context) (*snapshot.Inventory, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all := s.fs.Subvolumes
	if s.denied != nil {
		all = func() ([]btrfs.Subvolume, error) { return btrfs.Below(s.dir) }
	}
	subvolumes, err := all()
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", s.path, err)
	}
	if slices.ContainsFunc(subvolumes, unsettled) {
		if err := btrfs.Sync(s.dir); err != nil {
			return nil, fmt.Errorf("listing %s: %w", s.path, err)
		}
		if subvolumes, err = all(); err != nil {
			return nil, fmt.Errorf("listing %s: %w", s.path, err)
		}
	}
	if s.denied != nil {
		return s.listReachable(subvolumes)
	}
	mounts, err := s.fs.Mounts()
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", s.path, err)
	}
	if err := s.locate(); err != nil {
		return nil, fmt.Errorf("listing %s: %w", s.path, err)
	}
	usage, _, err := s.fs.Quota()
	if err != nil {
		s.opt.Log.Warn("sizes of the quota groups cannot be read", "store", s.path, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inv := s.inventory(subvolumes, s.prefix, s.fs.LinuxPaths(outside(subvolumes, s.prefix), mounts), usage, s.checkpoints(subvolumes, s.prefix))
	s.know(inv)
	return inv, nil
}

// listReachable makes the inventory of who cannot look around: nothing outside of
// the directory but the lineage of the origin, no sizes, and paths that are from
// the directory.
func (s *Store) listReachable(subvolumes []btrfs.Subvolume) (*snapshot.Inventory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inv := s.inventory(subvolumes, "", nil, nil, s.checkpoints(subvolumes, ""))
	if s.origin != nil {
		origin, err := s.originInfo()
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", s.path, err)
		}
		if !origin.ParentUUID.IsZero() {
			inv.Lineage[snapshot.ID(origin.UUID)] = snapshot.ID(origin.ParentUUID)
			inv.Born[snapshot.ID(origin.UUID)] = origin.Otransid
		}
	}
	s.know(inv)
	return inv, nil
}

// know remembers what was listed. It wants the lock.
func (s *Store) know(inv *snapshot.Inventory) {
	s.known = make(map[snapshot.ID]*snapshot.Snapshot, len(inv.Snapshots))
	kept := slices.Clone(inv.Snapshots) // the caller may change its own
	for i := range kept {
		s.known[kept[i].ID] = &kept[i]
	}
}

// outside returns the subvolumes that are not below a directory.
func outside(subvolumes []btrfs.Subvolume, dir string) []btrfs.Subvolume {
	var out []btrfs.Subvolume
	for i := range subvolumes {
		if _, inside := below(subvolumes[i].Path, dir); !inside {
			out = append(out, subvolumes[i])
		}
	}
	return out
}

// unsettled reports whether a subvolume was made read-only after it was changed,
// so that it may have data in memory still. Writing these out, as a send does,
// raises the transaction number that is part of its identity.
func unsettled(sub btrfs.Subvolume) bool {
	return sub.ReadOnly && !sub.Deleted && sub.ReceivedUUID.IsZero() && sub.Ctransid > sub.Otransid
}

// inventory sorts out what the kernel has listed.
func (s *Store) inventory(subvolumes []btrfs.Subvolume, prefix string, paths map[uint64][]string, usage map[uint64]btrfs.Usage, checkpoints map[uint64]string) *snapshot.Inventory {
	inv := &snapshot.Inventory{
		Dir:      s.path,
		Occupied: make(map[string]string, len(subvolumes)),
		Lineage:  make(map[snapshot.ID]snapshot.ID, len(subvolumes)),
		Born:     make(map[snapshot.ID]uint64, len(subvolumes)),
	}
	// A snapshot is large to move about, so each is sorted by its place.
	found := make([]snapshot.Snapshot, 0, len(subvolumes))
	byID := make(map[snapshot.ID]int, len(subvolumes))
	for i := range subvolumes {
		sub := &subvolumes[i]
		if !sub.UUID.IsZero() && !sub.ParentUUID.IsZero() {
			inv.Lineage[snapshot.ID(sub.UUID)] = snapshot.ID(sub.ParentUUID)
			inv.Born[snapshot.ID(sub.UUID)] = sub.Otransid
		}
		rel, inside := below(sub.Path, prefix)
		if sub.Deleted || sub.Path == "" || sub.Path == prefix {
			continue
		}
		why, isCheckpoint := checkpoints[sub.ID]
		if inside && isForeignPart(sub, rel) && !isCheckpoint {
			inv.Warnings = append(inv.Warnings, fmt.Sprintf("'%s' is read-only, but is called like an unfinished receive: it is not taken for a snapshot", path.Join(inv.Dir, rel)))
		}
		if inside {
			if part := unfinished(sub, rel); isCheckpoint {
				inv.Partials = append(inv.Partials, snapshot.Partial{Path: rel, Ours: true, Why: why})
			} else if part != nil {
				inv.Partials = append(inv.Partials, *part)
			}
			if !snapshot.IsPart(rel) {
				inv.Occupied[rel] = describe(sub)
			}
			for dir, _ := dirOf(rel); dir != "."; dir, _ = dirOf(dir) {
				if inv.Occupied[dir] == "" {
					inv.Occupied[dir] = "a directory"
				}
			}
		}
		if !sub.ReadOnly || snapshot.IsPart(sub.Path) || identity(sub).IsZero() {
			continue
		}
		snap := values(sub)
		snap.Path, snap.Outside = rel, !inside
		if !inside {
			snap.Path = visible(sub, paths[sub.ID])
		}
		if u, ok := usage[sub.ID]; ok {
			snap.Size, snap.Exclusive = snapshot.ExactSize(int64(u.Referenced)), snapshot.ExactSize(int64(u.Exclusive))
		}
		if at, ok := byID[snap.ID]; ok {
			other := found[at]
			better, worse := snap, other
			if prefer(other, snap) {
				better, worse = other, snap
			}
			copies := other.Copies
			better.Copies, worse.Copies = nil, nil
			// A copy outside is nothing unusual: it may be ours (Copy). One that
			// may be something else under the same name is worth a word.
			if !worse.Outside || !better.Outside && worse.Trust > better.Trust {
				inv.Warnings = append(inv.Warnings, fmt.Sprintf("Duplicate effective uuid %s in '%s' and '%s'", snap.ID, inv.Where(better), inv.Where(worse)))
			}
			snap = better
			snap.Copies = append(copies, worse)
			found[at] = snap
			continue
		}
		byID[snap.ID] = len(found)
		found = append(found, snap)
	}
	inv.Snapshots = sorted(found)
	slices.SortFunc(inv.Partials, func(a, b snapshot.Partial) int { return strings.Compare(a.Path, b.Path) })
	return inv
}

// sorted returns snapshots in the order of their paths.
func sorted(found []snapshot.Snapshot) []snapshot.Snapshot {
	order := make([]int, len(found))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := &found[i], &found[j]
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	inOrder := make([]snapshot.Snapshot, len(found))
	for i, at := range order {
		inOrder[i] = found[at]
	}
	return inOrder
}

// below returns a path relative to a directory that it is below of, both from
// the top level.
func below(path, dir string) (string, bool) {
	if dir == "" {
		return path, path != ""
	}
	return strings.CutPrefix(path, dir+"/")
}

// identity is the effective UUID: the received one, else the subvolume's own.
func identity(sub *btrfs.Subvolume) snapshot.ID {
	if !sub.ReceivedUUID.IsZero() {
		return snapshot.ID(sub.ReceivedUUID)
	}
	return snapshot.ID(sub.UUID)
}

// values carries the kernel's fields over, all but the path.
func values(sub *btrfs.Subvolume) snapshot.Snapshot {
	snap := snapshot.Snapshot{
		ID: identity(sub), UUID: snapshot.ID(sub.UUID), Parent: snapshot.ID(sub.ParentUUID),
		Received: !sub.ReceivedUUID.IsZero(), Transid: sub.Ctransid, Generation: sub.Ctransid,
		Pristine: sub.Ctransid <= sub.Otransid, Created: sub.Otime, Handle: sub.ID,
	}
	if snap.Received {
		snap.Transid = sub.Stransid
		if sub.Ctransid > sub.Rtransid {
			snap.Trust = snapshot.Doubtful
		}
	}
	return snap
}

// visible is the path of a subvolume outside of the directory: one at which
// Linux shows it, else the one from the top level.
func visible(sub *btrfs.Subvolume, paths []string) string {
	if len(paths) > 0 {
		return paths[0]
	}
	return "<top level>/" + sub.Path
}

// prefer reports whether a is the better of two copies of one snapshot: inside
// of the directory, provably untouched, then the newer.
func prefer(a, b snapshot.Snapshot) bool {
	if a.Outside != b.Outside {
		return !a.Outside
	}
	if a.Trust != b.Trust {
		return a.Trust < b.Trust
	}
	if a.Generation != b.Generation {
		return a.Generation > b.Generation
	}
	return a.Path <= b.Path
}

// unfinished says what a subvolume inside of the directory is, if it is not a
// snapshot. Only what its name marks is ours to remove: a writable subvolume
// without a received UUID is what an interrupted btrfs receive leaves, and also
// what anyone works in.
func unfinished(sub *btrfs.Subvolume, rel string) *snapshot.Partial {
	switch {
	case isForeignPart(sub, rel):
		return &snapshot.Partial{Path: rel, Why: "read-only, without a received UUID: a snapshot that is called like an unfinished receive"}
	case snapshot.IsPart(rel):
		return &snapshot.Partial{Path: rel, Ours: true, Why: "its name says that a receive has not been finished"}
	case sub.ReadOnly:
		return nil
	case !sub.ReceivedUUID.IsZero():
		return &snapshot.Partial{Path: rel, Why: "writable, with a received UUID: a receive that ended before its last step, or a snapshot that was made writable"}
	default:
		return &snapshot.Partial{Path: rel, Why: "writable, without a received UUID: a subvolume in use, or what an interrupted btrfs receive left"}
	}
}

// isForeignPart reports whether a subvolume has the name of an unfinished
// receive, but is a snapshot. Only checkpoints of ours are such.
func isForeignPart(sub *btrfs.Subvolume, rel string) bool {
	return snapshot.IsPart(rel) && sub.ReadOnly && sub.ReceivedUUID.IsZero()
}

// checkpoints says, by number, of those subvolumes in the directory that are
// checkpoints of interrupted transfers what people may want to know about them.
func (s *Store) checkpoints(subvolumes []btrfs.Subvolume, prefix string) map[uint64]string {
	found := map[uint64]string{}
	for i := range subvolumes {
		sub := &subvolumes[i]
		rel, inside := below(sub.Path, prefix)
		if !inside || sub.Deleted || !isForeignPart(sub, rel) {
			continue
		}
		root, err := s.openSubvolume(snapshot.Snapshot{Handle: sub.ID, Path: rel})
		if err != nil {
			continue // gone, or not to be told from somebody's snapshot
		}
		dir, name := dirOf(rel)
		switch c, err := replay.ReadCheckpoint(root, name); {
		case err == nil:
			found[sub.ID] = fmt.Sprintf("an interrupted transfer of %s can be carried on from %d bytes", path.Join(dir, c.Name), c.Mark.Offset)
		case !errors.Is(err, replay.ErrNoCheckpoint):
			found[sub.ID] = "from an interrupted transfer that cannot be carried on from here: " + err.Error()
		}
		_ = root.Close()
	}
	return found
}

// describe says what stands at a path.
func describe(sub *btrfs.Subvolume) string {
	switch {
	case !sub.ReadOnly && sub.ReceivedUUID.IsZero():
		return "a writable subvolume without a received UUID (in use, or left by an interrupted btrfs receive)"
	case !sub.ReadOnly:
		return "a writable subvolume"
	default:
		return "a snapshot with another identity, " + identity(sub).String()
	}
}

// dirOf splits a snapshot's path into the directory that it is in and its name.
func dirOf(p string) (dir, name string) { return path.Dir(p), path.Base(p) }
