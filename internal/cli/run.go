package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/metrics"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
	"github.com/buttersink/buttersink/internal/systemd"
)

// runOptions are the flags of run.
type runOptions struct {
	dryRun, json, noProgress, force bool
}

// newRun returns the command that carries out jobs of the configuration.
func newRun(env *Env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] [JOB...]",
		Short: "Carry out jobs of the configuration: snapshot, transfer, prune",
		Long: `run carries out the jobs of the configuration that are named, or all of them, one
after the other in the order of the file. It is what a timer calls.

A job goes like this. Its "before" programs are run. Snapshots are made of all its
sources, under one time. Its "after-snapshot" programs are run, also if something
has failed before: what was stopped goes on. Each destination gets what is due
there, and then what is not due any more is removed, here and there, as "buttersink
backup --help" explains it. In the end the "after" programs are run, those of
"on-failure" if something has failed, and whoever is to be notified is.

What fails at one source, destination or job keeps no other from being served.
Where another run sends or removes at the same place, this one makes its snapshots
and waits for it then; one without destinations leaves what it would remove to its
next run. Of one job there is one run at a time. What was interrupted is carried on
by the next run.

How it went is written into the ledger: "buttersink status" and "buttersink
history" show it.

Before: what the configuration says is right, or no job is begun ("buttersink config
check"). Where a file or a program is missing, or others can change or read it, only
what it is for fails: the job of a "before" or "after-snapshot" program, of which no
snapshot is made then; the destination of a key; who was to be notified. It runs as
root, or as somebody who may do what the jobs are about.

After: what each job is about is done, whole and on the disk, if the exit code is 0.
It is 4 if some is done and some is not, 3 if the configuration is wrong or nothing
could be begun for want of what it names, 6 if nothing but what is in the way has
kept it from being done, and 7 if another run of the only job is going on. With -n
nothing is done, no program is run and nobody is told.`,
		Example: `  buttersink run                    all jobs
  buttersink run home srv           these two
  buttersink run -n home            show what it would do
  buttersink run --force home       this once, also what it has refused
  buttersink -c test.toml run       with another configuration`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runJobs(cmd.Context(), env, cmd.CommandPath(), &o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVarP(&o.noProgress, "no-progress", "P", false, "draw nothing; say only what begins and ends")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.BoolVar(&o.force, "force", false, "remove more than half of a series at once; send to a destination that is on another file system than before")
	return cmd
}

// jobsOf are the jobs that are named, or all, in the order of the configuration.
func jobsOf(command string, f *config.File, names []string) ([]*config.Job, error) {
	var all []*config.Job
	var known []string
	for i := range f.Jobs {
		known = append(known, f.Jobs[i].Name)
		if len(names) == 0 || slices.Contains(names, f.Jobs[i].Name) {
			all = append(all, &f.Jobs[i])
		}
	}
	for _, name := range names {
		switch {
		case slices.Contains(known, name):
		case len(known) == 0:
			return nil, usagef(command, "there is no job %q: %s has none", name, f.Path)
		default:
			return nil, usagef(command, "there is no job %q: %s has %s", name, f.Path, strings.Join(known, ", "))
		}
	}
	if len(all) == 0 {
		return nil, &exitError{
			code: exitConfig, err: fmt.Errorf("%s has no jobs", f.Path),
			hint: "'buttersink config example' shows what one looks like.",
		}
	}
	return all, nil
}

// jobLocks is where the locks of jobs are; empty if there is no place for them.
func (env *Env) jobLocks() string {
	dir := env.stateDir()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "jobs")
}

// jobRecord is the last record of a job, with --json.
type jobRecord struct {
	Event   string `json:"event"` // "job"
	Job     string `json:"job"`
	OK      bool   `json:"ok"`
	Exit    int    `json:"exit"`
	DryRun  bool   `json:"dry_run"`
	Sources int    `json:"sources"`
	Error   string `json:"error,omitempty"`
}

func runJobs(ctx context.Context, env *Env, command string, o *runOptions, names []string) error {
	if o.force && len(names) == 0 {
		return usagef(command, "--force is for jobs that are named")
	}
	f, err := env.loadConfig()
	if err != nil {
		return err
	}
	jobs, err := jobsOf(command, f, names)
	if err != nil {
		return err
	}
	env.warnOf(besides(f, jobs))
	w := &worker{env: env, command: command, o: o, engine: &job.Engine{Log: env.Log, Now: env.Now}}
	r := &runner.Runner{
		Worker: w, Notices: f.Notices, Redact: place.Redact, Hide: secretsOf(f),
		DryRun: o.dryRun, Log: env.Log, Now: env.Now,
	}
	if !o.dryRun {
		r.Locks, r.Ledger, r.Shield = env.jobLocks(), env.openLedger(), shield
		switch {
		case r.Locks == "":
			env.Log.Warn("Nothing will be known of this run afterwards, and nothing keeps another one away: BUTTERSINK_STATE names a directory for that")
		case r.Ledger == nil:
			env.Log.Warn("Nothing will be known of this run afterwards: 'buttersink status' takes it for one that never was")
		}
		w.engine.Ledger = r.Ledger
		w.manager = systemd.Ready("begins")
		defer w.manager.Stopping("ends")
	}
	defer keepRunning()()
	var ends []jobEnd
	for _, j := range jobs {
		if cause := context.Cause(ctx); cause != nil {
			end := jobEnd{job: j.Name, err: fmt.Errorf("%s: it was not begun: %w", j.Name, cause)}
			ends = append(ends, end)
			w.jobEnded(end, nil)
			continue
		}
		env.Log.Info(map[bool]string{true: "WOULD: "}[o.dryRun] + "Job " + j.Name)
		w.manager.Say(env.Now(), j.Name+": begins")
		report, err := r.Run(ctx, j)
		end := jobEnd{job: j.Name, err: explainJob(j.Name, err)}
		if failed, ok := errors.AsType[*runner.JobError](err); ok {
			end.done = failed.Done
		}
		ends = append(ends, end)
		w.jobEnded(end, report)
		if !o.dryRun {
			env.writeMetrics(f, r.Ledger)
		}
	}
	return explainRun(ends)
}

