package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// calendarLayout is how the snapshots of a calendar are called: by their day.
const calendarLayout schedule.Layout = "YYYY-MM-DD"

// calendarRun is the work of one day at one source of a job of the kind calendar:
// what btrsnap and btrsend do between them, in one process.
type calendarRun struct {
	*worker
	job  *config.Job
	from runner.Source
	run  *backupRun
	to   *target
	day  string
	out  *records

	shelf *shelf        // what the backups are kept in, once it is open
	offer *job.Handover // likewise
	// Of the places, for the ledger.
	source, destination ledger.PlaceRun
}

// calendarRecord is what happens to the snapshot of a day, and to those of others.
type calendarRecord struct {
	Event       string      `json:"event"` // "wanted", "unwanted", "given", "removed", "lost"
	Path        string      `json:"path"`
	Destination string      `json:"destination,omitempty"` // where, if that is not the source
	ID          snapshot.ID `json:"id,omitzero"`
	Parent      string      `json:"parent,omitempty"`
	Bytes       int64       `json:"bytes,omitempty"`
	Reason      string      `json:"reason,omitempty"`
	DryRun      bool        `json:"dry_run,omitempty"`
}

// calendar makes the backup of a day as a calendar says.
func (w *worker) calendar(ctx context.Context, j *config.Job, s runner.Source) ([]ledger.PlaceRun, error) {
	names := destinationNames(j, s)
	run, err := w.places(ctx, j, s)
	if err != nil {
		return failedAt(names, err), err
	}
	defer run.close()
	c := &calendarRun{
		worker: w, job: j, from: s, run: run, to: run.targets[0], day: w.day(j, s), out: w.records(j, s),
		destination: ledger.PlaceRun{Destination: names[0], Outstanding: -1},
	}
	src, err := run.openSource(ctx)
	if first, ok := errors.AsType[*firstRunError](err); ok && w.o.dryRun {
		w.env.Log.Info("WOULD: Make the directory " + first.dir)
		return nil, c.foretell(ctx)
	}
	if err != nil {
		return failedAt(names, err), err
	}
	defer src.Close()
	if w.o.dryRun {
		return nil, errors.Join(c.cull(ctx, src), c.foretell(ctx))
	}
	there := c.bring(ctx, src)
	here := error(nil)
	if ctx.Err() == nil {
		here = c.cull(ctx, src)
	}
	c.source.Result, c.source.Message = resultOf(here), errorText(here)
	c.destination.Result, c.destination.Message = resultOf(there), errorText(there)
	return []ledger.PlaceRun{c.source, c.destination}, errors.Join(here, there)
}

// day is what the snapshot is called that this run is about. It has been made some
// time ago, perhaps before midnight.
func (w *worker) day(j *config.Job, s runner.Source) string {
	at, ok := w.days[j.Name+"\x00"+s.Arg]
	if !ok {
		at = w.env.Now()
	}
	return at.In(zoneOf(j.UTC)).Format(time.DateOnly)
}

// dayIs remembers when the snapshot of a source was to be made.
func (w *worker) dayIs(j *config.Job, s runner.Source, at time.Time) {
	if w.days == nil {
		w.days = map[string]time.Time{}
	}
	w.days[j.Name+"\x00"+s.Arg] = at
}

// tell says something to people, or to machines.
func (c *calendarRun) tell(rec calendarRecord, format string, args ...any) {
	if c.o.json {
		rec.Path, rec.DryRun = validText(rec.Path), c.o.dryRun
		c.out.put(rec)
		return
	}
	c.env.Log.Info(c.from.Arg + ": " + fmt.Sprintf(format, args...))
}

// dated are the options about the source: the snapshot of the day, which is there
// unless it could not be made.
func (c *calendarRun) dated() job.DatedOptions {
	return job.DatedOptions{
		Name: c.day, Zone: zoneOf(c.job.UTC), Taker: takerOf(c.to.site), StaleAfter: c.job.StaleAfter,
		Wait: true, DryRun: c.o.dryRun, Who: c.who(c.job),
	}
}

