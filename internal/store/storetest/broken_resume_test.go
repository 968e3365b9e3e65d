package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Stores that each break a promise about interrupted transfers, requests, or
// sizes.
type (
	resumesAny      struct{ *Memory }
	neverFresh      struct{ *Memory }
	resumesElse     struct{ *Memory }
	resumesTorn     struct{ *Memory }
	resumesAhead    struct{ *Memory }
	losesPart       struct{ *Memory }
	keepsCheckpoint struct{ *Memory }
	showsTorn       struct{ *Memory }
	hidesTorn       struct{ *Memory }
	resumesRemoved  struct {
		*Memory
		kept map[string]checkpoint
	}
	endsResumed   struct{ *Memory }
	alwaysResumes struct{ *Memory }
	holdsOnce     struct {
		*Memory
		seen map[snapshot.ID]bool
	}
	anyClone      struct{ *Memory }
	shortOfClones struct{ *Memory }
	noForm        struct{ *Memory }
	fickleForm    struct {
		*Memory
		n *int
	}
	oneWriter    struct{ *Memory }
	mixesWriters struct {
		*Memory
		first *io.Writer
	}
	forgetsSizes  struct{ *Memory }
	replacesSizes struct{ *Memory }
	mixesSizes    struct{ *Memory }
	keepsAnywhere struct{ *Memory }
	keepsSizes    struct {
		*Memory
		all map[snapshot.Edge]int64
	}
	sizesForEver struct{ *Memory }
)

// alter changes what was left at a path, if there is anything.
func (m *Memory) alter(path string, change func(c *checkpoint)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.checkpoints[path]; ok {
		change(&c)
		m.checkpoints[path] = c
	}
}

func (s resumesAny) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.alter(want.Path, func(c *checkpoint) { c.want = want })
	return s.Memory.Create(ctx, want)
}

func (s neverFresh) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	want.Fresh = false
	return s.Memory.Create(ctx, want)
}

func (s resumesElse) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.alter(want.Path, func(c *checkpoint) { c.mark.Digest[7] ^= 1 })
	return s.Memory.Create(ctx, want)
}

func (s resumesTorn) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.alter(want.Path, func(c *checkpoint) { c.mark.Offset-- })
	return s.Memory.Create(ctx, want)
}

func (s resumesAhead) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.alter(want.Path, func(c *checkpoint) { c.mark.Offset += 1 << 20 })
	return s.Memory.Create(ctx, want)
}

func (s losesPart) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.alter(want.Path, func(c *checkpoint) { c.raw = c.raw[:cut(c.raw, 2)] })
	return s.Memory.Create(ctx, want)
}

func (s keepsCheckpoint) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return resumingFunc{w.(store.Resumer), func(ctx context.Context) error {
		c, ok := s.checkpoints[want.Path]
		err := w.Commit(ctx)
		if ok {
			s.checkpoints[want.Path] = c
		}
		return err
	}}, nil
}

// resumingFunc is a Resumer with another Commit.
type resumingFunc struct {
	store.Resumer
	commit func(ctx context.Context) error
}

func (w resumingFunc) Commit(ctx context.Context) error { return w.commit(ctx) }

func (s showsTorn) List(ctx context.Context) (*snapshot.Inventory, error) {
	inv, err := s.Memory.List(ctx)
	for p, c := range s.checkpoints {
		inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{ID: c.want.Edge.To, Path: p + snapshot.PartSuffix})
	}
	return inv, err
}

func (s hidesTorn) List(ctx context.Context) (*snapshot.Inventory, error) {
	inv, err := s.Memory.List(ctx)
	for i := range inv.Partials {
		inv.Partials[i].Ours = false
	}
	return inv, err
}

func (s resumesRemoved) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	maps.Copy(s.kept, s.checkpoints)
	return s.Memory.RemovePartial(ctx, p)
}

func (s resumesRemoved) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	maps.Copy(s.checkpoints, s.kept)
	return s.Memory.Create(ctx, want)
}

func (s endsResumed) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return endsAndResumes{&addsEnd{Writer: w}, w.(store.Resumer)}, nil
}

type endsAndResumes struct {
	*addsEnd
	inner store.Resumer
}

func (w endsAndResumes) Resumed() store.Mark { return w.inner.Resumed() }

func (s anyClone) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	return s.Memory.Open(ctx, store.Request{Edge: r.Edge})
}

func (s shortOfClones) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	f := NewFault(s.Memory)
	if len(r.Clones) > 0 {
		f.On(Open).Cut(300)
	}
	return f.Open(ctx, r)
}

func (s noForm) Form(store.Request) string { return "" }

func (s fickleForm) Form(store.Request) string {
	*s.n++
	return fmt.Sprint("form ", *s.n)
}

func (s oneWriter) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.mu.Lock()
	n := len(s.writing)
	s.mu.Unlock()
	if n > 0 {
		return nil, errors.New("one at a time, please")
	}
	return s.Memory.Create(ctx, want)
}

// Create gives a writer whose bytes go to the one that was made first, as long
// as that is open.
func (s mixesWriters) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.mu.Lock()
	alone := len(s.writing) == 0
	s.mu.Unlock()
	w, err := s.Memory.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if alone {
		*s.first = w
	}
	return mixed{w, *s.first}, nil
}

