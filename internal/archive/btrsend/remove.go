package btrsend

import (
	"context"
	"fmt"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Remove deletes the archive of a backup, and its row after that.
func (s *Store) Remove(ctx context.Context, snap snapshot.Snapshot) error {
	if err := s.remove(ctx, snap); err != nil {
		return fmt.Errorf("removing the backup of %s from %s: %w", snap.Path, s.vault, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, snap snapshot.Snapshot) error {
	if s.o.Rows == nil {
		return errNoRows
	}
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	b := now.byID[snap.ID]
	if b == nil || b.path != snap.Path {
		return store.ErrNotFound
	}
	if err := s.vault.Delete(ctx, b.Archive); err != nil {
		return err
	}
	// There is no archive any more, so it is too late to give up.
	late, cancel := outlasting(ctx, tidyTime)
	defer cancel()
	if err := s.o.Rows.Remove(late, b.Row.ID); err != nil {
		return fmt.Errorf("archive %s is deleted, and its row is not: %w", b.Archive, err)
	}
	return nil
}

// RemovePartial fails, as there are none: the vault drops unfinished uploads by
// itself.
func (s *Store) RemovePartial(_ context.Context, p snapshot.Partial) error {
	return fmt.Errorf("removing %s from %s: %w", p.Path, s.vault, store.ErrNotFound)
}
