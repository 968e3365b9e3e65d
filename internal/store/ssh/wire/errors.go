package wire

import (
	"errors"
	"fmt"
	"time"
)

// What callers branch on.
var (
	// ErrEnded is what the client gets that writes to a call which the server has
	// ended. The answer is there to be received.
	ErrEnded = errors.New("the call has been ended by the other side")
	// ErrCancelled is what either side gets from a call that was given up.
	ErrCancelled = errors.New("the call has been cancelled")
	// ErrClosed is why a connection ended that this side closed.
	ErrClosed = errors.New("the connection is closed")
	// ErrHungUp is why a connection ended that the other side closed, or whose input
	// ended between two frames.
	ErrHungUp = errors.New("the other side has hung up")
)

// errSaid is what writing gets after the end that this side has queued.
var errSaid = errors.New("this side has already ended the call")

// ProtocolError is why a connection ended on which the other side did something
// that the protocol does not allow.
type ProtocolError struct{ What string }

func (e *ProtocolError) Error() string {
	return "the other side does not keep to the protocol: " + e.What
}

func offence(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// SilenceError is why a connection ended on which nothing was heard any more.
type SilenceError struct{ For time.Duration }

func (e *SilenceError) Error() string {
	return fmt.Sprintf("nothing has been heard from the other side for %s", e.For.Round(time.Second/10))
}

// lostError is what calls answer after the end of their connection.
type lostError struct{ why error }

func lostBy(why error) error { return &lostError{why} }

func (e *lostError) Error() string { return "the connection has ended: " + e.why.Error() }

func (e *lostError) Unwrap() error { return e.why }
