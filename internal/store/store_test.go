package store

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestTemporary(t *testing.T) {
	if MarkTemporary(nil) != nil {
		t.Error("no error became one")
	}
	err := fmt.Errorf("sending: %w", MarkTemporary(io.ErrUnexpectedEOF))
	if !Temporary(err) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v is not temporary, or lost its cause", err)
	}
	if Temporary(io.ErrUnexpectedEOF) || Temporary(nil) {
		t.Error("what nobody marked is temporary")
	}
}

// TestErrorsSay: an error names the thing and the cause; who adds to it need
// not say it again.
func TestErrorsSay(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&ExistsError{Path: "/b/one", What: "a directory"}, "/b/one: in the way is a directory"},
		{&ParentError{Path: "/b/one", Why: "is writable"}, "parent 00000000-0000-0000-0000-000000000000 at /b/one: is writable"},
		{&ParentError{Why: "is not here"}, "parent 00000000-0000-0000-0000-000000000000: is not here"},
		{&LockedError{Store: "btrfs /b", Holder: "process 7"}, "btrfs /b is locked by process 7"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
