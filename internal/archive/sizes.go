package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	// maxSizes is how many bytes of noted sizes are read of one snapshot.
	maxSizes = 8 << 20
	// sizeReaders is how many of them are read at the same time: most of the time
	// is spent waiting.
	sizeReaders = 16
)

// KnownSizes reads the notes of sizes beside the snapshots of the last List, at
// these paths or at all.
func (s *Store) KnownSizes(ctx context.Context, paths ...string) (map[snapshot.Edge]int64, error) {
	s.mu.Lock()
	c := s.known
	s.mu.Unlock()
	meant := make(map[string]bool, len(paths))
	for _, p := range paths {
		meant[p] = true
	}
	keys := make(chan string)
	go func() {
		defer close(keys)
		for p, key := range c.sizes {
			if len(paths) > 0 && !meant[c.paths[p]] {
				continue
			}
			if key == "" {
				key = sizesKey(c.prefix, c.paths[p])
			}
			select {
			case keys <- key:
			case <-ctx.Done():
				return
			}
		}
	}()
	all := map[snapshot.Edge]int64{}
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range sizeReaders {
		workers.Go(func() {
			for key := range keys {
				sizes, complaints, err := s.readSizes(ctx, key)
				if err != nil {
					complaints = []string{err.Error()}
				}
				mu.Lock()
				for _, why := range complaints {
					if ctx.Err() == nil {
						s.log.Warn(fmt.Sprintf("Can't read .bs info file (%s)", why), "key", key)
					}
				}
				maps.Copy(all, sizes)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return all, nil
}

// readSizes reads the notes with a key; where there are none, they are empty.
func (s *Store) readSizes(ctx context.Context, key string) (map[snapshot.Edge]int64, []string, error) {
	text, err := s.small(ctx, key, maxSizes)
	if errors.Is(err, ErrNoObject) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	sizes, complaints := store.ReadSizes(bytes.NewReader(text))
	return sizes, complaints, nil
}

// KeepSizes adds to the notes beside the snapshot at a path. An object that holds
// anything else is left alone, which is an error.
func (s *Store) KeepSizes(ctx context.Context, p string, sizes map[snapshot.Edge]int64) error {
	if err := s.checkPath(p); err != nil {
		return fmt.Errorf("keeping sizes: %w", err)
	}
	if _, err := s.marked(ctx); err != nil {
		return fmt.Errorf("keeping sizes of %s: %w", printable(p), err)
	}
	key := sizesKey(s.o.Prefix, p)
	all, complaints, err := s.readSizes(ctx, key)
	if err == nil && len(complaints) > 0 {
		err = fmt.Errorf("there is something else in %s: %s", printable(key), strings.Join(complaints, ", "))
	}
	if err != nil {
		return fmt.Errorf("keeping sizes of %s: %w", printable(p), err)
	}
	before := store.SizesText(all)
	if all == nil {
		all = map[snapshot.Edge]int64{}
	}
	maps.Copy(all, sizes)
	text := store.SizesText(all)
	if bytes.Equal(text, before) {
		return nil
	}
	if int64(len(text)) > min(s.bucket.Limits().Small, maxSizes) {
		return fmt.Errorf("keeping sizes of %s: there are too many", printable(p))
	}
	if err := s.bucket.Put(ctx, key, text, false); err != nil {
		return fmt.Errorf("keeping sizes of %s: %w", printable(p), err)
	}
	return nil
}
