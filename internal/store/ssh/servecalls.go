package ssh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// able returns what the store can do for a call, or that it cannot.
func able[T any](s *server, q *request) (T, error) {
	a, ok := s.st.(T)
	if !ok {
		return a, fmt.Errorf("%q: %w by %s", q.Call, errors.ErrUnsupported, s.st)
	}
	return a, nil
}

// inspect says what is in the way at paths. There is an answer for those of
// which it can be told beside the error for others.
func (s *server) inspect(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	i, err := able[store.Inspector](s, q)
	if err != nil {
		return answer{}, err
	}
	last := answer{Ways: map[path]string{}}
	var usable []string
	for _, p := range q.Paths {
		if checkPath(p) != nil {
			last.Ways[p] = snapshot.NoPlace + "it is not a usable path for a snapshot"
			continue
		}
		usable = append(usable, string(p))
	}
	ways, err := i.Inspect(ctx, usable...)
	for p, what := range ways {
		last.Ways[path(p)] = shortened(what)
	}
	return last, err
}

func (s *server) choose(_ context.Context, _ *wire.Call, q *request) (answer, error) {
	c, err := able[store.Chooser](s, q)
	if err != nil {
		return answer{}, err
	}
	if err := c.Choose(q.ID, string(q.Path)); err != nil {
		return answer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chosen[q.ID] = string(q.Path)
	return answer{}, nil
}

// permit returns an error unless all that a stream is to be made of is in the
// directory.
func (s *server) permit(ctx context.Context, q *request) error {
	return s.permitted(ctx, append([]snapshot.ID{q.Edge.To, q.Edge.From}, q.Clones...)...)
}

func (s *server) estimate(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	m, err := able[store.Measurer](s, q)
	if err != nil {
		return answer{}, err
	}
	if err := s.permit(ctx, q); err != nil {
		return answer{}, err
	}
	length, err := m.Estimate(ctx, q.wanted())
	return answer{Size: sizeOf(length)}, err
}

func (s *server) measure(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	m, err := able[store.Measurer](s, q)
	if err != nil {
		return answer{}, err
	}
	if err := s.permit(ctx, q); err != nil {
		return answer{}, err
	}
	length, err := m.Measure(ctx, q.wanted())
	return answer{Size: sizeOf(length)}, err
}

func (s *server) prove(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	p, err := able[store.Prover](s, q)
	if err != nil {
		return answer{}, err
	}
	found, err := s.find(ctx, q.Snapshot)
	if err != nil {
		return answer{}, err
	}
	trust, err := p.Prove(ctx, found)
	return answer{Trust: int(trust)}, err
}

func (s *server) copy(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	c, err := able[store.Copier](s, q)
	if err != nil {
		return answer{}, err
	}
	want, err := q.announced()
	if err != nil {
		return answer{}, err
	}
	if err := s.permitted(ctx, want.Edge.To); err != nil {
		return answer{}, err
	}
	if err := c.Copy(ctx, want); err != nil {
		return answer{}, err
	}
	s.note(want)
	s.log.Info("copied in", "snapshot", want.Path, "uuid", want.Edge.To)
	return answer{}, nil
}

func (s *server) remove(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	r, err := able[store.Remover](s, q)
	if err != nil {
		return answer{}, err
	}
	found, err := s.find(ctx, q.Snapshot)
	if err != nil {
		return answer{}, err
	}
	if err := r.Remove(ctx, found); err != nil {
		return answer{}, err
	}
	s.log.Info("removed", "snapshot", found.Path, "uuid", found.ID)
	return answer{}, nil
}

func (s *server) removePartial(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	r, err := able[store.Remover](s, q)
	if err != nil {
		return answer{}, err
	}
	found, err := s.findPartial(ctx, q.Partial)
	if err != nil {
		return answer{}, err
	}
	if !found.Ours {
		return answer{}, fmt.Errorf("removing %s: it may belong to somebody else", found.Path)
	}
	if err := r.RemovePartial(ctx, found); err != nil {
		return answer{}, err
	}
	s.log.Info("removed what was unfinished", "path", found.Path)
	return answer{}, nil
}

// keepSizes notes sizes. In Append that is for what this client has made, and
// adds to what stands there already.
func (s *server) keepSizes(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	k, err := able[store.SizeKeeper](s, q)
	if err != nil {
		return answer{}, err
	}
	if err := checkPath(q.Path); err != nil {
		return answer{}, err
	}
	sizes := map[snapshot.Edge]int64{}
	for _, n := range q.Sizes {
		if n.Bytes <= 0 {
			return answer{}, fmt.Errorf("keeping sizes of %s: %d bytes is none", q.Path, n.Bytes)
		}
		sizes[n.Edge.edge()] = n.Bytes
	}
	if !s.mode.allows(Write) {
		if sizes, err = s.only(ctx, k, string(q.Path), sizes); err != nil {
			return answer{}, err
		}
	}
	return answer{}, k.KeepSizes(ctx, string(q.Path), sizes)
}

// only returns those of some sizes that may be noted in Append.
func (s *server) only(ctx context.Context, k store.SizeKeeper, p string, sizes map[snapshot.Edge]int64) (map[snapshot.Edge]int64, error) {
	s.mu.Lock()
	id, ok := s.made[p]
	s.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("keeping sizes of %s, which has not been made in this session: %w", p, &ModeError{Mode: s.mode, Call: callKeepSizes})
	}
	noted, err := k.KnownSizes(ctx, p)
	if err != nil {
		return nil, err
	}
	for e := range sizes {
		if e.To != id {
			return nil, fmt.Errorf("keeping sizes of %s: %s is not the snapshot there", p, e.To)
		}
	}
	maps.DeleteFunc(sizes, func(e snapshot.Edge, _ int64) bool { _, is := noted[e]; return is })
	return sizes, nil
}

