package stream

import (
	"errors"
	"fmt"
)

// What can be wrong with a stream; all are wrapped in an [*Error].
var (
	ErrNotStream  = errors.New("not a btrfs send stream")
	ErrVersion    = errors.New("unknown stream version")
	ErrChecksum   = errors.New("checksum does not match")
	ErrRestarted  = errors.New("the sender was interrupted and began the stream again in the middle")
	ErrTruncated  = errors.New("the stream ends too early")
	ErrTrailing   = errors.New("something follows the end of the stream")
	ErrMalformed  = errors.New("malformed command")
	ErrTooLong    = errors.New("too long")
	ErrUnsafePath = errors.New("unsafe path")
)

// Error is the verdict that a stream is bad, and where.
type Error struct {
	// Number is that of the bad command; the first is 1. Zero stands for the
	// stream's header. Something after END has the number after that of END.
	Number int64
	// Kind is what the command says it is, or zero where it does not say so.
	Kind Kind
	// Path is the path that the command concerns or, where that cannot be read,
	// the path of the command before it.
	Path string
	// Offset is where the command begins, in bytes from the stream's beginning.
	Offset int64
	Err    error
}

func (e *Error) Error() string {
	if e.Number == 0 {
		return fmt.Sprintf("stream header: %v", e.Err)
	}
	where := fmt.Sprintf("stream command %d", e.Number)
	if e.Kind != 0 {
		where += fmt.Sprintf(" (%s)", e.Kind)
	}
	where += fmt.Sprintf(" at byte %d", e.Offset)
	if e.Path != "" {
		where += fmt.Sprintf(", near %q", e.Path)
	}
	return fmt.Sprintf("%s: %v", where, e.Err)
}

// Unwrap returns what is wrong with the stream.
func (e *Error) Unwrap() error { return e.Err }

// ReadError says that a stream could not be read. It is no verdict on the
// stream.
type ReadError struct {
	Offset int64 // bytes of the stream read before
	Err    error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("reading stream at byte %d: %v", e.Offset, e.Err)
}

// Unwrap returns the reader's own error.
func (e *ReadError) Unwrap() error { return e.Err }
