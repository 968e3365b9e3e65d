package job

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/buttersink/buttersink/internal/store"
)

// A directory in which snapshots are made has two locks. The long one (store.Locker)
// is for who reads a plan out of it, sends by that and removes: it may be held for
// days. The short one (store.TakeLocker) is for who gives a snapshot its name and
// makes it. Who takes both takes the long one first, and nobody waits for the long one
// with the short one in hand.
//
// So snapshots are made whatever else goes on in the directory. Why that is safe:
//
//   - Names. All takers hold the short lock from their listing to the snapshot, so that
//     names are in the order of the snapshots, also with several takers in one second,
//     and of two on one day, where names have only the day, the second finds the
//     first. What holds no such lock (a program of another kind, an older buttersink)
//     may still be given the name first: then the kernel refuses it, and the next one
//     is tried.
//   - A transfer or a prune whose listing is older than the snapshot does not know it,
//     and so neither sends nor removes it. What it removes by its rules would have
//     gone with the new one in the count, too: no rule keeps a snapshot for the sake of a
//     newer one. A run that has sent lists the source again before it removes anything
//     there, and spares what was not there when it began: no destination has been
//     offered that. The next run sends the new one.
//   - The snapshot that OnlyIfChanged compares with may be removed meanwhile. Then
//     another look is taken at what there is.
//   - The notes beside the snapshots (store.LocksNote, store.RetentionNote) are not a
//     taker's affair. Whoever writes them compares first (store.Notebook.WriteNote).
//     What btrfs-backup has left there stays as it is; it has no locks against other
//     runs, and its names are those above.
//   - What an interrupted taker leaves (a writable subvolume called .part, where the
//     origin was received) is removed by who has both locks.
//   - A server that is older knows the long lock only. There, that one is taken, and
//     waited for, as ever.

// lock takes the long lock of a store that has one.
func lock(ctx context.Context, st store.Store, who string) (func() error, error) {
	locker, ok := st.(store.Locker)
	if !ok {
		return func() error { return nil }, nil
	}
	return locker.Lock(ctx, who)
}

// pausing is how a lock is waited for.
type pausing struct {
	every time.Duration // the pause between two looks, about
	quiet time.Duration // after which people are told
}

var (
	// forDays is for the long lock.
	forDays = pausing{every: time.Second}
	// forMoments is for the short one.
	forMoments = pausing{every: 40 * time.Millisecond, quiet: 5 * time.Second}
)

// take takes the long lock of a store, waiting for it as long as another run has it,
// if that is wanted. Releasing does not fail: what goes wrong is told in the log.
func (e *Engine) take(ctx context.Context, st store.Store, who string, wait bool) (release func(), err error) {
	return e.awaitLock(ctx, st, wait, forDays, func() (func() error, error) { return lock(ctx, st, who) })
}

// takeTurn takes the short lock of a store. It fails with errors.ErrUnsupported where
// there is none.
func (e *Engine) takeTurn(ctx context.Context, st store.Store, who string, wait bool) (release func(), err error) {
	locker, ok := st.(store.TakeLocker)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return e.awaitLock(ctx, st, wait, forMoments, func() (func() error, error) { return locker.LockTaking(ctx, who) })
}

// alsoTakeTurn takes the short lock of a store, if it has one, for a run that has the
// long one.
func (e *Engine) alsoTakeTurn(ctx context.Context, st store.Store, who string) (release func(), err error) {
	release, err = e.takeTurn(ctx, st, who, true)
	if errors.Is(err, errors.ErrUnsupported) {
		return func() {}, nil
	}
	return release, err
}

// awaitLock tries to take a lock until it has it, if that is wanted.
func (e *Engine) awaitLock(ctx context.Context, st store.Store, wait bool, w pausing, try func() (func() error, error)) (release func(), err error) {
	began, told := time.Now(), false
	for {
		unlock, err := try()
		if err == nil {
			return func() {
				if err := unlock(); err != nil {
					e.log().Warn("releasing the lock", "store", st.String(), "error", err)
				}
			}, nil
		}
		if _, ok := errors.AsType[*store.LockedError](err); !ok || !wait {
			return nil, err
		}
		if !told && time.Since(began) >= w.quiet {
			told = true
			e.log().Info("Waiting for another run: " + err.Error())
		}
		// Not at the same moment as another one that waits.
		pause := time.NewTimer(w.every/2 + rand.N(w.every))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, context.Cause(ctx)
		}
	}
}
