package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

const (
	// soonest and latest bound the pause between two looks at what cold storage is
	// asked for, which is a tenth of the time that has been waited. Expedited takes
	// minutes, bulk two days, and each look is a request for every stream.
	soonest = time.Minute
	latest  = 15 * time.Minute
	// deaf is after how many looks in a row that failed nobody waits any more: what
	// passes by itself has passed by then.
	deaf = 24
)

// rounds is a run that waits for cold storage, if that is wanted: it does what can
// be done, lets go of the lock, waits until there is more to do, and so on.
func (e *Engine) rounds(ctx context.Context, src, dst store.Store, o SyncOptions) (sum *SyncReport, err error) {
	if tell := o.Event; tell != nil && o.Wait {
		o.Event = func(event transfer.Event) {
			if event.Kind != transfer.Done { // there may be another round
				tell(event)
			}
		}
		defer func() {
			if sum != nil && sum.Transfer != nil {
				tell(transfer.Event{Kind: transfer.Done, Time: e.now(), Steps: sum.Transferred, Bytes: sum.Bytes})
			}
		}()
	}
	for begun := e.now(); ; {
		r, err := e.round(ctx, src, dst, o, sum != nil)
		sum = sum.plus(r)
		if !o.Wait || ctx.Err() != nil {
			return sum, err
		}
		var waited error
		if r == nil && isListPending(err) {
			e.log().Info("Waiting: " + err.Error())
			waited = e.rest(ctx, begun)
		} else if later := awaited(err); later != nil {
			waited = e.await(ctx, src, r.Outlook.Steps, later, o)
		} else {
			return sum, err
		}
		if waited != nil {
			return sum, interrupted(ctx, sum, err, waited)
		}
	}
}

// plus adds up the reports of rounds.
func (r *SyncReport) plus(next *SyncReport) *SyncReport {
	switch {
	case r == nil:
		return next
	case next == nil:
		return r
	}
	next.Kept = r.Kept
	next.Transferred += r.Transferred
	next.Bytes += r.Bytes
	next.Skipped += r.Skipped
	return next
}

// awaited are the streams that a run has ended with which it can wait for; nil if
// there are none, or something has failed that would only fail again. What no run
// could have had keeps nobody from waiting for the rest.
func awaited(err error) []Waiting {
	if later, ok := errors.AsType[*PendingError](err); ok {
		return later.Waiting
	}
	x, ok := errors.AsType[*IncompleteError](err)
	if !ok || x.Interrupted != nil || slices.ContainsFunc(x.Failures, func(err error) bool { return !impossible(err) }) {
		return nil
	}
	return x.Waiting
}

// impossible reports whether an error is about what the plan could do nothing about.
func impossible(err error) bool {
	_, ok := err.(*ProblemError)
	return ok
}

// interrupted is the error of a run that did not wait to the end: why says what kept
// it from that, and pending how things stood before.
func interrupted(ctx context.Context, r *SyncReport, pending, why error) error {
	x := &IncompleteError{}
	if later, ok := errors.AsType[*PendingError](pending); ok && r != nil {
		x.Wanted, x.Done, x.Waiting = later.Wanted, later.Done, later.Waiting
	} else if before, ok := errors.AsType[*IncompleteError](pending); ok && r != nil {
		x = before
	} else {
		return why
	}
	if ctx.Err() != nil {
		x.Interrupted = why
	} else {
		x.Failures = append(x.Failures, why)
	}
	return x
}

// rest waits before the next look.
func (e *Engine) rest(ctx context.Context, begun time.Time) error {
	pause := time.NewTimer(min(max(e.now().Sub(begun)/10, soonest), latest))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// await looks at streams that were asked for again and again, until one of the
// steps of a plan can be carried out that could not be before, or something has to
// be asked for anew. What the streams of one step make, others need.
func (e *Engine) await(ctx context.Context, src store.Store, steps []plan.Step, pending []Waiting, o SyncOptions) error {
	var left []plan.Step
	late := map[snapshot.Edge]bool{}
	for _, w := range pending {
		late[w.Edge] = true
	}
	for _, s := range steps {
		if s.Action == plan.Send && late[s.Edge] {
			left = append(left, s)
		}
	}
	made := map[snapshot.ID]bool{} // by what is waited for
	for _, s := range left {
		made[s.Edge.To] = true
	}
	before, failed := len(pending), 0
	for begun := e.now(); ; {
		if err := e.rest(ctx, begun); err != nil {
			return err
		}
		look := o.Thaw
		look.Ask = false
		all, err := thawings(ctx, src, left, look)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && failed == deaf:
			return fmt.Errorf("waiting for cold storage: %w", err)
		case err != nil:
			if failed++; failed == 1 {
				e.log().Warn("what can be read cannot be told; it is asked again later", "error", err)
			}
			continue
		}
		failed = 0
		cold := e.waiting(src, all, o.Thaw)
		if len(cold) != before && o.Waiting != nil {
			before = len(cold)
			o.Waiting(cold)
		}
		for i, t := range all {
			if t.State == store.Cold || t.State == store.Readable && (left[i].Edge.IsFull() || !made[left[i].Edge.From]) {
				return nil
			}
		}
	}
}

// isListPending reports whether a store can be listed only later.
func isListPending(err error) bool {
	_, ok := errors.AsType[*store.PendingError](err)
	return ok
}
