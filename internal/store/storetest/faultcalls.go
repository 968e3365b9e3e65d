package storetest

import (
	"context"
	"io"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// String returns the inner store's name.
func (f *Fault) String() string { return f.inner.String() }

// Close closes the inner store.
func (f *Fault) Close() error { return f.inner.Close() }

// Location implements store.Located. It is the inner store's.
func (f *Fault) Location() string {
	if s, ok := f.inner.(store.Located); ok {
		return s.Location()
	}
	return f.inner.String()
}

// List implements store.Store.
func (f *Fault) List(ctx context.Context) (*snapshot.Inventory, error) {
	if err := f.before(ctx, List, snapshot.ID{}); err != nil {
		return nil, err
	}
	return f.inner.List(ctx)
}

// Open implements store.Source.
func (f *Fault) Open(ctx context.Context, req store.Request) (io.ReadCloser, error) {
	s, err := inner[store.Source](f, Open)
	if err != nil {
		return nil, err
	}
	r := f.hit(Open, req.Edge.To)
	if r != nil && r.do != nil {
		if err := r.do(ctx); err != nil {
			return nil, err
		}
	}
	in, err := s.Open(ctx, req)
	if err != nil {
		return nil, err
	}
	if r != nil && r.alter != nil {
		in = r.alter(in)
	}
	return &faultStream{ReadCloser: in, f: f, ctx: ctx, id: req.Edge.To}, nil
}

// Create implements store.Sink.
func (f *Fault) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s, err := inner[store.Sink](f, Create)
	if err != nil {
		return nil, err
	}
	if err := f.before(ctx, Create, want.Edge.To); err != nil {
		return nil, err
	}
	w, err := s.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	faulty := &faultWriter{Writer: w, f: f, ctx: ctx, id: want.Edge.To}
	if r, ok := w.(store.Resumer); ok {
		return faultResumer{faulty, r}, nil
	}
	return faulty, nil
}

// Copy implements store.Copier.
func (f *Fault) Copy(ctx context.Context, want store.Want) error {
	s, err := inner[store.Copier](f, Copy)
	if err != nil {
		return err
	}
	if err := f.before(ctx, Copy, want.Edge.To); err != nil {
		return err
	}
	return s.Copy(ctx, want)
}

// Choose implements store.Chooser.
func (f *Fault) Choose(id snapshot.ID, path string) error {
	s, err := inner[store.Chooser](f, "Choose")
	if err != nil {
		return err
	}
	return s.Choose(id, path)
}

// Inspect implements store.Inspector.
func (f *Fault) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	s, err := inner[store.Inspector](f, Inspect)
	if err != nil {
		return nil, err
	}
	if err := f.before(ctx, Inspect, snapshot.ID{}); err != nil {
		return nil, err
	}
	return s.Inspect(ctx, paths...)
}

// Remove implements store.Remover.
func (f *Fault) Remove(ctx context.Context, x snapshot.Snapshot) error {
	s, err := inner[store.Remover](f, Remove)
	if err != nil {
		return err
	}
	if err := f.before(ctx, Remove, x.ID); err != nil {
		return err
	}
	return s.Remove(ctx, x)
}

// RemovePartial implements store.Remover.
func (f *Fault) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	s, err := inner[store.Remover](f, RemovePartial)
	if err != nil {
		return err
	}
	if err := f.before(ctx, RemovePartial, snapshot.ID{}); err != nil {
		return err
	}
	return s.RemovePartial(ctx, p)
}

// Estimate implements store.Measurer.
func (f *Fault) Estimate(ctx context.Context, r store.Request) (snapshot.Size, error) {
	s, err := inner[store.Measurer](f, Estimate)
	if err != nil {
		return snapshot.Size{}, err
	}
	if err := f.before(ctx, Estimate, r.Edge.To); err != nil {
		return snapshot.Size{}, err
	}
	return s.Estimate(ctx, r)
}

// Measure implements store.Measurer.
func (f *Fault) Measure(ctx context.Context, r store.Request) (snapshot.Size, error) {
	s, err := inner[store.Measurer](f, Measure)
	if err != nil {
		return snapshot.Size{}, err
	}
	if err := f.before(ctx, Measure, r.Edge.To); err != nil {
		return snapshot.Size{}, err
	}
	return s.Measure(ctx, r)
}

// Form implements store.Measurer.
func (f *Fault) Form(r store.Request) string {
	if s, err := inner[store.Measurer](f, Measure); err == nil {
		return s.Form(r)
	}
	return ""
}

// KnownSizes implements store.SizeKeeper.
func (f *Fault) KnownSizes(ctx context.Context, paths ...string) (map[snapshot.Edge]int64, error) {
	s, err := inner[store.SizeKeeper](f, KnownSizes)
	if err != nil {
		return nil, err
	}
	if err := f.before(ctx, KnownSizes, snapshot.ID{}); err != nil {
		return nil, err
	}
	return s.KnownSizes(ctx, paths...)
}

// KeepSizes implements store.SizeKeeper.
func (f *Fault) KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error {
	s, err := inner[store.SizeKeeper](f, KeepSizes)
	if err != nil {
		return err
	}
	if err := f.before(ctx, KeepSizes, snapshot.ID{}); err != nil {
		return err
	}
	return s.KeepSizes(ctx, path, sizes)
}

// Prove implements store.Prover.
func (f *Fault) Prove(ctx context.Context, x snapshot.Snapshot) (snapshot.Trust, error) {
	s, err := inner[store.Prover](f, Prove)
	if err != nil {
		return snapshot.Doubtful, err
	}
	if err := f.before(ctx, Prove, x.ID); err != nil {
		return snapshot.Doubtful, err
	}
	return s.Prove(ctx, x)
}

// Lock implements store.Locker.
func (f *Fault) Lock(ctx context.Context, who string) (func() error, error) {
	s, err := inner[store.Locker](f, Lock)
	if err != nil {
		return nil, err
	}
	if err := f.before(ctx, Lock, snapshot.ID{}); err != nil {
		return nil, err
	}
	return s.Lock(ctx, who)
}
