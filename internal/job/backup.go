package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// Destination is one of the places that a backup goes to.
type Destination struct {
	// Name is how people know it, and ID what it is called in store.LocksNote and
	// store.RetentionNote.
	Name, ID string
	// Open opens it. A destination that cannot be opened fails alone.
	Open func(ctx context.Context) (store.Store, error)
	// Rules say what is kept there, and so what is sent there at all.
	Rules schedule.Rules
	// MaxChain and MaxRestore are those of SyncOptions. Where a chain has come to
	// that, a new one is begun.
	MaxChain   int
	MaxRestore int64
	// MaxFull and Parallel are those of SyncOptions.
	MaxFull  int64
	Parallel int
}

// BackupOptions say what Backup does. The functions may be nil; they are called
// from one goroutine at a time.
type BackupOptions struct {
	// Prefix begins the names of the snapshots; a time follows, as Layout has it.
	Prefix string
	Layout schedule.Layout
	// Zone is where the times in the names are told; nil is the local one.
	Zone *time.Location
	// NoSnapshot takes none, and transfers those that are there. NoTransfer
	// transfers nothing.
	NoSnapshot, NoTransfer bool
	// Made is the snapshot that Take has made for this run, which goes with
	// NoSnapshot: it counts as made in the run.
	Made *snapshot.Snapshot
	// Full sends everything in full, the newest first.
	Full bool
	// Rules say what is kept at the source.
	Rules schedule.Rules
	// Destinations are where the snapshots go.
	Destinations []Destination
	// LockedDestination, if it is set, makes a destination of an ID for which
	// there is an unfinished transfer, and adds it (--locked-dests).
	LockedDestination func(id string) (Destination, error)
	// RemoveLocks forgets the unfinished transfers to the given Destinations.
	RemoveLocks bool
	// StaleAfter, Force, Reclaim and Wait are those of PruneOptions.
	StaleAfter           time.Duration
	Force, Reclaim, Wait bool
	// PutOffAfter, if it is not zero, is how long a run without destinations waits for
	// another one at the source before it leaves to the next run what is to be removed:
	// the other one may be sending for days.
	PutOffAfter time.Duration
	// Estimate and DryRun are those of SyncOptions. A dry run takes no snapshot.
	Estimate, DryRun bool
	// Who is how people know the run.
	Who string

	// Unlocked is told of each transfer that is forgotten (RemoveLocks).
	Unlocked func(name, destination string, parent bool)
	// Taken is told of the snapshot that was made.
	Taken func(snapshot.Snapshot)
	// Measuring, Planned and Event are those of SyncOptions, with the Name of the
	// destination. A destination that has all it shall have has an Outlook without
	// steps.
	Measuring func(destination string, s plan.Step)
	Planned   func(destination string, p *Outlook)
	Event     func(destination string, e transfer.Event)
	// Ended is told when the transfers to a destination have ended, with why they
	// are not complete.
	Ended func(destination string, r *SyncReport, err error)
	// Judged and Removed are those of PruneOptions, with the Name of the
	// destination, or of the source.
	Judged  func(place string, all []Verdict)
	Removed func(place string, s snapshot.Snapshot, err error)
}

// BackupReport is what became of a backup.
type BackupReport struct {
	// Taken is the snapshot that was made; nil if none was.
	Taken *snapshot.Snapshot
	// Destinations are in the order in which they were given.
	Destinations []DestinationReport
	// Newest is when the newest snapshot that the source has in the end was made, as
	// its name says; zero if it has none, or could not be listed.
	Newest time.Time
	// Source is what became of the retention at the source; nil if there was none.
	Source *PruneReport
	// PutOff is what has not been removed at the source; nil if nothing was left for the
	// next run.
	PutOff *PutOff
}

// PutOff says that snapshots which no rule keeps stay for now, since another run is at
// work on their directory.
type PutOff struct {
	// Due is how many; -1 if that could not be found out.
	Due    int
	Locked *store.LockedError
}

func (p *PutOff) String() string {
	what := fmt.Sprintf("%d snapshots that no rule keeps are", p.Due)
	switch p.Due {
	case 1:
		what = "1 snapshot that no rule keeps is"
	case -1:
		what = "what no rule keeps is"
	}
	return fmt.Sprintf("%s left for the next run to remove: %s", what, p.Locked)
}

// DestinationReport is what became of one destination.
type DestinationReport struct {
	Name string
	// Sync and Prune are nil where it did not come to that.
	Sync  *SyncReport
	Prune *PruneReport
	// Standing is how it stands afterwards.
	Standing Standing
	// Err is why it is not complete.
	Err error
}

// BackupError says that not all of a backup is done.
type BackupError struct {
	// Failures are what failed, each with the name of its place before it.
	Failures []error
	// Done is set if anything is: a snapshot was made, or a destination is complete.
	Done bool
}

func (e *BackupError) Error() string {
	var each []string
	for _, err := range e.Failures {
		each = append(each, err.Error())
	}
	return "the backup is not complete: " + strings.Join(each, "; ")
}

// Unwrap returns all failures.
func (e *BackupError) Unwrap() []error { return e.Failures }

// PlaceError says that a destination is at another place than the last time, and
// has nothing that the source has: as a rule, its disk is not mounted.
type PlaceError struct {
	Destination string
	Place, Last string // store.Located
}

func (e *PlaceError) Error() string {
	return fmt.Sprintf("it is another directory than the last time (%s, not %s), and nothing of the source is there: is it mounted?", e.Place, e.Last)
}

// Backup makes a snapshot of the subvolume that src was opened with
// (store.Snapshotter), brings what is due to every destination, and removes what
// is not due any more. It fails with *store.LockedError before anything is done,
// unless that can be put off (PutOffAfter), and with *BackupError if some of it could
// not be done.
//
// The destinations are served side by side, and the source is read once where
// several want the same stream. What fails at one of them stops none of the
// others. Each transfer is noted at the source before it begins
// (store.LocksNote), and forgotten when the snapshot is there; until then what it
// is about stays. Nothing is removed anywhere before all transfers have ended,
// and nothing at a destination that is not complete.
func (e *Engine) Backup(ctx context.Context, src store.Store, o BackupOptions) (*BackupReport, error) {
	if o.DryRun {
		return e.backup(ctx, src, o)
	}
	release, err := e.take(ctx, src, o.Who, o.Wait && !o.givesWay())
	if locked, ok := errors.AsType[*store.LockedError](err); ok && o.givesWay() {
		return e.giveWay(ctx, src, o, locked)
	}
	if err != nil {
		return nil, err
	}
	defer release()
	return e.backup(ctx, src, o)
}

// backup is Backup with the lock held.
func (e *Engine) backup(ctx context.Context, src store.Store, o BackupOptions) (*BackupReport, error) {
	b, err := e.newBackup(ctx, src, o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	b.foresee(ctx)
	if err := b.snapshot(ctx); err != nil {
		return b.report(), err
	}
	b.transfer(ctx)
	if ctx.Err() == nil {
		b.retain(ctx)
	}
	b.takeStock(ctx)
	return b.report(), b.err(ctx)
}
