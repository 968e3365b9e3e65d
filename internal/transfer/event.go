package transfer

import (
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// Kind is what an Event tells. The set is closed.
type Kind string

const (
	// StepBegun: a step begins. Expected is how much it will be.
	StepBegun Kind = "step-begun"
	// Progress: a stream is going through. It comes at most five times a second
	// for each step, and not at all while nothing moves.
	Progress Kind = "progress"
	// Resumed: an interrupted transfer is carried on; Bytes is what need not be
	// carried again. The Progress before it is that of reading so far and
	// comparing, with Comparing set.
	Resumed Kind = "resumed"
	// Stalled: nothing has moved for Wait; Error says what is waited for. It
	// comes again, ever more seldom, as long as that lasts.
	Stalled Kind = "stalled"
	// Retry: a try failed for the reason in Error, and the step begins again
	// after Wait. Where Wait is zero, an interrupted transfer could not be carried
	// on: the same try begins again at the start of the stream.
	Retry Kind = "retry"
	// Committed: the snapshot is at the destination, whole and durable.
	Committed Kind = "committed"
	// Failed: the step failed for good, for the reason in Error. Nothing of it
	// looks whole.
	Failed Kind = "failed"
	// Skipped: the step was not tried, because of one before it.
	Skipped Kind = "skipped"
	// Interrupted: the context ended in the middle of the step.
	Interrupted Kind = "interrupted"
	// Warning: something is wrong that does not touch the transfer.
	Warning Kind = "warning"
	// Done: Run returns. Bytes counts all steps.
	Done Kind = "done"
)

// Event is a fact about a run, for a program that shows it to people or
// machines. The order of the events of one step is: StepBegun, then Progress,
// Resumed, Stalled and Retry any number of times, then one of Committed, Failed
// and Interrupted; or Skipped alone. The events of several steps come mixed where
// these are on their way at the same time; Step tells them apart. The last event
// of all is Done. Steps that were not reached when the context ended have none.
type Event struct {
	Kind Kind      `json:"event"`
	Time time.Time `json:"time"`
	// Step is the number of the step, from 1, and Steps how many there are.
	Step  int `json:"step,omitzero"`
	Steps int `json:"steps"`
	// Action, To, From and Path are those of the step.
	Action plan.Action `json:"action,omitzero"`
	To     snapshot.ID `json:"to,omitzero"`
	From   snapshot.ID `json:"from,omitzero"`
	Path   string      `json:"path,omitzero"`
	// Bytes is how far the stream of this try has come, counted from the start of
	// the stream: what an interrupted transfer has left at the destination is in
	// it.
	Bytes int64 `json:"bytes"`
	// Expected is the length of the stream as it was planned, or as the source has
	// told when it was opened; 0 if it is not known. Exact tells an exact one from
	// an estimate.
	Expected int64 `json:"expected,omitzero"`
	Exact    bool  `json:"exact,omitzero"`
	// Skipped is how many bytes, as the destination stores them, were there already
	// from an interrupted transfer and did not have to be stored again.
	Skipped int64 `json:"skipped,omitzero"`
	// Comparing is set where what goes through is at the destination already, and
	// is read to see whether it is the same.
	Comparing bool `json:"comparing,omitzero"`
	// TotalBytes is Bytes summed up over all steps that are Committed or on their
	// way, and TotalExpected what it will be at the end, as far as that is known:
	// for steps that are Committed it is what they were, those that failed or were
	// skipped are left out. TotalKnown is set if no size in it is missing, and
	// TotalExact if none is an estimate either. Both sums can shrink.
	TotalBytes    int64 `json:"total_bytes,omitzero"`
	TotalExpected int64 `json:"total_expected,omitzero"`
	TotalKnown    bool  `json:"total_known,omitzero"`
	TotalExact    bool  `json:"total_exact,omitzero"`
	// File is the file inside the snapshot that the stream is at.
	File string `json:"file,omitzero"`
	// Try is the number of the try, from 1.
	Try int `json:"try,omitzero"`
	// Wait is the pause before the next try, and of Stalled how long nothing has
	// moved, in nanoseconds.
	Wait time.Duration `json:"wait_ns,omitzero"`
	// Error says why, for people; of Stalled, what is waited for.
	Error string `json:"error,omitzero"`
	// Reason is the plan's reason for the step. It comes with StepBegun.
	Reason string `json:"reason,omitzero"`
}
