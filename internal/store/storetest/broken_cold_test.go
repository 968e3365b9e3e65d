package storetest

import (
	"context"
	"io"
	"slices"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Stores that each break a promise about cold storage.
type (
	asksAnyway    struct{ *Memory }
	asksAgain     struct{ *Memory }
	asksForAll    struct{ *Memory }
	hurries       struct{ *Memory }
	reordersThaws struct{ *Memory }
	dropsThaws    struct{ *Memory }
	keepsForEver  struct{ *Memory }
	givesUpEarly  struct{ *Memory }
	thawsForEver  struct{ *Memory }
	silentThaws   struct{ *Memory }
	vagueCold     struct{ *Memory }
)

func (s asksAnyway) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	o.Ask = true
	return s.Memory.Thaw(ctx, edges, o)
}

func (s asksAgain) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	for _, e := range edges {
		if s.cold[e] != nil && o.Ask {
			s.Freeze(s.cold[e].class, e)
		}
	}
	return s.Memory.Thaw(ctx, edges, o)
}

func (s asksForAll) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	for e := range s.cold {
		if _, err := s.Memory.Thaw(ctx, []snapshot.Edge{e}, o); err != nil {
			return nil, err
		}
	}
	return s.Memory.Thaw(ctx, edges, o)
}

func (s hurries) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	if _, ok := s.cold[r.Edge]; ok {
		s.mu.Lock()
		s.cold = map[snapshot.Edge]*ice{}
		s.mu.Unlock()
	}
	return s.Memory.Open(ctx, r)
}

func (s reordersThaws) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	all, err := s.Memory.Thaw(ctx, edges, o)
	slices.Reverse(all)
	return all, err
}

func (s dropsThaws) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	all, err := s.Memory.Thaw(ctx, edges, o)
	return slices.DeleteFunc(all, func(t store.Thawing) bool { return t.State == store.Pending }), err
}

func (s keepsForEver) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	o.Days = 10_000
	return s.Memory.Thaw(ctx, edges, o)
}

func (s givesUpEarly) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	for i, e := range edges {
		if _, ok := s.cold[e]; !ok && s.find(e.To) == nil {
			_, err := s.Memory.Thaw(ctx, edges[i:i+1], o)
			all, _ := s.Memory.Thaw(ctx, edges, store.ThawOptions{})
			return all, err
		}
	}
	return s.Memory.Thaw(ctx, edges, o)
}

func (s thawsForEver) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	return s.Memory.Thaw(context.WithoutCancel(ctx), edges, o)
}

func (s silentThaws) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	all, _ := s.Memory.Thaw(ctx, edges, o)
	return all, ctx.Err()
}

func (s vagueCold) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	in, err := s.Memory.Open(ctx, r)
	if err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return in, nil
}

func TestSuiteCatchesWhatIsBadAboutColdStorage(t *testing.T) {
	catches(t, []brokenStore{
		{func(m *Memory) store.Store { return &asksAnyway{m} }, "cold/looking asks for nothing"},
		{func(m *Memory) store.Store { return &asksAgain{m} }, "cold/until it is readable"},
		{func(m *Memory) store.Store { return &asksForAll{m} }, "cold/only what is asked for"},
		{func(m *Memory) store.Store { return &hurries{m} }, "cold/until it is readable"},
		{func(m *Memory) store.Store { return &reordersThaws{m} }, "cold/only what is asked for"},
		{func(m *Memory) store.Store { return &reordersThaws{m} }, "cold/nothing is"},
		{func(m *Memory) store.Store { return &dropsThaws{m} }, "cold/until it is readable"},
		{func(m *Memory) store.Store { return &keepsForEver{m} }, "cold/expires"},
		{func(m *Memory) store.Store { return &givesUpEarly{m} }, "cold/says what it cannot ask for"},
		{func(m *Memory) store.Store { return &thawsForEver{m} }, "cold/says what it cannot ask for"},
		{func(m *Memory) store.Store { return &silentThaws{m} }, "cold/says what it cannot ask for"},
		{func(m *Memory) store.Store { return &vagueCold{m} }, "cold/until it is readable"},
	})
}
