package transfer

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// leaper is a source that leaves out the beginnings of streams.
type leaper struct {
	*storetest.Fault
	carried int64 // bytes that it has given of streams whose beginning it left out
	lie     func(state []byte) []byte
	failing []error // of the next calls
}

func (l *leaper) OpenAfter(ctx context.Context, r store.Request, after store.Mark) (io.ReadCloser, []byte, error) {
	if len(l.failing) > 0 {
		err := l.failing[0]
		l.failing = l.failing[1:]
		return nil, nil, err
	}
	in, err := l.Open(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	tap := stream.NewReader(in)
	for tap.Stats().Bytes < after.Offset {
		if _, err := tap.NextRunTo(after.Offset); err == io.EOF {
			break
		} else if err != nil {
			in.Close()
			return nil, nil, err
		}
	}
	state := tap.State()
	if l.lie != nil {
		state = l.lie(state)
	} else if store.Mark(tap.Mark()) != after {
		in.Close()
		return nil, nil, fmt.Errorf("leaving out the beginning: %w", store.ErrAnother)
	}
	return &rest{tap: tap, in: in, l: l}, state, nil
}

// rest is what follows in a stream.
type rest struct {
	tap  *stream.Reader
	in   io.Closer
	l    *leaper
	left []byte
}

func (r *rest) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		run, err := r.tap.NextRun()
		if err != nil {
			return 0, err
		}
		r.left = run
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	r.l.carried += int64(n)
	return n, nil
}

func (r *rest) Close() error { return r.in.Close() }

// leapingBench is a resumingBench whose source leaves out beginnings.
func leapingBench() *bench {
	b := resumingBench()
	b.leaper = &leaper{}
	return b
}

// A source that can leaves out what has arrived before, and its stream is checked
// all the same.
func TestLeap(t *testing.T) {
	b := leapingBench()
	mark := b.interrupted(t)
	x := b.run(t.Context(), t, b.plan(t)).Results[0]
	if x.Outcome != Committed || x.Tries != 1 || x.Resumed != mark.Offset || b.leaper.carried != x.Bytes-mark.Offset {
		t.Errorf("%d bytes were carried: %+v", b.leaper.carried, x)
	}
	if got, want := b.kinds(), []Kind{StepBegun, Resumed, Committed, Done}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestLeapIntoAnotherStream(t *testing.T) {
	b := leapingBench()
	b.interrupted(t)
	b.dst.AlterCheckpoint("a", func(m *store.Mark) { m.Digest[31] ^= 1 })
	x := b.run(t.Context(), t, b.plan(t)).Results[0]
	if x.Outcome != Committed || x.Tries != 1 || x.Resumed != 0 || b.leaper.carried != 0 {
		t.Errorf("%d bytes were carried: %+v", b.leaper.carried, x)
	}
	if got, want := b.kinds(), []Kind{StepBegun, Retry, Committed, Done}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What a source says of the beginning it has left out is not believed.
func TestLyingLeap(t *testing.T) {
	other := resumingBench()
	other.src.Add("b", 7, "b")
	id := other.list(t).Snapshots[1].ID
	for name, c := range map[string]struct {
		lie  func(t *testing.T, state []byte) []byte
		want Kind
	}{
		"no state":    {func(*testing.T, []byte) []byte { return nil }, Failed},
		"half of one": {func(_ *testing.T, s []byte) []byte { return s[:len(s)/2] }, Failed},
		"of another place": {func(t *testing.T, _ []byte) []byte {
			return stateAt(t, other.src, store.Request{}, id.String(), 100_000)
		}, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			b := leapingBench()
			b.interrupted(t)
			b.leaper.lie = func(s []byte) []byte { return c.lie(t, s) }
			if x := b.run(t.Context(), t, b.plan(t)).Results[0]; x.Outcome != c.want || x.Resumed != 0 {
				t.Errorf("%+v", x)
			}
		})
	}
}

// stateAt is the state of a reader of another snapshot's stream.
func stateAt(t *testing.T, src *storetest.Memory, r store.Request, id string, offset int64) []byte {
	t.Helper()
	if err := r.Edge.To.UnmarshalText([]byte(id)); err != nil {
		t.Fatal(err)
	}
	in, err := src.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	tap := stream.NewReader(in)
	for tap.Stats().Bytes < offset {
		if _, err := tap.NextRunTo(offset); err != nil {
			t.Fatal(err)
		}
	}
	return tap.State()
}

func TestLeapFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := leapingBench()
		mark := b.interrupted(t)
		b.leaper.failing = []error{errTemporary}
		if x := b.run(t.Context(), t, b.plan(t)).Results[0]; x.Outcome != Committed || x.Tries != 2 || x.Resumed != mark.Offset {
			t.Errorf("%+v", x)
		}
	})
	b := leapingBench()
	b.interrupted(t)
	b.leaper.failing = []error{errLasting}
	if x := b.run(t.Context(), t, b.plan(t)).Results[0]; x.Outcome != Failed || x.Tries != 1 {
		t.Errorf("%+v", x)
	}
}

// A source whose stream breaks in the part that is left out is asked again, as one is
// whose stream breaks elsewhere.
func TestDamageInLeap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := leapingBench()
		mark := b.interrupted(t)
		b.leaper.failing = []error{fmt.Errorf("leaving out the beginning: %w", stream.ErrRestarted)}
		if x := b.run(t.Context(), t, b.plan(t)).Results[0]; x.Outcome != Committed || x.Tries != 2 || x.Resumed != mark.Offset {
			t.Errorf("%+v", x)
		}
	})
}

// A party that says of every stream that it is another one is not asked for ever.
func TestAlwaysAnother(t *testing.T) {
	for _, op := range []storetest.Op{storetest.Open, storetest.Create, storetest.Commit} {
		b := resumingBench()
		for _, f := range []*storetest.Fault{b.faultySrc, b.faultyDst} {
			f.On(op).Times(50).Return(store.ErrAnother)
		}
		if x := b.run(t.Context(), t, b.plan(t)).Results[0]; x.Outcome != Failed || b.faultySrc.Calls(storetest.Open) > 2 {
			t.Errorf("%s: %d streams were opened: %+v", op, b.faultySrc.Calls(storetest.Open), x)
		}
	}
}
