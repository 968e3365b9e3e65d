package ledger

import "time"

// JobRun is one run of a job.
type JobRun struct {
	ID  int64
	Job string
	// Ended is zero for one that has not ended, or was killed.
	Begun, Ended time.Time
	// Result is empty until it has ended.
	Result Result
	// Message says why, for people, where Result is not Done.
	Message string
	Places  []PlaceRun
}

// PlaceRun is what a run of a job did about one source at one place.
type PlaceRun struct {
	// Source names the source. Destination is empty for what was done at the source
	// itself: the snapshot, and its retention.
	Source, Destination string
	Ended               time.Time
	Result              Result
	Message             string
	// Snapshot is the newest snapshot there, by its path.
	Snapshot string
	// Transferred and Removed count snapshots, Bytes is what was transferred.
	Transferred, Removed int
	Bytes                int64
	// Outstanding is how many snapshots are due there and missing; -1 if that is not
	// known.
	Outstanding int
	// Chain is how many streams the newest snapshot there depends on, in an archive; 0
	// elsewhere.
	Chain int
}

// BeginJob notes that a run of a job begins, and returns the number to end it by.
func (l *Ledger) BeginJob(job string, begun time.Time) (int64, error) { return 0, nil }

// EndPlace notes what became of one place in a run.
func (l *Ledger) EndPlace(run int64, p PlaceRun) error { return nil }

// EndJob notes how a run ended; the first end that is noted stays.
func (l *Ledger) EndJob(run int64, o Outcome) error { return nil }

// JobRuns returns the last runs of a job, or of all if that is empty, the newest
// first, at most so many.
func (l *Ledger) JobRuns(job string, most int) ([]JobRun, error) { return nil, nil }

// LastPlaces returns, for a job, the last success at each place and the last try
// there.
func (l *Ledger) LastPlaces(job string) (successes, tries []PlaceRun, err error) {
	return nil, nil, nil
}
