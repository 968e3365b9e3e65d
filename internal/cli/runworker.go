package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/systemd"
	"github.com/buttersink/buttersink/internal/transfer"
)

// worker does what jobs are about, as backup does it.
type worker struct {
	env      *Env
	command  string
	o        *runOptions
	engine   *job.Engine
	manager  *systemd.Notifier
	made     map[string]*snapshot.Snapshot // in this run, by job and source
	days     map[string]time.Time          // of which the snapshots of calendars are
	underway underway                      // for the manager
}

var _ runner.Worker = (*worker)(nil)

// Sources returns the subvolumes that a job is about.
func (w *worker) Sources(ctx context.Context, j *config.Job) ([]runner.Source, error) {
	served := sync.OnceValue(func() map[string]bool { return w.served(j) })
	return w.env.sourcesOf(ctx, j, func(source string) bool { return served()[source] })
}

// served are the sources of which a run has made a backup before; a snapshot, where
// the job brings none anywhere.
func (w *worker) served(j *config.Job) map[string]bool {
	l := w.engine.Ledger
	if l == nil && w.o.dryRun {
		l, _ = w.env.readLedger() // a run says what is wrong with it
	}
	if l == nil {
		return nil
	}
	successes, _, err := l.LastPlaces(j.Name)
	if err != nil {
		w.env.Log.Warn("Which sources were there before is not known", "error", err)
	}
	all := map[string]bool{}
	for _, p := range successes {
		if p.Destination != "" || len(j.Destinations) == 0 {
			all[p.Source] = true
		}
	}
	return all
}

// who is how people know the run of a job.
func (w *worker) who(j *config.Job) string { return "buttersink run " + j.Name }

// sourcePlaces are the source of a run, without destinations.
func (w *worker) sourcePlaces(j *config.Job, s runner.Source) (*backupRun, error) {
	with, err := settingsOf(j.Settings)
	if err != nil {
		return nil, fmt.Errorf("the settings of job %s: %w", j.Name, err)
	}
	o := &backupOptions{
		syncOptions: *with, noProgress: w.o.noProgress,
		folder: strings.ReplaceAll(j.Snapshots, "{source}", s.Name), prefix: j.Prefix, utc: j.UTC,
		noSnapshot: !j.Snapshot,
	}
	o.dryRun, o.json = w.o.dryRun, w.o.json
	run := &backupRun{env: w.env, command: w.command, o: o, limit: pace.New(o.wire.limit.bytes), ledger: w.engine.Ledger}
	run.found = local.Found{Base: s.Found.Base, UUID: s.Found.UUID, Number: s.Found.Number}
	if err := run.from(s.Arg); err != nil {
		return nil, err
	}
	return run, nil
}

// places are the source of a run and its destinations.
func (w *worker) places(ctx context.Context, j *config.Job, s runner.Source) (*backupRun, error) {
	run, err := w.sourcePlaces(j, s)
	if err != nil {
		return nil, err
	}
	for i, name := range destinationNames(j, s) {
		d := &j.Destinations[i]
		t := &target{name: name, id: name, o: &syncOptions{}, rules: in(d.Keep, zoneOf(j.UTC))}
		// What is wrong with one keeps no other from being served.
		t.unusable = w.aim(ctx, run, t, d, s)
		if i := slices.IndexFunc(run.targets, func(o *target) bool { return o.id == t.id }); i >= 0 {
			t.id, t.unusable = name, fmt.Errorf("it is the same place as %s, which the job has too: remove one of the two", run.targets[i].name)
		}
		run.targets = append(run.targets, t)
	}
	return run, nil
}

