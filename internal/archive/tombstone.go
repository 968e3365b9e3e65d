package archive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// An object that is not to be copied is removed by a tombstone beside it. The
// package doc says what may be relied on.

const (
	tombFormat = 1
	// maxTomb is how many bytes a tombstone may have.
	maxTomb = 4 << 10
)

// tombstone says that the object beside it counts as removed, and which one was
// meant.
type tombstone struct {
	Format int       `json:"format"`
	When   time.Time `json:"when,omitzero"`
	// Size and Tag are those of the object when it was removed.
	Size int64  `json:"size"`
	Tag  string `json:"tag,omitzero"`
	// ID is another one each time that something is removed, so that two
	// tombstones are never the same bytes.
	ID string `json:"id,omitzero"`
}

// stone makes a tombstone for an object.
func (s *Store) stone(o Object) []byte {
	var id [8]byte
	rand.Read(id[:])
	t := tombstone{Format: tombFormat, When: s.now().UTC().Truncate(time.Second), Size: o.Size, Tag: o.Tag, ID: hex.EncodeToString(id[:])}
	if !sensible(t.When) {
		t.When = time.Time{}
	}
	if printable(t.Tag) != t.Tag || len(t.Tag) > maxWords {
		t.Tag = ""
	}
	text, err := json.Marshal(&t)
	if err != nil {
		return nil // nothing in it can fail; an empty one counts too
	}
	return append(text, '\n')
}

// parseTombstone reads what somebody has written beside an object.
func parseTombstone(text []byte) (*tombstone, error) {
	if len(text) > maxTomb {
		return nil, fmt.Errorf("reading a tombstone: it has more than %d bytes", maxTomb)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, fmt.Errorf("reading a tombstone: %w", err)
	}
	if version.Format > tombFormat {
		return nil, &newerError{"the tombstone", version.Format}
	}
	t := new(tombstone)
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("reading a tombstone: %w", err)
	}
	why := ""
	switch {
	case t.Format != tombFormat:
		why = fmt.Sprintf("its format is %d", t.Format)
	case t.Size < 0 || t.Size > maxLength:
		why = fmt.Sprintf("its object has %d bytes", t.Size)
	case !sensible(t.When):
		why = "its time is none that a clock has shown"
	case printable(t.Tag) != t.Tag || len(t.Tag) > maxWords || printable(t.ID) != t.ID || len(t.ID) > maxWords:
		why = "there is a text in it that no program has written"
	}
	if why != "" {
		return nil, fmt.Errorf("reading a tombstone: %s", why)
	}
	t.When = t.When.UTC()
	return t, nil
}

// mark tells two tombstones of one object apart.
type mark struct {
	tag string
	at  int64 // microseconds; where there is no tag
}

func markOf(o Object) mark {
	if o.Tag != "" {
		return mark{tag: o.Tag}
	}
	return mark{at: o.Modified.UnixMicro()}
}

// tomb is what a listing shows beside an object that counts as removed.
type tomb struct {
	key   string // of the object
	stone mark   // zero if there is none
	when  time.Time
	doom  time.Time // since when it is being deleted for good; zero if it is not
	found bool      // the object is there
}

// doomed reports whether somebody may be deleting it for good.
func (t *tomb) doomed(now time.Time) bool { return !t.doom.IsZero() && now.Sub(t.doom) < doomedFor }

// grave is an object that counts as removed.
type grave struct {
	entry
	*tomb
}

// entomb takes a tombstone, or the mark of what is being deleted, that is listed.
func (x *scanner) entomb(o Object, n named) {
	key, _ := cutBeside(o.Key)
	all := x.tombs[n.edge]
	i := slices.IndexFunc(all, func(t *tomb) bool { return t.key == key })
	if i < 0 {
		if x.tombs == nil {
			x.tombs = map[snapshot.Edge][]*tomb{}
		}
		i, all = len(all), append(all, &tomb{key: strings.Clone(key)})
		x.tombs[n.edge] = all
	}
	t := all[i]
	if n.kind == isDoom {
		t.doom = o.Modified
		if t.when.IsZero() {
			t.when = o.Modified
		}
		return
	}
	t.stone, t.when = markOf(Object{Tag: strings.Clone(o.Tag), Modified: o.Modified}), o.Modified
}

