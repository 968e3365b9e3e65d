package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/store"
)

// lockDir holds one small file for each locked directory, which says who holds
// the lock. It is for people only; the lock itself is on the directory.
const lockDir = "/run/lock"

// Lock takes an exclusive flock(2) on the directory itself: nothing is left
// behind, every path to the directory has the same lock, and the kernel lifts
// it when the process ends. It is given back by unlocking, not by closing alone: a
// child that has not come to its exec yet has the description, too.
func (s *Store) Lock(ctx context.Context, who string) (func() error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A handle of its own: the lock belongs to the open file description.
	dir, err := s.within(".", false)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", s.path, err)
	}
	note := s.lockNote()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", s.path, err)
		}
		return nil, &store.LockedError{Store: s.String(), Holder: holder(note)}
	}
	text := fmt.Sprintf("process %d since %s: %s\n", os.Getpid(), time.Now().Format(time.DateTime), who)
	if err := writeNote(note, text); err != nil {
		s.opt.Log.Debug("nobody will be told who holds the lock", "store", s.path, "error", err)
		return func() error { return errors.Join(unix.Flock(int(dir.Fd()), unix.LOCK_UN), dir.Close()) }, nil
	}
	return func() error {
		// The note goes before the lock does, or it could be the next holder's.
		err := os.Remove(note)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return errors.Join(err, unix.Flock(int(dir.Fd()), unix.LOCK_UN), dir.Close())
	}, nil
}

// LockTaking implements store.TakeLocker. It goes without a file, as Lock does, which
// would be in every snapshot of a subvolume that the directory lies in. Locks of an
// open file (fcntl, F_OFD_SETLK) have nothing to do with those of flock(2), but on a
// directory they are shared ones only. So each run puts up its own and then looks
// whether it is the only one; where two do so at once, both see the other, and both
// give way.
func (s *Store) LockTaking(ctx context.Context, _ string) (func() error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := s.within(".", false)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", s.path, err)
	}
	only, err := alone(dir)
	if err == nil && only { // or it would disturb who is putting up its own
		if err = unix.FcntlFlock(dir.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}); err == nil {
			only, err = alone(dir)
		}
	}
	switch {
	case err != nil:
		_ = dir.Close()
		return nil, fmt.Errorf("locking %s: %w", s.path, err)
	case !only:
		_ = dir.Close()
		return nil, &store.LockedError{Store: s.String(), Holder: "another run that makes a snapshot"}
	}
	return func() error {
		return errors.Join(unix.FcntlFlock(dir.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}), dir.Close())
	}, nil
}

// alone reports whether nobody else has put up a lock of LockTaking.
func alone(dir *os.File) (bool, error) {
	ask := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(dir.Fd(), unix.F_OFD_GETLK, &ask)
	return ask.Type == unix.F_UNLCK, err
}

func (s *Store) lockNote() string {
	sum := sha256.Sum256([]byte(s.Location()))
	return filepath.Join(lockDir, fmt.Sprintf("buttersink-%x.lock", sum[:8]))
}

// writeNote replaces the note of a holder that died. /run/lock may be writable
// for everyone, so what stands there is never followed or written through.
func writeNote(path, text string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// holder reads who holds a lock, as far as it can be told.
func holder(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "another process"
	}
	defer f.Close()
	text := make([]byte, 512)
	n, _ := f.Read(text)
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	if line == "" {
		return "another process"
	}
	return line
}
