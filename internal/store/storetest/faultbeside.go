package storetest

import (
	"context"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Origin implements store.Snapshotter.
func (f *Fault) Origin(ctx context.Context) (snapshot.ID, error) {
	s, err := inner[store.Snapshotter](f, Origin)
	if err != nil {
		return snapshot.ID{}, err
	}
	if err := f.before(ctx, Origin, snapshot.ID{}); err != nil {
		return snapshot.ID{}, err
	}
	return s.Origin(ctx)
}

// Snapshot implements store.Snapshotter.
func (f *Fault) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	s, err := inner[store.Snapshotter](f, Snapshot)
	if err != nil {
		return none, err
	}
	if err := f.before(ctx, Snapshot, snapshot.ID{}); err != nil {
		return none, err
	}
	return s.Snapshot(ctx, path)
}

// LockTaking implements store.TakeLocker.
func (f *Fault) LockTaking(ctx context.Context, who string) (func() error, error) {
	s, err := inner[store.TakeLocker](f, LockTaking)
	if err != nil {
		return nil, err
	}
	if err := f.before(ctx, LockTaking, snapshot.ID{}); err != nil {
		return nil, err
	}
	return s.LockTaking(ctx, who)
}

// ReadNote implements store.Notebook.
func (f *Fault) ReadNote(ctx context.Context, name string) ([]byte, error) {
	s, err := inner[store.Notebook](f, ReadNote)
	if err != nil {
		return nil, err
	}
	if err := f.before(ctx, ReadNote, snapshot.ID{}); err != nil {
		return nil, err
	}
	return s.ReadNote(ctx, name)
}

// WriteNote implements store.Notebook.
func (f *Fault) WriteNote(ctx context.Context, name string, data, was []byte) error {
	s, err := inner[store.Notebook](f, WriteNote)
	if err != nil {
		return err
	}
	if err := f.before(ctx, WriteNote, snapshot.ID{}); err != nil {
		return err
	}
	return s.WriteNote(ctx, name, data, was)
}

// Reclaim implements store.Reclaimer.
func (f *Fault) Reclaim(ctx context.Context) error {
	s, err := inner[store.Reclaimer](f, Reclaim)
	if err != nil {
		return err
	}
	if err := f.before(ctx, Reclaim, snapshot.ID{}); err != nil {
		return err
	}
	return s.Reclaim(ctx)
}

// RemoveLeftover implements store.Leftovers.
func (f *Fault) RemoveLeftover(ctx context.Context, path string) error {
	s, err := inner[store.Leftovers](f, RemoveLeftover)
	if err != nil {
		return err
	}
	if err := f.before(ctx, RemoveLeftover, snapshot.ID{}); err != nil {
		return err
	}
	return s.RemoveLeftover(ctx, path)
}
