package ssh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// What one request asks for at most. A server refuses more than 1000 paths, 1000
// clone sources or 5000 sizes.
const (
	mostPaths     = 500
	mostPathBytes = 64 << 10
	mostSizes     = 2000
	mostWho       = 300 // bytes
)

// tries is how often what changes nothing is asked for when the connection is lost
// meanwhile.
const tries = 3

// What the server answers to a call says itself what was to be done.

// again calls do on the connection, and once more on a new one where it has been
// lost: do has to change nothing.
func (s *Store) again(ctx context.Context, do func(n *session) error) error {
	for try := 1; ; try++ {
		n, err := s.current(ctx)
		if err == nil {
			if err = do(n); err == nil || !n.over() {
				return err
			}
		}
		if try == tries || !store.Temporary(err) || ctx.Err() != nil {
			return err
		}
		s.log.Info("trying again", "store", s.name, "error", err)
		select {
		case <-time.After(s.opt.waits.between << (try - 1)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// learn makes a call that changes nothing and has one answer.
func (s *Store) learn(ctx context.Context, r request) (a answer, err error) {
	err = s.again(ctx, func(n *session) (err error) {
		a, err = n.ask(ctx, r)
		return err
	})
	return a, err
}

// change makes a call that changes something and has one answer.
func (s *Store) change(ctx context.Context, r request) error {
	n, err := s.current(ctx)
	if err != nil {
		return err
	}
	_, err = n.change(ctx, r)
	return err
}

// List returns what the server lists.
func (s *Store) List(ctx context.Context) (*snapshot.Inventory, error) {
	var inv *snapshot.Inventory
	err := s.again(ctx, func(n *session) (err error) {
		inv, err = n.list(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = true
	clear(s.chosen)
	return inv, nil
}

// Choose makes a copy of a snapshot the one that is meant by its ID.
func (s *Store) Choose(id snapshot.ID, p string) error {
	if _, err := s.learn(context.Background(), request{Call: callChoose, ID: id, Path: path(p)}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chosen[id] = p
	return nil
}

// Inspect asks the server what is in the way of snapshots at the paths.
func (s *Store) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	ways := map[string]string{}
	var failed []error
	for part := range inParts(paths) {
		asked := make(map[path]bool, len(part))
		for _, p := range part {
			asked[p] = true
		}
		a, err := s.learn(ctx, request{Call: callInspect, Paths: part})
		for p, what := range a.Ways {
			if asked[p] {
				ways[string(p)] = what
			}
		}
		if err != nil {
			failed = append(failed, err)
			if ctx.Err() != nil || store.Temporary(err) {
				break
			}
		}
	}
	return ways, errors.Join(failed...)
}

// inParts cuts paths into as many as one request asks for: one part at least, if
// it has none.
func inParts(paths []string) func(yield func([]path) bool) {
	return func(yield func([]path) bool) {
		for {
			var part []path
			for bytes := 0; len(part) < min(len(paths), mostPaths) && (bytes == 0 || bytes+len(paths[len(part)]) <= mostPathBytes); {
				bytes += len(paths[len(part)]) + 1
				part = append(part, path(paths[len(part)]))
			}
			paths = paths[len(part):]
			if !yield(part) || len(paths) == 0 {
				return
			}
		}
	}
}

// Remove has a snapshot deleted.
func (s *Store) Remove(ctx context.Context, x snapshot.Snapshot) error {
	named := listedOf(x)
	return s.change(ctx, request{Call: callRemove, Snapshot: &named})
}

// RemovePartial has an unfinished thing deleted.
func (s *Store) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	return s.change(ctx, request{Call: callRemovePartial, Partial: partialOf(p)})
}

// Copy has a snapshot of the same file system copied in.
func (s *Store) Copy(ctx context.Context, w store.Want) error {
	return s.change(ctx, request{Call: callCopy, Want: wantOf(w)})
}

// Estimate asks the server how long a stream will be, about.
func (s *Store) Estimate(ctx context.Context, r store.Request) (snapshot.Size, error) {
	return s.size(ctx, callEstimate, r)
}

// Measure asks the server how long a stream will be.
func (s *Store) Measure(ctx context.Context, r store.Request) (snapshot.Size, error) {
	return s.size(ctx, callMeasure, r)
}

func (s *Store) size(ctx context.Context, call string, r store.Request) (snapshot.Size, error) {
	a, err := s.learn(ctx, request{Call: call, Edge: edgeOf(r.Edge), Clones: r.Clones})
	if err != nil {
		return snapshot.Size{}, err
	}
	if a.Size != nil && a.Size.Bytes < 0 {
		return snapshot.Size{}, fmt.Errorf("%s: measuring %s: a stream cannot have %d bytes", s.host, r.Edge.To, a.Size.Bytes)
	}
	return a.Size.size(), nil
}

// Prove has the server look closer at a snapshot.
func (s *Store) Prove(ctx context.Context, x snapshot.Snapshot) (snapshot.Trust, error) {
	named := listedOf(x)
	a, err := s.learn(ctx, request{Call: callProve, Snapshot: &named})
	if err != nil {
		return snapshot.Doubtful, err
	}
	trust := snapshot.Trust(a.Trust)
	if trust != snapshot.Intact && trust != snapshot.Touched {
		return snapshot.Doubtful, fmt.Errorf("looking closer at %s: %s answers trust %d, which says nothing", x.Path, s.host, a.Trust)
	}
	return trust, nil
}

// KnownSizes asks for what is noted about streams.
func (s *Store) KnownSizes(ctx context.Context, paths ...string) (map[snapshot.Edge]int64, error) {
	known := map[snapshot.Edge]int64{}
	for part := range inParts(paths) {
		err := s.again(ctx, func(n *session) error {
			sizes, err := n.sizes(ctx, part)
			for e, bytes := range sizes {
				known[e] = bytes
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return known, nil
}

// KeepSizes has lengths of streams noted.
func (s *Store) KeepSizes(ctx context.Context, p string, sizes map[snapshot.Edge]int64) error {
	if s.opt.Mode == Read { // which would be a refusal for each snapshot that is measured
		return fmt.Errorf("noting sizes of %s: %w", p, &ModeError{Mode: Read, Call: callKeepSizes})
	}
	r := request{Call: callKeepSizes, Path: path(p)}
	send := func() error {
		err := s.change(ctx, r)
		r.Sizes = r.Sizes[:0]
		return err
	}
	for e, bytes := range sizes {
		if r.Sizes = append(r.Sizes, noted{Edge: edgeOf(e), Bytes: bytes}); len(r.Sizes) == mostSizes {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if len(r.Sizes) > 0 || len(sizes) == 0 {
		return send()
	}
	return nil
}
