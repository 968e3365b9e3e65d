package storetest

import (
	"context"
	"iter"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Thaw implements store.Thawer. Of an inner store in which nothing can be cold,
// everything can be read.
func (f *Fault) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	if err := f.before(ctx, Thaw, snapshot.ID{}); err != nil {
		return nil, err
	}
	if s, ok := f.inner.(store.Thawer); ok {
		return s.Thaw(ctx, edges, o)
	}
	var all []store.Thawing
	for _, e := range edges {
		all = append(all, store.Thawing{Edge: e, State: store.Readable})
	}
	return all, nil
}

// Tariff implements store.Billed.
func (f *Fault) Tariff() *store.Tariff {
	if s, ok := f.inner.(store.Billed); ok {
		return s.Tariff()
	}
	return nil
}

// Holdings implements store.Billed.
func (f *Fault) Holdings(ctx context.Context) iter.Seq2[store.Holding, error] {
	return func(yield func(store.Holding, error) bool) {
		s, err := inner[store.Billed](f, Holdings)
		if err == nil {
			err = f.before(ctx, Holdings, snapshot.ID{})
		}
		if err != nil {
			yield(store.Holding{}, err)
			return
		}
		s.Holdings(ctx)(yield)
	}
}
