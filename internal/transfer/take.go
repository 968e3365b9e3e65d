package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Given is a stream that somebody else makes, once.
type Given struct {
	// In is the stream. Where it turns out to be no good, or cannot be stored, a
	// little more of it is still read, so that whoever sends a short one can do so to
	// its end.
	In io.Reader
	// From says for people where it comes from.
	From        string
	Destination store.Store // a store.Sink
	// Want says where the stream goes, once its first command has been read: the
	// identities are those in it. Those of the Want may be others, where the
	// destination knows its snapshots by identities of its own. An error ends it.
	Want func(e snapshot.Edge, transid, fromTransid uint64) (store.Want, error)
	// Ledger and Events are as in Options.
	Ledger Ledger
	Events func(Event)
}

// politeSize and politeTime bound what is read of a stream that is no good.
const (
	politeSize = 64 << 20
	politeTime = 10 * time.Second
)

// Take carries a stream to its destination: checked like every stream, to its END,
// and committed only then. There is one try, as the stream cannot be had again.
// What of a Result is about a step is made up from the Want; it is zero if it did
// not come to that. The error is that of the Result.
//
// Where the destination could carry on with an interrupted transfer of another
// stream, Take fails, and drops what was left of that, so that it does not happen
// again.
//
// When ctx ends, or the stream is no good, while In has nothing to give, a goroutine
// stays behind until In returns from Read.
func Take(ctx context.Context, g Given) (Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	in := interruptibly(ctx, g.In)
	defer func() { // before ctx ends
		enough := time.AfterFunc(politeTime, stop)
		defer enough.Stop()
		_, _ = io.CopyN(io.Discard, in, politeSize)
	}()

	var begun bytes.Buffer
	id, err := stream.NewReader(io.TeeReader(in, &begun)).Identity()
	if err != nil {
		err = fmt.Errorf("reading the stream from %s: %w", g.From, err)
		return Result{Outcome: outcomeOf(ctx), Err: err}, err
	}
	edge := snapshot.Edge{To: id.UUID}
	if id.HasParent {
		edge.From = id.Parent
	}
	want, err := g.Want(edge, id.Transid, id.ParentTransid)
	if err != nil {
		return Result{Outcome: Failed, Err: err}, err
	}
	step := plan.Step{
		Action: plan.Send, Edge: edge, Path: want.Path, Size: want.Size,
		Snapshot: snapshot.Snapshot{ID: edge.To, Transid: id.Transid},
	}
	if id.HasParent {
		step.Parent = snapshot.Snapshot{ID: edge.From, Transid: id.ParentTransid}
	}
	dst := taker{g.Destination, want}
	result := Run(ctx, []plan.Step{step}, Options{
		Source: &given{from: g.From, in: io.MultiReader(&begun, in)}, Destination: dst,
		Ledger: g.Ledger, Events: g.Events, once: true,
	}).Results[0]
	if errors.Is(result.Err, store.ErrAnother) {
		want.Fresh = true
		if w, err := dst.Create(ctx, want); err == nil {
			result.Err = errors.Join(result.Err, w.Close())
		}
	}
	return result, result.Err
}

// outcomeOf is that of something that did not succeed.
func outcomeOf(ctx context.Context) Kind {
	if ctx.Err() != nil {
		return Interrupted
	}
	return Failed
}

// given is the source of a stream that is there once.
type given struct {
	from string
	in   io.Reader
}

func (g *given) String() string { return g.from }
func (g *given) Close() error   { return nil }

func (g *given) List(context.Context) (*snapshot.Inventory, error) {
	return &snapshot.Inventory{Dir: g.from}, nil
}

// Open gives the stream.
func (g *given) Open(context.Context, store.Request) (io.ReadCloser, error) {
	return io.NopCloser(g.in), nil
}

// taker is a destination that is told what its owner wants.
type taker struct {
	store.Store
	want store.Want
}

// Create makes ready for the stream under the identities that were wanted for it.
func (t taker) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	to, ok := t.Store.(store.Sink)
	if !ok {
		return nil, fmt.Errorf("%s cannot take streams", t.Store)
	}
	all := t.want
	all.Fresh = all.Fresh || want.Fresh
	return to.Create(ctx, all)
}

// interruptible is a reader that can be left in the middle of a Read.
type interruptible struct {
	ctx    context.Context
	blocks chan block
	free   chan []byte
	whole  []byte // the block that is being read
	rest   []byte // of it
	err    error
}

type block struct {
	data []byte
	err  error
}

// blockSize is what a pipe holds.
const blockSize = 64 << 10

// interruptibly returns a reader of in that gives up when ctx ends.
func interruptibly(ctx context.Context, in io.Reader) *interruptible {
	r := &interruptible{ctx: ctx, blocks: make(chan block), free: make(chan []byte, 2)}
	r.free <- make([]byte, blockSize)
	r.free <- make([]byte, blockSize)
	go r.fill(in)
	return r
}

func (r *interruptible) fill(in io.Reader) {
	for {
		select {
		case buf := <-r.free:
			n, err := in.Read(buf)
			select {
			case r.blocks <- block{buf[:n], err}:
			case <-r.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *interruptible) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.whole != nil {
			r.free <- r.whole[:blockSize]
			r.whole = nil
		}
		select {
		case b := <-r.blocks:
			r.whole, r.rest, r.err = b.data, b.data, b.err
		case <-r.ctx.Done():
			r.err = context.Cause(r.ctx)
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
