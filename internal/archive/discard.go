package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	// doomedFor is how long nobody else touches what is being deleted for good. Who
	// deletes has to come to its end long before that.
	doomedFor = 24 * time.Hour
	doomHeld  = time.Hour
)

// cleared is what is known of an object with a tombstone since a listing that
// began when the tombstone was there: who needs it; empty if nobody.
type cleared struct {
	stone mark
	by    string
}

// allBuried returns what has been removed by tombstones.
func (s *Store) allBuried(ctx context.Context) ([]store.Trashed, error) {
	x := newScanner(s.o.Prefix)
	if err := s.scanInside(ctx, x); err != nil {
		return nil, err
	}
	x.settle()
	s.mu.Lock()
	s.stones = x.tombsByKey()
	s.mu.Unlock()
	var all []store.Trashed
	for _, b := range x.buried {
		if b.has(flagOutside) {
			continue
		}
		o := x.object(&b.entry)
		all = append(all, store.Trashed{
			Stored: snapshot.Stored{Edge: o.Edge, Size: snapshot.ExactSize(o.Size)},
			Path:   o.Path, When: b.when, Handle: o.Key, Class: o.Class, Since: o.Modified,
		})
	}
	return all, nil
}

// object returns all that is known of an entry whose path has the number of the
// scanner.
func (x *scanner) object(e *entry) *stored {
	return (&catalogue{prefix: x.prefix, paths: x.paths}).object(e)
}

// inPlace reports whether a handle is the key of a stream of ours, which can have
// a tombstone beside it.
func (s *Store) inPlace(handle string) (named, bool) {
	n := parseKey(s.o.Prefix, handle)
	return n, n.kind == isObject
}

// untrashBuried puts a stream back that has a tombstone.
func (s *Store) untrashBuried(ctx context.Context, key string, n named) error {
	if _, err := s.marked(ctx); err != nil {
		return err
	}
	err := s.exhume(ctx, key, n)
	if errors.Is(err, errNotBuried) || errors.Is(err, ErrNoObject) {
		return s.notInTrash(key)
	}
	if err != nil {
		return err
	}
	return s.discardSizes(ctx, n.path)
}

func (s *Store) notInTrash(key string) error {
	return fmt.Errorf("%s is not in the trash of %s: %w", printable(key), s, store.ErrNotFound)
}

// doomed reports whether an object had a mark of being deleted for good, which was
// so old that it has been taken away. One that is not is a *beingDeletedError.
func (s *Store) doomed(ctx context.Context, key string) (bool, error) {
	o, err := s.bucket.Stat(ctx, doomKey(key))
	switch {
	case errors.Is(err, ErrNoObject):
		return false, nil
	case err != nil:
		return false, err
	case s.now().Sub(o.Modified) < doomedFor:
		return false, &beingDeletedError{key, o.Modified.Add(doomedFor)}
	}
	return true, s.bucket.Delete(ctx, doomKey(key))
}

// discardBuried removes a stream for good that has a tombstone.
//
// Nobody may have come to need it. Who needs it has been complete before the
// tombstone was there, and so is seen by a listing that began then; or looks for
// tombstones afterwards, and goes; who dies in between has not stored anything. Who
// puts it back takes the tombstone away and looks for the mark then (see unbury).
func (s *Store) discardBuried(ctx context.Context, key string, n named) error {
	if _, err := s.marked(ctx); err != nil {
		return err
	}
	stone, err := s.bucket.Stat(ctx, tombKey(key))
	if errors.Is(err, ErrNoObject) {
		if _, err := s.doomed(ctx, key); err != nil {
			return s.discarding(key, err)
		}
		return s.notInTrash(key)
	}
	if err == nil {
		err = s.expendable(ctx, key, markOf(stone))
	}
	if err != nil {
		return s.discarding(key, err)
	}
	if _, err := s.doomed(ctx, key); err != nil {
		return s.discarding(key, err)
	}
	// By the clock on the wall: the other one does not stop when the machine sleeps.
	began := s.now().Round(0)
	err = s.bucket.Put(ctx, doomKey(key), s.stone(Object{}), true)
	if errors.Is(err, ErrTaken) {
		err = &beingDeletedError{key, began.Add(doomedFor)}
	}
	if err != nil {
		return s.discarding(key, err)
	}
	after, cancel := detached(ctx)
	defer cancel()
	if err := s.destroy(after, key, markOf(stone), began); err != nil {
		return s.discarding(key, err)
	}
	return s.tidyGrave(after, key, n)
}

func (s *Store) discarding(key string, err error) error {
	return fmt.Errorf("removing %s for good: %w", printable(key), err)
}

