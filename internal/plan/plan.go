// Package plan decides what to do about two inventories: which snapshots to
// send, in which order, and each from which parent. It is pure: the same
// inventories, wishes and sizes give the same plan, and nothing is looked up,
// timed or printed here. It looks at no stream and knows no store.
//
//	for _, e := range plan.Candidates(src, dst, wish) { measure(e) }
//	p := plan.Sync(src, dst, wish, measured)
//
// # The model
//
// A plan is a choice of edges in a graph. Its nodes are nothing, and the
// snapshots of the source; an edge is a stream, full (from nothing) or from one
// snapshot to another. What the destination holds is there from the start, inside
// of its directory or outside; what is chosen has to lead from there, or from
// nothing, to everything that is wanted. An edge costs
//
//   - 1 for every byte that is sent;
//   - 1/16 for every byte that is stored and would not have to be anyway: all of
//     them at an archive (snapshot.Inventory.Archive), those of a snapshot that
//     is not wanted at a live destination;
//   - at an archive, for the risk that its chain breaks, the bytes of the whole
//     chain from its full stream on, times 2^(n-6) for a chain of n streams. A
//     live destination carries out every stream and holds the result, so there
//     chains break nothing and cost nothing.
//
// With Wish.Linear the last of these is left out: how long a chain gets is what
// the wish says, and a snapshot lengthens the one that ends in its nearest older
// relative, as long as that may be and is not dearer than a full stream. There are
// no intermediates then. Nobody starts from what is in the middle of a chain, but
// for those that were left out when it was made, so chains can go as a whole.
//
// What an archive holds costs nothing. Wish.MaxChain and Wish.MaxRestore are never
// exceeded by what is added to an archive.
//
// An archive has a snapshot only if whole chains of its streams lead to it; if
// one lacks something in the middle, sending that makes it whole again. As a
// source it gives back its streams and no others.
//
// # Parents
//
// A live source can make the stream of any edge. Considered are edges from a
// snapshot that
//
//   - is of the same family on the source: made from the same subvolume, or
//     one was made from the other, directly or through others, received copies
//     included. Snapshots that merely share a directory are never parents;
//   - the destination holds, or will after an earlier step;
//   - on both sides is still what its identity promises: snapshot.Trust, and
//     for one that is a side's own, nothing changed since it was made, or the
//     transaction number that the other side knows.
//
// What the destination has is kept under the same condition; else it is a
// [Problem].
//
// Of those, the 4 nearest older and 3 nearest newer ones are candidates, and of
// what the destination has already the 2 nearest older ones and the nearest
// newer one; at an archive also two farther back that many others share, so that
// short chains can begin at one place. Nearest is counted first in steps of "was
// made from" (two between siblings, and between a snapshot and one of what was
// restored from it), then in generations. In a family of more than 48, relatives
// are sought along these steps with a bounded number of looks, so that a far one
// may be missed.
//
// A snapshot that is not wanted is sent as an intermediate where that is cheaper,
// to its own relative path, if nothing is there and nothing wanted lies in it: of
// a live source one that is nearest to several wanted ones, when the sizes of its
// edges are known; of an archive any. One that lies outside of the source's
// directory is never sent; it is a parent only if the destination holds it.
//
// # Sizes
//
// Where the caller knows no size of an edge it is guessed from what the listing
// says, such that nearer parents come out shorter, and a full stream is never
// shorter than an increment. An estimate (snapshot.Size not Exact) is not believed
// where the snapshot has not developed out of the parent, as from a newer one to
// an older or between branches: estimates count what is younger than the parent.
//
// Where nothing is known at all about a live source and destination, the nearest
// of those that are there by then is the parent: snapshots newer than what the
// destination has of the family follow in ascending order, older ones in
// descending order, so that each can start from its neighbour. A full stream is
// taken in place of an increment only if it is known to be shorter than what is
// known of the increment, or for the sake of the chain.
//
// # How good a plan is
//
// Among the edges considered, and by the sizes reckoned with, a plan is the
// cheapest
//
//   - without intermediates at a live destination, for any number of snapshots;
//   - with intermediates there, if in each independent part up to 8 are wanted,
//     or up to 8 could be intermediates;
//   - at an archive, in parts of up to 6 snapshots, and in nearly all of up to 11;
//   - at an archive where chains are linear (Wish.Linear), if none is as long as
//     it may be.
//
// Finding the cheapest is NP-hard beyond. There, the best of several trees is
// improved step by step. One of them is what ButterSink's search by levels
// finds, so that no plan is dearer than that. Plan.Bound says what no plan can be
// cheaper than, found by raising a dual solution; it equals Plan.Cost where the
// plan is known to be the cheapest. The work is bounded by counting turns, not
// time: on every machine the same inventories give the same plan.
//
// # Order and clone sources
//
// A step comes after that of its parent. Steps of a family stand together, in
// the order of their content as far as that goes; who runs several at a time
// takes the first whose parents are done, and so comes to the next families.
// The clone sources of a step, at most [MaxClones], are of its family, and are
// either held by the destination from the start or ancestors of its parent in the
// plan: they add nothing to wait for. There are none at an archive, whose streams
// shall need nothing but their parent. A destination may take none but those that
// it has received (snapshot.Inventory.ReceivedClones).
//
// Memory is some 6 KiB for every snapshot that is missing.
package plan

