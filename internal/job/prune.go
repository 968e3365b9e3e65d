package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// PruneOptions say what Prune does. The functions may be nil.
type PruneOptions struct {
	// Rules say what is kept of each series: the snapshots in one directory whose
	// names are the same up to a date. The zero Rules keep everything.
	Rules schedule.Rules
	// Prefix, if it is set, is the only series that is meant, at the top of the
	// store's directory.
	Prefix *string
	// Origin, if it is not zero, is the subvolume that the snapshots are of: others
	// are set aside.
	Origin snapshot.ID
	// For are the stores that the next increment goes to or comes from. The newest
	// snapshot that both have is kept.
	For []Counterpart
	// Locked says of snapshots, by name, why they are kept until something else is
	// finished.
	Locked map[string]string
	// StaleAfter is how long a counterpart that cannot be listed keeps what it needs
	// (RetentionNote), from when it was last seen; 0 is 90 days.
	StaleAfter time.Duration
	// Force allows to remove more than half of a series at once, or all of it.
	Force bool
	// DryRun decides, and removes nothing.
	DryRun bool
	// Reclaim waits until the space of what was removed is free.
	Reclaim bool
	// Wait waits for the store's lock for as long as another run has it.
	Wait bool
	// Who is how people know the run, for the lock and the ledger.
	Who string

	// Judged is told what becomes of every snapshot, before anything is removed.
	Judged func([]Verdict)
	// Removed is told what was removed, or why not.
	Removed func(snapshot.Snapshot, error)
}

// Counterpart is a store that shares snapshots with another one.
type Counterpart struct {
	// ID is what it is called in RetentionNote, and for people.
	ID string
	// Has is what it holds; nil if that cannot be found out now.
	Has *snapshot.Inventory
}

// Verdict is what retention decides about one snapshot.
type Verdict struct {
	Snapshot snapshot.Snapshot
	// Time is when it was made, as its name says; zero if that is not known.
	Time time.Time
	schedule.Verdict
}

// PruneReport is what became of a Prune.
type PruneReport struct {
	// Verdicts are ordered by path.
	Verdicts []Verdict
	Removed  []snapshot.Snapshot
}

// ForceError says that the rules would remove so much at once that somebody has
// to say that it is meant.
type ForceError struct {
	Store     string
	Series    string // the prefix of the names
	Going, Of int
}

func (e *ForceError) Error() string {
	return fmt.Sprintf("%s: %d of %d snapshots would be removed at once", e.Store, e.Going, e.Of)
}

// Prune removes from a store what its rules do not keep. It fails with
// *store.LockedError before anything is done, with *ForceError before anything
// is removed, and with *RemovalError if something could not be removed.
func (e *Engine) Prune(ctx context.Context, st store.Store, o PruneOptions) (*PruneReport, error) {
	return nil, errors.New("not written yet")
}

// prune is Prune with the lock held, on what was listed.
func (e *Engine) prune(ctx context.Context, st store.Store, inv *snapshot.Inventory, o PruneOptions) (*PruneReport, error) {
	return nil, errors.New("not written yet")
}

// Hold is a snapshot that is kept until it is released.
type Hold struct {
	ID    snapshot.ID
	Path  string // as it was when it was held
	Why   string
	Since time.Time
}

// Hold keeps the snapshot at a path of a store from every Prune. It fails with
// store.ErrNotFound if there is none.
func (e *Engine) Hold(ctx context.Context, st store.Store, path, why string) (Hold, error) {
	return Hold{}, errors.New("not written yet")
}

// Release ends what Hold began.
func (e *Engine) Release(ctx context.Context, st store.Store, path string) (Hold, error) {
	return Hold{}, errors.New("not written yet")
}

// Holds returns what is held in a store, the oldest first.
func (e *Engine) Holds(ctx context.Context, st store.Store) ([]Hold, error) {
	return nil, errors.New("not written yet")
}
