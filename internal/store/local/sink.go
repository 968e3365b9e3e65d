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

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// errMounted says that a path below the store's directory leads off its file
// system.
var errMounted = errors.New("another file system is mounted on its directory")

// errAbandoned ends a receive whose writer was closed without Commit.
var errAbandoned = errors.New("the transfer was abandoned")

// Create prepares a receive. The stream is carried out as it is written.
func (s *Store) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if err := ctx.Err(); err != nil {
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
		receiver: replay.New(replay.Options{Filesystem: s.fs, Dir: dir, Name: name, Log: s.opt.Log}),
	}
	go func() {
		err := w.receive(ctx, pr)
		// Whoever still writes has to hear of it.
		_ = pr.CloseWithError(err)
		w.ended <- err
	}()
	return w, nil
}

// place opens the directory in which a snapshot is to be made, making it if
// need be, and checks that the snapshot's name is free.
func (s *Store) place(p string) (_ *os.File, name string, err error) {
	if !filepath.IsLocal(p) || path.Clean(p) != p || p == "." || snapshot.IsPart(p) {
		return nil, "", fmt.Errorf("creating %q in %s: not a usable path for a snapshot", p, s.path)
	}
	parent, name := dirOf(p)
	full := filepath.Join(s.path, p)
	if parent != "." {
		if err := s.root.MkdirAll(parent, 0o755); err != nil {
			return nil, "", fmt.Errorf("creating %s: %w", full, err)
		}
	}
	dir, err := s.root.Open(parent)
	if err != nil {
		return nil, "", fmt.Errorf("creating %s: %w", full, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.Close())
		}
	}()
	if err := s.onSameFilesystem(dir); err != nil {
		return nil, "", fmt.Errorf("creating %s: %w", full, err)
	}
	if err := unix.Faccessat(int(dir.Fd()), ".", unix.W_OK, 0); err != nil {
		if errors.Is(err, unix.EROFS) {
			err = errors.New("its directory is read-only, part of a snapshot or of a read-only mount")
		}
		return nil, "", fmt.Errorf("creating %s: %w", full, err)
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		return nil, "", &store.ExistsError{Path: full, What: whatIs(dir, name, st)}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, "", fmt.Errorf("creating %s: %w", full, err)
	}
	return dir, name, nil
}

// onSameFilesystem makes sure that a directory below the store's is not on
// something that is mounted there.
func (s *Store) onSameFilesystem(dir *os.File) error {
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return err
	}
	other, err := btrfs.Of(again)
	if err != nil && !errors.Is(err, btrfs.ErrNotBtrfs) {
		return errors.Join(err, again.Close())
	}
	if err != nil {
		return errors.Join(errMounted, again.Close())
	}
	if other.UUID() != s.fs.UUID() {
		err = errMounted
	}
	return errors.Join(err, other.Close())
}

// whatIs describes what is at a name.
func whatIs(dir *os.File, name string, st unix.Stat_t) string {
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "not a subvolume"
	}
	sub, err := subvolumeAt(dir, name)
	if err != nil {
		return "a directory that is no subvolume"
	}
	return describe(sub)
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
	cancel   context.CancelFunc
	pipe     *io.PipeWriter
	ended    chan error // what receive answers, once
	over     bool       // ended has been read
	result   error      // what it answered
	closed   bool
}

// receive carries out the stream that arrives through the pipe.
func (w *writer) receive(ctx context.Context, pr *io.PipeReader) error {
	r := stream.NewReader(pr)
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
	result, err := w.receiver.Commit(ctx)
	if errors.Is(err, replay.ErrExists) {
		return &store.ExistsError{Path: filepath.Join(w.store.path, w.want.Path), What: "there since the transfer began"}
	}
	if err != nil {
		return err
	}
	if snapshot.ID(result.ReceivedUUID) != w.want.Edge.To {
		return fmt.Errorf("committing %s: it was marked as %s instead of %s", w.want.Path, result.ReceivedUUID, w.want.Edge.To)
	}
	return w.store.remember(w.dir, path.Base(w.want.Path), w.want.Path)
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
// be a parent or be sent on.
func (s *Store) remember(dir *os.File, name, path string) error {
	sub, err := subvolumeAt(dir, name)
	if err != nil {
		return fmt.Errorf("examining %s: %w", path, err)
	}
	snap := values(sub)
	snap.Path = path
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[snap.ID] = snap
	return nil
}

// Copy snapshots the snapshot, and gives the copy the same identity.
func (s *Store) Copy(ctx context.Context, want store.Want) (err error) {
	if err := ctx.Err(); err != nil {
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
	if err := s.removeRemainder(dir, part); err != nil {
		return fmt.Errorf("copying %s: %w", original.Path, err)
	}
	if err := btrfs.CreateSnapshot(dir, part, source, false); err != nil {
		return fmt.Errorf("copying %s: %w", original.Path, err)
	}
	if _, err := replay.Finish(s.fs, dir, part, name, btrfs.UUID(original.ID), original.Transid); err != nil {
		return errors.Join(fmt.Errorf("copying %s: %w", original.Path, err), s.removeRemainder(dir, part))
	}
	return s.remember(dir, name, want.Path)
}
