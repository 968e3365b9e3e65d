package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// taking is a bench whose streams are given.
type taking struct {
	*bench
	edge  snapshot.Edge
	whole []byte // the stream
	in    *counted
	asked int // calls of Want
}

// counted is a stream that tells whether it was read to its end.
type counted struct {
	io.Reader
	ended bool
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.ended = c.ended || errors.Is(err, io.EOF)
	return n, err
}

func newTaking(t tester, increment bool) *taking {
	t.Helper()
	b := &taking{bench: newBench()}
	b.src.SetBulk(100_000)
	b.dst.SetBulk(100_000)
	b.src.Add("a", 10, "old")
	b.src.Add("a", 11, "new")
	b.edge = snapshot.Edge{To: storetest.IDOf("a", 11)}
	if increment {
		b.dst.AddReceived("a", 10, "old")
		b.edge.From = storetest.IDOf("a", 10)
	}
	in, err := b.src.Open(context.Background(), store.Request{Edge: b.edge})
	if err != nil {
		t.Fatalf("%v", err)
	}
	b.whole, err = io.ReadAll(in)
	if err = errors.Join(err, in.Close()); err != nil {
		t.Fatalf("%v", err)
	}
	return b
}

// take takes a stream, and checks what always has to be true.
func (b *taking) take(ctx context.Context, t tester, in io.Reader, want func(snapshot.Edge, uint64, uint64) (store.Want, error)) (Result, error) {
	t.Helper()
	b.in, b.events = &counted{Reader: in}, nil
	r, err := Take(ctx, Given{
		In: b.in, From: "a pipe", Destination: b.faultyDst, Ledger: b.book,
		Events: func(e Event) { b.events = append(b.events, e) },
		Want: func(e snapshot.Edge, transid, fromTransid uint64) (store.Want, error) {
			b.asked++
			if want != nil {
				return want(e, transid, fromTransid)
			}
			return store.Want{Edge: e, Transid: transid, FromTransid: fromTransid, Path: "new"}, nil
		},
	})
	if !errors.Is(err, r.Err) || (err == nil) != (r.Outcome == Committed) {
		t.Errorf("%s, %v, and %v is returned", r.Outcome, r.Err, err)
	}
	inv, listing := b.dst.List(context.Background())
	if listing != nil {
		t.Fatalf("%v", listing)
	}
	if s, ok := inv.Find(b.edge.To); ok != (err == nil) || ok && (s.Path != "new" || b.dst.Digest(s.ID) != b.src.Digest(s.ID)) {
		t.Errorf("there: %v, and the error is %v", ok, err)
	}
	if n := b.dst.Busy(); n > 0 || len(b.book.open) > 0 {
		t.Errorf("%d writers and %d receipts are open", n, len(b.book.open))
	}
	if ctx.Err() == nil && !b.in.ended {
		t.Errorf("the stream is not read to its end")
	}
	return r, err
}

func TestTake(t *testing.T) {
	for _, increment := range []bool{false, true} {
		b := newTaking(t, increment)
		r, err := b.take(t.Context(), t, bytes.NewReader(b.whole), nil)
		if err != nil || r.Bytes != int64(len(b.whole)) || r.Stats.Commands == 0 || r.Tries != 1 || b.asked != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if len(b.book.ended) != 1 || b.book.ended[0].o.Result != ledger.Done || b.book.ended[0].r.Source != "a pipe" || b.book.ended[0].r.Edge != b.edge {
			t.Errorf("the receipts are %+v", b.book.ended)
		}
		if k := b.kinds(); len(k) != 3 || k[0] != StepBegun || k[1] != Committed || k[2] != Done {
			t.Errorf("events %v", k)
		}
		b.nothingLeft(t)
	}
}

