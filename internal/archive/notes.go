package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of notes; the key of the object ends each of them.
//
//	begin KEY           an upload is being begun since (time, RFC 3339)
//	upload ID KEY       an upload that was begun (uploadNote)
//	parts ID N KEY      what is known of its parts from N*partsInNote+1 on
//	manifest KEY        a manifest that is to be put beside an object (manifestNote)
const (
	noteBegin    = "begin "
	noteUpload   = "upload "
	noteParts    = "parts "
	noteManifest = "manifest "

	// partsInNote is how many parts a note holds: it is written again with each of
	// them.
	partsInNote = 64
)

// uploadNote is what an upload needs to be carried on.
type uploadNote struct {
	Key      string    `json:"key"`
	ID       string    `json:"id"`
	Begun    time.Time `json:"begun"`
	PartSize int64     `json:"part_size"`
	// Secret is the sealing's.
	Secret []byte `json:"secret,omitempty"`
}

// partNote is what is known of a part.
type partNote struct {
	Number int `json:"n"`
	// Prefix is that of part.
	Prefix Hash `json:"sha256"`
	// Tag is what the bucket calls it; empty until it is stored.
	Tag string `json:"tag,omitempty"`
}

// manifestNote is a manifest that may not have been put yet. Of an object that
// was about to be completed only the tag can be guessed that it would have;
// it may be empty.
type manifestNote struct {
	// Manifest is its text as it is, not JSON in JSON: that would be written in
	// another way, and its checksum be wrong.
	Manifest []byte `json:"manifest"`
	Guess    string `json:"guess,omitempty"`
}

// journal writes down one upload while it goes on. Its methods are called by
// several goroutines, one at a time (upload.mu).
type journal struct {
	s      *Store
	upload uploadNote
	parts  map[int]partNote
}

// notePlace is under what the notes about the bucket are kept.
func (s *Store) notePlace() string { return s.bucket.Location() }

func (n *uploadNote) name() string { return noteUpload + n.ID + " " + n.Key }

// begin writes the upload down. It returns whether that worked; a failure has
// been told.
func (j *journal) begin() bool {
	if j.s.o.Notes == nil {
		return false
	}
	text, err := json.Marshal(&j.upload)
	if err == nil {
		err = j.s.o.Notes.Keep(j.s.notePlace(), j.upload.name(), text)
	}
	clear(text)
	if err != nil {
		j.s.log.Warn("what an interruption of this upload would need cannot be noted: it would begin anew", "object", printable(j.upload.Key), "error", err)
		return false
	}
	return true
}

// forget has the upload never be carried on.
func (j *journal) forget() error {
	j.s.log.Warn("what an interruption of this upload would need cannot be noted any more: it would begin anew", "object", printable(j.upload.Key))
	return j.s.o.Notes.Forget(j.s.notePlace(), j.upload.name())
}

// reread reads again what is noted about the parts around one, as another run
// of this machine may carry on the same upload, and reports whether that one is
// noted to be something else.
func (j *journal) reread(number int, prefix Hash) (contradicted bool) {
	group := (number - 1) / partsInNote
	var in []partNote
	if json.Unmarshal(j.s.allNotes()[j.groupName(group)], &in) != nil {
		return false // there is none
	}
	for _, p := range in {
		if p.Number == number && p.Prefix != prefix {
			return true
		}
		if _, ok := j.parts[p.Number]; !ok {
			j.parts[p.Number] = p
		}
	}
	return false
}

// groupName is the name of the note about a group of parts.
func (j *journal) groupName(group int) string {
	return noteParts + j.upload.ID + " " + strconv.Itoa(group) + " " + j.upload.Key
}

// part writes down what is known of a part. A failure has been told.
func (j *journal) part(n partNote) error {
	if j.s.o.Notes == nil {
		return nil
	}
	j.parts[n.Number] = n
	group := (n.Number - 1) / partsInNote
	var in []partNote
	for k := group*partsInNote + 1; k <= (group+1)*partsInNote; k++ {
		if p, ok := j.parts[k]; ok {
			in = append(in, p)
		}
	}
	text, err := json.Marshal(in)
	if err == nil {
		err = j.s.o.Notes.Keep(j.s.notePlace(), j.groupName(group), text)
	}
	if err != nil {
		j.s.log.Debug("a part cannot be noted", "object", printable(j.upload.Key), "error", err)
	}
	return err
}

// allNotes reads what is kept about the bucket.
func (s *Store) allNotes() map[string][]byte {
	if s.o.Notes == nil {
		return nil
	}
	notes, err := s.o.Notes.Notes(s.notePlace())
	if err != nil {
		s.log.Warn("the notes about interrupted uploads cannot be read", "error", err)
	}
	return notes
}

