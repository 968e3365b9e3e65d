// Package metertest plays runs to what shows them, without a transfer: events as
// package transfer would tell them.
//
//	s := metertest.NewScript(snapshot.ExactSize(100))
//	m.Take(s.Event(transfer.Event{Kind: transfer.StepBegun, Step: 1}), now)
package metertest

import (
	"fmt"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// Script makes the events of a run, with the totals that transfer would give.
type Script struct {
	sizes []snapshot.Size
	at    map[int]int64 // bytes of the steps that are on their way
	done  map[int]int64 // of those that are committed
	lost  map[int]bool  // failed or skipped
}

// NewScript returns the script of a plan whose steps have these sizes.
func NewScript(sizes ...snapshot.Size) *Script {
	return &Script{sizes: sizes, at: map[int]int64{}, done: map[int]int64{}, lost: map[int]bool{}}
}

// Event completes an event, of which Kind, Step and Bytes are told: sizes, totals, and
// a path if it has none.
func (s *Script) Event(e transfer.Event) transfer.Event {
	e.Steps = len(s.sizes)
	if e.Step > 0 {
		size := s.sizes[e.Step-1]
		e.Expected, e.Exact, e.Action = size.Bytes, size.Exact, plan.Send
		if e.Path == "" {
			e.Path = fmt.Sprintf("s%d", e.Step)
		}
		delete(s.at, e.Step)
		switch e.Kind {
		case transfer.Committed:
			s.done[e.Step] = e.Bytes
		case transfer.Failed, transfer.Skipped, transfer.Interrupted:
			s.lost[e.Step] = true
		case transfer.Retry:
			s.at[e.Step] = 0
		default:
			s.at[e.Step] = e.Bytes
		}
	}
	e.TotalKnown, e.TotalExact = true, true
	for i, size := range s.sizes {
		done, committed := s.done[i+1]
		switch {
		case s.lost[i+1]:
		case committed:
			e.TotalBytes += done
			e.TotalExpected += done
		default:
			e.TotalBytes += s.at[i+1]
			e.TotalExpected += max(size.Bytes, s.at[i+1])
			e.TotalKnown, e.TotalExact = e.TotalKnown && size.Known, e.TotalExact && size.Exact
		}
	}
	return e
}
