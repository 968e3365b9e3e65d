package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Op names a call that a Fault can meddle with.
type Op string

// The calls of a store, of the streams that it gives (Read, CloseStream) and of
// the writers that it makes (Write, Commit, CloseWriter).
const (
	List          Op = "List"
	Open          Op = "Open"
	Read          Op = "Read"
	CloseStream   Op = "CloseStream"
	Create        Op = "Create"
	Write         Op = "Write"
	Commit        Op = "Commit"
	CloseWriter   Op = "CloseWriter"
	Copy          Op = "Copy"
	Inspect       Op = "Inspect"
	Remove        Op = "Remove"
	RemovePartial Op = "RemovePartial"
	Estimate      Op = "Estimate"
	Measure       Op = "Measure"
	Prove         Op = "Prove"
	Lock          Op = "Lock"
	KnownSizes    Op = "KnownSizes"
	KeepSizes     Op = "KeepSizes"

	Origin         Op = "Origin"
	Snapshot       Op = "Snapshot"
	LockTaking     Op = "LockTaking"
	ReadNote       Op = "ReadNote"
	WriteNote      Op = "WriteNote"
	Reclaim        Op = "Reclaim"
	RemoveLeftover Op = "RemoveLeftover"

	Thaw     Op = "Thaw"
	Holdings Op = "Holdings"
)

// Fault is a store in which things go wrong as a test says:
//
//	f := storetest.NewFault(inner)
//	f.On(storetest.Open).After(3).Return(err)      // the fourth Open fails
//	f.On(storetest.Open).For(id).Cut(1000)         // the stream that makes id breaks off
//	f.On(storetest.Commit).Always().Return(err)
//
// A rule is used up by the number of calls that it was made for, one unless
// told otherwise, and of several that fit a call the first one acts. Calls that
// no rule fits go through. Rules may be made while the store is in use.
//
// It has all methods of a live store; those that the inner store lacks fail.
type Fault struct {
	inner store.Store

	mu    sync.Mutex
	rules []*Rule
	calls map[Op]int
}

// NewFault returns inner with no faults yet.
func NewFault(inner store.Store) *Fault {
	return &Fault{inner: inner, calls: map[Op]int{}}
}

// Calls returns how often a call was made so far.
func (f *Fault) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Reset forgets all rules.
func (f *Fault) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// On begins a rule for a call. It is in force once its last word is said:
// Return, Do, Block, or one of those about streams.
func (f *Fault) On(op Op) *Rule { return &Rule{fault: f, op: op, times: 1} }

// Rule says when something goes wrong, and how.
type Rule struct {
	fault *Fault
	op    Op
	skip  int
	times int // negative: for ever
	id    snapshot.ID
	do    func(ctx context.Context) error
	alter func(io.ReadCloser) io.ReadCloser
}

// After lets n calls through first.
func (r *Rule) After(n int) *Rule { r.skip = n; return r }

// Times makes the rule act n times.
func (r *Rule) Times(n int) *Rule { r.times = n; return r }

// Always makes the rule act for ever.
func (r *Rule) Always() *Rule { return r.Times(-1) }

// For confines the rule to calls about one snapshot: the To of an edge, or the
// snapshot that is removed or proven.
func (r *Rule) For(id snapshot.ID) *Rule { r.id = id; return r }

// Return makes the call fail with err, and do nothing else.
func (r *Rule) Return(err error) { r.Do(func(context.Context) error { return err }) }

