package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TakeOptions say what Take does.
type TakeOptions struct {
	// Prefix begins the name of the snapshot; a time follows, as Layout has it.
	Prefix string
	Layout schedule.Layout
	// Zone is where the time in the name is told; nil is the local one.
	Zone *time.Location
	// At is the time that the snapshot is named by, so that snapshots of several
	// subvolumes can share one; zero is now.
	At time.Time
	// OnlyIfChanged makes none if the subvolume is as the newest snapshot of the
	// series has it (store.Changer).
	OnlyIfChanged bool
	// Wait waits while another run makes a snapshot.
	Wait bool
	// DryRun makes none, and takes no lock.
	DryRun bool
	// Who is how people know the run.
	Who string
}

// TakeReport is what became of Take.
type TakeReport struct {
	// Taken is the snapshot that was made; nil if none was.
	Taken *snapshot.Snapshot
	// Name is what it is called, or what it would be called after a dry run; empty if
	// none is to be made.
	Name string
	// Last is the newest snapshot of the series that there was before; nil if there
	// was none.
	Last *snapshot.Snapshot
	// Why says to people why none is to be made: "nothing has changed since
	// home-20261120-231455".
	Why string
}

// Take makes a snapshot of the subvolume that src was opened with
// (store.Snapshotter), unless there is no need for one. It waits for no transfer and no
// prune, but only for others that make snapshots there (store.TakeLocker). It fails with
// *store.LockedError before anything is done, with *UnableError if the store cannot
// make snapshots, or cannot tell whether there is a need, and with
// *store.ExistsError or *NoNameError if there is no name for it.
//
// The name is that of the time, or of the next second or minute that is free, as
// long as that is not ahead of the clock by more than schedule.Slack. Where names
// have nothing but the day, one snapshot a day is all that is needed.
func (e *Engine) Take(ctx context.Context, src store.Store, o TakeOptions) (*TakeReport, error) {
	if !o.DryRun {
		release, err := e.takeTurn(ctx, src, o.Who, o.Wait)
		if errors.Is(err, errors.ErrUnsupported) {
			release, err = e.take(ctx, src, o.Who, o.Wait)
		}
		if err != nil {
			return nil, err
		}
		defer release()
	}
	return e.takeLocked(ctx, src, o)
}

// takeLocked is Take with the short lock held, or the long one where there is no other.
func (e *Engine) takeLocked(ctx context.Context, src store.Store, o TakeOptions) (*TakeReport, error) {
	maker, ok := src.(store.Snapshotter)
	if !ok {
		return nil, &UnableError{Store: src.String(), Verb: "make snapshots"}
	}
	origin, err := maker.Origin(ctx)
	if err != nil {
		return nil, err
	}
	t := &taking{src: src, maker: maker, origin: origin, series: seriesOf(o.Prefix, o.Layout, o.Zone)}
	t.at = cmp.Or(o.At, e.now()).In(t.zone)
	report := &TakeReport{}
	if report.Last, err = t.look(ctx); err != nil {
		return nil, err
	}
	if o.OnlyIfChanged {
		var changed bool
		if changed, report.Last, err = t.changedAtAll(ctx, report.Last); err != nil {
			return nil, err
		}
		if !changed {
			report.Why = "nothing has changed since " + report.Last.Path
			return report, nil
		}
	}
	if name := t.name(t.at); t.step() >= wholeDay && t.has(name) {
		report.Why = fmt.Sprintf("there is one of that day, %s", name)
		return report, nil
	}
	if o.DryRun {
		next, err := t.next()
		if err != nil {
			return nil, err
		}
		report.Name = t.name(next)
		return report, nil
	}
	made, err := t.make(ctx)
	if err != nil {
		return nil, err
	}
	report.Taken, report.Name = &made, made.Path
	return report, nil
}

// wholeDay is the step of layouts that have nothing but the day.
const wholeDay = 24 * time.Hour

// series is what the names of the snapshots of a subvolume have in common.
type series struct {
	prefix string
	layout schedule.Layout
	zone   *time.Location // in which names tell the time
}

func seriesOf(prefix string, layout schedule.Layout, zone *time.Location) series {
	return series{prefix: prefix, layout: layout, zone: cmp.Or(zone, time.Local)}
}

func (s series) name(t time.Time) string { return schedule.FormatAs(s.layout, s.prefix, t.In(s.zone)) }

func (s series) time(name string) (time.Time, bool) {
	return schedule.ParseAs(s.layout, s.prefix, name, s.zone)
}

func (s series) step() time.Duration { return s.layout.Step() }

// taking is one snapshot that is to be made.
type taking struct {
	series
	src    store.Store
	maker  store.Snapshotter
	origin snapshot.ID
	at     time.Time
	holds  *snapshot.Inventory
}

