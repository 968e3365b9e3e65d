package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// continues is a Memory that leaves out the beginnings of streams. What is set
// makes it do so badly.
type continues struct {
	*Memory
	believes   bool // takes every place for right
	fromStart  bool // leaves nothing out
	noState    bool
	staleState bool // the state is that of another place
	vague      bool // its errors say nothing
	deaf       bool // to its context
	noClones   bool
	torn       bool // closing is an error
}

func (s *continues) OpenAfter(ctx context.Context, r store.Request, after store.Mark) (io.ReadCloser, []byte, error) {
	if s.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if s.noClones {
		r.Clones = []snapshot.ID{{1}}
	}
	in, err := s.Memory.Open(ctx, r)
	if err != nil && s.vague {
		err = errors.New("something is wrong")
	}
	if err != nil {
		return nil, nil, err
	}
	raw, err := io.ReadAll(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, nil, err
	}
	reader := stream.NewReader(bytes.NewReader(raw))
	for err == nil && reader.Stats().Bytes < after.Offset {
		_, err = reader.NextRunTo(after.Offset)
	}
	if store.Mark(reader.Mark()) != after && !s.believes {
		return nil, nil, fmt.Errorf("%w here", store.ErrAnother)
	}
	rest, state := raw[min(reader.Mark().Offset, int64(len(raw))):], reader.State()
	switch {
	case s.fromStart:
		rest = raw
	case s.noState:
		state = nil
	case s.staleState:
		_, _ = reader.NextRun()
		state = reader.State()
	}
	out := io.NopCloser(bytes.NewReader(rest))
	if s.torn {
		return struct {
			io.Reader
			io.Closer
		}{out, closer(func() error { return errors.New("it does not want to") })}, state, nil
	}
	return out, state, nil
}

type closer func() error

func (c closer) Close() error { return c() }

func TestContinuing(t *testing.T) {
	for _, c := range continueCases {
		t.Run(c.Name, func(t *testing.T) {
			c.Run(t, memoryHarness(func(m *Memory) store.Store { return &continues{Memory: m} }))
		})
	}
}

func TestSuiteCatchesWhatContinuesBadly(t *testing.T) {
	catches(t, []brokenStore{
		{func(m *Memory) store.Store { return &continues{Memory: m, believes: true} }, "continue/another stream"},
		{func(m *Memory) store.Store { return &continues{Memory: m, fromStart: true} }, "continue/the rest"},
		{func(m *Memory) store.Store { return &continues{Memory: m, fromStart: true} }, "continue/clone sources"},
		{func(m *Memory) store.Store { return &continues{Memory: m, noState: true} }, "continue/the rest"},
		{func(m *Memory) store.Store { return &continues{Memory: m, staleState: true} }, "continue/the rest"},
		{func(m *Memory) store.Store { return &continues{Memory: m, vague: true} }, "continue/not there"},
		{func(m *Memory) store.Store { return &continues{Memory: m, deaf: true} }, "continue/cancelled"},
		{func(m *Memory) store.Store { return &continues{Memory: m, noClones: true} }, "continue/clone sources"},
		{func(m *Memory) store.Store { return &continues{Memory: m, torn: true} }, "continue/close early"},
	})
}
