package archive

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// patience is how long we wait for the manifest of somebody who has stored the
// same edge at the same time: it is put right after the object.
const (
	patience  = 10 * time.Second
	lookAgain = 200 * time.Millisecond
)

// Commit makes the object out of what was written.
func (w *writer) Commit(ctx context.Context) error {
	if err := w.broken(); err != nil {
		return err
	}
	if w.finished {
		return fmt.Errorf("storing %s: it has been committed before", w.name())
	}
	if err := w.tally.Whole(); err != nil {
		w.fail(err)
		return w.broken()
	}
	stop := context.AfterFunc(ctx, func() { w.fail(context.Cause(ctx)) })
	defer stop()
	if err := w.finish(); err != nil {
		return err
	}
	o := &stored{
		Object: Object{Key: w.key, Size: w.cutter.total},
		Edge:   w.want.Edge, Path: w.want.Path, Form: w.form, Described: true,
	}
	m := w.manifest(o)
	if w.gone.Load() {
		return w.lost(ctx, o, m, ErrNoUpload)
	}
	parts := w.up.all()
	guess := w.tagOf(parts)
	w.s.keepManifest(w.key, m, guess)
	done, err := w.up.Complete(ctx, parts)
	switch {
	case errors.Is(err, ErrTaken), errors.Is(err, ErrNoUpload):
		return w.lost(ctx, o, m, err)
	case err != nil:
		// The answer may have been lost on its way.
		there, failed := w.s.bucket.Stat(ctx, w.key)
		if failed != nil || there.Size != o.Size || guess == "" || there.Tag != guess {
			return fmt.Errorf("storing %s: %w", w.name(), err)
		}
		done = there
	}
	o.Object = done
	m.Object.Tag = done.Tag
	w.s.keepManifest(w.key, m, "")
	// From here on it is stored; the rest takes no notice of the end of ctx.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	if err := w.raised(ctx); err != nil {
		return err
	}
	if err := w.s.stays(ctx, o); err != nil {
		w.drop.Store(true)
		w.s.forgetNote(noteManifest + w.key)
		return err
	}
	if err := w.s.putManifest(ctx, w.key, m); err != nil {
		o.Described = false
		w.s.log.Warn("a stream is stored, but its manifest is not: the next run, or verify, adds it", "object", printable(w.key), "error", err)
	} else {
		w.s.forgetNote(noteManifest + w.key)
	}
	w.done(ctx, o)
	return nil
}

// raised makes sure that an object which is complete does not count as removed:
// somebody may have meant another one that was there before.
func (w *writer) raised(ctx context.Context) error {
	err := w.s.unburied(ctx, w.key)
	if err == nil {
		return nil
	}
	w.drop.Store(true)
	if errors.Is(err, ErrNoObject) {
		err = again("somebody else has removed it for good meanwhile: %w", err)
	}
	return fmt.Errorf("storing %s: %w", w.name(), err)
}

// revived puts back what has been removed, and is the same edge as what was about
// to be stored: it need not be the same bytes, since it is a whole stream.
func (w *writer) revived(ctx context.Context, o *stored) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	if err := w.raised(ctx); err != nil {
		return err
	}
	if err := w.s.stays(ctx, o); err != nil {
		return err
	}
	w.s.log.Info("what had been removed has been put back in place of storing it again: if it is damaged, remove it, empty the trash and store it", "object", printable(w.key))
	if w.form.Cipher != seal.None {
		w.s.log.Warn("what has been put back is encrypted for whom it was then: if those keys are lost, remove it, empty the trash and store it again", "snapshot", printable(w.want.Path))
	}
	w.s.sizesBack(ctx, w.want.Path)
	w.done(ctx, o)
	return nil
}

// done tidies up behind an object that is stored.
func (w *writer) done(ctx context.Context, o *stored) {
	w.committed = true
	w.s.add(o)
	if err := w.s.abortAll(ctx, w.key); err != nil {
		w.s.log.Warn("what may be left of interrupted uploads cannot be removed", "object", printable(w.key), "error", err)
	}
	w.s.forgetUploads(w.key, "")
}

