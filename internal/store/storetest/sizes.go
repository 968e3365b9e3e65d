package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// KnownSizes implements store.SizeKeeper.
func (m *Memory) KnownSizes(ctx context.Context, paths ...string) (map[snapshot.Edge]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("reading the sizes of %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[snapshot.Edge]int64{}
	for path, sizes := range m.sizes {
		if m.at(path, false) != nil && (len(paths) == 0 || slices.Contains(paths, path)) {
			maps.Copy(all, sizes)
		}
	}
	return all, nil
}

// KeepSizes implements store.SizeKeeper.
func (m *Memory) KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("keeping sizes for %s: %w", path, err)
	}
	if err := m.inside(path); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sizes[path] == nil {
		m.sizes[path] = map[snapshot.Edge]int64{}
	}
	maps.Copy(m.sizes[path], sizes)
	return nil
}