// settle takes away from the entries what counts as removed.
func (x *scanner) settle() {
	if len(x.tombs) == 0 {
		return
	}
	of := func(e snapshot.Edge, key func() string) *tomb {
		all := x.tombs[e]
		if len(all) == 0 {
			return nil
		}
		k := key()
		if i := slices.IndexFunc(all, func(t *tomb) bool { return t.key == k }); i >= 0 {
			all[i].found = true
			return all[i]
		}
		return nil
	}
	x.entries = slices.DeleteFunc(x.entries, func(e entry) bool {
		if e.has(flagTrashed) {
			return false
		}
		t := of(e.edge(), func() string { return keyOf(x.prefix, x.paths[e.path], &e) })
		if t != nil {
			x.buried = append(x.buried, grave{e, t})
		}
		return t != nil
	})
	x.hollow = slices.DeleteFunc(x.hollow, func(h hollow) bool { return of(h.edge, func() string { return h.key }) != nil })
	x.last = ""
}

// tombsByKey are those of what is there, and of what is not.
func (x *scanner) tombsByKey() map[string]*tomb {
	if len(x.tombs) == 0 {
		return nil
	}
	all := map[string]*tomb{}
	for _, some := range x.tombs {
		for _, t := range some {
			all[t.key] = t
		}
	}
	return all
}

// bury has an object count as removed.
func (s *Store) bury(ctx context.Context, o Object) error {
	err := s.bucket.Put(ctx, tombKey(o.Key), s.stone(o), true)
	if err != nil && !errors.Is(err, ErrTaken) {
		return fmt.Errorf("marking %s as removed: %w", printable(o.Key), err)
	}
	return nil
}

// errNotBuried says that nothing beside an object has it count as removed.
var errNotBuried = errors.New("it has not been removed")

// beingDeletedError says that something cannot be had back any more.
type beingDeletedError struct {
	key   string
	until time.Time
}

func (e *beingDeletedError) Error() string {
	return fmt.Sprintf("another run is deleting %s for good, or was interrupted at that; if it has ended, try again after %s",
		printable(e.key), e.until.UTC().Format("2006-01-02 15:04 MST"))
}

