package runner

import (
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// Status is how things stand with the jobs of a configuration.
type Status struct {
	At   time.Time
	Jobs []JobStatus
}

// JobStatus is how things stand with one job.
type JobStatus struct {
	Job string
	// Running is set while a run is going on.
	Running bool
	// Last is the last run; nil if there was none.
	Last *ledger.JobRun
	// NextDue is when it is to run again; zero if nothing says so.
	NextDue time.Time
	Places  []PlaceStatus
}

// PlaceStatus is how things stand with one source at one place.
type PlaceStatus struct {
	Source, Destination string // as in ledger.PlaceRun
	// Success is the last one, and Try the last run that was about it; nil if there
	// was none.
	Success, Try *ledger.PlaceRun
	// Age is since the last success, and Limit how old it may be, 0 for any age.
	Age, Limit time.Duration
	// Late is set if something is wrong, which Why says.
	Late bool
	Why  string
}

// Look answers how things stand. Running tells whether a run of a job is going on.
func Look(f *config.File, l *ledger.Ledger, now time.Time, maxAge time.Duration, running func(job string) bool) (*Status, error) {
	return nil, nil
}
