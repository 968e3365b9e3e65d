package btrsend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// tidyTime is how long the end of a writer may take that was cancelled.
const tidyTime = time.Minute

// Create makes ready for the stream of a backup, whose path is its date. The parent
// of an increment is named as it was listed.
func (s *Store) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.create(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("storing the backup of %q in %s: %w", want.Path, s.vault, err)
	}
	return w, nil
}

func (s *Store) create(ctx context.Context, want store.Want) (*writer, error) {
	if s.o.Rows == nil {
		return nil, errNoRows
	}
	if f := s.o.Seal.Form(); !f.Gzip || f.Cipher != seal.GPG {
		return nil, errors.New("btrsend's archives are compressed by gzip and encrypted by gpg: name whose key it is for")
	}
	date, err := schedule.ParseDate(want.Path)
	if err != nil {
		return nil, err
	}
	now, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	if b := now.at(want.Path); b != nil {
		return nil, &store.ExistsError{Path: want.Path, What: "a backup of that date, archive " + b.Archive}
	}
	w := &writer{s: s, row: Row{Date: date.String()}}
	if !want.Edge.IsFull() {
		if w.parent, err = s.parent(now, want.Edge.From); err != nil {
			return nil, err
		}
		w.row.Parent = w.parent.Date
	}
	w.ctx, w.fail = context.WithCancelCause(ctx)
	description := Describe(w.row.Date, w.row.Parent)
	w.parts = newParts(w.ctx, s.vault, description, s.partSize(want.Size.Bytes), w.fail)
	if w.sealed, err = seal.NewWriter(w.ctx, w.parts, s.o.Seal, nil); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.announced = want.Edge.To
	return w, nil
}

// parent finds what an increment builds on, and that it is there now.
func (s *Store) parent(now *catalogue, id snapshot.ID) (*backup, error) {
	s.mu.Lock()
	listed := s.known.byID[id]
	s.mu.Unlock()
	b := now.byID[id]
	if b == nil && listed != nil { // by another name
		b = now.byID[listed.id]
	}
	switch {
	case b == nil && listed != nil:
		return nil, &store.ParentError{ID: id, Path: listed.path, Why: "has been removed since"}
	case b == nil:
		return nil, &store.ParentError{ID: id, Why: "is not in " + s.String()}
	case b.path != b.Date:
		return nil, &store.ParentError{ID: id, Path: b.path, Why: "is not the only backup of its date"}
	}
	return b, nil
}

// writer takes one stream to the vault. What it is given goes through
//
//	tally -> gzip -> gpg -> parts -> vault
//
// where gpg is another process, and each part is put by a goroutine of its own.
type writer struct {
	s         *Store
	ctx       context.Context //nolint:containedctx // of the one stream that this is
	fail      context.CancelCauseFunc
	row       Row
	parent    *backup // nil for a complete one
	announced snapshot.ID
	tally     stream.Tally
	named     bool // the tally has told the identity
	sealed    *seal.Writer
	parts     *parts

	finished, committed, closed bool
}

// Write takes whole commands.
func (w *writer) Write(p []byte) (int, error) {
	if w.finished || w.closed {
		return 0, w.wrap(errors.New("it is at its end"))
	}
	n, err := w.tally.Write(p)
	if err == nil && !w.named {
		err = w.identify()
	}
	if err == nil {
		n, err = w.sealed.Write(p)
	}
	if err != nil {
		w.fail(err)
		return n, w.broken()
	}
	return n, nil
}

