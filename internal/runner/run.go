package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/hook"
	"github.com/buttersink/buttersink/internal/ledger"
)

// run is one run of a job.
type run struct {
	*Runner
	job    *config.Job
	id     int64 // in the ledger; 0 if it is not there
	report *Report
	failed []error
	cut    bool            // somebody wants it to end
	noted  map[string]bool // sources of which all is in the ledger
}

// foresee says what would be done about each source.
func (n *run) foresee(ctx context.Context) {
	hindered := n.hindered()
	for _, t := range n.job.Troubles {
		if t.Key == "after" || t.Key == "on-failure" {
			n.fail("", ofProgram(t.Key, t))
		}
	}
	if hindered {
		return
	}
	sources, err := n.Worker.Sources(ctx, n.job)
	n.fail("", err)
	n.report.Sources = sources
	for _, s := range sources {
		if ctx.Err() != nil {
			return
		}
		places, err := n.Worker.Transfer(ctx, n.job, s)
		n.report.Places = append(n.report.Places, places...)
		n.fail(s.Arg, err)
	}
}

// work does all of it.
func (n *run) work(ctx context.Context) {
	if n.freeze(ctx) {
		n.bring(ctx)
	}
	n.hooks(ctx, "after", n.job.After)
	if len(n.failed) > 0 || ctx.Err() != nil {
		n.hooks(ctx, "on-failure", n.job.OnFailure)
	}
}

// hindered reports whether what comes before and after the snapshots cannot be run:
// nothing is stopped that nothing would have go on.
func (n *run) hindered() bool {
	before := len(n.failed)
	for _, t := range n.job.Hindrances() {
		n.fail("", ofProgram(t.Key, t))
	}
	if len(n.failed) > before || n.DryRun {
		return len(n.failed) > before
	}
	// Hours may have passed since the configuration was read.
	for _, argv := range n.job.AfterSnapshot {
		if err := hook.Check(argv); err != nil {
			n.fail("", ofProgram("after-snapshot", err))
		}
	}
	return len(n.failed) > before
}

// troubleWith is what was wrong with a program of an event when the configuration was
// read; nil if nothing was.
func (n *run) troubleWith(event string, argv []string) *config.Trouble {
	for _, t := range n.job.Troubles {
		if t.Key == event && t.Program == argv[0] {
			return t
		}
	}
	return nil
}

// ofProgram is what is wrong with a program of an event.
func ofProgram(event string, err error) error {
	return fmt.Errorf("the program of %s: %w", event, err)
}

// freeze makes the snapshots, between the programs of Before and of AfterSnapshot.
// It reports whether there is something to go on with.
func (n *run) freeze(ctx context.Context) bool {
	if n.hindered() {
		return false
	}
	begun := len(n.job.Before) > 0
	if begun && n.Shield != nil {
		defer n.Shield()()
	}
	ready := true
	for _, argv := range n.job.Before {
		if ready = n.hook(ctx, "before", argv); !ready {
			break
		}
	}
	if ready && ctx.Err() == nil {
		var err error
		n.report.Sources, err = n.Worker.Sources(ctx, n.job)
		n.fail("", err)
		ready = err == nil
		if ready {
			n.snapshots(ctx)
		}
	}
	if begun || ready {
		n.hooks(ctx, "after-snapshot", n.job.AfterSnapshot)
	}
	return ready && ctx.Err() == nil
}

// snapshots makes the snapshots of all sources.
func (n *run) snapshots(ctx context.Context) {
	if !n.job.Snapshot {
		return
	}
	soon, made, stop := n.frozen(ctx)
	defer stop()
	at := n.now()
	for _, s := range n.report.Sources {
		if ctx.Err() != nil {
			return
		}
		place, err := ledger.PlaceRun{}, context.Cause(soon)
		if err == nil {
			place, err = n.Worker.Snapshot(soon, n.job, s, at)
			made()
		}
		n.fail(s.Arg, err)
		place.Source, place.Destination = s.Arg, ""
		n.note(ctx, place, err)
	}
}

// frozen is a context that ends when a snapshot takes so long to be made that what the
// programs of Before have stopped is to go on. It waits for others that make one at that
// moment; at an older server also for a run that sends, which may take until the morning.
// Where one is made, the next one has as long.
func (n *run) frozen(ctx context.Context) (soon context.Context, made, stop func()) {
	if len(n.job.Before) == 0 {
		return ctx, func() {}, func() {}
	}
	limit := cmp.Or(n.job.HookTimeout, hook.Usual)
	soon, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() {
		end(fmt.Errorf("no snapshot could be made within %v, and what was stopped for it has to go on", limit))
	})
	return soon, func() { timer.Reset(limit) }, func() { timer.Stop(); end(nil) }
}

