package job

import (
	"context"

	"github.com/buttersink/buttersink/internal/store"
)

// givesWay reports whether a run that finds its source locked has nothing to do there
// that cannot be left for the next one.
func (o *BackupOptions) givesWay() bool {
	return o.PutOffAfter > 0 && len(o.Destinations) == 0 && o.LockedDestination == nil && !o.RemoveLocks &&
		(o.NoSnapshot || o.DryRun)
}

// giveWay is Backup where another run has the lock of the source. It waits for a
// moment, if anything is to be removed at all, and else leaves that for the next run. It
// notes what that is (store.Notebook takes care of others that write), so that what
// adds up while a long transfer goes on is no more at once than the rules may remove
// without being asked.
func (e *Engine) giveWay(ctx context.Context, src store.Store, o BackupOptions, locked *store.LockedError) (*BackupReport, error) {
	b, err := e.newBackup(ctx, src, o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	due := b.foresee(ctx)
	if due == 0 {
		b.takeStock(ctx)
		return b.report(), b.err(ctx)
	}
	soon, stop := context.WithTimeout(ctx, o.PutOffAfter)
	defer stop()
	release, err := e.awaitLock(soon, src, true, pausing{every: forDays.every, quiet: o.PutOffAfter}, func() (func() error, error) { return lock(soon, src, o.Who) })
	switch {
	case err == nil:
		defer release()
		return e.backup(ctx, src, o)
	case ctx.Err() == nil && soon.Err() == nil:
		b.failed = append(b.failed, placed(src.String(), err))
	case ctx.Err() == nil:
		b.putOff = &PutOff{Due: due, Locked: locked}
	}
	b.takeStock(ctx)
	return b.report(), b.err(ctx)
}
