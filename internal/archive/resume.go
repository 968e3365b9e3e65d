package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/store"
)

// upload is an upload that a writer makes, or carries on with.
type upload struct {
	Upload
	at       Unfinished
	partSize int64
	form     seal.Form
	// carried is set for one that an interrupted run has left.
	carried bool
	// earlier are the parts that it had stored, known what it noted about parts.
	earlier map[int]Part
	known   map[int]partNote
	// differs is set from the first part on that is not as it was. It belongs to
	// the hasher.
	differs bool

	mu      sync.Mutex
	journal *journal
	noted   bool
	parts   []Part // stored, in any order
}

// errAgain is wrapped by errors about uploads that cannot be carried on any
// further, so that the stream has to begin anew.
var errAgain = errors.New("the upload begins anew")

// again makes an error one after which the same call begins a new upload.
func again(format string, args ...any) error {
	return store.MarkTemporary(fmt.Errorf("%w: %w", errAgain, fmt.Errorf(format, args...)))
}

// oldPartSizes are what ButterSink made the parts of its uploads, unless it was
// told otherwise.
var oldPartSizes = []int64{100 << 20, 20 << 20}

// carryOn returns the upload of a key that an interrupted run has left and that
// has stored the most, or nil. Fits says whether parts of a length will do. One
// that is sealed has to be ours: else nobody knows how to make its bytes again.
func (s *Store) carryOn(ctx context.Context, key string, f seal.Form, fits func(partSize int64) bool) (*upload, error) {
	var best *upload
	var most int64
	notes := s.recall(key)
	for at, err := range s.bucket.Uploads(ctx, key) {
		if err != nil {
			return nil, s.cannotCarryOn(key, err)
		}
		j := notes[at.ID]
		if at.Key != key || !s.repeats(ctx, f, j) {
			continue
		}
		u, parts, err := s.parts(ctx, at)
		if err != nil {
			if err = s.cannotCarryOn(key, err); err != nil {
				return nil, err
			}
			continue
		}
		size, ok := s.partSizeOf(parts, j)
		if !ok || !fits(size) {
			continue
		}
		n := int64(0)
		earlier := map[int]Part{}
		for _, p := range parts {
			n += p.Size
			earlier[p.Number] = p
		}
		if n <= most {
			continue
		}
		most = n
		best = &upload{Upload: u, at: at, partSize: size, form: f, carried: true, earlier: earlier, journal: j, noted: j != nil}
	}
	if best == nil {
		return nil, nil
	}
	if best.journal == nil {
		best.journal = &journal{s: s, parts: map[int]partNote{}}
		best.journal.upload = uploadNote{Key: key, ID: best.at.ID, Begun: best.at.Begun, PartSize: best.partSize}
	}
	best.known = maps.Clone(best.journal.parts)
	return best, nil
}

// repeats reports whether what an upload has stored can be made again: sealed, it
// takes what we noted of it, and the same wishes as then.
func (s *Store) repeats(ctx context.Context, f seal.Form, j *journal) bool {
	if f.Plain() || j == nil {
		return f.Plain()
	}
	w, err := seal.NewWriter(ctx, io.Discard, s.o.Seal, j.upload.Secret)
	if err != nil {
		s.log.Info("An interrupted upload cannot be carried on", "object", printable(j.upload.Key), "error", err)
		return false
	}
	w.Abort()
	return true
}

