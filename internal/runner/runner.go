// Package runner carries out the jobs of a configuration unattended, and answers
// how they stand.
//
//	r := &runner.Runner{Worker: w, Ledger: l, Locks: dir, Notices: f.Notices, Log: log}
//	report, err := r.Run(ctx, &f.Jobs[0])
//
// # What the room knows
//
// In which order a run of a job goes: its hooks, the snapshots of all its sources,
// then, source by source, what is brought to the destinations and removed again;
// what becomes of that if something of it fails; whom to tell; what is written into
// the ledger about it (ledger.JobRun), and what that means for somebody who asks how
// things stand (Look).
//
// # What it refuses to know
//
// What stores are, how snapshots are made and where they go: a Worker does that.
// Nothing is printed here.
//
// # Invariants
//
//   - One run of a job goes on at a time. Who it is can be told from outside
//     (Running), and a killed run holds nothing.
//   - Nothing is begun unless all programs of Before have succeeded, and none of them
//     is run unless those of AfterSnapshot can be. Where any of them
//     was started, all programs of AfterSnapshot are run, whatever fails and even if
//     the run is interrupted: what was frozen thaws, unless this process is killed. The
//     snapshots in between are given up after some minutes.
//   - What fails at one source or destination keeps no other from what it gets, and
//     makes the run fail.
//   - Who could not be told is a warning; the job has not failed for that.
//   - A dry run locks, runs, writes and tells nothing.
//
// Memory is that of the report.
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/notify"
)

// Source is one subvolume that a job is about.
type Source struct {
	// Arg is how it would be typed, and Name what "{source}" stands for.
	Arg, Name string
	// Found is what was found there where a pattern or an outer source stands for it:
	// whose it is may change that at any time.
	Found Found
	// Refused is why the Worker makes no backup of it; nil if it does.
	Refused error
}

// Found says which subvolume it was that the Worker has found.
type Found struct {
	// Base is the directory below which nothing that others can change is trusted;
	// empty if all of the path is written down in the configuration.
	Base string
	// UUID and Number are the subvolume's own; zero if they are not known.
	UUID   [16]byte
	Number uint64
}

// Worker does what a job is about; the front door has it.
type Worker interface {
	// Sources returns the subvolumes that a job is about now.
	Sources(ctx context.Context, j *config.Job) ([]Source, error)
	// Snapshot makes the snapshot of a source, named by a time that all sources of the
	// run share, and says so as of the source itself.
	Snapshot(ctx context.Context, j *config.Job, s Source, at time.Time) (ledger.PlaceRun, error)
	// Transfer brings to every destination what is due there, and removes what is not
	// due any more, and says so of each place, as far as it came to that. An error
	// says what a place that is not complete has not said for itself, too.
	Transfer(ctx context.Context, j *config.Job, s Source) ([]ledger.PlaceRun, error)
}

// Runner runs jobs.
type Runner struct {
	Worker Worker
	// Ledger is written into; nil writes nothing.
	Ledger *ledger.Ledger
	// Locks is the directory of the jobs' locks; empty locks nothing.
	Locks string
	// Notices are whom jobs may tell.
	Notices []config.Notice
	// Host is the name of this machine, for who is told.
	Host string
	// Hide is starred in what hooks print, and whom is told what.
	Hide []string
	// Redact makes the text of an error fit to be kept and to be told; nil leaves it
	// as it is.
	Redact func(string) string
	// Shield keeps signals from ending this process before it is undone, but for the
	// first, which ends the context of Run: what the programs of Before have stopped has
	// to go on. It may be nil.
	Shield func() (undo func())
	// DryRun has the Worker say what it would do, and nothing else done.
	DryRun bool
	// Log gets what hooks print, and warnings; nil is silence.
	Log *slog.Logger
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// Report is what became of a run.
type Report struct {
	Job          string
	Begun, Ended time.Time
	Sources      []Source
	// Places are in the order of the sources, the source itself first.
	Places []ledger.PlaceRun
}

// JobError says that not all of a job is done.
type JobError struct {
	Job string
	// Failures are what failed.
	Failures []error
	// Done is set if anything is.
	Done bool
}

func (e *JobError) Error() string {
	var each []string
	for _, err := range e.Failures {
		each = append(each, err.Error())
	}
	return fmt.Sprintf("job %s is not complete: %s", e.Job, strings.Join(each, "; "))
}

// Unwrap returns all failures.
func (e *JobError) Unwrap() []error { return e.Failures }

// SourceError says what failed of one source, at its destinations too.
type SourceError struct {
	Source string
	Err    error
}

func (e *SourceError) Error() string { return fmt.Sprintf("%s: %s", e.Source, e.Err) }

// Unwrap returns the failure.
func (e *SourceError) Unwrap() error { return e.Err }

// Run runs a job. It fails with *LockedError before anything is done if another run
// of the job is going on, with *JobError if some of it could not be done, and with
// what ended ctx.
func (r *Runner) Run(ctx context.Context, j *config.Job) (*Report, error) {
	n := &run{Runner: r, job: j, report: &Report{Job: j.Name, Begun: r.now()}, noted: map[string]bool{}}
	if r.DryRun {
		n.foresee(ctx)
		return n.report, n.err(ctx)
	}
	unlock, err := r.lock(j.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	n.open()
	told := n.telling(ctx)
	n.work(ctx)
	n.report.Ended = r.now()
	err = n.err(ctx)
	n.conclude(ctx, err)
	told(err)
	return n.report, err
}

func (r *Runner) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}

func (r *Runner) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}

// text is what is kept and told of an error.
func (r *Runner) text(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if r.Redact != nil {
		text = r.Redact(text)
	}
	return notify.Star(text, r.Hide)
}

// open notes in the ledger that the run begins.
func (n *run) open() {
	if n.Ledger == nil {
		return
	}
	id, err := n.Ledger.BeginJob(n.job.Name, n.report.Begun)
	if err != nil {
		n.log().Warn("Nothing will be known of this run afterwards", "error", err)
		return
	}
	n.id = id
}

// result is how something ended, in the words of the ledger.
func result(ctx context.Context, err error) ledger.Result {
	switch {
	case err == nil:
		return ledger.Done
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ledger.Interrupted
	}
	return ledger.Failed
}

// conclude notes in the ledger how the run has ended.
func (n *run) conclude(ctx context.Context, err error) {
	for _, s := range n.report.Sources { // of which it did not come to the transfers
		n.settle(s)
	}
	if n.id == 0 {
		return
	}
	end := ledger.Outcome{Result: result(ctx, err), Message: n.reasons(err), Ended: n.report.Ended}
	if err := n.Ledger.EndJob(n.id, end); err != nil {
		n.log().Warn("How this run has ended cannot be written down", "error", err)
	}
}

// reasons is why a run has failed, each failure in a line.
func (n *run) reasons(err error) string {
	failed, ok := errors.AsType[*JobError](err)
	if !ok {
		return n.text(err)
	}
	var lines []string
	for _, f := range failed.Failures {
		lines = append(lines, strings.ReplaceAll(n.text(f), "\n", "; "))
	}
	return strings.Join(lines, "\n")
}

// hostName is the name of this machine.
func (r *Runner) hostName() string {
	if r.Host != "" {
		return r.Host
	}
	name, err := os.Hostname()
	if err != nil {
		return "this machine"
	}
	return name
}
