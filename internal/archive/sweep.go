package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// How removing and adding go together, without locks: who removes moves to the
// trash first and lists then; who adds an increment completes its object first
// and looks then for all that its chain needs. One of the two sees what the other
// one has done. The remover puts back from the trash whatever a snapshot that is
// there needs, and the writer takes its own object away again, as a remover.

const (
	// sweepers is how many snapshots are moved to the trash at the same time.
	sweepers = 4
	// lookers is how many objects of a chain are asked for at the same time.
	lookers = 8
	// afterwards is how long may be spent on putting back what is needed when the
	// run has been told to end.
	afterwards = time.Minute
)

// spot is a snapshot at a path.
type spot struct {
	id   snapshot.ID
	path string
}

// Remove moves every stream that makes a snapshot at its path to the trash, and
// the notes about its sizes if nothing else is at that path. It does not look at
// what needs it: see Sweep.
func (s *Store) Remove(ctx context.Context, snap snapshot.Snapshot) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, err := s.marked(ctx); err != nil {
		return fmt.Errorf("removing %s: %w", printable(snap.Path), err)
	}
	if snap.Outside {
		return fmt.Errorf("removing %s: it is outside of %s", printable(snap.Path), s)
	}
	if err := s.remove(ctx, spot{snap.ID, snap.Path}); err != nil {
		return fmt.Errorf("removing %s: %w", printable(snap.Path), err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, at spot) error {
	all, others, err := s.streams(ctx, at)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("%w there any more", store.ErrNotFound)
	}
	for _, o := range all {
		if err := s.toTrash(ctx, o.Key); err != nil && !errors.Is(err, ErrNoObject) {
			return err
		}
		s.forget(o)
	}
	if others {
		return nil
	}
	// Where they are not to be copied either, they stay.
	if there, err := s.bucket.Stat(ctx, sizesKey(s.o.Prefix, at.path)); err == nil && there.Fixed {
		return nil
	}
	if err := s.toTrash(ctx, sizesKey(s.o.Prefix, at.path)); err != nil && !errors.Is(err, ErrNoObject) {
		s.log.Warn("the noted sizes of a removed snapshot cannot be moved to the trash", "snapshot", at.path, "error", err)
	}
	return nil
}

// streams returns what is there now of a snapshot at a path, and whether another
// one is there too.
func (s *Store) streams(ctx context.Context, at spot) (all []*stored, others bool, err error) {
	folder := below(s.o.Prefix, snapshot.EscapePath(at.path)+"/")
	buried, other := map[string]bool{}, map[string]bool{}
	for o, err := range s.bucket.List(ctx, folder) {
		if err != nil {
			return nil, false, err
		}
		n := parseKey(s.o.Prefix, o.Key)
		if n.kind == isTomb || n.kind == isDoom {
			key, _ := cutBeside(o.Key)
			buried[key] = true
		}
		switch {
		case n.kind != isObject || n.path != at.path:
		case n.edge.To == at.id:
			all = append(all, &stored{Object: o, Edge: n.edge, Path: n.path, Form: n.form})
		default:
			other[o.Key] = true
		}
	}
	for key := range other {
		others = others || !buried[key]
	}
	for _, o := range s.elsewhere(at, folder) {
		switch there, err := s.alive(ctx, o.Key, s.doubtful()); {
		case err != nil:
			return nil, false, err
		case there:
			all = append(all, o)
		}
	}
	return slices.DeleteFunc(all, func(o *stored) bool { return buried[o.Key] }), others, nil
}

// elsewhere returns the known objects of a snapshot at a path whose keys are
// written so that they are not in the folder of that path.
func (s *Store) elsewhere(at spot, folder string) []*stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*stored
	from, end := s.known.to(at.id)
	for i := from; i < end; i++ {
		e := &s.known.entries[i]
		if key := e.oddKey(); key != "" && !e.has(flagOutside) && s.known.paths[e.path] == at.path && !strings.HasPrefix(key, folder) && !s.known.isChanged(e) {
			all = append(all, s.known.object(e))
		}
	}
	return all
}

// Sweep removes snapshots as Remove does. One that a snapshot which stays needs,
// be it below the prefix or elsewhere in the bucket, is not touched; one that another machine has come to need meanwhile is put
// back. Either is an error of that snapshot. What an earlier sweep has been kept
// from putting back is put back too.
func (s *Store) Sweep(ctx context.Context, all []snapshot.Snapshot, removed func(snapshot.Snapshot, error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, err := s.marked(ctx); err != nil {
		return err
	}
	began := s.began()
	whole, c, err := s.scanAll(ctx)
	if err != nil {
		return err
	}
	s.learn(c, began)
	s.dropStones(ctx, c)
	going := map[spot]bool{}
	for _, snap := range all {
		if !snap.Outside {
			going[spot{snap.ID, snap.Path}] = true
		}
	}
	g := newGraph(c)
	// A snapshot here shall not come to depend on what is elsewhere, either.
	fates := newGraph(whole).refused(going)
	maps.Copy(fates, g.refused(going))
	var todo []spot
	for at := range going {
		if fates[at] == nil {
			todo = append(todo, at)
		}
	}
	slices.SortFunc(todo, func(a, b spot) int { return strings.Compare(a.path, b.path) })
	moved := s.moveAll(ctx, todo, fates)
	var healing error
	if moved > 0 || g.lacking() {
		// What has been taken away must not stay away if it is needed, though the run
		// has been told to end.
		after, cancel := detached(ctx)
		defer cancel()
		healing = s.heal(after, fates)
	}
	for _, snap := range all {
		err := fates[spot{snap.ID, snap.Path}]
		if snap.Outside {
			err = fmt.Errorf("it is outside of %s", s)
		}
		if err != nil {
			err = fmt.Errorf("removing %s: %w", printable(snap.Path), err)
		}
		if removed != nil {
			removed(snap, err)
		}
	}
	if healing != nil {
		return fmt.Errorf("looking in %s whether anything that was removed is needed: %w", s, healing)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// detached is a context that goes on for a time when ctx ends.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	d, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(afterwards, cancel)
	})
	return d, func() { stop(); cancel() }
}