// manifest describes the object that the parts are going to make.
func (w *writer) manifest(o *stored) *Manifest {
	m := w.s.describe(o)
	m.Object.SHA256 = w.hasher.sum()
	m.Plain = Content{Bytes: o.Size, SHA256: m.Object.SHA256}
	st := w.tally.Stats()
	if w.plain != nil {
		m.Plain = Content{Bytes: st.Bytes}
		w.plain.Sum(m.Plain.SHA256[:0])
	}
	m.Protocol = w.tally.Version()
	m.Stream = StreamCount{Commands: st.Commands, DataBytes: st.DataBytes, Files: st.Files, Dirs: st.Dirs, Clones: st.Clones}
	id, _ := w.tally.Identity()
	m.ToTransid, m.FromTransid = id.Transid, id.ParentTransid
	m.Parts = ManifestParts{Size: w.up.partSize, Count: w.cutter.number}
	return m
}

// lost is the end of a race: an object has come to the key, or the upload is
// gone. It is a success if what is there is the same stream.
func (w *writer) lost(ctx context.Context, o *stored, m *Manifest, why error) error {
	w.drop.Store(true)
	w.s.forgetNote(noteManifest + w.key)
	for end := time.Now().Add(w.wait); ; {
		there, err := w.s.bucket.Stat(ctx, w.key)
		if errors.Is(err, ErrNoObject) {
			return fmt.Errorf("storing %s: %w", w.name(), again("somebody else has removed the upload: %w", why))
		}
		if err != nil {
			return fmt.Errorf("storing %s: %w", w.name(), err)
		}
		o.Object = there
		removed, err := w.s.isRemoved(ctx, w.key)
		if err != nil {
			return fmt.Errorf("storing %s: %w", w.name(), err)
		}
		theirs, err := w.s.manifest(ctx, o)
		o.Described = err == nil
		switch {
		case there.Size <= 0, err == nil && theirs.Object.Bytes != there.Size:
			return w.s.remains(w.want.Path, there)
		case removed:
			return w.revived(ctx, o)
		case err == nil && theirs.Plain == m.Plain,
			// Nobody has described it, but its tag says what it is.
			err != nil && there.Size == m.Object.Bytes && w.form.Plain() && w.tagOf(w.up.all()) == there.Tag && there.Tag != "":
			w.s.log.Info("the same stream has been stored meanwhile, by another run", "object", printable(w.key))
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
			defer cancel()
			w.done(ctx, o)
			return nil
		case err == nil:
			return &store.ExistsError{Path: w.name(), What: "another stream of the same snapshot, which somebody else has stored meanwhile"}
		case time.Now().After(end) && (store.Temporary(err) || denied(err)):
			return fmt.Errorf("storing %s: comparing with what somebody else has stored meanwhile: %w", w.name(), err)
		case time.Now().After(end):
			return &store.ExistsError{Path: w.name(), What: "a stream that somebody else has stored meanwhile, and that has no manifest to compare with"}
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return fmt.Errorf("storing %s: %w", w.name(), context.Cause(ctx))
		}
	}
}

// tagOf is the tag that the object is expected to have; empty if that is not known.
func (w *writer) tagOf(parts []Part) string {
	if b, ok := w.s.bucket.(Tagger); ok {
		return b.TagOf(parts, w.up.partSize)
	}
	return tagOf(parts)
}

// tagOf is the tag that S3 gives to an object of parts, as far as their tags are
// their MD5; empty where they are not.
func tagOf(parts []Part) string {
	whole := md5.New()
	for _, p := range parts {
		sum, err := hex.DecodeString(p.Tag)
		if err != nil || !isMD5(p.Tag) {
			return ""
		}
		whole.Write(sum)
	}
	return fmt.Sprintf("%x-%d", whole.Sum(nil), len(parts))
}

// leading returns the objects known to lead to a snapshot.
func (s *Store) leading(id snapshot.ID) []*stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.leading(id)
}

// at returns the snapshot that is known to be at a path.
func (s *Store) at(path string) (snapshot.ID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.at(path)
}

// where is a path of a snapshot for people.
func (s *Store) where(path string) string { return s.String() + "/" + printable(path) }
