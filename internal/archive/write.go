package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// tidyTime is how long the end of a writer may take that was cancelled, and what
// follows an object that is there already.
const tidyTime = time.Minute

// writer takes one stream to the bucket. What it is given goes through
//
//	tally -> [stage -> SHA-256 -> seal ->] cutter -> hasher -> bucket
//
// where each arrow that is drawn after stage is another goroutine, and each part
// is put by its own. An object that stays plain has no stage.
type writer struct {
	s       *Store
	ctx     context.Context
	fail    context.CancelCauseFunc
	want    store.Want
	key     string
	form    seal.Form
	up      *upload
	tally   stream.Tally
	checked bool // the identity
	cutter  *cutter
	hasher  *hasher
	narrow  func()
	wait    time.Duration // for the manifest of somebody else

	feed  chan []byte // blocks of the stream that are to be sealed
	stage []byte      // the one that is being filled
	plain hash.Hash   // of the stream, where it is not the object's

	feeding, hashing, putting sync.WaitGroup
	skipped, count            atomic.Int64
	finished                  bool        // everything has been handed on, or given up
	drop                      atomic.Bool // the upload is of no use to anybody
	gone                      atomic.Bool // the upload is not there, but the object is
	committed, closed         bool
}

// Create makes ready for the stream of an edge.
func (s *Store) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	form := s.o.Seal.Form()
	key, err := s.keyFor(want.Path, want.Edge, form)
	if err != nil {
		return nil, err
	}
	if err := s.writable(ctx); err != nil {
		return nil, err
	}
	s.tidied.Do(func() { s.tidy(ctx) })
	there, err := s.free(ctx, want, key)
	if err != nil {
		return nil, err
	}
	if there {
		s.describeOurs(ctx, key)
	}
	sh, err := s.shape(want.Size)
	if err != nil {
		return nil, fmt.Errorf("storing %s: %w", s.where(want.Path), err)
	}
	up, err := s.upload(ctx, key, form, sh, want)
	if err != nil {
		return nil, fmt.Errorf("storing %s: %w", s.where(want.Path), err)
	}
	if sh.part > s.o.PartSize && !up.carried {
		s.log.Debug("parts are longer than asked for", "snapshot", printable(want.Path), "part", amount(sh.part))
	}
	w := &writer{s: s, want: want, key: key, form: form, up: up, wait: patience}
	w.gone.Store(there)
	w.ctx, w.fail = context.WithCancelCause(ctx)
	if err := w.start(sh); err != nil {
		return nil, errors.Join(fmt.Errorf("storing %s: %w", s.where(want.Path), err), w.Close())
	}
	return w, nil
}

// free finds out whether the stream can be stored where it is wanted. There is set
// if somebody else has stored one of the same edge since the last listing, so that
// nothing is to be done but to compare.
func (s *Store) free(ctx context.Context, want store.Want, key string) (there bool, err error) {
	if id, taken := s.at(want.Path); taken && id != want.Edge.To {
		return false, &store.ExistsError{Path: s.where(want.Path), What: "a snapshot with another identity, " + id.Short()}
	}
	for _, o := range s.of(want.Edge) {
		if o.Path == want.Path && !o.Outside {
			return false, &store.ExistsError{Path: s.where(want.Path), What: "the same stream, " + printable(o.Key)}
		}
	}
	switch o, err := s.bucket.Stat(ctx, key); {
	case err == nil && o.Size <= 0:
		return false, s.remains(want.Path, o)
	case err == nil:
		return true, nil
	case !errors.Is(err, ErrNoObject):
		return false, fmt.Errorf("storing %s: %w", s.where(want.Path), err)
	}
	if err := s.clearGround(ctx, key); err != nil {
		return false, fmt.Errorf("storing %s: %w", s.where(want.Path), err)
	}
	if want.Edge.IsFull() || len(s.leading(want.Edge.From)) > 0 {
		return false, nil
	}
	found, err := s.stands(ctx, want.Edge.From)
	if err == nil && !found {
		err = &store.ParentError{ID: want.Edge.From, Why: "is not in " + s.String()}
	}
	return false, err
}

// remains says that something is where a stream was, and is not one.
func (s *Store) remains(path string, o Object) error {
	return &store.ExistsError{Path: s.where(path), What: fmt.Sprintf("what is left of a stream, %d bytes: move it away, with its manifest", o.Size)}
}

// upload returns the one that is carried on with, or a new one.
func (s *Store) upload(ctx context.Context, key string, f seal.Form, sh shape, want store.Want) (*upload, error) {
	if !want.Fresh && f.Cipher != seal.GPG {
		l := s.bucket.Limits()
		// Two parts are in memory at least, so much longer ones than now are not taken
		// over; the usual length is, whatever was asked for.
		most := min(max(2*sh.part, defaultPartSize), l.MaxPart)
		up, err := s.carryOn(ctx, key, f, func(part int64) bool {
			return part >= l.MinPart && part <= most && l.holds(part) >= sh.expect
		})
		if up != nil || err != nil {
			return up, err
		}
	}
	return s.begin(ctx, key, f, sh, want.Size)
}

