package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/outstanding"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// backup is one run of Backup.
type backup struct {
	engine *Engine
	src    store.Store
	o      BackupOptions
	series
	origin snapshot.ID // zero if there is none
	owed   *owed
	known  *register // as it was when the run began; nil if it cannot be read
	ends   []*end
	began  map[snapshot.ID]bool // the source's snapshots before the run, if it removes any

	telling   sync.Mutex // held while a function of the options is called
	noting    sync.Mutex // held while sizes are noted at the source
	strangers sync.Once  // that there are some has been said

	mu     sync.Mutex
	places map[string]string // where destinations are, and which ones

	// Of the goroutine that called Backup.
	taken  *snapshot.Snapshot
	newest time.Time
	source *PruneReport
	putOff *PutOff
	failed []error // at the source
}

// newBackup finds out what there is to know before anything is done.
func (e *Engine) newBackup(ctx context.Context, src store.Store, o BackupOptions) (*backup, error) {
	b := &backup{engine: e, src: src, o: o, series: seriesOf(o.Prefix, o.Layout, o.Zone), places: map[string]string{}, taken: o.Made}
	if err := b.findOrigin(ctx); err != nil {
		return nil, err
	}
	var err error
	if b.owed, err = readOwed(ctx, src, o.DryRun); err != nil {
		return nil, err
	}
	if b.known, err = readRegister(ctx, src); err != nil {
		if _, odd := errors.AsType[*RegisterError](err); !odd {
			return nil, err
		}
		// It takes nothing but the removing.
		b.known, b.failed = nil, append(b.failed, err)
	}
	if err := b.recognise(ctx); err != nil {
		return nil, err
	}
	for _, d := range o.Destinations {
		b.add(d)
	}
	if o.LockedDestination != nil {
		b.addLocked()
	}
	if o.RemoveLocks {
		if err := b.removeLocks(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// findOrigin asks which subvolume the snapshots are of. Only a run that makes one
// has to know.
func (b *backup) findOrigin(ctx context.Context) error {
	maker, ok := b.src.(store.Snapshotter)
	if !ok {
		if b.o.NoSnapshot {
			return nil
		}
		return &UnableError{Store: b.src.String(), Verb: "make snapshots"}
	}
	var err error
	b.origin, err = maker.Origin(ctx)
	if b.o.NoSnapshot && errors.Is(err, store.ErrNoOrigin) {
		return nil
	}
	return err
}

// recognise does without the origin in a run that makes no snapshot, if nothing
// in the series has to do with it: the directory is one that others send to.
func (b *backup) recognise(ctx context.Context) error {
	if b.origin.IsZero() || !b.o.NoSnapshot {
		return nil
	}
	holds, err := b.src.List(ctx)
	if err != nil {
		return err
	}
	if all, _ := b.ours(holds, PruneOptions{Origin: b.origin}, cmp.Or(b.known, &register{})); len(all) == 0 {
		b.origin = snapshot.ID{}
	}
	return nil
}

// add adds a destination, unless it is one of them already.
func (b *backup) add(d Destination) {
	for _, other := range b.ends {
		if other.ID == d.ID {
			return
		}
	}
	b.ends = append(b.ends, &end{Destination: d, run: b, log: b.engine.log().With("destination", d.Name), DestinationReport: DestinationReport{Name: d.Name}})
}

// addLocked adds the destinations to which something was begun and not finished.
func (b *backup) addLocked() {
	for _, id := range b.owed.destinations(b.inSeries) {
		d, err := b.o.LockedDestination(id)
		if err != nil {
			d = Destination{Name: id, ID: id, Open: func(context.Context) (store.Store, error) { return nil, err }}
		}
		b.add(d)
	}
}

// removeLocks forgets what was begun and not finished, of this series and for
// the destinations of the run.
func (b *backup) removeLocks(ctx context.Context) error {
	return b.owed.change(ctx, func(t *outstanding.Transfers) bool {
		any := false
		for _, name := range t.Names() {
			if !b.inSeries(name) {
				continue
			}
			for _, d := range b.ends {
				for _, kind := range []outstanding.Kind{outstanding.Sent, outstanding.Parent} {
					if !t.Drop(name, kind, d.ID) {
						continue
					}
					any = true
					if b.o.Unlocked != nil {
						b.o.Unlocked(name, d.ID, kind == outstanding.Parent)
					}
				}
			}
		}
		return any
	})
}

// inSeries reports whether a name is one that the run could have given.
func (b *backup) inSeries(name string) bool {
	_, ok := b.time(name)
	return ok
}

// snapshot makes the snapshot.
func (b *backup) snapshot(ctx context.Context) error {
	if b.o.NoSnapshot || b.o.DryRun {
		return nil
	}
	release, err := b.engine.alsoTakeTurn(ctx, b.src, b.o.Who)
	if err != nil {
		return err
	}
	defer release()
	r, err := b.engine.takeLocked(ctx, b.src, TakeOptions{Prefix: b.o.Prefix, Layout: b.o.Layout, Zone: b.o.Zone})
	if err != nil || r.Taken == nil {
		return err
	}
	b.taken = r.Taken
	if b.o.Taken != nil {
		b.o.Taken(*r.Taken)
	}
	return nil
}

// transfer serves all destinations, and returns when all have ended.
func (b *backup) transfer(ctx context.Context) {
	if from, ok := b.src.(store.Source); ok && len(b.ends) > 1 {
		fan := transfer.NewFan(from)
		for _, d := range b.ends { // all of them before any begins
			d.streams = fan.Run()
		}
	}
	var all sync.WaitGroup
	for _, d := range b.ends {
		all.Go(func() {
			d.Err = d.bring(ctx)
			b.tell(func() {
				if b.o.Ended != nil {
					b.o.Ended(d.Destination.Name, d.Sync, d.Err)
				}
			})
		})
	}
	all.Wait()
}

// tell calls a function that calls one of the options.
func (b *backup) tell(say func()) {
	b.telling.Lock()
	defer b.telling.Unlock()
	say()
}

// settleIn notes where a destination is, and fails if another one is there.
func (b *backup) settleIn(place, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if other, ok := b.places[place]; ok {
		return fmt.Errorf("it is the same place as %s, which is a destination of this run already", other)
	}
	b.places[place] = name
	return nil
}

// close closes the destinations.
func (b *backup) close() {
	for _, d := range b.ends {
		if d.store == nil {
			continue
		}
		if err := d.store.Close(); err != nil {
			d.log.Warn("closing", "error", err)
		}
	}
}

func (b *backup) report() *BackupReport {
	r := &BackupReport{Taken: b.taken, Source: b.source, PutOff: b.putOff, Newest: b.newest}
	for _, d := range b.ends {
		r.Destinations = append(r.Destinations, d.DestinationReport)
	}
	return r
}

// err is what the run ends with.
func (b *backup) err(ctx context.Context) error {
	e := &BackupError{Failures: b.failed, Done: b.taken != nil}
	for _, d := range b.ends {
		if d.Err != nil {
			e.Failures = append(e.Failures, placed(d.Destination.Name, d.Err))
		} else if !b.o.DryRun {
			e.Done = true
		}
	}
	if ctx.Err() != nil && len(e.Failures) == 0 {
		e.Failures = append(e.Failures, context.Cause(ctx))
	}
	if len(e.Failures) == 0 {
		return nil
	}
	return e
}

// placed puts the name of a place before an error that does not begin with it.
func placed(place string, err error) error {
	if strings.HasPrefix(err.Error(), place+":") {
		return err
	}
	return fmt.Errorf("%s: %w", place, err)
}
