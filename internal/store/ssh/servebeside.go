package ssh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// What snapshots are made of stands on the server's own command line, and is
// nothing that a client could name. Of notes there are two, whose names are known.

// noOrigin adds to store.ErrNoOrigin what to do about it on this machine.
func noOrigin(err error) error {
	if errors.Is(err, store.ErrNoOrigin) {
		return fmt.Errorf("%w: the server's command line has no --of SUBVOLUME (is it a forced command?)", err)
	}
	return err
}

func (s *server) origin(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	m, err := able[store.Snapshotter](s, q)
	if err != nil {
		return answer{}, err
	}
	id, err := m.Origin(ctx)
	return answer{ID: id}, noOrigin(err)
}

func (s *server) snapshot(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	m, err := able[store.Snapshotter](s, q)
	if err != nil {
		return answer{}, err
	}
	if err := checkPath(q.Path); err != nil {
		return answer{}, err
	}
	made, err := m.Snapshot(ctx, string(q.Path))
	if err != nil {
		return answer{}, noOrigin(err)
	}
	s.mu.Lock()
	s.made[made.Path] = made.ID
	s.fresh[made.ID] = true
	s.mu.Unlock()
	s.log.Info("snapshot made", "snapshot", made.Path, "uuid", made.ID)
	told := listedOf(made)
	return answer{Snapshot: &told}, nil
}

// notebook returns the store's, if the note is one that it may have, when no other
// call has one. Leave has to be called after that.
func (s *server) notebook(ctx context.Context, q *request) (b store.Notebook, leave func(), err error) {
	b, err = able[store.Notebook](s, q)
	if err == nil && q.Name != store.LocksNote && q.Name != store.RetentionNote {
		err = fmt.Errorf("%q is no note that is kept", shortened(q.Name))
	}
	if err != nil {
		return nil, nil, err
	}
	select {
	case s.noting <- struct{}{}:
		return b, func() { <-s.noting }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func (s *server) readNote(ctx context.Context, call *wire.Call, q *request) (answer, error) {
	b, leave, err := s.notebook(ctx, q)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	note, err := b.ReadNote(ctx, q.Name)
	if err != nil || len(note) == 0 {
		return answer{}, err
	}
	if _, err := call.Write(note); err != nil {
		return answer{}, fmt.Errorf("sending: %w", err)
	}
	return answer{}, nil
}

// writeNote takes a note in. That it is still what the client has read is seen to
// here, by its digest, and by the store, between this look and the change.
func (s *server) writeNote(ctx context.Context, call *wire.Call, q *request) (answer, error) {
	b, leave, err := s.notebook(ctx, q)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	note, err := io.ReadAll(io.LimitReader(&incoming{ctx: ctx, call: call}, store.MaxNote+1))
	if err != nil {
		return answer{}, fmt.Errorf("receiving %s: %w", q.Name, err)
	}
	if len(note) > store.MaxNote {
		return answer{}, fmt.Errorf("receiving %s: it has more than %d bytes", q.Name, store.MaxNote)
	}
	was, err := b.ReadNote(ctx, q.Name)
	if err != nil {
		return answer{}, err
	}
	if !slices.Equal(noteDigest(was), q.Was) {
		return answer{}, fmt.Errorf("writing %s: %w", q.Name, store.ErrNoteChanged)
	}
	if err := b.WriteNote(ctx, q.Name, note, was); err != nil {
		return answer{}, err
	}
	s.log.Info("note written", "note", q.Name, "bytes", len(note))
	return answer{}, nil
}

// noteDigest stands for a note in a request: nothing for none.
func noteDigest(note []byte) []byte {
	if len(note) == 0 {
		return nil
	}
	sum := sha256.Sum256(note)
	return sum[:]
}

func (s *server) reclaim(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	r, err := able[store.Reclaimer](s, q)
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.Reclaim(ctx)
}

func (s *server) removeLeftover(ctx context.Context, _ *wire.Call, q *request) (answer, error) {
	l, err := able[store.Leftovers](s, q)
	if err != nil {
		return answer{}, err
	}
	if err := checkPath(q.Path); err != nil {
		return answer{}, err
	}
	if err := l.RemoveLeftover(ctx, string(q.Path)); err != nil {
		return answer{}, err
	}
	s.log.Info("removed what an interrupted receive left", "path", q.Path)
	return answer{}, nil
}
