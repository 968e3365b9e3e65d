package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Stores that each break a promise about what is made and kept beside streams.
type (
	stale struct { // makes the same state again
		*Memory
		first *snapshot.Snapshot
	}
	kinless          struct{ *Memory }
	unlisted         struct{ *Memory }
	snapshotsAnyhow  struct{ *Memory }
	snapshotsOver    struct{ *Memory }
	snapshotsForEver struct{ *Memory }
	takersTogether   struct{ *Memory }
	takersForEver    struct{ *Memory }
	oneLock          struct{ *Memory }
	forgetsNotes     struct{ *Memory }
	oneNote          struct{ *Memory }
	writesOver       struct{ *Memory }
	looksThenWrites  struct{ *Memory }
	anyNote          struct{ *Memory }
	longNotes        struct{ *Memory }
	emptyNotes       struct{ *Memory }
	noteForEver      struct{ *Memory }
	reclaimsForEver  struct{ *Memory }
	reclaimsNothing  struct{ *Memory }
	removesNothing   struct{ *Memory }
	leftoverAny      struct{ *Memory }
	leftoverTwice    struct{ *Memory }
)

func (s stale) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	x, err := s.Memory.Snapshot(ctx, path)
	if err == nil && s.first.ID.IsZero() {
		*s.first = x
	} else if err == nil {
		x.ID = s.first.ID
	}
	return x, err
}

func (s kinless) Origin(ctx context.Context) (snapshot.ID, error) {
	id, err := s.Memory.Origin(ctx)
	id[0] ^= 1
	return id, err
}

func (s unlisted) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	x, err := s.Memory.Snapshot(ctx, path)
	if err == nil {
		err = s.Remove(ctx, x)
	}
	return x, err
}

func (s snapshotsAnyhow) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	if s.origin == "" {
		s.SetOrigin("some")
		defer s.SetOrigin("")
	}
	return s.Memory.Snapshot(ctx, path)
}

func (s snapshotsOver) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	if h := s.at(path, false); h != nil {
		_ = s.Remove(ctx, h.Snapshot)
	}
	return s.Memory.Snapshot(ctx, path)
}

func (s snapshotsForEver) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	return s.Memory.Snapshot(context.WithoutCancel(ctx), path)
}

func (s takersTogether) LockTaking(ctx context.Context, who string) (func() error, error) {
	return func() error { return nil }, ctx.Err()
}

func (s takersForEver) LockTaking(ctx context.Context, who string) (func() error, error) {
	_, err := s.Memory.LockTaking(ctx, who)
	return func() error { return nil }, err
}

func (s oneLock) LockTaking(ctx context.Context, who string) (func() error, error) {
	return s.Lock(ctx, who)
}

func (s forgetsNotes) WriteNote(ctx context.Context, name string, _, was []byte) error {
	return s.Memory.WriteNote(ctx, name, was, was)
}

func (s oneNote) ReadNote(ctx context.Context, name string) ([]byte, error) {
	if name == store.RetentionNote {
		name = store.LocksNote
	}
	return s.Memory.ReadNote(ctx, name)
}

func (s writesOver) WriteNote(ctx context.Context, name string, data, _ []byte) error {
	return s.Memory.WriteNote(ctx, name, data, s.Note(name))
}

func (s looksThenWrites) WriteNote(ctx context.Context, name string, data, was []byte) error {
	if err := errors.Join(ctx.Err(), noteName(name)); err != nil {
		return err
	}
	if !bytes.Equal(s.Note(name), was) {
		return store.ErrNoteChanged
	}
	time.Sleep(time.Millisecond)
	s.SetNote(name, data)
	return nil
}

func (s anyNote) ReadNote(ctx context.Context, name string) ([]byte, error) {
	if noteName(name) != nil {
		return nil, ctx.Err()
	}
	return s.Memory.ReadNote(ctx, name)
}