// note keeps what became of a place, for the ledger and for the report. Of a place
// that has two parts it is one note.
func (n *run) note(ctx context.Context, p ledger.PlaceRun, err error) {
	if p.Ended.IsZero() {
		p.Ended = n.now()
	}
	if p.Result == "" {
		p.Result = result(ctx, err)
	}
	if p.Message == "" {
		p.Message = n.text(err)
	}
	i := slices.IndexFunc(n.report.Places, func(o ledger.PlaceRun) bool {
		return o.Source == p.Source && o.Destination == p.Destination
	})
	if i < 0 {
		n.report.Places = append(n.report.Places, p)
		return
	}
	n.report.Places[i] = joined(n.report.Places[i], p)
}

// joined is what became of a place in two parts.
func joined(a, b ledger.PlaceRun) ledger.PlaceRun {
	if b.Snapshot == "" {
		b.Snapshot = a.Snapshot
	}
	b.Transferred, b.Removed, b.Bytes = a.Transferred+b.Transferred, a.Removed+b.Removed, a.Bytes+b.Bytes
	if a.Result != ledger.Done {
		b.Result = a.Result
		if a.Message != b.Message {
			b.Message = strings.Trim(a.Message+"; "+b.Message, "; ")
		}
	}
	return b
}

// bring does the transfers, source by source.
func (n *run) bring(ctx context.Context) {
	for _, s := range n.report.Sources {
		if ctx.Err() != nil {
			break
		}
		places, err := n.Worker.Transfer(ctx, n.job, s)
		for _, p := range places {
			p.Source = s.Arg
			if p.Result == "" { // who does not say that it is complete has not proved it
				p.Result = ledger.Failed
			}
			n.note(ctx, p, nil)
		}
		n.fail(s.Arg, err)
		n.settle(s)
	}
}

// settle writes into the ledger what became of the places of a source, unless it
// is there already.
func (n *run) settle(s Source) {
	if n.id == 0 || n.noted[s.Arg] {
		return
	}
	n.noted[s.Arg] = true
	for _, p := range n.report.Places {
		if p.Source != s.Arg {
			continue
		}
		p.Place = placeID(n.job, s.Name, p.Destination)
		if err := n.Ledger.EndPlace(n.id, p); err != nil {
			n.log().Warn("What became of a place cannot be written down", "source", p.Source, "destination", p.Destination, "error", err)
		}
	}
}

// fail keeps an error, about a source if one is named, once: what is in the way of
// its snapshot is in the way of the transfers, too.
func (n *run) fail(source string, err error) {
	if err == nil {
		return
	}
	if source != "" {
		err = &SourceError{source, err}
		if slices.ContainsFunc(n.failed, func(other error) bool { return other.Error() == err.Error() }) {
			return
		}
	}
	n.failed = append(n.failed, err)
}

// err is what the run ends with.
func (n *run) err(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil && !slices.ContainsFunc(n.failed, func(err error) bool { return errors.Is(err, cause) }) {
		n.failed = append(n.failed, cause)
	}
	if len(n.failed) == 0 {
		return nil
	}
	done := !n.DryRun && slices.ContainsFunc(n.report.Places, func(p ledger.PlaceRun) bool { return p.Result == ledger.Done })
	return &JobError{Job: n.job.Name, Failures: n.failed, Done: done}
}

// hooks runs programs one after the other, all of them whatever fails, and also
// when the run is being ended.
func (n *run) hooks(ctx context.Context, event string, all [][]string) {
	n.cut = ctx.Err() != nil
	for _, argv := range all {
		n.hook(context.WithoutCancel(ctx), event, argv)
	}
}

// hook runs one program, and reports whether it has succeeded.
func (n *run) hook(ctx context.Context, event string, argv []string) bool {
	state := "going-on"
	switch {
	case event == "before":
	case n.cut:
		state = string(ledger.Interrupted)
	case len(n.failed) > 0:
		state = string(ledger.Failed)
	case event != "after-snapshot":
		state = string(ledger.Done)
	}
	var message string
	if len(n.failed) > 0 {
		message = n.text(errors.Join(n.failed...))
	}
	var sources []string
	for _, s := range n.report.Sources {
		if strings.Contains(s.Arg, "\n") { // one is one line
			s.Arg = legible(s.Arg)
		}
		sources = append(sources, s.Arg)
	}
	n.log().Info(fmt.Sprintf("%s: running %s (%s)", n.job.Name, argv[0], event))
	err := hook.Run(ctx, hook.Program{
		Argv: argv, Timeout: n.job.HookTimeout, Hide: n.Hide,
		Log: n.log(),
		Env: []string{
			"BUTTERSINK_JOB=" + n.job.Name, "BUTTERSINK_EVENT=" + event, "BUTTERSINK_RESULT=" + state,
			"BUTTERSINK_MESSAGE=" + message, "BUTTERSINK_SOURCES=" + strings.Join(sources, "\n"),
		},
	})
	if e, ok := errors.AsType[*hook.Error](err); ok {
		e.Last = "" // what it prints may be a secret: the log has it, and nobody is told
	}
	if err != nil {
		if t := n.troubleWith(event, argv); t != nil && hook.Check(argv) != nil {
			err = t
		}
		n.fail("", ofProgram(event, err))
	}
	return err == nil
}

// legible is a name as one line: who can make a subvolume can call it anything.
func legible(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return strconv.Quote(name)
	}
	return name
}
