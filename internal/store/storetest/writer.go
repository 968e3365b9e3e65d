package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Create implements store.Sink.
func (m *Memory) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("creating %s: %w", want.Path, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.free(want.Path); err != nil {
		return nil, err
	}
	if !want.Edge.IsFull() {
		if _, err := m.parent(want.Edge.From); err != nil {
			return nil, err
		}
	}
	m.partials = slices.DeleteFunc(m.partials, func(p snapshot.Partial) bool {
		return p.Ours && p.Path == want.Path+snapshot.PartSuffix
	})
	m.writing[want.Path] = true
	m.busy++
	return m.carryOn(&writer{m: m, ctx: ctx, want: want}), nil
}

// parent returns a snapshot that an increment can start from.
func (m *Memory) parent(id snapshot.ID) (*held, error) {
	h := m.find(id)
	switch {
	case h == nil:
		return nil, &store.ParentError{ID: id, Why: "is not there"}
	case h.Trust == snapshot.Touched || h.proven == snapshot.Touched:
		return nil, &store.ParentError{ID: id, Path: h.Path, Why: "has been changed since it was received"}
	}
	return h, nil
}

// writer gathers a stream, and looks at it in Commit.
type writer struct {
	m    *Memory
	ctx  context.Context
	want store.Want

	mu    sync.Mutex
	raw   []byte
	ended bool

	from  store.Mark // of resumable
	every int64      // bytes between two checkpoints; none if zero
	last  int64      // where one was made
}

var errEnded = errors.New("the writer is closed")

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return 0, errEnded
	}
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.raw = append(w.raw, p...)
	w.check()
	return len(p), nil
}

func (w *writer) Commit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return errEnded
	}
	if err := errors.Join(ctx.Err(), w.ctx.Err()); err != nil {
		return err
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	content, s := tree{}, snapshot.Snapshot{ID: w.want.Edge.To, Path: w.want.Path, Received: true}
	if !w.want.Edge.IsFull() {
		parent, err := w.m.parent(w.want.Edge.From)
		if err != nil {
			return err
		}
		content, s.Parent = maps.Clone(parent.tree), parent.UUID
	}
	id, err := content.decode(w.raw)
	if err != nil {
		return err
	}
	found := snapshot.Edge{To: id.UUID}
	if id.HasParent {
		found.From = id.Parent
	}
	switch {
	case found != w.want.Edge || id.HasParent == w.want.Edge.IsFull():
		return fmt.Errorf("the stream makes %s from %s, not %s from %s", found.To, found.From, w.want.Edge.To, w.want.Edge.From)
	case w.want.Transid != 0 && w.want.Transid != id.Transid:
		return fmt.Errorf("the stream has transaction number %d, not %d", id.Transid, w.want.Transid)
	}
	s.Transid = id.Transid
	w.m.keep(&held{Snapshot: s, tree: content})
	if w.m.streams != nil {
		w.m.streams = append(w.m.streams, found)
	}
	delete(w.m.checkpoints, w.want.Path)
	w.end()
	return nil
}

func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		w.end()
	}
	return nil
}

// end wants both locks held.
func (w *writer) end() {
	w.ended, w.raw = true, nil
	delete(w.m.writing, w.want.Path)
	w.m.busy--
}

// Copy implements store.Copier.
func (m *Memory) Copy(ctx context.Context, want store.Want) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("copying %s: %w", want.Path, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.free(want.Path); err != nil {
		return err
	}
	h := m.find(want.Edge.To)
	if h == nil {
		return fmt.Errorf("copying %s: %w", want.Edge.To, store.ErrNotFound)
	}
	if h.Trust == snapshot.Touched || h.proven == snapshot.Touched {
		return fmt.Errorf("copying %s: it has been changed", h.Path)
	}
	m.keep(&held{Snapshot: snapshot.Snapshot{
		ID: h.ID, Transid: h.Transid, Path: want.Path, Received: true, Parent: h.UUID,
	}, tree: h.tree})
	return nil
}
