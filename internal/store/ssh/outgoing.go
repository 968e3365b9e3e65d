package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
	"github.com/buttersink/buttersink/internal/stream"
)

// copyBuffer is how much of a stream is handed on at once.
const copyBuffer = 256 << 10

// open sends a stream, or what of it follows a place. It goes out as the store
// makes it: the client checks it.
func (s *server) open(ctx context.Context, call *wire.Call, q *request) (_ answer, err error) {
	src, err := able[store.Source](s, q)
	if err != nil {
		return answer{}, err
	}
	after, err := q.After.mark()
	if err != nil {
		return answer{}, err
	}
	if err := s.permit(ctx, q); err != nil {
		return answer{}, err
	}
	in, state, err := s.begin(ctx, src, q.wanted(), after)
	if err != nil {
		return answer{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := tell(ctx, call, answer{State: state}); err != nil {
		return answer{}, err
	}
	return answer{}, pour(ctx, call, in)
}

// pour sends what is read as the data of a call.
func pour(ctx context.Context, call *wire.Call, in io.Reader) error {
	buf := make([]byte, copyBuffer)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := call.Write(buf[:n]); err != nil {
				return fmt.Errorf("sending: %w", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// begin opens a stream. Where a place in it is asked for, in gives what follows
// it, and state is that of a reader which has come to it.
func (s *server) begin(ctx context.Context, src store.Source, r store.Request, after store.Mark) (in io.ReadCloser, state []byte, err error) {
	if after == (store.Mark{}) {
		in, err = src.Open(ctx, r)
		return in, nil, err
	}
	if c, ok := src.(store.Continuer); ok {
		return c.OpenAfter(ctx, r, after)
	}
	if in, err = src.Open(ctx, r); err != nil {
		return nil, nil, err
	}
	if state, err = skip(ctx, in, after); err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, state, nil
}

// skip reads a stream exactly up to a place, and returns the state of a reader
// that has come to it. The error is store.ErrAnother if the place is none of this
// stream's.
func skip(ctx context.Context, in io.Reader, after store.Mark) ([]byte, error) {
	before := &io.LimitedReader{R: in, N: after.Offset}
	r := stream.NewReader(before)
	for r.Stats().Bytes < after.Offset {
		_, err := r.NextRunTo(after.Offset)
		if errors.Is(err, io.EOF) || before.N == 0 && errors.Is(err, stream.ErrTruncated) {
			return nil, fmt.Errorf("skipping %d bytes: %w", after.Offset, store.ErrAnother)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("comparing with what the receiver has: %w", err)
		}
	}
	if store.Mark(r.Mark()) != after {
		return nil, fmt.Errorf("skipping %d bytes: %w", after.Offset, store.ErrAnother)
	}
	return r.State(), nil
}

// wanted is the request to the store that a call stands for.
func (q *request) wanted() store.Request {
	return store.Request{Edge: q.Edge.edge(), Clones: q.Clones}
}
