package cli

import (
	"context"
	"errors"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/runner"
	"github.com/buttersink/buttersink/internal/schedule"
)

// calendarLayout is how the snapshots of a calendar are called: by their day.
const calendarLayout schedule.Layout = "YYYY-MM-DD"

// calendar makes the backup of a day as a calendar says.
func (w *worker) calendar(ctx context.Context, j *config.Job, s runner.Source) ([]ledger.PlaceRun, error) {
	return nil, errors.New("jobs of kind calendar are not there yet")
}
