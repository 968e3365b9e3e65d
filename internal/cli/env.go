package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/buttersink/buttersink/internal/awake"
)

// Env is everything that a command touches outside of the stores: the streams,
// the terminal, the clock, the environment and the signals. Commands get it
// from Main and use nothing else.
type Env struct {
	// Args0 is the name by which the program was called.
	Args0 string

	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// StdoutIsTerminal and StderrIsTerminal say whether a person reads along, and
	// StdinIsTerminal whether one can type.
	StdinIsTerminal, StdoutIsTerminal, StderrIsTerminal bool
	// Width answers with the columns of the terminal on Stderr, now; 0 where
	// that cannot be told.
	Width func() int

	// Getenv looks up an environment variable; "" if it is not set.
	Getenv func(name string) string
	// Now is the clock.
	Now func() time.Time
	// Interrupts derives a context that is cancelled, with a cause that names
	// the signal, when somebody wants the run to end. Once that has happened,
	// the next signal ends the process at once.
	Interrupts func(context.Context) (context.Context, context.CancelFunc)

	// KeepAwake keeps the machine from going to sleep until release is called, as
	// far as that can be done.
	KeepAwake func(ctx context.Context, why string, log *slog.Logger) (release func())

	// Log takes what the rooms below have to say. It discards everything until
	// the flags have been read.
	Log *slog.Logger

	console    *console      // standard error, shared by log lines and progress
	file       *lines        // the log file of --logfile, or nil
	closers    []io.Closer   // closed by Main when the command has ended
	quiet      int           // how often -q was given
	configFile string        // of --config
	level      slog.LevelVar // of what the console shows

	unexplained error // why --help has explained nothing; cobra has no way to say it
}

// System returns the environment of this process.
func System() *Env {
	stdout := int(os.Stdout.Fd())
	stderr := int(os.Stderr.Fd())
	return &Env{
		Args0:            os.Args[0],
		Stdin:            os.Stdin,
		Stdout:           os.Stdout,
		Stderr:           os.Stderr,
		StdinIsTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		StdoutIsTerminal: term.IsTerminal(stdout),
		StderrIsTerminal: term.IsTerminal(stderr),
		Width: func() int {
			width, _, err := term.GetSize(stderr)
			if err != nil {
				return 0
			}
			return width
		},
		Getenv:     os.Getenv,
		Now:        time.Now,
		Interrupts: systemInterrupts,
		KeepAwake:  awake.Keep,
	}
}

// interruptedError is the cause of a context that a signal has cancelled.
type interruptedError struct{ signal os.Signal }

func (e *interruptedError) Error() string { return "stopped by a signal: " + e.signal.String() }

// Is makes the cause count as a cancelled context wherever one is looked for.
func (e *interruptedError) Is(target error) bool { return target == context.Canceled }

// atOnce is how long signals count as one: timeout(1) sends its own twice, to the
// process and to the group that it is in. A later one ends the process on the spot.
const atOnce = 500 * time.Millisecond

// endings are the signals by which somebody wants the run to end.
func endings() []os.Signal {
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup(1) means it
		wanted = append(wanted, syscall.SIGHUP)
	}
	return wanted
}

func systemInterrupts(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, endings()...)

	// A reader that has gone away is an error of the write, not the end of the
	// process: a transfer does not stop because nobody looks any more. Signals
	// that are caught, unlike ignored ones, are not inherited by children.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)

	go func() {
		select {
		case s := <-caught:
			cancel(&interruptedError{s})
			time.AfterFunc(atOnce, func() { signal.Stop(caught) })
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(caught)
		signal.Stop(broken)
		cancel(context.Canceled)
	}
}