func (s *Store) begin(ctx context.Context, key string, f seal.Form, sh shape, size snapshot.Size) (*upload, error) {
	s.intend(key)
	u, err := s.bucket.Begin(ctx, key, UploadOptions{PartSize: sh.part, Size: min(sh.surely(size), s.bucket.Limits().holds(sh.part))})
	if err != nil {
		s.forgetNote(noteBegin + key)
		return nil, err
	}
	up := &upload{Upload: u, at: u.Unfinished(), partSize: sh.part, form: f}
	up.journal = &journal{s: s, parts: map[int]partNote{}}
	up.journal.upload = uploadNote{Key: key, ID: up.at.ID, Begun: up.at.Begun, PartSize: sh.part}
	return up, nil
}

// start sets the goroutines going.
func (w *writer) start(sh shape) error {
	w.narrow = w.s.budget.widen(w.up.partSize)
	w.cutter = &cutter{
		ctx: w.ctx, budget: w.s.budget, size: w.up.partSize, most: w.s.bucket.Limits().holds(w.up.partSize),
		expect: sh.expect, pieces: make(chan piece, 8),
	}
	w.hasher = newHasher(w.up.byMD5, w.ready)
	sealed, err := w.sealed()
	if err != nil {
		return err
	}
	if !w.up.noted && (sealed == nil || sealed.Repeatable()) {
		w.up.noted = w.up.journal.begin()
	}
	if !w.up.carried {
		w.s.forgetNote(noteBegin + w.key)
	}
	w.hashing.Go(func() { w.hasher.run(w.cutter.pieces, func() bool { return w.ctx.Err() != nil }) })
	if sealed != nil {
		w.plain = sha256.New()
		w.feed = make(chan []byte, 4)
		w.feeding.Go(func() { w.seal(sealed) })
	}
	return nil
}

// sealed returns what seals the stream, or nil if it stays plain.
func (w *writer) sealed() (*seal.Writer, error) {
	if w.form.Plain() {
		return nil, nil
	}
	sealed, err := seal.NewWriter(w.ctx, w.cutter, w.s.o.Seal, w.up.journal.upload.Secret)
	if err == nil {
		w.up.journal.upload.Secret = sealed.Secret()
		return sealed, nil
	}
	return nil, err
}

// seal seals what is in the feed. It ends the stream when the feed does.
func (w *writer) seal(sealed *seal.Writer) {
	defer sealed.Abort()
	for block := range w.feed {
		if w.ctx.Err() == nil {
			w.plain.Write(block)
			if _, err := sealed.Write(block); err != nil {
				w.fail(err)
			}
		}
		w.s.budget.giveBack(block)
	}
	if w.ctx.Err() != nil || !w.finished {
		return
	}
	if err := sealed.Close(); err != nil {
		w.fail(err)
	}
}

// Write takes whole commands.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.broken(); err != nil {
		return 0, err
	}
	if w.finished {
		return 0, fmt.Errorf("storing %s: it is at its end", w.name())
	}
	if _, err := w.tally.Write(p); err != nil {
		w.fail(err)
		return 0, w.broken()
	}
	if id, ok := w.tally.Identity(); ok && !w.checked {
		w.checked = true
		if err := sameState(id, w.want); err != nil {
			w.fail(err)
			return 0, w.broken()
		}
		if !announced(id, w.want.Edge) {
			w.fail(fmt.Errorf("the stream is another than was announced: it makes %s, not %s", edgeText(edgeOf(id)), edgeText(w.want.Edge)))
			return 0, w.broken()
		}
	}
	var n int
	var err error
	if w.feed == nil {
		n, err = w.cutter.Write(p)
	} else {
		n, err = w.stow(p)
	}
	if err != nil {
		w.fail(err)
		return n, w.broken()
	}
	return n, nil
}

