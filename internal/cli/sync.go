package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// syncOptions are the flags of sync.
type syncOptions struct {
	dryRun, delete, estimate, json bool

	exclude  []string
	partSize int
}

// newSync returns the command that brings one directory's snapshots to another.
func newSync(env *Env) *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "sync [flags] SRC DST",
		Short: "Bring the snapshots of one directory to another",
		Long: `sync makes DST hold every snapshot that SRC holds. What is there already is
kept; what is missing is sent as an increment from the nearest related snapshot
that both sides have, and in full where there is none.

SRC is a directory with a slash at its end, for all snapshots below it, or one
snapshot without a slash. DST is a directory; snapshots get the same paths below
it as they have below SRC. Both are btrfs directories of this machine, written as
a path, or as btrfs:///path/ or file:///path/.

Before: both directories exist and are on mounted btrfs file systems; it runs as
root. Only read-only subvolumes are snapshots; nested subvolumes are not part of
the snapshot that they lie in.

After: every snapshot that is reported as transferred is whole, read-only and on
the disk, with the identity of its source. Nothing is ever overwritten. A snapshot
that is on its way is called NAME.part; an interrupted run leaves nothing else
behind, and the next one carries on with what is missing.

With --delete, snapshots inside DST that the directory of SRC does not hold are
removed, after everything else has succeeded; what will go is said before. A run
in which anything fails removes nothing.

Only one run at a time can write to a directory; another ends with exit code 7.
Sending cannot be stopped with Ctrl-Z: a stopped send has to start again.`,
		Example: `  buttersink sync -n /mnt/a/snaps/ /mnt/b/snaps/   show the plan, with exact sizes
  buttersink sync /mnt/a/snaps/ /mnt/b/snaps/      carry it out
  buttersink sync -d --exclude '.*-hourly' /mnt/a/snaps/ /mnt/b/snaps/
  buttersink sync /mnt/a/snaps/monday /mnt/b/snaps/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd.CommandPath(), "want a source and a destination, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSync(cmd.Context(), env, cmd.CommandPath(), &o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVarP(&o.delete, "delete", "d", false, "remove from DST what is not in SRC; without SRC: remove unfinished transfers")
	f.BoolVarP(&o.estimate, "estimate", "e", false, "never measure by a test send; sizes are about right")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out snapshots whose path matches `REGEX` at its start; may be repeated")
	f.IntVar(&o.partSize, "part-size", 100, "size of the parts of an upload, in `MiB`; between btrfs directories it has no effect")
	return cmd
}

func runSync(ctx context.Context, env *Env, command string, o *syncOptions, source, destination string) (err error) {
	show := newSyncView(env, o)
	var report *job.SyncReport
	defer func() {
		show.close()
		show.result(report, err)
	}()
	if o.partSize < 1 {
		return usagef(command, "--part-size %d: want 1 MiB or more", o.partSize)
	}
	exclude, err := patterns(command, o.exclude)
	if err != nil {
		return err
	}
	src, err := openPlace(env, command, source, false)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openPlace(env, command, destination, true)
	if err != nil {
		return err
	}
	defer dst.Close()
	defer keepRunning()()

	engine := &job.Engine{Log: env.Log}
	if !o.dryRun {
		engine.Ledger = env.openLedger()
	}
	report, err = engine.Sync(ctx, src.Store, dst.Store, job.SyncOptions{
		Selection: job.Selection{Name: src.name, Exclude: exclude},
		Delete:    o.delete, DryRun: o.dryRun, Estimate: o.estimate,
		Who:       strings.Join([]string{"buttersink sync", src.arg, dst.arg}, " "),
		Measuring: show.measuring, Planned: show.planned, Event: show.event, Removed: show.removed,
	})
	return explainSync(err, command, src)
}

// keepRunning keeps Ctrl-Z from stopping a send: the kernel would begin the
// stream anew in the middle.
func keepRunning() (undo func()) {
	signal.Ignore(syscall.SIGTSTP)
	return func() { signal.Reset(syscall.SIGTSTP) }
}

// patterns compiles the values of --exclude.
func patterns(command string, texts []string) ([]*regexp.Regexp, error) {
	var all []*regexp.Regexp
	for _, text := range texts {
		if text == "" {
			return nil, usagef(command, "--exclude is empty, which would leave out everything")
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return nil, usagef(command, "--exclude %q is no regular expression: %v", text, err)
		}
		all = append(all, re)
	}
	return all, nil
}

// explainSync gives the errors of the engine their exit codes and hints.
func explainSync(err error, command string, src *opened) error {
	if e, ok := errors.AsType[*job.IncompleteError](err); ok {
		return explainIncomplete(e)
	}
	if e, ok := errors.AsType[*job.NoSnapshotsError](err); ok {
		return &exitError{code: exitFailed, err: err, hint: src.noSnapshots(e.There)}
	}
	if _, ok := errors.AsType[*job.SamePlaceError](err); ok {
		return &usageError{command: command, err: err}
	}
	if e, ok := errors.AsType[*job.RemovalError](err); ok {
		return &exitError{
			code: exitPartly,
			err:  errors.Join(append([]error{e}, e.Failures...)...),
			hint: "Everything was transferred; the next run tries again to remove the rest.",
		}
	}
	return err
}

func explainIncomplete(e *job.IncompleteError) error {
	x := &exitError{code: exitFailed}
	var head error = e
	cut, interrupted := errors.AsType[*interruptedError](e.Interrupted)
	switch {
	case interrupted:
		head = fmt.Errorf("%w; %d of %d snapshots are at the destination", cut, e.Done, e.Wanted)
		x.code, x.hint = exitInterrupted, "Nothing half-made looks whole; the next run carries on."
	case e.Conflicts:
		x.code, x.hint = exitConflict, "Nothing is ever overwritten: move what is in the way, or choose another destination."
	case e.Done > 0 && e.DryRun:
		x.code = exitPartly
	case e.Done > 0:
		x.code, x.hint = exitPartly, "What is done stays done; the next run carries on with the rest."
	}
	x.err = errors.Join(append([]error{head}, e.Failures...)...)
	return x
}

// syncView shows people or machines what a sync does.
type syncView struct {
	env      *Env
	o        *syncOptions
	progress *progress
	outlook  *job.Outlook
}

func newSyncView(env *Env, o *syncOptions) *syncView {
	return &syncView{env: env, o: o, progress: env.newProgress(o.json)}
}

func (v *syncView) close() { v.progress.close() }

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

// planned shows the plan before anything is done.
func (v *syncView) planned(o *job.Outlook) {
	v.outlook = o
	v.progress.expect(o)
	if v.o.json {
		v.progress.emit(recordOfPlan(o, v.o.dryRun))
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
	total := sizeText(o.Total())
	if sends > 0 {
		v.say("%s from %d diffs in %s", total, sends, o.Source)
	}
	if n := len(o.Keep) + copies; n > 0 {
		v.say("0 bytes from %d diffs in %s", n, o.Destination)
	}
	v.say("%s from %d diffs in TOTAL", total, len(o.Steps)+len(o.Keep))
	for _, k := range o.Keep {
		v.say("Keep: %s %s", k.ID.Short(), o.DestinationHas.Where(k))
	}
	for _, p := range o.Problems {
		v.env.Log.Warn(fmt.Sprintf("%s cannot be transferred: %s", o.SourceHolds.Where(p.Snapshot), p.Why))
	}
	if v.o.dryRun {
		for _, s := range o.Steps {
			v.say("WOULD: %s", v.stepLine(s))
			v.say("       %s", s.Reason)
		}
	}
	for _, s := range o.Remove {
		v.say("%s: %s", map[bool]string{true: "WOULD: Delete subvolume", false: "Will delete subvolume"}[v.o.dryRun], s.Path)
	}
}

// stepLine is the line of a step, as ButterSink writes it.
func (v *syncView) stepLine(s plan.Step) string {
	where := func(snap snapshot.Snapshot) string { return snap.ID.Short() + " " + v.outlook.SourceHolds.Where(snap) }
	if s.Action == plan.Copy {
		return fmt.Sprintf("Copy: %s to %s", where(s.Snapshot), path.Join(v.outlook.DestinationHas.Dir, s.Path))
	}
	parent := "None"
	if !s.Edge.IsFull() {
		parent = where(s.Parent)
	}
	return fmt.Sprintf("Xfer: %s from %s (%s)", where(s.Snapshot), parent, sizeText(s.Size))
}

// event shows what happens to a step.
func (v *syncView) event(e transfer.Event) {
	if !v.o.json && e.Kind == transfer.StepBegun && e.Try <= 1 {
		v.say("%s", v.stepLine(v.outlook.Steps[e.Step-1]))
	}
	v.progress.event(e)
}

func (v *syncView) removed(s snapshot.Snapshot, err error) {
	if v.o.json {
		v.progress.emit(removedRecord{Event: "removed", ID: s.ID, Path: validText(s.Path), Error: errorText(err)})
		return
	}
	if err == nil {
		v.say("Delete subvolume %s", s.Path)
	}
}

// result ends what was shown.
func (v *syncView) result(r *job.SyncReport, err error) {
	record := resultRecord{Event: "result", OK: err == nil, Exit: judge(err).code, DryRun: v.o.dryRun, Error: errorText(err)}
	if r != nil {
		record.Kept, record.Removed = r.Kept, len(r.Removed)
		record.Transferred, record.Bytes = r.Transferred, r.Bytes
	}
	if v.o.json {
		v.progress.emit(record)
		return
	}
	if err == nil && !v.o.dryRun {
		v.say("Done: %d transferred (%s), %d kept, %d removed", record.Transferred, humanSize(record.Bytes), record.Kept, record.Removed)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return validText(redact(err.Error()))
}
