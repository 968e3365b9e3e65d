package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// TestExplainSync: each outcome of a sync has its exit code, every failure its
// own line, and a hint only where it is true.
func TestExplainSync(t *testing.T) {
	bad := []error{errors.New("a: disk on fire")}
	inTheWay := []error{fmt.Errorf("a: %w", &store.ExistsError{Path: "/b/a", What: "a directory"})}
	cold := []error{fmt.Errorf("a: %w", &archive.ColdError{Key: "k", Class: "GLACIER"})}
	problem := &job.ProblemError{Problem: plan.Problem{Path: "b", Why: "what it starts from could not be had"}}
	taken := &job.ProblemError{Problem: plan.Problem{Path: "b", Why: "its place is taken", Conflict: true}}
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
		{"full", &job.IncompleteError{Wanted: 2, Failures: []error{fmt.Errorf("a: writing: %w", syscall.ENOSPC)}}, exitFailed, "'buttersink list -d /b/' gives back"},
		{"cold", &job.IncompleteError{Wanted: 2, Done: 1, Failures: cold}, exitPending, ""},
		{"cold, and what comes of it", &job.IncompleteError{Wanted: 2, Failures: append(cold, problem)}, exitPending, ""},
		{"cold, and something else", &job.IncompleteError{Wanted: 2, Failures: append(cold, bad...)}, exitFailed, ""},
		{"cold, and a conflict", &job.IncompleteError{Wanted: 3, Done: 1, Failures: append(cold, taken)}, exitPartly, "carries on with the rest"},
		{"a problem alone", &job.IncompleteError{Wanted: 2, Failures: []error{problem}}, exitFailed, ""},
		{"interrupted", &job.IncompleteError{Wanted: 2, Done: 1, Interrupted: &interruptedError{syscall.SIGTERM}, Failures: bad}, exitInterrupted, "carries on"},
		{"not all removed", &job.RemovalError{Failures: bad}, exitPartly, "Everything was transferred"},
		{"the same place", &job.SamePlaceError{Place: "x"}, exitUsage, ""},
		{"planning anew found nothing", &job.IncompleteError{Wanted: 2, Done: 1, Failures: []error{&job.NoSnapshotsError{}}}, exitPartly, "carries on with the rest"},
	} {
		err := explainSync(tt.err, "buttersink sync", &opened{site: site{Place: place.Place{Arg: "/a/"}}}, "/b/", "")
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

// TestExplainFull: whoever finds the message in the morning has to know what
// would have been sent, why, and what to type.
func TestExplainFull(t *testing.T) {
	step := func(path string, size snapshot.Size) plan.Step {
		return plan.Step{Action: plan.Send, Path: path, Size: size, Reason: "full: the destination has nothing of its family"}
	}
	err := explainSync(&job.FullError{Limit: 1, Steps: []plan.Step{step("it's one", snapshot.AboutSize(3<<30)), step("two", snapshot.Size{})}},
		"buttersink sync", &opened{site: site{Place: place.Place{Arg: "/a/"}}}, "/b/", "2GiB")
	env, _, stderr := testEnv(t, "buttersink")
	env.console = &console{w: stderr}
	if code := env.report(err); code != exitConflict {
		t.Errorf("exit code %d, want %d", code, exitConflict)
	}
	want := `ERROR: 2 full streams would be longer than --max-full 2GiB, and nobody is at a terminal to decide: stopped before sending.
ERROR: it's one, ~3 GiB: full: the destination has nothing of its family.
ERROR: two, of unknown length: full: the destination has nothing of its family.
If that is right, run it from a terminal, or raise --max-full. If not, make a parent available: 'buttersink explain '/a/it'\''s one' /b/' says what speaks against each.
`
	if stderr.String() != want {
		t.Errorf("it is reported as\n%s\nwant\n%s", stderr, want)
	}
}

// syncHere runs the program in this process.
func (p *pair) syncHere(t *testing.T, with func(*Env), flags ...string) (code int, stderr string) {
	t.Helper()
	env, _, errs := testEnv(t, "buttersink")
	env.Getenv = func(name string) string { return map[string]string{"BUTTERSINK_STATE": p.state}[name] }
	with(env)
	code = Main(append(flags, p.src.Path("snaps")+"/", p.dst.Path("snaps")+"/"), env)
	return code, errs.String()
}

// TestKeepsAwake: the machine may sleep unless something is being sent.
func TestKeepsAwake(t *testing.T) {
	p := newPair(t, 2)
	for _, c := range []struct {
		name  string
		flags []string
		want  string
	}{
		{"a dry run", []string{"-n"}, ""},
		{"a run that is stopped", []string{"--max-full", "1K"}, ""},
		{"a run", nil, "kept released"},
		{"a run with nothing to send", nil, ""},
	} {
		var happened []string
		_, stderr := p.syncHere(t, func(env *Env) {
			env.KeepAwake = func(ctx context.Context, why string, log *slog.Logger) func() {
				if ctx.Err() != nil || why == "" || log == nil {
					t.Errorf("%s: kept awake with %v, %q, %v", c.name, ctx.Err(), why, log)
				}
				happened = append(happened, "kept")
				return func() { happened = append(happened, "released") }
			}
		}, c.flags...)
		if got := strings.Join(happened, " "); got != c.want {
			t.Errorf("%s: %q, want %q; %s", c.name, got, c.want, stderr)
		}
	}
}

// TestMaxFullAttended: a person is told, and can interrupt it.
func TestMaxFullAttended(t *testing.T) {
	for _, c := range []struct {
		in, err bool
		code    int
	}{{true, true, exitDone}, {false, true, exitConflict}, {true, false, exitConflict}} {
		p := newPair(t, 1)
		code, stderr := p.syncHere(t, func(env *Env) {
			env.StdinIsTerminal, env.StderrIsTerminal = c.in, c.err // of no width, so that nothing is drawn
		}, "--max-full", "1MiB")
		warned := strings.Contains(stderr, "s00 is longer than --max-full 1MiB (~")
		if code != c.code || warned != (code == exitDone) {
			t.Errorf("%+v: exit code %d; %s", c, code, stderr)
		}
		if entries, err := os.ReadDir(p.dst.Path("snaps")); err != nil || len(entries) > 0 != (code == exitDone) {
			t.Errorf("%+v: at the destination is %v, %v", c, entries, err)
		}
	}
}

// TestGathered: a reason that many snapshots have is said once, and loses neither
// their names nor what it means for the exit code.
func TestGathered(t *testing.T) {
	key := func(path string) error {
		return fmt.Errorf("%s: %w", path, fmt.Errorf("opening snaps/%s/x.age: %w", path, &seal.NoKeyError{Form: seal.Form{Cipher: seal.Age}}))
	}
	problem := func(path string) error {
		return &job.ProblemError{Problem: plan.Problem{Path: path, Why: "it needs a"}}
	}
	denied := func(path, request string) error {
		return fmt.Errorf("%s: %w", path, &archive.DeniedError{Bucket: "s3://b", Action: "s3:PutObject", Key: path, Err: errors.New(request)})
	}
	exists := fmt.Errorf("f: %w", &store.ExistsError{Path: "/b/f", What: "a directory"})
	got := gathered([]error{key("a"), problem("b"), key("c"), problem("d"), exists, errors.New("alone"), denied("x", "request 1"), denied("y", "request 2")})
	want := []string{
		"a, c: it is encrypted with age, and there is no key for it: give one with --identity FILE",
		"b, d: it needs a", exists.Error(), "alone", "x, y: s3://b does not allow s3:PutObject: request 1",
	}
	var texts []string
	for _, err := range got {
		texts = append(texts, err.Error())
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
	if code := judge(errors.Join(got...)).code; code != exitConflict {
		t.Errorf("exit code %d", code)
	}
	var many []error
	for i := range 15 {
		many = append(many, problem(strconv.Itoa(i)))
	}
	if got, want := gathered(many)[0].Error(), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 5 more: it needs a"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestExplainDamage: what is damaged in an archive is not mended by another run.
func TestExplainDamage(t *testing.T) {
	bad := &job.IncompleteError{Wanted: 2, Done: 1, Failures: []error{fmt.Errorf("a: %w", &stream.Error{Number: 3, Err: stream.ErrMalformed})}}
	for scheme, hint := range map[string]string{"s3": "buttersink verify --data s3://b/p/", "": "carries on with the rest"} {
		err := explainSync(bad, "buttersink sync", &opened{site: site{Place: place.Place{Arg: "s3://b/p/", Scheme: scheme}}}, "/b/", "")
		if v := judge(err); v.code != exitPartly || !strings.Contains(v.hint, hint) {
			t.Errorf("from %q: %d, %q", scheme, v.code, v.hint)
		}
	}
}
