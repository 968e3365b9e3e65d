package btrsenddb

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// LockedError says that another run uses a database.
type LockedError struct {
	Path   string // of the database
	Holder string // who it is, as far as can be told
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("btrsend's database %s is in use by %s", e.Path, e.Holder)
}

// maxHolder is how much is kept of the words for a run.
const maxHolder = 200

// Lock takes the database for a run that people know by the given words, or fails
// at once with *LockedError. The lock dies with the process. It lies in a file
// beside the database, PATH.lock, which stays; btrsend itself does not look at it.
func (d *DB) Lock(who string) (unlock func() error, err error) {
	name := d.path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking btrsend's database %s: %w", d.path, err)
	}
	if err := d.lock(f, who); err != nil {
		f.Close()
		return nil, err
	}
	return func() error {
		err := f.Truncate(0)
		return errors.Join(err, f.Close())
	}, nil
}

func (d *DB) lock(f *os.File, who string) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", f.Name())
	}
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return &LockedError{Path: d.path, Holder: holder(f)}
	case err != nil:
		return fmt.Errorf("locking btrsend's database %s: %w", d.path, err)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("locking btrsend's database %s: %w", d.path, err)
	}
	if _, err := f.WriteAt([]byte(oneLine(who)+"\n"), 0); err != nil {
		return fmt.Errorf("locking btrsend's database %s: %w", d.path, err)
	}
	return nil
}

// holder reads who has the lock.
func holder(f *os.File) string {
	words, err := io.ReadAll(io.NewSectionReader(f, 0, maxHolder))
	if text := oneLine(string(words)); err == nil && text != "" {
		return text
	}
	return "another run"
}

// oneLine is a text as it can be shown: what others have written is not trusted.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s[:min(len(s), maxHolder)])
	return strings.TrimSpace(strings.ToValidUTF8(s, "?"))
}
