package transfer

import (
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Result is what became of one step.
type Result struct {
	Step plan.Step
	// Outcome is Committed, Failed, Skipped or Interrupted. Steps that were not
	// reached when the context ended are Skipped.
	Outcome Kind
	// Err is nil exactly when Outcome is Committed. For a step that was skipped
	// because of another it is a *DependencyError.
	Err error
	// Request is what the source was asked for: the edge, with those of the step's
	// clone sources that were there. It is zero for a step that was not tried, or
	// does not send.
	Request store.Request
	// Tries counts how often the step was begun.
	Tries int
	// Bytes is how far the last try has come in the stream, from its start: for a
	// step that is Committed, the stream's length. Resumed is how much of that an
	// earlier try or run had left at the destination, so that the last one did not
	// carry it.
	Bytes, Resumed int64
	// Skipped is how many bytes, as the destination stores them, were there from an
	// interrupted transfer and have been found to be right (store.Skipper): all of
	// the stream was carried, and these not stored again.
	Skipped int64
	// Stats is what the stream held as far as it was read.
	Stats stream.Stats
	// Begun and Ended are zero for a skipped step.
	Begun, Ended time.Time
}

// Report is what became of all steps, in their order.
type Report struct {
	Results []Result
}

// Bytes sums up the streams of the steps that were committed, with what was at
// the destination already where an interrupted transfer was carried on.
func (r *Report) Bytes() int64 {
	var n int64
	for _, s := range r.Results {
		if s.Outcome == Committed {
			n += s.Bytes
		}
	}
	return n
}

// Count returns how many steps had an outcome.
func (r *Report) Count(outcome Kind) int {
	n := 0
	for _, s := range r.Results {
		if s.Outcome == outcome {
			n++
		}
	}
	return n
}

// Err joins the errors of all steps that were tried and not committed, each
// with its path, and the reason why the rest was not reached. It is nil exactly
// when every step was committed.
func (r *Report) Err() error {
	var errs []error
	ended := r.Count(Interrupted) > 0
	for _, s := range r.Results {
		_, dependent := errors.AsType[*DependencyError](s.Err)
		switch {
		case s.Outcome == Committed || dependent:
		case s.Outcome == Skipped:
			// The context ended. It is said once.
			if !ended {
				errs, ended = append(errs, s.Err), true
			}
		default:
			errs = append(errs, fmt.Errorf("%s: %w", s.Step.Path, s.Err))
		}
	}
	return errors.Join(errs...)
}

// DependencyError says that a step was not tried because the one that makes its
// parent did not succeed.
type DependencyError struct {
	Path string // of the parent, at the destination
}

func (e *DependencyError) Error() string {
	return fmt.Sprintf("its parent %s was not transferred", e.Path)
}

// IdentityError says that a source gave another stream than the one it was
// asked for.
type IdentityError struct {
	Want, Found string // for people
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("the source gave the stream of %s, not of %s", e.Found, e.Want)
}
