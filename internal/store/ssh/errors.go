package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// The kinds of a failure. What has another kind, or none, is known by its text
// only.
const (
	kindExists = "exists" // Path, What
	kindParent = "parent" // ID, Path, What
	kindLocked = "locked" // Store, Holder
	kindMode   = "mode"   // Mode, What: the call
)

// kinds are the failures that an error of one value stands for.
var kinds = []struct {
	kind string
	is   error
}{
	{"not_found", store.ErrNotFound},
	{"another", store.ErrAnother},
	{"no_directory", ErrNoDirectory},
	{"no_origin", store.ErrNoOrigin},
	{"note_changed", store.ErrNoteChanged},
	{"cancelled", context.Canceled},
	{"deadline", context.DeadlineExceeded},
	{"restarted", stream.ErrRestarted},
	{"checksum", stream.ErrChecksum},
	{"truncated", stream.ErrTruncated},
}

// maxText is how much of an error's text crosses the wire.
const maxText = 16 << 10

// ModeError says that a server was started in a mode that does not allow a call.
type ModeError struct {
	Mode Mode
	Call string
}

func (e *ModeError) Error() string {
	return fmt.Sprintf("%q is not allowed in mode %s", e.Call, e.Mode)
}

// failureOf returns an error as it crosses the wire; nil for none.
func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: strings.ToValidUTF8(err.Error(), "\uFFFD"), Temporary: store.Temporary(err)}
	if len(f.Text) > maxText {
		f.Text = strings.ToValidUTF8(f.Text[:maxText], "") + "..."
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		f.Errno = int(number)
	}
	if e, ok := errors.AsType[*store.LockedError](err); ok {
		f.Kind, f.Store, f.Holder = kindLocked, e.Store, e.Holder
	} else if e, ok := errors.AsType[*store.ExistsError](err); ok {
		f.Kind, f.Path, f.What = kindExists, path(e.Path), e.What
	} else if e, ok := errors.AsType[*store.ParentError](err); ok {
		f.Kind, f.ID, f.Path, f.What = kindParent, e.ID, path(e.Path), e.Why
	} else if e, ok := errors.AsType[*ModeError](err); ok {
		f.Kind, f.Mode, f.What = kindMode, e.Mode, e.Call
	} else {
		for _, k := range kinds {
			if errors.Is(err, k.is) {
				f.Kind = k.kind
				break
			}
		}
	}
	return f
}

// remoteError is an error of the other side: its text, and what it is.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// err returns the error that a failure stands for, so that errors.Is and
// errors.AsType find what they would have found on the other side; nil for none.
// Host is the name of the other machine, which the text begins with where it does
// not have it already; it may be empty.
func (f *failure) err(host string) error {
	if f == nil {
		return nil
	}
	text := cut(f.Text)
	if text == "" {
		text = "it fails and does not say why"
	}
	at := func(place string) string {
		if place = cut(place); host == "" || place == "" || strings.Contains(place, host) {
			return place
		}
		return host + ":" + place
	}
	if host != "" && !strings.Contains(text, host) {
		text = host + ": " + text
	}
	e := &remoteError{text: text}
	switch f.Kind {
	case kindLocked:
		e.is = append(e.is, &store.LockedError{Store: at(f.Store), Holder: cut(f.Holder)})
	case kindExists:
		e.is = append(e.is, &store.ExistsError{Path: at(string(f.Path)), What: cut(f.What)})
	case kindParent:
		e.is = append(e.is, &store.ParentError{ID: f.ID, Path: at(string(f.Path)), Why: cut(f.What)})
	case kindMode:
		e.is = append(e.is, &ModeError{Mode: f.Mode, Call: cut(f.What)})
	}
	for _, k := range kinds {
		if f.Kind == k.kind {
			e.is = append(e.is, k.is)
		}
	}
	if f.Errno > 0 && f.Errno < 4096 { // what the kernel may return
		e.is = append(e.is, syscall.Errno(f.Errno))
	}
	if f.Temporary {
		return store.MarkTemporary(e)
	}
	return e
}

// cut bounds a text of the other side.
func cut(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}

// printable returns a text of the other side in one line without control
// characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// quoteStart quotes the beginning of a text for people.
func quoteStart(text []byte) string {
	const most = 200
	if len(text) > most {
		return fmt.Sprintf("%q...", text[:most])
	}
	return fmt.Sprintf("%q", text)
}
