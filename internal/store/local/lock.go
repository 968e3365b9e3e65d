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
// it when the process ends.
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
		return dir.Close, nil
	}
	return func() error {
		// The note goes before the lock does, or it could be the next holder's.
		err := os.Remove(note)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return errors.Join(err, dir.Close())
	}, nil
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