// aim finds out where a destination of a run is, and what is kept there in which form.
func (w *worker) aim(ctx context.Context, run *backupRun, t *target, d *config.Destination, s runner.Source) error {
	p, err := place.Parse(d.URL, true)
	if err != nil {
		return err
	}
	if p, err = rooted(p); err != nil {
		return err
	}
	t.Place = forSource(p, s.Name)
	t.id = t.ID()
	o, err := settingsOf(d.Settings)
	if err != nil {
		return err
	}
	o.dryRun, o.json = w.o.dryRun, w.o.json
	t.o, t.limit = o, pace.New(o.wire.limit.bytes)
	t.Place = t.At(o.s3.endpoint)
	t.id = t.Over(o.ssh.options).ID()
	if err = o.check(w.command); err == nil {
		_, err = run.opening(t.site, o).forS3(t.Place)
	}
	if err == nil {
		t.seal, err = sealing(w.command, o.compress, o.encrypt)
		if trouble := troubleWith("encrypt", d.Troubles); err != nil && trouble != nil {
			err = trouble // which says where that stands
		}
	}
	if err == nil {
		err = usable(ctx, t.seal, sealPatience)
	}
	if usage, ok := errors.AsType[*usageError](err); ok { // here nobody has typed anything
		err = usage.err
	}
	return err
}

// sealPatience is how long what encrypts may take to show that it can.
const sealPatience = time.Minute

// usable says why nothing can be sealed. A gpg that waits for something, as for a lock
// that somebody has left, is not waited for: others are yet to be served.
func usable(ctx context.Context, s seal.Options, patience time.Duration) error {
	within, stop := context.WithTimeoutCause(ctx, patience, fmt.Errorf("what encrypts has not answered within %v", patience))
	defer stop()
	err := s.Usable(within)
	if err != nil && within.Err() != nil {
		return context.Cause(within)
	}
	return err
}

// forSource is the place with the name of a source where "{source}" stands. The
// name goes into the path alone: who can make a subvolume can give it any name, and
// is not to reach what else a URL says.
func forSource(p place.Place, name string) place.Place {
	p.Dir = strings.ReplaceAll(p.Dir, "{source}", name)
	p.Arg = strings.ReplaceAll(p.Arg, "{source}", name)
	return p
}

// Snapshot makes the snapshot of a source.
func (w *worker) Snapshot(ctx context.Context, j *config.Job, s runner.Source, at time.Time) (ledger.PlaceRun, error) {
	place := ledger.PlaceRun{}
	if s.Refused != nil {
		return place, s.Refused
	}
	run, err := w.sourcePlaces(j, s)
	if err != nil {
		return place, err
	}
	defer run.close()
	src, err := run.openSource(ctx)
	if err != nil {
		return place, err
	}
	defer src.Close()
	o := job.TakeOptions{
		Prefix: j.Prefix, Layout: j.Format, Zone: zoneOf(j.UTC), At: at,
		OnlyIfChanged: j.OnlyIfChanged, Wait: true, Who: w.who(j),
	}
	if j.Kind == config.Calendar {
		o.Prefix, o.Layout = "", calendarLayout
		w.dayIs(j, s, at)
	}
	report, err := w.engine.Take(ctx, src.Store, o)
	if err != nil {
		return place, explainPrune(err)
	}
	out := w.records(j, s)
	switch {
	case report.Taken != nil:
		place.Snapshot = report.Taken.Path
		w.keepMade(j, s, report.Taken)
		if w.o.json {
			out.put(takenRecord{Event: "taken", ID: report.Taken.ID, Path: validText(report.Taken.Path)})
		} else {
			w.env.Log.Info(fmt.Sprintf("%s -> %s", s.Arg, report.Taken.Path))
		}
	default:
		if report.Last != nil {
			place.Snapshot = report.Last.Path
		}
		if w.o.json {
			out.put(untakenRecord{Event: "not-taken", Why: validText(report.Why)})
		} else {
			w.env.Log.Info(fmt.Sprintf("%s: no snapshot is made: %s", s.Arg, report.Why))
		}
	}
	return place, nil
}

// keepMade remembers the snapshot that the run has made of a source: until the run is
// over, it is more than one of many.
func (w *worker) keepMade(j *config.Job, s runner.Source, made *snapshot.Snapshot) {
	if w.made == nil {
		w.made = map[string]*snapshot.Snapshot{}
	}
	w.made[j.Name+"\x00"+s.Arg] = made
}