// recall returns the journals of uploads of a key, by their IDs.
func (s *Store) recall(key string) map[string]*journal {
	all := map[string]*journal{}
	notes := s.allNotes()
	for name, text := range notes {
		if !strings.HasPrefix(name, noteUpload) || !strings.HasSuffix(name, " "+key) {
			continue
		}
		j := &journal{s: s, parts: map[int]partNote{}}
		if err := json.Unmarshal(text, &j.upload); err != nil || j.upload.Key != key || j.upload.name() != name {
			continue
		}
		all[j.upload.ID] = j
	}
	for id, j := range all {
		for name, text := range notes {
			var in []partNote
			if !isPartsOf(name, id, key) || json.Unmarshal(text, &in) != nil {
				continue
			}
			for _, p := range in {
				j.parts[p.Number] = p
			}
		}
	}
	return all
}

// isPartsOf reports whether a note is about parts of an upload.
func isPartsOf(name, id, key string) bool {
	rest, ok := strings.CutPrefix(name, noteParts+id+" ")
	if !ok {
		return false
	}
	group, ok := strings.CutSuffix(rest, " "+key)
	if !ok {
		return false
	}
	_, err := strconv.Atoi(group)
	return err == nil
}

// forgetUploads removes what is noted about uploads of a key: about one, or
// about all where id is empty.
func (s *Store) forgetUploads(key, id string) {
	if s.o.Notes == nil {
		return
	}
	ids := []string{id}
	if id == "" {
		ids = slices.Collect(maps.Keys(s.recall(key)))
	}
	for name := range s.allNotes() {
		for _, id := range ids {
			if isPartsOf(name, id, key) || name == noteUpload+id+" "+key {
				s.forgetNote(name)
			}
		}
	}
}

func (s *Store) forgetNote(name string) {
	if s.o.Notes == nil {
		return
	}
	if err := s.o.Notes.Forget(s.notePlace(), name); err != nil {
		s.log.Warn("a note about an upload cannot be removed", "note", printable(name), "error", err)
	}
}

// skew is how far the clocks of this machine and of the bucket may be apart.
const skew = 10 * time.Minute

// intend notes that an upload is going to be begun: until it is noted itself,
// nobody knows its name.
func (s *Store) intend(key string) {
	if s.o.Notes == nil {
		return
	}
	text := s.now().UTC().Format(time.RFC3339)
	if err := s.o.Notes.Keep(s.notePlace(), noteBegin+key, []byte(text)); err != nil {
		s.log.Debug("that an upload is begun cannot be noted", "object", printable(key), "error", err)
	}
}

// tidyBegin drops the uploads of a key of which a run has died before it could
// note them.
func (s *Store) tidyBegin(ctx context.Context, key string, text []byte) error {
	since, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		s.forgetNote(noteBegin + key)
		return fmt.Errorf("reading when an upload was begun: %w", err)
	}
	noted := s.recall(key)
	for at, err := range s.bucket.Uploads(ctx, key) {
		if err == nil && at.Key == key && noted[at.ID] == nil && !at.Begun.Before(since.Add(-skew)) {
			err = s.abort(ctx, at)
		}
		if err != nil {
			return err
		}
	}
	s.forgetNote(noteBegin + key)
	return nil
}

// keepManifest notes a manifest before its object is complete.
func (s *Store) keepManifest(key string, m *Manifest, guess string) {
	if s.o.Notes == nil {
		return
	}
	text, err := json.Marshal(manifestNote{Manifest: m.encode(), Guess: guess})
	if err == nil {
		err = s.o.Notes.Keep(s.notePlace(), noteManifest+key, text)
	}
	if err != nil {
		s.log.Warn("a manifest cannot be noted: if the program is interrupted now, the object has none", "object", printable(key), "error", err)
	}
}

// Tidy does what earlier runs that were interrupted have left to be done, as far
// as this machine knows of it. What does not work has been told and waits for
// another run.
func (s *Store) Tidy(ctx context.Context) {
	if len(s.allNotes()) > 0 && s.writable(ctx) == nil {
		s.tidy(ctx)
	}
}

// tidy does what an earlier run that was interrupted has left to be done:
// manifests of objects that were completed, uploads of objects that are there, or
// of snapshots that have come there by another edge, notes of uploads that are
// not. Whatever does not work has been told and waits for another run.
func (s *Store) tidy(ctx context.Context) {
	notes := s.allNotes()
	for _, name := range slices.Sorted(maps.Keys(notes)) {
		if ctx.Err() != nil {
			return
		}
		var err error
		if key, ok := strings.CutPrefix(name, noteManifest); ok && s.ours(key) {
			err = s.tidyManifest(ctx, key, notes[name])
		} else if key, ok := strings.CutPrefix(name, noteBegin); ok && s.ours(key) {
			err = s.tidyBegin(ctx, key, notes[name])
		} else if strings.HasPrefix(name, noteUpload) {
			var n uploadNote
			if json.Unmarshal(notes[name], &n) == nil && n.name() == name && s.ours(n.Key) {
				err = s.tidyUpload(ctx, &n)
			}
		} else if strings.HasPrefix(name, noteParts) {
			s.tidyParts(name, notes)
		}
		if err != nil {
			s.log.Warn("what an interrupted run has left cannot be put in order", "note", printable(name), "error", err)
		}
	}
}

