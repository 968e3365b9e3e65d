package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

func TestJudge(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("doing something: %w", err) }
	for _, c := range []struct {
		name string
		err  error
		code int
		hint string // a part of it
	}{
		{"nothing", nil, 0, ""},
		{"anything", errors.New("x"), 1, ""},
		{"usage", usagef("buttersink sync", "no %s", "good"), 2, "Try 'buttersink sync --help'."},
		{"a code given", &exitError{code: exitPending, err: errors.New("x"), hint: "wait"}, 5, "wait"},
		{"a code around a type with a hint", &exitError{code: exitPartly, err: wrap(&store.LockedError{})}, 4, "other run"},
		{"cancelled", wrap(context.Canceled), 130, ""},
		{"a signal", wrap(&interruptedError{syscall.SIGTERM}), 130, ""},
		{"locked", wrap(&store.LockedError{Store: "s", Holder: "h"}), 7, "other run"},
		{"exists", wrap(&store.ExistsError{Path: "p", What: "w"}), 6, "Nothing is ever overwritten"},
		{"parent", wrap(&store.ParentError{Why: "w"}), 6, "plans without it"},
		{"changed parent", wrap(&store.ParentError{Path: "/p", Why: "w"}), 6, "whole"},
		{"permission", wrap(&btrfs.PermissionError{Capability: "CAP_SYS_ADMIN"}), 1, "CAP_SYS_ADMIN"},
		{"not btrfs", wrap(btrfs.ErrNotBtrfs), 1, "mounted"},
		{"cold", wrap(&archive.ColdError{Key: "k", Class: "GLACIER"}), 5, "'buttersink thaw'"},
		{"an inventory", wrap(&store.PendingError{What: "the inventory"}), 5, "nothing is asked for twice"},
		{"pending", explainSync(&job.PendingError{Source: "s", Waiting: make([]job.Waiting, 2)}, "", nil, "", ""), 5, "carries on"},
		{"asking failed", explainSync(&job.IncompleteError{Wanted: 1, Failures: []error{errors.New("x")}, Waiting: []job.Waiting{{Thawing: store.Thawing{State: store.Cold}}}}, "", &opened{}, "", ""), 1, ""},
		{"too dear", explainSync(&job.CostError{Source: "s", Limit: 3, Cost: 4, Currency: "USD"}, "", nil, "", ""), 6, "what each --tier costs"},
		{"no prices", explainSync(&job.CostError{Source: "s", Limit: 3}, "", nil, "", ""), 6, "--prices"},
		{"denied by S3", wrap(&archive.DeniedError{Bucket: "s3://b", Action: "s3:PutObject", Err: errors.New("x")}), 1, "docs/s3.md"},
		{"denied by a directory", wrap(&archive.DeniedError{Bucket: "dir:///b", Action: "writing", Err: errors.New("x")}), 1, "owns the directory"},
		{"a mode", wrap(&ssh.ModeError{Mode: ssh.Append, Call: "remove"}), 1, "help server"},
		{"no sudo", wrap(dial.ErrSudo), 1, "sudoers"},
		{"ButterSink", wrap(ssh.ErrOld), 1, "ssh+btrfs://"},
		{"joined", errors.Join(errors.New("x"), &store.LockedError{}), 7, "other run"},
	} {
		got := judge(c.err)
		if got.code != c.code || !strings.Contains(got.hint, c.hint) || (c.hint == "") != (got.hint == "") {
			t.Errorf("%s: judged %d %q, want %d %q", c.name, got.code, got.hint, c.code, c.hint)
		}
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("it is broken"), "ERROR: it is broken.\n"},
		{errors.New("it is broken. . "), "ERROR: it is broken.\n"},
		{errors.New("it is broken\n"), "ERROR: it is broken.\n"},
		{errors.New("what?"), "ERROR: what?\n"},
		{errors.New("in a\x1b[31mb\nc"), "ERROR: in a\\x1b[31mb\\nc.\n"},
		{errors.Join(errors.New("one"), errors.New("two.")), "ERROR: one.\nERROR: two.\n"},
		{fmt.Errorf("both: %w, %w", errors.New("one"), errors.New("two")), "ERROR: both: one, two.\n"},
		{errors.New("opening ssh://me:secret@host/x"), "ERROR: opening ssh://me:***@host/x.\n"},
		{&exitError{err: errors.New("it is broken"), hint: "mend it", told: true}, ""},
		{usagef("buttersink", "no"), "ERROR: no.\nTry 'buttersink --help'.\n"},
	} {
		env, _, stderr := testEnv(t, "buttersink")
		env.console = &console{w: stderr}
		env.report(c.err)
		if stderr.String() != c.want {
			t.Errorf("%v is reported as %q, want %q", c.err, stderr, c.want)
		}
	}
}

