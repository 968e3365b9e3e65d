// Package job has the verbs of the program: what a front door calls once it
// knows which stores it is about. Every verb is the same walk: list, plan,
// transfer, retain.
//
// It knows stores only by their contract, and neither command lines nor
// configuration. It prints nothing: what happens goes to the functions in the
// options, from the goroutine that called the verb; those of Backup from several,
// one at a time.
//
// # Invariants
//
//   - A dry run takes no lock, and writes nothing, neither to a store nor to the
//     ledger.
//   - Sync removes nothing in a run in which anything has failed. Backup removes
//     nothing at a destination at which anything has, and at the source nothing
//     that a destination needs.
//   - A verb returns nil only if all that was asked for is done.
//
// Memory is that of two inventories, of their plan with the sizes of the edges
// considered, and of the streams on their way (package transfer), eight of them
// unless told otherwise.
//
//	report, err := engine.Sync(ctx, src, dst, job.SyncOptions{Delete: true})
package job

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Engine is what all verbs share.
type Engine struct {
	// Ledger remembers sizes and receipts. It may be nil.
	Ledger *ledger.Ledger
	// Log gets warnings and details; nil is silence.
	Log *slog.Logger
	// Prices are what estimates of costs are made with; nil is bill.Default.
	Prices *bill.Table
	// Now is the clock by which snapshots are named and their age is told; nil is
	// the system's.
	Now func() time.Time
}

func (e *Engine) now() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}

// Selection says which snapshots of a store are meant.
type Selection struct {
	// Name selects paths that end in this element, at any depth. Empty selects
	// all.
	Name string
	// Exclude drops a path if an expression matches at its start.
	Exclude []*regexp.Regexp
}

// NoSnapshotsError says that a selection is empty.
type NoSnapshotsError struct {
	Store string
	// Named is set if one snapshot was asked for by its name.
	Named bool
	// There is what the store has at the path of that name, if anything.
	There string
}

func (e *NoSnapshotsError) Error() string { return "No snapshots in source" }

// SamePlaceError says that the source and the destination are one directory.
type SamePlaceError struct{ Place string }

func (e *SamePlaceError) Error() string {
	return fmt.Sprintf("the source and the destination are the same place, %s", e.Place)
}

// UnableError says that a store cannot do what a verb needs.
type UnableError struct{ Store, Verb string }

func (e *UnableError) Error() string { return fmt.Sprintf("%s cannot %s", e.Store, e.Verb) }

// pick returns the snapshots inside of the store's directory that are meant, as
// the inventory and the store have them from then on, if also, unless it is nil,
// agrees: of a snapshot that is
// there several times, the first path that is meant is the one that counts, if
// the store can choose. Excluded counts those of which every path that has the
// name is excluded.
func (s Selection) pick(st store.Store, inv *snapshot.Inventory, also func(snapshot.Snapshot) bool) (picked []snapshot.Snapshot, excluded int, err error) {
	for _, snap := range inv.Inside() {
		named := false
		meant := slices.IndexFunc(copies(snap), func(c snapshot.Snapshot) bool {
			if also != nil && !also(c) {
				return false
			}
			if s.Name != "" && c.Name() != s.Name {
				return false
			}
			named = true
			return !s.excludes(c.Path)
		})
		switch {
		case meant >= 0:
			if meant > 0 {
				chosen := copies(snap)[meant].Path
				chooser, ok := st.(store.Chooser)
				if !ok {
					return nil, 0, &UnableError{Store: st.String(), Verb: fmt.Sprintf("tell %s from another copy of it", chosen)}
				}
				if err := chooser.Choose(snap.ID, chosen); err != nil {
					return nil, 0, err
				}
				inv.Prefer(snap.ID, chosen)
				snap, _ = inv.Find(snap.ID)
			}
			picked = append(picked, snap)
		case named:
			excluded++
		}
	}
	return picked, excluded, nil
}

// never returns the snapshots that an exclusion leaves out at every path that
// they have.
func (s Selection) never(inv *snapshot.Inventory, wanted map[snapshot.ID]bool) map[snapshot.ID]bool {
	all := map[snapshot.ID]bool{}
	if len(s.Exclude) == 0 {
		return all
	}
	for _, snap := range inv.Inside() {
		out := slices.IndexFunc(copies(snap), func(c snapshot.Snapshot) bool { return !s.excludes(c.Path) }) < 0
		if out && !wanted[snap.ID] {
			all[snap.ID] = true
		}
	}
	return all
}

// nothing is the error for a selection that is empty.
func (s Selection) nothing(st store.Store, inv *snapshot.Inventory) error {
	return &NoSnapshotsError{Store: st.String(), Named: s.Name != "", There: inv.Occupied[s.Name]}
}

// copies returns a snapshot and its copies inside of its store's directory.
func copies(snap snapshot.Snapshot) []snapshot.Snapshot {
	all := []snapshot.Snapshot{snap}
	for _, c := range snap.Copies {
		if !c.Outside {
			all = append(all, c)
		}
	}
	return all
}

func (s Selection) excludes(path string) bool {
	return slices.ContainsFunc(s.Exclude, func(re *regexp.Regexp) bool {
		at := re.FindStringIndex(path)
		return at != nil && at[0] == 0
	})
}

// list lists a store and passes on its warnings.
func (e *Engine) list(ctx context.Context, st store.Store) (*snapshot.Inventory, error) {
	inv, err := st.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range inv.Warnings {
		e.log().Warn(w)
	}
	return inv, nil
}

func (e *Engine) log() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

// referencedSize is the kind of size in the ledger that says how much data a
// snapshot refers to. The other kinds are the forms of streams.
const referencedSize = "referenced"

func (e *Engine) remember(edge snapshot.Edge, kind string, size snapshot.Size) {
	if e.Ledger == nil {
		return
	}
	if err := e.Ledger.RememberSize(edge, kind, size, e.now()); err != nil {
		e.log().Warn("remembering a size", "error", err)
	}
}
