package storetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Remove implements store.Remover.
func (m *Memory) Remove(ctx context.Context, s snapshot.Snapshot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.at(s.Path, false)
	switch {
	case s.Outside:
		return fmt.Errorf("removing %s: it is not in the directory of %s", s.Path, m)
	case h == nil:
		return fmt.Errorf("removing %s: %w", s.Path, store.ErrNotFound)
	case h.ID != s.ID || h.UUID != s.UUID:
		return fmt.Errorf("removing %s: it is another snapshot by now, %s", s.Path, h.ID)
	}
	m.held = slices.DeleteFunc(m.held, func(x *held) bool { return x == h })
	delete(m.sizes, s.Path)
	m.unreclaimed++
	return nil
}

// RemovePartial implements store.Remover.
func (m *Memory) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, c := range m.checkpoints {
		if c.partial(at).Path == p.Path && !m.writing[at] {
			delete(m.checkpoints, at)
			return nil
		}
	}
	n := len(m.partials)
	m.partials = slices.DeleteFunc(m.partials, func(x snapshot.Partial) bool { return x.Path == p.Path && x.Ours })
	if len(m.partials) == n {
		return fmt.Errorf("removing %s: not ours, or not there", p.Path)
	}
	return nil
}
