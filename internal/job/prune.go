package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/buttersink/buttersink/internal/outstanding"
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
	// Layout is how times are written in the names of that series; the series that are
	// meant without a Prefix may have any.
	Layout schedule.Layout
	// Zone is where names tell the time; nil is that of the Rules.
	Zone *time.Location
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
	// Postpone removes nothing either, but notes what is due, so that a later run
	// finds that it has only waited: for a destination at which something has
	// failed.
	Postpone bool
	// Reclaim waits until the space of what was removed is free.
	Reclaim bool
	// Wait waits for the store's lock for as long as another run has it.
	Wait bool
	// Who is how people know the run, for the lock and the ledger.
	Who string

	// Judged is told what becomes of every snapshot, before anything is removed.
	Judged func([]Verdict)
	// Forecast is told what removing for good costs, where anybody bills that, before
	// anything is removed.
	Forecast func(*Early)
	// Removed is told what was removed, or why not.
	Removed func(snapshot.Snapshot, error)

	// only, if it is set, is the only series that is meant, whatever Prefix says.
	only *string
	// mine are snapshots that the counterparts had when the run began. Made is the
	// one that the run has made, zero if none.
	mine map[snapshot.ID]bool
	made snapshot.ID
}

// Counterpart is a store that shares snapshots with another one.
type Counterpart struct {
	// ID is what it is called in RetentionNote, and for people.
	ID string
	// Has is what it holds; nil if that cannot be found out now.
	Has *snapshot.Inventory
	// Look, if it is set, lists it again before anything is removed.
	Look func(ctx context.Context) (*snapshot.Inventory, error)
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
// to say that it is meant: more than half of a series, what the same rules had let
// go in an earlier run, and what has waited since, left out.
type ForceError struct {
	Store     string
	Series    string // what the paths have before the date
	Going, Of int
}

func (e *ForceError) Error() string {
	return fmt.Sprintf("%s: %d of %d snapshots would be removed at once", e.Store, e.Going, e.Of)
}

// Prune removes from a store what its rules do not keep. It fails with
// *store.LockedError or *RegisterError before anything is done, with *ForceError
// before anything is removed, after a dry run too, and with *RemovalError if
// something could not be removed.
func (e *Engine) Prune(ctx context.Context, st store.Store, o PruneOptions) (*PruneReport, error) {
	if !o.DryRun {
		release, err := e.take(ctx, st, o.Who, o.Wait)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	inv, err := e.list(ctx, st)
	if err != nil {
		return nil, err
	}
	if o.DryRun {
		return e.prune(ctx, st, inv, o)
	}
	end := e.begin(st, o.Who)
	report, err := e.prune(ctx, st, inv, o)
	end(ctx, err)
	return report, err
}

// prune is Prune with the lock held, on what was listed.
func (e *Engine) prune(ctx context.Context, st store.Store, inv *snapshot.Inventory, o PruneOptions) (*PruneReport, error) {
	ev := &evidence{now: e.now(), inv: inv, options: &o}
	if err := ev.read(ctx, st); err != nil {
		return nil, err
	}
	j := ev.judge()
	report := &PruneReport{Verdicts: j.verdicts()}
	if o.Judged != nil {
		o.Judged(slices.Clone(report.Verdicts))
	}
	if o.Rules.None() {
		return report, nil
	}
	for _, at := range slices.SortedFunc(maps.Keys(j.lapsed), func(a, b spot) int { return strings.Compare(a.path, b.path) }) {
		e.log().Warn(j.lapsed[at])
	}
	tallies := j.tallies(ev.register, o.Rules.String())
	guarded := e.guard(st, tallies, o)
	if o.DryRun || guarded != nil && !o.Postpone {
		e.foretell(ctx, st, j, o)
		return report, guarded
	}
	if o.Postpone || len(j.going()) == 0 {
		return report, e.note(ctx, st, j, tallies, o)
	}
	remover, able := st.(store.Remover)
	if !able {
		return report, &UnableError{Store: st.String(), Verb: "remove snapshots"}
	}

	// What has been decided may be old, as time goes for whoever waits for a lock or
	// a plan; and what has been decided twice has to be the same.
	going := map[spot]bool{}
	for _, p := range j.going() {
		going[p.spot()] = true
	}
	if err := ev.again(ctx, st, func(at spot) bool { return !going[at] }); err != nil {
		return report, err
	}
	j = ev.judge()
	report.Verdicts = j.verdicts()
	e.tellSpared(j, going)
	err := e.note(ctx, st, j, tallies, o)
	if err != nil && !full(err) {
		return report, err
	}
	unnoted := err
	e.foretell(ctx, st, j, o)
	err = e.removePlaces(ctx, st, remover, j.going(), report, o)
	if unnoted != nil && ctx.Err() == nil {
		// What is noted lets later runs remove more, never less: removing comes first
		// where there is no space left for it.
		if unnoted = e.note(ctx, st, j, tallies, o); unnoted != nil {
			e.log().Warn("What the next run should know cannot be noted; it may ask again whether it is meant that much goes", "error", unnoted)
		}
	}
	return report, err
}

// foretell says what removing costs.
func (e *Engine) foretell(ctx context.Context, st store.Store, j *judgement, o PruneOptions) {
	if o.Forecast == nil {
		return
	}
	var going []snapshot.Snapshot
	for _, p := range j.going() {
		going = append(going, p.Snapshot)
	}
	if early := e.early(ctx, st, going); early != nil {
		o.Forecast(early)
	}
}

// full reports whether an error says that there is no space left.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// foresee notes what the rules let go already, as Postpone does, and tells nobody.
// A run that is cut short before it removes anything has then not made it more
// than the next one may remove at once. It returns how much would go.
func (e *Engine) foresee(ctx context.Context, st store.Store, inv *snapshot.Inventory, o PruneOptions) (due int, err error) {
	if o.Rules.None() || o.DryRun {
		return 0, nil
	}
	o.Postpone, o.For = true, slices.DeleteFunc(slices.Clone(o.For), func(c Counterpart) bool { return c.Has == nil })
	ev := &evidence{now: e.now(), inv: inv, options: &o}
	if err := ev.read(ctx, st); err != nil {
		return 0, err
	}
	j := ev.judge()
	return len(j.going()), e.note(ctx, st, j, j.tallies(ev.register, o.Rules.String()), o)
}

// read reads what is noted in the store.
func (ev *evidence) read(ctx context.Context, st store.Store) (err error) {
	if ev.register, err = readRegister(ctx, st); err != nil {
		return err
	}
	book, ok := st.(store.Notebook)
	if !ok || ev.inv.Archive {
		return nil
	}
	text, err := book.ReadNote(ctx, store.LocksNote)
	if err != nil {
		return fmt.Errorf("reading which transfers from %s are unfinished: %w", st, err)
	}
	if ev.locks, err = outstanding.Parse(text); err != nil {
		return fmt.Errorf("%s: reading %s: %w", st, store.LocksNote, err)
	}
	return nil
}

// again looks at everything once more. What is spared stays whatever that shows.
func (ev *evidence) again(ctx context.Context, st store.Store, spared func(spot) bool) error {
	inv, err := st.List(ctx)
	if err != nil {
		return fmt.Errorf("looking again before removing anything: %w", err)
	}
	ev.inv, ev.spared = inv, spared
	o := *ev.options
	o.For = slices.Clone(o.For)
	for i, c := range o.For {
		if c.Look == nil {
			continue
		}
		if o.For[i].Has, err = c.Look(ctx); err != nil {
			return fmt.Errorf("looking at %s again before removing anything: %w", c.ID, err)
		}
	}
	ev.options = &o
	return ev.read(ctx, st)
}

// guard fails with *ForceError if somebody has to say that it is meant.
func (e *Engine) guard(st store.Store, tallies map[string]*tally, o PruneOptions) error {
	if o.Force {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(tallies)) {
		switch t := tallies[name]; {
		case !t.strange():
		case t.going > 0:
			return &ForceError{Store: st.String(), Series: name, Going: t.fresh, Of: t.of}
		default:
			series := ""
			if name != "" {
				series = " of " + name + "…"
			}
			e.log().Info(fmt.Sprintf("%s: the rules let go of %d of %d snapshots%s, which stay for other reasons; once these are gone, somebody has to say that it is meant", st, t.fresh, t.of, series))
		}
	}
	return nil
}

// note writes down what the next run has to know. A store that keeps no notes
// does without.
func (e *Engine) note(ctx context.Context, st store.Store, j *judgement, tallies map[string]*tally, o PruneOptions) error {
	_, err := updateRegister(ctx, st, func(r *register) {
		for _, name := range slices.Sorted(maps.Keys(tallies)) {
			t := tallies[name]
			switch {
			case t.strange() && !o.Force:
				// Nobody has said that it is meant.
			case t.going > 1 || o.Postpone:
				r.setWaiting(name, o.Rules.String(), t.due) // removing may be cut short
			default:
				r.setWaiting(name, o.Rules.String(), t.waits)
			}
		}
		for _, c := range j.unseen {
			if _, known := r.claimOf(c.destination, c.series); !known {
				r.setClaim(c)
			}
		}
		if j.aside != nil && (j.worth || j.fragile && len(j.going()) > 0) {
			r.families = j.families(j.inv, r.families)
		}
	})
	if _, unable := errors.AsType[*UnableError](err); unable {
		e.log().Debug(err.Error())
		return nil
	}
	return err
}

// tellSpared says what stays although it was to go at first.
func (e *Engine) tellSpared(j *judgement, going map[spot]bool) {
	for i := range j.places {
		if p := &j.places[i]; going[p.spot()] && p.Keep {
			e.log().Info(fmt.Sprintf("%s is not removed after all: %s", p.Path, p.Reason))
		}
	}
}

// heldMeanwhile returns an error for each of the snapshots that somebody has held
// while they were being swept away together.
func (e *Engine) heldMeanwhile(ctx context.Context, st store.Store, removed []snapshot.Snapshot) (all []error) {
	if len(removed) == 0 || ctx.Err() != nil {
		return nil
	}
	r, err := readRegister(ctx, st)
	if err != nil {
		return []error{fmt.Errorf("looking whether anything that was removed has been held meanwhile: %w", err)}
	}
	for _, s := range removed {
		if _, held := r.hold(s.ID); held {
			all = append(all, fmt.Errorf("%s has been held while it was being removed: it is in the trash, and can be restored from there", s.Path))
		}
	}
	return all
}

// removePlaces removes snapshots, the oldest first, or all at once where the
// store takes them so. What has been held in the last moment stays.
func (e *Engine) removePlaces(ctx context.Context, st store.Store, remover store.Remover, going []*place, report *PruneReport, o PruneOptions) error {
	failed := &RemovalError{}
	removed := func(snap snapshot.Snapshot, err error) {
		if err != nil {
			failed.Failures = append(failed.Failures, err)
		} else {
			report.Removed = append(report.Removed, snap)
		}
		if o.Removed != nil {
			o.Removed(snap, err)
		}
	}
	_, sweeps := remover.(store.Sweeper)
	var stopped error
	if sweeps {
		var all []snapshot.Snapshot
		for _, p := range going {
			all = append(all, p.Snapshot)
		}
		stopped, going = removeAll(ctx, remover, all, removed), nil
		failed.Failures = append(failed.Failures, e.heldMeanwhile(ctx, st, report.Removed)...)
	}
	for _, p := range going {
		if ctx.Err() != nil {
			break
		}
		var r *register
		if r, stopped = readRegister(ctx, st); stopped != nil {
			break
		}
		if h, is := r.hold(p.ID); is {
			e.log().Info(fmt.Sprintf("%s is not removed after all: it is held by now: %s", p.Path, h.Why))
			continue
		}
		removed(p.Snapshot, remover.Remove(ctx, p.Snapshot))
	}
	if ctx.Err() != nil {
		return errors.Join(append([]error{context.Cause(ctx)}, failed.Failures...)...)
	}
	if stopped != nil {
		failed.Failures = append(failed.Failures, stopped)
	}
	if r, ok := st.(store.Reclaimer); ok && o.Reclaim && len(report.Removed) > 0 {
		if err := r.Reclaim(ctx); err != nil {
			failed.Failures = append(failed.Failures, fmt.Errorf("waiting until the space of what was removed is free: %w", err))
		}
	}
	if len(failed.Failures) > 0 {
		return failed
	}
	return nil
}