// takerOf is what the destination of a calendar is called in the notes beside the
// snapshots.
func takerOf(p site) string {
	if p.Scheme == "glacier" {
		return "calendar:" + place.Redact(p.Arg)
	}
	return "calendar:" + p.ID()
}

// bring gives the snapshot of the day to the calendar, if that wants it.
func (c *calendarRun) bring(ctx context.Context, src *opened) (err error) {
	o := c.dated()
	o.Offer = func(ctx context.Context) (job.Offered, error) { return c.open(ctx, src) }
	release := func() {}
	defer func() { release() }()
	o.Wanted = func(wanted bool, parent string) {
		rec := calendarRecord{Event: "wanted", Path: c.day, Destination: c.to.name, Parent: parent}
		switch {
		case !wanted:
			rec.Event = "unwanted"
			c.tell(rec, "%s wants no backup of %s", c.to.name, c.day)
			return
		case parent == "":
			c.tell(rec, "%s wants %s in full", c.to.name, c.day)
		default:
			c.tell(rec, "%s wants the increment from %s to %s", c.to.name, parent, c.day)
		}
		if c.env.KeepAwake != nil {
			release = c.env.KeepAwake(ctx, "Sending a snapshot", c.env.Log)
		}
	}
	show := c.progress()
	defer show.close()
	o.Event = func(e transfer.Event) {
		c.status(c.job, c.to.name, e)
		if e.Kind != transfer.Progress || !c.o.noProgress || c.o.json {
			show.event(e)
		}
		if e.Kind == transfer.Done {
			show.close()
		}
	}
	// What goes to the calendar has its receipt there, and not a second one here.
	engine := &job.Engine{Log: c.env.Log, Now: c.env.Now}
	report, err := engine.Dated(ctx, src.Store, o)
	if report.Snapshot != nil {
		c.source.Snapshot = report.Snapshot.Path
	}
	if c.shelf != nil {
		err = errors.Join(err, c.shelf.close())
	}
	if c.offer == nil {
		return explainPrune(err)
	}
	kept, failed := c.offer.Report()
	c.standing(kept)
	if err == nil {
		err = failed // that not everything has gone that was to go
	}
	if err == nil {
		if err = c.another(report, kept); err != nil {
			c.destination.Snapshot, c.destination.Chain, c.destination.Outstanding = "", 0, 1
		}
	}
	if report.Given != nil && err == nil {
		c.tell(calendarRecord{Event: "given", Path: c.day, Destination: c.to.name, ID: report.Snapshot.ID, Bytes: report.Given.Bytes},
			"%s has %s (%s)", c.to.name, c.day, meter.Bytes(report.Given.Bytes))
	}
	return explainBtrsend(err, kept)
}

// progress is what shows how the stream of the day gets on.
func (c *calendarRun) progress() *progress {
	p := &progress{
		env: c.env, json: c.o.json, out: c.out, quiet: c.env.quiet > 0,
		destination: validText(place.Redact(c.to.name)), prefix: c.to.name + ": ",
	}
	if !c.o.json && !c.o.noProgress && !p.quiet && c.env.canDraw() {
		p.bars = newBars(c.env, p.rows)
	}
	return p
}

// another fails where nothing is wanted of the day's snapshot since there is a backup of
// the day, and that is one of something else: this one would never be kept there.
func (c *calendarRun) another(r *job.DatedReport, kept *job.CalendarReport) error {
	if kept == nil || r.Snapshot == nil || r.Given != nil || c.shelf.db != nil { // whose database does not tell
		return nil
	}
	for _, b := range kept.There {
		if b.Date.String() == c.day && b.Snapshot.ID == r.Snapshot.ID {
			return nil
		}
	}
	if !slices.ContainsFunc(kept.There, func(b job.DatedBackup) bool { return b.Date.String() == c.day }) {
		return nil
	}
	return &exitError{
		code: exitConflict, err: fmt.Errorf("the backup of %s that is in %s is one of another snapshot, and there is no second one of a day", c.day, c.to.name),
		hint: "Does another job, or another machine, keep its backups there?  Each needs a place of its own.  If only the snapshot was made anew, the next day sees to it.",
	}
}

