package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// syncView shows people or machines what a sync does.
type syncView struct {
	env      *Env
	o        *syncOptions
	progress *progress
	outlook  *job.Outlook
	// goesForGood is set if what is removed from the destination cannot be put back,
	// though that is an archive.
	goesForGood bool
	pending     waitingView

	ctx     context.Context // of the run
	release func()          // lets the machine sleep again
}

func newSyncView(env *Env, o *syncOptions) *syncView {
	return &syncView{env: env, o: o, progress: env.newProgress(o.json), pending: waitingView{env: env}}
}

func (v *syncView) close() {
	v.progress.close()
	v.letSleep()
}

// letSleep lets the machine go to sleep again.
func (v *syncView) letSleep() {
	if v.release != nil {
		v.release()
		v.release = nil
	}
}

func (v *syncView) say(format string, args ...any) { v.env.Log.Info(fmt.Sprintf(format, args...)) }

// measuring tells that a test send is going on, which may take a while.
func (v *syncView) measuring(s plan.Step) {
	if v.o.json {
		return
	}
	parent := "None"
	if !s.Edge.IsFull() {
		parent = s.Parent.ID.Short() + " " + s.Parent.Path
	}
	v.say("Measuring %s %s from %s", s.Snapshot.ID.Short(), s.Snapshot.Path, parent)
}

// planned shows the plan before anything is done. A plan that is made anew adds
// no warnings: what failed has been said, and is said in the end with what comes
// of it.
func (v *syncView) planned(o *job.Outlook) {
	anew := v.outlook != nil
	v.outlook = o
	v.progress.begin()
	if v.o.json {
		v.progress.emit(recordOfPlan(o, v.o.dryRun))
		return
	}
	if anew && len(o.Steps) == 0 {
		return
	}
	sends, copies := 0, 0
	for _, s := range o.Steps {
		if s.Action == plan.Send {
			sends++
		} else {
			copies++
		}
	}
	if o.Excluded > 0 {
		v.say("Excluded: %d snapshots", o.Excluded)
	}
	v.say("Optimal synchronization:")
	total := meter.Size(o.Total())
	if sends > 0 {
		v.say("%s from %d diffs in %s", total, sends, o.Source)
	}
	if n := len(o.Keep) + copies; n > 0 {
		v.say("0 bytes from %d diffs in %s", n, o.Destination)
	}
	v.say("%s from %d diffs in TOTAL", total, len(o.Steps)+len(o.Keep))
	if v.o.dryRun && o.Bound < o.Cost {
		v.say("No choice of parents costs less than %s; this one costs %s", meter.Bytes(o.Bound), meter.Bytes(o.Cost))
	}
	for _, k := range o.Keep {
		v.say("Keep: %s %s", k.ID.Short(), o.DestinationHas.Where(k))
	}
	for _, p := range o.Problems {
		if anew {
			break
		}
		v.env.Log.Warn(fmt.Sprintf("%s cannot be transferred: %s", o.SourceHolds.Where(p.Snapshot), p.Why))
	}
	if v.o.dryRun {
		for _, s := range o.Steps {
			v.say("WOULD: %s", stepLine(o, s))
			v.say("       %s", s.Reason)
			if line := clonesLine(s); line != "" {
				v.say("       %s", line)
			}
		}
	}
	v.env.sayCold(&v.o.thaw, o.Thawings, v.o.dryRun)
	switch {
	case o.Forecast == nil:
	case v.o.dryRun:
		v.env.sayForecast(o.Forecast)
		v.env.warnDear(&v.o.thaw, o.Forecast.Restoring)
	default:
		v.env.sayRestoring(&v.o.thaw, "Estimate of reading the source", o.Forecast.Restoring, false)
	}
	v.env.warnFull("", v.o.maxFull, o)
	if v.o.delete {
		for _, s := range needed(o) {
			v.say("Stays, since a snapshot that stays starts from it: %s", s.Path)
		}
	}
	for _, s := range o.Remove {
		would, will := "WOULD: Delete subvolume", "Will delete subvolume"
		switch {
		case v.goesForGood:
			would, will = "WOULD: Delete for good", "Will delete for good"
		case o.DestinationHas.Archive:
			would, will = "WOULD: Trash", "Will trash"
		}
		v.say("%s: %s", map[bool]string{true: would, false: will}[v.o.dryRun], s.Path)
	}
}

// needed are the snapshots of an archive that the source does not have any more,
// and that are not removed, since the chain of another one needs them.
func needed(o *job.Outlook) (all []snapshot.Snapshot) {
	if !o.DestinationHas.Archive {
		return nil
	}
	going := map[snapshot.ID]bool{}
	for _, s := range o.Remove {
		going[s.ID] = true
	}
	for _, s := range o.DestinationHas.Inside() {
		if here, ok := o.SourceHolds.Find(s.ID); !going[s.ID] && (!ok || here.Outside) {
			all = append(all, s)
		}
	}
	return all
}

