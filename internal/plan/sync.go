package plan

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// sync is the state of one planning.
type sync struct {
	src, dst *snapshot.Inventory
	w        Wish
	sizes    Sizes
	kin      *kinship
	// there has what increments can start from before anything is done, and
	// chains what leads to it at an archive.
	there  map[snapshot.ID]bool
	chains map[snapshot.ID]chain
	// holds are the edges of a destination that is an archive.
	holds map[snapshot.Edge]bool
	wants map[snapshot.ID]bool
	// linear is set where Wish.Linear is heeded.
	linear bool
	// wanted has the paths of what is wanted, dirs all directories on the way to
	// them, and taken the paths of all that the source has.
	wanted, dirs, taken map[string]bool
}

func newSync(src, dst *snapshot.Inventory, w Wish, sizes Sizes) *sync {
	s := &sync{
		src: src, dst: dst, w: w, sizes: sizes,
		there: map[snapshot.ID]bool{}, chains: map[snapshot.ID]chain{},
		holds: map[snapshot.Edge]bool{}, wants: map[snapshot.ID]bool{},
		wanted: map[string]bool{}, dirs: map[string]bool{}, taken: map[string]bool{},
		linear: w.Linear && dst.Archive && !src.Archive,
	}
	if dst.Archive {
		s.chains = chainsOf(dst)
		for _, e := range dst.Edges {
			s.holds[e.Edge] = true
		}
	}
	var strangers []snapshot.Snapshot
	for _, there := range dst.Snapshots {
		if !s.whole(there.ID) {
			continue
		}
		here, ok := src.Find(there.ID)
		switch {
		case ok && s.why(here, there) == "":
			s.there[there.ID] = true
		case !ok && src.Archive && there.Trust != snapshot.Touched && (dst.Archive || there.Received || there.Pristine):
			// Streams that an archive keeps may start from what it does not have.
			s.there[there.ID] = true
			strangers = append(strangers, there)
		}
	}
	s.kin = newKinship(src, strangers)
	for _, snap := range src.Snapshots {
		if !snap.Outside {
			s.taken[snap.Path] = true
		}
	}
	for _, id := range w.Want {
		s.wants[id] = true
		if snap, ok := src.Find(id); ok {
			s.wanted[snap.Path] = true
			for dir := path.Dir(snap.Path); dir != "." && dir != "/"; dir = path.Dir(dir) {
				s.dirs[dir] = true
			}
		}
	}
	return s
}

// whole reports whether the destination can give back a snapshot of its list.
func (s *sync) whole(id snapshot.ID) bool {
	_, ok := s.chains[id]
	return ok || !s.dst.Archive
}

// size asks for the size of an edge.
func (s *sync) size(e snapshot.Edge) snapshot.Size {
	if s.sizes == nil {
		return snapshot.Size{}
	}
	return s.sizes(e)
}

// sort puts every wanted snapshot where it belongs: what is kept, what is
// copied, what is a problem, and what is missing.
func (s *sync) sort() (p *Plan, missing []snapshot.Snapshot) {
	p = &Plan{}
	seen := map[snapshot.ID]bool{}
	for _, id := range s.w.Want {
		want, ok := s.src.Find(id)
		if !ok || seen[id] {
			continue
		}
		seen[id] = true
		if known, ok := s.w.Known[id]; ok {
			p.Problems = append(p.Problems, known)
			continue
		}
		if want.Trust == snapshot.Touched {
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: want.Path, Why: "it was made writable and changed after it was received, so it is not the snapshot that its UUID names; make a new snapshot of it and remove this one"})
			continue
		}
		there, held := s.dst.Find(id)
		held = held && s.whole(id)
		differs := ""
		if held {
			differs = s.why(want, there)
		}
		if above, ok := s.above(want); ok {
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: want.Path, Conflict: true, Why: fmt.Sprintf("it lies in the snapshot %s, in which nothing can be made; sync it by itself", above)})
			continue
		}
		switch taken := s.dst.Occupied[want.Path]; {
		case held && !there.Outside && differs != "":
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: there.Path, Conflict: true, Why: fmt.Sprintf("the destination has it, but it %s; remove one of the two", differs)})
		case held && !there.Outside:
			p.Keep = append(p.Keep, there)
		case taken != "":
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: want.Path, Why: "its place is " + takenBy(taken), Conflict: true})
		case held && differs == "":
			p.Steps = append(p.Steps, Step{
				Action: Copy, Edge: snapshot.Edge{To: id}, Snapshot: want, Path: want.Path, Size: snapshot.ExactSize(0),
				Reason: fmt.Sprintf("the destination's file system has it already, at %s", there.Path),
			})
		default:
			missing = append(missing, want)
		}
	}
	// What was wanted when it failed, and is not there any more.
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(s.w.Known)), func(id snapshot.ID) bool { return seen[id] })
	slices.SortFunc(gone, func(a, b snapshot.ID) int {
		return cmp.Or(cmp.Compare(s.w.Known[a].Path, s.w.Known[b].Path), slices.Compare(a[:], b[:]))
	})
	for _, id := range gone {
		p.Problems = append(p.Problems, s.w.Known[id])
	}
	return p, missing
}