// open opens where the backups are kept, and asks the calendar.
func (c *calendarRun) open(ctx context.Context, src *opened) (job.Offered, error) {
	var err error
	if c.shelf, err = c.openShelf(ctx); err != nil {
		return nil, err
	}
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	o.Event = func(e transfer.Event) { // at the other end of the stream, whose progress is told at this one
		if e.Kind == transfer.Warning {
			c.env.Log.Warn(c.to.name + ": " + e.Error)
		}
	}
	o.Removed = func(b job.DatedBackup, err error) {
		if err == nil {
			c.tell(calendarRecord{Event: "removed", Path: b.Date.String(), Destination: c.to.name, ID: b.Snapshot.ID}, "%s: the backup of %s has gone", c.to.name, b.Date)
		}
	}
	c.offer = c.engine.Handover(ctx, c.shelf.Store, job.HandoverOptions{
		Calendar: o,
		Has: func(ctx context.Context, name string) (snapshot.ID, bool, error) {
			inv, err := src.List(ctx)
			if err != nil {
				return snapshot.ID{}, false, err
			}
			all := inv.Inside()
			i := slices.IndexFunc(all, func(s snapshot.Snapshot) bool { return s.Path == name })
			if i < 0 {
				return snapshot.ID{}, false, nil
			}
			return all[i].ID, true, nil
		},
		Lost: c.lost,
	})
	return c.offer, nil
}

// options are what the calendar goes by.
func (c *calendarRun) options() (job.CalendarOptions, error) {
	today, err := schedule.ParseDate(c.day)
	return job.CalendarOptions{
		Rule:  schedule.Calendar{Days: c.job.Days, Length: c.job.Chain, Lifetime: c.job.Lifetime, MakeUp: true},
		Today: today, Who: c.who(c.job), DryRun: c.o.dryRun,
	}, err
}

// lost is asked about a complete backup in the place of an increment on a snapshot
// that is not there any more, or is another one. Chains that are full are followed by complete ones
// whatever max-full says; this one nobody expects.
func (c *calendarRun) lost(name string) error {
	if c.to.o.fullLimit(c.env) > 0 {
		return &exitError{
			code: exitFailed, err: fmt.Errorf("the snapshot %s that the next increment starts from is not there any more, or is another one, and max-full keeps a complete backup from taking its place", name),
			hint: "Leave max-full out of the configuration for one run, or put the snapshot back.",
		}
	}
	c.env.Log.Warn(fmt.Sprintf("%s: the snapshot %s that the next increment would start from is not there any more, or is another one: a complete backup takes its place", c.from.Arg, name))
	return nil
}

// usualGzip is how much a vault's backups are compressed, as btrsend does it.
const usualGzip = 4

