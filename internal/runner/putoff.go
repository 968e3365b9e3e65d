package runner

import (
	"fmt"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/ledger"
)

// longPutOff is for how long a job may leave to its next run what is to be removed at a
// source, since another run is at work there. A first upload takes days, or weeks; what
// takes longer than this may never end, and the disk gets full.
const longPutOff = 30 * 24 * time.Hour

// tellPutOff says at which sources the last run has left something to remove, and
// since when runs have done that.
func (s *JobStatus) tellPutOff(l *ledger.Ledger, now time.Time) error {
	left := func(p PlaceStatus) bool {
		return p.Destination == "" && p.Try != nil && p.Try.Result == ledger.Done && p.Try.Message != ""
	}
	if !slices.ContainsFunc(s.Places, left) {
		return nil
	}
	all, err := l.LastWithout(s.Job)
	if err != nil {
		return err
	}
	for i := range s.Places {
		p := &s.Places[i]
		if !left(*p) {
			continue
		}
		text := p.Try.Message
		if before := find(all, *p); before != nil && now.After(before.Ended) {
			since := now.Sub(before.Ended)
			if before.Result == ledger.Done && before.Message == "" {
				text += fmt.Sprintf("; the last run that had nothing to leave was %s ago", span(since))
			} else {
				text += fmt.Sprintf("; no run has had nothing to leave since the first, %s ago", span(since))
			}
			p.Late = p.Late || since > longPutOff
		}
		if p.Why != "" {
			p.Why += "; "
		}
		p.Why += text
	}
	return nil
}