// untakenRecord says why no snapshot was made.
type untakenRecord struct {
	Event string `json:"event"` // "not-taken"
	Why   string `json:"why"`
}

// records are those about a source of a job.
func (w *worker) records(j *config.Job, s runner.Source) *records {
	return newRecords(w.env.Stdout).about("job", j.Name, "source", validText(place.Redact(s.Arg)))
}

// Transfer brings what is due to the destinations of a job, and prunes.
func (w *worker) Transfer(ctx context.Context, j *config.Job, s runner.Source) ([]ledger.PlaceRun, error) {
	if s.Refused != nil {
		return failedAt(destinationNames(j, s), s.Refused), s.Refused
	}
	if j.Kind == config.Calendar {
		return w.calendar(ctx, j, s)
	}
	run, err := w.places(ctx, j, s)
	if err != nil {
		return failedAt(destinationNames(j, s), err), err
	}
	show := newBackupView(w.env, run.o)
	show.out, show.unattended = w.records(j, s), true
	defer show.close()
	show.places(run)
	report, failure := w.backup(ctx, j, s, run, show)
	if failure == nil && !w.o.dryRun && !j.Snapshot && idle(report) {
		failure = &exitError{
			code: exitFailed, err: fmt.Errorf("%s: there is no snapshot %s%s to bring anywhere", run.folder().Dir, j.Prefix, j.Format),
			hint: "The job makes none (snapshot = false): do the others that are to make them work, and is this where they put them?",
		}
		for i := range report.Destinations {
			report.Destinations[i].Err = failure
		}
	}
	err = explainBackup(failure, run.o)
	show.close()
	w.putOff(j, s, report)
	show.result(report, err)
	return placesOf(destinationNames(j, s), report, failure), err
}

// putOff says what is left for the next run, if anything is.
func (w *worker) putOff(j *config.Job, s runner.Source, r *job.BackupReport) {
	switch {
	case r == nil || r.PutOff == nil:
	case w.o.json:
		w.records(j, s).put(putOffRecord{Event: "put-off", Due: r.PutOff.Due, Why: validText(place.Redact(r.PutOff.Locked.Error()))})
	default:
		w.env.Log.Info(fmt.Sprintf("%s: %s", s.Arg, r.PutOff))
	}
}

// putOffRecord says that snapshots are left for the next run to remove.
type putOffRecord struct {
	Event string `json:"event"` // "put-off"
	Due   int    `json:"due"`   // how many; -1 if that is not known
	Why   string `json:"why"`
}

// removalPatience is how long a job without destinations waits for another run before
// it leaves what is to be removed to the next one: longer than another such job takes.
const removalPatience = 5 * time.Second

// idle reports whether there was nothing at all to bring to any destination, and never
// has been: a success of that would be one of nothing.
func idle(r *job.BackupReport) bool {
	return len(r.Destinations) > 0 && !slices.ContainsFunc(r.Destinations, func(d job.DestinationReport) bool {
		return d.Standing.Newest != "" || d.Standing.Outstanding != 0
	})
}

