// Package plan decides what to do about two inventories: which snapshots to
// send, in which order, and each from which parent. It is pure: the same
// inventories and wishes give the same plan, and nothing is looked up, timed or
// printed here.
//
// # The model
//
// A wanted snapshot that the destination lacks becomes one [Step]. It is an
// increment from the nearest suitable parent, and a full stream where there is
// none. A parent is suitable when
//
//   - it is of the same family on the source: made from the same subvolume, or
//     one was made from the other, directly or through others, received copies
//     included. Snapshots that merely share a directory are never parents;
//   - the destination holds it, or will after an earlier step;
//   - on both sides it is still what its identity promises: snapshot.Trust, and
//     for one that is a side's own, nothing changed since it was made, or the
//     transaction number that the other side knows.
//
// What the destination has is kept under the same condition; else it is a
// [Problem].
//
// Nearest is counted first in steps of "was made from" (two between siblings, and
// between a snapshot and one of what was restored from it), then in
// generations. Snapshots newer than what the destination has of
// the family follow in ascending order, older ones in descending order, so that
// each can start from its neighbour.
package plan

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// Action is what a step does.
type Action string

const (
	// Send carries a stream from the source to the destination.
	Send Action = "send"
	// Copy makes a snapshot at the destination from the one that its file
	// system holds outside of the destination's directory.
	Copy Action = "copy"
)

// Step is one thing to do.
type Step struct {
	Action Action
	Edge   snapshot.Edge
	// Snapshot and Parent are the two ends of the edge as the source holds
	// them. Parent is zero for a full stream.
	Snapshot, Parent snapshot.Snapshot
	// Clones are further snapshots that both sides hold when the step's turn has
	// come, as the source holds them; the stream may refer to data in them.
	Clones []snapshot.Snapshot
	// Path is where the snapshot goes, relative to the destination's directory.
	Path string
	// Size is the expected length of the stream. Sync leaves it unknown.
	Size snapshot.Size
	// Reason says, for people, why this step is as it is.
	Reason string
}

// Problem is a wanted snapshot for which there is no step.
type Problem struct {
	Snapshot snapshot.Snapshot // as the source holds it
	Path     string            // relative to the destination's directory
	Why      string            // for people
	// Conflict is set where the destination has something else in the way.
	Conflict bool
}

// Plan is what Sync decides.
type Plan struct {
	Steps []Step
	// Keep are the wanted snapshots that the destination has already, as it holds
	// them.
	Keep     []snapshot.Snapshot
	Problems []Problem
	// Remove is what goes from the destination after every step has succeeded.
	Remove []snapshot.Snapshot
}

// Total returns the sum of the sizes of the steps that send, as far as they are
// known.
func (p *Plan) Total() snapshot.Size {
	t := snapshot.Size{Known: true, Exact: true}
	for _, s := range p.Steps {
		if s.Action != Send {
			continue
		}
		t.Bytes += s.Size.Bytes
		t.Known = t.Known && s.Size.Known
		t.Exact = t.Exact && s.Size.Known && s.Size.Exact
	}
	return t
}

// Wish says what is wanted.
type Wish struct {
	// Want are the snapshots of the source that the destination shall hold.
	Want []snapshot.ID
	// Delete asks for the removal of every snapshot in the destination's
	// directory that the source's directory does not hold, wanted or not.
	Delete bool
	// MaxChain is how many streams a chain at the destination may have, where it
	// is an archive; 0 is no limit.
	MaxChain int
	// Known are snapshots that cannot be had, for a reason that an earlier
	// attempt has shown. They are neither sent nor forgotten.
	Known map[snapshot.ID]Problem
}

// Sizes answers how long the stream of an edge is, or is likely to be; where
// the Size is not Known, the plan makes do with what the inventories say.
type Sizes func(snapshot.Edge) snapshot.Size