type mixed struct {
	store.Writer
	to io.Writer
}

func (w mixed) Write(p []byte) (int, error) { return w.to.Write(p) }

func (s alwaysResumes) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := s.Memory.Create(ctx, want)
	if err != nil {
		return nil, err
	}
	return resumesAt{w.(store.Resumer)}, nil
}

type resumesAt struct{ store.Resumer }

func (resumesAt) Resumed() store.Mark { return store.Mark{Offset: 1000, Commands: 3} }

// Create makes no snapshot that was made before, at whatever path.
func (s holdsOnce) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	s.mu.Lock()
	again := s.seen[want.Edge.To]
	s.seen[want.Edge.To] = true
	s.mu.Unlock()
	if again {
		return nil, errors.New("it is there already")
	}
	return s.Memory.Create(ctx, want)
}

func (s forgetsSizes) KeepSizes(ctx context.Context, path string, _ map[snapshot.Edge]int64) error {
	return s.Memory.KeepSizes(ctx, path, nil)
}

func (s replacesSizes) KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error {
	delete(s.sizes, path)
	return s.Memory.KeepSizes(ctx, path, sizes)
}

func (s mixesSizes) KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error {
	for _, other := range s.sizes {
		for e := range other {
			other[e]++
		}
	}
	return s.Memory.KeepSizes(ctx, path, sizes)
}

func (s keepsAnywhere) KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error {
	if s.inside(path) != nil {
		path = "a"
	}
	return s.Memory.KeepSizes(ctx, path, sizes)
}

func (s keepsSizes) KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error {
	maps.Copy(s.all, sizes)
	return s.Memory.KeepSizes(ctx, path, sizes)
}

func (s keepsSizes) KnownSizes(ctx context.Context, _ ...string) (map[snapshot.Edge]int64, error) {
	return maps.Clone(s.all), ctx.Err()
}

func (s sizesForEver) KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error {
	return s.Memory.KeepSizes(context.WithoutCancel(ctx), path, sizes)
}

func TestSuiteCatchesWhatResumesBadly(t *testing.T) {
	// resuming makes checkpoints after every command.
	resuming := func(m *Memory) *Memory { m.SetCheckpoints(1); return m }
	catches(t, []brokenStore{
		{func(m *Memory) store.Store { return &resumesAny{resuming(m)} }, "resume/another edge"},
		{func(m *Memory) store.Store { return &neverFresh{resuming(m)} }, "resume/fresh"},
		{func(m *Memory) store.Store { return &resumesElse{resuming(m)} }, "resume/carries on"},
		{func(m *Memory) store.Store { return &resumesElse{resuming(m)} }, "resume/again and again"},
		{func(m *Memory) store.Store { return &resumesTorn{resuming(m)} }, "resume/carries on"},
		{func(m *Memory) store.Store { return &resumesAhead{resuming(m)} }, "resume/again and again"},
		{func(m *Memory) store.Store { return &losesPart{resuming(m)} }, "resume/carries on"},
		{func(m *Memory) store.Store { return &keepsCheckpoint{resuming(m)} }, "resume/not after Commit"},
		{func(m *Memory) store.Store { return &keepsCheckpoint{resuming(m)} }, "resume/carries on"},
		{func(m *Memory) store.Store { return &showsTorn{resuming(m)} }, "resume/nothing looks whole"},
		{func(m *Memory) store.Store { return &hidesTorn{resuming(m)} }, "resume/nothing looks whole"},
		{func(m *Memory) store.Store { return &hidesTorn{resuming(m)} }, "close/abandons"},
		{func(m *Memory) store.Store { return &resumesRemoved{resuming(m), map[string]checkpoint{}} }, "resume/nothing looks whole"},
		{func(m *Memory) store.Store { return &endsResumed{resuming(m)} }, "resume/no END"},
		{func(m *Memory) store.Store { return &alwaysResumes{resuming(m)} }, "resume/nothing to carry on"},
		{func(m *Memory) store.Store { return &anyClone{m} }, "open/clone source not there"},
		{func(m *Memory) store.Store { return &shortOfClones{m} }, "open/clone sources"},
		{func(m *Memory) store.Store { return &noForm{m} }, "measure/form"},
		{func(m *Memory) store.Store { return &fickleForm{m, new(int)} }, "measure/form"},
		{func(m *Memory) store.Store { return &oneWriter{m} }, "create/two at a time"},
		{func(m *Memory) store.Store { return &mixesWriters{m, new(io.Writer)} }, "create/two at a time"},
		{func(m *Memory) store.Store { return &holdsOnce{m, map[snapshot.ID]bool{}} }, "create/several side by side"},
		{func(m *Memory) store.Store { return &forgetsSizes{m} }, "sizes/kept"},
		{func(m *Memory) store.Store { return &replacesSizes{m} }, "sizes/kept"},
		{func(m *Memory) store.Store { return &mixesSizes{m} }, "sizes/kept"},
		{func(m *Memory) store.Store { return &keepsAnywhere{m} }, "sizes/bad paths"},
		{func(m *Memory) store.Store { return &keepsSizes{m, map[snapshot.Edge]int64{}} }, "sizes/go with the snapshot"},
		{func(m *Memory) store.Store { return &sizesForEver{m} }, "sizes/cancelled"},
	})
}
