package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/store"
)

// A bucket cannot replace an object only where it is what it was, so a note gets
// the next number each time it changes, and only one can take a number. The
// highest counts; an empty one says that there is none. Some before it stay, so
// that numbers do not become free again under the hands of those who are slow, and
// a listing of a directory that changes meanwhile does not miss them all.

// notebooks has what the keys of notes begin with. There is no underscore in them,
// so that ButterSink takes none of them for a stream.
var notebooks = map[string]string{
	store.RetentionNote: ".buttersink-retention.",
	store.LocksNote:     ".buttersink-outstanding.",
}

const (
	// noteDigits is how long the numbers of notes are, with zeros in front.
	noteDigits = 10
	lastNote   = 9_999_999_999
	// notesKept is how many numbers of a note stay, and noteTries how often it is
	// looked for while others change it.
	notesKept, noteTries = 16, 20
	// noteAhead is how many numbers are looked for behind those of a listing: a
	// bucket that has whatever it is asked for is not asked for ever.
	noteAhead = 200
)

// ReadNote returns a note of the archive.
func (s *Store) ReadNote(ctx context.Context, name string) ([]byte, error) {
	data, _, err := s.readNote(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", name, s, err)
	}
	if len(data) == 0 {
		return nil, nil
	}
	return data, nil
}

// WriteNote changes a note of the archive.
func (s *Store) WriteNote(ctx context.Context, name string, data, was []byte) error {
	if err := s.writeNote(ctx, name, data, was); err != nil {
		return fmt.Errorf("writing %s of %s: %w", name, s, err)
	}
	return nil
}

func (s *Store) writeNote(ctx context.Context, name string, data, was []byte) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(data) > store.MaxNote {
		return fmt.Errorf("it would have more than %d bytes", store.MaxNote)
	}
	if _, err := s.marked(ctx); err != nil {
		return err
	}
	there, number, err := s.readNote(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case !bytes.Equal(there, was):
		return store.ErrNoteChanged
	case bytes.Equal(there, data):
		return nil
	case number == lastNote:
		return fmt.Errorf("there is no number after that of %s: remove it", printable(s.noteKey(name, number)))
	}
	number++
	err = s.bucket.Put(ctx, s.noteKey(name, number), data, true)
	if errors.Is(err, ErrTaken) {
		return store.ErrNoteChanged
	}
	if err != nil {
		return err
	}
	all, err := s.noteNumbers(ctx, name)
	if err != nil {
		return fmt.Errorf("making sure of it: %w", err)
	}
	last := number
	if len(all) > 0 {
		last = max(last, all[len(all)-1])
	}
	s.dropNotes(ctx, name, slices.DeleteFunc(all, func(n int64) bool { return n > last-notesKept }))
	if number <= last-notesKept {
		return store.ErrNoteChanged // our number had become free again
	}
	return nil
}

// readNote returns what a note says, and its number; 0 if it has never been there.
func (s *Store) readNote(ctx context.Context, name string) (data []byte, number int64, err error) {
	if notebooks[name] == "" {
		return nil, 0, fmt.Errorf("%s is not the name of a note", printable(name))
	}
	for range noteTries {
		all, err := s.noteNumbers(ctx, name)
		if err != nil || len(all) == 0 {
			return nil, 0, err
		}
		data, err := s.small(ctx, s.noteKey(name, all[len(all)-1]), store.MaxNote)
		// A listing may be older than what it lists.
		last := all[len(all)-1]
		for number = last; err == nil && number < lastNote; number++ {
			if number-last == noteAhead {
				err = ErrNoObject // which is to be listed by now
				break
			}
			next, missing := s.small(ctx, s.noteKey(name, number+1), store.MaxNote)
			if errors.Is(missing, ErrNoObject) {
				break
			}
			data, err = next, missing
		}
		if !errors.Is(err, ErrNoObject) {
			return data, number, err
		}
	}
	return nil, 0, store.MarkTemporary(errors.New("others keep changing it"))
}

// noteNumbers lists the numbers of a note, in order.
func (s *Store) noteNumbers(ctx context.Context, name string) ([]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	front := below(s.o.Prefix, notebooks[name])
	var all []int64
	for o, err := range s.bucket.List(ctx, front) {
		if err != nil {
			return nil, err
		}
		if n, ok := noteNumber(strings.TrimPrefix(o.Key, front)); ok {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// dropNotes removes numbers that do not count any more. They do no harm.
func (s *Store) dropNotes(ctx context.Context, name string, all []int64) {
	for _, n := range all {
		if err := s.bucket.Delete(ctx, s.noteKey(name, n)); err != nil {
			s.log.Debug("a note that is out of date cannot be removed", "object", printable(s.noteKey(name, n)), "error", err)
			return
		}
	}
}

func (s *Store) noteKey(name string, n int64) string {
	return below(s.o.Prefix, fmt.Sprintf("%s%0*d%s", notebooks[name], noteDigits, n, manifestSuffix))
}

// noteNumber reads the end of the key of a note.
func noteNumber(rest string) (int64, bool) {
	digits, ok := strings.CutSuffix(rest, manifestSuffix)
	if !ok || len(digits) != noteDigits || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil && n > 0
}

// isNote reports whether the last component of a key is that of a note.
func isNote(name string) bool {
	for _, front := range notebooks {
		if rest, ok := strings.CutPrefix(name, front); ok {
			if _, ok := noteNumber(rest); ok {
				return true
			}
		}
	}
	return false
}
