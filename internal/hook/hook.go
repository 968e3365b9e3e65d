// Package hook runs programs of the user's.
package hook

import (
	"context"
	"log/slog"
	"time"
)

// Program is a program to be run.
type Program struct {
	// Argv is its full path and its arguments. No shell sees them.
	Argv []string
	// Env is added to the few variables that it gets, as NAME=VALUE.
	Env []string
	// Stdin is given to it.
	Stdin []byte
	// Timeout ends it, and all that it has started; 0 is Usual.
	Timeout time.Duration
	// Log gets what it prints, line by line; nil is nothing.
	Log *slog.Logger
	// Hide is replaced by stars wherever it is printed.
	Hide []string
}

// Usual is how long a program may take unless one says otherwise.
const Usual = 5 * time.Minute

// Run runs a program and waits for its end. It fails with *Error.
func Run(ctx context.Context, p Program) error { return nil }

// Check says what is wrong with a program, without running it: that it is not
// there, cannot be executed, or can be changed by others than root and the user.
func Check(argv []string) error { return nil }
