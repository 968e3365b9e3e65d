package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// CalendarOptions say what Calendar does. The functions may be nil.
type CalendarOptions struct {
	// Rule says on which days a backup is made, and what goes.
	Rule schedule.Calendar
	// Today is the date of the backup that may be made.
	Today schedule.Date
	// Prefix is the directory of the backups in the store, each of which is called
	// by its date; empty for the store's own.
	Prefix string
	// In is where the stream comes from, once Decided has told which one is wanted.
	// It is not read where none is. From names it for people.
	In   io.Reader
	From string
	// Complete has a complete backup made, on any day: where what the next increment
	// would start from is lost. Not if there is one of that date.
	Complete bool
	// DryRun decides, and does nothing.
	DryRun bool
	// Who is how people know the run, for the lock and the ledger.
	Who string

	// Removed is told which backups have been removed, or why not.
	Removed func(DatedBackup, error)
	// Decided is told what is to be made, or that nothing is, once everything that
	// is to go has gone. An error ends the run. Its Decision has nothing in Delete.
	Decided func(schedule.Decision) error
	// Event is told what happens to the stream.
	Event func(transfer.Event)
}

// DatedBackup is a backup of a calendar, as the store has it.
type DatedBackup struct {
	schedule.Backup
	Snapshot snapshot.Snapshot
}

// CalendarReport is what became of a run.
type CalendarReport struct {
	// There are the backups that were there before, in order of their dates.
	There []DatedBackup
	// Removed are those that were removed, or in a dry run would be.
	Removed []DatedBackup
	// Decision is what was, or would be, made after that.
	Decision schedule.Decision
	// Made is set if that has been done; it is what became of the stream otherwise.
	Made   bool
	Result transfer.Result
}

// GivenError says that the stream that was given is not the one that was asked
// for. Nothing of it has been stored.
type GivenError struct {
	Want, Found string // for people
}

func (e *GivenError) Error() string {
	return fmt.Sprintf("%s was given, and %s was asked for", e.Found, e.Want)
}

// Calendar makes the backup of a day as a calendar says, in an archive: it removes
// what the calendar does not keep any more, and after that decides anew, as of what
// is really there, whether there is to be a backup and what it builds on. Then it
// takes the stream.
//
// It fails with *UnableError where the store does not keep streams, with
// *store.LockedError if another run is at work, and with *RemovalError if all is
// done but not everything that was to go has gone.
func (e *Engine) Calendar(ctx context.Context, st store.Store, o CalendarOptions) (*CalendarReport, error) {
	if err := o.Rule.Check(); err != nil {
		return nil, err
	}
	if o.DryRun {
		return e.foreseen(ctx, st, o)
	}
	unlock, err := lock(ctx, st, o.Who)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := unlock(); err != nil {
			e.log().Warn("releasing the lock", "error", err)
		}
	}()
	end := e.begin(st, o.Who)
	report, err := e.calendar(ctx, st, o)
	end(ctx, err)
	return report, err
}

// foreseen says what Calendar would do.
func (e *Engine) foreseen(ctx context.Context, st store.Store, o CalendarOptions) (*CalendarReport, error) {
	c, err := e.dated(ctx, st, o.Prefix)
	if err != nil {
		return nil, err
	}
	report := &CalendarReport{There: c.backups}
	first, err := o.Rule.Decide(c.rows(), o.Today)
	if err != nil {
		return report, err
	}
	if report.Removed, err = e.removable(ctx, st, c, first.Delete); err != nil {
		return report, err
	}
	for _, gone := range report.Removed {
		c.backups = slices.DeleteFunc(slices.Clone(c.backups), func(b DatedBackup) bool { return b.Snapshot.ID == gone.Snapshot.ID })
	}
	if report.Decision, err = o.decide(c); err != nil {
		return report, err
	}
	return report, o.decided(report)
}