func (w *worker) backup(ctx context.Context, j *config.Job, s runner.Source, run *backupRun, show *backupView) (*job.BackupReport, error) {
	defer run.close()
	src, err := run.openSource(ctx)
	if first, ok := errors.AsType[*firstRunError](err); ok && w.o.dryRun {
		show.firstRun(first)
		return nil, run.unusable()
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()
	show.ctx = ctx
	show.opened(src)
	show.foretells()
	o := run.o
	return w.engine.Backup(ctx, src.Store, job.BackupOptions{
		Prefix: j.Prefix, Layout: j.Format, Zone: zoneOf(j.UTC),
		NoSnapshot: !j.Snapshot || !w.o.dryRun, // it is there already
		Made:       w.made[j.Name+"\x00"+s.Arg],
		Rules:      in(j.Keep, zoneOf(j.UTC)), Destinations: run.destinations(),
		StaleAfter: j.StaleAfter, Force: w.o.force, Wait: true, PutOffAfter: removalPatience,
		Estimate: o.estimate, DryRun: o.dryRun, Who: w.who(j),
		Unlocked: show.unlocked, Taken: show.taken, Measuring: show.measuring, Planned: show.planned,
		Event: func(destination string, e transfer.Event) {
			show.event(destination, e)
			w.status(j, destination, e)
		},
		Ended: show.ended, Judged: show.judged, Removed: show.removed,
	})
}

// status tells the service manager how far the transfers are.
func (w *worker) status(j *config.Job, destination string, e transfer.Event) {
	now := w.env.Now()
	w.underway.take(destination, e, now, func(text string) { w.manager.Status(now, j.Name+": "+text) })
}

// destinationNames are what the destinations of a job are called for a source.
func destinationNames(j *config.Job, s runner.Source) []string {
	var all []string
	for _, d := range j.Destinations {
		all = append(all, strings.ReplaceAll(d.Name, "{source}", s.Name))
	}
	return all
}

// failedAt is what becomes of all places where nothing could be begun.
func failedAt(names []string, err error) []ledger.PlaceRun {
	all := []ledger.PlaceRun{{Result: resultOf(err), Message: errorText(err)}}
	for _, name := range names {
		all = append(all, ledger.PlaceRun{Destination: name, Result: resultOf(err), Message: errorText(err), Outstanding: -1})
	}
	return all
}

func resultOf(err error) ledger.Result {
	switch {
	case err == nil:
		return ledger.Done
	case judge(err).code == exitInterrupted:
		return ledger.Interrupted
	}
	return ledger.Failed
}

// reasonText is why a place is not complete: what is to be said of it in one line, and
// the first cause, since without one nobody knows what to do.
func reasonText(err error) string {
	if err == nil {
		return ""
	}
	lines := expanded(err)
	text := errorText(lines[0])
	if len(lines) > 1 {
		text += ": " + errorText(lines[1])
	}
	if len(lines) > 2 {
		text += "; and more"
	}
	return text
}

// placesOf is what became of each place of a backup.
func placesOf(names []string, r *job.BackupReport, err error) []ledger.PlaceRun {
	if r == nil {
		return failedAt(names, err)
	}
	source := ledger.PlaceRun{Result: ledger.Done, AsOf: r.Newest}
	if r.Source != nil {
		source.Removed = len(r.Source.Removed)
	}
	if r.PutOff != nil {
		source.Message = place.Redact(r.PutOff.String())
	}
	all := []ledger.PlaceRun{}
	atDestinations := 0
	for _, d := range r.Destinations {
		asOf := d.Standing.AsOf
		if d.Standing.Outstanding < 0 {
			asOf = r.Newest
		}
		p := ledger.PlaceRun{
			Destination: d.Name, Result: resultOf(d.Err), Message: reasonText(d.Err),
			AsOf: asOf, Snapshot: d.Standing.Newest, Outstanding: d.Standing.Outstanding, Chain: d.Standing.Chain,
		}
		if d.Err != nil {
			atDestinations++
		}
		if d.Sync != nil {
			p.Transferred, p.Bytes = d.Sync.Transferred, d.Sync.Bytes
		}
		if d.Prune != nil {
			p.Removed = len(d.Prune.Removed)
		}
		all = append(all, p)
	}
	if failed, ok := errors.AsType[*job.BackupError](err); ok {
		// Those of the source come first.
		if here := failed.Failures[:len(failed.Failures)-min(atDestinations, len(failed.Failures))]; len(here) > 0 {
			var why []string
			for _, err := range here {
				why = append(why, reasonText(err))
			}
			source.Result, source.Message = resultOf(errors.Join(here...)), strings.Join(why, "; ")
		}
	} else if err != nil {
		source.Result, source.Message = resultOf(err), errorText(err)
	}
	return append([]ledger.PlaceRun{source}, all...)
}