// above returns the path of a wanted snapshot in which another one lies, unless
// the destination has that one already. An archive has no snapshots in
// snapshots.
func (s *sync) above(want snapshot.Snapshot) (string, bool) {
	if there, ok := s.dst.Find(want.ID); ok && !there.Outside || s.dst.Archive {
		return "", false
	}
	for dir := path.Dir(want.Path); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if s.wanted[dir] {
			return dir, true
		}
	}
	return "", false
}

// passable reports whether a snapshot that is not wanted may be sent all the
// same, because others start from it. It goes to its own place.
func (s *sync) passable(snap snapshot.Snapshot) bool {
	if _, failed := s.w.Known[snap.ID]; failed || snap.Outside && !s.src.Archive || snap.Trust == snapshot.Touched || s.wants[snap.ID] || s.w.Never[snap.ID] {
		return false
	}
	place := s.place(snap)
	if _, held := s.dst.Find(snap.ID); held && s.whole(snap.ID) || s.dst.Occupied[place] != "" {
		return false
	}
	if s.dst.Archive {
		return true
	}
	for dir := path.Dir(place); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if s.taken[dir] {
			return false
		}
	}
	return !s.dirs[place] && !s.wanted[place]
}

// place is the path of a snapshot at the destination: that of the source. What an
// archive has outside of its prefix, and something in it starts from, goes below
// the destination too, at its path in the whole bucket.
func (s *sync) place(snap snapshot.Snapshot) string {
	if snap.Outside && s.src.Archive {
		return strings.TrimPrefix(path.Clean(snap.Path), "/")
	}
	return snap.Path
}

// why says why a snapshot that both sides hold is not the same on both, or
// nothing if it is. An archive that does not know transaction numbers knows a
// snapshot by its identity alone.
func (s *sync) why(here, there snapshot.Snapshot) string {
	other := here.Transid != there.Transid
	if s.src.Archive && here.Transid == 0 || s.dst.Archive && there.Transid == 0 {
		other = false
	}
	switch {
	case here.Trust == snapshot.Touched:
		return "has been changed on the source since it was received there"
	case there.Trust == snapshot.Touched:
		return "has been changed at the destination since it was received"
	case !here.Received && !here.Pristine && other:
		return "has been changed on the source since it was sent"
	case !there.Received && !there.Pristine && other:
		return "has been changed at the destination since it was sent from there"
	}
	return ""
}

// removals returns what the destination has in its directory and the source does
// not, every copy of it. From an archive nothing goes from which something else
// is still made.
func (s *sync) removals(p *Plan, needed func(snapshot.ID) bool) []snapshot.Snapshot {
	var gone []snapshot.Snapshot
	for _, there := range s.dst.Inside() {
		if here, ok := s.src.Find(there.ID); ok && !here.Outside || s.dst.Archive && needed(there.ID) {
			continue
		}
		for _, snap := range append([]snapshot.Snapshot{there}, there.Copies...) {
			if !snap.Outside {
				snap.Copies = nil
				gone = append(gone, snap)
			}
		}
	}
	return gone
}
