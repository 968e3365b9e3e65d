package pipe

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// tempFail is the status by which a command says that another try may help,
// EX_TEMPFAIL of sysexits.h.
const tempFail = 75

// writer gives one stream to one run of the command.
type writer struct {
	s          *Store
	ctx        context.Context
	want       store.Want
	parentPath string

	tally     stream.Tally
	run       *run // nil before the stream has begun
	err       error
	committed bool
	closed    bool
}

func newWriter(ctx context.Context, s *Store, want store.Want, parentPath string) *writer {
	return &writer{s: s, ctx: ctx, want: want, parentPath: parentPath}
}

var (
	errClosed    = errors.New("it is closed")
	errCommitted = errors.New("it is committed")
)

// fail notes what went wrong, once and for all, and returns it.
func (w *writer) fail(err error) error {
	if w.err == nil {
		w.err = fmt.Errorf("giving %s to the command: %w", printable(w.want.Path), err)
		if status, ok := errors.AsType[*statusError](err); ok && status.code == tempFail {
			w.err = store.MarkTemporary(w.err)
		}
	}
	return w.err
}

// ready returns what stands against going on.
func (w *writer) ready(ctx context.Context) error {
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return fmt.Errorf("giving %s to the command: %w", printable(w.want.Path), errClosed)
	case w.committed:
		return fmt.Errorf("giving %s to the command: %w", printable(w.want.Path), errCommitted)
	case w.ctx.Err() != nil:
		return w.fail(context.Cause(w.ctx))
	case ctx.Err() != nil:
		return w.fail(context.Cause(ctx))
	}
	return nil
}

// Write takes whole commands.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.ready(w.ctx); err != nil || len(p) == 0 {
		return 0, err
	}
	if _, err := w.tally.Write(p); err != nil {
		return 0, w.fail(err)
	}
	if w.run == nil {
		if err := w.begin(); err != nil {
			return 0, w.fail(err)
		}
	}
	n, err := w.run.Write(p)
	if err != nil {
		return n, w.fail(err)
	}
	return n, nil
}

// begin runs the command, once the stream has shown which one it is.
func (w *writer) begin() error {
	if err := announced(&w.tally, w.want); err != nil {
		return err
	}
	var err error
	w.run, err = start(w.ctx, w.s.o, w.environment(), printable(w.want.Path))
	return err
}

// announced says how the stream that has begun differs from what was announced.
func announced(t *stream.Tally, want store.Want) error {
	id, ok := t.Identity()
	if !ok {
		return errors.New("the stream does not begin with a whole command")
	}
	found := snapshot.Edge{To: id.UUID}
	if id.HasParent {
		found.From = id.Parent
	}
	switch {
	case found != want.Edge || id.HasParent == want.Edge.IsFull():
		return fmt.Errorf("the stream is another than was announced: it makes %s, not %s", edgeText(found), edgeText(want.Edge))
	case want.Transid != 0 && id.Transid != want.Transid:
		return fmt.Errorf("the stream is of transaction %d of the snapshot, not %d", id.Transid, want.Transid)
	case want.FromTransid != 0 && id.HasParent && id.ParentTransid != want.FromTransid:
		return fmt.Errorf("the stream starts from transaction %d of its parent, not %d", id.ParentTransid, want.FromTransid)
	}
	return nil
}

// environment is what names the stream for the command.
func (w *writer) environment() []string {
	parent, size, exact := "", "", ""
	if !w.want.Edge.IsFull() {
		parent = w.want.Edge.From.String()
	}
	if w.want.Size.Known {
		size = strconv.FormatInt(w.want.Size.Bytes, 10)
		if w.want.Size.Exact {
			exact = "1"
		}
	}
	return []string{
		"BUTTERSINK_NAME=" + path.Base(w.want.Path),
		"BUTTERSINK_PATH=" + w.want.Path,
		"BUTTERSINK_UUID=" + w.want.Edge.To.String(),
		"BUTTERSINK_PARENT=" + parent,
		"BUTTERSINK_PARENT_PATH=" + w.parentPath,
		"BUTTERSINK_SIZE=" + size,
		"BUTTERSINK_EXACT=" + exact,
		"BUTTERSINK_PROTOCOL=" + strconv.FormatUint(uint64(w.tally.Version()), 10),
	}
}

// Commit ends the command's input and waits until the command has ended too.
func (w *writer) Commit(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	if err := w.tally.Whole(); err != nil {
		return w.fail(err)
	}
	if err := w.run.finish(ctx); err != nil {
		return w.fail(err)
	}
	id, _ := w.tally.Identity()
	w.s.keep(taken{
		edge: w.want.Edge, path: w.want.Path,
		Transid: id.Transid, Bytes: w.tally.Stats().Bytes, When: time.Now().UTC().Truncate(time.Second),
	})
	w.committed = true
	return nil
}

// Close ends the command, if it has not taken the stream.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	if w.run == nil {
		return nil
	}
	return w.run.close(w.committed)
}

func edgeText(e snapshot.Edge) string {
	if e.IsFull() {
		return fmt.Sprintf("%s in full", e.To)
	}
	return fmt.Sprintf("%s from %s", e.To, e.From)
}
