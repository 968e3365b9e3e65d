package ssh

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// Create makes the server ready for a stream. Its Writer is a store.Resumer.
func (s *Store) Create(ctx context.Context, w store.Want) (store.Writer, error) {
	n, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	c, unwatch, err := n.call(ctx, request{Call: callCreate, Want: wantOf(w)})
	if err != nil {
		return nil, err
	}
	out := &writer{store: s, session: n, call: c, unwatch: unwatch, ctx: ctx, want: w}
	if err := out.begin(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// writer sends a stream to the server. One goroutine may use it, and Close may
// come from another.
type writer struct {
	store   *Store
	session *session
	call    *wire.Call
	unwatch func() bool
	ctx     context.Context // of Create
	want    store.Want
	resumed store.Mark
	err     error // of the first Write or Commit that failed

	mu   sync.Mutex
	over bool // committed or closed
}

// begin hears where the stream begins, and says that it will.
func (w *writer) begin() error {
	a, err := w.session.answer(w.ctx, w.call)
	if err != nil {
		return err
	}
	if w.resumed, err = a.Mark.mark(); err != nil {
		return fmt.Errorf("%s: %w", w.session.host, err)
	}
	if w.want.Fresh && w.resumed != (store.Mark{}) {
		return fmt.Errorf("%s: it carries on with %s, and was asked to begin anew", w.session.host, w.want.Path)
	}
	text, err := json.Marshal(instruction{})
	if err != nil {
		return err
	}
	return w.ending(w.ctx, w.call.Send(w.ctx, text))
}

// Resumed returns where the server carries on.
func (w *writer) Resumed() store.Mark { return w.resumed }

// Write sends whole commands.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	n, err := w.call.Write(p)
	if err != nil {
		w.err = w.ending(w.ctx, err)
	}
	return n, w.err
}

// errWriterOver is what a writer answers that has been committed or closed.
var errWriterOver = errors.New("writing a stream: it has been committed or closed")

func (w *writer) usable() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
		return errWriterOver
	case w.err != nil:
		return w.err
	}
	return w.ctx.Err()
}

// ending returns why what is sent is not taken any more: the server says so in
// its answer.
func (w *writer) ending(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && errors.Is(err, wire.ErrEnded) {
		if _, err := w.session.answer(ctx, w.call); err != nil {
			return err
		}
		return fmt.Errorf("%s: it has ended the transfer of %s before all was sent", w.session.host, w.want.Path)
	}
	return w.session.failed(ctx, err)
}

// Commit has the snapshot published, and returns when the server has done so.
func (w *writer) Commit(ctx context.Context) error {
	if err := w.usable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.err = w.commit(ctx)
	if w.err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.over = true
		w.unwatch()
	}
	return w.err
}

func (w *writer) commit(ctx context.Context) error {
	text, err := json.Marshal(instruction{Commit: true})
	if err != nil {
		return err
	}
	if err := w.call.End(text); err != nil {
		return w.ending(ctx, err)
	}
	defer context.AfterFunc(ctx, w.call.Cancel)()
	_, err = w.session.answer(ctx, w.call)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || w.ctx.Err() != nil:
		return w.late(cmp.Or(ctx.Err(), w.ctx.Err()))
	case w.session.over():
		return w.ask(ctx, err)
	}
	return err
}

// late finds out whether a commit that was given up has been carried out all the
// same.
func (w *writer) late(why error) error {
	if err := w.session.settle(); err != nil || w.session.over() {
		return why
	}
	ctx, cancel := context.WithTimeout(context.Background(), lingering)
	defer cancel()
	if w.published(ctx, w.session) != nil {
		return why
	}
	return nil
}

// ask finds out whether a commit has been carried out whose answer was lost.
func (w *writer) ask(ctx context.Context, lost error) error {
	// Who gave up sooner would find the path taken later on, by what is meant to be
	// there.
	deadline := time.Now().Add(w.store.opt.Silence + w.store.opt.waits.lock)
	var err error
	for {
		err = w.store.again(ctx, func(n *session) error { return w.published(ctx, n) })
		if !store.Temporary(err) || ctx.Err() != nil || time.Now().After(deadline) {
			break
		}
		select {
		case <-time.After(w.store.opt.waits.between):
		case <-ctx.Done():
		}
	}
	if err != nil {
		return errors.Join(lost, err)
	}
	w.store.log.Info("the connection was lost when the snapshot had been committed", "store", w.store.name, "snapshot", w.want.Path)
	return nil
}

// published returns nil if the server has the snapshot at its path.
func (w *writer) published(ctx context.Context, n *session) error {
	inv, err := n.list(ctx)
	if err != nil {
		return err
	}
	if x, ok := inv.Find(w.want.Edge.To); ok {
		if _, ok := x.Preferring(w.want.Path); ok {
			return nil
		}
	}
	return fmt.Errorf("%s: %s has not been committed", w.session.host, w.want.Path)
}

// Close abandons what was not committed, and returns when the server has done so.
func (w *writer) Close() error {
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return nil
	}
	w.over = true
	w.mu.Unlock()
	w.unwatch()
	w.call.Cancel()
	if err := w.session.settle(); err != nil {
		return fmt.Errorf("abandoning %s: %w", w.want.Path, err)
	}
	return nil
}