// TestTakeRefuses: whatever somebody sends in place of a whole stream, nothing is to
// be seen of it at the destination, and who sends it can send all of it.
func TestTakeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		alter func([]byte) []byte
		is    error
		began bool // the destination has been asked to create something
	}{
		"nothing":            {func([]byte) []byte { return nil }, stream.ErrTruncated, false},
		"something else":     {func([]byte) []byte { return bytes.Repeat([]byte("gzip"), 50_000) }, stream.ErrNotStream, false},
		"half a header":      {func(s []byte) []byte { return s[:9] }, stream.ErrTruncated, false},
		"no first command":   {func(s []byte) []byte { return s[:40] }, stream.ErrTruncated, false},
		"half":               {func(s []byte) []byte { return s[:len(s)/2] }, stream.ErrTruncated, true},
		"all but END":        {func(s []byte) []byte { return s[:len(s)-10] }, stream.ErrTruncated, true},
		"all but a byte":     {func(s []byte) []byte { return s[:len(s)-1] }, stream.ErrTruncated, true},
		"a flipped bit":      {func(s []byte) []byte { s[len(s)/2] ^= 4; return s }, stream.ErrChecksum, true},
		"something behind":   {func(s []byte) []byte { return append(s, 0) }, stream.ErrTrailing, true},
		"two streams":        {func(s []byte) []byte { return append(s, s...) }, stream.ErrTrailing, true},
		"begins anew inside": {func(s []byte) []byte { return append(s[:len(s)-10:len(s)-10], s...) }, stream.ErrRestarted, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTaking(t, false)
			_, err := b.take(t.Context(), t, bytes.NewReader(c.alter(b.whole)), nil)
			if !errors.Is(err, c.is) {
				t.Errorf("%v, want %v", err, c.is)
			}
			if began := b.faultyDst.Calls(storetest.Create) > 0; began != c.began {
				t.Errorf("the destination was asked to create something: %v", began)
			}
			b.nothingLeft(t)
			t.Log(err)
		})
	}
}

// forever is a sender who never stops.
type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

// TestTakeEndless: whoever goes on and on with what has been refused is not listened
// to for ever, and what was wrong is told.
func TestTakeEndless(t *testing.T) {
	b := newTaking(t, false)
	b.faultyDst.On(storetest.Create).Return(errLasting)
	for name, in := range map[string]io.Reader{
		"no stream at all":    forever{},
		"nobody can store it": io.MultiReader(bytes.NewReader(b.whole[:len(b.whole)-10]), forever{}),
	} {
		ended := make(chan error, 1)
		go func() {
			_, err := Take(t.Context(), Given{In: in, From: "a pipe", Destination: b.faultyDst, Want: func(e snapshot.Edge, _, _ uint64) (store.Want, error) {
				return store.Want{Edge: e, Path: "new"}, nil
			}})
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: it is taken", name)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: it never ends", name)
		}
	}
}

// TestTakeOnce: a stream that is gone is not tried for again, whatever the
// destination says.
func TestTakeOnce(t *testing.T) {
	for _, op := range []storetest.Op{storetest.Create, storetest.Write, storetest.Commit} {
		b := newTaking(t, false)
		b.faultyDst.On(op).Return(errTemporary)
		r, err := b.take(t.Context(), t, bytes.NewReader(b.whole), nil)
		if !errors.Is(err, errTemporary) || r.Tries != 1 || b.faultyDst.Calls(storetest.Create) != 1 {
			t.Errorf("%s: %d tries, %v", op, r.Tries, err)
		}
		b.nothingLeft(t)
	}
}

func TestTakeUnwanted(t *testing.T) {
	b := newTaking(t, true)
	unwanted := errors.New("another one was asked for")
	_, err := b.take(t.Context(), t, bytes.NewReader(b.whole), func(e snapshot.Edge, transid, fromTransid uint64) (store.Want, error) {
		if e != b.edge || transid == 0 || fromTransid == 0 {
			t.Errorf("asked about %v, %d, %d", e, transid, fromTransid)
		}
		return store.Want{}, unwanted
	})
	if !errors.Is(err, unwanted) || b.faultyDst.Calls(storetest.Create) != 0 || len(b.events) > 0 {
		t.Errorf("%v, %+v", err, b.events)
	}
}

// renaming is a store that knows its snapshots by identities of its own.
type renaming struct {
	*storetest.Memory
	wants []store.Want
	real  snapshot.Edge
}

