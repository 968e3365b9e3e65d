package bare

import (
	"context"
	"errors"
	"fmt"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// checkOriginal makes sure that a parent that was made there is still what was sent
// from there: no listing tells, but the first command of any stream of it has the
// transaction number of its last change. One that never changed after it was made is
// the same everywhere, however its copies came about.
func (s *Store) checkOriginal(ctx context.Context, v *view, parent *subvolume, want store.Want) error {
	if parent == nil || parent.uuid != want.Edge.From || !parent.received.IsZero() || want.FromTransid == 0 {
		return nil
	}
	rel, inside := v.below(parent.path)
	if !inside {
		return nil // there is no path by which it could be asked for
	}
	doing := func(err error) error { return fmt.Errorf("looking at the parent %s: %w", s.at(rel), err) }
	p, err := s.link.start(ctx, "btrfs", "send", "--no-data", s.at(rel))
	if err != nil {
		return doing(failed(ctx, err, nil))
	}
	_ = p.Input().Close()
	id, err := stream.NewReader(p.Output()).Identity()
	if err != nil {
		_, ended := readAll(p)
		err = errors.Join(ended, err)
	}
	_ = p.Close()
	switch {
	case err != nil:
		return doing(failed(ctx, err, p))
	case id.UUID != stream.UUID(parent.uuid):
		return &store.ParentError{ID: want.Edge.From, Path: s.at(rel), Why: "is not there any more: another one is"}
	case id.Transid != parent.cgen && id.Transid != want.FromTransid:
		return &store.ParentError{ID: want.Edge.From, Path: s.at(rel), Why: "has been changed there since it was sent from there"}
	}
	return nil
}
