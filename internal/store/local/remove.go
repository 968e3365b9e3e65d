package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Remove deletes the subvolume, and then the directories that it was in as far
// as they are empty: snapper's layout has one for each snapshot.
func (s *Store) Remove(ctx context.Context, snap snapshot.Snapshot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if snap.Outside {
		return fmt.Errorf("removing %s: it is outside of %s", snap.Path, s.path)
	}
	err := s.remove(snap.Path, func(sub btrfs.Subvolume) error {
		if snapshot.ID(sub.UUID) != snap.UUID || identity(sub) != snap.ID {
			return fmt.Errorf("%w: another one is there now", store.ErrNotFound)
		}
		if !sub.ReadOnly {
			return errors.New("it has been made writable")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing %s: %w", snap.Path, err)
	}
	s.mu.Lock()
	delete(s.known, snap.ID)
	s.mu.Unlock()
	for dir, _ := dirOf(snap.Path); dir != "."; dir, _ = dirOf(dir) {
		if s.root.Remove(dir) != nil {
			break
		}
	}
	return nil
}

// RemovePartial deletes a subvolume that is named ".part".
func (s *Store) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !p.Ours || !snapshot.IsPart(p.Path) {
		return fmt.Errorf("removing %s: it may belong to somebody else", p.Path)
	}
	if err := s.remove(p.Path, func(btrfs.Subvolume) error { return nil }); err != nil {
		return fmt.Errorf("removing %s: %w", p.Path, err)
	}
	return nil
}

// remove deletes the subvolume at a path below the directory if check agrees.
func (s *Store) remove(p string, check func(btrfs.Subvolume) error) error {
	parent, name := dirOf(p)
	dir, err := s.root.Open(parent)
	if err != nil {
		return notFound(err)
	}
	defer dir.Close()
	if err := s.onSameFilesystem(dir); err != nil {
		return err
	}
	sub, err := subvolumeAt(dir, name)
	if err != nil {
		return notFound(err)
	}
	if err := check(sub); err != nil {
		return err
	}
	return btrfs.DeleteSubvolume(dir, name)
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it has been removed since it was listed", store.ErrNotFound)
	}
	return err
}

// subvolumeAt examines the subvolume that has the given name in a directory.
func subvolumeAt(dir *os.File, name string) (btrfs.Subvolume, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return btrfs.Subvolume{}, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if ok, err := btrfs.IsSubvolume(f); err != nil || !ok {
		return btrfs.Subvolume{}, errors.Join(err, fmt.Errorf("%s is not a subvolume", name))
	}
	return btrfs.Info(f)
}

// removeRemainder deletes what a dead run has left under a ".part" name.
func (s *Store) removeRemainder(dir *os.File, part string) error {
	_, err := subvolumeAt(dir, part)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return btrfs.DeleteSubvolume(dir, part)
}
