package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/store"
)

// TestExplainSync: each outcome of a sync has its exit code, every failure its
// own line, and a hint only where it is true.
func TestExplainSync(t *testing.T) {
	bad := []error{errors.New("a: disk on fire")}
	inTheWay := []error{fmt.Errorf("a: %w", &store.ExistsError{Path: "/b/a", What: "a directory"})}
	for _, tt := range []struct {
		name string
		err  error
		code int
		hint string
	}{
		{"some done", &job.IncompleteError{Wanted: 2, Done: 1, Failures: bad}, exitPartly, "carries on with the rest"},
		{"some could be done", &job.IncompleteError{Wanted: 2, Done: 1, DryRun: true, Failures: bad}, exitPartly, ""},
		{"nothing done", &job.IncompleteError{Wanted: 1, Failures: bad}, exitFailed, ""},
		{"only conflicts", &job.IncompleteError{Wanted: 2, Done: 1, Conflicts: true, Failures: inTheWay}, exitConflict, "move what is in the way"},
		{"nothing done, a conflict among it", &job.IncompleteError{Wanted: 2, Failures: append(inTheWay, bad...)}, exitFailed, ""},
		{"interrupted", &job.IncompleteError{Wanted: 2, Done: 1, Interrupted: &interruptedError{syscall.SIGTERM}, Failures: bad}, exitInterrupted, "carries on"},
		{"not all removed", &job.RemovalError{Failures: bad}, exitPartly, "Everything was transferred"},
		{"the same place", &job.SamePlaceError{Place: "x"}, exitUsage, ""},
		{"planning anew found nothing", &job.IncompleteError{Wanted: 2, Done: 1, Failures: []error{&job.NoSnapshotsError{}}}, exitPartly, "carries on with the rest"},
	} {
		err := explainSync(tt.err, "buttersink sync", &opened{place: place{arg: "/a/"}}, "/b/", "")
		if got := judge(err).code; got != tt.code {
			t.Errorf("%s: exit code %d, want %d", tt.name, got, tt.code)
		}
		x, ok := errors.AsType[*exitError](err)
		if !ok {
			continue
		}
		if !strings.Contains(x.hint, tt.hint) || tt.hint == "" && x.hint != "" {
			t.Errorf("%s: hint %q, want %q", tt.name, x.hint, tt.hint)
		}
		failures := 0
		if u, ok := tt.err.(interface{ Unwrap() []error }); ok {
			failures = len(u.Unwrap())
		}
		if e, ok := tt.err.(*job.IncompleteError); ok {
			failures = len(e.Failures)
		}
		if lines := flatten(err); len(lines) != failures+1 {
			t.Errorf("%s: %d lines for %d failures: %q", tt.name, len(lines), failures, lines)
		}
	}
}
