// Package hook runs programs of the user's: what a job is to do before and after
// its snapshots, and whatever tells people how it went.
//
//	err := hook.Run(ctx, hook.Program{Argv: []string{"/usr/local/bin/freeze", "db"}, Env: []string{"BUTTERSINK_JOB=home"}, Log: log})
//
// It knows how to run a program, to show what it prints, and to end it. It does not
// know what the program is for, nor who asks for it.
//
// # The program
//
// It is run by its full path, without a shell, as the user of this process, in the
// root directory and in a session of its own, so without a terminal. Its standard
// input is what it is given, or /dev/null. Its environment is PATH, HOME, USER,
// LOGNAME, SHELL and LANG, none of it this process's, and what it is given besides;
// of each variable as much as [longestVariable] says.
//
// What it prints goes to a log, line by line: of a line as much as [longestLine]
// says, of all of it as much as [mostShown] and [leastOfLine] say, with secrets
// starred and control characters escaped. The rest is read and dropped.
//
// # What may be relied on
//
//   - No program is run that others than root and the user of this process can
//     change, or put something else in the place of: see [Check], which is asked each
//     time again.
//   - It has done well if it has ended with status 0 within its time. Everything else
//     is an *[Error].
//   - A program that takes too long, that fails or whose context ends, is ended with
//     all that it has started: all of its session is sent SIGTERM, and whatever is
//     left after some seconds SIGKILL. What has made a session of its own is not
//     found, nor what runs as somebody whom this process may send no signals.
//   - What a program leaves running after a success is left alone. Nobody waits for
//     it, even where it holds the program's output open; what it prints then goes
//     nowhere.
//   - Run returns: what does not react to SIGKILL, as in the kernel's uninterruptible
//     sleep, is an error and left behind.
//   - A program goes on when this process is killed: what was frozen is to be thawed.
//
// # Memory
//
// One line for each program, and what it is given.
package hook

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// Program is a program to be run.
type Program struct {
	// Argv is its full path and its arguments. No shell sees them.
	Argv []string
	// Env is added to the few variables that it gets, as NAME=VALUE. Bytes that a
	// variable cannot have are left out.
	Env []string
	// Stdin is given to it, as far as it reads that.
	Stdin []byte
	// Timeout ends it, and all that it has started; 0 is Usual.
	Timeout time.Duration
	// Log gets what it prints, line by line; nil is nothing.
	Log *slog.Logger
	// Hide is replaced by stars wherever it is printed, each line of it by itself.
	Hide []string
}

// Usual is how long a program may take unless one says otherwise.
const Usual = 5 * time.Minute

// Run runs a program and waits for its end. It fails with *Error.
func Run(ctx context.Context, p Program) error { return run(ctx, p, grace) }

// run gives a program that is to end so much time to tidy up.
func run(ctx context.Context, p Program, grace time.Duration) error {
	if err := Check(p.Argv); err != nil {
		return &Error{Status: -1, Err: err}
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if p.Timeout <= 0 {
		p.Timeout = Usual
	}
	failed := &Error{Program: p.Argv[0], Status: -1}
	if ctx.Err() != nil {
		failed.Err = context.Cause(ctx)
		return failed
	}
	s, err := start(p)
	if err != nil {
		failed.Err = err
		return failed
	}
	limit := time.NewTimer(p.Timeout)
	defer limit.Stop()
	select {
	case <-s.done:
		if s.status == nil {
			return nil
		}
		failed.Status, failed.Signal, failed.Err = s.outcome()
		failed.Err = errors.Join(failed.Err, s.end(p.Log, grace))
	case <-limit.C:
		failed.Limit = p.Timeout
		failed.Err = s.end(p.Log, grace)
	case <-ctx.Done():
		failed.Err = errors.Join(context.Cause(ctx), s.end(p.Log, grace))
	}
	failed.Last = s.lines.lastLine()
	return failed
}

// hidden returns the lines of secrets, the longest first, so that none that begins
// as another does hides less.
func hidden(secrets []string) []string {
	var found []string
	for _, s := range secrets {
		found = append(found, splitLines(s)...)
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(found)
}
