// Package transfer carries out the steps of a plan: it takes each stream from
// the source, looks at every byte of it on the way, and gives it to the
// destination.
//
// It knows what a whole and sound stream is (package stream), and nothing of
// what lies beneath a store. It decides nothing about what to send, and draws
// nothing: what happens goes out as [Event] values.
//
// # Invariants
//
//   - Only whole commands whose checksums are right reach a sink, and only after
//     the stream's first command has shown the identities of the edge.
//   - A stream is committed only after its END command and a clean end. Every
//     other way out of a step abandons what was written.
//   - Where a destination carries on with an interrupted transfer, the stream is
//     read from its start all the same. What follows the place of interruption is
//     written only if all before it has the digest of what was carried out.
//   - A step is Committed in the report exactly when the destination's Commit
//     or Copy returned success.
//   - A step begins when what it starts from is Committed. A step whose parent
//     was not transferred is not tried; all others are.
//   - Events are sent, and the ledger is used, by the goroutine that called Run.
//     The streams have goroutines of their own, and Run leaves none behind.
//
// # What runs at the same time
//
// Steps begin in the order of the plan. Up to Options.Parallel small ones are on
// their way at a time; a large one, or one of unknown size, has the run for
// itself. While a step commits, which is idle time for the source, the stream of
// the step that comes next is opened and its first command read: never more than
// one.
//
// The memory in use is, for each stream on its way and for the one that is
// opened ahead, the stream reader's buffer and what the sink takes for itself,
// whatever the size of the stream.
//
//	report := transfer.Run(ctx, p.Steps, transfer.Options{Source: src, Destination: dst, Ledger: l, Events: show})
package transfer

import (
	"context"
	"time"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	// tries is how often a step is begun before it has failed.
	tries = 3
	// progressEvery is the least time between two Progress events of a step.
	progressEvery = 200 * time.Millisecond
	// small is the length up to which a stream shares the run with others:
	// what weighs most in it are the commits of the file system, which streams
	// at the same time have in common.
	small = 64 << 20
	// stallAfter is the silence after which a Stalled event is due.
	stallAfter = time.Minute
)

// Ledger is where receipts are kept; *ledger.Ledger is one.
type Ledger interface {
	Begin(r ledger.Receipt) (int64, error)
	End(id int64, o ledger.Outcome) error
}

// Options are the parties of a run.
type Options struct {
	// Source has to be a store.Source if there is anything to send, and
	// Destination a store.Sink; for steps that copy, a store.Copier.
	Source, Destination store.Store
	// Streams is where streams are opened in place of Source, if it is set: a
	// FanRun, where several runs read from one source.
	Streams store.Source
	// Ledger gets a receipt for each step that is begun. One that fails gives a
	// Warning, is not asked again, and stops nothing. It may be nil.
	Ledger Ledger
	// Parallel is how many small streams may be on their way at a time; 0 and 1
	// are one.
	Parallel int
	// StallAfter is how long nothing has to move before a Stalled event; 0 is a
	// minute. It ends nothing.
	StallAfter time.Duration
	// Events is called for every event, from the goroutine that called Run; the
	// step that it is about waits for it. It may be nil.
	Events func(Event)

	// once is set where the streams of the source cannot be had again.
	once bool
}

// Run carries out steps, and reports on each in their order. When ctx ends, the
// steps that are going on are abandoned at once and no further one is begun.
//
// A step that fails with an error that may go away (store.Temporary), or
// because the source's stream came damaged, which happens to a live source when
// the machine sleeps in the middle of it, is begun again: three tries in all,
// with growing pauses between them. A destination may carry on from where an
// earlier try, or an earlier run, came to (store.Resumer). Where the stream is
// not the one that was interrupted, the same try begins again at its start.
//
// A clone source whose own step did not succeed is left out of the request.
func Run(ctx context.Context, steps []plan.Step, o Options) *Report {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := newRun(ctx, steps, o)
	defer func() { // where Events panics
		r.mute = true
		stop()
		r.finish()
	}()
	for r.advance(); len(r.active) > 0; r.advance() {
		r.serve()
	}
	r.finish()
	r.tell(Event{Kind: Done, Bytes: r.report.Bytes()})
	return r.report
}