// ours reports whether a key is below the prefix.
func (s *Store) ours(key string) bool {
	return s.o.Prefix == "" || strings.HasPrefix(key, s.o.Prefix+"/")
}

// describeOurs puts the manifest of an object that has come to a key where we have
// noted it: then the object is our own, and the answer to Complete was lost.
func (s *Store) describeOurs(ctx context.Context, key string) {
	text, ok := s.allNotes()[noteManifest+key]
	if !ok {
		return
	}
	if err := s.tidyManifest(ctx, key, text); err != nil {
		s.log.Warn("the manifest of an object that is stored cannot be put", "object", printable(key), "error", err)
	}
}

func (s *Store) tidyManifest(ctx context.Context, key string, text []byte) error {
	var n manifestNote
	if err := json.Unmarshal(text, &n); err != nil {
		s.forgetNote(noteManifest + key)
		return fmt.Errorf("reading a noted manifest: %w", err)
	}
	m, err := parseManifest(n.Manifest)
	if err != nil {
		s.forgetNote(noteManifest + key)
		return err
	}
	o, err := s.bucket.Stat(ctx, key)
	if errors.Is(err, ErrNoObject) {
		// The upload that it belongs to may be carried on, and notes it again.
		s.forgetNote(noteManifest + key)
		return nil
	}
	if err != nil {
		return err
	}
	known := m.Object.Tag
	if known == "" {
		known = n.Guess
	}
	if o.Size == m.Object.Bytes && known != "" && o.Tag == known {
		m.Object.Tag = o.Tag
		there, err := s.describes(ctx, key, m)
		if err == nil && !there {
			err = s.putManifest(ctx, key, m)
		}
		if err != nil {
			return err
		}
		if !there {
			s.log.Info("an object has got the manifest that an interrupted run could not put", "object", printable(key))
		}
	}
	s.forgetNote(noteManifest + key)
	return nil
}

// describes reports whether what is beside an object says the same of it as m. It
// may be about an object that was there before.
func (s *Store) describes(ctx context.Context, key string, m *Manifest) (bool, error) {
	text, err := s.small(ctx, manifestKey(key), maxManifest)
	if errors.Is(err, ErrNoObject) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	there, err := parseManifest(text)
	if _, newer := errors.AsType[*newerError](err); newer {
		return true, nil
	}
	return err == nil && there.Object.Bytes == m.Object.Bytes && there.Object.SHA256 == m.Object.SHA256, nil
}

func (s *Store) tidyUpload(ctx context.Context, n *uploadNote) error {
	at := Unfinished{Key: n.Key, ID: n.ID, Begun: n.Begun}
	_, err := s.bucket.Stat(ctx, n.Key)
	switch {
	case err == nil:
		if err := s.abortAll(ctx, n.Key); err != nil {
			return err
		}
	case errors.Is(err, ErrNoObject) && s.superseded(n.Key):
		if err := s.abort(ctx, at); err != nil {
			return err
		}
	case !errors.Is(err, ErrNoObject):
		return err
	default:
		for u, err := range s.bucket.Uploads(ctx, n.Key) {
			if err != nil {
				return err
			}
			if u.Key == n.Key && u.ID == n.ID {
				return nil
			}
		}
	}
	s.forgetUploads(n.Key, n.ID)
	return nil
}

// tidyParts forgets what is noted about parts of an upload that is forgotten
// itself: a run was interrupted between the two.
func (s *Store) tidyParts(name string, notes map[string][]byte) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(name, noteParts), " ")
	_, key, _ := strings.Cut(rest, " ")
	if _, ok := notes[noteUpload+id+" "+key]; !ok && s.ours(key) && isPartsOf(name, id, key) {
		s.forgetNote(name)
	}
}

// superseded reports whether the snapshot that an upload is of is at its path
// already: a later plan has made it from something else.
func (s *Store) superseded(key string) bool {
	n := parseKey(s.o.Prefix, key)
	return n.kind == isObject && slices.ContainsFunc(s.leading(n.edge.To), func(o *stored) bool { return !o.Outside && o.Path == n.path })
}

// abortAll drops the unfinished uploads of an object that is there: nobody can
// complete them any more.
func (s *Store) abortAll(ctx context.Context, key string) error {
	for at, err := range s.bucket.Uploads(ctx, key) {
		if err == nil && at.Key == key {
			err = s.abort(ctx, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// abort drops an unfinished upload.
func (s *Store) abort(ctx context.Context, at Unfinished) error {
	u, err := s.bucket.Continue(ctx, at)
	if errors.Is(err, ErrNoUpload) {
		return nil
	}
	if err != nil {
		return err
	}
	return u.Abort(ctx)
}