// look lists the store, and returns the newest snapshot of the series; nil if there is
// none.
func (t *taking) look(ctx context.Context) (*snapshot.Snapshot, error) {
	var err error
	if t.holds, err = t.src.List(ctx); err != nil {
		return nil, fmt.Errorf("listing %s before a snapshot is made: %w", t.src, err)
	}
	last, ok := t.last()
	if !ok {
		return nil, nil
	}
	return &last, nil
}

// last returns the newest snapshot of the series that was made of the subvolume, by
// the file system's count: clocks go back.
func (t *taking) last() (last snapshot.Snapshot, ok bool) {
	for name, s := range topmost(t.holds) {
		if _, ours := t.time(name); ours && t.own(s) && (!ok || s.Generation > last.Generation) {
			last, ok = s, true
		}
	}
	return last, ok
}

// own reports whether a snapshot was made of the subvolume.
func (t *taking) own(s snapshot.Snapshot) bool { return s.Parent == t.origin && !s.Received }

// has reports whether a snapshot of the subvolume has a name.
func (t *taking) has(name string) bool {
	s, there := topmost(t.holds)[name]
	return there && t.own(s)
}

// changedAtAll is changed, with the last snapshot that there is in the end: another run
// may be removing the one that it is compared with. One that has gone proves nothing.
func (t *taking) changedAtAll(ctx context.Context, last *snapshot.Snapshot) (bool, *snapshot.Snapshot, error) {
	for try := 1; ; try++ {
		changed, failed := t.changed(ctx, last)
		if failed == nil && changed || ctx.Err() != nil {
			return changed, last, failed
		}
		now, err := t.look(ctx)
		if err != nil {
			return false, last, cmp.Or(failed, err)
		}
		if try == tries || last == nil || now != nil && now.ID == last.ID {
			return changed, now, failed
		}
		last = now
	}
}

// changed reports whether the subvolume is not what its last snapshot has. One that
// was writable for a time does not tell.
func (t *taking) changed(ctx context.Context, last *snapshot.Snapshot) (bool, error) {
	changer, ok := t.src.(store.Changer)
	if !ok {
		return false, &UnableError{Store: t.src.String(), Verb: "tell whether anything has changed: snapshots only if something has are for subvolumes of this machine"}
	}
	if last == nil || !last.Pristine {
		return true, nil
	}
	return changer.Changed(ctx, last.ID)
}

// tries is how many names are tried for a snapshot, each a step later.
const tries = 60

// next returns the time that the next snapshot is named by: that of the clock, or a
// step after the newest name if that is not earlier. Names of one series are in the
// order in which they were given, also when runs follow each other in less than a
// second, and when the clock is put back; else a name that has become free here
// could be given again, and be that of another snapshot elsewhere. What is far
// ahead of the clock does not count, and neither does the order of names that have
// nothing but the day. It fails with *NoNameError.
func (t *taking) next() (time.Time, error) {
	if t.step() >= wholeDay {
		return t.at, nil
	}
	var next time.Time
	for name := range topmost(t.holds) {
		made, ok := t.time(name)
		if made = made.Add(t.step()); ok && made.After(next) && !made.After(t.at.Add(schedule.Slack)) {
			next = made
		}
	}
	if !t.reads(t.at).Before(next) {
		return t.at, nil
	}
	free := next
	for t.reads(free).Before(next) { // until the hour that comes twice is over
		free = free.Add(t.step())
	}
	if !free.Equal(next) && free.After(t.at.Add(schedule.Slack)) {
		return time.Time{}, &NoNameError{Until: free.In(t.zone)}
	}
	return free, nil
}

// reads is the time by which a name will be read: an hour that comes twice is taken
// for the first one.
func (t *taking) reads(at time.Time) time.Time {
	if read, ok := t.time(t.name(at)); ok {
		return read
	}
	return at
}

// NoNameError says that no name is left for a snapshot that is not taken for an
// older one: the clocks have been put back, for winter say.
type NoNameError struct{ Until time.Time }

func (e *NoNameError) Error() string {
	return fmt.Sprintf("no name is left until %s, since clocks were put back: times in UTC, with seconds or with their offset (+ZZZZ) do not run out", e.Until.Format("15:04 MST"))
}

// make makes the snapshot, under the name of the next time, or of one that is free
// soon after it.
func (t *taking) make(ctx context.Context) (snapshot.Snapshot, error) {
	at, err := t.next()
	if err != nil {
		return snapshot.Snapshot{}, fmt.Errorf("making a snapshot in %s: %w", t.src, err)
	}
	for try := 1; ; try++ {
		made, err := t.maker.Snapshot(ctx, t.name(at))
		if err == nil {
			return made, nil
		}
		next := at.Add(t.step())
		_, taken := errors.AsType[*store.ExistsError](err)
		if !taken || try == tries || next.After(t.at.Add(schedule.Slack)) || t.reads(next).Before(t.reads(at)) {
			return made, fmt.Errorf("making snapshot %s in %s: %w", t.name(at), t.src, err)
		}
		at = next
	}
}
