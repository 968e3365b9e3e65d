package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
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
		if snapshot.ID(sub.UUID) != snap.UUID || identity(&sub) != snap.ID {
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
	s.removeEmpty(snap.Path)
	return nil
}

// removeEmpty removes the directories above a path as far as they are empty.
// Subvolumes stay, though rmdir(2) would remove an empty one too; so does what
// cannot be told from one.
func (s *Store) removeEmpty(p string) {
	for p, _ = dirOf(p); p != "."; p, _ = dirOf(p) {
		if !s.removeDirectory(p) {
			return
		}
	}
}

func (s *Store) removeDirectory(p string) bool {
	f, err := s.within(p, false)
	if err != nil {
		return false
	}
	subvolume, err := btrfs.IsSubvolume(f)
	if err = errors.Join(err, f.Close()); err != nil || subvolume {
		return false
	}
	parent, name := dirOf(p)
	dir, err := s.within(parent, false)
	if err != nil {
		return false
	}
	defer dir.Close()
	return unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR) == nil
}

// RemovePartial deletes a subvolume that is named ".part".
func (s *Store) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !p.Ours || !snapshot.IsPart(p.Path) {
		return fmt.Errorf("removing %s: it may belong to somebody else", p.Path)
	}
	parent, name := dirOf(p.Path)
	dir, err := s.within(parent, false)
	if err != nil {
		return fmt.Errorf("removing %s: %w", p.Path, notFound(err))
	}
	defer dir.Close()
	removed, err := replay.RemoveRemainder(dir, name)
	if err == nil && !removed {
		err = notFound(fs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", p.Path, err)
	}
	return nil
}

// remove deletes the subvolume at a path below the directory if check agrees.
func (s *Store) remove(p string, check func(btrfs.Subvolume) error) (err error) {
	parent, name := dirOf(p)
	dir, err := s.within(parent, false)
	if err != nil {
		return notFound(err)
	}
	defer dir.Close()
	sub, err := subvolumeAt(dir, name)
	if err != nil {
		return notFound(err)
	}
	if err := check(sub); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			s.removeSizes(dir, name)
		}
	}()
	return s.delete(dir, name, sub)
}

// delete deletes the subvolume that has been found under a name.
func (s *Store) delete(dir *os.File, name string, sub btrfs.Subvolume) error {
	// By number: another one may have its name by now.
	byNumber := func() error {
		err := btrfs.DeleteSubvolumeByID(dir, sub.ID)
		if errors.Is(err, errors.ErrUnsupported) {
			err = btrfs.DeleteSubvolume(dir, name)
		}
		return err
	}
	err := byNumber()
	if sub.ReadOnly && refusesReadOnly(err) {
		if s.opt.MakeWritable {
			err = madeWritable(dir, name, sub, byNumber)
		} else if errors.Is(err, unix.EROFS) {
			err = fmt.Errorf("%w; with --convert-rw (-w) it is made writable first", err)
		}
	}
	if err == nil {
		s.mu.Lock()
		s.removed = append(s.removed, sub.ID)
		s.mu.Unlock()
	}
	return err
}

// refusesReadOnly reports whether a removal may have failed because the subvolume
// is read-only.
func refusesReadOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)
}

// madeWritable carries out a removal on what has been made writable for it.
func madeWritable(dir *os.File, name string, sub btrfs.Subvolume, remove func() error) error {
	f, err := openIn(dir, name)
	if err != nil {
		return err
	}
	now, err := btrfs.Info(f)
	if err == nil && now.ID != sub.ID {
		err = fmt.Errorf("%w: another one is there now", store.ErrNotFound)
	}
	if err == nil {
		err = btrfs.SetReadOnly(f, false)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if err = remove(); err != nil {
		if back := btrfs.SetReadOnly(f, true); back != nil {
			err = errors.Join(err, fmt.Errorf("it is writable now, and cannot be made read-only again: %w", back))
		}
	}
	return errors.Join(err, f.Close())
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it has been removed since it was listed", store.ErrNotFound)
	}
	return err
}