// stow puts p into blocks that go to be sealed.
func (w *writer) stow(p []byte) (n int, err error) {
	for n < len(p) {
		if w.stage == nil {
			w.stage = w.s.budget.block()[:0]
		}
		m := min(len(p)-n, blockSize-len(w.stage))
		w.stage = append(w.stage, p[n:n+m]...)
		n += m
		if len(w.stage) == blockSize {
			if err := w.pass(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// pass hands the block that has been filled on.
func (w *writer) pass() error {
	select {
	case w.feed <- w.stage:
		w.stage = nil
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// broken returns what has gone wrong.
func (w *writer) broken() error {
	if w.ctx.Err() == nil {
		return nil
	}
	err := context.Cause(w.ctx)
	if _, ok := errors.AsType[*outgrownError](err); ok {
		w.drop.Store(true)
		if w.up.carried {
			err = again("the parts of the interrupted upload are too short: %w", err)
		}
	}
	return fmt.Errorf("storing %s: %w", w.name(), err)
}

// ready stores a part, unless it is there.
func (w *writer) ready(p *part) {
	if w.gone.Load() {
		p.release()
		return
	}
	switch w.up.compare(p) {
	case equal:
		if w.skipped.Add(p.size) == p.size { // how much it is in all is said in the end
			w.s.log.Info(fmt.Sprintf("Skipping already uploaded parts of %s, from #%d on", printable(w.want.Path), p.number))
		}
		w.s.log.Debug(fmt.Sprintf("Skipping already uploaded %s part #%d", amount(p.size), p.number), "snapshot", printable(w.want.Path))
		w.count.Add(1)
		w.up.stored(w.up.earlier[p.number], p.prefix)
		p.release()
		return
	case another:
		w.up.differs = true
		if w.form.Cipher != seal.None {
			// With the same keys different bytes must never be encrypted: who sees both
			// learns something of them.
			w.drop.Store(true)
			w.fail(again("the stream is not the one that was interrupted, from part %d on", p.number))
			p.release()
			return
		}
		w.s.log.Warn(fmt.Sprintf("The stream is not the one that was interrupted: from part #%d on it is uploaded again", p.number), "snapshot", printable(w.want.Path))
	case absent:
	}
	w.putting.Go(func() { w.put(p) })
}

// put stores a part.
func (w *writer) put(p *part) {
	defer p.release()
	if err := w.up.sent(p.number, p.prefix); err != nil {
		if errors.Is(err, errAgain) {
			w.drop.Store(true)
		}
		w.fail(fmt.Errorf("part %d: %w", p.number, err))
		return
	}
	b := &body{blocks: p.blocks, size: p.size}
	defer b.retire()
	done, err := w.up.Put(w.ctx, p.number, Body{ReadSeeker: b, Size: p.size, CRC32C: p.crc})
	switch {
	case err == nil:
		w.count.Add(1)
		w.up.stored(done, p.prefix)
	case errors.Is(err, ErrNoUpload):
		w.vanished(err)
	default:
		w.fail(fmt.Errorf("part %d: %w", p.number, err))
	}
}

// vanished deals with an upload that is not there any more. If the object is,
// somebody else has stored the same edge, and only Commit can tell whether it is
// the same stream.
func (w *writer) vanished(err error) {
	if _, there := w.s.bucket.Stat(w.ctx, w.key); there == nil {
		w.gone.Store(true)
		return
	}
	w.drop.Store(true)
	w.fail(again("somebody else has removed the upload: %w", err))
}

// Skipped is how many bytes were there already.
func (w *writer) Skipped() int64 { return w.skipped.Load() }

func (w *writer) name() string { return w.s.where(w.want.Path) }

// finish brings everything that was written to the bucket.
func (w *writer) finish() error {
	w.finished = true
	var err error
	if w.feed != nil {
		if len(w.stage) > 0 {
			err = w.pass()
		}
		close(w.feed)
		w.feeding.Wait()
	}
	if err == nil && w.ctx.Err() == nil {
		err = w.cutter.end()
	}
	if err != nil {
		w.fail(err)
	}
	close(w.cutter.pieces)
	w.hashing.Wait()
	w.putting.Wait()
	return w.broken()
}

// Close abandons what was not committed. What can be carried on with stays.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.fail(errAbandoned)
	if !w.finished {
		w.stop()
	}
	_ = w.broken() // notes what the upload is still good for
	if w.cutter.part != nil {
		w.cutter.part.release()
	}
	if w.stage != nil {
		w.s.budget.giveBack(w.stage)
	}
	w.narrow()
	clear(w.up.journal.upload.Secret)
	if w.committed {
		return nil
	}
	if !w.drop.Load() && (w.count.Load() > 0 || w.up.carried) && (w.form.Plain() || w.up.noted) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), tidyTime)
	defer cancel()
	if err := w.up.Abort(ctx); err != nil {
		return fmt.Errorf("dropping the upload of %s: %w", w.name(), err)
	}
	w.s.forgetUploads(w.key, w.up.at.ID)
	return nil
}

var errAbandoned = errors.New("it has been abandoned")

// stop ends the goroutines of a writer that was not finished.
func (w *writer) stop() {
	if w.feed != nil {
		close(w.feed)
		w.feeding.Wait()
	}
	close(w.cutter.pieces)
	w.hashing.Wait()
	w.putting.Wait()
}

// announced reports whether a stream is that of an edge.
func announced(id stream.Identity, e snapshot.Edge) bool {
	return edgeOf(id) == e && id.HasParent != e.IsFull()
}

// sameState compares the transaction numbers of a stream with those that were
// announced, where they were known.
func sameState(id stream.Identity, want store.Want) error {
	if want.Transid != 0 && id.Transid != want.Transid {
		return fmt.Errorf("the stream is of transaction %d of the snapshot, not %d", id.Transid, want.Transid)
	}
	if want.FromTransid != 0 && id.HasParent && id.ParentTransid != want.FromTransid {
		return fmt.Errorf("the stream starts from transaction %d of its parent, not %d", id.ParentTransid, want.FromTransid)
	}
	return nil
}

func edgeOf(id stream.Identity) snapshot.Edge {
	e := snapshot.Edge{To: id.UUID}
	if id.HasParent {
		e.From = id.Parent
	}
	return e
}
