package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// unfinished adds the uploads that are not complete.
func (s *Store) unfinished(ctx context.Context, inv *snapshot.Inventory) error {
	found := map[string][]Unfinished{}
	prefixes := []string{below(s.o.Prefix, "")}
	if slashed := s.slashed(); slashed != "" {
		prefixes = append(prefixes, slashed)
	}
search:
	for _, prefix := range prefixes {
		for u, err := range s.bucket.Uploads(ctx, prefix) {
			if denied(err) {
				inv.Warnings = append(inv.Warnings, fmt.Sprintf("Unfinished uploads cannot be looked for: %v", err))
				break search
			}
			if err != nil {
				return fmt.Errorf("listing unfinished uploads in %s: %w", s, err)
			}
			p := strings.TrimPrefix(u.Key, prefix)
			if found[p] == nil {
				inv.Partials = append(inv.Partials, snapshot.Partial{Path: p, Ours: true})
			}
			found[p] = append(found[p], u)
		}
	}
	for i := range inv.Partials {
		p := &inv.Partials[i]
		all := found[p.Path]
		p.Why = "an upload that was begun on " + all[0].Begun.UTC().Format("2006-01-02 15:04 MST") + " and is not complete"
		if n := len(all); n > 1 {
			p.Why = fmt.Sprintf("%d uploads that are not complete", n)
		}
	}
	s.mu.Lock()
	s.partials = found
	s.mu.Unlock()
	return nil
}

// RemovePartial aborts the uploads that the last List has shown as p.
func (s *Store) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	all := s.partials[p.Path]
	s.mu.Unlock()
	if !p.Ours || len(all) == 0 {
		return fmt.Errorf("removing the unfinished upload %s: %w", printable(p.Path), store.ErrNotFound)
	}
	for _, u := range all {
		upload, err := s.bucket.Continue(ctx, u)
		if errors.Is(err, ErrNoUpload) {
			continue // it has been completed, or somebody else was faster
		}
		if err == nil {
			err = upload.Abort(ctx)
		}
		if err != nil {
			return fmt.Errorf("removing the unfinished upload %s: %w", printable(u.Key), err)
		}
	}
	s.mu.Lock()
	delete(s.partials, p.Path)
	s.mu.Unlock()
	return nil
}
