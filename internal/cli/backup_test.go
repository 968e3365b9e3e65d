package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// TestLockedCommands: whoever may write the notes beside the snapshots, as a machine
// that is backed up from here may, gets no command run.
func TestLockedCommands(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	o := &backupOptions{lockedDests: true}
	o.partSize = 100
	run, err := o.prepare(t.Context(), env, "buttersink backup", "ssh://host/home", []string{"shell://cat >/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	locked := run.locked()
	for _, id := range []string{"shell://touch /tmp/x", "shell://cat >/dev/null", "shell://", "ssh://-oProxyCommand=x/bk", "ssh://-lx@host/bk"} {
		if d, err := locked(id); err == nil {
			t.Errorf("%s is opened as %s", id, d.Name)
		}
	}
	if d, err := locked("/mnt/bk"); err != nil || d.ID != "/mnt/bk" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestDestinationRules: rules are those of the destination, whichever way it is
// written, and -n is one for all of them.
func TestDestinationRules(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	rulesAt := func(flags string, destinations ...string) []string {
		t.Helper()
		o := &backupOptions{}
		o.partSize, o.utc = 100, true
		if n, ok := strings.CutPrefix(flags, "-n "); ok {
			fmt.Sscan(n, &o.destinationCount)
		} else {
			for _, f := range strings.Fields(flags) {
				if err := o.destinationKeep.Set(f); err != nil {
					t.Fatal(err)
				}
			}
		}
		run, err := o.prepare(t.Context(), env, "buttersink backup", "/home", destinations)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, target := range run.targets {
			all = append(all, run.rules(target).String())
		}
		return all
	}
	rules := func(texts ...string) (all []string) {
		for _, text := range texts {
			r, err := schedule.ParseRules(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, in(r, time.UTC).String())
		}
		return all
	}
	for _, c := range []struct {
		flags string
		want  []string
	}{
		{"-n 3", rules("last:3", "last:3", "last:3")},
		{"daily:7", rules("daily:7", "daily:7", "daily:7")},
		{"daily:7 /bk/=weekly:2 ssh://host/x=last:1", rules("weekly:2", "last:1", "daily:7")},
		{"shell://a=b=last:4 daily:7", rules("daily:7", "daily:7", "last:4")},
		{"monthly:3,zone:Asia/Tokyo", rules("monthly:3,zone:Asia/Tokyo", "monthly:3,zone:Asia/Tokyo", "monthly:3,zone:Asia/Tokyo")},
	} {
		if diff := cmp.Diff(c.want, rulesAt(c.flags, "/bk", "ssh://HOST/x/", "shell://a=b")); diff != "" {
			t.Errorf("%s: %s", c.flags, diff)
		}
	}
}

// TestExplainBackup: the exit code says how much is done and why the rest is not,
// and each reason is said with the place that it is about.
func TestExplainBackup(t *testing.T) {
	at := func(place string, err error) error { return fmt.Errorf("%s: %w", place, err) }
	incomplete := func(conflicts bool, failures ...error) error {
		return &job.IncompleteError{Wanted: 2, Done: 1, Conflicts: conflicts, Failures: failures}
	}
	taken := at("20261120-231455", &store.ExistsError{Path: "/bk/20261120-231455", What: "a directory"})
	full := at("20261120-231455", syscall.ENOSPC)
	cold := at("x", &archive.ColdError{})
	force := at("/bk", &job.ForceError{Store: "btrfs /bk", Series: "home-", Going: 7, Of: 8})
	for _, c := range []struct {
		name  string
		err   error
		code  int
		lines int
		hint  string
	}{
		{"nothing is wrong", nil, exitDone, 0, ""},
		{"locked", &store.LockedError{Store: "x", Holder: "y"}, exitLocked, 1, ""},
		{"one of two", &job.BackupError{Done: true, Failures: []error{at("/bk", errors.New("no such host"))}}, exitPartly, 2, "carries on"},
		{"the only one", &job.BackupError{Failures: []error{at("/bk", errors.New("no such host"))}}, exitFailed, 2, ""},
		{"in the way", &job.BackupError{Done: true, Failures: []error{at("/bk", incomplete(true, taken))}}, exitConflict, 3, ""},
		{"in the way, and worse", &job.BackupError{Done: true, Failures: []error{at("/bk", incomplete(true, taken)), at("/b2", incomplete(false, full))}}, exitPartly, 5, "Nothing is ever overwritten"},
		{"too much", &job.BackupError{Done: true, Failures: []error{force}}, exitConflict, 2, "--force"},
		{"too much in prune", &job.ForceError{Store: "btrfs /bk", Going: 7, Of: 8}, exitConflict, 1, "--force"},
		{"not removed", &job.BackupError{Done: true, Failures: []error{at("/bk", &job.RemovalError{Failures: []error{errors.New("a"), errors.New("b")}})}}, exitPartly, 4, ""},
		{"not mounted", &job.BackupError{Done: true, Failures: []error{at("/bk", &job.PlaceError{Destination: "/bk"})}}, exitConflict, 2, "Mount"},
		{"cold", &job.BackupError{Done: true, Failures: []error{at("s3://b", cold)}}, exitPending, 2, ""},
		{"a hint of this room", &job.BackupError{Done: true, Failures: []error{at("dir:///x", &exitError{code: exitFailed, err: errors.New("is not there"), hint: "Make it"})}}, exitPartly, 2, "Make it"},
		{"interrupted", &job.BackupError{Done: true, Failures: []error{at("/bk", &job.IncompleteError{Interrupted: &interruptedError{syscall.SIGINT}})}}, exitInterrupted, 2, "carries on"},
		{"busy", &job.BackupError{Done: true, Failures: []error{at("/bk", &store.LockedError{Store: "btrfs /bk", Holder: "another"})}}, exitPartly, 2, "--wait"},
		{"a problem in the way", &job.BackupError{Done: true, Failures: []error{at("/bk", incomplete(true, &job.ProblemError{}))}}, exitConflict, 3, "Nothing is ever overwritten"},
		{"what was begun cannot be noted", &job.BackupError{Done: true, Failures: []error{at("/bk", &job.IncompleteError{Wanted: 1, Interrupted: full})}}, exitPartly, 3, "A file system is full"},
		{"too long", &job.BackupError{Failures: []error{at("/bk", &job.FullError{Steps: []plan.Step{{Path: "a"}, {Path: "b"}}})}}, exitConflict, 4, "--max-full"},
	} {
		err := explainBackup(c.err, &backupOptions{})
		v := judge(err)
		lines := 0
		if err != nil {
			lines = len(flatten(err))
		}
		if v.code != c.code || lines != c.lines || !strings.Contains(v.hint, c.hint) {
			t.Errorf("%s: exit code %d, %d lines, hint %q: %v", c.name, v.code, lines, v.hint, err)
		}
	}
	err := explainBackup(&job.BackupError{Failures: []error{at("/b2", incomplete(false, full))}}, &backupOptions{})
	if lines := flatten(err); lines[2].Error() != "/b2: 20261120-231455: no space left on device" {
		t.Errorf("a failure is told as %q", lines[2])
	}
	noting := errors.New("it is not begun: noting in btrfs /home/snapshot which transfers are unfinished: no space left on device")
	err = explainBackup(&job.BackupError{Failures: []error{at("/b2", &job.IncompleteError{Wanted: 1, Interrupted: noting})}}, &backupOptions{})
	if lines := flatten(err); lines[2].Error() != "/b2: "+noting.Error() {
		t.Errorf("why nothing was begun is told as %q", lines[2])
	}
}

// TestBackupRows: several destinations that are busy have a row each, one alone
// has those of a sync, and none has none.
func TestBackupRows(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	now := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	env.Now = func() time.Time { return now }
	env.Log, env.Width = slog.New(slog.DiscardHandler), func() int { return 80 }
	env.KeepAwake = func(context.Context, string, *slog.Logger) func() { return func() {} }
	v := newBackupView(env, &backupOptions{})
	step := plan.Step{Action: plan.Send, Path: "20261120-230000"}
	outlook := &job.Outlook{Plan: &plan.Plan{Steps: []plan.Step{step}}, SourceHolds: &snapshot.Inventory{}, DestinationHas: &snapshot.Inventory{}}
	event := func(kind transfer.Kind, bytes int64) transfer.Event {
		return transfer.Event{Kind: kind, Step: 1, Steps: 1, Action: plan.Send, Path: step.Path, Bytes: bytes, Expected: 100, Try: 1}
	}
	if rows := v.rows(80); len(rows) != 0 {
		t.Errorf("before anything: %q", rows)
	}
	var names []string
	for i := range 7 {
		names = append(names, fmt.Sprintf("/mnt/bk%d", i))
	}
	for _, name := range names {
		v.planned(name, outlook)
		v.event(name, event(transfer.StepBegun, 0))
		v.event(name, event(transfer.Progress, 50))
	}
	rows := v.rows(80)
	if len(rows) != targetRows+1 || !strings.HasPrefix(rows[0], "/mnt/bk0 [1/1] 20261120-230000: 50 bytes of ~100 bytes (50%)") || rows[targetRows] != "and 2 destinations more" {
		t.Errorf("all busy: %q", rows)
	}
	if slices.ContainsFunc(rows, func(row string) bool { return columns(row) > 80 }) {
		t.Errorf("a row is too long: %q", rows)
	}
	for _, name := range names[1:] {
		v.event(name, event(transfer.Committed, 100))
		v.ended(name, &job.SyncReport{}, nil)
	}
	if rows := v.rows(80); len(rows) != 1 || !strings.HasPrefix(rows[0], "[1/1] 20261120-230000: ") {
		t.Errorf("one busy: %q", rows)
	}
	v.event(names[0], event(transfer.Failed, 50))
	if rows := v.rows(80); len(rows) != 0 {
		t.Errorf("after all: %q", rows)
	}
	v.close()
}

// TestWritten: files with arguments are read for backup alone.
func TestWritten(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	for _, args := range [][]string{{"list", "@none"}, {"@none", "backup"}, {"sync", "@none", "/b"}, {"@none"}, {}} {
		if got, err := written(program(env), args); err != nil || !slices.Equal(got, args) {
			t.Errorf("%q became %q, %v", args, got, err)
		}
	}
	for _, args := range [][]string{{"backup", "@none"}, {"-q", "backup", "/home", "--", "@none"}, {"-l", "list", "backup", "@none"}} {
		if _, err := written(program(env), args); err == nil || judge(err).code != exitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, err := written(newBackup(env, backupProgram), []string{"@none"}); err == nil || judge(err).code != exitUsage {
		t.Errorf("btrfs-backup @none: %v", err)
	}
}