// Block makes the call wait until its context ends, and fail. Read and Write
// wait for the context of Open and Create, CloseStream and CloseWriter for
// nothing: they have none.
func (r *Rule) Block() {
	r.Do(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

// Do calls fn first, with the context of the call. Where fn fails, so does the
// call.
func (r *Rule) Do(fn func(ctx context.Context) error) { r.do = fn; r.enforce() }

// Cut ends an opened stream after n bytes, as if that were all.
func (r *Rule) Cut(n int64) { r.Break(n, io.EOF) }

// Break fails an opened stream with err after n bytes.
func (r *Rule) Break(n int64, err error) {
	r.onStream(func(in io.Reader) io.Reader { return io.MultiReader(io.LimitReader(in, n), broken{err}) })
}

// Corrupt inverts byte n of an opened stream.
func (r *Rule) Corrupt(n int64) {
	r.onStream(func(in io.Reader) io.Reader { return &corrupt{in: in, at: n} })
}

// Restart makes an opened stream begin again with its header, at the first
// command after n bytes, as one does when the machine sleeps.
func (r *Rule) Restart(n int64) {
	r.onStream(func(in io.Reader) io.Reader { return &restart{in: in, after: n} })
}

func (r *Rule) onStream(wrap func(io.Reader) io.Reader) {
	if r.op != Open {
		panic("storetest: streams come from Open, not from " + r.op)
	}
	r.alter = func(in io.ReadCloser) io.ReadCloser {
		return struct {
			io.Reader
			io.Closer
		}{wrap(in), in}
	}
	r.enforce()
}

func (r *Rule) enforce() {
	r.fault.mu.Lock()
	defer r.fault.mu.Unlock()
	r.fault.rules = append(r.fault.rules, r)
}

// hit counts a call, and returns the rule that acts on it, if any.
func (f *Fault) hit(op Op, id snapshot.ID) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	for _, r := range f.rules {
		switch {
		case r.op != op || r.times == 0 || !r.id.IsZero() && r.id != id:
			continue
		case r.skip > 0:
			r.skip--
			continue
		case r.times > 0:
			r.times--
		}
		return r
	}
	return nil
}

// before is hit for calls that can only fail.
func (f *Fault) before(ctx context.Context, op Op, id snapshot.ID) error {
	if r := f.hit(op, id); r != nil && r.do != nil {
		return r.do(ctx)
	}
	return nil
}

// inner returns the ability of a store to do op.
func inner[T any](f *Fault, op Op) (T, error) {
	s, ok := f.inner.(T)
	if !ok {
		return s, fmt.Errorf("storetest: %s has no %s", f.inner, op)
	}
	return s, nil
}

// broken is the end of a stream that fails.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

type corrupt struct {
	in   io.Reader
	at   int64
	seen int64
}

func (c *corrupt) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if i := c.at - c.seen; i >= 0 && i < int64(n) {
		p[i] ^= 0xff
	}
	c.seen += int64(n)
	return n, err
}

// restart follows the commands of a stream.
type restart struct {
	in     io.Reader
	after  int64
	seen   int64
	header []byte // of the stream
	head   []byte // of the command, as far as it was read
	left   int64  // of the command after its head
	done   bool
}

const (
	headerLen = 17 // "btrfs-stream\0" and a 32-bit version
	headLen   = 10 // 32-bit length of the rest, 16-bit kind, 32-bit checksum
)

func (r *restart) Read(p []byte) (int, error) {
	if r.done || len(p) == 0 {
		return r.in.Read(p)
	}
	var n int
	var err error
	switch {
	case len(r.header) < headerLen:
		n, err = r.in.Read(p[:min(len(p), headerLen-len(r.header))])
		r.header = append(r.header, p[:n]...)
	case r.left > 0:
		n, err = r.in.Read(p[:min(int64(len(p)), r.left)])
		r.left -= int64(n)
	case len(r.head) == 0 && r.seen >= r.after && r.seen > headerLen:
		r.done = true
		r.in = io.MultiReader(bytes.NewReader(r.header), r.in)
		return r.in.Read(p)
	default:
		n, err = r.in.Read(p[:min(len(p), headLen-len(r.head))])
		r.head = append(r.head, p[:n]...)
		if len(r.head) == headLen {
			r.left, r.head = int64(binary.LittleEndian.Uint32(r.head)), nil
		}
	}
	r.seen += int64(n)
	return n, err
}

// faultStream is a stream with rules.
type faultStream struct {
	io.ReadCloser
	f   *Fault
	ctx context.Context
	id  snapshot.ID
}

func (s *faultStream) Read(p []byte) (int, error) {
	if err := s.f.before(s.ctx, Read, s.id); err != nil {
		return 0, err
	}
	return s.ReadCloser.Read(p)
}

func (s *faultStream) Close() error {
	err := s.f.before(context.Background(), CloseStream, s.id)
	return errors.Join(err, s.ReadCloser.Close())
}

// faultWriter is a writer with rules.
type faultWriter struct {
	store.Writer
	f   *Fault
	ctx context.Context
	id  snapshot.ID
}

// faultResumer is a faultWriter that can carry on.
type faultResumer struct {
	*faultWriter
	inner store.Resumer
}

func (w faultResumer) Resumed() store.Mark { return w.inner.Resumed() }

func (w *faultWriter) Write(p []byte) (int, error) {
	if err := w.f.before(w.ctx, Write, w.id); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

func (w *faultWriter) Commit(ctx context.Context) error {
	if err := w.f.before(ctx, Commit, w.id); err != nil {
		return err
	}
	return w.Writer.Commit(ctx)
}

func (w *faultWriter) Close() error {
	err := w.f.before(context.Background(), CloseWriter, w.id)
	return errors.Join(err, w.Writer.Close())
}