func (e *Engine) calendar(ctx context.Context, st store.Store, o CalendarOptions) (*CalendarReport, error) {
	c, err := e.dated(ctx, st, o.Prefix)
	if err != nil {
		return nil, err
	}
	report := &CalendarReport{There: c.backups}
	first, err := o.Rule.Decide(c.rows(), o.Today)
	if err != nil {
		return report, err
	}
	failed, err := e.expire(ctx, st, c, first.Delete, o, report)
	if err != nil {
		return report, err
	}
	if len(first.Delete) > 0 { // what was decided rests on what is not there any more
		if c, err = e.dated(ctx, st, o.Prefix); err != nil {
			return report, err
		}
	}
	if report.Decision, err = o.decide(c); err != nil {
		return report, err
	}
	if err := o.decided(report); err != nil {
		return report, err
	}
	if report.Decision.Create {
		if err := e.takeDated(ctx, st, c, o, report); err != nil {
			return report, errors.Join(err, failed.orNil())
		}
		report.Made = true
	}
	if t, ok := st.(store.Tidier); ok {
		t.Tidy(ctx)
	}
	return report, failed.orNil()
}

// decide says what is to be made.
func (o *CalendarOptions) decide(c *dated) (schedule.Decision, error) {
	d, err := o.Rule.Decide(c.rows(), o.Today)
	if err != nil || !o.Complete {
		return d, err
	}
	if slices.ContainsFunc(c.backups, func(b DatedBackup) bool { return b.Date == o.Today }) {
		return d, nil
	}
	d.Create, d.Parent, d.Reason = true, schedule.Date{}, "a complete one was asked for"
	return d, nil
}

func (o *CalendarOptions) decided(report *CalendarReport) error {
	report.Decision.Delete = nil
	if o.Decided == nil {
		return nil
	}
	return o.Decided(report.Decision)
}

// orNil returns the error if there is any reason for it.
func (e *RemovalError) orNil() error {
	if len(e.Failures) == 0 {
		return nil
	}
	return e
}

// removable returns what can be removed of what is to go, in its order: nothing
// that is held, or that something needs which stays.
func (e *Engine) removable(ctx context.Context, st store.Store, c *dated, going []schedule.Backup) ([]DatedBackup, error) {
	var all []snapshot.Snapshot
	there := map[snapshot.ID]DatedBackup{}
	for _, b := range c.find(going) {
		all, there[b.Snapshot.ID] = append(all, b.Snapshot), b
	}
	all, err := e.unheld(ctx, st, c.inv, all)
	var can []DatedBackup
	for _, s := range all {
		can = append(can, there[s.ID])
	}
	return can, err
}

// expire removes what is to go. What does not is in the first error; the second
// keeps the run from going on.
func (e *Engine) expire(ctx context.Context, st store.Store, c *dated, going []schedule.Backup, o CalendarOptions, report *CalendarReport) (*RemovalError, error) {
	failed := &RemovalError{}
	if len(going) == 0 {
		return failed, nil
	}
	remover, ok := st.(store.Remover)
	if !ok {
		return failed, &UnableError{Store: st.String(), Verb: "remove backups"}
	}
	all, err := e.removable(ctx, st, c, going)
	if err != nil {
		return failed, err
	}
	there := map[snapshot.ID]DatedBackup{}
	var snaps []snapshot.Snapshot
	for _, b := range all {
		there[b.Snapshot.ID] = b
		snaps = append(snaps, b.Snapshot)
	}
	removed := func(s snapshot.Snapshot, err error) {
		b := there[s.ID]
		if err != nil {
			failed.Failures = append(failed.Failures, fmt.Errorf("removing the backup of %s: %w", b.Date, err))
		} else {
			report.Removed = append(report.Removed, b)
		}
		if o.Removed != nil {
			o.Removed(b, err)
		}
	}
	if _, ok := remover.(store.Sweeper); ok {
		err = removeAll(ctx, remover, snaps, removed)
	} else {
		err = removeInTurn(ctx, remover, all, removed)
	}
	if err != nil && ctx.Err() != nil {
		return failed, context.Cause(ctx)
	}
	if err != nil {
		failed.Failures = append(failed.Failures, err)
	}
	return failed, nil
}

// removeInTurn removes backups one after the other, and none that another one
// builds on which could not be removed.
func removeInTurn(ctx context.Context, remover store.Remover, all []DatedBackup, removed func(snapshot.Snapshot, error)) error {
	needed := map[schedule.Date]bool{}
	for _, b := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if needed[b.Date] {
			needed[b.Parent] = true
			continue
		}
		err := remover.Remove(ctx, b.Snapshot)
		if err != nil && !b.Parent.IsZero() {
			needed[b.Parent] = true
		}
		removed(b.Snapshot, err)
	}
	return nil
}
