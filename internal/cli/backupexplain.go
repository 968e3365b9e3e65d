package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/store"
)

// explainBackup gives the errors of a backup their exit code and hints.
func explainBackup(err error, o *backupOptions) error {
	e, ok := errors.AsType[*job.BackupError](err)
	if !ok {
		return explainPrune(err)
	}
	x := &exitError{code: exitFailed}
	lines := []error{errors.New("the backup is not complete")}
	if o.dryRun {
		lines[0] = errors.New("the backup would not be complete")
	}
	cut, interrupted := errors.AsType[*interruptedError](err)
	if interrupted {
		lines[0] = fmt.Errorf("%w; %w", cut, lines[0])
	}
	conflicts, pending, troubles := 0, 0, 0
	for _, f := range e.Failures {
		lines = append(lines, expanded(f)...)
		switch {
		case isConflict(f):
			conflicts++
		case judge(unexplained(f)).code == exitPending:
			pending++
		case judge(unexplained(f)).code == exitConfig:
			troubles++
		}
		if x.hint == "" {
			x.hint = hintOf(f)
		}
	}
	switch {
	case interrupted:
		x.code, x.hint = exitInterrupted, "Nothing half-made looks whole; the next run carries on."
	case conflicts == len(e.Failures):
		x.code = exitConflict
	case pending == len(e.Failures):
		x.code = exitPending
	case e.Done:
		x.code = exitPartly
	case troubles == len(e.Failures):
		x.code = exitConfig
	}
	if x.hint == "" && x.code == exitPartly && !o.dryRun {
		x.hint = "What is done stays done; the next run carries on with the rest."
	}
	x.err = errors.Join(lines...)
	return x
}

// unexplained is an error without what this room has made of it, so that its verdict is
// its own.
func unexplained(err error) error {
	for {
		x, ok := errors.AsType[*exitError](err)
		if !ok {
			return err
		}
		err = x.err
	}
}

// isConflict reports whether nothing but what is at a place is in the way.
func isConflict(err error) bool {
	if e, ok := errors.AsType[*job.IncompleteError](err); ok {
		return e.Conflicts
	}
	if _, ok := errors.AsType[*job.RemovalError](err); ok {
		return false
	}
	if _, ok := errors.AsType[*job.ForceError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*job.FullError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*job.PlaceError](err); ok {
		return true
	}
	_, ok := errors.AsType[*store.ExistsError](err)
	return ok
}

// expanded is a failure of one place, line by line: each begins with the place, as
// the failure does.
func expanded(err error) []error {
	if e, ok := errors.AsType[*job.ForceError](err); ok {
		return []error{tooMuch(e)} // which names the place
	}
	place, inner := inside(err)
	switch e := inner.(type) {
	case *job.IncompleteError:
		lines := []error{err}
		for _, f := range gathered(e.Failures) {
			lines = append(lines, fmt.Errorf("%s%w", place, f))
		}
		if _, signal := errors.AsType[*interruptedError](e.Interrupted); e.Interrupted != nil && !signal {
			lines = append(lines, fmt.Errorf("%s%w", place, e.Interrupted))
		}
		return lines
	case *job.RemovalError:
		lines := []error{err}
		for _, f := range e.Failures {
			lines = append(lines, fmt.Errorf("%s%w", place, f))
		}
		return lines
	case *job.FullError:
		lines := []error{err}
		for _, s := range e.Steps {
			lines = append(lines, fmt.Errorf("%s%s, %s: %s", place, s.Path, meter.Size(s.Size), s.Reason))
		}
		return lines
	}
	return []error{err}
}

// inside returns the error of a verb in a failure, and what stands before it.
func inside(err error) (before string, inner error) {
	text := err.Error()
	for inner = err; inner != nil; inner = errors.Unwrap(inner) {
		switch inner.(type) {
		case *job.IncompleteError, *job.RemovalError, *job.FullError:
			before, _ = strings.CutSuffix(text, inner.Error())
			return before, inner
		}
	}
	return "", err
}

// hintOf is what to do about a failure of one place.
func hintOf(err error) string {
	if _, ok := errors.AsType[*job.ForceError](err); ok {
		return forceHint
	}
	if _, ok := errors.AsType[*job.FullError](err); ok {
		return "If that is right, run it from a terminal, or raise --max-full. If not, make a parent available: 'buttersink explain' says what speaks against each."
	}
	if _, ok := errors.AsType[*job.PlaceError](err); ok {
		return "Nothing was sent there. Mount what belongs there and run it again; if it is meant to begin anew there, give --force once ('buttersink run --force JOB')."
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return "A file system is full: make room there, and the next run carries on.  At a destination, 'buttersink list -d' gives back what interrupted transfers hold, which begin again then."
	}
	if _, ok := errors.AsType[*store.LockedError](err); ok {
		return "The next run brings there what is missing; with --wait a run waits for the other one."
	}
	if v := judge(err); v.hint != "" {
		return v.hint
	}
	if e, ok := errors.AsType[*job.IncompleteError](err); ok && e.Conflicts {
		return "Nothing is ever overwritten: move what is in the way, or choose another destination."
	}
	return ""
}
