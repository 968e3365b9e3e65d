// Package job has the verbs of the program: what a front door calls once it
// knows which stores it is about. Every verb is the same walk: list, plan,
// transfer, retain.
//
// It knows stores only by their contract, and neither command lines nor
// configuration. It prints nothing: what happens goes to the functions in the
// options, from the goroutine that called the verb.
//
// # Invariants
//
//   - A dry run takes no lock, and writes nothing, neither to a store nor to the
//     ledger.
//   - Nothing is removed in a run in which anything has failed.
//   - A verb returns nil only if all that was asked for is done.
//
// Memory is that of two inventories, their plan, and one transfer.
//
//	report, err := engine.Sync(ctx, src, dst, job.SyncOptions{Delete: true})
package job

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"regexp"
	"slices"
	"time"

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
}

// Selection says which snapshots of a store are meant.
type Selection struct {
	// Name selects the snapshots of which a path ends in this element, at any
	// depth. Empty selects all.
	Name string
	// Exclude drops a snapshot if any of its paths matches at its start.
	Exclude []*regexp.Regexp
}

// NoSnapshotsError says that a selection is empty.
type NoSnapshotsError struct {
	Store string
	// Named is set if one snapshot was asked for by its name.
	Named bool
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

// pick returns the snapshots inside of the store's directory that are meant.
// excluded counts those that only Exclude has dropped.
func (s Selection) pick(inv *snapshot.Inventory) (picked []snapshot.Snapshot, excluded int) {
	for _, snap := range inv.Inside() {
		if s.Name != "" && !slices.ContainsFunc(paths(snap), func(p string) bool { return path.Base(p) == s.Name }) {
			continue
		}
		if s.excludes(snap) {
			excluded++
			continue
		}
		picked = append(picked, snap)
	}
	return picked, excluded
}

// paths returns all paths of a snapshot inside of its store's directory.
func paths(snap snapshot.Snapshot) []string {
	all := []string{snap.Path}
	for _, c := range snap.Copies {
		if !c.Outside {
			all = append(all, c.Path)
		}
	}
	return all
}

func (s Selection) excludes(snap snapshot.Snapshot) bool {
	for _, re := range s.Exclude {
		for _, p := range paths(snap) {
			if at := re.FindStringIndex(p); at != nil && at[0] == 0 {
				return true
			}
		}
	}
	return false
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

// lock takes the lock of a store that has one.
func lock(ctx context.Context, st store.Store, who string) (func() error, error) {
	locker, ok := st.(store.Locker)
	if !ok {
		return func() error { return nil }, nil
	}
	return locker.Lock(ctx, who)
}

// The kinds of sizes in the ledger.
const (
	streamSize     = "stream"     // length of an edge's stream, as the store makes it
	referencedSize = "referenced" // data that a snapshot refers to
)

// sizeOf answers from the ledger, or by asking, and remembers the answer unless
// told not to. The ledger failing costs time, so it is only noted.
func (e *Engine) sizeOf(edge snapshot.Edge, kind string, remember bool, ask func() (snapshot.Size, error)) (snapshot.Size, error) {
	if e.Ledger != nil {
		known, err := e.Ledger.Size(edge, kind)
		if err != nil {
			e.log().Warn("looking up a size", "error", err)
		}
		if known.Known {
			return known, nil
		}
	}
	size, err := ask()
	if err != nil || !remember {
		return size, err
	}
	e.remember(edge, kind, size)
	return size, nil
}

func (e *Engine) remember(edge snapshot.Edge, kind string, size snapshot.Size) {
	if e.Ledger == nil {
		return
	}
	if err := e.Ledger.RememberSize(edge, kind, size, time.Now()); err != nil {
		e.log().Warn("remembering a size", "error", err)
	}
}
