package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/buttersink/buttersink/internal/store"
)

// healings is how many times what is needed is put back before that is given up.
const healings = 20

// heal puts back from the trash what snapshots need that are there now and have
// no chain, and notes that as the fate of what was to be removed. What is put back
// is like something new: others may have removed meanwhile what it needs in turn,
// so it looks again until nothing is lacking.
func (s *Store) heal(ctx context.Context, fates map[spot]error) error {
	ours := map[string]*stored{}
	for range healings {
		again, err := s.healOnce(ctx, fates, ours)
		if !again || err != nil {
			return err
		}
	}
	return errors.New("other machines keep removing what is put back")
}

// healOnce looks once, and tells whether it has changed anything. Ours are the
// objects that it has put back.
func (s *Store) healOnce(ctx context.Context, fates map[spot]error, ours map[string]*stored) (again bool, err error) {
	began := s.began()
	x, c, err := s.scan(ctx)
	if err != nil {
		return false, err
	}
	s.learn(c, began)
	g := newGraph(c)
	if !slices.Contains(g.rooted(nil), false) {
		return false, nil
	}
	for o, err := range s.inTrash(ctx, "") {
		if err != nil {
			return false, err
		}
		if !o.Cold {
			e := x.entry(o.Object, named{path: o.Path, edge: o.Edge, form: o.Form}, false)
			e.flags |= flagTrashed
			x.entries = append(x.entries, e)
		}
	}
	for _, b := range x.buried {
		// What is being deleted for good cannot be had back.
		if !b.has(flagOutside) && !b.doomed(s.now()) {
			b.flags |= flagTrashed
			x.entries = append(x.entries, b.entry)
		}
	}
	g = newGraph(x.catalogue())
	gone := func(e *entry) bool { return e.has(flagTrashed) }
	done := map[string]error{}
	var failed error
	// What comes later in a chain is put back after what it starts from, or not at
	// all: it would have no chain.
	g.missed(gone, func(n int) bool { return g.inside(n, gone) }, func(e *entry, by string) bool {
		o := g.c.object(e)
		if err, was := done[o.Key]; was {
			return err == nil
		}
		at := spot{o.Edge.To, o.Path}
		fates[at] = &neededError{by}
		err := s.returned(ctx, o)
		done[o.Key], again = err, true
		switch {
		case err == nil:
			if key, ok := trashed(o.Key); ok {
				o.Key = key
			}
			ours[o.Key] = o
			s.log.Warn("put back from the trash, since another snapshot needs it", "snapshot", o.Path, "needed by", by)
		case errors.Is(err, store.ErrNotFound) || errors.Is(err, ErrNoObject):
			delete(fates, at) // another machine has removed it for good: so look again
		default:
			err = fmt.Errorf("%s needs what was removed, and is lost until it is put back from the trash: %w", printable(by), err)
			fates[at], failed = err, errors.Join(failed, err)
		}
		return err == nil
	})
	if again || failed != nil {
		return again, failed
	}
	return s.withdraw(ctx, x, ours, fates)
}

// withdraw takes away again what has been put back and has no chain: what it
// starts from has been removed for good meanwhile. It tells whether it has, or
// whether that cannot be told yet.
func (s *Store) withdraw(ctx context.Context, x *scanner, ours map[string]*stored, fates map[spot]error) (again bool, err error) {
	if len(ours) == 0 {
		return false, nil
	}
	gone := func(e *entry) bool { return e.has(flagTrashed) }
	is := newGraph(x.catalogue())
	live := is.rooted(gone)
	// Who deletes for good may yet let go.
	for _, b := range x.buried {
		if b.doomed(s.now()) {
			x.entries = append(x.entries, b.entry)
			x.entries[len(x.entries)-1].flags |= flagTrashed
		}
	}
	could := newGraph(x.catalogue())
	may := could.rooted(nil)
	for key, o := range ours {
		n, ok := is.node(o.Edge.To)
		if !ok || live[n] {
			continue
		}
		if m, ok := could.node(o.Edge.To); ok && may[m] {
			again = true
			continue
		}
		delete(ours, key)
		switch err := s.toTrash(ctx, key); {
		case err == nil:
			s.forget(o)
			delete(fates, spot{o.Edge.To, o.Path})
			again = true
		case !errors.Is(err, ErrNoObject):
			return again, fmt.Errorf("removing %s again, of which nothing can be made: %w", printable(o.Key), err)
		}
	}
	return again, nil
}

// returned puts an object of the trash back, if nobody else has done so.
func (s *Store) returned(ctx context.Context, o *stored) error {
	if !inFolder(o.Key, trashFolder) {
		err := s.exhume(ctx, o.Key, named{isObject, o.Path, o.Edge, o.Form})
		if errors.Is(err, errNotBuried) { // it is back, or it is gone
			return s.found(ctx, o.Key)
		}
		return err
	}
	key, n, err := s.original(o.Key)
	if err != nil {
		return err
	}
	err = s.putBack(ctx, o.Key, key, n)
	if _, ok := errors.AsType[*store.ExistsError](err); ok {
		return nil
	}
	return err
}
