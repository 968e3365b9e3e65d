package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// longReclaim is after what time people are told what is being waited for.
const longReclaim = time.Minute

// Reclaim implements store.Reclaimer. It waits for what this Store has removed,
// and not for what others have: nobody knows who holds that open.
func (s *Store) Reclaim(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	ids := slices.Clone(s.removed)
	s.mu.Unlock()
	s.opt.Log.Debug("waiting for the space of what was removed", "store", s.path, "removed", len(ids))
	long := time.AfterFunc(longReclaim, func() {
		s.opt.Log.Warn("the space of removed snapshots is not free yet: they are large, or a file of one is open", "store", s.path)
	})
	defer long.Stop()
	if err := s.fs.AwaitCleaned(ctx, ids); err != nil {
		return fmt.Errorf("reclaiming the space of %s: %w", s.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = slices.DeleteFunc(s.removed, func(id uint64) bool { return slices.Contains(ids, id) })
	return nil
}

// RemoveLeftover implements store.Leftovers. Of a subvolume that others lie in,
// the kernel says so.
func (s *Store) RemoveLeftover(ctx context.Context, p string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	full := filepath.Join(s.path, p)
	if !usable(p) {
		return fmt.Errorf("removing %q in %s: not a usable path for a snapshot", p, s.path)
	}
	err := s.remove(p, func(sub btrfs.Subvolume) error {
		switch {
		case sub.ReadOnly:
			return fmt.Errorf("it is %s", describe(&sub))
		case !sub.ReceivedUUID.IsZero():
			return errors.New("it has a received UUID: a snapshot that was made writable, or nearly one")
		}
		if origin, err := s.originInfo(); err == nil && origin.UUID == sub.UUID {
			return errors.New("it is the subvolume of which snapshots are made")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing what is left at %s: %w", full, err)
	}
	return nil
}

// makeDirectory makes a directory, and those above it, if they are missing. It
// makes them in the nearest one that is there, and only if that is on btrfs:
// where a disk is not mounted, nothing comes to be in its place.
func makeDirectory(path string) error {
	var missing []string
	at := path
	dir, err := os.Open(at)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		if _, err := os.Lstat(at); err == nil {
			return fmt.Errorf("making it: %s is a symbolic link that leads nowhere", at)
		}
		missing = append(missing, filepath.Base(at))
		at = filepath.Dir(at)
		dir, err = os.Open(at)
	}
	if err != nil {
		return fmt.Errorf("making it: %w", err)
	}
	if len(missing) == 0 {
		return dir.Close()
	}
	defer func() { _ = dir.Close() }()
	if _, err := btrfs.FilesystemUUID(dir); errors.Is(err, btrfs.ErrNotBtrfs) {
		return fmt.Errorf("making it: %s is %w", at, btrfs.ErrNotBtrfs)
	} else if err != nil {
		return err
	}
	for i := len(missing) - 1; i >= 0; i-- {
		name := missing[i]
		if err := unix.Mkdirat(int(dir.Fd()), name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making %s in %s: %w", name, at, err)
		}
		next, err := openIn(dir, name)
		if err != nil {
			return fmt.Errorf("making %s in %s: %w", name, at, err)
		}
		_ = dir.Close()
		dir, at = next, filepath.Join(at, name)
	}
	return nil
}