func (r *renaming) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	r.wants = append(r.wants, want)
	want.Edge = r.real
	return r.Memory.Create(ctx, want)
}

func TestTakeUnderOtherIdentities(t *testing.T) {
	b := newTaking(t, true)
	dst := &renaming{Memory: b.dst, real: b.edge}
	b.faultyDst = storetest.NewFault(dst)
	own := snapshot.Edge{To: b.edge.To, From: storetest.IDOf("elsewhere", 1)}
	if _, err := b.take(t.Context(), t, bytes.NewReader(b.whole), func(snapshot.Edge, uint64, uint64) (store.Want, error) {
		return store.Want{Edge: own, Path: "new"}, nil
	}); err != nil || len(dst.wants) != 1 || dst.wants[0].Edge != own {
		t.Errorf("%v, %+v", err, dst.wants)
	}
}

// TestTakeInterrupted: a source that has nothing to say keeps nobody from going.
func TestTakeInterrupted(t *testing.T) {
	for _, after := range []int{0, 1000} {
		b := newTaking(t, false)
		ctx, cancel := context.WithCancelCause(t.Context())
		in, feed := io.Pipe()
		cause := errors.New("enough")
		go func() {
			_, _ = feed.Write(b.whole[:after])
			time.Sleep(10 * time.Millisecond)
			cancel(cause)
		}()
		r, err := b.take(ctx, t, in, nil)
		if !errors.Is(err, cause) || r.Outcome != Interrupted {
			t.Errorf("%s: %v", r.Outcome, err)
		}
		feed.Close()
		b.nothingLeft(t)
	}
}

// TestTakeIsNotStuck: the remainder of a transfer of another stream under the same
// identity fails one run, and no second one.
func TestTakeIsNotStuck(t *testing.T) {
	b := newTaking(t, false)
	b.resuming = true
	b.dst.SetCheckpoints(20_000)
	b.faultySrc.On(storetest.Open).For(b.edge.To).Break(80_000, errLasting)
	Run(t.Context(), []plan.Step{{Action: plan.Send, Edge: b.edge, Path: "new", Snapshot: snapshot.Snapshot{ID: b.edge.To, Transid: 11}}}, Options{Source: b.faultySrc, Destination: b.dst})
	if _, ok := b.dst.Checkpoint("new"); !ok {
		t.Fatal("nothing is left to carry on from")
	}
	b.dst.AlterCheckpoint("new", func(m *store.Mark) { m.Digest[0]++ })
	if _, err := b.take(t.Context(), t, bytes.NewReader(b.whole), nil); !errors.Is(err, store.ErrAnother) {
		t.Fatalf("%v", err)
	}
	if _, err := b.take(t.Context(), t, bytes.NewReader(b.whole), nil); err != nil {
		t.Error(err)
	}
}

// TestTakeProperty: bytes missing at the end, in reads of any length, with any one
// fault at the destination: what is committed is whole, and is reported.
func TestTakeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newTaking(t, rapid.Bool().Draw(t, "increment"))
		n := len(b.whole)
		if rapid.Bool().Draw(t, "cut") {
			n = rapid.IntRange(0, n).Draw(t, "length")
		}
		if rapid.Bool().Draw(t, "fault") {
			op := rapid.SampledFrom([]storetest.Op{storetest.Create, storetest.Write, storetest.Commit, storetest.CloseWriter}).Draw(t, "op")
			b.faultyDst.On(op).After(rapid.IntRange(0, 2).Draw(t, "after")).Return(errLasting)
		}
		chunk := rapid.IntRange(1, 100_000).Draw(t, "chunk")
		_, err := b.take(context.Background(), t, &chunks{bytes.NewReader(b.whole[:n]), chunk}, nil)
		if err == nil && n < len(b.whole) {
			t.Errorf("%d of %d bytes were enough", n, len(b.whole))
		}
	})
}

// chunks gives no more than n bytes at a time.
type chunks struct {
	r io.Reader
	n int
}

func (c *chunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.n)]) }
