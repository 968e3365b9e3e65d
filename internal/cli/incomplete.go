package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// waiting reports whether nothing but cold storage has kept something from being
// done, or what comes of that.
func waiting(failures []error) bool {
	cold := 0
	for _, err := range failures {
		p, problem := errors.AsType[*job.ProblemError](err)
		switch {
		case errors.Is(err, store.ErrCold):
			cold++
		case !problem || p.Conflict:
			return false
		}
	}
	return cold > 0
}

// explainIncomplete says what is not at the destination, and why.
func explainIncomplete(e *job.IncompleteError, src *opened, destination string) error {
	x := &exitError{code: exitFailed}
	var head error = e
	cut, interrupted := errors.AsType[*interruptedError](e.Interrupted)
	switch {
	case interrupted:
		head = fmt.Errorf("%w; %d of %d snapshots are at the destination", cut, e.Done, e.Wanted)
		x.code, x.hint = exitInterrupted, "Nothing half-made looks whole; the next run carries on."
	case waiting(e.Failures):
		x.code = exitPending // the hint is that of the errors
	case e.Conflicts:
		x.code, x.hint = exitConflict, "Nothing is ever overwritten: move what is in the way, leave it out (--exclude), or choose another destination."
	case e.Done > 0 && e.DryRun:
		x.code = exitPartly
	case e.Done > 0:
		x.code, x.hint = exitPartly, "What is done stays done; the next run carries on with the rest."
	}
	if full := func(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }; !interrupted && slices.ContainsFunc(e.Failures, full) {
		x.hint = fmt.Sprintf("The destination is full: make room there, and the next run carries on.  'buttersink list -d %s' gives back what interrupted transfers hold, which begin again then.", shellWord(destination))
	}
	if !interrupted && src.Archive() && slices.ContainsFunc(e.Failures, damaged) {
		x.hint = fmt.Sprintf("Trying again does not mend what is damaged: 'buttersink verify --data %s' says what it is, and what can be done.", shellWord(src.Arg))
	}
	all := append([]error{head}, gathered(e.Failures)...)
	due := e.Waiting
	if !waiting(e.Failures) {
		// What could not even be asked for does not come by itself.
		due = slices.DeleteFunc(slices.Clone(due), func(w job.Waiting) bool { return w.State == store.Cold })
	}
	if len(due) > 0 && !interrupted {
		all = append(all, &job.PendingError{Source: place.Redact(src.Arg), Waiting: due})
	}
	x.err = errors.Join(all...)
	return x
}

// damaged reports whether a stream failed because it is not what it should be.
func damaged(err error) bool {
	_, digest := errors.AsType[*archive.DigestError](err)
	_, sealed := errors.AsType[*seal.DamagedError](err)
	_, bad := errors.AsType[*stream.Error](err)
	return digest || sealed || bad
}

// gathered are failures as they are told: a reason that several have is said
// once, with the paths of all.
func gathered(failures []error) []error {
	type reason struct {
		first error
		cause error // without the path
		paths []string
	}
	var all []*reason
	known := map[string]*reason{}
	for _, err := range failures {
		path, sort, cause := apart(err)
		r := known[sort]
		if r == nil || path == "" {
			r = &reason{first: err, cause: cause}
			known[sort] = r
			all = append(all, r)
		}
		r.paths = append(r.paths, path)
	}
	var told []error
	for _, r := range all {
		const most = 10
		names := strings.Join(r.paths[:min(len(r.paths), most)], ", ")
		if more := len(r.paths) - most; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		if len(r.paths) == 1 {
			told = append(told, r.first)
		} else {
			told = append(told, fmt.Errorf("%s: %w", names, r.cause))
		}
	}
	return told
}

// apart takes the path from a failure, and says what sort of cause it is. A
// missing key, or permission, is the same for all that it keeps from being done,
// whatever was being done.
func apart(err error) (path, sort string, cause error) {
	if p, ok := err.(*job.ProblemError); ok {
		return p.Path, p.Why, errors.New(p.Why)
	}
	cause = errors.Unwrap(err)
	if cause == nil {
		return "", err.Error(), err
	}
	path, ok := strings.CutSuffix(err.Error(), ": "+cause.Error())
	if !ok {
		return "", err.Error(), err
	}
	if key, ok := errors.AsType[*seal.NoKeyError](cause); ok {
		return path, key.Error(), key
	}
	if d, ok := errors.AsType[*archive.DeniedError](cause); ok {
		all := *d
		all.Key = ""
		return path, all.Bucket + " does not allow " + all.Action, &all
	}
	return path, cause.Error(), cause
}