// Every code that the program knows is in the table once.
func TestExitCodesAreInTheTable(t *testing.T) {
	seen := map[int]bool{}
	for _, c := range exitCodes {
		if seen[c.code] {
			t.Errorf("code %d is there twice", c.code)
		}
		seen[c.code] = true
	}
	for _, code := range []int{
		exitDone, exitFailed, exitUsage, exitConfig, exitPartly, exitPending, exitConflict, exitLocked, exitInterrupted,
	} {
		if !seen[code] {
			t.Errorf("code %d is missing", code)
		}
	}
}

// What a command needs, what is different afterwards, and how it is typed is
// part of its help.
func TestHelpIsComplete(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			check(c)
		}
		if !cmd.Runnable() || cmd.HasSubCommands() && cmd.HasParent() || cmd.Name() == "help" {
			return
		}
		name := cmd.CommandPath()
		if !strings.Contains(cmd.Long, "Before: ") || !strings.Contains(cmd.Long, "After: ") {
			t.Errorf("%s --help does not say what it needs (Before:) and what it changes (After:)", name)
		}
		if cmd.Example == "" {
			t.Errorf("%s --help has no example", name)
		}
		for i, line := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
			if n := columns(line); n > 84 {
				t.Errorf("%s --help, line %d has %d columns", name, i+1, n)
			}
		}
	}
	check(newRoot(env))
}

// With two arguments the root command is sync, with one it is list, with the
// same flags.
func TestRootHandsFlagsOver(t *testing.T) {
	list := &cobra.Command{Use: "list"}
	exclude := list.Flags().StringArray("exclude", nil, "")
	dryRun := list.Flags().Bool("dry-run", false, "")
	root := &cobra.Command{Use: "root"}
	root.Flags().StringArray("exclude", nil, "")
	root.Flags().BoolP("dry-run", "n", false, "")
	root.Flags().Int("part-size", 100, "")
	if err := root.ParseFlags([]string{"-n", "--exclude", "a,b", "--exclude", "[c]", "--part-size", "3"}); err != nil {
		t.Fatal(err)
	}
	if err := handOver(root, list); err != nil {
		t.Fatal(err)
	}
	if !*dryRun || strings.Join(*exclude, " ") != "a,b [c]" {
		t.Errorf("dry-run %v, exclude %q", *dryRun, *exclude)
	}
}

// brokenPipe is what a reader leaves that has gone away.
type brokenPipe struct{ room int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func TestAnswerThatDoesNotArrive(t *testing.T) {
	// A reader that has seen enough is no error.
	env, _, stderr := testEnv(t, "buttersink")
	env.Stdout = &brokenPipe{room: 100}
	if code := Main([]string{"--help"}, env); code != 0 || stderr.Len() > 0 {
		t.Errorf("help into a closed pipe: exit code %d, standard error %q", code, stderr)
	}
	// It does not make a verdict good.
	env, _, _ = testEnv(t, "buttersink")
	env.Stdout = &brokenPipe{}
	if code := Main([]string{"stream", "verify", "/dev/null"}, env); code != 1 {
		t.Errorf("verify into a closed pipe: exit code %d, want 1", code)
	}
	// A full disk is an error.
	env, _, stderr = testEnv(t, "buttersink")
	env.Stdout = failingWriter{}
	if code := Main([]string{"-V"}, env); code != 1 || !strings.Contains(stderr.String(), "ERROR: writing to standard output: ") {
		t.Errorf("into a full file: exit code %d, want 1; standard error %q", code, stderr)
	}
}

// A log that did not get all of its lines is not passed over in silence.
func TestLogThatFillsTheDisk(t *testing.T) {
	env, _, stderr := testEnv(t, "buttersink")
	if code := Main([]string{"-l", "/dev/full", "-V"}, env); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if !strings.Contains(stderr.String(), "WARNING: The log file is not complete error=") {
		t.Errorf("standard error %q", stderr)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
