package runner

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// TestTroubles: what was not there when the configuration was read keeps a job from
// being begun if it comes before or right after the snapshots; the rest fails in its
// turn. It is a failure like any other, and nothing is done to find it out.
func TestTroubles(t *testing.T) {
	for _, c := range []struct {
		name     string
		key      string
		gone     bool // still
		failures int
		want     []string
		dry      []string
	}{
		{
			name: "what freezes", key: "before", gone: true, failures: 1,
			want: []string{"after failed", "on-failure failed", "told failure"}, dry: []string{""},
		},
		{
			name: "what thaws", key: "after-snapshot", gone: true, failures: 1,
			want: []string{"after failed", "on-failure failed", "told failure"}, dry: []string{""},
		},
		{
			name: "what comes in the end", key: "after", gone: true, failures: 1,
			want: []string{"before going-on", "sources", "snapshot /a", "snapshot /b", "after-snapshot going-on", "transfer /a", "transfer /b", "on-failure failed", "told failure"},
			dry:  []string{"sources", "transfer /a", "transfer /b"},
		},
		{
			name: "what comes in the end, and is there by now", key: "after",
			want: []string{"before going-on", "sources", "snapshot /a", "snapshot /b", "after-snapshot going-on", "transfer /a", "transfer /b", "after done", "told success"},
			dry:  []string{"sources", "transfer /a", "transfer /b"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			program := map[string][][]string{"before": s.job.Before, "after-snapshot": s.job.AfterSnapshot, "after": s.job.After}[c.key][0][0]
			trouble := &config.Trouble{Key: c.key, Program: program, Problem: config.Problem{File: "f.toml", At: config.Position{Line: 3, Column: 4}, Message: "hush is not there"}}
			s.job.Troubles = []*config.Trouble{trouble}
			if c.gone {
				if err := os.Remove(program); err != nil {
					t.Fatal(err)
				}
			}
			s.DryRun = true
			_, err := s.Run(t.Context(), &s.job)
			if found, ok := errors.AsType[*config.Trouble](err); !ok || found != trouble {
				t.Errorf("a dry run ends with %v", err)
			}
			if diff := cmp.Diff(c.dry, s.lines(t)); diff != "" {
				t.Errorf("a dry run: %s", diff)
			}
			s.DryRun = false
			if err := os.Remove(s.diary); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}

			_, err = s.Run(t.Context(), &s.job)
			if diff := cmp.Diff(c.want, s.lines(t)); diff != "" {
				t.Error(diff)
			}
			failed, ok := errors.AsType[*JobError](err)
			if ok && (len(failed.Failures) != c.failures || !errors.Is(err, trouble)) || !ok && c.failures > 0 {
				t.Errorf("ended with %v", err)
			}
			s.isWritten(t, c.failures > 0)
			s1, err := Look(&config.File{Jobs: []config.Job{s.job}}, s.Ledger, s.now(), 0, nil)
			if err != nil || (s1.Jobs[0].Trouble != "") != (c.failures > 0) {
				t.Errorf("it stands like this: %+v, %v", s1, err)
			}
		})
	}
}

// TestGoneSince: nothing is frozen unless what thaws is there now, whatever was when
// the configuration was read.
func TestGoneSince(t *testing.T) {
	s := newScene(t)
	if err := os.Remove(s.job.AfterSnapshot[0][0]); err != nil {
		t.Fatal(err)
	}
	_, err := s.Run(t.Context(), &s.job)
	failed, ok := errors.AsType[*JobError](err)
	if !ok || len(failed.Failures) != 1 || failed.Done {
		t.Errorf("ended with %v", err)
	}
	if diff := cmp.Diff([]string{"after failed", "on-failure failed", "told failure"}, s.lines(t)); diff != "" {
		t.Error(diff)
	}
	runs, err := s.Ledger.JobRuns("home", 10)
	if err != nil || len(runs) != 1 || runs[0].Result != ledger.Failed {
		t.Errorf("%+v, %v", runs, err)
	}
}
