package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	// noteThaw is what the name of a note begins with that says when an object has
	// been asked of cold storage; its key ends it.
	noteThaw = "thaw "
	// thawKept is how long such a note is of any interest.
	thawKept = 90 * 24 * time.Hour
)

// thawNote is what is noted of an object that was asked for.
type thawNote struct {
	Asked time.Time  `json:"asked"`
	Tier  store.Tier `json:"tier,omitzero"`
}

// Thaw implements store.Thawer. Objects in the usual place of their bucket are
// readable; it asks nobody about them.
func (s *Store) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	o.Tier = cmp.Or(o.Tier, store.Bulk)
	o.Days = cmp.Or(o.Days, 7)
	t := &thawing{s: s, states: map[string]store.Thawing{}}
	all := make([][]*stored, len(edges))
	var look, ask []string
	for i, e := range edges {
		all[i] = t.candidates(e)
		switch n := len(all[i]); {
		case n == 0:
			return nil, fmt.Errorf("%s holds no stream of %s: %w", s, edgeText(e), store.ErrNotFound)
		case n == 1 && o.Ask:
			ask = append(ask, t.unknown(all[i])...)
		default:
			look = append(look, t.unknown(all[i])...)
		}
	}
	failed := t.tell(ctx, look, store.ThawOptions{Tier: o.Tier, Days: o.Days})
	if o.Ask {
		for _, some := range all {
			// Of several, one is asked for that is cold, if none is on its way.
			if best := t.best(some); len(some) > 1 && t.states[best.Key].State == store.Cold {
				ask = append(ask, best.Key)
			}
		}
		slices.Sort(ask)
		failed = errors.Join(failed, t.tell(ctx, slices.Compact(ask), o))
	}
	t.remember()
	answers := make([]store.Thawing, len(edges))
	for i, e := range edges {
		best := t.best(all[i])
		answers[i] = t.states[best.Key]
		answers[i].Edge, answers[i].Path, answers[i].Object = e, best.Path, best.Key
		answers[i].Bytes, answers[i].Class = best.Size, cmp.Or(answers[i].Class, best.Class)
	}
	if failed != nil {
		failed = fmt.Errorf("thawing in %s: %w", s, failed)
	}
	return answers, failed
}

// thawing is one call of Thaw.
type thawing struct {
	s      *Store
	states map[string]store.Thawing // by key
}

// candidates are the objects that hold the stream of an edge. Those in the usual
// place are enough, where there are any.
func (t *thawing) candidates(e snapshot.Edge) []*stored {
	all := t.s.of(e)
	for _, o := range all {
		if o.Class == "" && !o.Cold {
			t.states[o.Key] = store.Thawing{State: store.Readable}
			return []*stored{o}
		}
	}
	return all
}

// unknown are the keys of objects of which the state is not known.
func (t *thawing) unknown(all []*stored) (keys []string) {
	for _, o := range all {
		if _, known := t.states[o.Key]; !known {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

// tell asks the bucket how things stand with objects.
func (t *thawing) tell(ctx context.Context, keys []string, o store.ThawOptions) error {
	if len(keys) == 0 {
		return nil
	}
	b, ok := t.s.bucket.(Thawer)
	if !ok {
		return t.look(ctx, keys, o.Ask)
	}
	told, err := b.Thaw(ctx, keys, o)
	for i, key := range keys {
		if i < len(told) {
			t.states[key] = told[i]
		}
		if t.states[key].State == "" {
			// Nothing is known of it, so it must not be taken for readable.
			it := t.states[key]
			it.State = store.Cold
			t.states[key] = it
		}
	}
	if err == nil && len(told) != len(keys) {
		err = fmt.Errorf("%s has told of %d objects in place of %d", t.s.bucket, len(told), len(keys))
	}
	if errors.Is(err, ErrNoObject) {
		err = fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	return err
}

// look does without a bucket that can be asked for anything.
func (t *thawing) look(ctx context.Context, keys []string, ask bool) error {
	var failed []error
	for _, key := range keys {
		o, err := t.s.bucket.Stat(ctx, key)
		state := store.Thawing{State: store.Readable, Class: o.Class}
		switch {
		case errors.Is(err, ErrNoObject):
			err = fmt.Errorf("%w: %w", store.ErrNotFound, err)
			state.State = store.Cold
		case err != nil:
			state.State = store.Cold
		case o.Cold:
			state.State = store.Cold
			if ask {
				err = fmt.Errorf("%s is in cold storage (%s), and %s cannot be asked for it", printable(key), o.Class, t.s.bucket)
			}
		}
		t.states[key] = state
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// best is the object that can be read first: of those that can be read as soon,
// the smallest.
func (t *thawing) best(all []*stored) *stored {
	order := []store.ThawState{store.Readable, store.Pending, store.Cold}
	rank := func(o *stored) int { return slices.Index(order, t.states[o.Key].State) }
	return slices.MinFunc(all, func(a, b *stored) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Size, b.Size), strings.Compare(a.Key, b.Key))
	})
}

// remember notes what has been asked for now, and adds what was noted then.
func (t *thawing) remember() {
	s := t.s
	if s.o.Notes == nil {
		return
	}
	now := s.now()
	notes := map[string]thawNote{}
	for name, text := range s.allNotes() {
		key, ok := strings.CutPrefix(name, noteThaw)
		if !ok {
			continue
		}
		var n thawNote
		if err := json.Unmarshal(text, &n); err != nil || now.Sub(n.Asked) > thawKept {
			s.forgetNote(name)
			continue
		}
		notes[key] = n
	}
	for key, it := range t.states {
		n, noted := notes[key]
		switch {
		case it.Fresh:
			if it.Asked.IsZero() {
				it.Asked = now
			}
			text, err := json.Marshal(thawNote{it.Asked.UTC().Truncate(time.Second), it.Tier})
			if err == nil {
				err = s.o.Notes.Keep(s.notePlace(), noteThaw+key, text)
			}
			if err != nil {
				s.log.Debug("that an object was asked for cannot be noted", "object", printable(key), "error", err)
			}
		case noted && it.State == store.Cold:
			s.forgetNote(noteThaw + key) // the copy of then is gone
		case noted && it.Asked.IsZero():
			it.Asked, it.Tier = n.Asked, cmp.Or(it.Tier, n.Tier)
		}
		t.states[key] = it
	}
}