// warnFull says on a terminal what would have ended a run without one.
func (env *Env) warnFull(prefix string, limit sizeFlag, o *job.Outlook) {
	if limit.given == "" || !env.attended() {
		return
	}
	n := 0
	for _, s := range o.Steps {
		switch {
		case s.Action != plan.Send || !s.Edge.IsFull() || s.Size.Known && s.Size.Bytes <= limit.bytes:
		case n < 3:
			n++
			env.Log.Warn(fmt.Sprintf("%s%s is longer than --max-full %s (%s): %s", prefix, o.SourceHolds.Where(s.Snapshot), limit.given, meter.Size(s.Size), s.Reason))
		default:
			n++
		}
	}
	if n > 3 {
		env.Log.Warn(fmt.Sprintf("%sSo are %d more", prefix, n-3))
	}
}

// clonesLine names the snapshots whose data a stream need not carry again.
func clonesLine(s plan.Step) string {
	if len(s.Clones) == 0 {
		return ""
	}
	var names []string
	for _, c := range s.Clones[:min(len(s.Clones), 3)] {
		names = append(names, c.Path)
	}
	line := "shares data with " + strings.Join(names, ", ")
	if more := len(s.Clones) - len(names); more > 0 {
		line += fmt.Sprintf(" and %d more", more)
	}
	return line
}

// stepLine is the line of a step, as ButterSink writes it.
func stepLine(o *job.Outlook, s plan.Step) string {
	where := func(snap snapshot.Snapshot) string { return snap.ID.Short() + " " + o.SourceHolds.Where(snap) }
	if s.Action == plan.Copy {
		return fmt.Sprintf("Copy: %s to %s", where(s.Snapshot), path.Join(o.DestinationHas.Dir, s.Path))
	}
	parent := "None"
	if !s.Edge.IsFull() {
		parent = where(s.Parent)
	}
	return fmt.Sprintf("Xfer: %s from %s (%s)", where(s.Snapshot), parent, meter.Size(s.Size))
}

// event shows what happens to a step.
func (v *syncView) event(e transfer.Event) {
	if e.Kind == transfer.StepBegun && e.Action == plan.Send && v.release == nil {
		v.release = v.env.KeepAwake(v.ctx, "Sending snapshots", v.env.Log)
	}
	if !v.o.json && e.Kind == transfer.StepBegun && e.Try <= 1 {
		v.say("%s", stepLine(v.outlook, v.outlook.Steps[e.Step-1]))
	}
	v.progress.event(e)
}

// waiting shows what cold storage does not give yet.
func (v *syncView) waiting(all []job.Waiting) {
	v.letSleep()
	v.progress.close() // another plan begins it again
	if v.o.json {
		emitWaiting(v.progress.emit, all)
		return
	}
	v.pending.waiting(all)
}

func (v *syncView) removed(s snapshot.Snapshot, err error) {
	if v.o.json {
		v.progress.emit(removedRecord{Event: "removed", ID: s.ID, Path: validText(s.Path), Error: errorText(err)})
		return
	}
	if err == nil {
		what := "Delete subvolume"
		switch {
		case v.goesForGood:
			what = "Delete for good"
		case v.outlook.DestinationHas.Archive:
			what = "Trash"
		}
		v.say("%s %s", what, s.Path)
	}
}

// result ends what was shown.
func (v *syncView) result(r *job.SyncReport, err error) {
	record := resultRecord{Event: "result", OK: err == nil, Exit: judge(err).code, DryRun: v.o.dryRun, Error: errorText(err)}
	if r != nil {
		record.Kept, record.Removed = r.Kept, len(r.Removed)
		record.Transferred, record.Bytes, record.Skipped = r.Transferred, r.Bytes, r.Skipped
	}
	if e, ok := errors.AsType[*job.PendingError](err); ok {
		record.Pending, record.Due = len(e.Waiting), e.Due()
	} else if e, ok := errors.AsType[*job.IncompleteError](err); ok {
		for _, w := range e.Waiting {
			if w.State != store.Cold { // which nobody has asked for
				record.Pending++
			}
		}
	}
	if v.o.json {
		v.progress.emit(record)
		return
	}
	if err == nil && !v.o.dryRun {
		v.say("Done: %d transferred (%s), %d kept, %d removed%s",
			record.Transferred, meter.Bytes(record.Bytes), record.Kept, record.Removed, meter.Skipped(record.Skipped))
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return validText(place.Redact(err.Error()))
}
