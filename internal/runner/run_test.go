package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// scene is a job whose hooks and worker write down what happens, in one file.
type scene struct {
	*Runner
	job   config.Job
	diary string // the file
	fails map[string]error
	then  map[string]func() // what happens besides
	waits bool              // snapshots are never made
}

var _ Worker = (*scene)(nil)

func newScene(t *testing.T) *scene {
	t.Helper()
	dir := t.TempDir()
	s := &scene{diary: filepath.Join(dir, "diary"), fails: map[string]error{}, then: map[string]func(){}}
	l, err := ledger.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s.Runner = &Runner{Worker: s, Ledger: l, Locks: filepath.Join(dir, "locks"), Host: "host", Hide: []string{"hush"}}
	s.job = config.Job{Name: "home", Snapshot: true, Sources: []string{"/a", "/b"}, Notify: []string{"file"}}
	hook := func(event string) [][]string {
		return [][]string{{program(t, dir, event, fmt.Sprintf(`echo "%s $BUTTERSINK_RESULT" >>%s; [ ! -e %s/%s.fails ] || { echo hush; echo open-sesame; exit 3; }`, event, s.diary, dir, event))}}
	}
	s.job.Before, s.job.AfterSnapshot, s.job.After, s.job.OnFailure = hook("before"), hook("after-snapshot"), hook("after"), hook("on-failure")
	s.Notices = []config.Notice{
		{Name: "file", On: []string{"success", "failure"}, Command: []string{program(t, dir, "notice", fmt.Sprintf(`echo "told $BUTTERSINK_EVENT" >>%s; cat >>%[1]s.told`, s.diary))}},
		{Name: "other", On: []string{"success", "failure"}, Command: []string{"/bin/false"}},
	}
	return s
}

// program makes a shell script.
func program(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// breaks has the hook of an event fail.
func (s *scene) breaks(t *testing.T, event string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.diary), event+".fails"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) write(line string) error {
	f, err := os.OpenFile(s.diary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		return err
	}
	if then := s.then[line]; then != nil {
		then()
	}
	return s.fails[line]
}

func (s *scene) Sources(context.Context, *config.Job) ([]Source, error) {
	var all []Source
	for _, arg := range s.job.Sources {
		all = append(all, Source{Arg: arg, Name: config.SourceName(arg)})
	}
	return all, s.write("sources")
}

func (s *scene) Snapshot(ctx context.Context, _ *config.Job, from Source, _ time.Time) (ledger.PlaceRun, error) {
	err := s.write("snapshot " + from.Arg)
	if s.waits {
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	return ledger.PlaceRun{Snapshot: "made"}, err
}

func (s *scene) Transfer(ctx context.Context, _ *config.Job, from Source) ([]ledger.PlaceRun, error) {
	err := s.write("transfer " + from.Arg)
	there := ledger.PlaceRun{Destination: "there", Result: result(ctx, err), Message: s.text(err), Transferred: 1, Bytes: 10, Outstanding: 2}
	return []ledger.PlaceRun{{Result: ledger.Done, Removed: 3}, there}, err
}

// lines is what has happened.
func (s *scene) lines(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(s.diary)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// TestRun: what happens in which order, whatever fails.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks string // hook
		fails  string // worker
		want   []string
		failed bool
	}{
		{
			name: "all is well",
			want: []string{"before going-on", "sources", "snapshot /a", "snapshot /b", "after-snapshot going-on", "transfer /a", "transfer /b", "after done", "told success"},
		},
		{
			name: "nothing is begun if the first hook fails, and what it froze thaws", breaks: "before", failed: true,
			want: []string{"before going-on", "after-snapshot failed", "after failed", "on-failure failed", "told failure"},
		},
		{
			name: "a snapshot that fails keeps no other from being made and sent", fails: "snapshot /a", failed: true,
			want: []string{"before going-on", "sources", "snapshot /a", "snapshot /b", "after-snapshot failed", "transfer /a", "transfer /b", "after failed", "on-failure failed", "told failure"},
		},
		{
			name: "no sources", fails: "sources", failed: true,
			want: []string{"before going-on", "sources", "after-snapshot failed", "after failed", "on-failure failed", "told failure"},
		},
		{
			name: "what thaws fails", breaks: "after-snapshot", failed: true,
			want: []string{"before going-on", "sources", "snapshot /a", "snapshot /b", "after-snapshot going-on", "transfer /a", "transfer /b", "after failed", "on-failure failed", "told failure"},
		},
		{
			name: "a transfer that fails keeps no other from being done", fails: "transfer /a", failed: true,
			want: []string{"before going-on", "sources", "snapshot /a", "snapshot /b", "after-snapshot going-on", "transfer /a", "transfer /b", "after failed", "on-failure failed", "told failure"},
		},
		{
			name: "a hook at the end fails the job", breaks: "after", failed: true,
			want: []string{"before going-on", "sources", "snapshot /a", "snapshot /b", "after-snapshot going-on", "transfer /a", "transfer /b", "after done", "on-failure failed", "told failure"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			if c.breaks != "" {
				s.breaks(t, c.breaks)
			}
			if c.fails != "" {
				s.fails[c.fails] = errors.New("hush it is broken")
			}
			_, err := s.Run(t.Context(), &s.job)
			if diff := cmp.Diff(c.want, s.lines(t)); diff != "" {
				t.Error(diff)
			}
			failed, ok := errors.AsType[*JobError](err)
			if ok != c.failed {
				t.Fatalf("ended with %v", err)
			}
			if ok && len(failed.Failures) != 1 {
				t.Errorf("%d failures: %v", len(failed.Failures), err)
			}
			s.isWritten(t, c.failed)
		})
	}
}