// lock holds the store's lock until the client gives it up, or is gone.
func (s *server) lock(ctx context.Context, call *wire.Call, q *request) (answer, error) {
	l, err := able[store.Locker](s, q)
	if err != nil {
		return answer{}, err
	}
	return s.held(ctx, call, q, l.Lock)
}

// lockTaking does so with the lock of who makes snapshots.
func (s *server) lockTaking(ctx context.Context, call *wire.Call, q *request) (answer, error) {
	l, err := able[store.TakeLocker](s, q)
	if err != nil {
		return answer{}, err
	}
	return s.held(ctx, call, q, l.LockTaking)
}

// held takes a lock, and holds it.
func (s *server) held(ctx context.Context, call *wire.Call, q *request, lock func(context.Context, string) (func() error, error)) (_ answer, err error) {
	s.mu.Lock()
	s.running[call].locks = true
	s.mu.Unlock()
	unlock, err := lock(ctx, holderName(q.Who))
	if err != nil {
		return answer{}, err
	}
	defer func() {
		s.settleAll()
		err = errors.Join(err, unlock())
	}()
	if err := tell(ctx, call, answer{}); err != nil {
		return answer{}, err
	}
	if told, err := hear(ctx, call); err == nil && !told.Commit {
		return answer{}, errors.New("the client has sent an instruction that says nothing to a lock")
	}
	return answer{}, nil // it is released whatever has ended it
}

// holderName returns what a client calls itself in one short line: it is shown
// on the terminals of others.
func holderName(who string) string {
	who = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(who, ""))
	if len(who) > maxWho {
		who = strings.ToValidUTF8(who[:maxWho], "")
	}
	return who
}

// announced returns what a client announces that it will have made.
func (q *request) announced() (store.Want, error) {
	switch w := q.Want; {
	case w == nil:
		return store.Want{}, errors.New("the request does not say what is wanted")
	case w.Edge.To.IsZero():
		return store.Want{}, fmt.Errorf("%s: the request does not say which snapshot it is", shortened(string(w.Path)))
	}
	return q.Want.want(), checkPath(q.Want.Path)
}
