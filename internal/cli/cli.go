// Package cli is the front of the program: it turns words into options, opens
// the stores that they name, hands both to the rooms below, and shows people
// and machines what comes of it. It is the only room that prints, and the
// composition root: the only one that names concrete stores.
//
// It knows commands, flags, terminals, exit codes and plain English. It refuses
// to know how anything is done: a command calls one function of job, or of the
// room that it is about, and draws the result.
//
// # Invariants
//
//   - Answers go to standard output; everything else (log lines, progress,
//     errors) goes to standard error. With --json, standard output holds one
//     JSON object a line and nothing else.
//   - An error is printed once, by [Main], as "ERROR: message." with its hints
//     below; its exit code comes from the table in exit.go.
//   - Text that comes from a file system or another machine passes through
//     printable before it is shown.
//   - Everything that a command touches arrives in its [Env].
//
// Memory is bounded by one listing; streams are never held whole.
//
//	os.Exit(cli.Main(os.Args[1:], cli.System()))
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
)

// Main runs the command that args (without the program's name) stand for and
// returns the exit code of the process.
func Main(args []string, env *Env) int {
	env.console = &console{w: env.Stderr}
	env.Log = slog.New(slog.DiscardHandler)
	stdout := &output{w: env.Stdout}
	env.Stdout = stdout

	ctx, stop := env.Interrupts(context.Background())
	defer stop()

	cmd := program(env)
	cmd.SetIn(env.Stdin)
	cmd.SetOut(env.Stdout)
	cmd.SetErr(env.Stderr)
	args, err := written(cmd, args)
	if err == nil {
		cmd.SetArgs(append([]string{}, args...)) // nil would stand for os.Args
		err = cmd.ExecuteContext(ctx)
	}
	if err == nil {
		err = env.unexplained
	}
	if err == nil && !errors.Is(stdout.err, syscall.EPIPE) {
		err = stdout.err // of a write that nobody looked at; who left has seen enough
	}
	if interrupted, ok := errors.AsType[*interruptedError](context.Cause(ctx)); ok && err != nil {
		if _, named := errors.AsType[*interruptedError](err); !named || judge(err).code != exitInterrupted {
			err = &exitError{code: exitInterrupted, err: withCause(err, interrupted)}
		}
	}
	code := env.report(err)
	if lost := env.logFailure(); lost != nil {
		env.Log.Warn("The log file is not complete", "error", lost)
	}
	for _, c := range env.closers {
		c.Close()
	}
	return code
}

// withCause names the signal where err only says that the run was cancelled.
func withCause(err error, cause *interruptedError) error {
	if _, ok := errors.AsType[*interruptedError](err); ok {
		return err
	}
	if err.Error() == context.Canceled.Error() {
		return cause
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// output is standard output. It remembers the first error, so that an answer
// that did not arrive is never taken for success.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = &outputError{err}
		return n, o.err
	}
	return n, nil
}

// outputError says that standard output does not take more.
type outputError struct{ err error }

func (e *outputError) Error() string { return "writing to standard output: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// untilReaderLeaves is for commands that do nothing but print: a reader that
// has seen enough, as head(1) does, has not met an error.
func (env *Env) untilReaderLeaves(err error) error {
	o, ok := env.Stdout.(*output)
	if ok && errors.Is(o.err, syscall.EPIPE) {
		o.err = nil
		if _, ok := errors.AsType[*outputError](err); ok || err == nil {
			return nil
		}
	}
	return err
}
