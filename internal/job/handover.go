package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// HandoverOptions say what a calendar in this process does with what it is offered.
type HandoverOptions struct {
	// Calendar is what is done at the store. Its In, From, DryRun and Decided are not
	// used.
	Calendar CalendarOptions
	// Has reports whether whoever offers it still has the snapshot of that name, and
	// which one it is. Where an increment is due on one that is gone, or is another one
	// by now, a complete backup takes its place, and Lost is told, unless it fails. Both
	// may be nil.
	Has  func(ctx context.Context, name string) (snapshot.ID, bool, error)
	Lost func(name string) error
}

// Handover is a calendar in this process that is offered a snapshot: both halves of
// what btrsnap and btrsend do between them. Dated asks it what it wants and gives it
// that, and Calendar takes it in, at the same time.
//
// It is the destination of one stream. What fails on either side fails on both: the
// stream is committed here only once Calendar has committed it there, and is cut
// there, where that leaves nothing that looks whole, if it is not whole here. A
// transfer that tries again has the calendar run again, which has to want the same.
type Handover struct {
	engine *Engine
	st     store.Store
	o      HandoverOptions
	ctx    context.Context
	now    *asking
	wish   schedule.Decision
}

var _ Offered = (*Handover)(nil)

// errLetGo is why a calendar's run ends of which the caller wants no more.
var errLetGo = errors.New("it was let go of")

// asking is one run of Calendar.
type asking struct {
	stop    context.CancelCauseFunc
	feed    *io.PipeWriter // the other end of what it reads
	decided chan schedule.Decision
	done    chan struct{} // closed when it is over
	used    bool          // a stream goes to it, or has gone

	// Valid once done is closed.
	report *CalendarReport
	err    error
}

// Handover begins to run a calendar, which ends with ctx, or when it is closed.
func (e *Engine) Handover(ctx context.Context, st store.Store, o HandoverOptions) *Handover {
	h := &Handover{engine: e, st: st, o: o, ctx: ctx}
	h.now = h.ask()
	return h
}

// ask begins a run.
func (h *Handover) ask() *asking {
	ctx, stop := context.WithCancelCause(h.ctx)
	in, feed := io.Pipe()
	a := &asking{stop: stop, feed: feed, decided: make(chan schedule.Decision, 1), done: make(chan struct{})}
	o := h.o.Calendar
	o.DryRun, o.In, o.From = false, in, "the snapshot"
	o.Decided = func(d schedule.Decision) error {
		a.decided <- d
		return nil
	}
	go func() {
		defer close(a.done)
		a.report, a.err = h.engine.Calendar(ctx, h.st, o)
		why := a.err
		if why == nil {
			why = errors.New("it reads no more")
		}
		_ = in.CloseWithError(why) // never fails
	}()
	return a
}

// decision waits for what the run wants.
func (a *asking) decision(ctx context.Context) (schedule.Decision, error) {
	select {
	case d := <-a.decided:
		return d, nil
	case <-ctx.Done():
		return schedule.Decision{}, context.Cause(ctx)
	case <-a.done:
	}
	select {
	case d := <-a.decided:
		return d, nil
	default:
		return schedule.Decision{}, a.err
	}
}

// end ends a run for a reason, unless it is over, and waits until it is.
func (a *asking) end(why error) {
	_ = a.feed.CloseWithError(why) // never fails
	a.stop(why)
	<-a.done
}

// String names where the backups are.
func (h *Handover) String() string { return h.st.String() }

// List says that nothing is known of what there is: the calendar knows that.
func (h *Handover) List(ctx context.Context) (*snapshot.Inventory, error) {
	return &snapshot.Inventory{Archive: true, Dir: "/"}, ctx.Err()
}

// Wish waits until what is to go has gone, and what is wanted is decided.
func (h *Handover) Wish(ctx context.Context) (wanted bool, parent string, err error) {
	d, err := h.now.decision(ctx)
	if err != nil {
		return false, "", err
	}
	if d.Create && !d.Parent.IsZero() && h.o.Has != nil {
		if d, err = h.instead(ctx, d); err != nil {
			return false, "", err
		}
	}
	h.wish = d
	if d.Create && !d.Parent.IsZero() {
		parent = d.Parent.String()
	}
	return d.Create, parent, nil
}

// instead is what is wanted where what an increment would start from is lost.
func (h *Handover) instead(ctx context.Context, d schedule.Decision) (schedule.Decision, error) {
	id, has, err := h.o.Has(ctx, d.Parent.String())
	if err != nil {
		return d, err
	}
	if has {
		if has, err = h.isThat(ctx, d.Parent, id); err != nil || has {
			return d, err
		}
	}
	if h.o.Lost != nil {
		if err := h.o.Lost(d.Parent.String()); err != nil {
			return d, err
		}
	}
	h.now.end(errLetGo)
	h.o.Calendar.Complete = true
	h.now = h.ask()
	return h.now.decision(ctx)
}

// isThat reports whether the backup of a day is the one of that snapshot, as far as
// the store knows.
func (h *Handover) isThat(ctx context.Context, day schedule.Date, id snapshot.ID) (bool, error) {
	if n, ok := h.st.(namer); ok && n.OwnIdentities() {
		return true, nil
	}
	c, err := h.engine.dated(ctx, h.st, h.o.Calendar.Prefix)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(c.backups, func(b DatedBackup) bool { return b.Date == day && b.Snapshot.ID == id }), nil
}

// Create makes ready for the stream that was wished for.
func (h *Handover) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if h.now.used {
		h.now.end(errLetGo)
		again := h.ask()
		h.now = again
		d, err := again.decision(ctx)
		if err != nil {
			return nil, err
		}
		if d.Create != h.wish.Create || d.Parent != h.wish.Parent {
			return nil, fmt.Errorf("giving %s once more to %s: it is not wanted any more: %s", want.Path, h, d.Reason)
		}
	}
	h.now.used = true
	return &handed{a: h.now}, nil
}

// Done waits for a calendar that wants nothing to end. What it could not remove is in
// the Report.
func (h *Handover) Done(ctx context.Context) error {
	select {
	case <-h.now.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if _, removing := errors.AsType[*RemovalError](h.now.err); removing {
		return nil
	}
	return h.now.err
}

// Close ends the calendar's run, if it is not over.
func (h *Handover) Close() error {
	h.now.end(errLetGo)
	return nil
}

// Report returns what became of the calendar's last run, after Close. It may have
// failed, as of what it could not remove, with the backup made all the same.
func (h *Handover) Report() (*CalendarReport, error) { return h.now.report, h.now.err }

// handed writes a stream to a calendar.
type handed struct {
	a         *asking
	committed bool
}

func (w *handed) Write(p []byte) (int, error) { return w.a.feed.Write(p) }

// Commit ends the stream, and waits until the calendar has committed it too.
func (w *handed) Commit(ctx context.Context) error {
	_ = w.a.feed.Close() // never fails
	select {
	case <-w.a.done:
	case <-ctx.Done():
		w.a.stop(context.Cause(ctx))
		<-w.a.done // it may have come through
	}
	if w.a.report != nil && w.a.report.Made {
		w.committed = true
		return nil
	}
	if w.a.err == nil {
		return errors.New("the calendar has ended, and has not taken it")
	}
	return w.a.err
}

// Close of a stream that was not committed has the calendar drop what it has of it.
func (w *handed) Close() error {
	if !w.committed {
		w.a.end(errors.New("the stream ends before it is whole"))
	}
	return nil
}