// Sync plans how dst comes to hold what is wished of src.
func Sync(src, dst *snapshot.Inventory, w Wish, sizes Sizes) *Plan {
	p := &Plan{}
	fam := newFamilies(src)
	s := sync{src: src, dst: dst, fam: fam, have: map[int][]snapshot.Snapshot{}}

	for _, there := range dst.Snapshots {
		if here, ok := src.Find(there.ID); ok && s.why(here, there) == "" {
			f := fam.of(here.UUID)
			s.have[f] = append(s.have[f], here)
		}
	}

	missing := map[int][]snapshot.Snapshot{}
	var order []int // of families, as their first snapshots are wished for
	for _, id := range w.Want {
		want, ok := src.Find(id)
		if !ok {
			continue
		}
		if known, ok := w.Known[id]; ok {
			p.Problems = append(p.Problems, known)
			continue
		}
		if want.Trust == snapshot.Touched {
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: want.Path, Why: "it was made writable and changed after it was received, so it is not the snapshot that its UUID names; make a new snapshot of it and remove this one"})
			continue
		}
		there, held := dst.Find(id)
		differs := ""
		if held {
			differs = s.why(want, there)
		}
		if above, ok := s.above(want, w.Want); ok {
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: want.Path, Conflict: true, Why: fmt.Sprintf("it lies in the snapshot %s, in which nothing can be made; sync it by itself", above)})
			continue
		}
		switch taken := dst.Occupied[want.Path]; {
		case held && !there.Outside && differs != "":
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: there.Path, Conflict: true, Why: fmt.Sprintf("the destination has it, but it %s; remove one of the two", differs)})
		case held && !there.Outside:
			p.Keep = append(p.Keep, there)
		case taken != "":
			p.Problems = append(p.Problems, Problem{Snapshot: want, Path: want.Path, Why: "its place is taken by " + taken, Conflict: true})
		case held && differs == "":
			p.Steps = append(p.Steps, Step{
				Action: Copy, Edge: snapshot.Edge{To: id}, Snapshot: want, Path: want.Path, Size: snapshot.ExactSize(0),
				Reason: fmt.Sprintf("the destination's file system has it already, at %s", there.Path),
			})
		default:
			f := fam.of(want.UUID)
			if missing[f] == nil {
				order = append(order, f)
			}
			missing[f] = append(missing[f], want)
		}
	}
	// What was wanted when it failed, and is not there any more.
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(w.Known)), func(id snapshot.ID) bool {
		_, there := src.Find(id)
		return there && slices.Contains(w.Want, id)
	})
	slices.SortFunc(gone, func(a, b snapshot.ID) int { return cmp.Compare(w.Known[a].Path, w.Known[b].Path) })
	for _, id := range gone {
		p.Problems = append(p.Problems, w.Known[id])
	}
	for _, f := range order {
		p.Steps = append(p.Steps, s.family(f, missing[f])...)
	}
	if w.Delete {
		p.Remove = removals(src, dst)
	}
	return p
}

// above returns the path of a wanted snapshot in which another one lies, unless
// the destination has that one already.
func (s *sync) above(want snapshot.Snapshot, wanted []snapshot.ID) (string, bool) {
	if there, ok := s.dst.Find(want.ID); ok && !there.Outside {
		return "", false
	}
	if s.wanted == nil {
		s.wanted = map[string]bool{}
		for _, id := range wanted {
			if snap, ok := s.src.Find(id); ok {
				s.wanted[snap.Path] = true
			}
		}
	}
	for dir := path.Dir(want.Path); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if s.wanted[dir] {
			return dir, true
		}
	}
	return "", false
}

// Candidates returns the edges of which Sync would choose, as far as sizes can
// make a difference to it, best guess first.
func Candidates(src, dst *snapshot.Inventory, w Wish) []snapshot.Edge { return nil }

// removals lists what the destination's directory holds and the source's does
// not, every copy of it.
func removals(src, dst *snapshot.Inventory) []snapshot.Snapshot {
	var gone []snapshot.Snapshot
	for _, there := range dst.Inside() {
		if here, ok := src.Find(there.ID); ok && !here.Outside {
			continue
		}
		for _, s := range append([]snapshot.Snapshot{there}, there.Copies...) {
			if !s.Outside {
				s.Copies = nil
				gone = append(gone, s)
			}
		}
	}
	return gone
}

// sync is the state of one planning.
type sync struct {
	src, dst *snapshot.Inventory
	fam      *families
	// have holds, for each family, the source's snapshots from which an
	// increment can start at this point of the plan.
	have map[int][]snapshot.Snapshot
	// wanted has the paths of what is wanted, once above has been asked.
	wanted map[string]bool
}

