package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// errBusy says that directories were removed again and again while an object was
// to be put there.
var errBusy = errors.New("its directory is removed by others all the time")

// errGone is said of a directory that has been removed while it was open.
var errGone = errors.New("the directory has been removed")

// fail returns the error of something that was done, in words. Sentinels of the
// contract stay what they are.
func (b *Bucket) fail(doing, key string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errBusy) || bare(err) == unix.ENOENT {
		err = b.missing(err)
	}
	name := b.String()
	if key != "" {
		name += "/" + key
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %s: %w", doing, name, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return &archive.DeniedError{Bucket: b.String(), Action: action(doing), Key: key, Err: bare(err)}
	case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EBADF):
		return fmt.Errorf("%s %s: the bucket has been closed: %w", doing, name, err)
	}
	return fmt.Errorf("%s %s: %w%s", doing, name, bare(err), hint(err))
}

// action is what a bucket is asked to allow where something is done in it.
func action(doing string) string {
	switch verb, _, _ := strings.Cut(doing, " "); verb {
	case "opening", "listing", "deleting", "writing", "reading":
		return verb
	case "looking":
		return "reading"
	}
	if doing == "copying" { // from
		return "reading"
	}
	return "writing"
}

// bare takes off what package os puts around an error number: paths that are
// relative to a handle say nothing to people.
func bare(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok && errors.Is(err, e.Err) {
		if _, ok := e.Err.(unix.Errno); ok {
			return e.Err
		}
	}
	return err
}

// hint is what to do about an error number, for people.
func hint(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return " (the disk is full: make room there and run again)"
	case errors.Is(err, unix.EDQUOT):
		return " (a quota is used up)"
	case errors.Is(err, unix.EROFS):
		return " (mount it for writing, and look into the kernel's log for why it is not)"
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return " (the disk is failing or has been unplugged: look into the kernel's log)"
	case errors.Is(err, unix.ESTALE):
		return " (the server does not know the directory any more: mount it again)"
	case errors.Is(err, unix.EXDEV):
		return " (another file system is mounted below the directory: a bucket is one file system)"
	case errors.Is(err, unix.ENOTDIR):
		return " (an object has the name that a directory has to have)"
	case errors.Is(err, unix.EFBIG):
		return " (no file can be that long on this file system)"
	}
	return ""
}

// missing says of something that is not there why it is not: it is an error of
// another kind if the whole directory is gone.
func (b *Bucket) missing(sentinel error) error {
	var at unix.Stat_t
	if err := unix.Fstat(b.fd(), &at); err != nil {
		return err
	}
	if b.linked && at.Nlink == 0 {
		return errGone
	}
	return sentinel
}

// absent reports whether an error number says that there is nothing at a path that
// could be an object.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// retried calls do again while a signal interrupts it, or a rename elsewhere
// confuses openat2(2).
func retried(do func() error) error {
	for range 1000 {
		if err := do(); err != unix.EINTR && err != unix.EAGAIN {
			return err
		}
	}
	return unix.EAGAIN
}