// isWritten: the ledger has the run, and no secret.
func (s *scene) isWritten(t *testing.T, failed bool) {
	t.Helper()
	runs, err := s.Ledger.JobRuns("home", 10)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	want := ledger.Done
	if failed {
		want = ledger.Failed
	}
	if runs[0].Result != want || runs[0].Ended.IsZero() || failed && runs[0].Message == "" {
		t.Errorf("the run: %+v", runs[0])
	}
	told, err := os.ReadFile(s.diary + ".told")
	if err != nil {
		t.Fatal(err)
	}
	if kept := fmt.Sprintf("%+v", runs) + string(told); strings.Contains(kept, "hush") || strings.Contains(kept, "open-sesame") {
		t.Errorf("a secret is in the ledger, or was told: %s", kept)
	}
}

// TestPlaces: what became of a source and of its destinations is written down, what
// was done at the source in two parts as one.
func TestPlaces(t *testing.T) {
	s := newScene(t)
	s.fails["snapshot /a"] = errors.New("no room")
	s.fails["transfer /b"] = errors.New("it is away")
	if _, err := s.Run(t.Context(), &s.job); err == nil {
		t.Fatal("all is well")
	}
	runs, err := s.Ledger.JobRuns("home", 10)
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		source, destination, message, snapshot string
		result                                 ledger.Result
		transferred, removed, outstanding      int
	}
	var got []place
	for _, p := range runs[0].Places {
		got = append(got, place{p.Source, p.Destination, p.Message, p.Snapshot, p.Result, p.Transferred, p.Removed, p.Outstanding})
	}
	want := []place{
		{"/a", "", "no room", "made", ledger.Failed, 0, 3, 0},
		{"/b", "", "", "made", ledger.Done, 0, 3, 0},
		{"/a", "there", "", "", ledger.Done, 1, 0, 2},
		{"/b", "there", "it is away", "", ledger.Failed, 1, 0, 2},
	}
	less := cmp.Transformer("sorted", func(all []place) map[string]place {
		m := map[string]place{}
		for _, p := range all {
			m[p.source+" "+p.destination] = p
		}
		return m
	})
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(place{}), less); diff != "" {
		t.Error(diff)
	}
}

// TestSaidOnce: a source that is not there is in the way of the snapshot and of the
// transfers, and is one failure.
func TestSaidOnce(t *testing.T) {
	s := newScene(t)
	s.fails["snapshot /a"], s.fails["transfer /a"] = errors.New("it is not there"), errors.New("it is not there")
	s.fails["snapshot /b"], s.fails["transfer /b"] = errors.New("no room"), errors.New("it is\naway")
	_, err := s.Run(t.Context(), &s.job)
	if want := "job home is not complete: /a: it is not there; /b: no room; /b: it is\naway"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	runs, err := s.Ledger.JobRuns("home", 1)
	if want := "/a: it is not there\n/b: no room\n/b: it is; away"; err != nil || runs[0].Message != want {
		t.Errorf("%q is written down: %v", runs[0].Message, err)
	}
	bad := ledger.PlaceRun{Result: ledger.Failed, Message: "it is not there"}
	if got := joined(bad, bad); got.Message != bad.Message {
		t.Error(got.Message)
	}
}

// TestInterrupted: what was frozen thaws when a run is interrupted, and the run says
// that it was.
func TestInterrupted(t *testing.T) {
	s := newScene(t)
	ctx, stop := context.WithCancel(t.Context())
	s.then["snapshot /a"] = stop
	_, err := s.Run(ctx, &s.job)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("ended with %v", err)
	}
	want := []string{"before going-on", "sources", "snapshot /a", "after-snapshot interrupted", "after interrupted", "on-failure interrupted", "told failure"}
	if diff := cmp.Diff(want, s.lines(t)); diff != "" {
		t.Error(diff)
	}
	runs, err := s.Ledger.JobRuns("home", 10)
	if err != nil || len(runs) != 1 || runs[0].Result != ledger.Interrupted {
		t.Fatalf("%+v, %v", runs, err)
	}
}

