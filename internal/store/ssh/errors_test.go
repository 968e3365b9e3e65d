package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// across sends an error over the wire.
func across(t testing.TB, err error) error {
	t.Helper()
	text, bad := json.Marshal(answer{Error: failureOf(err)})
	if bad != nil {
		t.Fatal(bad)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	return a.Error.err("backup")
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for _, is := range []error{
		store.ErrNotFound, store.ErrAnother, context.Canceled, context.DeadlineExceeded,
		stream.ErrChecksum, stream.ErrRestarted, stream.ErrTruncated,
		syscall.ENOSPC, syscall.EROFS, syscall.EPERM, os.ErrPermission, os.ErrNotExist,
	} {
		for _, temporary := range []bool{false, true} {
			inner := is
			if is == os.ErrPermission || is == os.ErrNotExist { //nolint:errorlint // the sentinels themselves
				inner = map[error]error{os.ErrPermission: syscall.EACCES, os.ErrNotExist: syscall.ENOENT}[is]
			}
			err := fmt.Errorf("doing a thing to /srv/x: %w", &os.PathError{Op: "open", Path: "/srv/x", Err: inner})
			if temporary {
				err = store.MarkTemporary(err)
			}
			got := across(t, err)
			if !errors.Is(got, is) || store.Temporary(got) != temporary || got.Error() != "backup: "+err.Error() {
				t.Errorf("%v (temporary: %v) arrives as %v (temporary: %v)", err, temporary, got, store.Temporary(got))
			}
			for _, other := range []error{store.ErrNotFound, context.Canceled, syscall.EIO} {
				if other != is && errors.Is(got, other) { //nolint:errorlint // the sentinels themselves
					t.Errorf("%v arrives as %v, too", err, other)
				}
			}
		}
	}
	if across(t, nil) != nil {
		t.Error("no error arrives as one")
	}
}

func TestErrorsKeepTheirFields(t *testing.T) {
	path := "/srv/a\xff%41\n/b"
	for _, c := range []struct{ sent, want error }{
		{&store.ExistsError{Path: path, What: "a cat"}, &store.ExistsError{Path: "backup:" + path, What: "a cat"}},
		{&store.ParentError{ID: snapshot.ID{1, 2}, Why: "is not there"}, &store.ParentError{ID: snapshot.ID{1, 2}, Why: "is not there"}},
		{&store.ParentError{ID: snapshot.ID{1}, Path: "/srv/p", Why: "has changed"}, &store.ParentError{ID: snapshot.ID{1}, Path: "backup:/srv/p", Why: "has changed"}},
		{&store.LockedError{Store: "btrfs /srv", Holder: "process 7"}, &store.LockedError{Store: "backup:btrfs /srv", Holder: "process 7"}},
		{&ModeError{Mode: Append, Call: "remove"}, &ModeError{Mode: Append, Call: "remove"}},
	} {
		got := across(t, errors.Join(fmt.Errorf("doing: %w", c.sent), syscall.EBUSY))
		var found error
		switch c.want.(type) {
		case *store.ExistsError:
			found, _ = errors.AsType[*store.ExistsError](got)
		case *store.ParentError:
			found, _ = errors.AsType[*store.ParentError](got)
		case *store.LockedError:
			found, _ = errors.AsType[*store.LockedError](got)
		case *ModeError:
			found, _ = errors.AsType[*ModeError](got)
		}
		if diff := cmp.Diff(c.want, found); diff != "" {
			t.Errorf("%v arrives otherwise (-want +got):\n%s", c.sent, diff)
		}
		if !errors.Is(got, syscall.EBUSY) {
			t.Errorf("%v has lost its number", got)
		}
	}
}

// TestErrorsSayTheHostOnce has the far side know its own name.
func TestErrorsSayTheHostOnce(t *testing.T) {
	got := across(t, errors.New("backup:/srv/x: in the way is a cat"))
	if got.Error() != "backup:/srv/x: in the way is a cat" {
		t.Error(got)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	long := strings.Repeat("\u00e4", 10*maxText)
	if f := failureOf(errors.New(long)); len(f.Text) > maxText+3 || strings.Contains(f.Text, "\uFFFD") {
		t.Errorf("%d bytes are sent", len(f.Text))
	}
	hostile := &failure{Text: long, Kind: kindExists, Path: path(long), What: long, Errno: 1 << 30}
	if err := hostile.err("backup"); len(err.Error()) > 2*maxText || errors.Is(err, syscall.Errno(1<<30)) {
		t.Errorf("%d bytes are taken", len(err.Error()))
	}
	if err := (&failure{}).err("backup"); err == nil || err.Error() == "backup: " {
		t.Errorf("a failure without a text is %v", err)
	}
}

// TestErrorsOfAnyKind sends what comes.
func TestErrorsOfAnyKind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &failure{
			Text: rapid.String().Draw(t, "text"), Kind: rapid.SampledFrom([]string{"", "?", kindExists, kindParent, kindLocked, kindMode, "not_found"}).Draw(t, "kind"),
			Temporary: rapid.Bool().Draw(t, "temporary"), Errno: rapid.Int().Draw(t, "errno"), Path: path(rapid.SliceOf(rapid.Byte()).Draw(t, "path")),
		}
		err := f.err("backup")
		if err == nil || err.Error() == "" || store.Temporary(err) != f.Temporary {
			t.Fatalf("%+v is %v", f, err)
		}
		if again := failureOf(err); again.Kind != f.Kind && f.Kind != "?" {
			t.Fatalf("a failure of kind %q is passed on as %q", f.Kind, again.Kind)
		}
	})
}
