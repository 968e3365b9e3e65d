package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// SetOrigin names the family of which Snapshot makes the next states.
func (m *Memory) SetOrigin(family string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.origin = family
}

// Origin implements store.Snapshotter.
func (m *Memory) Origin(ctx context.Context) (snapshot.ID, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.ID{}, fmt.Errorf("asking for the origin of %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.origin == "" {
		return snapshot.ID{}, store.ErrNoOrigin
	}
	return live(m.origin), nil
}

// Snapshot implements store.Snapshotter. It makes the state of the origin after
// the last one that was in this store, so the tree has changed each time.
func (m *Memory) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("making snapshot %s: %w", path, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.origin == "" {
		return none, fmt.Errorf("making snapshot %s: %w", path, store.ErrNoOrigin)
	}
	if err := m.free(path); err != nil {
		return none, err
	}
	next := m.latest[m.origin] + 1
	m.latest[m.origin] = next
	id := IDOf(m.origin, next)
	h := &held{Snapshot: snapshot.Snapshot{
		ID: id, UUID: id, Pristine: true, Parent: live(m.origin), Path: path, Generation: next, Transid: next,
	}, tree: treeOf(m.origin, next, m.bulk)}
	m.keep(h)
	return h.Snapshot, nil
}

// LockTaking implements store.TakeLocker.
func (m *Memory) LockTaking(ctx context.Context, _ string) (func() error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taking {
		return nil, &store.LockedError{Store: m.String(), Holder: "another run that makes a snapshot"}
	}
	m.taking = true
	return sync.OnceValue(func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.taking = false
		return nil
	}), nil
}

// Note returns a note; nil if there is none.
func (m *Memory) Note(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.notes[name])
}

// SetNote puts a note there, as another program does.
func (m *Memory) SetNote(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes[name] = slices.Clone(data)
}

// ReadNote implements store.Notebook.
func (m *Memory) ReadNote(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), noteName(name)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.notes[name]) == 0 {
		return nil, nil
	}
	return slices.Clone(m.notes[name]), nil
}

// WriteNote implements store.Notebook.
func (m *Memory) WriteNote(ctx context.Context, name string, data, was []byte) error {
	if err := errors.Join(ctx.Err(), noteName(name)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(data) > store.MaxNote:
		return fmt.Errorf("writing %s: %d bytes are too long", name, len(data))
	case !bytes.Equal(m.notes[name], was):
		return fmt.Errorf("writing %s: %w", name, store.ErrNoteChanged)
	}
	m.notes[name] = slices.Clone(data)
	return nil
}

func noteName(name string) error {
	if name != store.LocksNote && name != store.RetentionNote {
		return fmt.Errorf("%q is not the name of a note", name)
	}
	return nil
}

// Unreclaimed returns how many snapshots have been removed since the last
// Reclaim.
func (m *Memory) Unreclaimed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unreclaimed
}

// Reclaim implements store.Reclaimer.
func (m *Memory) Reclaim(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("reclaiming the space of %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unreclaimed = 0
	return nil
}

const leftover = "a writable subvolume without a received UUID (in use, or left by an interrupted btrfs receive)"

// AddLeftover adds what an interrupted receive by another program leaves at the
// path of the snapshot.
func (m *Memory) AddLeftover(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.partials = append(m.partials, snapshot.Partial{Path: path, Why: leftover})
	m.occupied[path] = leftover
}

// RemoveLeftover implements store.Leftovers.
func (m *Memory) RemoveLeftover(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.partials, func(p snapshot.Partial) bool { return p.Path == path && p.Why == leftover })
	what := m.taken()[path]
	switch {
	case what == "":
		return fmt.Errorf("removing %s: %w", path, store.ErrNotFound)
	case at < 0:
		return fmt.Errorf("removing %s: it is %s", path, what)
	}
	m.partials = slices.Delete(m.partials, at, at+1)
	delete(m.occupied, path)
	m.unreclaimed++
	return nil
}