// shield keeps signals from ending the process on the spot, as the second one does
// otherwise, until it is undone.
func shield() (undo func()) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, endings()...)
	return func() { signal.Stop(caught) }
}

// jobEnded says how a job has ended. What has failed comes last of all.
func (w *worker) jobEnded(end jobEnd, r *runner.Report) {
	if w.o.json {
		record := jobRecord{Event: "job", Job: end.job, OK: end.err == nil, Exit: judge(end.err).code, DryRun: w.o.dryRun, Error: errorText(end.err)}
		if r != nil {
			record.Sources = len(r.Sources)
		}
		newRecords(w.env.Stdout).put(record)
	}
	text := end.job + ": done"
	if end.err != nil {
		text = end.job + ": not complete"
	}
	w.manager.Say(w.env.Now(), text)
	switch {
	case w.o.json, w.o.dryRun:
	case end.err != nil:
		w.env.Log.Warn(text)
	default:
		w.env.Log.Info(text)
	}
}

// writeMetrics writes how all jobs stand, where the configuration wants that.
func (env *Env) writeMetrics(f *config.File, l *ledger.Ledger) {
	if f.Textfile == "" || l == nil {
		return
	}
	locks := env.jobLocks()
	s, err := runner.Look(f, l, env.Now(), 0, func(name string) bool { return runner.Running(locks, name) })
	if err == nil {
		err = metrics.Write(f.Textfile, s)
	}
	if err != nil {
		env.Log.Warn("The metrics are not up to date", "file", f.Textfile, "error", err)
	}
}

// shortestKey is from how many bytes on an element of a ping's path is a secret.
const shortestKey = 8

// secretsOf are what is starred wherever it would be shown.
func secretsOf(f *config.File) []string {
	var all []string
	for _, n := range f.Notices {
		at, err := url.Parse(n.Ping)
		if n.Ping == "" || err != nil {
			continue
		}
		all = append(all, n.Ping)
		// Services have the key in the path, with the name of the job behind it.
		for part := range strings.SplitSeq(at.Path, "/") {
			if len(part) >= shortestKey {
				all = append(all, part)
			}
		}
	}
	return all
}

// jobEnd is how a job has ended.
type jobEnd struct {
	job  string
	err  error // explained
	done bool  // some of it is
}

// explainJob gives the error of a job its exit code and hint. Each line begins with
// the name of the job.
func explainJob(name string, err error) error {
	failed, ok := errors.AsType[*runner.JobError](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		v := judge(err)
		if _, locked := errors.AsType[*runner.LockedError](err); locked {
			v = verdict{exitLocked, "Nothing was done. 'buttersink status' shows what is going on."}
		}
		return &exitError{code: v.code, err: err, hint: v.hint}
	}
	x := &exitError{}
	var lines []error
	var codes []int
	for _, f := range failed.Failures {
		before := name + ": "
		cause := f
		if s, ok := errors.AsType[*runner.SourceError](f); ok {
			before, cause = before+place.Redact(s.Source)+": ", s.Err
		}
		for _, e := range flatten(cause) {
			lines = append(lines, fmt.Errorf("%s%w", before, e))
		}
		v := judge(cause)
		if v.code == exitUsage { // nobody has typed anything
			v = verdict{code: exitConfig}
		}
		codes = append(codes, v.code)
		if x.hint == "" {
			x.hint = v.hint
		}
	}
	x.code, x.err = together(codes, failed.Done), errors.Join(lines...)
	return x
}

// together is the exit code for several failures, and whether anything is done
// beside them.
func together(codes []int, done bool) int {
	first := codes[0]
	same := !slices.ContainsFunc(codes, func(c int) bool { return c != first })
	switch {
	case slices.Contains(codes, exitInterrupted):
		return exitInterrupted
	case same && (first == exitConflict || first == exitPending):
		return first
	case done, slices.Contains(codes, exitPartly):
		return exitPartly
	case same:
		return first
	}
	return exitFailed
}

// explainRun is what run ends with.
func explainRun(ends []jobEnd) error {
	x := &exitError{}
	var lines []error
	var codes []int
	done := false
	for _, e := range ends {
		if e.err == nil {
			done = true
			continue
		}
		v := judge(e.err)
		lines, codes, done = append(lines, e.err), append(codes, v.code), done || e.done
		if x.hint == "" {
			x.hint = v.hint
		}
	}
	if len(codes) == 0 {
		return nil
	}
	x.code, x.err = together(codes, done), errors.Join(lines...)
	return x
}
