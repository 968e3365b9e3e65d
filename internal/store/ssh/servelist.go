package ssh

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// listing is what a listing has of snapshots and unfinished things, by path. A
// client names what is to be removed or looked at closer, and what is done is done
// to what stands here.
type listing struct {
	ids       map[snapshot.ID]bool
	snapshots map[string][]snapshot.Snapshot
	partials  map[string]snapshot.Partial
}

func listingOf(inv *snapshot.Inventory) *listing {
	l := &listing{ids: map[snapshot.ID]bool{}, snapshots: map[string][]snapshot.Snapshot{}, partials: map[string]snapshot.Partial{}}
	for _, x := range inv.Snapshots {
		l.ids[x.ID] = true
		for _, c := range append([]snapshot.Snapshot{x}, x.Copies...) {
			c.Copies = nil
			l.snapshots[c.Path] = append(l.snapshots[c.Path], c)
		}
	}
	for _, p := range inv.Partials {
		l.partials[p.Path] = p
	}
	return l
}

// snapshot returns what a client means.
func (l *listing) snapshot(want *listed) (snapshot.Snapshot, bool) {
	for _, x := range l.snapshots[string(want.Path)] {
		if x.ID == want.ID && x.UUID == want.UUID && !want.Outside {
			return x, true
		}
	}
	return snapshot.Snapshot{}, false
}

// find returns the snapshot that a client means, as this server has listed it.
func (s *server) find(ctx context.Context, want *listed) (snapshot.Snapshot, error) {
	if want == nil {
		return snapshot.Snapshot{}, errors.New("the request does not say which snapshot")
	}
	found, ok, err := look(ctx, s, func(l *listing) (snapshot.Snapshot, bool) { return l.snapshot(want) })
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w: %s at %s", s.st, store.ErrNotFound, want.ID, shortened(string(want.Path)))
	}
	return found, err
}

// findPartial returns the unfinished thing that a client means, as this server
// has listed it.
func (s *server) findPartial(ctx context.Context, want *partial) (snapshot.Partial, error) {
	if want == nil {
		return snapshot.Partial{}, errors.New("the request does not say which unfinished thing")
	}
	found, ok, err := look(ctx, s, func(l *listing) (snapshot.Partial, bool) {
		p, ok := l.partials[string(want.Path)]
		return p, ok
	})
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w: nothing unfinished is at %s", s.st, store.ErrNotFound, shortened(string(want.Path)))
	}
	return found, err
}

// look looks in the last listing and, where that has it not, in a new one.
func look[T any](ctx context.Context, s *server, in func(*listing) (T, bool)) (found T, ok bool, err error) {
	s.mu.Lock()
	l := s.listed
	s.mu.Unlock()
	if l != nil {
		if found, ok = in(l); ok {
			return found, true, nil
		}
	}
	if err = s.renew(ctx); err != nil {
		return found, false, err
	}
	s.mu.Lock()
	l = s.listed
	s.mu.Unlock()
	found, ok = in(l)
	return found, ok, nil
}

// relist lists the store.
func (s *server) relist(ctx context.Context) (*snapshot.Inventory, error) {
	s.listing.Lock()
	defer s.listing.Unlock()
	s.mu.Lock()
	before := maps.Clone(s.fresh)
	s.mu.Unlock()
	inv, err := s.st.List(ctx)
	if err != nil {
		return nil, err
	}
	inv = confined(inv)
	l := listingOf(inv)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = l
	// What is not in the list now has been removed, and there may be others of that
	// name, outside.
	maps.DeleteFunc(s.fresh, func(id snapshot.ID, _ bool) bool { return before[id] })
	return inv, nil
}

// renew lists the store for the server's own use: what the client has chosen stays
// chosen.
func (s *server) renew(ctx context.Context) error {
	if _, err := s.relist(ctx); err != nil {
		return err
	}
	c, ok := s.st.(store.Chooser)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.chosen {
		if ok && c.Choose(id, p) != nil {
			delete(s.chosen, id) // it is gone
		}
	}
	return nil
}

func (s *server) list(ctx context.Context, call *wire.Call, _ *request) (answer, error) {
	inv, err := s.relist(ctx)
	if err != nil {
		return answer{}, err
	}
	s.mu.Lock()
	clear(s.chosen)
	s.mu.Unlock()
	if inv.Archive {
		return answer{}, fmt.Errorf("%s is an archive, and only live stores are served", s.st)
	}
	return answer{}, writeListing(call, inv)
}

func (s *server) knownSizes(ctx context.Context, call *wire.Call, q *request) (answer, error) {
	k, err := able[store.SizeKeeper](s, q)
	if err != nil {
		return answer{}, err
	}
	paths := make([]string, len(q.Paths))
	for i, p := range q.Paths {
		paths[i] = string(p)
	}
	sizes, err := k.KnownSizes(ctx, paths...)
	if err != nil {
		return answer{}, err
	}
	maps.DeleteFunc(sizes, func(_ snapshot.Edge, n int64) bool { return n <= 0 })
	return answer{}, writeSizes(call, sizes)
}
