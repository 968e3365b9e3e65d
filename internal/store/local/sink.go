package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// errAbandoned ends a receive whose writer was closed without Commit.
var errAbandoned = errors.New("the transfer was abandoned")

// Create prepares a receive, and takes up one that was interrupted. The stream is
// carried out as it is written.
func (s *Store) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if err := errors.Join(ctx.Err(), s.needsTrees("receiving into "+s.path)); err != nil {
		return nil, err
	}
	dir, name, err := s.place(want.Path)
	if err != nil {
		return nil, err
	}
	if err := s.checkParent(want); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	w := &writer{
		store: s, want: want, dir: dir, cancel: cancel, pipe: pw, ended: make(chan error, 1),
		receiver: replay.New(replay.Options{Filesystem: s.fs, Dir: dir, Name: name, Checkpoints: s.opt.Checkpoints, Log: s.opt.Log}),
	}
	in, err := w.resume(ctx, pr)
	if err != nil {
		cancel()
		return nil, errors.Join(w.refusal(err), w.receiver.Abandon(), dir.Close())
	}
	go func() {
		err := w.receive(ctx, in)
		// Whoever still writes has to hear of it.
		_ = pr.CloseWithError(err)
		w.ended <- err
	}()
	return w, nil
}

// place opens the directory in which a snapshot is to be made, making it if
// need be, and checks that the snapshot's name is free.
func (s *Store) place(p string) (*os.File, string, error) {
	if !usable(p) {
		return nil, "", fmt.Errorf("creating %q in %s: not a usable path for a snapshot", p, s.path)
	}
	parent, name := dirOf(p)
	dir, err := s.beneath(parent, true)
	if err == nil {
		if err = vacant(dir, name); err != nil {
			_ = dir.Close()
		}
	}
	full := filepath.Join(s.path, p)
	if o, ok := errors.AsType[*obstacle](err); ok {
		return nil, "", &store.ExistsError{Path: full, What: o.what}
	}
	if err != nil {
		return nil, "", fmt.Errorf("creating %s: %w", full, err)
	}
	return dir, name, nil
}

// usable reports whether a path can be that of a snapshot in a store.
func usable(p string) bool {
	return filepath.IsLocal(p) && path.Clean(p) == p && p != "." && !snapshot.IsPart(p) && !store.IsNotePlace(p)
}

// Inspect looks at paths without making anything.
func (s *Store) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	ways := map[string]string{}
	var errs []error
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		what, err := s.inspect(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("looking at %s: %w", p, err))
		}
		if what != "" {
			ways[p] = what
		}
	}
	return ways, errors.Join(errs...)
}

