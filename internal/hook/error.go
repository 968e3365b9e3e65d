package hook

import (
	"fmt"
	"syscall"
	"time"
)

// Error says why a program has not done what it was run for.
type Error struct {
	// Program is its path; empty if it was not even tried, for what Err says.
	Program string
	// Status is what it ended with, or -1 if it did not end by itself.
	Status int
	// Signal ended it, without any doing of ours; 0 if none did.
	Signal syscall.Signal
	// Limit is the time that it did not keep to; 0 if it was not that.
	Limit time.Duration
	// Last is the last line that it has printed, without secrets.
	Last string
	// Err is why it could not be run, or was ended early, or cannot be ended.
	Err error
}

func (e *Error) Error() string {
	if e.Program == "" {
		return fmt.Sprintf("running a program: %v", e.Err)
	}
	text := fmt.Sprintf("running %s: ", printable(e.Program))
	switch {
	case e.Limit > 0:
		text += fmt.Sprintf("it has not ended within %v, and was ended", e.Limit)
	case e.Signal != 0:
		text += fmt.Sprintf("it was ended by a signal: %v", e.Signal)
	case e.Status > 0:
		text += fmt.Sprintf("it ended with status %d", e.Status)
	default:
		text += fmt.Sprint(e.Err)
	}
	if e.Err != nil && (e.Limit > 0 || e.Signal != 0 || e.Status > 0) {
		text += fmt.Sprintf(" (%v)", e.Err)
	}
	if e.Last != "" {
		text += ": " + e.Last
	}
	return text
}

// Unwrap returns why it could not be run, or was ended early.
func (e *Error) Unwrap() error { return e.Err }