// unbury has an object that counts as removed be there again. It fails with
// errNotBuried where it does not, and with ErrNoObject where there is none.
//
// Who deletes for good puts its mark and looks for the tombstone then; here the
// tombstone goes, and then the mark is looked for. One of the two sees what the
// other one has done.
func (s *Store) unbury(ctx context.Context, key string) error {
	_, err := s.bucket.Stat(ctx, tombKey(key))
	gone := errors.Is(err, ErrNoObject)
	if err != nil && !gone {
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	marked, err := s.doomed(ctx, key)
	if err != nil {
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	if gone {
		if !marked {
			return errNotBuried
		}
		return s.found(ctx, key)
	}
	text, err := s.another(ctx, key)
	if err != nil {
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	if err := s.bucket.Delete(ctx, tombKey(key)); err != nil {
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	if _, err := s.doomed(ctx, key); err != nil {
		// It is still removed. The tombstone is another one than before: who has seen
		// that one knows nothing of what has come to need the object in between.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
		defer cancel()
		if failed := s.bucket.Put(after, tombKey(key), text, true); failed != nil && !errors.Is(failed, ErrTaken) {
			err = errors.Join(err, failed)
		}
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	return s.found(ctx, key)
}

// another returns a tombstone like the one that an object has.
func (s *Store) another(ctx context.Context, key string) ([]byte, error) {
	text, err := s.small(ctx, tombKey(key), maxTomb)
	if err == nil {
		t, err := parseTombstone(text)
		if err != nil {
			return text, nil // nobody deletes because of that one
		}
		return s.stone(Object{Size: t.Size, Tag: t.Tag}), nil
	}
	if errors.Is(err, ErrNoObject) {
		return nil, errNotBuried
	}
	o, err := s.bucket.Stat(ctx, key)
	if err != nil && !errors.Is(err, ErrNoObject) {
		return nil, err
	}
	return s.stone(o), nil
}

// found makes sure that an object is there.
func (s *Store) found(ctx context.Context, key string) error {
	if _, err := s.bucket.Stat(ctx, key); err != nil {
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	return nil
}

// exhume puts a stream back that has a tombstone, and notes that it is there.
func (s *Store) exhume(ctx context.Context, key string, n named) error {
	if err := s.unbury(ctx, key); err != nil {
		return err
	}
	o, err := s.bucket.Stat(ctx, key)
	if err != nil {
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	_, missing := s.bucket.Stat(ctx, manifestKey(key))
	s.sizesBack(ctx, n.path)
	s.add(&stored{Object: o, Edge: n.edge, Path: n.path, Form: n.form, Described: missing == nil})
	return nil
}

// alive reports whether an object is there and does not count as removed. Without
// doubt, only one that may not be copied is asked about more than once.
//
// The order matters: what is deleted for good has a tombstone, then a mark too,
// and loses both only after it is gone itself.
func (s *Store) alive(ctx context.Context, key string, doubt bool) (bool, error) {
	there := func(key string) (o Object, ok bool, err error) {
		o, err = s.bucket.Stat(ctx, key)
		if errors.Is(err, ErrNoObject) {
			return o, false, nil
		}
		return o, err == nil, err
	}
	if !doubt {
		// Of a class that is not known nobody can tell.
		if o, ok, err := there(key); err != nil || !ok || !o.Fixed && o.Class == "" {
			return ok, err
		}
	}
	for _, sign := range []string{tombKey(key), doomKey(key)} {
		if _, ok, err := there(sign); err != nil || ok {
			return false, err
		}
	}
	_, ok, err := there(key)
	return ok, err
}

// ofTomb returns what the last listing has shown beside the object with a key.
func (s *Store) ofTomb(key string) *tomb {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.tombs[key]
}

// doubtful reports whether some object may count as removed without having been
// moved.
func (s *Store) doubtful() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.fixed || len(s.known.tombs) > 0
}

// clearGround makes sure that an object which is going to be stored does not count
// as removed from the beginning, because of what an interrupted run has left.
func (s *Store) clearGround(ctx context.Context, key string) error {
	t := s.ofTomb(key)
	if t == nil || t.found {
		return nil
	}
	// As in unbury. Who deletes asks for that again when no answer comes, and what has
	// been stored meanwhile would go.
	_, err := s.doomed(ctx, key)
	if err == nil {
		err = s.bucket.Delete(ctx, tombKey(key))
	}
	if err == nil {
		_, err = s.doomed(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("removing what is left of another one that was removed: %w", err)
	}
	return nil
}

// unburied has an object not count as removed, if it does.
func (s *Store) unburied(ctx context.Context, key string) error {
	removed, err := s.isRemoved(ctx, key)
	if err != nil || !removed {
		return err
	}
	if err := s.unbury(ctx, key); !errors.Is(err, errNotBuried) {
		return err
	}
	return nil
}

// isRemoved reports whether an object counts as removed. Without doubt, only its
// tombstone is looked for: nobody is deleting what had none.
func (s *Store) isRemoved(ctx context.Context, key string) (bool, error) {
	signs := []string{tombKey(key)}
	if s.doubtful() {
		signs = append(signs, doomKey(key))
	}
	for _, sign := range signs {
		if _, err := s.bucket.Stat(ctx, sign); !errors.Is(err, ErrNoObject) {
			return err == nil, err
		}
	}
	return false, nil
}

// dropStones removes tombstones of objects that are not there. They do no harm.
func (s *Store) dropStones(ctx context.Context, c *catalogue) {
	for key, t := range c.tombs {
		if t.found || !s.ours(strings.TrimPrefix(key, "/")) || t.doomed(s.now()) {
			continue
		}
		for _, sign := range []string{tombKey(key), doomKey(key)} {
			if err := s.bucket.Delete(ctx, sign); err != nil {
				s.log.Debug("a tombstone without a grave cannot be removed", "object", printable(sign), "error", err)
				return
			}
		}
	}
}