// openShelf opens where the backups are kept.
func (c *calendarRun) openShelf(ctx context.Context) (*shelf, error) {
	t := c.to
	if !t.OfBtrsend() {
		st, err := c.run.open(ctx, t)
		if err != nil {
			return nil, err
		}
		return &shelf{opened: &opened{site: t.site, Store: st}}, nil
	}
	if t.unusable != nil {
		return nil, t.unusable
	}
	database := strings.ReplaceAll(t.Options["database"], "{source}", c.from.Name)
	if database == "" {
		return nil, usagef(c.command, "%s: want ?database=FILE in its URL, where it is written down what is in the vault", c.to.name)
	}
	with := c.run.opening(t.site, t.o)
	with.limit = t.limit
	with.archive.Seal, with.archive.RequireEncryption = t.seal, t.o.requireEncryption
	with.archive.PartSize = int64(t.o.partSize) << 20
	switch s := &with.archive.Seal; {
	case s.Form().Cipher != seal.GPG:
		return nil, usagef(c.command, `%s: want encrypt = ["gpg:KEY"]: what btrsend has in a vault is encrypted by gpg`, c.to.name)
	case !s.Compress:
		s.Compress, s.Gzip, s.Level = true, true, usualGzip
	}
	s := &shelf{ledger: c.run.ledger}
	err := s.openVault(ctx, c, database, with)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openVault opens what btrsend has in a vault, and keeps other runs away from it.
func (s *shelf) openVault(ctx context.Context, c *calendarRun, database string, with opening) (err error) {
	if s.db, err = openRows(c.env, database, c.o.dryRun); err != nil {
		return err
	}
	with.rows = emptyRows{}
	if s.db != nil {
		with.rows = dbRows{s.db}
	}
	if !c.o.dryRun {
		if err := s.lock(c.who(c.job)); err != nil {
			return err
		}
	}
	s.opened, err = c.env.open(ctx, c.command, c.to.site, with)
	return err
}

// standing notes how the destination stands after a run of the calendar.
func (c *calendarRun) standing(r *job.CalendarReport) {
	if r == nil {
		return
	}
	d := &c.destination
	d.Removed, d.Outstanding = len(r.Removed), 0
	parents := map[schedule.Date]schedule.Date{}
	var newest schedule.Date
	for _, b := range r.There {
		gone := slices.ContainsFunc(r.Removed, func(o job.DatedBackup) bool { return o.Snapshot.ID == b.Snapshot.ID })
		if !gone {
			parents[b.Date] = b.Parent
		}
	}
	switch {
	case r.Made:
		today, _ := schedule.ParseDate(c.day) // it is one, or nothing was made
		parents[today] = r.Decision.Parent
		d.Transferred, d.Bytes = 1, r.Result.Bytes
	case r.Decision.Create:
		d.Outstanding = 1
	}
	for date := range parents {
		if date.Compare(newest) > 0 {
			newest = date
		}
	}
	if newest.IsZero() {
		return
	}
	d.Snapshot = newest.String()
	for at, ok := newest, true; ok && !at.IsZero() && d.Chain < len(parents); d.Chain++ {
		at, ok = parents[at]
	}
}

// cull removes snapshots of the source that have got too old.
func (c *calendarRun) cull(ctx context.Context, src *opened) error {
	o := c.dated()
	o.MaxAge = c.job.SnapshotsMaxAge
	o.Judged = func(all []job.Verdict) {
		for _, v := range all {
			if !v.Keep && c.o.dryRun {
				c.tell(calendarRecord{Event: "removed", Path: v.Snapshot.Path, ID: v.Snapshot.ID, Reason: v.Reason}, "WOULD: Delete the snapshot %s: %s", v.Snapshot.Path, v.Reason)
			}
		}
	}
	o.Removed = func(s snapshot.Snapshot, err error) {
		if err == nil {
			c.source.Removed++
			c.tell(calendarRecord{Event: "removed", Path: s.Path, ID: s.ID}, "the snapshot %s has gone", s.Path)
		}
	}
	report, err := (&job.Engine{Log: c.env.Log, Now: c.env.Now}).Dated(ctx, src.Store, o)
	if c.o.dryRun && err == nil && report.Snapshot == nil {
		c.tell(calendarRecord{Event: "made", Path: c.day}, "WOULD: Make the snapshot %s", c.day)
	}
	return explainPrune(err)
}

// foretell says what the calendar would do.
func (c *calendarRun) foretell(ctx context.Context) error {
	shelf, err := c.openShelf(ctx)
	if err != nil {
		return err
	}
	defer shelf.close()
	o, err := c.options()
	if err != nil {
		return err
	}
	report, err := c.engine.Calendar(ctx, shelf.Store, o)
	if err != nil {
		return explainBtrsend(err, report)
	}
	for _, b := range report.Removed {
		c.tell(calendarRecord{Event: "removed", Path: b.Date.String(), Destination: c.to.name, ID: b.Snapshot.ID}, "WOULD: Delete the backup of %s from %s", b.Date, c.to.name)
	}
	d := report.Decision
	rec := calendarRecord{Event: "wanted", Path: c.day, Destination: c.to.name, Reason: d.Reason}
	switch {
	case !d.Create:
		rec.Event = "unwanted"
		c.tell(rec, "%s would want no backup of %s: %s", c.to.name, c.day, d.Reason)
	case d.Parent.IsZero():
		c.tell(rec, "WOULD: Bring %s to %s in full: %s", c.day, c.to.name, d.Reason)
	default:
		rec.Parent = d.Parent.String()
		c.tell(rec, "WOULD: Bring the increment from %s to %s to %s: %s", d.Parent, c.day, c.to.name, d.Reason)
	}
	return nil
}
