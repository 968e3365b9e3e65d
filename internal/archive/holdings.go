package archive

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/buttersink/buttersink/internal/store"
)

// Tariff implements store.Billed.
func (s *Store) Tariff() *store.Tariff {
	b, ok := s.bucket.(Billed)
	if !ok {
		return nil
	}
	told := b.Tariff()
	if told == nil {
		return nil
	}
	t := *told
	t.PartSize = s.partSize()
	return &t
}

// Holdings implements store.Billed. It takes what listing takes, and lists what
// is below the prefix, and the trash of that, once.
func (s *Store) Holdings(ctx context.Context) iter.Seq2[store.Holding, error] {
	return func(yield func(store.Holding, error) bool) {
		if err := s.holdings(ctx, func(h store.Holding) bool { return yield(h, nil) }); err != nil {
			yield(store.Holding{}, fmt.Errorf("listing what %s holds: %w", s, err))
		}
	}
}

// holdings gives streams last: what counts as removed is known only when all has
// been listed.
func (s *Store) holdings(ctx context.Context, each func(store.Holding) bool) error {
	x := newScanner(s.o.Prefix)
	prefixes := []string{below(s.o.Prefix, "")}
	if slashed := s.slashed(); slashed != "" {
		prefixes = append(prefixes, slashed)
	}
	for i, prefix := range prefixes {
		for o, err := range s.bucket.List(ctx, prefix) {
			if i > 0 && denied(err) {
				break
			}
			if err != nil {
				return err
			}
			n := parseKey(s.o.Prefix, o.Key)
			if s.o.Prefix == "" && inFolder(strings.TrimPrefix(o.Key, "/"), trashFolder) {
				continue // it comes later
			}
			x.see(o, false)
			if n.kind == isObject && o.Size > 0 {
				continue
			}
			if !each(holding(o, n.kind == isTomb || n.kind == isDoom)) {
				return nil
			}
		}
	}
	x.settle()
	for i := range x.entries {
		if !each(streamHolding(x.object(&x.entries[i]), false)) {
			return nil
		}
	}
	for i := range x.buried {
		if !each(streamHolding(x.object(&x.buried[i].entry), true)) {
			return nil
		}
	}
	for _, prefix := range s.trashPrefixes("") {
		for o, err := range s.bucket.List(ctx, prefix) {
			if denied(err) && prefix != trashKey(below(s.o.Prefix, ""), 1) {
				break
			}
			if err != nil {
				return err
			}
			h := holding(o, true)
			key, _ := trashed(o.Key)
			if n := parseKey(s.o.Prefix, key); n.kind == isObject && o.Size > 0 {
				h.Edge, h.Path = n.edge, n.path
			}
			if !each(h) {
				return nil
			}
		}
	}
	return nil
}

func holding(o Object, trashed bool) store.Holding {
	return store.Holding{Key: strings.Clone(o.Key), Class: strings.Clone(o.Class), Bytes: o.Size, Since: o.Modified, Trashed: trashed}
}

func streamHolding(o *stored, trashed bool) store.Holding {
	h := holding(o.Object, trashed)
	h.Edge, h.Path = o.Edge, o.Path
	return h
}