func (s longNotes) WriteNote(ctx context.Context, name string, data, was []byte) error {
	if len(data) > store.MaxNote {
		s.SetNote(name, data)
		return nil
	}
	return s.Memory.WriteNote(ctx, name, data, was)
}

func (s emptyNotes) ReadNote(ctx context.Context, name string) ([]byte, error) {
	data, err := s.Memory.ReadNote(ctx, name)
	if err == nil && data == nil {
		data = []byte{}
	}
	return data, err
}

func (s noteForEver) WriteNote(ctx context.Context, name string, data, was []byte) error {
	return s.Memory.WriteNote(context.WithoutCancel(ctx), name, data, was)
}

func (s reclaimsForEver) Reclaim(ctx context.Context) error {
	return s.Memory.Reclaim(context.WithoutCancel(ctx))
}

func (s reclaimsNothing) Reclaim(ctx context.Context) error {
	return errors.Join(ctx.Err(), errors.New("not now"))
}

func (s removesNothing) RemoveLeftover(ctx context.Context, path string) error {
	if _, ok := s.taken()[path]; !ok {
		return store.ErrNotFound
	}
	return ctx.Err()
}

func (s leftoverAny) RemoveLeftover(ctx context.Context, path string) error {
	if h := s.at(path, false); h != nil && ctx.Err() == nil {
		return s.Remove(ctx, h.Snapshot)
	}
	return s.Memory.RemoveLeftover(ctx, path)
}

func (s leftoverTwice) RemoveLeftover(ctx context.Context, path string) error {
	if err := s.Memory.RemoveLeftover(ctx, path); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

func TestSuiteCatchesWhatIsBadBesideStreams(t *testing.T) {
	catches(t, []brokenStore{
		{func(m *Memory) store.Store { return &stale{m, new(snapshot.Snapshot)} }, "snapshot/like a listed one"},
		{func(m *Memory) store.Store { return &kinless{m} }, "snapshot/like a listed one"},
		{func(m *Memory) store.Store { return &unlisted{m} }, "snapshot/like a listed one"},
		{func(m *Memory) store.Store { return &snapshotsAnyhow{m} }, "snapshot/of nothing"},
		{func(m *Memory) store.Store { return &snapshotsOver{m} }, "snapshot/bad paths"},
		{func(m *Memory) store.Store { return &snapshotsForEver{m} }, "snapshot/bad paths"},
		{func(m *Memory) store.Store { return &takersTogether{m} }, "snapshot/one taker at a time"},
		{func(m *Memory) store.Store { return &takersForEver{m} }, "snapshot/one taker at a time"},
		{func(m *Memory) store.Store { return &oneLock{m} }, "snapshot/one taker at a time"},
		{func(m *Memory) store.Store { return &forgetsNotes{m} }, "note/written and read"},
		{func(m *Memory) store.Store { return &oneNote{m} }, "note/written and read"},
		{func(m *Memory) store.Store { return &emptyNotes{m} }, "note/written and read"},
		{func(m *Memory) store.Store { return &writesOver{m} }, "note/changed by another"},
		{func(m *Memory) store.Store { return &looksThenWrites{m} }, "note/many at once"},
		{func(m *Memory) store.Store { return &anyNote{m} }, "note/refused"},
		{func(m *Memory) store.Store { return &longNotes{m} }, "note/refused"},
		{func(m *Memory) store.Store { return &noteForEver{m} }, "note/refused"},
		{func(m *Memory) store.Store { return &reclaimsForEver{m} }, "reclaim"},
		{func(m *Memory) store.Store { return &reclaimsNothing{m} }, "reclaim"},
		{func(m *Memory) store.Store { return &removesNothing{m} }, "leftover"},
		{func(m *Memory) store.Store { return &leftoverTwice{m} }, "leftover"},
		{func(m *Memory) store.Store { return &leftoverAny{m} }, "leftover/of what is none"},
	})
}
