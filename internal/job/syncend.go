package job

import (
	"context"
	"errors"
	"fmt"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// remove takes from the destination what the plan says and the source still
// does not have: the plan may be hours old.
func (e *Engine) remove(ctx context.Context, src, dst store.Store, report *SyncReport, o SyncOptions) error {
	if len(report.Outlook.Remove) == 0 {
		return nil
	}
	remover, ok := dst.(store.Remover)
	if !ok {
		return &UnableError{Store: dst.String(), Verb: "remove snapshots"}
	}
	holds, err := src.List(ctx)
	if err != nil {
		return &RemovalError{Failures: []error{fmt.Errorf("looking at the source again before removing anything: %w", err)}}
	}
	var all []snapshot.Snapshot
	for _, snap := range report.Outlook.Remove {
		if here, ok := holds.Find(snap.ID); ok && !here.Outside {
			e.log().Info(fmt.Sprintf("%s is not removed: the source has it again", snap.Path))
			continue
		}
		all = append(all, snap)
	}
	if all, err = e.unheld(ctx, dst, report.Outlook.DestinationHas, all); err != nil { // the plan may be hours old
		return &RemovalError{Failures: []error{err}}
	}
	failed := &RemovalError{}
	removed := func(snap snapshot.Snapshot, err error) {
		if err != nil {
			failed.Failures = append(failed.Failures, err)
		} else {
			report.Removed = append(report.Removed, snap)
		}
		if o.Removed != nil {
			o.Removed(snap, err)
		}
	}
	if err := removeAll(ctx, remover, all, removed); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed.Failures = append(failed.Failures, err)
	}
	if len(failed.Failures) > 0 {
		return failed
	}
	return nil
}

// removeAll removes snapshots, at once where the store takes them so, and
// returns what keeps it from going on.
func removeAll(ctx context.Context, remover store.Remover, all []snapshot.Snapshot, removed func(snapshot.Snapshot, error)) error {
	if len(all) == 0 {
		return nil
	}
	if sweeper, ok := remover.(store.Sweeper); ok {
		return sweeper.Sweep(ctx, all, removed)
	}
	for _, snap := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		removed(snap, remover.Remove(ctx, snap))
	}
	return nil
}

// incomplete says what of a plan has not been done. Without a report, as after
// a dry run, only what cannot be planned counts, and what has failed in plans
// before. Planning is why no other plan
// could be made for the rest, if that is so. Intermediates are not wanted.
func incomplete(ctx context.Context, o *Outlook, r *transfer.Report, before failures, planning error) error {
	x := &IncompleteError{Wanted: len(o.Keep) + len(o.Problems), Done: len(o.Keep), DryRun: r == nil}
	for i, step := range o.Steps {
		if step.Intermediate {
			continue
		}
		x.Wanted++
		if r == nil || r.Results[i].Outcome == transfer.Committed {
			x.Done++
		}
	}
	conflicts := 0
	for _, p := range o.Problems {
		if cause := before.causes[p.Snapshot.ID]; cause != nil {
			x.Failures = append(x.Failures, fmt.Errorf("%s: %w", p.Path, cause))
		} else {
			x.Failures = append(x.Failures, &ProblemError{p})
		}
		if p.Conflict {
			conflicts++
		}
	}
	if r != nil {
		for _, result := range r.Results {
			if result.Outcome != transfer.Failed {
				continue
			}
			x.Failures = append(x.Failures, fmt.Errorf("%s: %w", result.Step.Path, result.Err))
			if _, ok := errors.AsType[*store.ExistsError](result.Err); ok {
				conflicts++
			}
		}
	}
	if planning != nil {
		x.Failures = append(x.Failures, planning)
	}
	if r != nil && x.Done == x.Wanted && r.Count(transfer.Committed) < len(r.Results) {
		x.Done-- // an archive cannot give back what it keeps without its intermediates: one at least
	}
	if x.Done == x.Wanted {
		return planning
	}
	if ctx.Err() != nil {
		x.Interrupted = context.Cause(ctx)
	}
	x.Conflicts = conflicts > 0 && conflicts == len(x.Failures)
	return x
}