// identify compares what the stream says of itself with what it is stored as.
func (w *writer) identify() error {
	id, ok := w.tally.Identity()
	if !ok {
		return nil
	}
	w.named = true
	w.row.Stream = snapshot.ID(id.UUID).String()
	on := snapshot.ID(id.Parent)
	switch {
	case id.HasParent && w.parent == nil:
		return fmt.Errorf("it is to be a complete backup, and the stream builds on %s", on)
	case !id.HasParent && w.parent != nil:
		return fmt.Errorf("it is to build on the backup of %s, and the stream is complete", w.parent.Date)
	case w.parent != nil && w.parent.Stream != "" && w.parent.Stream != on.String():
		return &store.ParentError{ID: on, Why: fmt.Sprintf("is what the stream builds on, and the backup of %s is that of %s", w.parent.Date, w.parent.Stream)}
	case w.parent != nil && w.parent.Stream == "":
		w.s.log.Warn(fmt.Sprintf("Which snapshot the backup of %s is of was not written down by btrsend; that the increment builds on it is taken on trust", w.parent.Date))
	}
	return nil
}

// Commit stores what is left, has the vault confirm all of it, and adds the row.
func (w *writer) Commit(ctx context.Context) error {
	if w.finished || w.closed {
		return w.wrap(errors.New("it is at its end"))
	}
	w.finished = true
	stop := context.AfterFunc(ctx, func() { w.fail(context.Cause(ctx)) })
	defer stop()
	err := w.tally.Whole()
	if err == nil {
		err = w.sealed.Close()
	}
	if err == nil {
		err = w.parts.flush()
	}
	if err != nil {
		w.fail(err)
	}
	w.parts.wait()
	if err := w.broken(); err != nil {
		return err
	}
	// From here on nobody could tell whether the vault has it, so it is too late to
	// give up.
	late, cancel := outlasting(ctx, tidyTime)
	defer cancel()
	done, err := w.parts.complete(late)
	if err != nil {
		return w.wrap(err)
	}
	w.committed = true
	w.row.Archive, w.row.Size = done.ID, done.Size
	if err := w.add(late); err != nil {
		return w.wrap(err)
	}
	w.s.committed(w.row, w.announced)
	return nil
}

// outlasting is a context that ends a time after another one has.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-late.Done():
		case <-time.After(by):
			cancel()
		}
	})
	return late, func() { stop(); cancel() }
}

// add adds the row. Where that fails, and it is sure that there is none, the archive
// goes again.
func (w *writer) add(ctx context.Context) error {
	err := w.s.o.Rows.Add(ctx, w.row)
	if err == nil {
		return nil
	}
	if there, e := w.s.o.Rows.All(ctx); e == nil {
		for _, r := range there {
			if r.Archive == w.row.Archive {
				return nil
			}
		}
		if e = w.s.vault.Delete(ctx, w.row.Archive); e == nil {
			return err
		}
	}
	return fmt.Errorf("%w; the vault has it as archive %s of %d bytes, which no row tells of: delete it there, or add the row by hand", err, w.row.Archive, w.row.Size)
}

// committed has a backup found by what it was announced as, and as it will be
// listed.
func (s *Store) committed(r Row, announced snapshot.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &backup{Row: r, path: r.Date, id: ID(r.Archive), created: dayOf(r.Date)}
	if on := s.known.at(r.Parent); on != nil && r.Parent != "" {
		b.from = on.id
	}
	c := &catalogue{all: append(s.known.all[:len(s.known.all):len(s.known.all)], b), byID: map[snapshot.ID]*backup{announced: b, b.id: b}}
	for id, b := range s.known.byID {
		c.byID[id] = b
	}
	s.known = c
}

// broken returns what has gone wrong.
func (w *writer) broken() error {
	if w.ctx.Err() == nil {
		return nil
	}
	return w.wrap(context.Cause(w.ctx))
}

func (w *writer) wrap(err error) error {
	return fmt.Errorf("storing the backup of %s in %s: %w", w.row.Date, w.s.vault, err)
}

var errAbandoned = errors.New("it has been given up")

// Close abandons what was not committed.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.fail(errAbandoned)
	if w.sealed != nil {
		w.sealed.Abort()
	}
	w.parts.wait()
	if w.committed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), tidyTime)
	defer cancel()
	if err := w.parts.abort(ctx); err != nil {
		w.s.log.Warn("an unfinished upload stays, until the vault drops it by itself", "backup", w.row.Date, "error", err)
	}
	return nil
}