// why says why a snapshot that both sides hold is not the same on both, or
// nothing if it is.
func (s *sync) why(here, there snapshot.Snapshot) string {
	switch {
	case here.Trust == snapshot.Touched:
		return "has been changed on the source since it was received there"
	case there.Trust == snapshot.Touched:
		return "has been changed at the destination since it was received"
	case !here.Received && !here.Pristine && here.Transid != there.Transid:
		return "has been changed on the source since it was sent"
	case !there.Received && !there.Pristine && here.Transid != there.Transid:
		return "has been changed at the destination since it was sent from there"
	}
	return ""
}

// family plans all missing snapshots of one family.
func (s *sync) family(f int, missing []snapshot.Snapshot) []Step {
	scale := s.scale(f)
	older := scale.older
	slices.SortFunc(missing, older)
	// Snapshots older than all that is there go last, the youngest first, so
	// that each has its neighbour to start from.
	split := 0
	if have := s.have[f]; len(have) > 0 {
		first := slices.MinFunc(have, older)
		for split < len(missing) && older(missing[split], first) < 0 {
			split++
		}
	}
	before := slices.Clone(missing[:split])
	slices.Reverse(before)

	var steps []Step
	for _, want := range append(slices.Clone(missing[split:]), before...) {
		step := Step{Action: Send, Snapshot: want, Path: want.Path, Edge: snapshot.Edge{To: want.ID}}
		if parent, ok := scale.nearest(want, s.have[f]); ok {
			step.Parent, step.Edge.From = parent, parent.ID
			step.Reason = fmt.Sprintf("increment from %s, the nearest of its family that the destination has by then", parent.Path)
		} else {
			step.Reason = s.whyFull(f)
		}
		steps = append(steps, step)
		s.have[f] = append(s.have[f], want)
	}
	return steps
}

// whyFull explains why nothing of a family can serve as a parent.
func (s *sync) whyFull(f int) string {
	for _, there := range s.dst.Snapshots {
		here, ok := s.src.Find(there.ID)
		if !ok || s.fam.of(here.UUID) != f {
			continue
		}
		if why := s.why(here, there); why != "" {
			return fmt.Sprintf("full: %s %s", there.Path, why)
		}
	}
	return "full: the destination has no snapshot of its family that the source has too"
}

// scale tells how to count generations in one family. Where all of it came with
// streams, the numbers of the file system that it came from tell more than those
// of the one that holds the copies, which may have arrived in any order.
type scale struct {
	origin bool
	fam    *families
}

func (s *sync) scale(f int) scale {
	for _, snap := range s.src.Snapshots {
		if s.fam.of(snap.UUID) == f && (!snap.Received || snap.Transid == 0) {
			return scale{fam: s.fam}
		}
	}
	return scale{origin: true, fam: s.fam}
}

func (c scale) generation(s snapshot.Snapshot) uint64 {
	if c.origin {
		return s.Transid
	}
	return s.Generation
}

// nearest picks the parent for want.
func (c scale) nearest(want snapshot.Snapshot, have []snapshot.Snapshot) (snapshot.Snapshot, bool) {
	if len(have) == 0 {
		return snapshot.Snapshot{}, false
	}
	return slices.MinFunc(have, func(a, b snapshot.Snapshot) int {
		return cmp.Or(
			cmp.Compare(c.fam.hops(want.UUID, a.UUID), c.fam.hops(want.UUID, b.UUID)),
			cmp.Compare(c.distance(want, a), c.distance(want, b)),
			c.older(a, b),
		)
	}), true
}

// older orders snapshots of one family by the time of their content.
func (c scale) older(a, b snapshot.Snapshot) int {
	return cmp.Or(
		cmp.Compare(c.generation(a), c.generation(b)),
		a.Created.Compare(b.Created),
		cmp.Compare(a.Path, b.Path),
		slices.Compare(a.ID[:], b.ID[:]),
	)
}

// distance counts the generations between two snapshots.
func (c scale) distance(a, b snapshot.Snapshot) uint64 {
	x, y := c.generation(a), c.generation(b)
	return max(x, y) - min(x, y)
}
