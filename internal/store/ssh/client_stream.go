package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// Open has the server make a stream.
func (s *Store) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	in, _, err := s.open(ctx, r, nil)
	return in, err
}

// OpenAfter has the server make a stream, compare what is before a place, and send
// the rest.
func (s *Store) OpenAfter(ctx context.Context, r store.Request, after store.Mark) (io.ReadCloser, []byte, error) {
	in, state, err := s.open(ctx, r, markOf(after))
	if err == nil && len(state) == 0 {
		return nil, nil, errors.Join(fmt.Errorf("%s does not say how the rest of the stream is to be read", s.host), in.Close())
	}
	return in, state, err
}

func (s *Store) open(ctx context.Context, r store.Request, after *mark) (io.ReadCloser, []byte, error) {
	n, err := s.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, unwatch, err := n.call(ctx, request{Call: callOpen, Edge: edgeOf(r.Edge), Clones: r.Clones, After: after})
	if err != nil {
		return nil, nil, err
	}
	a, err := n.answer(ctx, c)
	if err != nil {
		unwatch()
		c.Cancel()
		return nil, nil, err
	}
	return &reader{ctx: ctx, session: n, call: c, unwatch: unwatch}, a.State, nil
}

// reader is a stream that the server sends.
type reader struct {
	ctx     context.Context
	session *session
	call    *wire.Call
	unwatch func() bool

	mu  sync.Mutex // guards err: Close may come from elsewhere
	err error
}

// Read reads the stream. Its end is io.EOF only where the server has said that it
// has sent all of it.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ended(); err != nil {
		return 0, err
	}
	n, err := r.call.Read(p)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		if _, err = r.session.answer(r.ctx, r.call); err == nil {
			err = io.EOF
		}
	} else {
		err = r.session.failed(r.ctx, err)
	}
	return n, r.end(err)
}

func (r *reader) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// end notes how the stream ended, and returns what it ended with first.
func (r *reader) end(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		r.unwatch()
		r.call.Cancel()
	}
	return r.err
}

// errReaderClosed is what Read answers after Close.
var errReaderClosed = errors.New("reading a stream: it is closed")

// Close has the server stop.
func (r *reader) Close() error {
	_ = r.end(errReaderClosed)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errReaderClosed
	return nil
}