func (s *Store) inspect(p string) (string, error) {
	if !usable(p) {
		return snapshot.NoPlace + "it is not a usable path for a snapshot", nil
	}
	parent, name := dirOf(p)
	dir, err := s.beneath(parent, false)
	if err == nil {
		defer dir.Close()
		err = vacant(dir, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // its directory is yet to be made
	}
	if o, ok := errors.AsType[*obstacle](err); ok {
		return o.what, nil
	}
	return "", err
}

// checkParent looks for what the stream will start from before anything is
// sent. The receiver looks again, and closer, when the stream begins.
func (s *Store) checkParent(want store.Want) error {
	if want.Edge.IsFull() {
		return nil
	}
	return parentError(replay.CheckParent(s.fs, btrfs.UUID(want.Edge.From), want.FromTransid))
}

// parentError says in the words of the contract what the receiver found.
func parentError(err error) error {
	if p, ok := errors.AsType[*replay.ParentError](err); ok {
		return &store.ParentError{ID: snapshot.ID(p.UUID), Path: p.Path, Why: p.Reason.String()}
	}
	return err
}

// writer hands what it is given to a receiver that runs beside it.
type writer struct {
	store    *Store
	want     store.Want
	dir      *os.File
	receiver *replay.Receiver
	resumed  store.Mark
	cancel   context.CancelFunc
	pipe     *io.PipeWriter
	ended    chan error // what receive answers, once
	over     bool       // ended has been read
	result   error      // what it answered
	closed   bool
}

var _ store.Resumer = (*writer)(nil)

// resume returns a reader of the stream, or of the rest of it where an
// interrupted transfer can be carried on.
func (w *writer) resume(ctx context.Context, pr *io.PipeReader) (*stream.Reader, error) {
	if w.want.Fresh {
		return stream.NewReader(pr), nil // Receive deletes what is left of others
	}
	edge := w.want.Edge
	state, err := w.receiver.Resume(ctx, stream.Identity{
		UUID: stream.UUID(edge.To), Transid: w.want.Transid,
		HasParent: !edge.IsFull(), Parent: stream.UUID(edge.From), ParentTransid: w.want.FromTransid,
	})
	if err != nil || state == nil {
		return stream.NewReader(pr), err
	}
	r, err := stream.Continue(pr, state)
	if err != nil {
		return nil, err
	}
	w.resumed = store.Mark(r.Mark())
	return r, nil
}

// Resumed implements store.Resumer.
func (w *writer) Resumed() store.Mark { return w.resumed }

// refusal says in the words of the contract why nothing can be received.
func (w *writer) refusal(err error) error {
	if errors.Is(err, replay.ErrExists) {
		return &store.ExistsError{Path: filepath.Join(w.store.path, w.want.Path), What: "there since the transfer began"}
	}
	return parentError(err)
}

// receive carries out the stream that arrives through the pipe.
func (w *writer) receive(ctx context.Context, r *stream.Reader) error {
	id, err := r.Identity()
	if err != nil {
		return err
	}
	found := snapshot.Edge{To: snapshot.ID(id.UUID), From: snapshot.ID(id.Parent)}
	switch {
	case found != w.want.Edge || id.HasParent == w.want.Edge.IsFull():
		return fmt.Errorf("receiving %s: the stream makes %s from %s, not what was announced", w.want.Path, found.To, found.From)
	case w.want.Transid != 0 && id.Transid != w.want.Transid:
		return fmt.Errorf("receiving %s: the stream is of transaction %d of the snapshot, not %d", w.want.Path, id.Transid, w.want.Transid)
	}
	return w.receiver.Receive(ctx, r)
}

// wait returns the outcome of receive, as often as it is asked.
func (w *writer) wait() error {
	if !w.over {
		w.result, w.over = <-w.ended, true
	}
	return w.result
}

// Write hands p to the receiver and returns when it has taken it in.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.pipe.Write(p)
	if err != nil {
		// The pipe's error is the receiver's, if that is what ended it.
		if ended := w.wait(); ended != nil {
			err = ended
		}
		err = parentError(err)
	}
	return n, err
}

// Commit ends the stream and publishes the snapshot.
func (w *writer) Commit(ctx context.Context) error {
	if w.closed {
		return fmt.Errorf("committing %s: %w", w.want.Path, errAbandoned)
	}
	_ = w.pipe.Close()
	if err := w.wait(); err != nil {
		return parentError(err)
	}
	if _, err := w.receiver.Commit(ctx); err != nil {
		return w.refusal(err)
	}
	w.store.remember(w.dir, w.want.Path)
	return nil
}

// Close abandons what was not committed.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.cancel()
	_ = w.pipe.CloseWithError(errAbandoned)
	_ = w.wait()
	return errors.Join(w.receiver.Abandon(), w.dir.Close())
}

// remember makes a new snapshot known as if it had been listed, so that it can
// be a parent or be sent on. It is published already, so a failure costs no more
// than that.
func (s *Store) remember(dir *os.File, p string) {
	sub, err := subvolumeAt(dir, path.Base(p))
	if err != nil {
		s.opt.Log.Warn("what has just been made cannot be looked at", "snapshot", p, "error", err)
		return
	}
	snap := values(&sub)
	snap.Path = p
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[snap.ID] = &snap
}

// Copy snapshots the snapshot, and gives the copy the same identity.
func (s *Store) Copy(ctx context.Context, want store.Want) (err error) {
	if err := errors.Join(ctx.Err(), s.needsTrees("copying in "+s.path)); err != nil {
		return err
	}
	original, err := s.lookup(want.Edge.To)
	if err != nil {
		return err
	}
	source, err := s.openSnapshot(original)
	if err != nil {
		return err
	}
	defer source.Close()
	dir, name, err := s.place(want.Path)
	if err != nil {
		return err
	}
	defer dir.Close()

	part := name + snapshot.PartSuffix
	if _, err := replay.RemoveRemainder(dir, part); err != nil {
		return fmt.Errorf("copying %s: %w", original.Path, err)
	}
	if err := replay.RemoveCheckpoints(dir, name); err != nil {
		return fmt.Errorf("copying %s: %w", original.Path, err)
	}
	if err := btrfs.CreateSnapshot(dir, part, source, false); err != nil {
		return fmt.Errorf("copying %s: %w", original.Path, err)
	}
	if _, err := replay.Finish(s.fs, dir, part, name, btrfs.UUID(original.ID), original.Transid); err != nil {
		_, left := replay.RemoveRemainder(dir, part)
		return errors.Join(fmt.Errorf("copying %s: %w", original.Path, err), left)
	}
	s.remember(dir, want.Path)
	return nil
}
