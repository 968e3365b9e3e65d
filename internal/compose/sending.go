package compose

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// patience is how long Close waits for a disk.
const patience = 10 * time.Second

// sending is a stream under way, as its reader sees it.
type sending struct {
	op     string
	ctx    context.Context
	cancel context.CancelCauseFunc
	tree   *btrfs.Contents

	ordered  chan *batch // in the order of the stream
	free     chan *batch
	finished chan struct{} // closed when nobody uses tree but Read

	reading sync.Mutex // held while the fields below are used
	batch   *batch     // what is being read
	rest    []byte     // of it
	failed  error      // what every further Read returns

	closing sync.Once
	closed  error
}

// start begins to make the stream of a tree, which it takes over.
func start(ctx context.Context, op string, tree *btrfs.Contents, o Options) *sending {
	// Each worker has one at work, and one is waiting on either side.
	batches := 2*o.Workers + 2
	s := &sending{
		op: op, tree: tree,
		ordered: make(chan *batch, batches+1), free: make(chan *batch, batches), finished: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	work := make(chan *batch, batches)
	made := 0
	next := func() (*batch, error) {
		if s.ctx.Err() != nil {
			return nil, errStopped
		}
		select {
		case b := <-s.free:
			b.reset()
			return b, nil
		default:
		}
		if made < batches {
			made++
			return &batch{done: make(chan struct{}, 1)}, nil
		}
		select {
		case b := <-s.free:
			b.reset()
			return b, nil
		case <-s.ctx.Done():
			return nil, errStopped
		}
	}
	deliver := func(b *batch) (*batch, error) {
		s.ordered <- b
		work <- b
		if b.last {
			return nil, nil
		}
		return next()
	}
	var workers sync.WaitGroup
	for range o.Workers {
		w := worker{ctx: s.ctx, data: tree.Data(), protocol: o.Protocol}
		workers.Go(func() { w.work(work) })
	}
	go func() {
		defer close(s.finished)
		first, err := next()
		if err == nil {
			err = newComposer(s.ctx, treeOf(tree), o, deliver).compose(first)
		}
		if err != nil {
			failed := &batch{err: err, done: make(chan struct{}, 1)}
			failed.done <- struct{}{}
			s.ordered <- failed
		}
		close(work)
		workers.Wait()
	}()
	return s
}

// Read reads from the stream.
func (s *sending) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if len(p) == 0 || s.failed != nil {
		return 0, s.failed
	}
	for len(s.rest) == 0 {
		if err := s.next(); err != nil {
			if err != io.EOF {
				err = fmt.Errorf("%s: %w", s.op, err)
				s.cancel(err)
			}
			s.failed = err
			return 0, err
		}
	}
	if s.ctx.Err() != nil {
		s.failed = fmt.Errorf("%s: %w", s.op, context.Cause(s.ctx))
		return 0, s.failed
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next goes on to the next batch.
func (s *sending) next() error {
	if s.batch != nil {
		if s.batch.last {
			return io.EOF
		}
		s.free <- s.batch
		s.batch = nil
	}
	var b *batch
	select {
	case b = <-s.ordered:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	select {
	case <-b.done:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case b.err != nil:
		return orBusy(s.tree, b.err)
	case b.last:
		// All data have been read: this is the time to look whether they were
		// those of one snapshot.
		if err := s.tree.Unchanged(); err != nil {
			return err
		}
	}
	s.batch, s.rest = b, b.out
	return nil
}

// Close stops sending; see [Send].
func (s *sending) Close() error {
	s.closing.Do(func() {
		s.cancel(os.ErrClosed)
		letGo := func() error {
			<-s.finished
			s.reading.Lock()
			defer s.reading.Unlock()
			s.failed, s.batch, s.rest = fmt.Errorf("%s: %w", s.op, os.ErrClosed), nil, nil
			return s.tree.Close()
		}
		limit := time.NewTimer(patience)
		defer limit.Stop()
		select {
		case <-s.finished:
			s.closed = letGo()
		case <-limit.C:
			go func() { _ = letGo() }()
			s.closed = fmt.Errorf("%s: closing: the disk has not answered yet", s.op)
		}
	})
	return s.closed
}
