// Package runner carries out the jobs of a configuration.
package runner

import (
	"context"
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// Source is one subvolume that a job is about.
type Source struct {
	// Arg is how it would be typed, and Name what "{source}" stands for.
	Arg, Name string
}

// Worker does what a job is about; the front door has it.
type Worker interface {
	// Sources returns the subvolumes that a job is about now.
	Sources(ctx context.Context, j *config.Job) ([]Source, error)
	// Snapshot makes the snapshot of a source, named by a time that all sources of the
	// run share.
	Snapshot(ctx context.Context, j *config.Job, s Source, at time.Time) (ledger.PlaceRun, error)
	// Transfer brings to every destination what is due there, and removes what is not
	// due any more.
	Transfer(ctx context.Context, j *config.Job, s Source) ([]ledger.PlaceRun, error)
}