// parts reads what an upload has stored, in order.
func (s *Store) parts(ctx context.Context, at Unfinished) (Upload, []Part, error) {
	u, err := s.bucket.Continue(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	parts, err := u.Parts(ctx)
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(parts, func(p, q Part) int { return cmp.Compare(p.Number, q.Number) })
	return u, parts, nil
}

// cannotCarryOn returns what keeps an upload from being made at all; what only
// keeps an earlier one from being carried on is told.
func (s *Store) cannotCarryOn(key string, err error) error {
	if errors.Is(err, ErrNoUpload) {
		return nil
	}
	if _, ok := errors.AsType[*DeniedError](err); ok {
		s.log.Warn("an interrupted upload cannot be carried on, if there is one", "object", printable(key), "error", err)
		return nil
	}
	return fmt.Errorf("looking for an interrupted upload of %s: %w", printable(key), err)
}

// partSizeOf tells how long the parts of an upload are, where that can be told
// from those that are stored.
func (s *Store) partSizeOf(parts []Part, j *journal) (int64, bool) {
	if len(parts) == 0 {
		return 0, false
	}
	size := parts[0].Size
	switch {
	case j != nil:
		size = j.upload.PartSize
	case len(parts) == 1 && size != s.o.PartSize && !slices.Contains(oldPartSizes, size):
		// It may be the last one, whatever its number.
		return 0, false
	}
	// A shorter one may have been the last of a shorter stream; what is behind it
	// is dropped, or stored again.
	return size, size > 0 && !slices.ContainsFunc(parts, func(p Part) bool { return p.Size > size })
}

// byMD5 reports whether a part will be compared by its MD5, as there is nothing
// better.
func (u *upload) byMD5(number int) bool {
	there, ok := u.earlier[number]
	return ok && !u.differs && !u.proves(there) && isMD5(there.Tag)
}

// proves reports whether there is a note about a part as it is stored.
func (u *upload) proves(p Part) bool {
	n, ok := u.known[p.Number]
	return ok && n.Tag != "" && n.Tag == p.Tag
}

// isMD5 reports whether a tag can be the MD5 of what it names.
func isMD5(tag string) bool {
	return len(tag) == 32 && strings.Trim(tag, "0123456789abcdef") == ""
}

// verdict is what comes of comparing a part.
type verdict int

const (
	absent  verdict = iota // nothing is known to be there
	equal                  // it is there
	another                // something else is, or was about to be
)

// compare compares a part with what is stored under its number.
func (u *upload) compare(p *part) verdict {
	if u.differs {
		return absent
	}
	there, ok := u.earlier[p.number]
	note, noted := u.known[p.number]
	switch {
	case noted && note.Prefix != p.prefix:
		return another
	case !ok:
		return absent
	case there.Size != p.size:
		return another
	case u.proves(there), p.md5 != "" && p.md5 == there.Tag:
		return equal
	case noted:
		// What was sent is the same. Whether it has arrived the tag does not tell, as
		// not all servers take the MD5 for it.
		return absent
	case p.md5 != "":
		return another
	}
	return absent
}

// stored notes that a part is where it belongs.
func (u *upload) stored(p Part, prefix Hash) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts = append(u.parts, p)
	if u.noted {
		if u.form.Cipher != seal.None {
			u.journal.reread(p.Number, prefix) // so that nothing is lost that another run has noted
		}
		_ = u.journal.part(partNote{Number: p.Number, Prefix: prefix, Tag: p.Tag}) // it has been told, and costs storing it again
	}
}

// sent notes that a part is about to be stored. Of an encrypted object everything
// that may ever have left the machine has to be known: see writer.ready. Where
// that cannot be noted, nobody may carry the upload on; if that cannot be seen to
// either, the part has to stay here.
func (u *upload) sent(number int, prefix Hash) error {
	if u.form.Cipher == seal.None {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.noted {
		return nil
	}
	if u.journal.reread(number, prefix) {
		return again("another run has encrypted another stream with the same keys, from part %d on", number)
	}
	if u.journal.part(partNote{Number: number, Prefix: prefix}) == nil {
		return nil
	}
	if err := u.journal.forget(); err != nil {
		return err
	}
	u.noted = false
	return nil
}

// all returns the parts that are stored, in order.
func (u *upload) all() []Part {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.SortedFunc(slices.Values(u.parts), func(p, q Part) int { return cmp.Compare(p.Number, q.Number) })
}