// moveAll moves snapshots to the trash, notes what could not be, and returns how
// many may have been changed.
func (s *Store) moveAll(ctx context.Context, todo []spot, fates map[spot]error) (moved int) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := make(chan spot)
	for range sweepers {
		workers.Go(func() {
			for at := range next {
				err := context.Cause(ctx)
				if ctx.Err() == nil {
					err = s.remove(ctx, at)
				}
				mu.Lock()
				if !errors.Is(err, store.ErrNotFound) {
					moved++
				}
				if err != nil {
					fates[at] = err
				}
				mu.Unlock()
			}
		})
	}
	for _, at := range todo {
		next <- at
	}
	close(next)
	workers.Wait()
	return moved
}

// neededError says why a snapshot is not removed.
type neededError struct{ by string }

func (e *neededError) Error() string {
	return printable(e.by) + " needs it: it is in the only chain that leads there"
}

// refused tells which of the snapshots that are to go are needed by those that
// stay.
func (g *graph) refused(going map[spot]bool) map[spot]error {
	fates := map[spot]error{}
	goes := func(e *entry) bool {
		return !e.has(flagOutside) && going[spot{e.to, g.c.paths[e.path]}]
	}
	before, after := g.rooted(nil), g.rooted(goes)
	var via []int
	for n := range g.start {
		if !before[n] || after[n] || !g.remains(n, goes) {
			continue
		}
		if via == nil {
			via = g.cheapest(func(e *entry) int {
				if goes(e) {
					return 1
				}
				return 0
			})
		}
		g.follow(via, n, func(e *entry) {
			if goes(e) {
				fates[spot{e.to, g.c.paths[e.path]}] = &neededError{g.name(n)}
			}
		})
	}
	return fates
}

// stays is to be called when the object of an increment is complete. If what it
// starts from is not there any more, or has no chain, because another machine
// removes it, the object is taken away again, which is a *store.ParentError.
func (s *Store) stays(ctx context.Context, o *stored) error {
	if o.Edge.IsFull() {
		return nil
	}
	stands, err := s.stands(ctx, o.Edge.From)
	if err != nil {
		s.log.Warn("whether the parent of what was stored is still there cannot be told", "object", printable(o.Key), "parent", o.Edge.From, "error", err)
		return nil
	}
	if stands {
		return nil
	}
	gone := &store.ParentError{ID: o.Edge.From, Why: "has been removed from " + s.String() + " while the increment was being stored"}
	if err := s.toTrash(ctx, o.Key); err != nil && !errors.Is(err, ErrNoObject) {
		return errors.Join(gone, fmt.Errorf("removing %s, of which nothing can be made: %w", printable(o.Key), err))
	}
	s.forget(o)
	// Another machine may have added something to it that has looked before.
	fates := map[spot]error{}
	if err := s.heal(ctx, fates); err != nil {
		return errors.Join(gone, err)
	}
	if fates[spot{o.Edge.To, o.Path}] != nil {
		return nil // it stays, with all that it needs
	}
	return gone
}

// stands reports whether a snapshot has a chain in the bucket now.
func (s *Store) stands(ctx context.Context, id snapshot.ID) (bool, error) {
	if chain := s.chain(id); chain != nil {
		ok, err := s.allThere(ctx, chain)
		if ok || err != nil {
			return ok, err
		}
	}
	for range healings {
		began := s.began()
		_, c, err := s.scan(ctx)
		if err != nil {
			return false, err
		}
		s.learn(c, began)
		g := newGraph(c)
		n, ok := g.node(id)
		if !ok || !g.rooted(nil)[n] || !s.doubtful() {
			return ok && g.rooted(nil)[n], nil
		}
		// The listing may have shown an object before it was deleted for good, and not
		// its tombstone, which went after it.
		if chain := s.chain(id); chain != nil {
			if ok, err := s.allThere(ctx, chain); ok || err != nil {
				return ok, err
			}
		}
	}
	return false, nil
}

// chain returns the keys of a chain that is known to lead to a snapshot: one of
// the shortest.
func (s *Store) chain(id snapshot.ID) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	type step struct {
		key  string
		next int // the step that this one leads to, -1 for the last
		from snapshot.ID
	}
	steps := []step{{next: -1, from: id}}
	seen := map[snapshot.ID]bool{id: true}
	for i := 0; i < len(steps); i++ {
		if steps[i].from.IsZero() {
			var keys []string
			for ; i > 0; i = steps[i].next {
				keys = append(keys, steps[i].key)
			}
			return keys
		}
		for _, o := range s.known.leading(steps[i].from) {
			if from := o.Edge.From; !seen[from] {
				seen[from] = true
				steps = append(steps, step{o.Key, i, from})
			}
		}
	}
	return nil
}

// allThere reports whether there are objects with all keys, and none of them
// counts as removed.
func (s *Store) allThere(ctx context.Context, keys []string) (bool, error) {
	errs, there := make([]error, len(keys)), make([]bool, len(keys))
	doubt := s.doubtful()
	var workers sync.WaitGroup
	for w := range lookers {
		workers.Go(func() {
			for i := w; i < len(keys); i += lookers {
				there[i], errs[i] = s.alive(ctx, keys[i], doubt)
			}
		})
	}
	workers.Wait()
	if slices.Contains(there, false) {
		return false, errors.Join(errs...)
	}
	return true, nil
}