import (
	"cmp"
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
	// Held is the parent as the destination holds it before the first step; zero for
	// a full stream, and where an earlier step makes the parent.
	Held snapshot.Snapshot
	// Clones are further snapshots that both sides hold when the step's turn has
	// come, as the source holds them; the stream may refer to data in them.
	// The nearest come first.
	Clones []snapshot.Snapshot
	// Path is where the snapshot goes, relative to the destination's directory.
	Path string
	// Size is the expected length of the stream, if the caller's Sizes knew it.
	Size snapshot.Size
	// Intermediate is set for a snapshot that is not wanted, but from which others
	// start.
	Intermediate bool
	// Chain is how many streams an archive then needs to give the snapshot back;
	// 0 where the destination is none. Restore is how many bytes these have
	// together, as far as is known.
	Chain   int
	Restore int64
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

	// Cost is the cost of the steps, in bytes, and Bound what no choice of the
	// edges considered can be below; they are equal where the plan is known to be
	// the cheapest. Where sizes had to be guessed, both rest on guesses.
	Cost, Bound int64
	// Guessed counts the steps whose sizes were guessed.
	Guessed int
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
	// Never are snapshots that are not sent even where others could start from
	// them.
	Never map[snapshot.ID]bool
	// Full are wanted snapshots that are sent in full, without clone sources,
	// whatever they could start from. Those of a family come first, the newest
	// leading. Of an archive as the source they can be had only if it keeps them in
	// full.
	Full map[snapshot.ID]bool
	// Linear lets a snapshot of a live source start at an archive from nothing but
	// its nearest older relative there, so that a chain that is as long as it may be
	// (MaxChain, MaxRestore) is followed by a new one, and can be removed as a whole
	// one day. It changes nothing for other sources and destinations.
	Linear bool
	// MaxChain is how many streams a chain at the destination may have, where it
	// is an archive; 0 is no limit.
	MaxChain int
	// MaxRestore is how many bytes such a chain may have, by the sizes that are
	// known; 0 is no limit.
	MaxRestore int64
	// Known are snapshots that cannot be had, for a reason that an earlier
	// attempt has shown. They are neither sent nor forgotten.
	Known map[snapshot.ID]Problem
}

// Sizes answers how long the stream of an edge is, or is likely to be; where
// the Size is not Known, the plan makes do with what the inventories say.
type Sizes func(snapshot.Edge) snapshot.Size

// Sync plans how dst comes to hold what is wished of src. Every wanted snapshot
// that the source holds is in exactly one of Keep, Steps and Problems.
func Sync(src, dst *snapshot.Inventory, w Wish, sizes Sizes) *Plan {
	return decide(src, dst, w, sizes).plan
}

// Candidates returns the edges among which sizes can make a difference to what
// Sync decides, and the only candidate for a snapshot where there is but one, so
// that the length of its stream is known. The useful ones come first: the best
// guess for every snapshot and the full streams with which families begin, then
// the second best, and so on; then those of intermediates; last, for an archive,
// the other full streams, with which chains may be begun anew. Those from parents
// out of which the snapshot has not developed are left out, since no estimate of
// them is believed. Of a source that is an archive all sizes are known, so there
// are none.
func Candidates(src, dst *snapshot.Inventory, w Wish) []snapshot.Edge {
	if src.Archive {
		return nil
	}
	s := newSync(src, dst, w, nil)
	_, missing := s.sort()
	g := s.graph(missing)
	order := make([]int, 0, len(g.arcs))
	for i, a := range g.arcs {
		if a.round >= 0 && (a.from == 0 || s.kin.follows(g.nodes[a.to].relative, g.nodes[a.from].relative)) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(g.arcs[a].round, g.arcs[b].round) })
	edges := make([]snapshot.Edge, len(order))
	for k, i := range order {
		edges[k] = g.edge(g.arcs[i].from, g.arcs[i].to)
	}
	return edges
}