// destroy deletes an object that has been marked, if its tombstone is still the
// one that was looked at.
func (s *Store) destroy(ctx context.Context, key string, was mark, began time.Time) error {
	err := s.condemned(ctx, key, was)
	if err == nil && s.now().Round(0).Sub(began) > doomHeld {
		err = store.MarkTemporary(errors.New("it has taken too long"))
	}
	if err != nil {
		return errors.Join(err, s.bucket.Delete(ctx, doomKey(key)))
	}
	// The manifest goes first: one without a stream is what a stream leaves that was
	// lost, and nobody takes it away.
	for i, k := range []string{manifestKey(key), key, tombKey(key), doomKey(key)} {
		if err := s.bucket.Delete(ctx, k); err != nil {
			if i < 2 && denied(err) {
				err = errors.Join(err, s.bucket.Delete(ctx, doomKey(key)))
			}
			return err // else it may be gone, or be going
		}
	}
	return nil
}

// condemned makes sure that it is still this object that is to go.
func (s *Store) condemned(ctx context.Context, key string, was mark) error {
	there, err := s.bucket.Stat(ctx, tombKey(key))
	if err == nil && markOf(there) != was {
		err = ErrNoObject
	}
	var text []byte
	if err == nil {
		text, err = s.small(ctx, tombKey(key), maxTomb)
	}
	switch {
	case errors.Is(err, ErrNoObject):
		return fmt.Errorf("it has been put back meanwhile: %w", store.ErrNotFound)
	case errors.Is(err, store.ErrCold):
		return nil
	case err != nil:
		return err
	}
	t, err := parseTombstone(text)
	if err != nil {
		return fmt.Errorf("put it back, and remove it again: %w", err)
	}
	o, err := s.bucket.Stat(ctx, key)
	if err == nil && o.Size != t.Size {
		return fmt.Errorf("another one was removed, of %d bytes, and this one has %d: put it back, and remove it again", t.Size, o.Size)
	}
	if errors.Is(err, ErrNoObject) {
		return nil // an earlier run has come to an end too soon
	}
	return err
}

// tidyGrave removes what belonged to a stream that has been deleted.
func (s *Store) tidyGrave(ctx context.Context, key string, n named) error {
	s.forgetNote(noteThaw + key)
	folder := below(s.o.Prefix, snapshot.EscapePath(n.path)+"/")
	for o, err := range s.bucket.List(ctx, folder) {
		if err != nil {
			return fmt.Errorf("listing %s: %w", s, err)
		}
		if m := parseKey(s.o.Prefix, o.Key); m.kind == isObject && m.path == n.path {
			return nil // there is another one
		}
	}
	// Where nothing can be copied, the notes have stayed in their place.
	sizes := sizesKey(s.o.Prefix, n.path)
	if o, err := s.bucket.Stat(ctx, sizes); err == nil && o.Fixed {
		if err := s.bucket.Delete(ctx, sizes); err != nil {
			return s.discarding(sizes, err)
		}
	}
	return s.discardSizes(ctx, n.path)
}

// expendable makes sure that no snapshot needs an object with a tombstone.
func (s *Store) expendable(ctx context.Context, key string, stone mark) error {
	s.mu.Lock()
	c, ok := s.cleared[key]
	s.mu.Unlock()
	if !ok || c.stone != stone {
		var err error
		if c, err = s.clear(ctx, key, stone); err != nil {
			return err
		}
	}
	if c.by != "" {
		return fmt.Errorf("%w: put it back", &neededError{c.by})
	}
	return nil
}

// clear lists the bucket, and learns of all objects of which the tombstones were
// known before whether somebody needs them. It costs one listing for as many as
// are removed for good then.
func (s *Store) clear(ctx context.Context, key string, stone mark) (cleared, error) {
	before := map[string]mark{}
	s.mu.Lock()
	for _, tombs := range []map[string]*tomb{s.stones, s.known.tombs} {
		for k, t := range tombs {
			before[k] = t.stone
		}
	}
	s.mu.Unlock()
	before[key] = stone
	x := newScanner(s.o.Prefix)
	if err := s.scanInside(ctx, x); err != nil {
		return cleared{}, err
	}
	if s.o.Prefix != "" {
		if err := s.scanOutside(ctx, x); err != nil {
			return cleared{}, err
		}
		for _, w := range x.warnings {
			s.log.Warn(w)
		}
	}
	x.settle()
	all := map[string]cleared{}
	for _, b := range x.buried {
		if before[b.key] == b.stone && b.stone != (mark{}) {
			all[b.key] = cleared{stone: b.stone}
		}
		b.flags |= flagTrashed
		x.entries = append(x.entries, b.entry)
	}
	c := x.catalogue()
	g := newGraph(c)
	gone := func(e *entry) bool { return e.has(flagTrashed) }
	g.missable(gone, func(e *entry, by string) {
		k := c.key(e)
		if it, ok := all[k]; ok {
			it.by = cmp.Or(it.by, by)
			all[k] = it
		}
	})
	s.mu.Lock()
	s.cleared = all
	s.mu.Unlock()
	it, ok := all[key]
	if !ok {
		return it, fmt.Errorf("it has been put back meanwhile: %w", store.ErrNotFound)
	}
	return it, nil
}