// TestOneAtATime: a second run of a job does nothing, and who asks sees the first.
func TestOneAtATime(t *testing.T) {
	s := newScene(t)
	if Running(s.Locks, "home") {
		t.Error("a run is going on before there was any")
	}
	var second error
	s.then["snapshot /a"] = func() {
		if !Running(s.Locks, "home") || Running(s.Locks, "other") {
			t.Error("it cannot be told which run is going on")
		}
		other := *s.Runner
		_, second = other.Run(t.Context(), &s.job)
	}
	if _, err := s.Run(t.Context(), &s.job); err != nil {
		t.Fatal(err)
	}
	if _, locked := errors.AsType[*LockedError](second); !locked {
		t.Errorf("the second run ended with %v", second)
	}
	if Running(s.Locks, "home") {
		t.Error("a run is going on after its end")
	}
	if runs, err := s.Ledger.JobRuns("", 10); err != nil || len(runs) != 1 {
		t.Errorf("%d runs are written down, %v", len(runs), err)
	}
}

// TestDryRun: nothing happens but what the worker says.
func TestDryRun(t *testing.T) {
	s := newScene(t)
	s.DryRun = true
	report, err := s.Run(t.Context(), &s.job)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Sources) != 2 {
		t.Errorf("it is about %v", report.Sources)
	}
	if diff := cmp.Diff([]string{"sources", "transfer /a", "transfer /b"}, s.lines(t)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(s.Locks); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a lock: %v", err)
	}
	if runs, err := s.Ledger.JobRuns("", 10); err != nil || len(runs) != 0 {
		t.Errorf("%d runs are written down, %v", len(runs), err)
	}
}

// TestFrozen: what was frozen is not kept so by another run that a snapshot has to
// wait for, and no signal ends the process before it thaws.
func TestFrozen(t *testing.T) {
	s := newScene(t)
	s.waits, s.job.HookTimeout = true, 3*time.Second
	shielded := false
	s.Shield = func() func() {
		shielded = true
		return func() {
			if all := s.lines(t); all[len(all)-1] != "after-snapshot failed" {
				t.Errorf("signals end the process after %q", all)
			}
		}
	}
	_, err := s.Run(t.Context(), &s.job)
	want := []string{"before going-on", "sources", "snapshot /a", "after-snapshot failed", "transfer /a", "transfer /b", "after failed", "on-failure failed", "told failure"}
	if diff := cmp.Diff(want, s.lines(t)); diff != "" {
		t.Error(diff)
	}
	failed, ok := errors.AsType[*JobError](err)
	if !ok || len(failed.Failures) != 2 || !strings.Contains(err.Error(), "/b: no snapshot could be made within 3s") {
		t.Errorf("ended with %v", err)
	}
	if !shielded {
		t.Error("nothing keeps signals away")
	}
	s.isWritten(t, true)
}

// TestLocksUnwritable: a machine whose disk is full or failing is backed up all the
// same, without a lock.
func TestLocksUnwritable(t *testing.T) {
	s := newScene(t)
	s.Locks = "/proc/locks-of-jobs" // where nothing can be made
	if _, err := s.Run(t.Context(), &s.job); err == nil {
		t.Error("a lock that cannot be taken for no good reason is no error")
	}
	for _, err := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS} {
		if !unwritable(&os.PathError{Op: "open", Path: "home.lock", Err: err}) {
			t.Errorf("%v keeps a job from being run", err)
		}
	}
	s.Locks = readOnly(t)
	if _, err := s.Run(t.Context(), &s.job); err != nil {
		t.Error(err)
	}
}

// readOnly is a directory on a file system to which nothing can be written.
func readOnly(t *testing.T) string {
	t.Helper()
	btrfstest.Require(t) // who may do that may mount
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestOddNames: a name is one line, wherever it is told.
func TestOddNames(t *testing.T) {
	s := newScene(t)
	s.job.Sources = []string{"/a\n/etc", "/b\x1b[1m"}
	seen := filepath.Join(t.TempDir(), "seen")
	s.job.After = [][]string{{program(t, t.TempDir(), "after", `printf '%s' "$BUTTERSINK_SOURCES" >`+seen)}}
	s.Notices[0].Command = []string{program(t, t.TempDir(), "notice", `printf '%s\n' "$BUTTERSINK_DETAILS" >>`+seen)}
	if _, err := s.Run(t.Context(), &s.job); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	want := `"/a\n/etc"` + "\n/b\x1b[1m" + `"/a\n/etc": done, newest made, 3 removed
"/b\x1b[1m": done, newest made, 3 removed
"/a\n/etc" -> there: done, 1 transferred (10 bytes), 2 outstanding
"/b\x1b[1m" -> there: done, 1 transferred (10 bytes), 2 outstanding
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}
